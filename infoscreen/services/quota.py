"""How much of one device's talk is stored in a minute. Counts in memory, stores nothing.

What only says how things are now (heartbeats, health, presence) is always applied: a later message replaces
an earlier one, and costs no space. Bounded is what grows or costs: log lines, screenshots, acks, kept
rejections, and the lines of the timeline that follow from a device's flapping.
"""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from infoscreen.clock import Clock
from infoscreen.storage.timeline import NewEntry
from infoscreen.wire.topics import DeviceTopic, TopicKind

WINDOW_SECONDS = 60.0


class Metered(StrEnum):
    """What is counted for each device."""

    LOGS = "logs"
    SCREENSHOTS = "screenshots"
    ACKS = "acks"
    HAPPENINGS = "happenings"
    REJECTIONS = "rejections"


class Limit(NamedTuple):
    """How much of a device is stored in a minute."""

    most: int
    most_bytes: int = 2**62


class QuotaPolicy(NamedTuple):
    """The limits for one device in a minute."""

    logs: Limit = Limit(600, 256 * 1024)
    screenshots: Limit = Limit(60, 16 * 2**20)
    acks: Limit = Limit(600)
    happenings: Limit = Limit(120)
    rejections: Limit = Limit(250)


Ledger = list[tuple[tuple[str, Metered], bool]]
"""What one transaction used: of whom, and whether it was kept or dropped."""


class Overrun(NamedTuple):
    """How much of a device was dropped in the minute that ended."""

    uuid: str
    metered: Metered
    dropped: int


_METERED = {
    TopicKind.LOG: Metered.LOGS,
    TopicKind.SCREENSHOT: Metered.SCREENSHOTS,
    TopicKind.ACK: Metered.ACKS,
}
_MOST_STORED_OF_A_LINE = 8 * 1024
"""Larger log lines are cut before they are stored."""


class Quotas:
    """One for all ingest of a daemon; a restart begins with full quotas."""

    def __init__(self, policy: QuotaPolicy, clock: Clock) -> None:
        self._limits = {metered: getattr(policy, metered.value) for metered in Metered}
        self._clock = clock
        self._began = clock.monotonic()
        self._counts: Counter[tuple[str, Metered]] = Counter()
        self._sizes: Counter[tuple[str, Metered]] = Counter()
        self._dropped: Counter[tuple[str, Metered]] = Counter()
        self._overruns: list[Overrun] = []

    def admits(self, topic: DeviceTopic, size: int) -> bool:
        """Tell whether a message is worth decoding; count it, or count it as dropped."""
        metered = _METERED.get(topic.kind)
        if metered is None:
            return True
        if metered is Metered.LOGS:
            size = min(size, _MOST_STORED_OF_A_LINE)
        return self._spend(topic.uuid, metered, size)

    def keeps_rejection(self, uuid: str, ledger: Ledger) -> bool:
        """Tell whether one more rejected message of a device is kept."""
        return self._note(uuid, Metered.REJECTIONS, ledger)

    def kept(self, entries: Iterable[NewEntry], ledger: Ledger) -> list[NewEntry]:
        """Return the lines of the timeline that fit the quotas of their devices."""
        return [one for one in entries if self._note(one.client_uuid, Metered.HAPPENINGS, ledger)]

    def give_back(self, ledger: Ledger) -> None:
        """Undo what a transaction used that was not committed."""
        for key, kept in ledger:
            counter = self._counts if kept else self._dropped
            counter[key] = max(0, counter[key] - 1)
        ledger.clear()

    def _note(self, uuid: str, metered: Metered, ledger: Ledger) -> bool:
        kept = self._spend(uuid, metered, 0)
        ledger.append(((uuid, metered), kept))
        return kept

    def overruns(self) -> list[Overrun]:
        """Return, once, what was dropped in minutes that have ended."""
        self._turn()
        over, self._overruns = self._overruns, []
        return over

    def _spend(self, uuid: str, metered: Metered, size: int) -> bool:
        self._turn()
        key, limit = (uuid, metered), self._limits[metered]
        if self._counts[key] >= limit.most or self._sizes[key] >= limit.most_bytes:
            self._dropped[key] += 1
            return False
        self._counts[key] += 1
        self._sizes[key] += size
        return True

    def _turn(self) -> None:
        """Begin a new minute for everybody once the last one is over."""
        now = self._clock.monotonic()
        if now - self._began < WINDOW_SECONDS:
            return
        self._began = now
        self._overruns += [
            Overrun(uuid, metered, count) for (uuid, metered), count in self._dropped.items() if count
        ]
        for counter in (self._counts, self._sizes, self._dropped):
            counter.clear()
