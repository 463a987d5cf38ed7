"""Opening hours in the notation of OpenStreetMap: the only module that knows the library that reads them.

An expression is parsed once for each time zone and country, and kept.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from opening_hours import (  # type: ignore[attr-defined]  # its stub leaves out the errors
    OpeningHours,
    ParserError,
    State,
    UnknownCountryError,
)

from infoscreen.clock import zone_named
from infoscreen.domain.codes import Fact
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.hours import Schedule, Span
from infoscreen.domain.sites import MOST_CHARACTERS

FURTHEST_DAYS = 400
"""A change that is further away does not matter; it also bounds what an odd expression may cost."""

LOOKED_BACK = (timedelta(days=9), timedelta(days=FURTHEST_DAYS))
"""How far the beginning of the present span is looked for: nearly all begin within a week."""

SHOWN = timedelta(days=14)
"""What a check of an expression answers."""

KEPT = 8_192

_PLACE = re.compile(r"--> (\d+):(\d+)")


class BadHours(Exception):
    """Hours cannot be used: ``field`` is at fault (``hours``, ``time_zone``, ``country``), ``fault`` why."""

    def __init__(self, field: str, fault: Fact[FieldFault]) -> None:
        super().__init__(f"{field}: {fault}")
        self.field = field
        self.fault = fault


class Interval(NamedTuple):
    """A part of a calendar, open or not."""

    start: datetime
    end: datetime
    within: bool


@dataclass(frozen=True, slots=True)
class _Read:
    """An expression that was read, and the zone whose clocks it is about."""

    hours: OpeningHours
    zone: ZoneInfo


class Hours:
    """Answers when something is open; ``zone`` is that of schedules which name none."""

    def __init__(self, zone: tzinfo = UTC) -> None:
        self.zone = zone if isinstance(zone, ZoneInfo) else ZoneInfo("UTC")
        self._asked_at: datetime | None = None
        self._spans: dict[Schedule, Span] = {}
        """Those at the time that was asked for last: the clients of a site have the same hours."""

    def check(self, schedule: Schedule) -> None:
        """Raise ``BadHours`` if the schedule cannot be used."""
        self._read(schedule)

    def span_at(self, schedule: Schedule, now: datetime) -> Span:
        """Return the span of a schedule around a time; raise ``BadHours``."""
        if now != self._asked_at:
            self._asked_at, self._spans = now, {}
        if schedule not in self._spans:
            self._spans[schedule] = self._span_at(schedule, now)
        return self._spans[schedule]

    def _span_at(self, schedule: Schedule, now: datetime) -> Span:
        read = self._read(schedule)
        within = _is_open(read, now)
        until = _next_change(read, now, within)
        for back in LOOKED_BACK:
            spans = _merged(read, now - back, now + timedelta(microseconds=1))
            if len(spans) > 1:
                return Span(within, spans[-1].start, until)
        return Span(within, None, until)

    def intervals(self, schedule: Schedule, start: datetime, end: datetime) -> list[Interval]:
        """Return the parts of a time, without gap or overlap, in turn open and closed; raise ``BadHours``."""
        return _merged(self._read(schedule), start, end)

    def is_open(self, schedule: Schedule, at: datetime) -> bool:
        """Tell whether it is open at a time; raise ``BadHours``."""
        return _is_open(self._read(schedule), at)

    def next_open(self, schedule: Schedule, at: datetime) -> datetime | None:
        """Return the time itself if it is open, else the next opening, None if none; raise ``BadHours``."""
        read = self._read(schedule)
        return at if _is_open(read, at) else _next_change(read, at, within=False)

    def zone_of(self, schedule: Schedule) -> ZoneInfo:
        """Return the time zone that counts; raise ``BadHours``."""
        return self._read(schedule).zone

    def _read(self, schedule: Schedule) -> _Read:
        return _parsed(schedule.hours, schedule.time_zone or self.zone.key, schedule.country)


@lru_cache(maxsize=KEPT)
def _parsed(text: str, time_zone: str, country: str | None) -> _Read:
    if len(text) > MOST_CHARACTERS:
        raise BadHours("hours", Fact(FieldFault.TOO_LONG, {"most": MOST_CHARACTERS}))
    if (zone := zone_named(time_zone)) is None:
        raise BadHours("time_zone", Fact(FieldFault.NO_SUCH_TIME_ZONE))
    try:
        hours = OpeningHours(text, timezone=zone, country=country, max_interval_days=FURTHEST_DAYS)
    except UnknownCountryError:
        raise BadHours("country", Fact(FieldFault.NO_SUCH_COUNTRY)) from None
    except TypeError:
        # The library knows fewer zones than the host, which has "localtime", "posix/Europe/Berlin" and so on.
        raise BadHours("time_zone", Fact(FieldFault.NO_SUCH_TIME_ZONE)) from None
    except ParserError as error:
        raise BadHours("hours", _not_read(text, str(error))) from None
    return _Read(hours, zone)


def _not_read(text: str, said: str) -> Fact[FieldFault]:
    """Return where an expression stops to make sense; the library's own words say no more."""
    place = _PLACE.search(said)
    line, column = (int(place[1]), int(place[2])) if place else (1, 1)
    lines = text.split("\n")
    before = sum(len(one) + 1 for one in lines[: line - 1])
    rest = text[before + column - 1 :][:40]
    return Fact(FieldFault.NOT_OPENING_HOURS, {"part": rest, "column": before + column})


def _is_open(read: _Read, at: datetime) -> bool:
    # Possibly open ("unknown") is open: somebody may be looking at the screen.
    return bool(read.hours.state(at.astimezone(read.zone))[0] != State.CLOSED)


def _next_change(read: _Read, at: datetime, within: bool) -> datetime | None:
    change = read.hours.next_change(at.astimezone(read.zone))
    while change is not None and _is_open(read, change) is within:
        # From open to possibly open.
        change = read.hours.next_change(change)
    return None if change is None else change.astimezone(UTC)


def _merged(read: _Read, start: datetime, end: datetime) -> list[Interval]:
    found: list[Interval] = []
    for begin, finish, state, _ in read.hours.intervals(
        start.astimezone(read.zone), end.astimezone(read.zone)
    ):
        within = state != State.CLOSED
        if found and found[-1].within is within:
            found[-1] = found[-1]._replace(end=finish.astimezone(UTC))
        else:
            found.append(Interval(begin.astimezone(UTC), finish.astimezone(UTC), within))
    return found


def intervals_shown(hours: Hours, schedule: Schedule, now: datetime) -> Sequence[Interval]:
    """Return the next two weeks of a schedule; raise ``BadHours``."""
    return hours.intervals(schedule, now, now + SHOWN)
