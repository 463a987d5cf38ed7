"""The agent's state directory: reports on their way, and the lock that makes one agent the only one.

Blocks; call it in a thread. Knows how to write so that a power loss at any moment leaves what was there.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

SPOOL_LENGTH = 100
"""Reports kept for sending; the oldest goes first."""


class StateFiles:
    """The files below one directory, which is made if missing, for this user only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._spool = directory / "failed"

    def prepare(self) -> None:
        """Make the directories; raises ``OSError``."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._spool.mkdir(exist_ok=True, mode=0o700)

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Try to be the one process that speaks for the device; False while another one does."""
        # The directory itself, since a full or read-only disk takes no new file.
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(descriptor)

    # Reports of failed services, one file each.

    def spooled(self) -> list[Path]:
        """Return the reports that are on their way, oldest first."""
        return sorted(self._spool.glob("*.json"))[-SPOOL_LENGTH:]

    def spool(self, name: str, report: bytes) -> Path:
        """Keep a report until it is taken away; ``name`` sorts it."""
        for old in sorted(self._spool.glob("*.json"))[: 1 - SPOOL_LENGTH]:
            old.unlink(missing_ok=True)
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
