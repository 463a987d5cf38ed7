"""Many simulated devices in one process, each with a connection of its own."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from infoscreen.clock import Clock
from infoscreen.domain.errors import InvalidInput
from infoscreen.simulator.connection import Broker, DeviceClock, DeviceConnection, Traffic
from infoscreen.simulator.device import Fault, SimulatedDevice, Tally, Timing
from infoscreen.simulator.identity import Identity

STOP_SECONDS = 15.0
"""So long the devices have for their goodbyes; thousands of them take several seconds."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which share of the fleet each fault befalls, and when after the device's start.

    A device suffers one fault at most; a share above zero means one device at least. ``relief_after`` is when
    after it the outside helps (see ``SimulatedDevice.relieve``), None for never.
    """

    shares: Mapping[Fault, float] = field(default_factory=dict)
    within: timedelta = timedelta(seconds=60)
    relief_after: timedelta | None = None

    def __post_init__(self) -> None:
        if any(share < 0 for share in self.shares.values()) or sum(self.shares.values()) > 1:
            raise InvalidInput("the shares of the faults are from 0 to 1, and at most 1 together")

    def victims(self, clients: int, random: Random) -> dict[int, Fault]:
        """Choose the devices, by their position in the fleet."""
        order = random.sample(range(clients), clients)
        faults = [
            fault
            for fault, share in self.shares.items()
            for _ in range(max(1, round(share * clients)) if share else 0)
        ]
        return dict(zip(order, faults, strict=False))


class Fleet:
    """The devices and what they did. The same seed makes the same devices, faults and jitter."""

    def __init__(
        self,
        identities: Sequence[Identity],
        passwords: Mapping[str, str],
        broker: Broker,
        clock: Clock,
        *,
        seed: str = "",
        timing: Timing | None = None,
        faults: FaultPlan | None = None,
        start_within: timedelta = timedelta(0),
        persistent_sessions: bool = True,
    ) -> None:
        self.traffic = Traffic()
        self.tally = Tally()
        self._identities = identities
        self._passwords = passwords
        self._broker = broker
        self._clock = clock
        self._seed = seed
        self._timing = timing or Timing()
        self._faults = faults or FaultPlan()
        self._start_within = start_within
        self._persistent_sessions = persistent_sessions
        self._connections: list[DeviceConnection] = []

    @property
    def size(self) -> int:
        """Return how many devices there are."""
        return len(self._identities)

    async def run(self, stop: asyncio.Event) -> None:
        """Start the devices one after the other and let them live until ``stop`` is set."""
        async with asyncio.TaskGroup() as tasks:
            lives = [
                tasks.create_task(self._live(identity, delay, fault, stop))
                for identity, delay, fault in self._starts()
            ]
            await stop.wait()
            for connection in self._connections:
                connection.stop()
            _, late = await asyncio.wait(lives, timeout=STOP_SECONDS) if lives else (None, set())
            for life in late:
                life.cancel()

    def _starts(self) -> Iterator[tuple[Identity, timedelta, Fault | None]]:
        """Spread the starts evenly, with jitter, so that no two devices come in step."""
        random = Random(self._seed)
        victims = self._faults.victims(self.size, random)
        for number, identity in enumerate(self._identities):
            delay = self._start_within * ((number + random.random()) / self.size)
            yield identity, delay, victims.get(number)

    async def _live(
        self, identity: Identity, delay: timedelta, fault: Fault | None, stop: asyncio.Event
    ) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay.total_seconds()):
                await stop.wait()
        if stop.is_set():
            return
        random = Random(f"{self._seed}/{identity.uuid}")
        clock = DeviceClock(self._clock)
        device = SimulatedDevice(
            identity,
            random=random,
            timing=self._timing,
            tally=self.tally,
            now=clock.now(),
            persistent_session=self._persistent_sessions,
        )
        if fault is not None:
            at = clock.now() + self._faults.within * random.random()
            device.plan(at, fault)
            if self._faults.relief_after is not None:
                device.plan_relief(at + self._faults.relief_after)
        connection = DeviceConnection(
            device,
            self._broker,
            self._passwords[identity.uuid],
            clock=clock,
            random=random,
            traffic=self.traffic,
        )
        self._connections.append(connection)
        await connection.run()
