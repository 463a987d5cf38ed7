"""The heartbeats of one client in one batch, by runs of the same device."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from infoscreen.wire.messages import Heartbeat
from infoscreen.wire.reading import Unread


@dataclass(slots=True)
class Run:
    """Heartbeats of one device in a row: the newest, what of it could not be read, and how many came."""

    newest: Heartbeat
    unread: tuple[Unread, ...]
    count: int


MOST_RUNS = 16
"""So often devices under one identity may alternate within a batch; what is between is left out."""


class Beats:
    """The heartbeats of one client in one batch, by runs of the same device."""

    def __init__(self, heartbeat: Heartbeat, unread: tuple[Unread, ...] = ()) -> None:
        self.runs = [Run(heartbeat, unread, 1)]

    def add(self, heartbeat: Heartbeat, unread: tuple[Unread, ...] = (), count: int = 1) -> None:
        """Take in a later heartbeat, the last of ``count`` of the same device in a row."""
        last = self.runs[-1]
        if _is_same_device(heartbeat, last.newest):
            last.newest, last.unread = heartbeat, unread
            last.count += count
            return
        if len(self.runs) == MOST_RUNS:
            del self.runs[1]
        self.runs.append(Run(heartbeat, unread, count))

    @property
    def newest(self) -> Heartbeat:
        """Return the last heartbeat."""
        return self.runs[-1].newest

    @property
    def unread(self) -> tuple[Unread, ...]:
        """Return what of the last heartbeat could not be read."""
        return self.runs[-1].unread

    @property
    def count(self) -> int:
        """Return how many heartbeats came."""
        return sum(run.count for run in self.runs)


Heard = tuple[Heartbeat, tuple[Unread, ...]]
"""A heartbeat, and what of it could not be read."""


def beats_of(earlier: Sequence[Heard], later: Beats | None) -> Beats:
    """Return heartbeats, at least one, followed by others."""
    beats = Beats(*earlier[0])
    for heard in earlier[1:]:
        beats.add(*heard)
    for run in [] if later is None else later.runs:
        beats.add(run.newest, run.unread, run.count)
    return beats


def _is_same_device(one: Heartbeat, other: Heartbeat) -> bool:
    """Compare what tells devices under one identity apart; a boot time may waver and is not part of it."""
    return one.boot_id == other.boot_id and one.hostname == other.hostname and one.ip == other.ip


def digest(beats: Beats) -> int:
    """Return a digest of all a heartbeat tells besides times; if it repeats, only the pulse is written.

    Of fields that could not be read it takes the names, and what was said of the process, which is the one
    that people look at. Never 0, which stands for "nothing known".
    """
    heartbeat = beats.newest
    told = (
        [one if one.field == "process_status" else one.field for one in beats.unread],
        heartbeat.process_status,
        heartbeat.current_process,
        heartbeat.process_pid,
        heartbeat.app_started_at,
        heartbeat.boot_id,
        heartbeat.booted_at,
        heartbeat.ip,
        heartbeat.hostname,
        heartbeat.software_version,
        heartbeat.persistent_session,
    )
    # Half of CRC-32's range, so that it fits PostgreSQL's integer; plus one, so that it is never 0.
    return (zlib.crc32(repr(told).encode()) >> 1) or 1
