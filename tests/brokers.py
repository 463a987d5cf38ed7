"""The two mosquittos that the shipped files are for: Debian 12's, which is installed, and Debian 13's.

Debian 13's is taken from a tree that debootstrap makes once and that is kept in ``.cache``; it runs with the
libraries of that tree, on this kernel.
"""

import fcntl
import os
import platform
import shutil
import subprocess
from pathlib import Path

from tests.programs import cannot_run, require

CACHE = Path(__file__).parent.parent / ".cache" / "brokers"
RELEASE = "trixie"

INSTALLED, NEWER = "mosquitto of this host", "mosquitto 2.0.21"


def programs() -> list[str]:
    """Return the names to parametrize a test with."""
    return [INSTALLED, NEWER]


def program(name: str) -> tuple[str | Path, ...]:
    """Return the command of a broker; skip the test where it cannot be had, fail it on CI."""
    if name == INSTALLED:
        return (require("mosquitto"),)
    tree = _tree()
    libraries = tree / "usr/lib" / f"{platform.machine()}-linux-gnu"
    (loader,) = {found.resolve() for found in libraries.glob("ld-linux*.so.*")}
    return (loader, "--library-path", libraries, tree / "usr/sbin/mosquitto")


def _tree() -> Path:
    base = CACHE / RELEASE
    if base.exists():
        return base
    require("debootstrap")
    if os.geteuid() != 0:
        cannot_run("only root can make a Debian 13")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not base.exists():
            fresh = CACHE / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", "--include=mosquitto", RELEASE, str(fresh)]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"
            fresh.rename(base)
    return base
