"""The schema's version: is the database fit for this code, and bring it there.

Rows are moved by ``migrations/``, never here. A whole upgrade is one transaction: it is done or it never
happened.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from infoscreen.domain.errors import DatabaseNotReady, StoreTrouble, StoreUnavailable
from infoscreen.resources import resource
from infoscreen.storage import address as addresses
from infoscreen.storage import locks
from infoscreen.storage.engine import BUSY_ATTEMPTS, Store
from infoscreen.storage.locks import AdvisoryLock
from infoscreen.storage.trouble import naming_trouble

UPGRADE = "Run `infoscreen db upgrade`."

LOST = (
    "Restore a backup with `infoscreen db restore FILE`; "
    "`infoscreen db upgrade --create` begins with an empty one."
)

CHECK_SECONDS = 60.0
"""How long the pages of a file are looked at; a large one takes longer."""

WORTH_WAITING = frozenset(
    {
        StoreTrouble.UNREACHABLE,
        StoreTrouble.STARTING,
        StoreTrouble.NO_CONNECTION_FREE,
        StoreTrouble.LOCKED,
        StoreTrouble.TIMED_OUT,
        StoreTrouble.CONFLICT,
    }
)
"""What passes by itself, so that a start waits for it.

A refused password, an unknown database, a damaged file do not: an error that ends the start is seen, a daemon
that waits without end looks healthy. systemd starts the daemon again.
"""

ADVICE = {StoreTrouble.DAMAGED: "Stop everything that uses it and restore a backup."}


class Fitness(StrEnum):
    """How the database's schema stands to this code."""

    CURRENT = "current"
    EMPTY = "empty"
    BEHIND = "behind"
    NEWER = "newer"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The database's revision (None before the first migration), the one this code needs, and the verdict."""

    revision: str | None
    needed: str
    fitness: Fitness


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Where an upgrade began and ended; equal when there was nothing to do."""

    before: str | None
    after: str


async def check(store: Store) -> None:
    """Return when the database is fit to be served.

    Raises:
        DatabaseNotReady: it is not migrated, behind, newer than this code, damaged, or cannot be opened.
        StoreUnavailable: it cannot be reached, or is locked; waiting may help.
    """
    with _trouble_named(store.name, but=WORTH_WAITING):
        state = await _state(store)
    match state.fitness:
        case Fitness.CURRENT:
            return
        case Fitness.EMPTY:
            raise DatabaseNotReady(f"{store.name} {_what_is_empty(store)}")
        case Fitness.BEHIND:
            raise DatabaseNotReady(
                f"{store.name} is at revision {state.revision}, this infoscreen needs {state.needed}. "
                + UPGRADE
            )
        case Fitness.NEWER:
            raise _newer(store, state.revision)


async def check_url(url: str) -> None:
    """Do as ``check`` for a database that nobody has opened yet; all trouble is ``DatabaseNotReady``."""
    store = _store(url)
    try:
        with _trouble_named(store.name):
            await check(store)
    finally:
        await store.close()


async def current(url: str) -> SchemaState:
    """Return how the database stands; raise ``DatabaseNotReady`` when it cannot be opened."""
    store = _store(url)
    try:
        with _trouble_named(store.name):
            return await _state(store)
    finally:
        await store.close()


def _what_is_empty(store: Store) -> str:
    file = sqlite_file(store.url)
    if file is None or not file.exists() or file.stat().st_size > 0:
        return f"is not set up yet. {UPGRADE}"
    return f"is an empty file: the database is lost. {LOST}"


OTHER_UPGRADE_SECONDS = 60
"""How long an upgrade of an SQLite database waits for another one, or for another program that writes."""


async def upgrade(url: str) -> Upgrade:
    """Migrate to the newest revision; an SQLite file is created if need be.

    Raises:
        DatabaseNotReady: it cannot be opened, is newer than this code, or a migration failed; it is then
            as it was before.
    """
    async with migration(url) as connection:
        before = await connection.run_sync(_revision)
        if before is not None and before not in _known():
            raise _newer(_store(url), before)
        await connection.run_sync(_run_upgrade)
        after = await connection.run_sync(_revision)
    return Upgrade(before, after or "")


@asynccontextmanager
async def migration(url: str) -> AsyncIterator[AsyncConnection]:
    """Open the transaction in which migrations run, and hold off any other one.

    SQLite cannot change a table but by copying it, and dropping the old copy would delete the child rows;
    so foreign keys are off meanwhile and all are checked before the commit.

    Raises:
        DatabaseNotReady: it cannot be opened, or what was done inside failed; it is then as it was before.
    """
    store = _store(url, create=True)
    _check_place(store)
    try:
        with _trouble_named(store.name), _file_made(sqlite_file(url)):
            async with store.writers.connect() as connection:
                if connection.dialect.name == "sqlite":
                    await _prepare_sqlite(connection)
                    await connection.execution_options(infoscreen_immediate=True)
                async with connection.begin():
                    await locks.hold(connection, AdvisoryLock.UPGRADE)
                    yield connection
                    if connection.dialect.name == "sqlite":
                        await _check_foreign_keys(connection)
    finally:
        await store.close()


@contextmanager
def _file_made(file: Path | None) -> Iterator[None]:
    """Make an SQLite file that does not exist, for its owner only from the first moment.

    Root makes it for whom the directory belongs to: the daemon has to write it. If nothing becomes of it, it
    goes again, since an empty file counts as a lost database.
    """
    if file is None or file.exists():
        yield
        return
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        if os.geteuid() == 0:
            owner = file.parent.stat()
            os.chown(file, owner.st_uid, owner.st_gid)
        yield
    finally:
        if file.exists() and file.stat().st_size == 0:
            file.unlink()


def sqlite_file(url: str) -> Path | None:
    """Return where an SQLite database is kept, None for another kind."""
    return addresses.parse(url).file


def name_of(url: str) -> str:
    """Return what to call the database at the beginning of a sentence; no secret is part of it."""
    return addresses.parse(url).name


async def check_writable(store: Store) -> None:
    """Return when somebody may write; raise ``StoreUnavailable`` with the reason when not."""
    async with store.write() as connection:
        # An empty transaction would succeed on a database that can only be read.
        await connection.execute(text("UPDATE alembic_version SET version_num = version_num"))


async def damage(store: Store) -> str | None:
    """Return what is wrong with an SQLite file, indexes included, in SQLite's words; None if nothing is.

    Looks at every row for at most ``CHECK_SECONDS``; what is found afterwards is not told.
    """
    if sqlite_file(store.url) is None:
        return None
    try:
        async with asyncio.timeout(CHECK_SECONDS), store.read(seconds=CHECK_SECONDS) as connection:
            found = (await connection.execute(text("PRAGMA integrity_check(1)"))).scalar()
    except TimeoutError:
        return None
    except StoreUnavailable as trouble:
        if trouble.trouble is StoreTrouble.DAMAGED:
            return str(trouble)
        raise
    return None if found == "ok" else str(found)


def _store(url: str, *, create: bool = False) -> Store:
    try:
        return Store(url, create=create)
    except ValueError as error:
        raise DatabaseNotReady(f"DATABASE_URL: {error}.") from error


async def _state(store: Store) -> SchemaState:
    revision = None
    file = sqlite_file(store.url)
    # An empty file is left alone: opening it would already write to it.
    if file is None or (file.exists() and (not file.is_file() or file.stat().st_size > 0)):
        _check_place(store)
        # Not store.read(): the start keeps that closed until this was looked at.
        with naming_trouble():
            async with store.engine.connect() as connection:
                revision = await connection.run_sync(_revision)
    return SchemaState(revision, _needed(), fitness_of(revision))


def fitness_of(revision: str | None) -> Fitness:
    """Return how a schema at this revision compares with this code."""
    if revision is None:
        return Fitness.EMPTY
    if revision not in _known():
        return Fitness.NEWER
    return Fitness.CURRENT if revision == _needed() else Fitness.BEHIND


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resource("migrations")).replace("%", "%%"))
    return config


def _known() -> frozenset[str]:
    scripts = ScriptDirectory.from_config(_config())
    return frozenset(script.revision for script in scripts.walk_revisions())


def _needed() -> str:
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _run_upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def _prepare_sqlite(connection: AsyncConnection) -> None:
    """Switch foreign keys off, and wait for another upgrade as PostgreSQL's lock does."""
    # Inside a transaction the first pragma does nothing, and SQLAlchemy would begin one; so below it.
    driver = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise RuntimeError("a connection that was just opened has no driver connection")
    for pragma in ("foreign_keys=OFF", f"busy_timeout={OTHER_UPGRADE_SECONDS * 1000 // BUSY_ATTEMPTS}"):
        await (await driver.execute(f"PRAGMA {pragma}")).close()


async def _check_foreign_keys(connection: AsyncConnection) -> None:
    orphans = (await connection.execute(text("PRAGMA foreign_key_check"))).all()
    if orphans:
        tables = ", ".join(sorted({row[0] for row in orphans}))
        raise DatabaseNotReady(
            f"{len(orphans)} rows of {tables} would belong to nothing afterwards, so nothing was changed."
        )


@contextmanager
def _trouble_named(name: str, *, but: frozenset[StoreTrouble] = frozenset()) -> Iterator[None]:
    try:
        with naming_trouble():
            yield
    except StoreUnavailable as trouble:
        if trouble.trouble in but:
            raise
        raise _unusable(name, str(trouble).rstrip("."), ADVICE.get(trouble.trouble)) from trouble
    except (DBAPIError, OSError, CommandError) as error:
        said = str(error.orig if isinstance(error, DBAPIError) else error).strip()
        raise _unusable(name, said.splitlines()[0].rstrip(".") if said else type(error).__name__) from error


def _check_place(store: Store) -> None:
    # Better said than SQLite's "unable to open".
    file = sqlite_file(store.url)
    if file is None:
        return
    if file.exists():
        if not file.is_file() or not os.access(file, os.R_OK | os.W_OK):
            raise _unusable(store.name, "it is no file that this user may read and write")
    elif not file.parent.is_dir():
        raise _unusable(store.name, f"there is no directory {file.parent}")
    elif not os.access(file.parent, os.W_OK | os.X_OK):
        raise _unusable(store.name, f"this user may not create files in {file.parent}")


def _unusable(name: str, reason: str, advice: str | None = None) -> DatabaseNotReady:
    usual = "Check DATABASE_URL, and that the database runs and lets this user in."
    return DatabaseNotReady(f"{name} cannot be used: {reason}. {advice or usual}")


def _newer(store: Store, revision: str | None) -> DatabaseNotReady:
    return DatabaseNotReady(
        f"{store.name} is at revision {revision}, which this infoscreen does not know: a newer one made it. "
        "Upgrade infoscreen, or restore a backup from before."
    )
