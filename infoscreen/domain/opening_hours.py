"""Opening hours in the notation of OpenStreetMap, the part of it that people write by hand.

``24/7``, ``Mo-Fr 08:00-18:00; Sa 09:00-12:00``, ``Mo-Su 06:00-22:00; Su off``. Later parts replace earlier
ones for the days that they name; hours may go beyond midnight (``Fr 22:00-02:00``). Times are local.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
MOST_CHARACTERS = 500
FURTHEST = timedelta(days=8)
"""Whatever opens in a week opens within this."""

Span = tuple[int, int]
"""Minutes after midnight, from and to; ``to`` may lie in the next day."""


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """When it is open, by weekday (0 is Monday), in local time. Use ``parsed``."""

    text: str
    days: Mapping[int, Sequence[Span]]

    def is_open(self, at: datetime, zone: ZoneInfo) -> bool:
        """Tell whether it is open at an aware time."""
        local = at.astimezone(zone)
        minute = local.hour * 60 + local.minute
        today, before = local.weekday(), (local.weekday() - 1) % 7
        return any(start <= minute < end for start, end in self.days.get(today, ())) or any(
            minute < end - 1440 for _, end in self.days.get(before, ()) if end > 1440
        )

    def next_open(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the time itself if it is open, else when it opens next; None if it never does.

        What opens in the hour that a change of clocks leaves out opens at the change; what opens in the hour
        that comes twice opens twice.
        """
        if self.is_open(at, zone):
            return at
        local = at.astimezone(zone)
        opens = []
        for ahead in range(FURTHEST.days + 1):
            day = (local + timedelta(days=ahead)).date()
            midnight = datetime.combine(day, time(), tzinfo=zone)
            for start, _ in self.days.get(day.weekday(), ()):
                wall = midnight + timedelta(minutes=start)  # arithmetic on the wall clock
                opens += [one for one in _moments(wall) if one > at and self.is_open(one, zone)]
        return min(opens, default=None)


def _moments(wall: datetime) -> list[datetime]:
    """Return when a wall clock shows a time: once or, in the hour that comes twice, two times.

    For a time that a change of clocks leaves out, the change is somewhere between both, at a full minute.
    """
    first, second = (wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:
        return [first, second]
    minutes = (first - second) // timedelta(minutes=1)
    return [second + timedelta(minutes=minute) for minute in range(minutes + 1)]


def parsed(text: str) -> OpeningHours:
    """Read opening hours; raise ``ValueError`` with what was not understood."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"more than {MOST_CHARACTERS} characters")
    days: dict[int, list[Span]] = {}
    for part in text.split(";"):
        words = part.replace(", ", ",").split()
        if not words:
            raise ValueError("an empty part")
        if words == ["24/7"]:
            days = {day: [(0, 1440)] for day in range(7)}
            continue
        named = list(range(7)) if words[0][:1].isdigit() or words[0] == "off" else _days(words.pop(0))
        if len(words) != 1:
            raise ValueError(part.strip())
        spans = [] if words[0] in ("off", "closed") else [_span(one) for one in words[0].split(",")]
        days |= dict.fromkeys(named, spans)
    return OpeningHours(text, days)


def _days(word: str) -> list[int]:
    found: list[int] = []
    for one in word.split(","):
        first, dash, last = one.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(one)
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found += [day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)]
    return found


def _span(word: str) -> Span:
    first, dash, last = word.partition("-")
    if not dash:
        raise ValueError(word)
    begin, end = _minute(first), _minute(last)
    if begin >= 1440 or begin == end:
        raise ValueError(word)
    return begin, end if end > begin else end + 1440


def _minute(word: str) -> int:
    hour, colon, minute = word.partition(":")
    if not (colon and hour.isdecimal() and minute.isdecimal() and len(hour) <= 2 and len(minute) == 2):
        raise ValueError(word)
    at = int(hour) * 60 + int(minute)
    if int(minute) > 59 or at > 1440:
        raise ValueError(word)
    return at
