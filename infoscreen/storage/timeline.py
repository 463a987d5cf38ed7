"""What happened to a client: status changes, logs and operator acts.

Its commands' history, and what the recovery decided and tried, are merged in from where they stand.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Select,
    Table,
    Text,
    cast,
    delete,
    literal,
    literal_column,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite

from infoscreen.domain.codes import Code, Fact, unpacked
from infoscreen.domain.commands import Action, CommandStatus
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.history import Happening, Note, Part
from infoscreen.domain.recovery import Attempt
from infoscreen.domain.timeline import AttemptBegun, AttemptEnded, CommandMove, DecisionMade, TimelineEntry
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page, cursor_number, cursor_time, decode_cursor, encode_cursor
from infoscreen.storage.recovery import attempts, decisions
from infoscreen.storage.recovery.decisions import StoredDecision
from infoscreen.storage.tables import (
    client_commands,
    command_events,
    recovery_attempts,
    recovery_decisions,
    timeline,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """A line to be written: a fact, or the text of a log line. ``data`` is more for programs.

    Two entries with the same ``dedupe_key`` are one: the second is dropped.
    """

    client_uuid: str
    at: datetime
    kind: TimelineKind
    fact: Fact[Happening] | None = None
    text: str | None = None
    level: str | None = None
    data: Mapping[str, Any] | None = None
    dedupe_key: str | None = None


async def add(connection: Connection, entries: Sequence[NewEntry]) -> None:
    """Write lines; a repeated one (same ``dedupe_key``) changes nothing."""
    if not entries:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(timeline).on_conflict_do_nothing(index_elements=["dedupe_key"])
    rows = [
        {
            "client_uuid": entry.client_uuid,
            "at": entry.at,
            "kind": entry.kind,
            "code": None if entry.fact is None else entry.fact.code,
            "text": entry.text,
            "level": entry.level,
            "data": _data(entry),
            "dedupe_key": entry.dedupe_key,
        }
        for entry in entries
    ]
    await connection.execute(statement, rows)


def _data(entry: NewEntry) -> dict[str, Any] | None:
    if entry.fact is None:
        return None if entry.data is None else dict(entry.data)
    return {**(entry.data or {}), **entry.fact.packed()}


async def page(
    connection: Connection,
    client_uuid: str,
    limit: int,
    cursor: str | None = None,
    kinds: Collection[TimelineKind] = frozenset(),
    *,
    all_logs: bool = True,
) -> Page[TimelineEntry]:
    """Return a page of a client's timeline, newest first; no kinds means all.

    Without ``all_logs``, log lines that are neither warnings nor errors are left out.

    Raises:
        InvalidInput: the cursor is not one of this list.
    """
    after: tuple[datetime, int, int] | None = None
    if cursor is not None:
        at, source, number = decode_cursor(cursor, 3)
        after = cursor_time(at), cursor_number(source), cursor_number(number)
    wanted = kinds or frozenset(TimelineKind)
    # One part for each kind, read in the order of an index and no further than the page goes: however long
    # the history is, and however rare a kind.
    parts = [
        _grave_logs(client_uuid) if kind is TimelineKind.LOG and not all_logs else _own(client_uuid, kind)
        for kind in sorted(wanted)
    ]
    if TimelineKind.COMMAND in wanted:
        parts.append(_of_commands(client_uuid))
    if TimelineKind.RECOVERY in wanted:
        parts += _of_recovery(client_uuid)
    merged = union_all(*(part.newest(limit + 1, after) for part in parts)).subquery()
    key = (merged.c.at, merged.c.source, merged.c.id)
    statement = select(merged).order_by(*(column.desc() for column in key)).limit(limit + 1)
    rows = (await connection.execute(statement)).all()
    following = (
        encode_cursor(rows[limit - 1].at, rows[limit - 1].source, rows[limit - 1].id)
        if len(rows) > limit
        else None
    )
    told = await _told_by_recovery(connection, rows[:limit])
    entries = [told.get((row.source, row.id)) or _entry(row) for row in rows[:limit]]
    return Page(entries, following)


OWN, COMMAND, DECISION, ATTEMPT, OUTCOME = 1, 2, 3, 4, 5
"""Where a line comes from; it decides the order of lines of the same time."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The lines of one source, in the columns of the merged list, with what they are ordered by."""

    lines: Select[Any]
    at: Column[Any]
    source: int
    number: Column[Any]

    def newest(self, limit: int, after: tuple[datetime, int, int] | None) -> Select[Any]:
        """Return the newest lines that come after a cursor."""
        lines = self.lines
        if after is not None:
            at, source, number = after
            if self.source == source:
                lines = lines.where(tuple_(self.at, self.number) < tuple_(at, number))
            else:
                lines = lines.where(self.at <= at if self.source < source else self.at < at)
        ordered = lines.order_by(self.at.desc(), self.number.desc()).limit(limit)
        # SQLite takes an order within a union in a subquery only.
        return select(ordered.subquery())


def _own(client_uuid: str, kind: TimelineKind) -> _Part:
    c = timeline.c
    nothing: list[ColumnElement[Any]] = [
        literal_column("NULL").label(name) for name in ("command_id", "action", "before", "after")
    ]
    code = cast(c.code, Text).label("code")
    lines = select(c.at, _source(OWN), c.id, c.kind, code, c.text, c.level, c.data, *nothing)
    return _Part(lines.where(c.client_uuid == client_uuid, c.kind == kind), c.at, OWN, c.id)


def _grave_logs(client_uuid: str) -> _Part:
    part = _own(client_uuid, TimelineKind.LOG)
    # Written as the partial index has it, or SQLite does not take it.
    grave = text("timeline.kind = 'log' AND timeline.level IN ('warn', 'error')")
    return replace(part, lines=part.lines.where(grave))


def _of_commands(client_uuid: str) -> _Part:
    c = command_events.c
    lines = (
        select(
            c.at,
            _source(COMMAND),
            c.id,
            literal(TimelineKind.COMMAND, timeline.c.kind.type).label("kind"),
            cast(c.code, Text).label("code"),
            c.by.label("text"),
            cast(c.part, Text).label("level"),
            c.arguments.label("data"),
            c.command_id,
            client_commands.c.action,
            c.from_status.label("before"),
            c.to_status.label("after"),
        )
        .join(client_commands, client_commands.c.command_id == c.command_id)
        .where(c.client_uuid == client_uuid)
    )
    return _Part(lines, c.at, COMMAND, c.id)


def _of_recovery(client_uuid: str) -> list[_Part]:
    """Return when decisions were made, and attempts begun and ended."""
    decided, begun, ended = (
        recovery_decisions.c.first_at,
        recovery_attempts.c.decided_at,
        recovery_attempts.c.ended_at,
    )
    return [
        _recovery_part(recovery_decisions, decided, DECISION, client_uuid),
        _recovery_part(recovery_attempts, begun, ATTEMPT, client_uuid),
        _recovery_part(recovery_attempts, ended, OUTCOME, client_uuid),
    ]


def _recovery_part(table: Table, at: Column[Any], source: int, client_uuid: str) -> _Part:
    names = ("level", "data", "command_id", "action", "before", "after")
    nothing: dict[str, ColumnElement[Any]] = {name: literal_column("NULL").label(name) for name in names}
    nothing["data"] = cast(literal_column("NULL"), JSON).label("data")
    lines = select(
        at.label("at"),
        _source(source),
        table.c.id,
        literal(TimelineKind.RECOVERY, timeline.c.kind.type).label("kind"),
        cast(literal_column("NULL"), Text).label("code"),
        cast(literal_column("NULL"), Text).label("text"),
        *nothing.values(),
    ).where(table.c.client_uuid == client_uuid, at.is_not(None))
    return _Part(lines, at, source, table.c.id)


def _source(number: int) -> ColumnElement[Any]:
    return literal_column(str(number)).label("source")


async def _told_by_recovery(
    connection: Connection, rows: Sequence[Any]
) -> dict[tuple[int, int], TimelineEntry]:
    """Return the lines of a page that decisions and attempts stand behind, by source and number."""
    numbers = {source: {row.id for row in rows if row.source == source} for source in (3, 4, 5)}
    told: dict[tuple[int, int], TimelineEntry] = {}
    if numbers[DECISION]:
        for number, decision in (await decisions.get_many(connection, numbers[DECISION])).items():
            told[DECISION, number] = _decided(decision)
    tried = numbers[ATTEMPT] | numbers[OUTCOME]
    if tried:
        for number, attempt in (await attempts.get_many(connection, tried)).items():
            told[ATTEMPT, number] = _tried(attempt)
            told[OUTCOME, number] = _came_of_it(attempt)
    return told


def _decided(decision: StoredDecision) -> TimelineEntry:
    about = DecisionMade(
        verb=decision.verb,
        reason=decision.reason,
        arguments=dict(decision.arguments),
        rung=decision.rung,
        attempt=decision.attempt,
        until=decision.until,
        would=decision.would,
        last_at=decision.last_at,
        times=decision.times,
    )
    return TimelineEntry(decision.first_at, TimelineKind.RECOVERY, about=about)


def _tried(attempt: Attempt) -> TimelineEntry:
    about = AttemptBegun(rung=attempt.rung, command_id=attempt.command_id)
    return TimelineEntry(attempt.decided_at, TimelineKind.RECOVERY, about=about)


def _came_of_it(attempt: Attempt) -> TimelineEntry:
    about = AttemptEnded(
        rung=attempt.rung,
        command_id=attempt.command_id,
        outcome=attempt.outcome,
        error_code=attempt.error_code,
    )
    return TimelineEntry(attempt.ended_at or attempt.decided_at, TimelineKind.RECOVERY, about=about)


def _entry(row: Any) -> TimelineEntry:
    if row.command_id is None:
        fact = None if row.code is None else unpacked(Happening, row.code, row.data or {})
        return TimelineEntry(row.at, row.kind, row.text, row.level, row.data, fact)
    about = CommandMove(
        command_id=row.command_id,
        action=Action(row.action),
        before=None if row.before is None else CommandStatus(row.before),
        after=CommandStatus(row.after),
        by=row.text,
        part=None if row.level is None else Part(row.level),
    )
    note: Fact[Code] | None = None if row.code is None else unpacked(Note, row.code, row.data or {})
    return TimelineEntry(row.at, row.kind, fact=note, about=about)


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` lines older than ``before``; return how many."""
    old = select(timeline.c.id).where(timeline.c.at < before).limit(limit)
    return (await connection.execute(delete(timeline).where(timeline.c.id.in_(old)))).rowcount
