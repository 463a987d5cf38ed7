"""Small file systems of a test's own, which are soon full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs import cannot_run


@contextmanager
def mounted(place: Path, size: str, owner: str = "root") -> Iterator[Path]:
    """Mount a file system of that size in memory; without root the test is skipped."""
    place.mkdir(exist_ok=True)
    mount = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={size},uid={owner},gid={owner},mode=0700",
        "tmpfs",
        str(place),
    ]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        cannot_run(f"only root may mount a small disk to fill it: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room, and return what takes it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler
