"""Stopping under load, starting without a broker, and databases that are locked, missing or strange."""

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import ClientSession

from benchmarks.rig import LOADER, Rig, load
from infoscreen.provisioning.passwords import new_password, password_line
from infoscreen.wire.topics import BULK_FILTERS
from tests.api import ask
from tests.broker import Broker
from tests.daemon import START_SECONDS, Daemon, ask_until, installed
from tests.holding import locked
from tests.screens import screen_at
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

U = "4f0c2a18-7b3d-4e65-8c91-5d2e6f7a8b09"
NOW = "2026-03-02T07:00:00Z"

STREAMS = 20
PER_SECOND = 1_000
DEVICES = [f"00000000-0000-4000-8000-{number:012d}" for number in range(250)]


# Stopping.


class Load:
    """Devices that together send ``PER_SECOND`` messages; every fifth is a log line unlike all others."""

    def __init__(self, broker: Broker) -> None:
        """Give the loader an account; the broker must not run yet."""
        path = broker.config.parent
        password = new_password()
        with (path / "infoscreen.passwd").open("a", encoding="ascii") as file:
            file.write(password_line(LOADER, password))
        with (path / "infoscreen.acl").open("a", encoding="ascii") as file:
            file.write(f"\nuser {LOADER}\ntopic write infoscreen/#\n")
        self._rig = Rig(broker.files, broker.port, password)
        self.lines = 0
        """How many lines the broker has acknowledged."""

    async def press(self, enough: asyncio.Event) -> None:
        """Send until it is enough, ten times a second."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while not enough.is_set():
            await load(self._rig, self._some(PER_SECOND // 10))
            self.lines += PER_SECOND // 50
            due += 0.1
            await asyncio.sleep(max(0.0, due - clock()))

    def _some(self, count: int) -> Iterator[tuple[str, bytes]]:
        beat = json.dumps({"timestamp": NOW, "process_status": "running"}).encode()
        for number in range(count):
            uuid = DEVICES[number % len(DEVICES)]
            if number % 5:
                yield f"infoscreen/{uuid}/heartbeat", beat
            else:
                line = f"line {self.lines + number // 5}"
                yield f"infoscreen/{uuid}/logs/info", json.dumps({"timestamp": NOW, "message": line}).encode()


async def follow(viewer: ClientSession) -> int:
    """Read an event stream to its end, which must be a proper one; return how much came."""
    async with viewer.get("/api/events") as response:
        assert response.status == 200
        return sum([len(chunk) async for chunk in response.content.iter_any()])


def lines_in(daemon: Daemon) -> list[str]:
    return [text for (text,) in daemon.rows("SELECT text FROM timeline WHERE kind = 'log'")]


async def test_a_stop_under_load_finishes_what_is_in_hand_and_nothing_twice(
    tmp_path: Path, free_port: int
) -> None:
    broker = Broker(tmp_path / "broker", free_port, save_every_change=False)
    pressure = Load(broker)
    try:
        await broker.start()
        async with (
            installed(tmp_path / "daemon", broker, LOG_LINES_PER_MINUTE=10**6) as daemon,
            daemon.program() as viewer,
        ):
            await daemon.start()
            async with asyncio.TaskGroup() as tasks:
                streams = [tasks.create_task(follow(viewer)) for _ in range(STREAMS)]
                enough = asyncio.Event()
                tasks.create_task(pressure.press(enough))
                await until(lambda: len(lines_in(daemon)) > PER_SECOND // 2)
                assert await daemon.stop() == 0
                enough.set()
            assert all(stream.result() for stream in streams)
            assert len(daemon.logged("stopped")) == 1
            assert daemon.logged("batch_abandoned") == []
            assert "Traceback" not in daemon.log

            stored = lines_in(daemon)
            waiting = await still_waiting(broker)
            assert set(stored) & set(waiting) == set()
            assert sorted([*stored, *waiting]) == sorted(f"line {number}" for number in range(pressure.lines))
    finally:
        await broker.stop()


async def still_waiting(broker: Broker) -> list[str]:
    """Take the lines that the broker still keeps for the daemon, as the daemon would get them."""
    await broker.add_device(DEVICES[0])
    await broker.pub(f"infoscreen/{DEVICES[0]}/screenshot", "end")
    lines = []
    async with broker.sub(
        *BULK_FILTERS, account=broker.server_user, session="infoscreen-server-bulk"
    ) as heir:
        while (message := await heir.next()).payload != b"end":
            if message.topic.endswith("/logs/info"):
                lines.append(json.loads(message.payload)["message"])
    return lines


# Starting without a broker.


async def test_it_serves_without_a_broker_says_so_and_connects_when_there_is_one(
    tmp_path: Path, broker: Broker
) -> None:
    await broker.stop()
    async with installed(tmp_path / "daemon", broker) as daemon, daemon.program() as api:
        await daemon.launch()
        problem = await daemon.wait_for("/readyz", 503)
        address = f"{broker.host}:{broker.port}"
        assert problem["faults"] == {
            "broker": "not listening: The broker cannot be reached at its address."
            f" (cannot connect to {address}: Connection refused)"
        }
        assert (await ask(api, "GET", "/healthz"))["status"] == "ok"
        assert (await ask(api, "GET", "/api/monitoring/overview"))["broker"]["connected"] is False
        await broker.start()
        assert (await daemon.wait_for("/readyz", 200)) == {"status": "ready"}
        async with screen_at(broker, U) as screen:
            screen.beat()
            await ask_until(api, f"/api/clients?q={U}", lambda page: page["total"])
        assert await daemon.stop() == 0


async def test_it_stops_in_order_while_the_broker_does_not_answer(tmp_path: Path, broker: Broker) -> None:
    async with installed(tmp_path / "daemon", broker) as daemon:
        await daemon.start()
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            assert await daemon.stop() == 0
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert "Traceback" not in daemon.log


# Databases.


async def test_it_stops_in_order_while_the_database_is_locked(tmp_path: Path, broker: Broker) -> None:
    async with installed(tmp_path / "daemon", broker) as daemon, screen_at(broker, U) as screen:
        await daemon.start()
        said = [f"line {number}" for number in range(10)]
        async with locked(daemon.database):
            for line in said:
                screen.log(line)
            await until(lambda: not screen.waiting)
            assert await daemon.stop(within=8) == 0  # SQLite's own wait would be longer
        assert lines_in(daemon) == []
        assert "Traceback" not in daemon.log
        await daemon.start()
        await until(lambda: len(lines_in(daemon)) >= len(said))
        assert lines_in(daemon) == said


async def refusal(daemon: Daemon) -> str:
    """Start a daemon that must refuse, and return what it says."""
    await daemon.launch()
    assert await daemon.ended(within=START_SECONDS) == 1
    assert "Traceback" not in daemon.log
    return daemon.log


async def test_it_refuses_a_database_that_was_never_set_up(tmp_path: Path, broker: Broker) -> None:
    daemon = Daemon(tmp_path, broker)
    assert "Run `infoscreen db upgrade`." in await refusal(daemon)
    assert not daemon.database.exists()


@pytest.mark.parametrize(
    ("revision", "advice"),
    [
        ("b1c2d3e4f5a6", "Run `infoscreen db upgrade`."),
        ("fffffffffffe", "Upgrade infoscreen, or restore a backup from before."),
    ],
    ids=["behind", "newer"],
)
async def test_it_refuses_a_database_of_another_version(
    tmp_path: Path, broker: Broker, revision: str, advice: str
) -> None:
    async with installed(tmp_path / "daemon", broker) as daemon:
        with closing(sqlite3.connect(daemon.database)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        assert advice in await refusal(daemon)
