"""Simulated devices that share connections to a real broker, under an account of their own."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from infoscreen.clock import SystemClock
from infoscreen.domain.commands import Action
from infoscreen.domain.errors import InvalidArguments
from infoscreen.provisioning.broker_files import SERVER_ACCOUNT
from infoscreen.provisioning.passwords import password_line
from infoscreen.resources import resource
from infoscreen.services.ports import Incoming
from infoscreen.simulator import device_uuids
from infoscreen.simulator import run as simulate
from infoscreen.simulator.connection import DeviceClock, Endpoint
from infoscreen.simulator.device import DeviceFault, SimulatedDevice, Tally, Timing
from infoscreen.simulator.faults import FaultPlan
from infoscreen.simulator.figures import figures
from infoscreen.simulator.fleet import SimulatedFleet
from infoscreen.simulator.identity import identities
from infoscreen.simulator.line import Account
from infoscreen.simulator.multiplexer import MOST_DEVICES_PER_LINE, Gateway, Multiplexer, Seat
from infoscreen.simulator.traffic import Traffic
from infoscreen.wire import topics
from tests.broker import Broker, Subscriber
from tests.spine import Spine, open_spine
from tests.waiting import until

pytestmark = pytest.mark.broker

GATEWAY_USER, GATEWAY_PASSWORD = "infoscreen-simulator", "only for tests"
QUICK = Timing(
    until_started=timedelta(milliseconds=20),
    app_start=timedelta(milliseconds=50),
    going_down=timedelta(milliseconds=50),
    boot=timedelta(milliseconds=300),
)
SEED = "multiplexed"
STEPS = ["accepted", "execution_started", "completed"]


@pytest.fixture
async def broker(tmp_path: Path, free_port: int) -> AsyncIterator[Broker]:
    """Yield a mosquitto that knows the account for load tests, with the shipped rules for it."""
    directory = tmp_path / "broker"
    running = Broker(directory, free_port, save_every_change=False)
    with (directory / "infoscreen.acl").open("a", encoding="utf-8") as acl:
        acl.write((resource("mosquitto") / "simulator.acl").read_text(encoding="utf-8"))
    with (directory / "infoscreen.passwd").open("a", encoding="utf-8") as passwords:
        passwords.write(password_line(GATEWAY_USER, GATEWAY_PASSWORD))
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


def fleet_at(
    broker: Broker, uuids: list[str], *, lines: int = 2, faults: FaultPlan | None = None
) -> SimulatedFleet:
    return SimulatedFleet(
        identities(uuids),
        {},
        Endpoint(broker.host, broker.port),
        SystemClock(),
        seed=SEED,
        timing=QUICK,
        faults=faults,
        gateway=Gateway(Account(GATEWAY_USER, GATEWAY_PASSWORD), lines),
    )


@contextlib.asynccontextmanager
async def living(fleet: SimulatedFleet) -> AsyncIterator[None]:
    """Let the fleet live, from all being online to all having left."""
    stop = asyncio.Event()
    task = asyncio.create_task(fleet.run(stop))
    try:
        await until(lambda: task.done() or fleet.traffic.connected == fleet.size)
        yield
    finally:
        stop.set()
        await task


async def send(
    broker: Broker,
    uuid: str,
    *,
    action: Action = Action.RESTART_APP,
    command_id: str | None = None,
    expires_in: int = 240,
) -> str:
    now = datetime.now(UTC)
    command = {
        "schema_version": "1.0",
        "command_id": command_id or str(uuid4()),
        "client_uuid": uuid,
        "action": action,
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(seconds=expires_in)).isoformat(),
        "requested_by": None,
        "reason": None,
    }
    await broker.pub(topics.commands(uuid), json.dumps(command), account=SERVER_ACCOUNT)
    return str(command["command_id"])


async def acks(heard: Subscriber, wanted: int) -> dict[str, list[tuple[str, str]]]:
    """Wait for so many acks on each topic in all; return command and status by topic."""
    given: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for _ in range(2 * wanted):
        message = await heard.next()
        ack = json.loads(message.payload)
        given[message.topic].append((ack["command_id"], ack["status"]))
    return given


async def presences(broker: Broker, uuids: list[str], wanted: bytes) -> None:
    """Wait until a newcomer at the broker knows the presence of all devices as ``wanted``."""
    last: dict[str, bytes] = {}
    async with broker.sub("infoscreen/+/presence", account=SERVER_ACCOUNT) as late:
        while list(last.values()).count(wanted) < len(uuids):
            message = await late.next()
            last[message.topic] = message.payload
    assert last.keys() == {topics.presence(uuid) for uuid in uuids}


async def test_hundreds_of_devices_share_connections_obey_and_leave(broker: Broker) -> None:
    uuids = device_uuids(300, "hundreds")
    fleet = fleet_at(broker, uuids, lines=3)
    obeying = uuids[::75]
    async with (
        broker.sub("infoscreen/+/commands/ack", "infoscreen/+/command/ack", account=SERVER_ACCOUNT) as heard,
        living(fleet),
    ):
        await presences(broker, uuids, b"online")
        sent = {uuid: await send(broker, uuid) for uuid in obeying}
        given = await acks(heard, 3 * len(obeying))
        for uuid in obeying:
            for topic in topics.acks(uuid):
                assert given.pop(topic) == [(sent[uuid], step) for step in STEPS]
        assert given == {}
        await send(broker, obeying[0], command_id=sent[obeying[0]])
        again = await acks(heard, 1)
        assert again == {topic: [(sent[obeying[0]], "completed")] for topic in topics.acks(obeying[0])}
    await presences(broker, uuids, b"offline")
    done = figures(fleet)
    assert (done.devices, done.connections, done.shared_connections) == (300, 300, 4)
    assert broker.log.count(f"as {GATEWAY_USER}-") == 4
    assert (done.commands, done.duplicates, done.acks) == (4, 1, 13)
    assert done.first_ack.count == 5
    assert done.sent == done.acked == done.puback.count
    assert (done.unacknowledged, done.trouble, done.commands_ignored) == (0, {}, {})
    assert fleet.traffic.connected == 0


async def test_all_come_back_after_a_restart_of_the_broker(broker: Broker) -> None:
    uuids = device_uuids(100, "restart")
    fleet = fleet_at(broker, uuids)
    async with living(fleet):
        await broker.stop()
        await until(lambda: fleet.traffic.connected == 0)
        await broker.start()
        await until(lambda: fleet.traffic.connected == 100)
        assert fleet.traffic.connections == 200
        async with broker.sub(*topics.acks(uuids[7]), account=SERVER_ACCOUNT) as heard:
            command = await send(broker, uuids[7])
            given = await acks(heard, 3)
        assert list(given.values()) == [[(command, step) for step in STEPS]] * 2
    await presences(broker, uuids, b"offline")
    assert fleet.traffic.errors
    assert 0 <= fleet.traffic.sent - fleet.traffic.acked <= 100, (
        "each device has one packet under way at most"
    )


class Room:
    """A multiplexer with two devices, known from inside."""

    def __init__(self, broker: Broker, *, persistent_sessions: bool = True) -> None:
        self.uuid, self.other = device_uuids(2, "room")
        self.tally, self.traffic = Tally(), Traffic()
        self._broker = broker
        self._clock = DeviceClock(SystemClock())
        self._multiplexer = Multiplexer(
            Gateway(Account(GATEWAY_USER, GATEWAY_PASSWORD)),
            Endpoint(broker.host, broker.port),
            size=2,
            seed="room",
            clock=self._clock,
            traffic=self.traffic,
            persistent_sessions=persistent_sessions,
        )
        self._devices = [
            SimulatedDevice(
                identity,
                random=Random(1),
                timing=QUICK,
                tally=self.tally,
                now=self._clock.now(),
                persistent_session=persistent_sessions,
            )
            for identity in identities([self.uuid, self.other])
        ]
        self._seats: list[Seat] = []

    @contextlib.asynccontextmanager
    async def lived(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            self._multiplexer.start(tasks)
            self._seats = [self._multiplexer.add(device) for device in self._devices]
            await until(lambda: self.traffic.connected == 2 and self._multiplexer.is_listening)
            yield
            await self._multiplexer.leave(10)

    def suffer(self, fault: DeviceFault) -> None:
        """Let the first device suffer."""
        self._devices[0].suffer(fault, self._clock.now())
        self._seats[0].wake()

    def relieve(self) -> None:
        self._devices[0].relieve(self._clock.now())
        self._seats[0].wake()

    async def settle(self) -> None:
        """Return when all commands sent so far have been heard, those for a device that is away as well."""
        wanted = self.tally.acks + len(STEPS)
        await send(self._broker, self.other)  # they are heard in the order in which they were sent
        await until(lambda: self.tally.acks == wanted)


@pytest.mark.parametrize("fault", [DeviceFault.SILENCE, DeviceFault.POWER_LOSS])
async def test_a_device_that_is_gone_is_offline_and_gets_its_commands_when_it_is_back(
    broker: Broker, fault: DeviceFault
) -> None:
    room = Room(broker)
    presence = topics.presence(room.uuid)
    async with (
        broker.sub(presence, account=SERVER_ACCOUNT) as present,
        broker.sub(*topics.acks(room.uuid), account=SERVER_ACCOUNT) as heard,
        room.lived(),
    ):
        assert (await present.next()).payload == b"online"
        room.suffer(fault)
        assert (await present.next()).payload == b"offline"
        await send(broker, room.uuid, expires_in=-1)
        command = await send(broker, room.uuid)
        await room.settle()
        room.relieve()
        assert (await present.next()).payload == b"online"
        given = await acks(heard, 3)
        # The one that expired is not among them: the broker would have dropped it.
        assert list(given.values()) == [[(command, step) for step in STEPS]] * 2
    assert room.traffic.errors == {}
    assert room.traffic.sent == room.traffic.acked


async def test_without_a_session_a_device_that_is_gone_misses_its_commands(broker: Broker) -> None:
    room = Room(broker, persistent_sessions=False)
    async with broker.sub(*topics.acks(room.uuid), account=SERVER_ACCOUNT) as heard, room.lived():
        room.suffer(DeviceFault.SILENCE)
        await send(broker, room.uuid)
        await room.settle()
        room.relieve()
        await until(lambda: room.traffic.connected == 2)
        answered = await send(broker, room.uuid)
        given = await acks(heard, 3)
    assert list(given.values()) == [[(answered, step) for step in STEPS]] * 2


async def test_a_shutdown_is_completed_before_the_goodbye(broker: Broker) -> None:
    room = Room(broker)
    ours, _ = topics.acks(room.uuid)
    async with broker.sub(ours, topics.presence(room.uuid), account=SERVER_ACCOUNT) as heard, room.lived():
        assert (await heard.next()).payload == b"online"
        await send(broker, room.uuid, action=Action.SHUTDOWN_HOST)
        said = [json.loads((await heard.next()).payload)["status"] for _ in STEPS]
        assert said == STEPS
        assert (await heard.next()).payload == b"offline"
        await until(lambda: room.traffic.connected == 1)


async def test_what_was_sent_after_the_end_is_not_waiting_for_the_next_fleet(broker: Broker) -> None:
    first, second = Room(broker), Room(broker)
    async with first.lived():
        pass
    async with broker.sub(*topics.acks(first.uuid), account=SERVER_ACCOUNT) as heard:
        await send(broker, first.uuid)
        async with second.lived():
            command = await send(broker, second.uuid)
            given = await acks(heard, 3)
    assert list(given.values()) == [[(command, step) for step in STEPS]] * 2


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with open_spine(f"sqlite+aiosqlite:///{tmp_path / 'spine.db'}") as spine:
        yield spine


@pytest.mark.parametrize(
    "kinds",
    [tuple(fault for fault in DeviceFault if fault is not DeviceFault.NONSENSE), (DeviceFault.NONSENSE,)],
)
async def test_the_daemon_takes_in_all_they_say_but_nonsense(
    broker: Broker, spine: Spine, kinds: tuple[DeviceFault, ...]
) -> None:
    uuids = device_uuids(60, "ingest")
    faults = FaultPlan(dict.fromkeys(kinds, 0.1), timedelta(0), relief_after=timedelta(milliseconds=300))
    victims = faults.victims(60, Random(SEED))
    unharmed = next(uuid for number, uuid in enumerate(uuids) if number not in victims)
    fleet = fleet_at(broker, uuids, faults=faults)
    expected = 6 * len(kinds)
    async with broker.sub(*topics.DEVICE_FILTERS, account=SERVER_ACCOUNT) as heard:
        async with living(fleet):
            await until(lambda: sum(fleet.tally.faults.values()) == expected)
            await until(lambda: fleet.traffic.connected == 60)
            await send(broker, unharmed)
            await until(lambda: fleet.tally.acks == 3)
        batch = [await heard.next() for _ in range(fleet.traffic.acked)]
    await spine.ingest.handle(
        [Incoming(message.topic, message.payload, message.retain) for message in batch], spine.clock.now()
    )
    rejected = {key[1]: times for key, times in spine.measures.counts.items() if key[0] == "rejected"}
    # The ack of a restart that the server never asked for is the one thing it does not know.
    rejected.pop("unknown_command", None)
    assert bool(rejected) == (kinds == (DeviceFault.NONSENSE,)), rejected
    assert (await spine.client(uuids[-1])).hostname == identities(uuids)[-1].hostname


def test_lines_are_as_many_as_the_devices_need() -> None:
    account = Account(GATEWAY_USER, GATEWAY_PASSWORD)
    assert [Gateway(account).lines_for(size) for size in (1, 2_500, 2_501, 50_000)] == [1, 1, 2, 20]
    assert Gateway(account, 3).lines_for(50_000) == 3
    with pytest.raises(InvalidArguments, match="50000 devices do not fit 2 connections"):
        Gateway(account, 2).lines_for(50_000)
    assert 3 * MOST_DEVICES_PER_LINE < 65_535, "packet ids have 16 bits"
    assert GATEWAY_PASSWORD not in repr(Gateway(account))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"clients": 0, "password": "x"}, "0 devices were asked for, possible are 1 to 50000"),
        ({"clients": 50_001, "gateway_user": "g", "gateway_password": "x"}, "possible are 1 to 50000"),
        ({"clients": 5_001, "password": "x"}, "at most 5000 can"),
        ({"clients": 1, "gateway_user": "g"}, "the password of the gateway account g is needed"),
        ({"clients": 1, "gateway_connections": 2, "password": "x"}, "but no gateway user"),
        (
            {"clients": 1, "gateway_user": "g", "gateway_password": "x", "password": "y"},
            "devices have no credentials of their own",
        ),
    ],
)
def test_impossible_fleets_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidArguments, match=words):
        simulate(**given)  # type: ignore[arg-type]  # the values fit, mypy cannot see which is which
