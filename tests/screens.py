"""Devices that keep the wire contract whatever becomes of broker and daemon, and know what they said and did.

Not the simulator's: what is tested here must not depend on our own idea of a device.
"""

import asyncio
import itertools
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.device import DeviceClient
from tests.broker import Broker
from tests.waiting import until

COMMAND_FIELDS = {
    "schema_version",
    "command_id",
    "client_uuid",
    "action",
    "issued_at",
    "expires_at",
    "requested_by",
    "reason",
}
STEPS = ("accepted", "execution_started", "completed")
BETWEEN_CONNECTIONS = 0.05


@dataclass(frozen=True, slots=True)
class Said:
    """One message, at QoS 1. ``name`` tells it from every other one of the device."""

    name: str
    topic: str
    payload: bytes
    retain: bool = False


class Screen:
    """One device. It says one thing at a time and forgets it once the broker has acknowledged it.

    It carries out each command once, repeats its last ack when it hears of one again, and takes each step
    (``accepted``, ``execution_started``, ``completed``) as soon as it is not held back from it.
    """

    def __init__(self, broker: Broker, uuid: str, *, dawdle: Callable[[], float] = lambda: 0.0) -> None:
        """``dawdle`` returns the seconds before the next step of a command."""
        self.uuid = uuid
        self.heard: Counter[str] = Counter()
        """How often each command arrived."""
        self.executed: list[str] = []
        self.confirmed: list[Said] = []
        """What the broker acknowledged, in order."""
        self.answers: dict[str, str] = {}
        """The last ack given for each command."""
        self.connected = False
        self._broker = broker
        self._dawdle = dawdle
        self._outbox: deque[Said] = deque()
        self._something = asyncio.Event()
        self._gates = {step: asyncio.Event() for step in STEPS}
        self._pid = 1000
        self._started_at = _now()
        self._numbers = itertools.count(1)
        self.release(*STEPS)

    def hold(self, *steps: str) -> None:
        """Do not take these steps of any command from now on."""
        for step in steps:
            self._gates[step].clear()

    def release(self, *steps: str) -> None:
        """Take these steps from now on, also of commands that wait for it."""
        for step in steps:
            self._gates[step].set()

    @property
    def waiting(self) -> int:
        """Return how many messages the broker has not acknowledged yet."""
        return len(self._outbox)

    def beat(self) -> None:
        """Say that we are alive, and as which process."""
        told = {
            "timestamp": _now(),
            "process_status": "running",
            "process_pid": self._pid,
            "app_started_at": self._started_at,
        }
        self._say(f"heartbeat {next(self._numbers)}", "heartbeat", told)

    def log(self, line: str) -> None:
        """Say a line."""
        self._say(line, "logs/info", {"timestamp": _now(), "message": line})

    def fail(self, unit: str) -> datetime:
        """Say that a unit was given up on, and return when that was."""
        failed_at = datetime.now(UTC)
        told = {"event": "service_failed", "unit": unit, "failed_at": _now(failed_at)}
        self._say(unit, "service_failed", told, retain=True)
        return failed_at

    async def live(self) -> None:
        """Run until cancelled; reconnect when the connection breaks."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    await self._connection(tasks)
                except* BrokerUnavailable:
                    pass
                finally:
                    self.connected = False
                await asyncio.sleep(BETWEEN_CONNECTIONS)

    async def _connection(self, tasks: asyncio.TaskGroup) -> None:
        address = BrokerAddress(
            self._broker.host, self._broker.port, self.uuid, self._broker.passwords[self.uuid], self.uuid
        )
        async with DeviceClient(address, None) as client:
            await client.subscribe_to([self._topic("commands"), self._topic("command")])
            self.connected = True
            async with asyncio.TaskGroup() as both:
                both.create_task(self._talk(client))
                both.create_task(self._listen(client, tasks))

    async def _talk(self, client: DeviceClient) -> None:
        while True:
            while not self._outbox:
                self._something.clear()
                await self._something.wait()
            said = self._outbox[0]
            await client.send(said, within=10)
            self.confirmed.append(self._outbox.popleft())

    async def _listen(self, client: DeviceClient, tasks: asyncio.TaskGroup) -> None:
        async for message in client.received():
            assert not message.retain, "a command was retained"
            command = json.loads(message.payload)
            assert command.keys() == COMMAND_FIELDS
            assert command["client_uuid"] == self.uuid
            command_id = command["command_id"]
            self.heard[command_id] += 1
            if self.heard[command_id] == 1:
                tasks.create_task(self._carry_out(command))
            elif command_id in self.answers:
                self._acknowledge(command_id, self.answers[command_id])

    async def _carry_out(self, command: dict[str, Any]) -> None:
        command_id = command["command_id"]
        if datetime.fromisoformat(command["expires_at"]) <= datetime.now(UTC):
            self._acknowledge(command_id, "failed", error_code="expired")
            return
        for step in STEPS:
            await asyncio.sleep(self._dawdle())
            await self._gates[step].wait()
            if step == "completed":
                self.executed.append(command_id)
                self._pid += 1
                self._started_at = _now()
            self._acknowledge(command_id, step)

    def _acknowledge(self, command_id: str, status: str, **more: str) -> None:
        self.answers[command_id] = status
        told = {"command_id": command_id, "status": status, "error_code": None, "error_message": None, **more}
        for topic in ("commands/ack", "command/ack"):
            self._say(f"{status} of {command_id} on {topic}", topic, told)

    def _say(self, name: str, topic: str, told: dict[str, Any], *, retain: bool = False) -> None:
        self._outbox.append(Said(name, self._topic(topic), json.dumps(told).encode(), retain))
        self._something.set()

    def _topic(self, tail: str) -> str:
        return f"infoscreen/{self.uuid}/{tail}"


def _now(at: datetime | None = None) -> str:
    return (at or datetime.now(UTC)).isoformat().replace("+00:00", "Z")


@asynccontextmanager
async def living(screens: Iterable[Screen]) -> AsyncIterator[None]:
    """Let devices live beside the block; what goes wrong in them is raised here."""
    async with asyncio.TaskGroup() as tasks:
        lives = [tasks.create_task(screen.live()) for screen in screens]
        yield
        for life in lives:
            life.cancel()


@asynccontextmanager
async def screen_at(broker: Broker, uuid: str) -> AsyncIterator[Screen]:
    """Yield a device that is connected."""
    await broker.add_device(uuid)
    screen = Screen(broker, uuid)
    async with living([screen]):
        await until(lambda: screen.connected)
        yield screen
