"""Who may publish and read what at a live broker: expected by the contract, and observed by delivery.

A broker grants forbidden subscriptions and acknowledges forbidden publications, so only what arrives counts.
All is played between accounts of our own whose names no device can have; the daemon ignores their topics. Its
own account is only used on the listener for the server, under a client id of this check.
"""

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.answers import Puback
from infoscreen.mqtt.client import MQTT_5, BrokerClient
from infoscreen.mqtt.connection import BrokerAddress, load_tls
from infoscreen.provisioning.broker_files import (
    CHECK_ACCOUNTS,
    CHECKLIST_ACCOUNT,
    MONITOR_ACCOUNT,
    PROBE_ACCOUNT,
    SERVER_ACCOUNT,
)
from infoscreen.wire import topics

ANSWER_SECONDS = 30.0
OWNER, OTHER = CHECK_ACCOUNTS
"""Two accounts that have what any device has."""

COMMANDS = (topics.commands(OWNER), topics.command_alias(OWNER))
REPORTS = tuple(topics.all_of(OWNER))
BROKER_ITSELF = ("$SYS/broker/version", "$SYS/broker/log/N")


Answer = TypeVar("Answer")


class Operation(StrEnum):
    """What a role tries."""

    CONNECT = "connect"
    PUBLISH = "publish"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix; ``observed`` is what was delivered."""

    role: str
    topic: str
    operation: Operation
    expected: bool
    observed: bool

    @property
    def is_right(self) -> bool:
        """Tell whether the broker does as the contract says."""
        return self.expected == self.observed


@dataclass(frozen=True, slots=True)
class BrokerRole:
    """An account, and what it may do on the topics of ``OWNER``."""

    name: str
    account: str
    publishes: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()


def _tails(*names: str) -> frozenset[str]:
    return frozenset(f"{topics.ROOT}/{OWNER}/{name}" for name in names)


ROLES = (
    BrokerRole("device", OWNER, frozenset(REPORTS), frozenset(COMMANDS)),
    BrokerRole("another device", OTHER),
    BrokerRole(
        "server",
        SERVER_ACCOUNT,
        frozenset(COMMANDS) | _tails("service_failed", "presence"),
        frozenset((*REPORTS, *COMMANDS, *BROKER_ITSELF)),
    ),
    BrokerRole("probe", PROBE_ACCOUNT),
    BrokerRole(
        "checklist",
        CHECKLIST_ACCOUNT,
        reads=frozenset(COMMANDS) | _tails("commands/ack", "command/ack", "service_failed"),
    ),
    BrokerRole(
        "monitor",
        MONITOR_ACCOUNT,
        reads=_tails("discovery", "heartbeat", "health", "service_failed", "presence")
        | {"$SYS/broker/version"},
    ),
)


@dataclass(frozen=True, slots=True)
class _Note:
    topic: str
    payload: bytes
    retain: bool = False


LOOK_SECONDS = 0.05
MOST_LOOKS = 20
"""How often a connection is looked at until nothing more arrives; one that is flooded never gets there."""


class _Player:
    """A connection of a role: what it hears is kept as topic and payload."""

    def __init__(self, role: BrokerRole, client: BrokerClient) -> None:
        self.role = role
        self.heard: set[tuple[str, bytes]] = set()
        self._messages = 0
        self._client = client

    async def listen(self) -> None:
        async for message in self._client.received():
            self.heard.add((message.topic, message.payload))
            self._messages += 1

    async def subscribe(self, names: Sequence[str]) -> None:
        call = self._client.subscribe([(name, 1) for name in names], timeout=math.inf)
        await _in_time(asyncio.ensure_future(self._client.ask(call)))

    async def publish(self, names: Sequence[str], payload: bytes) -> None:
        """Publish on each and wait for the answers, which tell nothing about whether it is allowed."""
        waiting: list[asyncio.Future[Puback | None]] = []
        for name in names:
            waiting.append(asyncio.get_running_loop().create_future())
            self._client.post(_Note(name, payload), waiting[-1].set_result, expires_in=60)
        if None in await _in_time(asyncio.gather(*waiting)):
            raise BrokerUnavailable(f"the broker ended the connection of {self.role.name}")

    async def caught_up(self) -> None:
        """Return when all that the broker had for us has arrived: it answers in order."""
        await self.subscribe((f"{topics.ROOT}/{OWNER}/nothing",))
        for _ in range(MOST_LOOKS):
            before = self._messages
            await asyncio.sleep(LOOK_SECONDS)
            if self._messages == before:
                break

    @property
    def is_lost(self) -> bool:
        return self._client.is_lost


async def _in_time(call: "asyncio.Future[Answer]") -> Answer:
    await asyncio.wait([call], timeout=ANSWER_SECONDS)
    if not call.done():
        call.cancel()
        raise BrokerUnavailable("the broker did not answer in time")
    return call.result()


async def check(server: BrokerAddress, devices: BrokerAddress, passwords: dict[str, str]) -> list[Cell]:
    """Return the whole matrix.

    Args:
        server: the listener for the server's account.
        devices: the listener for devices.
        passwords: of our own accounts.

    Raises:
        BrokerUnavailable: a role that must be let in is not, so that nothing can be said.
    """
    findings = []
    token = secrets.token_hex(4)
    async with contextlib.AsyncExitStack() as stack:
        players = {}
        for role in ROLES:
            where = server if role.account == SERVER_ACCOUNT else devices
            address = replace(
                where,
                user=role.account,
                password=passwords[role.account],
                client_id=f"{role.account}-check-{token}",
            )
            players[role.name] = await stack.enter_async_context(_playing(role, address))
        # Before reading: where nothing is forbidden, the broker's log about itself floods all who read it.
        await players["server"].subscribe((*REPORTS, *COMMANDS))
        findings += [finding for role in ROLES for finding in await _publishing(players, players[role.name])]
        findings += await _reading(players, (server, devices))
        findings.append(await _taking_an_id(players["device"], devices, passwords[OTHER], token))
    return findings


@contextlib.asynccontextmanager
async def _playing(role: BrokerRole, address: BrokerAddress) -> AsyncIterator[_Player]:
    async with BrokerClient(address, await load_tls(address), version=MQTT_5, clean_start=True) as client:
        player = _Player(role, client)
        listening = asyncio.ensure_future(player.listen())
        try:
            yield player
        finally:
            listening.cancel()
            await asyncio.wait([listening])
            if not listening.cancelled():
                with contextlib.suppress(BrokerUnavailable):  # one player takes another one's client id
                    listening.result()


async def _anonymous(where: str, address: BrokerAddress) -> Cell:
    stranger = replace(address, user=None, password=None, client_id=f"stranger-{secrets.token_hex(4)}")
    try:
        async with BrokerClient(stranger, await load_tls(stranger), version=MQTT_5, clean_start=True):
            observed = True
    except BrokerUnavailable:
        observed = False
    return Cell("nobody", where, Operation.CONNECT, expected=False, observed=observed)


async def _reading(players: dict[str, _Player], listeners: tuple[BrokerAddress, BrokerAddress]) -> list[Cell]:
    """Let everybody subscribe to everything, by name and by wildcard, and see what arrives."""
    everything = (*REPORTS, *COMMANDS)
    for player in players.values():
        await player.subscribe((*everything, f"{topics.ROOT}/#", "#", *BROKER_ITSELF, "$SYS/#"))
    # These leave lines in the broker's log, for those who may read it.
    nobody = [await _anonymous(f"{one.host}:{one.port}", one) for one in listeners]
    payload = secrets.token_hex(8).encode()
    await players["device"].publish(REPORTS, payload)
    await players["server"].publish(COMMANDS, payload)
    for player in players.values():
        await player.caught_up()
    return [*nobody, *_read(players, everything, payload)]


def _read(players: dict[str, _Player], everything: tuple[str, ...], payload: bytes) -> Iterator[Cell]:
    for player in players.values():
        heard = {topic for topic, _ in player.heard}
        for topic in everything:
            expected = topic in player.role.reads
            yield Cell(player.role.name, topic, Operation.READ, expected, (topic, payload) in player.heard)
        for topic in BROKER_ITSELF:
            yield Cell(player.role.name, topic, Operation.READ, topic in player.role.reads, topic in heard)


async def _publishing(players: dict[str, _Player], player: _Player) -> list[Cell]:
    """Let one publish on everything, and see what the server hears."""
    server, payload = players["server"], secrets.token_hex(8).encode()
    everything = (*REPORTS, *COMMANDS)
    await player.publish(everything, payload)
    await server.caught_up()
    return [
        Cell(
            player.role.name,
            topic,
            Operation.PUBLISH,
            topic in player.role.publishes,
            (topic, payload) in server.heard,
        )
        for topic in everything
    ]


async def _taking_an_id(device: _Player, devices: BrokerAddress, password: str, token: str) -> Cell:
    """Let another device ask for the client id that one asked for which is connected, and must stay so."""
    thief = replace(devices, user=OTHER, password=password, client_id=f"{OWNER}-check-{token}")
    async with BrokerClient(thief, await load_tls(thief), version=MQTT_5, clean_start=True):
        try:
            await device.caught_up()
            taken = device.is_lost
        except BrokerUnavailable:
            taken = True
    return Cell(
        "another device", "the client id of a device", Operation.CONNECT, expected=False, observed=taken
    )
