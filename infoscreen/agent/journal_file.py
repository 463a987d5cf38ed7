"""The agent's journal on disk: a small SQLite database with the newest commands and the acks not yet sent.

Blocks, so call it in a thread; calls take turns. A record that must survive a power cut is on the disk when
``append`` returns; a power loss at any moment leaves what was there. The journal in memory decides what is
kept, so the number of rows is bounded by it.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from infoscreen.agent import old_journal
from infoscreen.agent.protocol.journal import (
    AckGiven,
    AckSent,
    Entry,
    Forgotten,
    JournalContents,
    Linked,
    Lost,
    Record,
    StateAtStart,
)
from infoscreen.domain.errors import BadMessage
from infoscreen.wire.messages import CommandAck, decode_command

log = logging.getLogger(__name__)

FILE = "journal.sqlite"
OLD_FILE = "journal"
"""What agents before this one wrote: a line for each record."""
WAIT_SECONDS = 1.0
"""How long somebody else who looks into the file may hold it."""
CHECKPOINT_PAGES = 100

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS commands (command_id TEXT PRIMARY KEY, serial INTEGER NOT NULL,"
    " command TEXT NOT NULL, ack TEXT NOT NULL, boot_id TEXT, app_started_at TEXT)",
    "CREATE TABLE IF NOT EXISTS unsent (serial INTEGER PRIMARY KEY, ack TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS link (connections INTEGER NOT NULL, last_disconnect_at TEXT)",
    "CREATE TABLE IF NOT EXISTS lost (at TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS taken_over (file TEXT PRIMARY KEY)",
)
TABLES = ("commands", "unsent", "link", "lost")

NOT_SQLITE = -1
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, NOT_SQLITE})
"""SQLITE_ERROR is a statement that does not fit what is in the file, NOT_SQLITE a text that is no UTF-8."""
PASSING = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""Trouble after which the same connection can be used again."""


class JournalUnavailable(Exception):
    """The journal cannot be read or written just now; the text says why."""


class _Damaged(Exception):
    """What is in the file is no journal."""


class JournalFile:
    """The database below ``directory``, not yet opened."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._old = directory / OLD_FILE
        self._database: sqlite3.Connection | None = None
        self._place = (0, 0)
        # A cancelled task leaves its call running in a thread; the next one must not use the connection yet.
        self._turn = threading.RLock()

    @property
    def is_open(self) -> bool:
        """Tell whether ``append`` can be called; ``open`` must come first at the start and after trouble."""
        return self._database is not None

    def open(self, now: datetime) -> JournalContents:
        """Open the file and return what it knows; a damaged one is moved aside and said to be lost ``now``.

        Raises:
            JournalUnavailable: it cannot be read or written.
        """
        with self._turn:
            self.close()
            try:
                try:
                    return self._open()
                except _Damaged as damage:
                    self._move_aside(str(damage))
                self._open()
                self.append([Lost(now)])
                return JournalContents.nothing(lost=Lost(now))
            except (sqlite3.Error, OSError, _Damaged) as error:
                self.close()
                raise JournalUnavailable(f"{self.path.name}: {error}") from None

    def append(self, records: Iterable[Record], *, instead: bool = False) -> None:
        """Write records, ``instead`` of everything that is there if wanted; all of them or none.

        On return those that matter are on the disk; losing the others makes the agent say something twice.

        Raises:
            JournalUnavailable: nothing was written.
        """
        records = list(records)
        lasting = any(not isinstance(one, AckSent | Linked) for one in records)
        with self._turn:
            try:
                self._check_place()
                with self._transaction(lasting=lasting) as database:
                    for table in TABLES if instead else ():
                        database.execute(f"DELETE FROM {table}")
                    for record in records:
                        _apply(database, record)
            except (sqlite3.Error, OSError) as error:
                if _code(error) not in PASSING:
                    self.close()
                raise JournalUnavailable(f"{self.path.name}: {error}") from None

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            if self._database is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._database.close()
            self._database = None

    def _open(self) -> JournalContents:
        try:
            self._database = database = sqlite3.connect(
                self.path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self.path.chmod(0o600)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            (state,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            if state != "ok":
                raise _Damaged(state)
            place = self.path.stat()
            self._place = (place.st_dev, place.st_ino)
            with self._transaction(lasting=True):
                for statement in SCHEMA:
                    database.execute(statement)
                self._take_over(database)
            if self._old.is_file():
                self._old.unlink()
            return _known(database)
        except sqlite3.Error as error:
            if _code(error) in DAMAGED:
                raise _Damaged(str(error)) from None
            raise
        except (ValueError, TypeError, AttributeError, BadMessage) as error:
            raise _Damaged(f"unexpected contents: {error}") from None

    def _take_over(self, database: sqlite3.Connection) -> None:
        """Take over what an agent of an earlier version wrote, once."""
        if not self._old.is_file():
            return
        taken = database.execute("INSERT OR IGNORE INTO taken_over VALUES (?)", [OLD_FILE]).rowcount
        for record in old_journal.decode_records(self._old.read_bytes()) if taken else ():
            _apply(database, record)

    def _move_aside(self, why: str) -> None:
        self.close()
        aside = self.path.with_suffix(".damaged")
        log.error(
            "the journal is damaged and was moved aside; commands from before are not carried out",
            extra={"event": "journal_damaged", "file": aside.name, "error": why},
        )
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")

    def _check_place(self) -> None:
        """Raise ``OSError`` when the file is no longer the one that was opened."""
        place = self.path.stat()
        if (place.st_dev, place.st_ino) != self._place:
            raise OSError("it was replaced by another file")

    @contextlib.contextmanager
    def _transaction(self, *, lasting: bool) -> Iterator[sqlite3.Connection]:
        database = self._database
        if database is None:
            raise OSError("it is not open")
        database.execute(f"PRAGMA synchronous={'FULL' if lasting else 'NORMAL'}")
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise


def _code(error: Exception) -> int:
    """Return SQLite's code of the kind of trouble; ``NOT_SQLITE`` if it is of Python or the system."""
    code = getattr(error, "sqlite_errorcode", None)
    return NOT_SQLITE if code is None else int(code) & 0xFF


def _apply(database: sqlite3.Connection, record: Record) -> None:
    match record:
        case AckGiven(serial, entry):
            before = entry.before
            ack = entry.ack.model_dump_json()
            row = (
                str(entry.command.command_id),
                serial,
                entry.command.model_dump_json(),
                ack,
                None if before is None else before.boot_id,
                None if before is None else _text(before.app_started_at),
            )
            database.execute("INSERT OR REPLACE INTO commands VALUES (?, ?, ?, ?, ?, ?)", row)
            database.execute("INSERT OR REPLACE INTO unsent VALUES (?, ?)", (serial, ack))
        case AckSent(serial):
            database.execute("DELETE FROM unsent WHERE serial = ?", (serial,))
        case Forgotten(command_id):
            database.execute("DELETE FROM commands WHERE command_id = ?", (str(command_id),))
        case Linked(connections, last_disconnect_at):
            database.execute("DELETE FROM link")
            database.execute("INSERT INTO link VALUES (?, ?)", (connections, _text(last_disconnect_at)))
        case Lost(at):
            database.execute("DELETE FROM lost")
            database.execute("INSERT INTO lost VALUES (?)", (_text(at),))


def _known(database: sqlite3.Connection) -> JournalContents:
    """Read everything. Raises ``ValueError``, ``TypeError`` or ``BadMessage`` for what we did not write."""
    commands = {}
    for command_id, serial, text, ack, boot_id, app_started_at in database.execute(
        "SELECT command_id, serial, command, ack, boot_id, app_started_at FROM commands ORDER BY serial"
    ):
        before = None if boot_id is None else StateAtStart(boot_id, _time(app_started_at))
        command = decode_command(text.encode())
        if str(command.command_id) != command_id or serial in commands:
            raise ValueError("a command under the id or serial of another")
        commands[int(serial)] = Entry(command, CommandAck.model_validate_json(ack), before)
    unsent = {
        int(serial): CommandAck.model_validate_json(ack)
        for serial, ack in database.execute("SELECT serial, ack FROM unsent ORDER BY serial")
    }
    link = Linked()
    for connections, last_disconnect_at in database.execute("SELECT * FROM link"):
        link = Linked(int(connections), _time(last_disconnect_at))
    lost = None
    for (at,) in database.execute("SELECT at FROM lost"):
        lost = Lost(datetime.fromisoformat(at))
    return JournalContents(commands, unsent, link, lost)


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
