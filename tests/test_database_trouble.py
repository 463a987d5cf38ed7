"""A database that fails with each code: what is trouble, and that every loop and every route survives it."""

import asyncio
import errno
import logging
import sqlite3
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from asyncpg import exceptions as pg
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import StoreTrouble, StoreUnavailable
from infoscreen.services.loops import every
from infoscreen.services.monitoring import Monitoring
from infoscreen.storage.engine import Store
from infoscreen.storage.trouble import SENTENCES, naming_trouble, trouble_of
from infoscreen.web.routes import ROUTES
from tests.spine import Spine, open_spine, sqlite_url, uuid_of
from tests.test_web_permissions import path_of
from tests.waiting import until
from tests.web import SAME_ORIGIN, Site

U = uuid_of(1)


def sqlite_error(code: int, words: str = "quite something") -> sqlite3.Error:
    kind = sqlite3.IntegrityError if code & 0xFF == sqlite3.SQLITE_CONSTRAINT else sqlite3.OperationalError
    error = kind(words)
    error.sqlite_errorcode = code
    error.sqlite_errorname = next(
        name for name in dir(sqlite3) if name.startswith("SQLITE_") and getattr(sqlite3, name) == code
    )
    return error


def postgres_error(sqlstate: str, words: str = "etwas ist schiefgegangen") -> pg.PostgresError:
    error = pg.PostgresError.new({"C": sqlstate, "M": words, "S": "FATAL"})
    assert isinstance(error, pg.PostgresError)
    assert error.sqlstate == sqlstate
    return error


def wrapped(error: Exception) -> DBAPIError:
    """Return the error as SQLAlchemy raises it."""
    if isinstance(error, sqlite3.IntegrityError):
        return IntegrityError("INSERT", {}, error)
    if isinstance(error, sqlite3.Error):
        return OperationalError("SELECT", {}, error)
    adapted = AsyncAdapt_asyncpg_dbapi.Error(str(error), error)  # type: ignore[no-untyped-call]
    adapted.__cause__ = error
    return DBAPIError("SELECT", {}, adapted)


SQLITE_TROUBLE = {
    sqlite3.SQLITE_BUSY: StoreTrouble.LOCKED,
    sqlite3.SQLITE_BUSY_SNAPSHOT: StoreTrouble.LOCKED,
    sqlite3.SQLITE_LOCKED: StoreTrouble.LOCKED,
    sqlite3.SQLITE_FULL: StoreTrouble.FULL,
    sqlite3.SQLITE_IOERR_FSYNC: StoreTrouble.INPUT_OUTPUT,
    sqlite3.SQLITE_IOERR_READ: StoreTrouble.INPUT_OUTPUT,
    sqlite3.SQLITE_CANTOPEN: StoreTrouble.INPUT_OUTPUT,
    sqlite3.SQLITE_READONLY: StoreTrouble.READ_ONLY,
    sqlite3.SQLITE_READONLY_DBMOVED: StoreTrouble.READ_ONLY,
    sqlite3.SQLITE_CORRUPT: StoreTrouble.DAMAGED,
    sqlite3.SQLITE_NOTADB: StoreTrouble.DAMAGED,
}
POSTGRES_TROUBLE = {
    "08006": StoreTrouble.UNREACHABLE,
    "08003": StoreTrouble.UNREACHABLE,
    "57P01": StoreTrouble.STARTING,
    "57P02": StoreTrouble.STARTING,
    "57P03": StoreTrouble.STARTING,
    "57014": StoreTrouble.TIMED_OUT,
    "53100": StoreTrouble.FULL,
    "53200": StoreTrouble.FULL,
    "53300": StoreTrouble.NO_CONNECTION_FREE,
    "53400": StoreTrouble.NO_CONNECTION_FREE,
    "40001": StoreTrouble.CONFLICT,
    "40P01": StoreTrouble.CONFLICT,
    "55P03": StoreTrouble.LOCKED,
    "25006": StoreTrouble.READ_ONLY,
    "25P03": StoreTrouble.TIMED_OUT,
    "58030": StoreTrouble.INPUT_OUTPUT,
    "XX001": StoreTrouble.DAMAGED,
}
OURS: list[Exception] = [
    sqlite_error(sqlite3.SQLITE_CONSTRAINT_UNIQUE, "database is locked and busy, disk is full"),
    sqlite_error(sqlite3.SQLITE_CONSTRAINT_CHECK, "CHECK constraint failed: not_busy"),
    sqlite_error(sqlite3.SQLITE_ERROR, "no such table: locked"),
    sqlite_error(sqlite3.SQLITE_MISMATCH, "busy"),
    sqlite3.ProgrammingError("Cannot operate on a closed database, which is locked"),
    postgres_error("23505", 'duplicate key value violates unique constraint "busy", deadlock detected'),
    postgres_error("22P02", "disk is full"),
    postgres_error("42P01", 'relation "locked" does not exist'),
    postgres_error("25P02"),
    ValueError("database is locked"),
    OSError(errno.EINVAL, "database is locked"),
]


def all_trouble() -> list[Exception]:
    return [
        *map(sqlite_error, SQLITE_TROUBLE),
        *map(postgres_error, POSTGRES_TROUBLE),
        ConnectionRefusedError(errno.ECONNREFUSED, "Verbindungsaufbau abgelehnt"),
        OSError(errno.ENOSPC, "Kein Platz"),
        TimeoutError(),
    ]


@pytest.mark.parametrize(("code", "trouble"), SQLITE_TROUBLE.items())
def test_sqlites_trouble_is_known_by_its_result_code(code: int, trouble: StoreTrouble) -> None:
    for error in (sqlite_error(code), wrapped(sqlite_error(code))):
        found = trouble_of(error)
        assert found is not None
        assert found.trouble is trouble
        assert found.code is not None
        assert found.code in str(found)


@pytest.mark.parametrize(("sqlstate", "trouble"), POSTGRES_TROUBLE.items())
def test_postgresqls_trouble_is_known_by_its_sqlstate_in_any_language(
    sqlstate: str, trouble: StoreTrouble
) -> None:
    for error in (postgres_error(sqlstate), wrapped(postgres_error(sqlstate))):
        found = trouble_of(error)
        assert found is not None
        assert (found.trouble, found.code) == (trouble, sqlstate)


@pytest.mark.parametrize("error", OURS, ids=str)
def test_our_own_faults_are_no_trouble_whatever_their_text_says(error: Exception) -> None:
    assert trouble_of(error) is None
    if isinstance(error, sqlite3.Error | pg.PostgresError):
        assert trouble_of(wrapped(error)) is None
    with pytest.raises(type(error)), naming_trouble():
        raise error


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), StoreTrouble.UNREACHABLE),
        (ConnectionResetError(errno.ECONNRESET, "x"), StoreTrouble.UNREACHABLE),
        (OSError(errno.ENETUNREACH, "x"), StoreTrouble.UNREACHABLE),
        (OSError(errno.ENOSPC, "x"), StoreTrouble.FULL),
        (OSError(errno.EIO, "x"), StoreTrouble.INPUT_OUTPUT),
        (OSError(errno.EROFS, "x"), StoreTrouble.READ_ONLY),
        (OSError(errno.EMFILE, "x"), StoreTrouble.NO_CONNECTION_FREE),
        (TimeoutError(), StoreTrouble.TIMED_OUT),
        (PoolTimeoutError(), StoreTrouble.NO_CONNECTION_FREE),
        (pg.InterfaceError("connection is closed"), StoreTrouble.UNREACHABLE),
        (wrapped(pg.InterfaceError("cannot call Transaction.commit()")), StoreTrouble.UNREACHABLE),
        (pg.ConnectionDoesNotExistError("connection was closed in the middle"), StoreTrouble.UNREACHABLE),
    ],
    ids=repr,
)
def test_the_systems_and_the_drivers_trouble_is_known_by_errno_and_by_type(
    error: Exception, trouble: StoreTrouble
) -> None:
    found = trouble_of(error)
    assert found is not None
    assert found.trouble is trouble


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (OSError("Multiple exceptions: [Errno 111] ..."), StoreTrouble.UNREACHABLE),
        (FileNotFoundError(errno.ENOENT, "no socket"), StoreTrouble.UNREACHABLE),
        (ConnectionError("unexpected connection_lost() call"), StoreTrouble.UNREACHABLE),
        (ssl.SSLError(1, "handshake"), StoreTrouble.UNREACHABLE),
        (ssl.SSLCertVerificationError(1, "self-signed"), StoreTrouble.REFUSED),
        (postgres_error("28P01"), StoreTrouble.REFUSED),
        (postgres_error("28000"), StoreTrouble.REFUSED),
        (postgres_error("3D000"), StoreTrouble.REFUSED),
        (postgres_error("57P03"), StoreTrouble.STARTING),
        (postgres_error("53300"), StoreTrouble.NO_CONNECTION_FREE),
        (asyncpg.InternalClientError("got an empty response"), StoreTrouble.UNREACHABLE),
    ],
    ids=repr,
)
def test_while_connecting_every_failure_of_the_way_there_is_trouble(
    error: Exception, trouble: StoreTrouble
) -> None:
    found = trouble_of(error, connecting=True)
    assert found is not None
    assert found.trouble is trouble


def test_each_trouble_has_a_sentence() -> None:
    assert set(SENTENCES) == set(StoreTrouble)


@contextmanager
def failing(
    store: Store, error: Exception, *, after: int = 0, writes_only: bool = False
) -> Iterator[list[int]]:
    """Let every transaction fail as it begins, from the given number on."""
    begun = [0]

    def fail(connection: object, *arguments: object) -> None:
        begun[0] += 1
        if begun[0] > after:
            raise wrapped(error) if isinstance(error, sqlite3.Error | pg.PostgresError) else error

    engines = [store.engine, store.writers]
    for engine in engines:
        event.listen(engine.sync_engine, "begin", fail, insert=True)
    try:
        yield begun
    finally:
        for engine in engines:
            event.remove(engine.sync_engine, "begin", fail)


def loops_of(spine: Spine) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return the steps of the daemon's loops by name, as ``app.py`` runs them."""
    return {
        "watch": spine.watch.look,
        "sweep": spine.watch.sweep,
        "tidy": spine.watch.tidy,
        "outbox": spine.outbox.step,
        "recovery": spine.recovering.poll,
    }


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["event"] for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with open_spine(sqlite_url(tmp_path)) as parts:
        yield parts


@pytest.mark.parametrize("error", all_trouble(), ids=repr)
async def test_every_loop_skips_its_turn_says_so_once_and_goes_on(
    spine: Spine, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await spine.beat(U)
    for name, step in loops_of(spine).items():
        caplog.clear()
        loop = asyncio.create_task(every(1, step, spine.clock))
        await spine.clock.wait_for_sleepers()
        with failing(spine.store, error) as begun:
            for turn in range(1, 4):
                spine.clock.advance(1)
                await until(lambda turn=turn: begun[0] >= turn)  # type: ignore[misc]
                await spine.clock.wait_for_sleepers()
        assert warnings_in(caplog) == ["store_unavailable"], name
        spine.clock.advance(1)
        await until(lambda: len(warnings_in(caplog)) > 1)
        assert warnings_in(caplog) == ["store_unavailable", "store_back"], name
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_a_loop_that_never_waits_does_not_spin_while_there_is_trouble(spine: Spine) -> None:
    with failing(spine.store, postgres_error("57P03")) as begun:
        loop = asyncio.create_task(every(0, spine.outbox.step, spine.clock))
        await spine.clock.wait_for_sleepers()
        for _ in range(100):
            await asyncio.sleep(0)
        assert begun[0] == 1
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


@pytest.mark.parametrize("error", all_trouble(), ids=repr)
async def test_ingest_keeps_its_batch_until_it_is_stored(spine: Spine, error: Exception) -> None:
    with failing(spine.store, error) as begun:
        hearing = asyncio.create_task(spine.beat(U))
        for _ in range(3):
            await spine.clock.wait_for_sleepers()
            assert not hearing.done()
            spine.clock.advance(1)
        assert begun[0] >= 3
        readiness = await Monitoring(spine.store, spine.clock, spine.link, spine.ingest).readiness()
        assert not readiness.ready
        assert "database" in readiness.faults
        await spine.clock.wait_for_sleepers()
    spine.clock.advance(1)
    await hearing
    assert (await spine.client(U)).heartbeats == 1


OPEN = {"/healthz", "/metrics", "/openapi.json", "/login"}
"""What is answered without the database."""


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize(
    "error",
    [sqlite_error(sqlite3.SQLITE_BUSY), postgres_error("57P03"), postgres_error("25006"), TimeoutError()],
    ids=repr,
)
async def test_every_route_answers_503_with_retry_after_in_json_or_as_a_page(
    site: Site, error: Exception, after: int
) -> None:
    browser = await site.browser(Role.ADMIN)
    await site.spine.beat(U)
    unavailable = 0
    for language, sentence in (("de", "Die Datenbank"), ("en", "The database")):
        for route in ROUTES:
            if after and (route.content == "text/event-stream" or route.path.endswith("logout")):
                continue  # once begun it lasts; and then nobody is signed in any more
            accepted = "text/html" if route.html else "application/json"
            headers = {"Accept-Language": language, "Accept": accepted, **SAME_ORIGIN}
            with failing(site.spine.store, error, after=after) as begun:
                async with browser.request(
                    route.method, path_of(route), headers=headers, allow_redirects=False
                ) as response:
                    text = await response.text()
            where = (route.method, route.path, response.status, text[:300])
            failed = begun[0] > after
            assert response.status < 500 or response.status == 503, where
            if not failed or route.path in OPEN:
                continue
            if response.status == 503:
                unavailable += 1
                assert response.headers["Retry-After"], where
                assert sentence in text or not route.html, where
                assert route.html or response.content_type == "application/problem+json", where
            elif after == 0:
                assert route.role is None, where
    behind_a_role = [route for route in ROUTES if route.role is not None]
    assert unavailable >= (2 * len(behind_a_role) if after == 0 else 1)


async def test_a_lost_commit_says_that_it_may_have_been_made(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path), create=True)

    def fail(connection: object) -> None:
        raise wrapped(postgres_error("08006"))

    async with store.write() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (x)")
    event.listen(store.writers.sync_engine, "commit", fail)
    with pytest.raises(StoreUnavailable) as caught:
        async with store.write() as connection:
            await connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    assert caught.value.outcome_unknown
    event.remove(store.writers.sync_engine, "commit", fail)
    with failing(store, postgres_error("08006")), pytest.raises(StoreUnavailable) as caught:
        async with store.write():
            pass
    assert not caught.value.outcome_unknown
    await store.close()
