"""Many simulated devices in one process: when each starts, its faults, and when all disconnect.

How they get to the broker is the carrier's business: each on a connection of its own, or all over a few.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import Protocol

from infoscreen.clock import Clock
from infoscreen.simulator.connection import DeviceClock, DeviceConnection, Endpoint
from infoscreen.simulator.device import DeviceFault, SimulatedDevice, Tally, Timing
from infoscreen.simulator.faults import FaultPlan
from infoscreen.simulator.identity import Identity
from infoscreen.simulator.multiplexer import Gateway, Multiplexer
from infoscreen.simulator.traffic import Traffic

STOP_SECONDS = 30.0
"""So long the devices have for their goodbyes; tens of thousands of them take several seconds."""


STARTS_AT_A_STRETCH = 20
"""Devices started between two turns of the event loop if they are late, some 5 ms."""


class Played(Protocol):
    """A device that is alive, as its carrier knows it."""

    device: SimulatedDevice

    def wake(self) -> None:
        """Look at the device again: something was done to it."""
        ...


class Carrier(Protocol):
    """Connects devices to the broker."""

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin; what runs on runs in ``tasks``."""
        ...

    def add(self, device: SimulatedDevice) -> Played:
        """Let a device live."""
        ...

    async def leave(self, within_seconds: float) -> None:
        """Let all devices say goodbye, and end all connections."""
        ...


class OneEach:
    """A connection for each device, under the device's own account."""

    def __init__(
        self,
        broker: Endpoint,
        passwords: Mapping[str, str],
        seed: str,
        clock: DeviceClock,
        traffic: Traffic,
    ) -> None:
        self._broker = broker
        self._passwords = passwords
        self._seed = seed
        self._clock = clock
        self._traffic = traffic
        self._connections: list[DeviceConnection] = []
        self._lives: list[asyncio.Task[None]] = []

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Keep the group in which each device will get a task."""
        self._tasks = tasks

    def add(self, device: SimulatedDevice) -> DeviceConnection:
        """Let a device live."""
        uuid = device.identity.uuid
        connection = DeviceConnection(
            device,
            self._broker,
            self._passwords[uuid],
            clock=self._clock,
            random=Random(f"{self._seed}/{uuid}/connection"),
            traffic=self._traffic,
        )
        self._connections.append(connection)
        self._lives.append(self._tasks.create_task(connection.run()))
        return connection

    async def leave(self, within_seconds: float) -> None:
        """Let all devices say goodbye; cut off those that are late."""
        for connection in self._connections:
            connection.stop()
        if self._lives:
            _, late = await asyncio.wait(self._lives, timeout=within_seconds)
            for life in late:
                life.cancel()


class SimulatedFleet:
    """The devices and what they did. The same seed makes the same devices, faults and jitter.

    With a ``gateway`` all share its few connections, and ``passwords`` are not needed; without, each device
    has a connection and a password of its own.
    """

    def __init__(
        self,
        identities: Sequence[Identity],
        passwords: Mapping[str, str],
        broker: Endpoint,
        clock: Clock,
        *,
        seed: str = "",
        timing: Timing | None = None,
        faults: FaultPlan | None = None,
        start_within: timedelta = timedelta(0),
        persistent_sessions: bool = True,
        gateway: Gateway | None = None,
    ) -> None:
        self.traffic = Traffic()
        self.tally = Tally()
        self.shared_connections = 0
        self._identities = identities
        self._clock = DeviceClock(clock)
        self._seed = seed
        self._timing = timing or Timing()
        self._faults = faults or FaultPlan()
        self._start_within = start_within
        self._persistent_sessions = persistent_sessions
        self._played: list[Played] = []
        self._carrier: Carrier
        if gateway is None:
            self._carrier = OneEach(broker, passwords, seed, self._clock, self.traffic)
        else:
            self._carrier = multiplexer = Multiplexer(
                gateway,
                broker,
                size=self.size,
                seed=seed,
                clock=self._clock,
                traffic=self.traffic,
                persistent_sessions=persistent_sessions,
            )
            self.shared_connections = multiplexer.connections

    @property
    def size(self) -> int:
        """Return how many devices there are."""
        return len(self._identities)

    async def run(self, stop: asyncio.Event) -> None:
        """Start the devices one after the other and let them live until ``stop`` is set."""
        async with asyncio.TaskGroup() as tasks:
            self._carrier.start(tasks)
            fate = [tasks.create_task(self._start_all()), tasks.create_task(self._cause_faults())]
            await stop.wait()
            for task in fate:
                task.cancel()
            await self._carrier.leave(STOP_SECONDS)

    async def _start_all(self) -> None:
        began, at_a_stretch = self._clock.now(), 0
        for identity, delay, fault in self._starts():
            # Each start counts from the beginning, so that one that is late delays no other.
            early = began + delay - self._clock.now()
            at_a_stretch += 1
            if early > timedelta(0) or at_a_stretch > STARTS_AT_A_STRETCH:
                await self._clock.sleep(early)
                at_a_stretch = 0
            self._start(identity, fault)

    def _starts(self) -> Iterator[tuple[Identity, timedelta, DeviceFault | None]]:
        """Spread the starts evenly, with jitter, so that no two devices come in step."""
        random = Random(self._seed)
        victims = self._faults.victims(self.size, random)
        for number, identity in enumerate(self._identities):
            delay = self._start_within * ((number + random.random()) / self.size)
            yield identity, delay, victims.get(number)

    def _start(self, identity: Identity, fault: DeviceFault | None) -> None:
        random = Random(f"{self._seed}/{identity.uuid}")
        now = self._clock.now()
        device = SimulatedDevice(
            identity,
            random=random,
            timing=self._timing,
            tally=self.tally,
            now=now,
            persistent_session=self._persistent_sessions,
        )
        if fault is not None:
            at = now + self._faults.within * random.random()
            device.plan(at, fault)
            if self._faults.relief_after is not None:
                device.plan_relief(at + self._faults.relief_after)
        self._played.append(self._carrier.add(device))

    async def _cause_faults(self) -> None:
        """Cause faults by their rates until cancelled; devices that have not started are left out."""
        random = Random(f"{self._seed}/faults")
        at = self._clock.now()
        while (chosen := self._faults.next_by_rate(self.size, random)) is not None:
            pause, number, fault = chosen
            at += pause
            await self._clock.sleep(at - self._clock.now())
            if number < len(self._played):
                played, now = self._played[number], self._clock.now()
                played.device.suffer(fault, now)
                if self._faults.relief_after is not None:
                    played.device.plan_relief(now + self._faults.relief_after)
                played.wake()
