"""The only module that asks the time; everything else takes ``now`` as an argument or a ``Clock``.

Wall time is aware UTC and may be set, forward or back, by NTP or by hand. ``monotonic()`` never is, stands
still while the host is suspended, and is for durations only. Code that compares two wall times must
think of ``last_step``.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

STEP_SECONDS = 5.0
"""What counts as a step. NTP slews what is less than a tenth of that; our rules have more patience."""


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The wall time was set, or went on while we did not: the host was suspended.

    ``at`` is the new time when noticed; ``seconds`` is by how much it was set, back if negative, and about 0
    after a suspension.
    """

    at: datetime
    seconds: float

    @property
    def was_set(self) -> bool:
        """Tell whether times from before are wrong now; after a suspension they are not."""
        return abs(self.seconds) >= STEP_SECONDS


class Clock(Protocol):
    """What services ask for the time and for waiting."""

    def now(self) -> datetime:
        """Return the wall time, aware, UTC."""
        ...

    @property
    def last_step(self) -> ClockStep | None:
        """Return the last step of the wall time since the start; ``now()`` notices, so ask it first."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait at least ``seconds``."""
        ...


class SystemClock:
    """The real clock."""

    def __init__(self) -> None:
        self._before: tuple[float, float, float] | None = None
        self._last_step: ClockStep | None = None

    def now(self) -> datetime:
        """Return the wall time, aware, UTC."""
        now = datetime.now(UTC)
        reading = (now.timestamp(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))
        # Against the last time, not the first: what NTP slews over days is no step.
        if self._before is not None:
            wall, awake, booted = (new - old for new, old in zip(reading, self._before, strict=True))
            if abs(wall - awake) >= STEP_SECONDS:
                self._last_step = ClockStep(now, wall - booted)
        self._before = reading
        return now

    @property
    def last_step(self) -> ClockStep | None:
        """Return the last step of the wall time that ``now()`` has noticed."""
        return self._last_step

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait at least ``seconds``."""
        await asyncio.sleep(seconds)


class SteadySince:
    """Since when something has lasted on one time scale: a step of the wall clock starts it again.

    Times from before a step cannot be compared with the time of now.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: datetime | None = None
        self._begun = 0.0
        self._step_before: ClockStep | None = None

    def begin(self) -> None:
        """Start now."""
        self._since = self._clock.now()
        self._begun = self._clock.monotonic()
        self._step_before = self._clock.last_step

    def end(self) -> None:
        """Stop."""
        self._since = None

    @property
    def since(self) -> datetime | None:
        """Return the later of the start and the last step, None while stopped."""
        step = self._clock.last_step
        if self._since is None or step is None or step is self._step_before:
            return self._since
        return step.at

    @property
    def began(self) -> datetime | None:
        """Return the start, by the clock of that time, None while stopped."""
        return self._since

    @property
    def age_seconds(self) -> float:
        """Return how long ago the start is, however the clock was set since."""
        return self._clock.monotonic() - self._begun

    @property
    def set_by_seconds(self) -> tuple[float, ...]:
        """Return by how far the wall clock was set since the start: last, and in all. Empty if it was not."""
        step = self._clock.last_step
        if self._since is None or step is None or step is self._step_before:
            return ()
        return step.seconds, (self._clock.now() - self._since).total_seconds() - self.age_seconds


async def until_woken(wake: asyncio.Event, seconds: float, clock: Clock) -> None:
    """Wait until ``wake`` is set, at most ``seconds``; clear it."""
    waiting = asyncio.ensure_future(wake.wait())
    sleeping = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        sleeping.cancel()
    wake.clear()


LONGEST_ZONE = 64
MOST_ZONES = 700
"""There are about 600."""


def host_zone(link: Path = Path("/etc/localtime")) -> tzinfo:
    """Return the local time zone of this host: that of ``TZ``, else the one ``link`` leads to, else UTC."""
    name = os.environ.get("TZ", "").removeprefix(":") or str(link.resolve()).partition("zoneinfo/")[2]
    return zone_named(name) or UTC


@lru_cache(MOST_ZONES)
def zone_named(name: str) -> ZoneInfo | None:
    """Return the time zone of that name; None if there is none."""
    if not name or len(name) > LONGEST_ZONE:
        return None
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return None
