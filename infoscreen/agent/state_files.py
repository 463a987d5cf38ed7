"""What the agent keeps on disk: the journal, reports on their way, and the lock that makes it the only one.

Blocks; call it in a thread. Knows how to write so that a power loss at any moment leaves what was there.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infoscreen.agent.protocol.journal import Given, Record, compacted, decode_records, encode_record

COMPACT_BYTES = 1024 * 1024
"""The journal is written anew when it has grown by so much."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found in a journal, and how many of its lines were damaged."""

    records: list[Record]
    damaged: int


class StateFiles:
    """The files below one directory, which is made if missing, for this user only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._journal = directory / "journal"
        self._spool = directory / "failed"
        self._grown = 0

    def prepare(self) -> None:
        """Make the directories; raises ``OSError``."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._spool.mkdir(exist_ok=True, mode=0o700)

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Try to be the one process that speaks for the device; False while another one does."""
        with (self.directory / "lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    # The journal.

    def open_journal(self) -> Opened:
        """Read the journal, and write it anew without what is no longer needed if the disk lets us.

        On a full disk the agent still starts: better a screen without commands than a silent one.
        """
        try:
            data = self._journal.read_bytes()
        except FileNotFoundError:
            data = b""
        records, damaged = decode_records(data)
        records = compacted(records)
        with contextlib.suppress(OSError):
            self._replace(self._journal, b"".join(map(encode_record, records)))
        self._grown = 0
        return Opened(records, damaged)

    def append(self, records: Iterable[Record]) -> None:
        """Write records; on return those that matter are on the disk. Raises ``OSError``.

        What is lost of the others only makes the agent say something twice.
        """
        records = list(records)
        data = b"".join(map(encode_record, records))
        with self._journal.open("ab", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError("the journal could not be written as a whole")
            if any(isinstance(record, Given) for record in records):
                os.fdatasync(file.fileno())
        self._grown += len(data)
        if self._grown > COMPACT_BYTES:
            self.open_journal()

    # Reports of failed services, one file each.

    def spooled(self) -> list[Path]:
        """Return the reports that are on their way, oldest first."""
        return sorted(self._spool.glob("*.json"))

    def spool(self, name: str, report: bytes) -> Path:
        """Keep a report until it is taken away; ``name`` sorts it."""
        path = self._spool / f"{name}.json"
        self._replace(path, report)
        return path

    def _replace(self, path: Path, data: bytes) -> None:
        """Write a file that is there as a whole or not at all."""
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
