"""The only module that asks the time; everything else takes ``now`` as an argument or a ``Clock``.

Wall time is aware UTC and may be set, forward or back: by NTP, by hand, by a host that was suspended.
``monotonic()`` never is, and is for durations only. Whoever compares wall times of two moments must think of
``last_step``.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

STEP_SECONDS = 5.0
"""What counts as a step. NTP slews what is less than a tenth of that; our rules have more patience."""


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The wall time was set by so many ``seconds``, back if negative; ``at`` is the new time when noticed."""

    at: datetime
    seconds: float


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
    """The real clock. ``monotonic()`` stands still while the host is suspended, so that is a step too."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._last_step: ClockStep | None = None

    def now(self) -> datetime:
        """Return the wall time, aware, UTC."""
        now = datetime.now(UTC)
        # Against the last time, not the first: what NTP slews over days is no step.
        offset, before = now.timestamp() - time.monotonic(), self._offset
        self._offset = offset
        if before is not None and abs(offset - before) >= STEP_SECONDS:
            self._last_step = ClockStep(now, offset - before)
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
