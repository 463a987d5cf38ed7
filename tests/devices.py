"""The simulator's devices in the test's hand: connected to the test's broker, made to suffer and relieved."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random

from infoscreen.clock import SystemClock
from infoscreen.simulator import device_uuids
from infoscreen.simulator.connection import DeviceClock, DeviceConnection, Endpoint
from infoscreen.simulator.device import DeviceFault, SimulatedDevice, Tally, Timing
from infoscreen.simulator.identity import identities
from infoscreen.simulator.traffic import Traffic
from tests.broker import Broker
from tests.waiting import until

QUICK = Timing(
    heartbeat=timedelta(seconds=0.5),
    health=timedelta(seconds=60),
    until_started=timedelta(milliseconds=20),
    app_start=timedelta(milliseconds=100),
    going_down=timedelta(milliseconds=50),
    boot=timedelta(milliseconds=500),
)


class Device:
    """One device: its life, and what it was told to do."""

    def __init__(self, uuid: str, broker: Broker, timing: Timing, traffic: Traffic) -> None:
        self.uuid = uuid
        self.tally = Tally()
        self._clock = DeviceClock(SystemClock())
        random = Random(uuid)
        self._device = SimulatedDevice(
            identities([uuid])[0], random=random, timing=timing, tally=self.tally, now=self._clock.now()
        )
        self._connection = DeviceConnection(
            self._device,
            Endpoint(broker.host, broker.port),
            broker.passwords[uuid],
            clock=self._clock,
            random=random,
            traffic=traffic,
        )

    def suffer(self, fault: DeviceFault) -> None:
        """Cause a fault now."""
        self._device.suffer(fault, self._clock.now())
        self._connection.wake()

    def relieve(self) -> None:
        """Give back network and power, and end a hang."""
        self._device.relieve(self._clock.now())
        self._connection.wake()

    async def live(self) -> None:
        """Live until stopped."""
        await self._connection.run()

    def stop(self) -> None:
        """Say goodbye."""
        self._connection.stop()


class Devices:
    """Some devices; ``traffic`` is theirs together."""

    def __init__(self, uuids: Iterable[str], broker: Broker, timing: Timing) -> None:
        self.traffic = Traffic()
        self.all = [Device(uuid, broker, timing, self.traffic) for uuid in uuids]

    def __getitem__(self, number: int) -> Device:
        return self.all[number]

    @property
    def commands(self) -> int:
        """Return how many different commands reached any of them."""
        return sum(device.tally.commands for device in self.all)


@asynccontextmanager
async def devices_at(broker: Broker, count: int, timing: Timing = QUICK) -> AsyncIterator[Devices]:
    """Yield so many devices that are connected; they leave in order at the end."""
    uuids = device_uuids(count, "live")
    await broker.add_devices(uuids)
    devices = Devices(uuids, broker, timing)
    async with asyncio.TaskGroup() as tasks:
        for device in devices.all:
            tasks.create_task(device.live())
        try:
            await until(lambda: devices.traffic.connected == count, within=60)
            yield devices
        finally:
            for device in devices.all:
                device.stop()
