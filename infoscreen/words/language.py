"""Languages: their catalogs, and how they write times, durations and numbers. English is the source.

The compiled catalogs are committed next to their sources, so that a fresh checkout and the wheel speak German
without a build step; ``scripts/catalog`` makes them, and a test compares them with the code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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


@dataclass(frozen=True, slots=True)
class Language:
    """One language: its catalog, and how it writes times, durations and numbers."""

    code: str
    catalog: NullTranslations

    def gettext(self, message: str) -> str:
        """Return the text in this language."""
        return self.catalog.gettext(message)

    def ngettext(self, one: str, many: str, count: int) -> str:
        """Return the text for this count."""
        return self.catalog.ngettext(one, many, count)

    def moment(self, at: datetime) -> str:
        """Return a time in UTC, to the second, as it is read without JavaScript."""
        pattern = "%d.%m.%Y %H:%M:%S UTC" if self.code == "de" else "%Y-%m-%d %H:%M:%S UTC"
        return at.astimezone(UTC).strftime(pattern)

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


@cache
def language(code: str) -> Language:
    """Return one of ``LANGUAGES``; its catalog is read once."""
    if code == "en":
        return Language(code, NullTranslations())
    with (files("infoscreen") / CATALOG.format(code=code)).open("rb") as compiled:
        return Language(code, GNUTranslations(compiled))


ENGLISH = language("en")
"""The language of the API, the command line and logs."""


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
