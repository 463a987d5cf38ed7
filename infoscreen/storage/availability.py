"""Intervals of clients, appended as their conditions change, and the times in which the daemon listened."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, insert, or_, select, text, update

from infoscreen.domain.availability import Cure, Gap, Help, IntervalCause, StatusInterval
from infoscreen.domain.commands import DISRUPTIVE, CommandStatus
from infoscreen.domain.recovery import OUTAGES, Outcome
from infoscreen.storage.availability_tables import UNEXPLAINED, client_intervals, observed_times
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import client_commands, incident_members, incidents, recovery_attempts

_i, _o = client_intervals.c, observed_times.c
_COLUMNS = (
    _i.client_uuid,
    _i.condition,
    _i.began_at,
    _i.ended_at,
    _i.cause,
    _i.cure,
    _i.repaired_seconds,
    _i.id,
)
"""In the order of the fields of ``StatusInterval``."""

_APPEND = insert(client_intervals)


async def append(connection: Connection, intervals: Sequence[StatusInterval]) -> None:
    """Store intervals that have ended, with one statement."""
    if intervals:
        names = [column.name for column in _COLUMNS[:-1]]
        await connection.execute(_APPEND, [dict(zip(names, one, strict=False)) for one in intervals])


async def of_clients(
    connection: Connection, uuids: Collection[str], start: datetime, end: datetime
) -> dict[str, list[StatusInterval]]:
    """Return the intervals that ended after ``start`` and began before ``end``, in order."""
    found: defaultdict[str, list[StatusInterval]] = defaultdict(list)
    for chunk in chunks(uuids):
        statement = (
            select(*_COLUMNS)
            .where(_i.client_uuid.in_(chunk), _i.ended_at > start, _i.began_at < end)
            .order_by(_i.client_uuid, _i.began_at, _i.id)
        )
        for row in await connection.execute(statement):
            found[row[0]].append(StatusInterval(*row))
    return found


# --- when the daemon listened


async def observe(
    connection: Connection, listening_since: datetime, now: datetime, cause: IntervalCause
) -> None:
    """Note that the daemon listens; ``cause`` is why it did not before, if that is news.

    After the clock was set back, the time goes on once the end of the last one has passed again.
    """
    newest = select(_o.id, _o.began_at, _o.ended_at).order_by(_o.id.desc()).limit(1)
    last = (await connection.execute(newest)).first()
    if last is not None and listening_since <= last.ended_at:
        if now > last.ended_at:
            await connection.execute(update(observed_times).where(_o.id == last.id).values(ended_at=now))
        return
    values = {"began_at": listening_since, "ended_at": max(listening_since, now), "gap_cause": cause}
    await connection.execute(insert(observed_times).values(**values))


async def observed_since(connection: Connection) -> datetime | None:
    """Return when the daemon began to listen, as far as that is kept."""
    oldest = select(_o.began_at).order_by(_o.ended_at).limit(1)
    found: datetime | None = await connection.scalar(oldest)
    return found


async def gaps(connection: Connection, start: datetime, end: datetime) -> list[Gap]:
    """Return the times between ``start`` and ``end`` in which the daemon did not listen, in order."""
    statement = select(_o.began_at, _o.ended_at, _o.gap_cause).where(_o.ended_at > start).order_by(_o.id)
    found, at, cause = [], start, IntervalCause.UNKNOWN
    for began_at, ended_at, cause in await connection.execute(statement):
        if began_at >= end:
            break
        if began_at > at:
            found.append(Gap(at, began_at, cause))
        at = max(at, ended_at)
    else:
        cause = IntervalCause.UNKNOWN
    if at < end:
        found.append(Gap(at, end, cause))
    return found


# --- what is found out later


async def unexplained(connection: Connection, ended_before: datetime, limit: int) -> list[StatusInterval]:
    """Return dark intervals that have ended, and whose cause nobody has looked for."""
    statement = (
        select(*_COLUMNS)
        .where(text(UNEXPLAINED), _i.ended_at < ended_before)
        .order_by(_i.ended_at)
        .limit(limit)
    )
    return [StatusInterval(*row) for row in await connection.execute(statement)]


_EXPLAIN = (
    update(client_intervals)
    .where(_i.id == bindparam("number"))
    .values(cause=bindparam("the_cause"), cure=bindparam("the_cure"))
)


async def explain(
    connection: Connection, explained: Sequence[tuple[StatusInterval, IntervalCause | None, Cure | None]]
) -> None:
    """Write causes and cures; times are left as they are."""
    rows = [{"number": one.number, "the_cause": cause, "the_cure": cure} for one, cause, cure in explained]
    if rows:
        await connection.execute(_EXPLAIN, rows)


async def outages(
    connection: Connection, uuids: Collection[str], start: datetime
) -> dict[str, list[datetime]]:
    """Return when each of the clients became part of an outage, after ``start``."""
    found: defaultdict[str, list[datetime]] = defaultdict(list)
    for chunk in chunks(uuids):
        statement = (
            select(incident_members.c.client_uuid, incident_members.c.joined_at)
            .join(incidents, incidents.c.id == incident_members.c.incident_id)
            .where(
                incident_members.c.client_uuid.in_(chunk),
                incident_members.c.joined_at >= start,
                incidents.c.kind.in_(sorted(OUTAGES)),
            )
        )
        for uuid, joined_at in await connection.execute(statement):
            found[uuid].append(joined_at)
    return found


async def helped(connection: Connection, uuids: Collection[str], start: datetime) -> dict[str, list[Help]]:
    """Return the attempts of the recovery that helped each of the clients, and the commands of people."""
    found: defaultdict[str, list[Help]] = defaultdict(list)
    a, c = recovery_attempts.c, client_commands.c
    for chunk in chunks(uuids):
        tried = select(a.client_uuid, a.decided_at, a.rung).where(
            a.client_uuid.in_(chunk), a.decided_at >= start, a.outcome == Outcome.HELPED
        )
        for uuid, at, rung in await connection.execute(tried):
            found[uuid].append(Help(at, rung))
        asked = select(c.client_uuid, c.created_at).where(
            c.client_uuid.in_(chunk),
            c.created_at >= start,
            c.requested_by.is_not(None),
            c.action.in_(sorted(DISRUPTIVE)),
            or_(c.status == CommandStatus.COMPLETED, c.accepted_at.is_not(None)),
        )
        for uuid, at in await connection.execute(asked):
            found[uuid].append(Help(at))
        for some in found.values():
            some.sort(key=lambda one: one.at)
    return found


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` intervals, and times of listening, that ended before."""
    doomed = select(_i.id).where(_i.ended_at < before).order_by(_i.ended_at).limit(limit)
    gone: Any = await connection.execute(delete(client_intervals).where(_i.id.in_(doomed)))
    await connection.execute(delete(observed_times).where(_o.ended_at < before))
    return int(gone.rowcount)
