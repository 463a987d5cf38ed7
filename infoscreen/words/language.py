"""Languages: their catalogs, and how they write times, durations and numbers. English is the source.

The compiled catalogs are committed next to their sources, so that a fresh checkout and the wheel speak German
without a build step; ``scripts/catalog`` makes them, and a test compares them with the code.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from typing import Any, NamedTuple

LANGUAGES = {"de": "Deutsch", "en": "English"}
DEFAULT = "de"
CATALOG = "words/locale/{code}/LC_MESSAGES/words.mo"


def N_(message: str) -> str:
    """Mark a text for the catalogs where it is defined; it is translated where it is shown."""
    return message


class Plural(NamedTuple):
    """A sentence with two forms; the argument ``by`` decides."""

    one: str
    many: str
    by: str


Text = str | Plural
Table = Mapping[Any, Text]
"""A sentence for each member of one kind; the gaps ``%(name)s`` are exactly the member's arguments."""


def plural(one: str, many: str, by: str) -> Plural:
    """Mark a sentence with two forms for the catalogs, as ``N_`` does for one form."""
    return Plural(one, many, by)


MONTHS = {
    "de": ("Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez."),
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
}
"""Names instead of numbers: 3/4 is in March for some and in April for others."""

WEEKDAYS = {
    "de": ("Mo.", "Di.", "Mi.", "Do.", "Fr.", "Sa.", "So."),
    "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
}


@dataclass(frozen=True, slots=True)
class Language:
    """One language: its catalog, and how it writes times, durations and numbers.

    With a ``zone`` times are written for a reader there, on whose calendar it is ``today``; without one they
    are in UTC and say so.
    """

    code: str
    catalog: NullTranslations
    zone: tzinfo | None = None
    today: date | None = None

    def gettext(self, message: str) -> str:
        """Return the text in this language."""
        return self.catalog.gettext(message)

    def ngettext(self, one: str, many: str, count: int) -> str:
        """Return the text for this count."""
        return self.catalog.ngettext(one, many, count)

    def at(self, zone: tzinfo, now: datetime) -> "Language":
        """Return the language as it is written now for a reader in this time zone."""
        return replace(self, zone=zone, today=now.astimezone(zone).date())

    def moment(self, at: datetime) -> str:
        """Return a time to the second: no date if it is today, no year if it is this one."""
        if self.zone is None:
            return self.utc(at)
        there = at.astimezone(self.zone)
        clock = f"{there:%H:%M:%S}"
        if there.date() == self.today:
            return clock
        return f"{self.calendar_day(there.date())}, {clock}"

    def calendar_day(self, day: date) -> str:
        """Return a date, without the year if it is this one."""
        is_this_year = self.today is not None and day.year == self.today.year
        return self._day_and_month(day) if is_this_year else self.full_date(day)

    def weekday(self, day: date) -> str:
        """Return a date with the day of the week, short."""
        return f"{WEEKDAYS[self.code][day.weekday()]} {self._day_and_month(day)}"

    def full_date(self, day: date) -> str:
        """Return a date with its year."""
        return f"{self._day_and_month(day)} {day.year}"

    def _day_and_month(self, day: date) -> str:
        dot = "." if self.code == "de" else ""
        return f"{day.day}{dot} {self.months[day.month - 1]}"

    def day(self, at: datetime) -> str:
        """Return the day of a time, with its weekday and without the year if it is this one."""
        there = at.astimezone(self.zone or UTC).date()
        named = f"{WEEKDAYS[self.code][there.weekday()]}, {self.calendar_day(there)}"
        return self.gettext(N_("Today, %(day)s")) % {"day": named} if there == self.today else named

    def utc(self, at: datetime) -> str:
        """Return a time in UTC with its date."""
        pattern = "%d.%m.%Y %H:%M:%S UTC" if self.code == "de" else "%Y-%m-%d %H:%M:%S UTC"
        return at.astimezone(UTC).strftime(pattern)

    def clock(self, at: datetime) -> str:
        """Return the time of day."""
        return f"{at.astimezone(self.zone or UTC):%H:%M:%S}"

    @property
    def months(self) -> tuple[str, ...]:
        """Return the short names of the months."""
        return MONTHS[self.code]

    def duration(self, length: timedelta) -> str:
        """Return a length of time in its two largest units: ``45 s``, ``2 h 5 min``, ``3 d 4 h``."""
        seconds = max(0, round(length.total_seconds()))
        if seconds < 120:
            return f"{seconds} s"
        minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
        if minutes < 120:
            return f"{minutes} min"
        if hours < 48:
            return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
        day = self.gettext("d")
        return f"{days} {day} {hours % 24} h" if hours % 24 else f"{days} {day}"

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number with this language's decimal and grouping signs."""
        written = f"{value:,.{digits}f}"
        return written.translate(str.maketrans(",.", ".,")) if self.code == "de" else written

    def percent(self, value: float, digits: int = 0) -> str:
        """Return a share in percent; only German puts a space before the sign."""
        return self.number(value, digits) + (" %" if self.code == "de" else "%")


@cache
def language(code: str) -> Language:
    """Return one of ``LANGUAGES``; its catalog is read once."""
    if code == "en":
        return Language(code, NullTranslations())
    with (files("infoscreen") / CATALOG.format(code=code)).open("rb") as compiled:
        return Language(code, GNUTranslations(compiled))


ENGLISH = language("en")
"""The language of the command line and logs, and of programs that ask for none."""

_SPOKEN = ContextVar("spoken", default=ENGLISH)


def spoken() -> Language:
    """Return the language of sentences that are asked for without one."""
    return _SPOKEN.get()


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Say sentences in a language until the end of the block, in this task only."""
    before = _SPOKEN.set(language)
    try:
        yield
    finally:
        _SPOKEN.reset(before)


def preferred(accept_language: str, default: str = DEFAULT) -> str:
    """Return the language of ours that an ``Accept-Language`` header likes best."""
    best, best_quality = default, 0.0
    for part in accept_language[:1000].split(","):
        tag, _, parameter = part.strip().partition(";")
        code = tag.split("-")[0].lower()
        quality = _quality(parameter)
        if code in LANGUAGES and quality > best_quality:
            best, best_quality = code, quality
    return best


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
