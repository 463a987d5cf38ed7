"""Backups of an SQLite database: made while it is in use, verified, rotated, and put back.

PostgreSQL has tools of its own; every function here says which, and refuses. All of them block.
"""

import contextlib
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from infoscreen.domain.errors import ToolFailed
from infoscreen.storage import address, schema
from infoscreen.storage.schema import Fitness

COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; left beside another file, it would change that one."""

LOCK_SECONDS = 10

_NAME = re.compile(r"infoscreen-\d{8}T\d{6}Z\.db")


@dataclass(frozen=True, slots=True)
class VerifiedBackup:
    """What is in a backup; ``fitness`` is how its schema compares with this code."""

    file: str
    bytes: int
    revision: str
    fitness: Fitness
    clients: int
    users: int


@dataclass(frozen=True, slots=True)
class Restored:
    """Which backup is in place now, where, and where that which was there is kept."""

    backup: VerifiedBackup
    database: str
    kept: str | None


def backup(url: str, file: Path) -> int:
    """Copy a database that may be in use to ``file``, checked, and return its size in bytes.

    The file appears under its name only when it is whole, readable by its owner only.

    Raises:
        ToolFailed: the file exists already.
        ToolFailed: the database is not SQLite, does not exist, or cannot be copied to that place.
    """
    source = database_file(url)
    if not source.is_file():
        raise ToolFailed(f"The database {source} does not exist; there is nothing to save.")
    if source.stat().st_size == 0:
        raise ToolFailed(f"The database {source} is an empty file: it is lost. There is nothing to save.")
    try:
        return _save(source, file)
    except (OSError, sqlite3.Error) as error:
        raise ToolFailed(f"Cannot save {source} as {file}: {error}.") from error


def back_up_into(url: str, directory: Path, keep: int, now: datetime) -> tuple[Path, int]:
    """Do as ``backup`` with a file named by the time, and remove all but the newest ``keep`` of them."""
    file = directory.absolute() / f"infoscreen-{now:%Y%m%dT%H%M%SZ}.db"
    size = backup(url, file)
    try:
        for old in backups_in(directory)[keep:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise ToolFailed(f"{file} is saved, but an old backup cannot be removed: {error}.") from error
    return file, size


def backups_in(directory: Path) -> list[Path]:
    """Return the backups that ``back_up_into`` made, the newest first."""
    if not directory.is_dir():
        return []
    return sorted((file for file in directory.iterdir() if _NAME.fullmatch(file.name)), reverse=True)


def verify(file: Path) -> VerifiedBackup:
    """Return what is in a backup, after reading every page, index and reference of it.

    Raises:
        ToolFailed: there is no such file.
        ToolFailed: it is no whole database of infoscreen.
    """
    if not file.is_file():
        raise ToolFailed(f"There is no file {file.absolute()}.")
    waiting = Path(f"{file}-wal")
    if waiting.exists() and waiting.stat().st_size:
        raise ToolFailed(
            f"{file.absolute()} was copied while it was in use: {waiting.name} beside it holds a part. "
            "Make a backup with `infoscreen db backup`, or open and close it once with sqlite3."
        )
    try:
        # Immutable: nothing is written beside a backup, which may be on a medium that is read only.
        with closing(_connected(file, "ro&immutable=1")) as connection:
            return _verified(connection, file)
    except (OSError, sqlite3.Error) as error:
        raise ToolFailed(f"{file.absolute()} is damaged or no database: {error}.") from error


def restore(url: str, file: Path, now: datetime) -> Restored:
    """Put a backup in the place of the database, and keep what was there beside it.

    Raises:
        ToolFailed: there is no such backup.
        ToolFailed: somebody has the database open.
        ToolFailed: the backup is damaged, or newer than this code; or the place cannot be written.
    """
    place = database_file(url)
    if file.exists() and place.exists() and file.samefile(place):
        raise ToolFailed(f"{file} is the database itself.")
    found = verify(file)
    if found.fitness is Fitness.NEWER:
        raise ToolFailed(
            f"{found.file} is at revision {found.revision}, which this infoscreen does not know: a newer one "
            "made it. Install that version first."
        )
    try:
        kept = _put_in_place(file, place, f"{now:%Y%m%dT%H%M%SZ}")
    except (OSError, sqlite3.Error) as error:
        raise ToolFailed(f"Cannot restore {found.file} as {place}: {error}.") from error
    return Restored(found, str(place), None if kept is None else str(kept))


def database_file(url: str) -> Path:
    """Return where an SQLite database is; raise ``ToolFailed`` with PostgreSQL's own tools for another."""
    try:
        found = address.parse(url)
    except ValueError as error:
        raise ToolFailed(f"DATABASE_URL: {error}.") from None
    if found.file is not None:
        return found.file
    name = _without_secrets(found)
    raise ToolFailed(
        "This is for SQLite only. For PostgreSQL use its own tools: "
        f"`pg_dump --format=custom --file=FILE {name}` saves, `pg_restore --list FILE` verifies, "
        "and, with the daemon stopped, "
        f"`pg_restore --clean --if-exists --single-transaction --dbname={name} FILE` restores."
    )


def _without_secrets(found: address.DatabaseAddress) -> str:
    parts = urlsplit(found.dsn)
    query = [pair for pair in parse_qsl(parts.query) if "pass" not in pair[0]]
    user = quote(found.url.username or "", safe="")
    return urlunsplit(
        ("postgresql", f"{user}@{parts.netloc.rpartition('@')[2]}", parts.path, urlencode(query), "")
    )


def _connected(file: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{file.absolute().as_uri()}?mode={mode}", uri=True, timeout=LOCK_SECONDS, check_same_thread=False
    )


def _save(source: Path, file: Path) -> int:
    if file.exists():
        raise ToolFailed(f"{file} exists already and is not overwritten.")
    with _part_of(file) as part:
        # Not mode=ro: a reader that may not write would leave the write-ahead log's files behind as its own.
        with closing(_connected(source, "rw")) as original, closing(sqlite3.connect(part)) as copy:
            original.backup(copy)
            # One file that is complete without a write-ahead log.
            copy.execute("PRAGMA journal_mode=DELETE")
            verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            raise ToolFailed(f"{source} is damaged, the copy was thrown away: {verdict}.")
        _to_disk(part)
        try:
            file.hardlink_to(part)  # unlike a rename, never over a file that appeared meanwhile
        except FileExistsError:
            raise ToolFailed(f"{file} exists already and is not overwritten.") from None
    _to_disk(file.absolute().parent)
    return file.stat().st_size


def _verified(connection: sqlite3.Connection, file: Path) -> VerifiedBackup:
    verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise ToolFailed(f"{file.absolute()} is damaged: {verdict}.")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"alembic_version", "clients", "client_commands"} <= tables:
        raise ToolFailed(f"{file.absolute()} is no database of infoscreen.")
    orphans = {row[0] for row in connection.execute("PRAGMA foreign_key_check")}
    if orphans:
        raise ToolFailed(
            f"{file.absolute()} is damaged: rows of {', '.join(sorted(orphans))} belong to nothing."
        )
    (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return VerifiedBackup(
        file=str(file.absolute()),
        bytes=file.stat().st_size,
        revision=revision,
        fitness=schema.fitness_of(revision),
        clients=connection.execute("SELECT count(*) FROM clients").fetchone()[0],
        users=connection.execute("SELECT count(*) FROM users").fetchone()[0] if "users" in tables else 0,
    )


def _put_in_place(file: Path, place: Path, stamp: str) -> Path | None:
    """Copy the backup into the place; return where the earlier database is now."""
    kept = place.with_name(f"{place.name}.before-restore-{stamp}")
    like = place if place.exists() else place.parent
    with _part_of(place) as part:
        shutil.copyfile(file, part)
        # A copy may differ from what was verified.
        with closing(_connected(part, "rw")) as copy:
            copy.execute("PRAGMA journal_mode=DELETE")
            _verified(copy, part)
        own_as(part, like)
        _to_disk(part)
        with _nobody_uses(place):
            for companion in COMPANIONS:
                beside = Path(f"{place}{companion}")
                if beside.exists():
                    beside.rename(f"{kept}{companion}")
            if place.exists():
                place.rename(kept)
            part.rename(place)
        _to_disk(place.parent)
    return kept if kept.exists() else None


@contextlib.contextmanager
def _nobody_uses(place: Path) -> Iterator[None]:
    """Hold off others while the file is replaced; raise ``ToolFailed`` if one has it open.

    An open write-ahead log is merged into the file before, so that it is kept as a whole.
    """
    if not place.exists() or place.stat().st_size == 0:
        yield
        return
    with closing(_connected(place, "rw")) as connection:
        connection.isolation_level = None
        connection.execute("PRAGMA busy_timeout=0")
        try:
            # Leaving the write-ahead log needs a lock that nobody gets while another connection is open.
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise ToolFailed(
                    f"{place} is in use. Stop the daemon first, and whatever else has it open."
                ) from None
            raise
        except sqlite3.DatabaseError:
            pass  # so damaged that SQLite cannot read it; its files are kept as they are
        yield


@contextlib.contextmanager
def _part_of(file: Path) -> Iterator[Path]:
    """Yield an empty file beside ``file``, for its owner only; it is gone afterwards."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.absolute().parent)
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def own_as(file: Path, like: Path) -> None:
    """Give the file the owner of another one, which only root can and need do."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(file, owner.st_uid, owner.st_gid)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
