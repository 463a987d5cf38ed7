"""The time of the judge: a clock that moves only when told, and the two ways in which lines say a time."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

from infoscreen.clock import ClockStep
from infoscreen.judge.lines import BadLine

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""What the number 0 stands for."""

UNIX_FROM = 100_000_000.0
"""A stream whose first number is as large as this counts seconds since 1970, as Unix does."""

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
LONGEST = timedelta(days=366_000)


class VirtualClock:
    """A ``Clock`` that is set by hand. ``at`` is the time of the lines; ``now`` is ``at`` and all steps."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.stepped = timedelta(0)
        self._begin = at
        self._last_step: ClockStep | None = None

    def now(self) -> datetime:
        """Return the host's wall time."""
        return self.at + self.stepped

    @property
    def last_step(self) -> ClockStep | None:
        """Return the last step of the wall time."""
        return self._last_step

    def monotonic(self) -> float:
        """Return the seconds since the first line."""
        return (self.at - self._begin).total_seconds()

    async def sleep(self, seconds: float) -> None:
        """Give others their turn; time does not pass by waiting."""
        await asyncio.sleep(0)

    def step(self, by: timedelta) -> None:
        """Set the wall time."""
        self.stepped += by
        self._last_step = ClockStep(self.now(), by.total_seconds())


class TimeScale:
    """Reads and says times as one stream does: numbers of seconds, or ISO 8601."""

    def __init__(self) -> None:
        self._zero: datetime | None = None

    def read(self, value: object, name: str = "at") -> datetime:
        """Return the time that ``value`` stands for.

        Raises ``BadLine``: it is neither a number nor an ISO time, or absurdly far away.
        """
        match value:
            case bool():
                raise BadLine(f"{name} is {value!r}, wanted is a number of seconds or an ISO 8601 time")
            case int() | float():
                return self._of_number(float(value), name)
            case str():
                return _checked(_of_text(value, name), name)
            case _:
                raise BadLine(f"{name} is {value!r}, wanted is a number of seconds or an ISO 8601 time")

    def say(self, at: datetime, like: object) -> float | str:
        """Return the time in the form of ``like``: a number, or text in UTC."""
        if isinstance(like, str):
            return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        seconds = (at - (self._zero or EPOCH)).total_seconds()
        return int(seconds) if seconds.is_integer() else seconds

    def _of_number(self, seconds: float, name: str) -> datetime:
        if not math.isfinite(seconds):
            raise BadLine(f"{name} is {seconds!r}, wanted is a finite number of seconds")
        if self._zero is None:
            self._zero = UNIX_EPOCH if seconds >= UNIX_FROM else EPOCH
        try:
            return _checked(self._zero + timedelta(seconds=seconds), name)
        except OverflowError:
            raise BadLine(f"{name} is {seconds!r}, which is too far away") from None


def _of_text(value: str, name: str) -> datetime:
    try:
        found = datetime.fromisoformat(value.strip())
    except ValueError:
        raise BadLine(f"{name} is {value!r}, wanted is a number of seconds or an ISO 8601 time") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _checked(at: datetime, name: str) -> datetime:
    if not EARLIEST <= at <= LATEST:
        raise BadLine(f"{name} is {at:%Y-%m-%d}, allowed are the years {EARLIEST.year} to {LATEST.year - 1}")
    return at
