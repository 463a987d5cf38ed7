"""Ten thousand devices that come at once, and all again when the broker was restarted: all are taken in."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.packets import ANSWER_BYTES, CONNACK, PUBACK, connect, publish
from infoscreen.wire import topics
from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.programs import find_free_port
from tests.screens import screen_at
from tests.spine import uuid_of
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(400)]

CROWD = 10_000
OPERATED = uuid_of(CROWD + 1)
PATIENCE_SECONDS = 150.0
"""How long the crowd may take on a machine that does other things as well; alone it takes some 15 seconds."""

KNOCK_AGAIN_SECONDS = 0.5
IN_THE_DOOR = 100
"""Who knock at the same time: mosquitto's backlog. More would wait in the kernel, whose retries double."""


class Device(asyncio.Protocol):
    """One of the crowd: says that it is there, and beats once, each time it is let in."""

    def __init__(self, crowd: "Crowd", uuid: str, password: str) -> None:
        self.beats = 0
        """Heartbeats that the broker has acknowledged."""
        self.let_in = asyncio.Event()
        self.lost = asyncio.Event()
        self._crowd = crowd
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._hello = connect(uuid, password, will=(topics.presence(uuid), b"offline"), keepalive=0)
        beat = {"timestamp": "2026-03-02T07:00:00Z", "process_status": "running", "hostname": uuid}
        self._news = publish(topics.presence(uuid), b"online", 1, retain=True)
        self._news += publish(topics.heartbeat(uuid), json.dumps(beat).encode(), 2)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._rest = transport, b""
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        data = self._rest + data
        whole = len(data) // ANSWER_BYTES * ANSWER_BYTES
        self._rest = data[whole:]
        for start in range(0, whole, ANSWER_BYTES):
            kind, _, high, low = data[start : start + ANSWER_BYTES]
            if kind == CONNACK:
                assert low == 0, f"the broker refused a device: {low}"
                self.let_in.set()
                self._transport.write(self._news)
            elif kind == PUBACK and (high, low) == (0, 2):
                self.beats += 1
                self._crowd.beats += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.let_in.set()
        self.lost.set()

    async def live(self, port: int) -> None:
        """Reconnect at once whenever the connection is lost."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self.let_in.clear()
                self.lost.clear()
                try:
                    async with self._crowd.door:
                        await loop.create_connection(lambda: self, "127.0.0.1", port)
                        await self.let_in.wait()
                except OSError:
                    await asyncio.sleep(KNOCK_AGAIN_SECONDS)
                else:
                    await self.lost.wait()
        finally:
            if self._transport is not None:
                self._transport.abort()


class Crowd:
    """All of them."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self.beats = 0
        """Heartbeats that the broker has acknowledged, of all devices."""
        self.door = asyncio.Semaphore(IN_THE_DOOR)
        self.devices = [Device(self, uuid, password) for uuid, password in passwords.items()]

    @asynccontextmanager
    async def living(self, port: int) -> AsyncIterator[None]:
        """Let them all live beside the block; all come at the same time."""
        async with asyncio.TaskGroup() as tasks:
            lives = [tasks.create_task(device.live(port)) for device in self.devices]
            yield
            for life in lives:
                life.cancel()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process, and the broker it starts, have a connection to each of the crowd."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CROWD + 2_000
    if before[0] < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, before[1])))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def taken_in(daemon: Daemon, beats: int) -> None:
    """Wait until the crowd is known, online, and has been heard so many times in all.

    It may be more: what a restarted broker had not seen acknowledged, it delivers again.
    """
    heard = "SELECT count(*), sum(heartbeats) FROM clients WHERE status = 'online' AND hostname = uuid"
    await until(lambda: daemon.rows(heard)[0] >= (CROWD, beats), every=0.25, within=PATIENCE_SECONDS)


async def test_ten_thousand_devices_come_at_once_and_again(tmp_path: Path, many_files: None) -> None:
    broker = Broker(tmp_path / "broker", find_free_port(), save_every_change=False)
    crowd = Crowd(await broker.add_devices(uuid_of(number) for number in range(1, CROWD + 1)))
    try:
        await broker.start()
        async with (
            installed(tmp_path / "daemon", broker) as daemon,
            screen_at(broker, OPERATED) as screen,
            daemon.program() as api,
        ):
            await daemon.start()
            screen.beat()
            await ask_until(api, f"/api/clients?q={OPERATED}", lambda page: page["total"])
            async with crowd.living(broker.port):
                await until(lambda: crowd.beats == CROWD, within=PATIENCE_SECONDS)
                await taken_in(daemon, CROWD)

                await broker.restart()
                await daemon.wait_for("/readyz", 200)
                body = {"action": "restart_app"}
                path = f"/api/clients/{OPERATED}/commands"
                answer = await ask(api, "POST", path, json=body, status=202)
                path = f"/api/commands/{answer['command']['command_id']}"
                await until(lambda: crowd.beats == 2 * CROWD, within=PATIENCE_SECONDS)
                await taken_in(daemon, 2 * CROWD)
                assert {device.beats for device in crowd.devices} == {2}
                screen.beat()
                await ask_until(api, path, lambda command: command["status"] == "completed")
                totals = (await ask(api, "GET", "/api/monitoring/overview"))["totals"]
                assert totals["online"] == CROWD + 1
                changes = daemon.rows(
                    "SELECT json_extract(data, '$.to'), count(*) FROM timeline"
                    " WHERE kind = 'status' GROUP BY 1"
                )
                assert changes == [("online", CROWD + 1)]
                assert daemon.logged("message_rejected") == []
            assert await daemon.stop() == 0
            assert "Traceback" not in daemon.log
    finally:
        await broker.stop()
