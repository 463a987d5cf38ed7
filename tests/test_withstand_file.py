"""The SQLite file is moved, replaced, emptied or damaged under the daemon: nothing more is acknowledged."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from infoscreen.domain.errors import DatabaseNotReady, StoreTrouble, StoreUnavailable
from infoscreen.storage import schema
from infoscreen.storage.engine import Store
from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.screens import Screen, screen_at
from tests.waiting import until

U = "4f0c2a18-7b3d-4e65-8c91-5d2e6f7a8b09"


async def store_at(path: Path) -> Store:
    """Return an open store on a migrated file; both kinds of connection have been used."""
    url = f"sqlite+aiosqlite:///{path}"
    await schema.upgrade(url)
    store = Store(url)
    await write(store)
    async with store.read():
        pass
    return store


async def write(store: Store) -> None:
    async with store.write() as connection:
        await connection.exec_driver_sql("INSERT INTO login_failures VALUES (hex(randomblob(8)), 1, 'x')")


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def move_away(path: Path) -> None:
    path.rename(path.with_suffix(".away"))


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_suffix(".copy")
    shutil.copyfile(path, copy)
    copy.rename(path)


def replace_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    os.truncate(path, 0)


def unlink_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def replace_log(path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    log.unlink()
    log.touch()


LOSSES: dict[Callable[[Path], None], StoreTrouble] = {
    Path.unlink: StoreTrouble.MISSING,
    move_away: StoreTrouble.MISSING,
    replace_by_a_copy: StoreTrouble.REPLACED,
    replace_by_a_directory: StoreTrouble.REPLACED,
    empty: StoreTrouble.DAMAGED,
    unlink_log: StoreTrouble.MISSING,
    replace_log: StoreTrouble.REPLACED,
}


@pytest.mark.parametrize("lose", LOSSES, ids=lambda act: act.__name__)
async def test_a_lost_file_takes_nothing_and_nothing_is_created(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    path = tmp_path / "infoscreen.db"
    store = await store_at(path)
    lose(path)
    before = names_in(tmp_path)
    for act in (write(store), store.check()):
        with pytest.raises(StoreUnavailable) as caught:
            await act
        assert caught.value.trouble is LOSSES[lose]
        assert not caught.value.outcome_unknown
    assert names_in(tmp_path) == before
    await store.close()


async def lose_halfway(store: Store, path: Path) -> None:
    async with store.write() as connection:
        await connection.exec_driver_sql("DELETE FROM login_failures")
        move_away(path)


async def test_a_file_that_is_lost_during_a_transaction_is_not_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "infoscreen.db"
    store = await store_at(path)
    with pytest.raises(StoreUnavailable) as caught:
        await lose_halfway(store, path)
    assert caught.value.trouble is StoreTrouble.MISSING
    assert caught.value.outcome_unknown
    await store.close()


async def test_a_file_that_is_put_back_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "infoscreen.db"
    store = await store_at(path)
    move_away(path)
    with pytest.raises(StoreUnavailable):
        await write(store)
    path.with_suffix(".away").rename(path)
    await store.check()
    await write(store)
    async with store.read() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM login_failures")).scalar() == 2
    await store.close()


async def test_connections_that_come_and_go_are_no_loss(tmp_path: Path) -> None:
    """Without any connection SQLite removes the write-ahead log itself."""
    store = await store_at(tmp_path / "infoscreen.db")
    for _ in range(3):
        await store.engine.dispose()
        await store.writers.dispose()
        assert "infoscreen.db-wal" not in names_in(tmp_path)
        async with store.read():
            pass
        await write(store)
        await store.check()
    await store.close()


async def test_an_empty_file_is_called_a_loss(tmp_path: Path) -> None:
    path = tmp_path / "infoscreen.db"
    path.touch()
    with pytest.raises(DatabaseNotReady, match="the database is lost"):
        await schema.check_url(f"sqlite+aiosqlite:///{path}")


async def test_a_file_with_damaged_pages_is_told_from_one_that_is_well(tmp_path: Path) -> None:
    store = await store_at(tmp_path / "infoscreen.db")
    assert await schema.damage(store) is None
    await store.close()
    with (tmp_path / "infoscreen.db").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 12))
    store = Store(f"sqlite+aiosqlite:///{tmp_path / 'infoscreen.db'}")
    assert await schema.damage(store) is not None
    await store.close()


@asynccontextmanager
async def at_work(tmp_path: Path, broker: Broker) -> AsyncIterator[tuple[Daemon, Screen]]:
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(installed(tmp_path / "daemon", broker))
        screen = await stack.enter_async_context(screen_at(broker, U))
        await daemon.start()
        screen.beat()
        for number in range(5):
            screen.log(f"before {number}")
        async with daemon.program() as api:
            await ask_until(api, f"/api/clients?q={U}", lambda page: page["items"])
        yield daemon, screen


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lose", [move_away, replace_by_a_copy, unlink_log], ids=lambda act: act.__name__)
async def test_the_daemon_stays_says_so_and_keeps_what_comes_at_the_broker(
    tmp_path: Path, broker: Broker, lose: Callable[[Path], None]
) -> None:
    async with at_work(tmp_path, broker) as (daemon, screen), daemon.program() as api:
        pid = daemon.pid
        lose(daemon.database)
        problem = await daemon.wait_for("/readyz", 503)
        assert problem["fault_codes"]["database"]["arguments"] == {"trouble": LOSSES[lose]}
        for number in range(5):
            screen.log(f"during {number}")
        await until(lambda: not screen.waiting)
        await until(lambda: daemon.logged("store_unavailable"))
        overview = await ask(api, "GET", "/api/monitoring/overview")
        assert overview["database"] == {"ok": False, "trouble": LOSSES[lose]}
        assert daemon.pid == pid
        assert daemon.alive
        if lose is move_away:
            daemon.database.with_suffix(".away").rename(daemon.database)
        else:
            assert await daemon.stop() == 0
            await daemon.launch()
        await daemon.wait_for("/readyz", 200)
        said = [one.name for one in screen.confirmed if one.topic.endswith("/logs/info")]
        async with asyncio.timeout(60):
            stored: list[str] = []
            while len(stored) < len(said):
                rows = daemon.rows("SELECT text FROM timeline WHERE kind = 'log' ORDER BY id")
                stored = [text for (text,) in rows]
                await asyncio.sleep(0)
        assert stored == said
        assert "Traceback" not in daemon.log
