"""The histories of commands: one line for each step, and for each ack that changed nothing."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import (
    bindparam,
    func,
    insert,
    select,
    update,
)

from infoscreen.domain.commands import (
    CommandEvent,
)
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import command_events

MOST_EVENTS = 100
"""A command keeps at most so many lines of history (lifecycle design)."""


async def events(connection: Connection, command_id: str) -> list[CommandEvent]:
    """Return a command's history, oldest first."""
    columns = [command_events.c[field.name] for field in fields(CommandEvent)]
    statement = (
        select(*columns).where(command_events.c.command_id == command_id).order_by(command_events.c.id)
    )
    return [CommandEvent(**row) for row in (await connection.execute(statement)).mappings()]


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One line for a command's history."""

    command_id: str
    client_uuid: str
    event: CommandEvent


async def record(connection: Connection, lines: Sequence[HistoryLine]) -> None:
    """Add lines to histories, in order.

    A line that changed nothing (same state before and after) and stands there already only counts up, and a
    history that is full takes no more.
    """
    if not lines:
        return
    lengths, standing = await _histories(connection, {line.command_id for line in lines})
    again: Counter[int] = Counter()
    fresh: dict[tuple[str, str, str | None, int], dict[str, Any]] = {}
    for position, line in enumerate(lines):
        event = line.event
        key = (line.command_id, event.by, event.detail)
        unchanged = event.from_status is event.to_status
        if unchanged and key in standing:
            again[standing[key]] += 1
            continue
        place = (*key, -1 if unchanged else position)
        if place in fresh:
            fresh[place]["times"] += 1
        elif lengths[line.command_id] < MOST_EVENTS:
            lengths[line.command_id] += 1
            fresh[place] = {"command_id": line.command_id, "client_uuid": line.client_uuid} | asdict(event)
    c = command_events.c
    if fresh:
        await connection.execute(insert(command_events), list(fresh.values()))
    if again:
        count_up = (
            update(command_events).where(c.id == bindparam("key")).values(times=c.times + bindparam("more"))
        )
        await connection.execute(count_up, [{"key": key, "more": more} for key, more in again.items()])


async def _histories(
    connection: Connection, ids: Collection[str]
) -> tuple[Counter[str], dict[tuple[str, str, str | None], int]]:
    """Return how long each history is, and the row of each line in it that changed nothing."""
    lengths: Counter[str] = Counter()
    standing: dict[tuple[str, str, str | None], int] = {}
    c = command_events.c
    for chunk in chunks(ids):
        counted = select(c.command_id, func.count()).where(c.command_id.in_(chunk)).group_by(c.command_id)
        lengths.update({row[0]: row[1] for row in await connection.execute(counted)})
        repeats = select(c.id, c.command_id, c.by, c.detail)
        repeats = repeats.where(c.command_id.in_(chunk), c.from_status == c.to_status)
        standing.update(((row[1], row[2], row[3]), row[0]) for row in await connection.execute(repeats))
    return lengths, standing
