"""What the tests need from the machine: programs, and ports nobody else uses."""

import os
import random
import shutil
import socket
import time
from pathlib import Path
from typing import NoReturn

import pytest

# Debian keeps servers where the PATH of an ordinary user does not look.
_MORE_PLACES = ["/usr/local/sbin", "/usr/sbin", "/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]


def require(program: str) -> str:
    """Return the program's path. Without it a test is skipped; on CI it fails, as nothing may be missing."""
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_MORE_PLACES]))
    if found is None:
        cannot_run(f"{program} is not installed; scripts/test installs it when started by root")
    return found


def cannot_run(reason: str) -> NoReturn:
    """Skip the test; on CI it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def find_free_port() -> int:
    """Return a TCP port on loopback on which nobody listens.

    It lies below the range of which the kernel takes ports for outgoing connections. A client that keeps
    trying to reach a killed broker on a port within that range is connected to itself sooner or later, and
    the broker cannot get its port back.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until_open(port: int, seconds: float = 30.0) -> None:
    """Return when a server that was just started accepts connections on this port of loopback."""
    ends = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            assert time.monotonic() < ends, f"nobody listens on port {port} after {seconds} s"
            time.sleep(0.05)
        else:
            return
