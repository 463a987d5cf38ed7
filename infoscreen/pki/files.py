"""Files replaced in one step with owner and mode, and a lock between programs."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from infoscreen.domain.errors import PkiError

LOCK_TRIES, LOCK_PAUSE_SECONDS = 120, 0.25


@dataclass(frozen=True, slots=True)
class Access:
    """Mode of a file, and its owner; None leaves user or group to the system."""

    mode: int
    user: int | None = None
    group: int | None = None


def access_of(path: Path, otherwise: Access) -> Access:
    """Return mode and owner of the file as it is, so that its replacement can have the same."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return otherwise
    return Access(found.st_mode & 0o777, found.st_uid, found.st_gid)


def replace(path: Path, content: bytes, access: Access) -> None:
    """Write the file beside its place and rename it there: a reader sees all of the old or of the new one.

    It never exists with wider access than asked for. Hold the lock: two writers share the name beside.
    """
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            if access.user is not None or access.group is not None:
                _give(file.fileno(), access)
            os.fchmod(file.fileno(), access.mode)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_public(path: Path, content: bytes) -> None:
    """Write a file that everybody may read, in one step; raise ``PkiError``."""
    try:
        replace(path, content, access_of(path, Access(0o644)))
    except OSError as error:
        raise PkiError(f"{path}: {error.strerror or error}") from None


def _give(descriptor: int, access: Access) -> None:
    """Change owner and group unless they are right already, which only root may do otherwise."""
    now = os.fstat(descriptor)
    user = now.st_uid if access.user is None else access.user
    group = now.st_gid if access.group is None else access.group
    if (user, group) != (now.st_uid, now.st_gid):
        os.fchown(descriptor, user, group)


def sync_directory(path: Path) -> None:
    """Let renames in the directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file; raise ``PkiError`` if another program holds it for longer than 30 s."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                sleep(LOCK_PAUSE_SECONDS)
        else:
            raise PkiError(f"another program holds {path}; nothing was changed")
        yield
    finally:
        os.close(descriptor)
