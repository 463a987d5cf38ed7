"""One device that says a thousand things a second beside healthy ones: they do not notice it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.packets import ANSWER_BYTES, CONNACK, DISCONNECT, connect, publish
from infoscreen.storage.rejected import KEPT_OF_ONE
from infoscreen.wire import topics
from infoscreen.wire.topics import LogLevel
from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.programs import find_free_port
from tests.screens import Screen, living
from tests.spine import uuid_of
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

FLOODER = uuid_of(666)
HEALTHY = [uuid_of(number) for number in range(1, 21)]
PER_SECOND = 1_000
WINDOW = 500
TURN_SECONDS = 0.05


class Flooder:
    """A device gone mad: log lines, heartbeats and nonsense, as many a second as ``PER_SECOND`` says."""

    def __init__(self, broker: Broker, password: str) -> None:
        self.acknowledged = 0
        """Messages that the broker has taken."""
        self._port = broker.port
        self._password = password
        self._said = 0

    async def flood(self, enough: asyncio.Event) -> None:
        """Talk until it is enough, and wait for every PUBACK."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(connect(FLOODER, self._password))
        assert (await reader.readexactly(ANSWER_BYTES))[0] == CONNACK
        due = time.monotonic()
        while not enough.is_set():
            for _ in range(int(PER_SECOND * TURN_SECONDS)):
                writer.write(self._next())
            while self._said - self.acknowledged > WINDOW:
                await self._heed(reader)
            await writer.drain()
            due += TURN_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        while self.acknowledged < self._said:
            await self._heed(reader)
        writer.write(DISCONNECT)
        writer.close()

    async def _heed(self, reader: asyncio.StreamReader) -> None:
        await reader.readexactly(ANSWER_BYTES)
        self.acknowledged += 1

    def _next(self) -> bytes:
        self._said += 1
        told = {"timestamp": "2026-03-02T07:00:00Z", "message": f"flood {self._said}"}
        topic, body = [
            (topics.logs(FLOODER, LogLevel.INFO), json.dumps(told).encode()),
            (topics.heartbeat(FLOODER), json.dumps({**told, "process_pid": self._said}).encode()),
            (topics.heartbeat(FLOODER), b"nonsense"),
            (topics.discovery(FLOODER), json.dumps({"uuid": FLOODER, "hostname": f"{self._said}"}).encode()),
        ][self._said % 4]
        return publish(topic, body, self._said % 65_535 + 1)


@asynccontextmanager
async def beating(screens: list[Screen]) -> AsyncIterator[None]:
    """Let devices beat five times a second beside the block."""

    async def beat() -> None:
        while True:
            for screen in screens:
                if not screen.waiting:
                    screen.beat()
            await asyncio.sleep(0.2)

    async with living(screens), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(beat())
        yield
        task.cancel()


def heard(daemon: Daemon) -> dict[str, int]:
    return dict(daemon.rows("SELECT uuid, heartbeats FROM clients WHERE uuid <> ?", FLOODER))


async def test_the_others_do_not_notice_a_device_that_floods(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", find_free_port(), save_every_change=False)
    await broker.add_devices(HEALTHY)
    flooder = Flooder(broker, (await broker.add_devices([FLOODER]))[FLOODER])
    screens = [Screen(broker, uuid) for uuid in HEALTHY]
    try:
        await broker.start()
        async with (
            installed(
                tmp_path / "daemon", broker, LOG_LINES_PER_MINUTE=10**6, LOG_BYTES_PER_MINUTE=2**30
            ) as daemon,
            beating(screens),
            daemon.program() as api,
        ):
            await daemon.start()
            await ask_until(api, "/api/clients", lambda page: page["total"] == len(HEALTHY))
            enough, began = asyncio.Event(), time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(flooder.flood(enough))
                await until(lambda: flooder.acknowledged > 2 * PER_SECOND)
                before = heard(daemon)
                for screen in screens:  # each is heard, each is commanded, each answers, in the flood
                    path, body = f"/api/clients/{screen.uuid}/commands", {"action": "restart_app"}
                    answer = await ask(api, "POST", path, json=body, status=202)
                    await ask_until(
                        api,
                        f"/api/commands/{answer['command']['command_id']}",
                        lambda command: command["verification"] == "verified",
                    )
                await until(lambda: all(heard(daemon)[uuid] > n + 5 for uuid, n in before.items()))
                await until(lambda: flooder.acknowledged > 5 * PER_SECOND, within=60)
                await ask(api, "GET", "/readyz")
                enough.set()
            await ask_until(api, f"/api/clients/{FLOODER}", lambda client: client["status"] == "online")
            changes = daemon.rows(
                "SELECT DISTINCT json_extract(data, '$.to') FROM timeline WHERE kind = 'status'"
            )
            assert changes == [("online",)]

            def floods() -> list[str]:
                rows = daemon.rows(
                    "SELECT text FROM timeline WHERE kind = 'log' AND code IS NULL ORDER BY id"
                )
                return [text for (text,) in rows]

            lines = [f"flood {number}" for number in range(1, flooder.acknowledged + 1) if number % 4 == 0]
            await until(lambda: len(floods()) >= len(lines), within=60)
            assert floods() == lines  # nothing that was received is lost, from any device
            assert daemon.rows("SELECT count(*) FROM rejected_messages") == [(KEPT_OF_ONE,)]
            rejections = daemon.logged("message_rejected")
            minutes = (time.monotonic() - began) // 60
            assert 1 <= len(rejections) <= 1 + minutes  # all for one reason
            assert "Traceback" not in daemon.log
            assert await daemon.stop() == 0
    finally:
        await broker.stop()
