"""PostgreSQL restarts, refuses and locks under the daemon: nothing acknowledged is lost, the daemon stays."""

import asyncio
import shutil
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.disks import fill, mounted
from tests.postgres import PASSWORD, OwnServer, own_server
from tests.screens import Screen, screen_at
from tests.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

U = "4f0c2a18-7b3d-4e65-8c91-5d2e6f7a8b09"
SLOTS = 24
STOP_SECONDS = 6.0
"""The design's 5 s, and the time to end a Python process on a loaded machine."""


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with own_server("-c", f"max_connections={SLOTS}", "-c", "lc_messages=C") as running:
        running.run("createdb", "fleet")
        yield running


async def admin(server: OwnServer, database: str = "fleet") -> asyncpg.Connection:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=server.port, user="infoscreen", password=PASSWORD, database=database
    )
    await connection.execute("SET default_transaction_read_only = off")
    return connection


async def lines_in(server: OwnServer) -> list[str]:
    connection = await admin(server)
    try:
        rows = await connection.fetch("SELECT text FROM timeline WHERE kind = 'log' ORDER BY id")
    finally:
        await connection.close()
    return [row["text"] for row in rows]


async def assert_all_is_stored(server: OwnServer, screen: Screen) -> None:
    """Wait for the lines whose receipt was confirmed: all of them are stored, each once, and no others."""
    said = [one.name for one in screen.confirmed if one.topic.endswith("/logs/info")]
    async with asyncio.timeout(60):
        stored: list[str] = []
        while len(stored) < len(said):
            stored = await lines_in(server)
    assert sorted(stored) == sorted(said)


@asynccontextmanager
async def restarted(server: OwnServer, how: str) -> AsyncIterator[None]:
    await asyncio.to_thread(server.stop, how)
    yield
    await asyncio.to_thread(server.start)


@asynccontextmanager
async def starting_up(server: OwnServer) -> AsyncIterator[None]:
    """Say 57P03 to everybody, as a server does that replays its log, in words of another language."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length, code = struct.unpack("!ii", await reader.readexactly(8))
        if code == 80877103:  # it asks for TLS
            writer.write(b"N")
            length, _ = struct.unpack("!ii", await reader.readexactly(8))
        await reader.readexactly(length - 8)
        fields = b"SFATAL\0VFATAL\0C57P03\0M" + b"das Datenbanksystem startet gerade" + b"\0\0"
        writer.write(b"E" + struct.pack("!i", len(fields) + 4) + fields)
        writer.close()

    await asyncio.to_thread(server.stop, "immediate")
    listening = await asyncio.start_server(refuse, "127.0.0.1", server.port)
    yield
    listening.close()
    await listening.wait_closed()
    await asyncio.to_thread(server.start)


@asynccontextmanager
async def read_only(server: OwnServer) -> AsyncIterator[None]:
    for value in ("on", "off"):
        connection = await admin(server)
        await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        if value == "on":
            yield


@asynccontextmanager
async def no_slots(server: OwnServer) -> AsyncIterator[None]:
    """End the daemon's connections and take every slot there is."""
    taken: list[asyncpg.Connection] = [await admin(server)]
    for _ in range(3):
        await taken[0].execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> ALL($1::int[])",
            [one.get_server_pid() for one in taken],
        )
        try:
            while True:
                taken.append(await admin(server))
        except asyncpg.TooManyConnectionsError:
            continue
    yield
    for one in taken:
        await one.close()


@asynccontextmanager
async def locked(server: OwnServer) -> AsyncIterator[None]:
    connection = await admin(server)
    async with connection.transaction():
        await connection.execute("LOCK TABLE clients IN ACCESS EXCLUSIVE MODE")
        yield
    await connection.close()


def url_of(server: OwnServer, options: str = "") -> str:
    return server.url("fleet") + (f"?options={options}" if options else "")


TROUBLE = {
    "restart fast": lambda server: restarted(server, "fast"),
    "restart immediate": lambda server: restarted(server, "immediate"),
    "starting up": starting_up,
    "read-only": read_only,
    "no slots": no_slots,
    "lock_timeout": locked,
    "statement_timeout": locked,
}
OPTIONS = {
    "lock_timeout": "-c%20lock_timeout%3D300",
    "statement_timeout": "-c%20statement_timeout%3D400%20-c%20lock_timeout%3D0",
}


@asynccontextmanager
async def at_work(
    tmp_path: Path, server: OwnServer, broker: Broker, options: str = ""
) -> AsyncIterator[tuple[Daemon, Screen]]:
    async with AsyncExitStack() as stack:
        server.run("dropdb", "--force", "fleet")
        server.run("createdb", "fleet")
        daemon = await stack.enter_async_context(
            installed(tmp_path / "daemon", broker, DATABASE_URL=url_of(server, options))
        )
        screen = await stack.enter_async_context(screen_at(broker, U))
        yield daemon, screen


@pytest.mark.parametrize("name", TROUBLE)
async def test_nothing_acknowledged_is_lost_and_the_daemon_stays(
    tmp_path: Path, server: OwnServer, broker: Broker, name: str
) -> None:
    async with at_work(tmp_path, server, broker, OPTIONS.get(name, "")) as (daemon, screen):
        await daemon.start()
        pid = daemon.pid
        async with daemon.program() as api:
            screen.beat()
            await ask_until(api, f"/api/clients?q={U}", lambda page: page["items"])
            for number in range(10):
                screen.log(f"before {number}")
            await until(lambda: not screen.waiting)
            async with TROUBLE[name](server):  # type: ignore[operator]
                for number in range(20):
                    screen.beat()
                    screen.log(f"during {number}")
                problem = await daemon.wait_for("/readyz", 503)
                assert "database" in problem["faults"]
                async with api.post(f"/api/clients/{U}/commands", json={"action": "screenshot"}) as response:
                    assert response.status == 503
                    assert response.headers["Retry-After"]
                assert daemon.pid == pid
                assert daemon.alive
            for number in range(10):
                screen.log(f"after {number}")
            await daemon.wait_for("/readyz", 200)
            await until(lambda: not screen.waiting)
            await assert_all_is_stored(server, screen)
            await ask(api, "GET", "/api/monitoring/overview")
        assert daemon.pid == pid
        assert len(daemon.logged("stopping")) == 0
        assert "Traceback" not in daemon.log
        assert await daemon.stop() == 0


@asynccontextmanager
async def on_a_small_disk(what: str) -> AsyncIterator[tuple[OwnServer, Path]]:
    """Yield a server whose tables, or whole data directory, are on a disk of its own; and that disk."""
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="infoscreen-full-"))
    directory.chmod(0o711)  # noqa: ASYNC240 - one call
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        size = "40m" if what == "tables" else "220m"
        disk = stack.enter_context(mounted(directory / "disk", size, "postgres"))
        options = ("-c", "lc_messages=C", "-c", "min_wal_size=32MB", "-c", "max_wal_size=32MB")
        place = None if what == "tables" else disk
        server = stack.enter_context(own_server(*options, place=place))
        if what == "tables":
            connection = await admin(server, "postgres")
            await connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            await connection.close()
            await asyncio.to_thread(server.run, "createdb", "-D", "small", "fleet")
        else:
            await asyncio.to_thread(server.run, "createdb", "fleet")
        yield server, disk


async def use_up(server: OwnServer) -> None:
    """Write until the server can write no more."""
    connection = await admin(server)
    try:
        await connection.execute("CREATE TABLE junk (data text)")
        for _ in range(10_000):
            await connection.execute(
                "INSERT INTO junk SELECT repeat(md5(random()::text), 200) FROM generate_series(1, 200)"
            )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await connection.close(timeout=5)
    else:
        pytest.fail("the disk never became full")


@pytest.mark.parametrize("what", ["tables", "log"])
async def test_a_full_disk_of_the_server_is_waited_for(tmp_path: Path, broker: Broker, what: str) -> None:
    """Without room for tables the server refuses writes; without room for its log it ends itself."""
    async with (
        on_a_small_disk(what) as (server, disk),
        installed(tmp_path / "daemon", broker, DATABASE_URL=url_of(server)) as daemon,
        screen_at(broker, U) as screen,
        daemon.program() as api,
    ):
        await daemon.start()
        pid = daemon.pid
        screen.log("before")
        await ask_until(api, f"/api/clients?q={U}", lambda page: page["items"])
        filler = await asyncio.to_thread(fill, disk)
        await use_up(server)

        async def talk() -> None:
            for number in range(10_000):
                screen.beat()
                screen.log(f"line {number} ".ljust(4_000, "."))
                await until(lambda: screen.waiting < 5)

        async with asyncio.TaskGroup() as tasks:
            talking = tasks.create_task(talk())
            problem = await daemon.wait_for("/readyz", 503)
            assert "database" in problem["faults"]
            talking.cancel()
        if what == "tables":
            (line,) = daemon.logged("store_unavailable")
            assert line["trouble"] == "full"
        body = {"action": "restart_app", "reason": "r" * 2_000}
        async with api.post(f"/api/clients/{U}/commands", json=body) as response:
            assert response.status == 503
            assert response.headers["Retry-After"]
        for number in range(20):
            screen.log(f"more {number}")
        await until(lambda: not screen.waiting)
        filler.unlink()
        if what == "log":
            with suppress(subprocess.CalledProcessError):
                await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
        connection = await admin(server)
        await connection.execute("DROP TABLE IF EXISTS junk")
        await connection.close()
        await daemon.wait_for("/readyz", 200)
        await until(lambda: not screen.waiting)
        await assert_all_is_stored(server, screen)
        assert daemon.pid == pid
        assert daemon.alive
        assert "Traceback" not in daemon.log
        assert await daemon.stop() == 0


async def test_the_start_waits_for_the_server_says_so_once_and_answers_meanwhile(
    tmp_path: Path, server: OwnServer, broker: Broker
) -> None:
    async with at_work(tmp_path, server, broker) as (daemon, screen):
        async with restarted(server, "fast"):
            await daemon.launch()
            problem = await daemon.wait_for("/readyz", 503)
            assert "cannot be reached" in problem["faults"]["database"]
            screen.beat()
        await daemon.wait_for("/readyz", 200)
        assert len(daemon.logged("store_awaited")) == 1
        assert len(daemon.logged("store_seen")) == 1
        assert await daemon.stop() == 0


async def test_a_start_that_waits_stops_at_once(tmp_path: Path, server: OwnServer, broker: Broker) -> None:
    async with at_work(tmp_path, server, broker) as (daemon, _), restarted(server, "fast"):
        await daemon.launch()
        await daemon.wait_for("/healthz", 200)
        assert await daemon.stop(within=STOP_SECONDS) == 0
        assert "Traceback" not in daemon.log


async def test_it_stops_in_time_while_the_server_does_not_answer(
    tmp_path: Path, server: OwnServer, broker: Broker
) -> None:
    async with at_work(tmp_path, server, broker) as (daemon, screen):
        await daemon.start()
        async with locked(server):
            screen.log("stuck")
            await until(lambda: not screen.waiting)
            assert await daemon.stop(within=STOP_SECONDS) == 0


async def test_a_wrong_password_ends_the_start_with_a_sentence(
    tmp_path: Path, server: OwnServer, broker: Broker
) -> None:
    async with at_work(tmp_path, server, broker) as (daemon, _):
        wrong = server.url("fleet", "not-the-password")
        daemon._settings["DATABASE_URL"] = wrong
        await daemon.launch()
        assert await daemon.ended(30) == 1
        assert "does not let this user in (28P01)" in daemon.log
        assert "not-the-password" not in daemon.log
        assert "Traceback" not in daemon.log
