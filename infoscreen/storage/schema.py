"""The schema's version: is the database fit for this code, bring it there, and save it before.

Rows are moved by ``migrations/``, never here. A whole upgrade is one transaction: it is done or it never
happened.
"""

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
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

from infoscreen.domain.errors import DatabaseNotReady, StoreTrouble, StoreUnavailable, ToolFailed
from infoscreen.resources import resource
from infoscreen.storage import address as addresses
from infoscreen.storage.engine import Store
from infoscreen.storage.trouble import naming_trouble

UPGRADE_LOCK = 0x1F05C4EE
"""PostgreSQL's advisory lock for upgrades, so that two at once queue; any number, but always the same."""

UPGRADE = "Run `infoscreen db upgrade`."

CHECK_SECONDS = 60.0
"""How long the pages of a file are looked at; a large one takes longer."""

WORTH_WAITING = frozenset(
    {
        *(
            StoreTrouble.UNREACHABLE,
            StoreTrouble.STARTING,
            StoreTrouble.NO_CONNECTION_FREE,
            StoreTrouble.LOCKED,
        ),
        *(StoreTrouble.TIMED_OUT, StoreTrouble.CONFLICT),
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
            raise DatabaseNotReady(f"{store.name} {_what_is_empty(store)}. {UPGRADE}")
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
        return "is not set up yet"
    return "is an empty file: if there was a database, it is lost, restore a backup; if not, set it up"


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
        with _trouble_named(store.name):
            async with store.writers.connect() as connection:
                if connection.dialect.name == "sqlite":
                    await _foreign_keys_off(connection)
                    await connection.execution_options(infoscreen_immediate=True)
                async with connection.begin():
                    if connection.dialect.name == "postgresql":
                        await connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"))
                    yield connection
                    if connection.dialect.name == "sqlite":
                        await _check_foreign_keys(connection)
    finally:
        await store.close()


def sqlite_file(url: str) -> Path | None:
    """Return where an SQLite database is kept, None for another kind."""
    return addresses.parse(url).file


async def check_writable(store: Store) -> None:
    """Return when somebody may write; raise ``StoreUnavailable`` with the reason when not."""
    async with store.write() as connection:
        # An empty transaction would succeed on a database that can only be read.
        await connection.execute(text("UPDATE alembic_version SET version_num = version_num"))


async def damage(store: Store) -> str | None:
    """Return what is wrong with the pages of an SQLite file, in SQLite's words; None when nothing is.

    Looks at every page for at most ``CHECK_SECONDS``; what is found afterwards is not told.
    """
    if sqlite_file(store.url) is None:
        return None
    try:
        async with asyncio.timeout(CHECK_SECONDS), store.read() as connection:
            found = (await connection.execute(text("PRAGMA quick_check(1)"))).scalar()
    except TimeoutError:
        return None
    except StoreUnavailable as trouble:
        if trouble.trouble is StoreTrouble.DAMAGED:
            return str(trouble)
        raise
    return None if found == "ok" else str(found)


async def backup(url: str, file: Path) -> int:
    """Copy a database that may be in use to ``file``, checked, and return its size in bytes.

    The file appears under its name only when it is whole.

    Raises:
        ToolFailed: the file exists already.
        ToolFailed: the database is not SQLite, does not exist, or cannot be copied to that place.
    """
    source = sqlite_file(url)
    if source is None:
        raise ToolFailed(
            "This saves SQLite files only. For PostgreSQL use its own tool: "
            "`pg_dump --format=custom --file=FILE DATABASE`, and `pg_restore` to go back."
        )
    if not source.is_file():
        raise ToolFailed(f"The database {source} does not exist; there is nothing to save.")
    try:
        return await asyncio.to_thread(_copy_sqlite, source, file)
    except (OSError, sqlite3.Error) as error:
        raise ToolFailed(f"Cannot save {source} as {file}: {error}.") from error


def _copy_sqlite(source: Path, file: Path) -> int:
    if file.exists():
        raise ToolFailed(f"{file} exists already and is not overwritten.")
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    part = Path(name)
    try:
        # Not mode=ro: a reader that may not write would leave the write-ahead log's files behind as its own.
        with (
            closing(
                sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True, timeout=10)
            ) as original,
            closing(sqlite3.connect(part)) as copy,
        ):
            original.backup(copy)
            # One file that is complete without a write-ahead log.
            copy.execute("PRAGMA journal_mode=DELETE")
            verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            raise ToolFailed(f"{source} is damaged, the copy was thrown away: {verdict}.")
        os.fsync(descriptor)
        if file.exists():
            raise ToolFailed(f"{file} exists already and is not overwritten.")
        part.rename(file)
    finally:
        os.close(descriptor)
        part.unlink(missing_ok=True)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return file.stat().st_size


def _store(url: str, *, create: bool = False) -> Store:
    try:
        return Store(url, create=create)
    except ValueError as error:
        raise DatabaseNotReady(f"DATABASE_URL: {error}.") from error


async def _state(store: Store) -> SchemaState:
    known, needed = _known(), _needed()
    revision = None
    file = sqlite_file(store.url)
    # An empty file is left alone: opening it would already write to it.
    if file is None or (file.exists() and (not file.is_file() or file.stat().st_size > 0)):
        _check_place(store)
        # Not store.read(): the start keeps that closed until this was looked at.
        with naming_trouble():
            async with store.engine.connect() as connection:
                revision = await connection.run_sync(_revision)
    if revision is None:
        return SchemaState(None, needed, Fitness.EMPTY)
    if revision not in known:
        return SchemaState(revision, needed, Fitness.NEWER)
    return SchemaState(revision, needed, Fitness.CURRENT if revision == needed else Fitness.BEHIND)


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


async def _foreign_keys_off(connection: AsyncConnection) -> None:
    # Inside a transaction the pragma does nothing, and SQLAlchemy would begin one; so below it.
    driver = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise RuntimeError("a connection that was just opened has no driver connection")
    await (await driver.execute("PRAGMA foreign_keys=OFF")).close()


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
