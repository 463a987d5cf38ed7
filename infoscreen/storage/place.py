"""Is the SQLite file that we opened still the one that its path leads to?

A file that was deleted or replaced stays open under its old name for us alone: what is written to it is lost.
SQLite does not notice, so the path is compared before and after every commit.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from infoscreen.domain.errors import StoreTrouble, StoreUnavailable
from infoscreen.storage.trouble import SENTENCES


@dataclass(frozen=True, slots=True)
class _Identity:
    device: int
    inode: int


class Place:
    """The file and its write-ahead log as they were when they were opened; one for each ``Store``."""

    def __init__(self, file: Path) -> None:
        # The working directory may change later.
        self._file = file.absolute()
        self._wal = self._file.with_name(f"{self._file.name}-wal")
        self._file_was: _Identity | None = None
        self._wal_was: _Identity | None = None
        self._had_content = False

    def note(self) -> None:
        """Note which file is opened, the first time; raise as ``check`` does afterwards."""
        if self._file_was is None:
            self._file_was, _ = self._look(self._file)
        self.check()

    def writer_changed(self) -> None:
        """Call when the writer's connection was opened or closed: SQLite may make another write-ahead log."""
        self._wal_was = None

    def written(self) -> None:
        """Call after a commit, before anybody is told of it; raises as ``check`` does."""
        if self._wal_was is None:
            self._wal_was, _ = self._look(self._wal)
        self.check()

    def check(self) -> None:
        """Return while the path leads to what was opened.

        Raises:
            StoreUnavailable: the file or its write-ahead log is gone, was replaced or emptied.
        """
        if self._file_was is None:
            return
        found, size = self._look(self._file)
        if found != self._file_was:
            raise _trouble(StoreTrouble.REPLACED, self._file)
        if size == 0 and self._had_content:
            raise StoreUnavailable(f"The database's file {self._file} was emptied.", StoreTrouble.DAMAGED)
        self._had_content = size > 0
        if self._wal_was is not None and self._look(self._wal)[0] != self._wal_was:
            raise _trouble(StoreTrouble.REPLACED, self._wal)

    def _look(self, path: Path) -> tuple[_Identity, int]:
        try:
            found = os.stat(path)  # noqa: PTH116 - on the way of every commit
        except OSError:
            raise _trouble(StoreTrouble.MISSING, path) from None
        if not stat.S_ISREG(found.st_mode):
            raise _trouble(StoreTrouble.REPLACED, path)
        return _Identity(found.st_dev, found.st_ino), found.st_size


def _trouble(trouble: StoreTrouble, path: Path) -> StoreUnavailable:
    return StoreUnavailable(f"{SENTENCES[trouble]} ({path}).", trouble)
