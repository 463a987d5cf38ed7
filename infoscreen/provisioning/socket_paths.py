"""Paths of Unix sockets of any length."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 107
"""What fits into an address of a Unix socket, see unix(7)."""


@contextlib.contextmanager
def fitting(path: Path) -> Iterator[str]:
    """Yield an address that reaches ``path``, through its directory if the path itself is too long.

    Raises ``OSError`` if the directory cannot be opened.
    """
    if len(os.fsencode(path)) <= MOST_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
