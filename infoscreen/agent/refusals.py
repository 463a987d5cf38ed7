"""Remembers which commands were refused because the journal could not be written.

Such a command must not be carried out after a restart either, should it be delivered again. So its id is
written over a part of a file that has its full size since the start: that works on a full disk too. Where
not even this can be written, a file in a directory for temporary files keeps it until the next boot.
Blocks; call it in a thread.
"""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

SLOTS = 256
"""The oldest refusal is overwritten; a copy of a command comes soon or never."""
ID_BYTES = 16
SIZE = SLOTS * ID_BYTES
EMPTY = b"\xff" * SIZE


class Refusals:
    """The ids refused by this agent and those before it."""

    def __init__(self, state: Path, uuid: str, environment: Mapping[str, str] = os.environ) -> None:
        runtime = environment.get("RUNTIME_DIRECTORY", "").split(":")[0] or tempfile.gettempdir()
        self._files = [state / "refused", Path(runtime) / f"infoscreen-agent-{uuid}-refused"]
        self._ring: list[UUID] = []

    def load(self) -> frozenset[UUID]:
        """Return the ids, and give the file in the state directory its size."""
        found: list[UUID] = []
        for file in self._files:
            with contextlib.suppress(OSError), _opened(file, os.O_RDONLY) as descriptor:
                found += _ids(os.pread(descriptor, SIZE, 0))
        with contextlib.suppress(OSError), _opened(self._files[0], os.O_RDWR | os.O_CREAT) as descriptor:
            if os.fstat(descriptor).st_size != SIZE:
                os.pwrite(descriptor, EMPTY, 0)
                os.ftruncate(descriptor, SIZE)
                os.fsync(descriptor)
        self._ring = list(dict.fromkeys(found))[-SLOTS:]
        return frozenset(self._ring)

    def remember(self, command_id: UUID) -> bool:
        """Keep an id; False if it cannot be written anywhere."""
        ring = [*self._ring, command_id][-SLOTS:]
        data = b"".join(one.bytes for one in ring).ljust(SIZE, b"\xff")
        for file in self._files:
            with contextlib.suppress(OSError), _opened(file, os.O_RDWR | os.O_CREAT) as descriptor:
                if os.pwrite(descriptor, data, 0) != SIZE:
                    continue
                os.fsync(descriptor)
                self._ring = ring
                return True
        return False


@contextlib.contextmanager
def _opened(file: Path, flags: int) -> Iterator[int]:
    """Open a file of ours; raises ``OSError`` for somebody else's, which may lie in a shared directory."""
    descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(f"{file} is not ours")
        yield descriptor
    finally:
        os.close(descriptor)


def _ids(data: bytes) -> list[UUID]:
    whole = [data[start : start + ID_BYTES] for start in range(0, len(data) - ID_BYTES + 1, ID_BYTES)]
    return [UUID(bytes=one) for one in whole if one != EMPTY[:ID_BYTES]]
