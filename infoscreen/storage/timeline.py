"""What happened to a client: status changes, logs and operator acts.

Its commands' history, and what the recovery decided and tried, are merged in from where they stand.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Select,
    Table,
    cast,
    delete,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite

from infoscreen.domain.events import Kind
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page, cursor_time, decode_cursor, encode_cursor
from infoscreen.storage.recovery import attempts, decisions
from infoscreen.storage.recovery.attempts import StoredAttempt
from infoscreen.storage.recovery.decisions import StoredDecision
from infoscreen.storage.tables import (
    client_commands,
    command_events,
    recovery_attempts,
    recovery_decisions,
    timeline,
)


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line. ``data`` carries what a program or a translation needs; ``level`` is set for logs."""

    at: datetime
    kind: Kind
    text: str
    level: str | None = None
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """A line to be written. Two entries with the same ``dedupe_key`` are one: the second is dropped."""

    client_uuid: str
    at: datetime
    kind: Kind
    text: str
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
            "text": entry.text,
            "level": entry.level,
            "data": None if entry.data is None else dict(entry.data),
            "dedupe_key": entry.dedupe_key,
        }
        for entry in entries
    ]
    await connection.execute(statement, rows)


async def page(
    connection: Connection,
    client_uuid: str,
    limit: int,
    cursor: str | None = None,
    kinds: Collection[Kind] = frozenset(),
) -> Page[TimelineEntry]:
    """Return a page of a client's timeline, newest first; no kinds means all.

    Raises:
        InvalidInput: the cursor is not one of this list.
    """
    own = select(
        timeline.c.at,
        literal_column("1").label("source"),
        timeline.c.id,
        timeline.c.kind,
        timeline.c.text,
        timeline.c.level,
        timeline.c.data,
        literal_column("NULL").label("command_id"),
        literal_column("NULL").label("action"),
        literal_column("NULL").label("from_status"),
        literal_column("NULL").label("to_status"),
    ).where(timeline.c.client_uuid == client_uuid)
    of_commands = (
        select(
            command_events.c.at,
            literal_column("2").label("source"),
            command_events.c.id,
            literal(Kind.COMMAND, timeline.c.kind.type).label("kind"),
            func.coalesce(command_events.c.detail, "").label("text"),
            command_events.c.by.label("level"),
            cast(literal_column("NULL"), JSON).label("data"),
            command_events.c.command_id,
            client_commands.c.action,
            command_events.c.from_status,
            command_events.c.to_status,
        )
        .join(client_commands, client_commands.c.command_id == command_events.c.command_id)
        .where(command_events.c.client_uuid == client_uuid)
    )
    if kinds:
        own = own.where(timeline.c.kind.in_(sorted(kinds)))
    parts: list[Select[Any]] = [own]
    if not kinds or Kind.COMMAND in kinds:
        parts.append(of_commands)
    if not kinds or Kind.RECOVERY in kinds:
        parts += _of_recovery(client_uuid)
    merged = union_all(*parts).subquery()
    key = (merged.c.at, merged.c.source, merged.c.id)
    total = await connection.scalar(select(func.count()).select_from(merged))
    statement = select(merged)
    if cursor is not None:
        at, source, number = decode_cursor(cursor, 3)
        statement = statement.where(tuple_(*key) < tuple_(cursor_time(at), source, number))
    statement = statement.order_by(*(column.desc() for column in key)).limit(limit + 1)
    rows = (await connection.execute(statement)).all()
    following = (
        encode_cursor(rows[limit - 1].at, rows[limit - 1].source, rows[limit - 1].id)
        if len(rows) > limit
        else None
    )
    told = await _told_by_recovery(connection, rows[:limit])
    entries = [told.get((row.source, row.id)) or _entry(row) for row in rows[:limit]]
    return Page(entries, following, total or 0)


DECISION, ATTEMPT, OUTCOME = 3, 4, 5
"""Sources beyond the timeline itself (1) and the commands (2)."""


def _of_recovery(client_uuid: str) -> list[Select[Any]]:
    """Return when decisions were made, and attempts begun and ended, as parts of the merged list."""
    begun, ended = recovery_attempts.c.decided_at, recovery_attempts.c.ended_at
    return [
        _part(recovery_decisions, recovery_decisions.c.first_at, DECISION, client_uuid),
        _part(recovery_attempts, begun, ATTEMPT, client_uuid),
        _part(recovery_attempts, ended, OUTCOME, client_uuid).where(ended.is_not(None)),
    ]


def _part(table: Table, at: Column[Any], source: int, client_uuid: str) -> Select[Any]:
    nothing: list[ColumnElement[Any]] = [literal_column("NULL")] * 4
    return select(
        at,
        literal_column(str(source)),
        table.c.id,
        literal(Kind.RECOVERY, timeline.c.kind.type),
        literal_column("''"),
        literal_column("NULL"),
        cast(literal_column("NULL"), JSON),
        *nothing,
    ).where(table.c.client_uuid == client_uuid)


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
    data = {
        "what": "decision",
        "verb": decision.verb,
        "reason": decision.reason,
        "arguments": decision.arguments,
        "rung": decision.rung,
        "attempt": decision.attempt,
        "until": _zulu(decision.until),
        "would": decision.would,
        "last_at": _zulu(decision.last_at),
        "times": decision.times,
    }
    return TimelineEntry(decision.first_at, Kind.RECOVERY, decision.sentence("en"), None, data)


def _tried(attempt: StoredAttempt) -> TimelineEntry:
    text = f"{'Would try' if attempt.would else 'Tries'} {attempt.rung.action}."
    return TimelineEntry(attempt.decided_at, Kind.RECOVERY, text, None, _of_attempt(attempt, "attempt"))


def _came_of_it(attempt: StoredAttempt) -> TimelineEntry:
    data = _of_attempt(attempt, "outcome") | {"outcome": attempt.outcome, "detail": attempt.detail}
    text = f"Outcome of {attempt.rung.action}: {attempt.outcome}."
    return TimelineEntry(attempt.ended_at or attempt.decided_at, Kind.RECOVERY, text, None, data)


def _of_attempt(attempt: StoredAttempt, what: str) -> dict[str, Any]:
    return {
        "what": what,
        "rung": attempt.rung,
        "action": attempt.rung.action,
        "would": attempt.would,
        "command_id": None if attempt.would else attempt.command_id,
    }


def _zulu(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def _entry(row: Any) -> TimelineEntry:
    if row.command_id is None:
        return TimelineEntry(row.at, row.kind, row.text, row.level, row.data)
    data = {
        "command_id": row.command_id,
        "action": row.action,
        "from": row.from_status,
        "to": row.to_status,
        "by": row.level,
    }
    told = f"{row.action} {row.to_status}" if row.from_status != row.to_status else f"{row.action} unchanged"
    return TimelineEntry(row.at, row.kind, f"{told}: {row.text}" if row.text else told, None, data)


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` lines older than ``before``; return how many."""
    old = select(timeline.c.id).where(timeline.c.at < before).limit(limit)
    return (await connection.execute(delete(timeline).where(timeline.c.id.in_(old)))).rowcount
