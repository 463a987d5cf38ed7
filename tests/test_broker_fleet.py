"""200 connected devices under traffic, while passwords, certificates, the CA and the broker change.

Every allowed device is back by itself, the revoked one stays out, and every line that the broker has taken is
in the daemon's database.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from infoscreen.clock import SystemClock
from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.connection import BrokerAddress, TlsSettings, load_tls
from infoscreen.mqtt.device import DeviceClient
from infoscreen.provisioning import devices
from infoscreen.services.ports import Outgoing
from infoscreen.wire import topics
from tests import brokers
from tests.broker import Broker
from tests.daemon import Daemon, installed
from tests.programs import find_free_port
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

COUNT = 200
EVERY_SECONDS = 1.0


class Screen:
    """A device that sends numbered lines, each until the broker has acknowledged it, and never gives up."""

    def __init__(self, uuid: str, broker: Broker, random: Random) -> None:
        assert broker.authority is not None
        assert broker.devices_port is not None
        tls = TlsSettings(broker.authority.bundle)
        self.uuid = uuid
        self.passwords = [broker.passwords[uuid]]
        self.connections = self.refusals = 0
        self.connected = False
        self.said: list[str] = []
        self._where = BrokerAddress("localhost", broker.devices_port, uuid, None, uuid, tls)
        self._random = random

    @property
    def used(self) -> str:
        """Return the password with which it connects."""
        return self.passwords[0]

    async def live(self) -> None:
        while True:
            try:
                await self._connection()
            except BrokerUnavailable as error:
                if error.fault is BrokerFault.REFUSED:
                    self.refusals += 1
                    self.passwords.append(self.passwords.pop(0))
            await asyncio.sleep(self._random.random())

    async def _connection(self) -> None:
        address = BrokerAddress(
            self._where.host, self._where.port, self.uuid, self.used, self.uuid, self._where.tls
        )
        async with DeviceClient(address, await load_tls(address)) as client:
            self.connections += 1
            self.connected = True
            try:
                while True:
                    line = f"{self.uuid} {len(self.said)}"
                    payload = json.dumps({"timestamp": "2026-01-01T00:00:00Z", "message": line}).encode()
                    await client.send(Outgoing(topics.logs(self.uuid, topics.LogLevel.INFO), payload), 10)
                    self.said.append(line)
                    await asyncio.sleep(self._random.random() * 2 * EVERY_SECONDS)
            finally:
                self.connected = False


@asynccontextmanager
async def fleet(broker: Broker) -> AsyncIterator[list[Screen]]:
    random = Random(1)
    uuids = [str(UUID(int=random.getrandbits(128), version=4)) for _ in range(COUNT)]
    await broker.add_devices(uuids)
    screens = [Screen(uuid, broker, random) for uuid in uuids]
    tasks = [asyncio.create_task(screen.live()) for screen in screens]
    try:
        await back(screens, lambda screen: screen.connected)
        yield screens
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def back(screens: list[Screen], claim: Callable[[Screen], bool]) -> None:
    """Wait until the claim holds for every device and it has said something since."""
    said = {screen.uuid: len(screen.said) for screen in screens}
    await until(
        lambda: all(claim(screen) and len(screen.said) > said[screen.uuid] for screen in screens),
        every=0.1,
        within=120,
    )


def stored(daemon: Daemon) -> set[str]:
    return {text for (text,) in daemon.rows("SELECT text FROM timeline WHERE kind = 'log'")}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", brokers.programs())
async def test_everything_is_changed_under_200_devices_and_nothing_is_lost(
    tmp_path: Path, program: str
) -> None:
    broker = Broker(
        tmp_path / "broker",
        find_free_port(),
        devices_port=find_free_port(),
        program=brokers.program(program),
        save_every_change=False,
    )
    assert broker.authority is not None
    authority, now = broker.authority, SystemClock().now()
    await broker.start()
    try:
        async with installed(tmp_path / "daemon", broker) as daemon:
            await daemon.start()
            async with fleet(broker) as screens:
                # Passwords: delivered first, then the old ones end.
                old = {screen.uuid: screen.used for screen in screens}
                with devices.rotating(broker.files, None) as made:
                    for screen in screens:
                        screen.passwords.append(made.passwords[screen.uuid])
                devices.finish_rotation(broker.files)
                await broker.reload()
                await back(screens, lambda screen: screen.connected and screen.used != old[screen.uuid])

                # A device is revoked: cut off at once, and out for good.
                revoked, *allowed = screens
                connections = {screen.uuid: screen.connections for screen in screens}
                devices.remove(broker.files, [revoked.uuid])
                await broker.reload()
                await until(lambda: not revoked.connected)
                await until(lambda: revoked.refusals >= 3, within=60)
                assert revoked.connections == connections[revoked.uuid]
                assert {one.uuid: one.connections for one in allowed} == {
                    one.uuid: connections[one.uuid] for one in allowed
                }, "the reload ended connections of others"

                # The server's certificate is renewed.
                assert authority.renew(now, within=timedelta(days=400))
                await broker.reload()
                await back(allowed, lambda screen: screen.connected)

                # The CA is replaced, with the restarts that it takes.
                authority.begin_roll_over(now)
                await broker.restart()
                await back(allowed, lambda screen: screen.connected)
                authority.switch(now)
                await broker.reload()
                authority.finish()
                await broker.restart()
                await back(allowed, lambda screen: screen.connected)
                assert not revoked.connected
            said = {line for screen in screens for line in screen.said}
            await until(lambda: said <= stored(daemon), every=0.5, within=60)
            assert len(said) > 5 * COUNT
            assert "Traceback" not in daemon.log
    finally:
        await broker.stop()
