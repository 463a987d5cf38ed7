"""A database that another program holds, and a disk that is full: said, waited for, and nothing lost."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.disks import fill, mounted
from tests.holding import locked
from tests.screens import Screen, screen_at
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

U = "4f0c2a18-7b3d-4e65-8c91-5d2e6f7a8b09"
LOCKED_SECONDS = 3.0
SMALL_DISK = "4m"


def lines_in(daemon: Daemon) -> list[str]:
    return [text for (text,) in daemon.rows("SELECT text FROM timeline WHERE kind = 'log' ORDER BY id")]


async def all_stored(daemon: Daemon, screen: Screen) -> None:
    """Wait until every line that the broker acknowledged is stored; each once and in order."""
    await until(lambda: not screen.waiting)
    said = [one.name for one in screen.confirmed if one.topic.endswith("/logs/info")]
    await until(lambda: len(lines_in(daemon)) >= len(said))
    assert lines_in(daemon) == said


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_database_that_another_program_holds_is_waited_for(
    tmp_path: Path, broker: Broker, how: str
) -> None:
    async with (
        installed(tmp_path / "daemon", broker) as daemon,
        screen_at(broker, U) as screen,
        daemon.program() as api,
    ):
        await daemon.start()
        screen.beat()
        await ask_until(api, f"/api/clients?q={U}", lambda page: page["total"])
        clock, body = asyncio.get_running_loop().time, {"action": "restart_app"}
        async with asyncio.TaskGroup() as tasks, locked(daemon.database, how):
            locked_at = clock()
            for number in range(100):
                screen.log(f"line {number}")
            order = ask(api, "POST", f"/api/clients/{U}/commands", json=body, status=202)
            ordering = tasks.create_task(order)
            problem = await daemon.wait_for("/readyz", 503)
            assert problem["faults"] == {
                "database": "another program holds its lock; messages and commands wait"
            }
            while clock() < locked_at + LOCKED_SECONDS:
                for path in ("/api/clients", "/api/monitoring/overview", f"/api/clients/{U}/timeline"):
                    await ask(api, "GET", path)
            assert lines_in(daemon) == []
            assert not ordering.done()
        await all_stored(daemon, screen)
        command_id = ordering.result()["command"]["command_id"]
        await ask_until(api, f"/api/commands/{command_id}", lambda command: command["status"] == "completed")
        await daemon.wait_for("/readyz", 200)
        assert daemon.logged("store_locked")
        assert daemon.logged("store_unlocked")
        assert "Traceback" not in daemon.log


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", SMALL_DISK) as place:
        yield place


async def test_a_full_disk_is_waited_for(tmp_path: Path, small_disk: Path, broker: Broker) -> None:
    database = small_disk / "infoscreen.db"
    async with (
        installed(tmp_path / "daemon", broker, database=database) as daemon,
        screen_at(broker, U) as screen,
        daemon.program() as api,
    ):
        await daemon.start()
        screen.beat()
        await ask_until(api, f"/api/clients?q={U}", lambda page: page["total"])
        filler = fill(small_disk)

        async def talk() -> None:
            for number in range(10_000):
                screen.log(f"line {number} ".ljust(4_000, "."))
                await until(lambda: screen.waiting < 5)

        async with asyncio.TaskGroup() as tasks:
            talking = tasks.create_task(talk())  # the file has some room left in it
            problem = await daemon.wait_for("/readyz", 503)
            assert problem["faults"] == {
                "database": "messages cannot be stored, the broker keeps them: "
                "The disk or the memory of the database is full."
            }
            talking.cancel()
        (line,) = daemon.logged("store_unavailable")
        assert line["error"] == "The disk or the memory of the database is full (SQLITE_FULL)."
        stored = len(lines_in(daemon))
        for number in range(20):
            screen.log(f"more {number}")
        await until(lambda: not screen.waiting)
        await ask(api, "GET", "/api/clients")
        body = {"action": "restart_app", "reason": "r" * 2_000}
        refused = await ask(api, "POST", f"/api/clients/{U}/commands", json=body, status=503)
        assert refused["type"] == "store-unavailable"
        assert len(lines_in(daemon)) == stored
        filler.unlink()
        await all_stored(daemon, screen)
        await daemon.wait_for("/readyz", 200)
        assert len(daemon.logged("store_back")) == 1
        await ask(api, "POST", f"/api/clients/{U}/commands", json=body, status=202)
        assert "Traceback" not in daemon.log
        assert await daemon.stop() == 0
