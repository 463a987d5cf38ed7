"""The histories of commands: a line for each change of status, and for what else there is to say."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import (
    bindparam,
    func,
    insert,
    select,
    update,
)

from infoscreen.domain.codes import Fact, Packed, unpacked
from infoscreen.domain.commands import ClientCommand, CommandEvent, CommandStatus
from infoscreen.domain.history import Note, Part
from infoscreen.storage.columns import chunks, without_nulls
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import command_events

MOST_EVENTS = 100
"""A command keeps at most so many lines of history (lifecycle design)."""

_FOR_STATUSES = len(CommandStatus)
"""Lines kept free for changes of status, of which no command makes more: no status comes twice."""


_Key = tuple[str, str, str]
"""What lines that say the same have in common: command, author, and the note as text."""


async def events(connection: Connection, command_id: str) -> list[CommandEvent]:
    """Return a command's history, oldest first."""
    c = command_events.c
    statement = select(c.at, c.from_status, c.to_status, c.part, c.by, c.code, c.arguments, c.times)
    rows = await connection.execute(statement.where(c.command_id == command_id).order_by(c.id))
    return [
        CommandEvent(
            at=row.at,
            from_status=row.from_status,
            to_status=row.to_status,
            by=row.part or row.by,
            note=None if row.code is None else unpacked(Note, row.code, row.arguments or {}),
            times=row.times,
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One line for a command's history."""

    command_id: str
    client_uuid: str
    event: CommandEvent

    @classmethod
    def of(
        cls,
        before: ClientCommand | None,
        after: ClientCommand,
        at: datetime,
        by: Part | str,
        note: Fact[Note] | None = None,
    ) -> Self:
        """Return the line about a command that was changed; ``before`` is None for a new one."""
        from_status = None if before is None else before.status
        event = CommandEvent(at=at, from_status=from_status, to_status=after.status, by=by, note=note)
        return cls(after.command_id, after.client_uuid, event)


async def record(connection: Connection, lines: Sequence[HistoryLine]) -> None:
    """Add lines to histories, in order and with one statement.

    Changes of status are always taken. A line that changed no status is left out when the history is full or
    has it already; then it counts up, unless it is about an ack: devices repeat those without end.
    """
    if not lines:
        return
    unchanged = {line.command_id for line in lines if _keeps_status(line)}
    lengths, standing = await _histories(connection, unchanged)
    again: Counter[int] = Counter()
    fresh: list[dict[str, Any]] = []
    placed: dict[_Key, dict[str, Any]] = {}
    for line in lines:
        columns = _columns(line)
        if _keeps_status(line):
            key = _key(line.command_id, line.event.by, columns["code"], columns["arguments"])
            counts = line.event.by is not Part.DEVICE
            if key in standing:
                again[standing[key]] += counts
                continue
            if key in placed:
                placed[key]["times"] += counts
                continue
            if lengths[line.command_id] >= MOST_EVENTS - _FOR_STATUSES:
                continue
            lengths[line.command_id] += 1
            placed[key] = columns
        fresh.append(columns)
    c = command_events.c
    if fresh:
        await connection.execute(insert(command_events), without_nulls(fresh))
    again = +again
    if again:
        count_up = (
            update(command_events).where(c.id == bindparam("key")).values(times=c.times + bindparam("more"))
        )
        await connection.execute(count_up, [{"key": key, "more": more} for key, more in again.items()])


def _keeps_status(line: HistoryLine) -> bool:
    return line.event.from_status is line.event.to_status


def _columns(line: HistoryLine) -> dict[str, Any]:
    event, note = line.event, line.event.note
    return {
        "command_id": line.command_id,
        "client_uuid": line.client_uuid,
        "at": event.at,
        "from_status": event.from_status,
        "to_status": event.to_status,
        "part": event.by if isinstance(event.by, Part) else None,
        "by": str(event.by),
        "code": None if note is None else note.code,
        "arguments": None if note is None else note.packed(),
        "times": event.times,
    }


def _key(command_id: str, by: str, code: Note | None, arguments: Packed | None) -> _Key:
    """Return what lines that say the same have in common."""
    return command_id, by, json.dumps([code, arguments], sort_keys=True)


async def _histories(connection: Connection, ids: Collection[str]) -> tuple[Counter[str], dict[_Key, int]]:
    """Return how long each history is, and the row of each line in it that changed nothing."""
    lengths: Counter[str] = Counter()
    standing: dict[_Key, int] = {}
    c = command_events.c
    for chunk in chunks(ids):
        counted = select(c.command_id, func.count()).where(c.command_id.in_(chunk)).group_by(c.command_id)
        lengths.update({row[0]: row[1] for row in await connection.execute(counted)})
        repeats = select(c.id, c.command_id, c.by, c.code, c.arguments)
        repeats = repeats.where(c.command_id.in_(chunk), c.from_status == c.to_status)
        standing.update((_key(*row[1:]), row[0]) for row in await connection.execute(repeats))
    return lengths, standing
