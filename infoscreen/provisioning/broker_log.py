"""Which devices last came in over which port, as the broker's log says; they may be switched off by now."""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from infoscreen.provisioning.broker_files import BrokerFiles

_OPENED = re.compile(r"(?:\S+: )?New connection from (?P<peer>\S+) on port (?P<port>\d+)\.\s*$")
_CAME = re.compile(
    r"(?:\S+: )?New client connected from (?P<peer>\S+) as .* "
    r"\(p\d, c\d, k\d+, u'(?P<user>[0-9a-f-]{36})'\)\.\s*$"
)
MOST_WAITING = 100_000
"""Connections that were opened and not accepted yet; floods are forgotten."""


def last_ports(place: BrokerFiles) -> dict[str, int]:
    """Return the port over which each device last connected, as far back as the log goes; it may be empty."""
    ports: dict[str, int] = {}
    opened: dict[str, int] = {}
    for line in _lines(place):
        if (new := _OPENED.match(line)) is not None:
            if len(opened) > MOST_WAITING:
                opened.clear()
            opened[new["peer"]] = int(new["port"])
        elif (came := _CAME.match(line)) is not None and (port := opened.pop(came["peer"], None)) is not None:
            ports[str(UUID(came["user"]))] = port
    return ports


def _lines(place: BrokerFiles) -> Iterator[str]:
    """Yield the lines of the log, also of the files that logrotate has put aside, the oldest first."""
    newest = _log_of(place)
    if newest is None:
        return
    ages = {path: _age(path) for path in newest.parent.glob(f"{newest.name}.*")}
    aside = sorted((-age, path) for path, age in ages.items() if age is not None)
    for path in [*(path for _, path in aside), newest]:
        try:
            opened = gzip.open if path.suffix == ".gz" else open
            with opened(path, "rt", encoding="utf-8", errors="replace") as file:
                yield from file
        except (OSError, EOFError, zlib.error):  # just rotated away, cut off or damaged
            continue


def _log_of(place: BrokerFiles) -> Path | None:
    try:
        lines = place.config.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    named = [line.split(None, 2)[2].strip() for line in lines if line.startswith("log_dest file ")]
    return Path(named[-1]) if named else None


def _age(path: Path) -> int | None:
    """Return the number that logrotate gives, 1 for the newest; None if it has given none."""
    number = path.name.removesuffix(".gz").rpartition(".")[2]
    return int(number) if number.isdecimal() else None
