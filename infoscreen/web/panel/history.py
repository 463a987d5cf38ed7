"""A client's history as people read it: day by day, a command as one line that opens, repeats folded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from zlib import crc32

from infoscreen.domain.timeline import CommandMove, TimelineEntry
from infoscreen.words.language import Language
from infoscreen.words.telling import is_echo, told


@dataclass(slots=True)
class LineOfDay:
    """What is shown as one line: the newest ``entry``, and what else it stands for.

    ``times`` is how often the same was said in a row, since ``since``; ``steps`` are all steps of a command,
    newest first. ``key`` stays the same while the line grows.
    """

    entry: TimelineEntry
    key: str
    since: datetime
    times: int = 1
    steps: list[TimelineEntry] = field(default_factory=list)


@dataclass(slots=True)
class HistoryDay:
    """The lines of one day of the reader, newest first."""

    day: date
    lines: list[LineOfDay] = field(default_factory=list)

    @property
    def noon(self) -> datetime:
        """Return a time on that day, in whose words it is named."""
        return self.lines[0].entry.at


def days_of(entries: Sequence[TimelineEntry], language: Language, zone: tzinfo) -> list[HistoryDay]:
    """Return the entries of a page, newest first, without acks that only repeat what is known."""
    days: list[HistoryDay] = []
    of_command: dict[tuple[date, str], LineOfDay] = {}
    for entry in (one for one in entries if not is_echo(one)):
        day = entry.at.astimezone(zone).date()
        if not days or days[-1].day != day:
            days.append(HistoryDay(day))
        lines = days[-1].lines
        if isinstance(entry.about, CommandMove):
            known = of_command.get((day, entry.about.command_id))
            if known is not None:
                known.steps.append(entry)
                known.since = entry.at
                continue
            line = LineOfDay(entry, f"entry-{day}-{entry.about.command_id}", entry.at, steps=[entry])
            of_command[day, entry.about.command_id] = line
            lines.append(line)
        elif lines and _says_the_same(lines[-1].entry, entry, language):
            lines[-1].times += 1
            lines[-1].since = entry.at
            lines[-1].key = _key(entry)
        else:
            lines.append(LineOfDay(entry, _key(entry), entry.at))
    return days


def _says_the_same(newer: TimelineEntry, older: TimelineEntry, language: Language) -> bool:
    if isinstance(newer.about, CommandMove):
        return False
    return (newer.kind, newer.level) == (older.kind, older.level) and told(newer, language) == told(
        older, language
    )


def _key(entry: TimelineEntry) -> str:
    """Return what tells a line from others; those of one moment are told by what they say."""
    said = crc32(f"{entry.text} {entry.fact}".encode())
    return f"entry-{entry.at.timestamp():.6f}-{entry.kind}-{said:x}".replace(".", "-")
