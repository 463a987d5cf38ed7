"""Bulk actions: writing them down before they begin, what became of each client, and how far they are."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, select, tuple_, update

from infoscreen.domain.bulk import BulkAction, BulkOutcome, BulkProgress
from infoscreen.domain.commands import CommandStatus, Waiting
from infoscreen.storage.bulk_tables import bulk_actions, bulk_results
from infoscreen.storage.columns import chunks, one_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import (
    Page,
    cursor_number,
    cursor_text,
    cursor_time,
    decode_cursor,
    encode_cursor,
)
from infoscreen.storage.tables import client_commands, clients

FORGOTTEN_AT_ONCE = 2
"""Each has up to 5,000 results."""

_a, _r, _c = bulk_actions.c, bulk_results.c, client_commands.c


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkLine:
    """What became of one client; the status is that of its command now, None without one.

    ``label`` is what the client is called, None if it does not exist any more.
    """

    position: int
    client_uuid: str
    label: str | None
    site: str | None
    outcome: BulkOutcome
    command_id: str | None
    status: CommandStatus | None
    waits_for: Waiting | None


_ALL = select(*(_a[one.name] for one in fields(BulkAction)))


def _bulk_action(row: Row[Any]) -> BulkAction:
    return BulkAction(**dict(zip((one.name for one in fields(BulkAction)), row, strict=True)))


async def begin(connection: Connection, bulk: BulkAction, client_uuids: Sequence[str]) -> None:
    """Write down a bulk action and that every client is still to be looked at."""
    await connection.execute(insert(bulk_actions).values(asdict(bulk)))
    rows = [
        {"batch_id": bulk.batch_id, "position": number, "client_uuid": uuid, "outcome": BulkOutcome.PENDING}
        for number, uuid in enumerate(client_uuids)
    ]
    if rows:
        await connection.execute(insert(bulk_results), rows)


async def get(connection: Connection, batch_id: str) -> BulkAction | None:
    """Return a bulk action, or None."""
    row = (await connection.execute(_ALL.where(_a.batch_id == batch_id))).one_or_none()
    return None if row is None else _bulk_action(row)


async def for_change(connection: Connection, batch_id: str) -> BulkAction | None:
    """Return the same, and hold it until this transaction ends."""
    statement = _ALL.where(_a.batch_id == batch_id).with_for_update()
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _bulk_action(row)


async def newest(connection: Connection, limit: int, cursor: str | None = None) -> Page[BulkAction]:
    """Return bulk actions, newest first."""
    statement = _ALL
    if cursor is not None:
        at, batch_id = decode_cursor(cursor, 2)
        statement = statement.where(tuple_(_a.at, _a.batch_id) < (cursor_time(at), cursor_text(batch_id)))
    statement = statement.order_by(_a.at.desc(), _a.batch_id.desc()).limit(limit + 1)
    found = [_bulk_action(row) for row in await connection.execute(statement)]
    shown = found[:limit]
    following = encode_cursor(shown[-1].at, shown[-1].batch_id) if len(found) > limit else None
    return Page(shown, following)


_IS_PENDING = one_of(_r.outcome, {BulkOutcome.PENDING})
_WITH_PENDING = select(_r.batch_id).where(_IS_PENDING).distinct().limit(100)


async def with_pending(connection: Connection) -> list[str]:
    """Return bulk actions with clients that nobody has looked at yet."""
    return list((await connection.scalars(_WITH_PENDING)).all())


async def pending(connection: Connection, batch_id: str, limit: int) -> dict[str, int]:
    """Return the next clients to look at, with their positions."""
    statement = select(_r.client_uuid, _r.position).where(_r.batch_id == batch_id, _IS_PENDING)
    rows = await connection.execute(statement.order_by(_r.position).limit(limit))
    return {row[0]: row[1] for row in rows}


_SETTLE = (
    update(bulk_results)
    .where(_r.batch_id == bindparam("of"), _r.position == bindparam("at"))
    .values(outcome=bindparam("became"), command_id=bindparam("by"))
)


async def settle(
    connection: Connection, batch_id: str, results: Mapping[int, tuple[BulkOutcome, str | None]]
) -> None:
    """Write down what became of clients, by position, with the command that it became."""
    rows = [
        {"of": batch_id, "at": position, "became": outcome, "by": command_id}
        for position, (outcome, command_id) in results.items()
    ]
    if rows:
        await connection.execute(_SETTLE, rows)


async def stop(connection: Connection, batch_id: str, now: datetime, by: str) -> int:
    """Mark a bulk action as stopped; return for how many clients nothing has begun."""
    await connection.execute(
        update(bulk_actions).where(_a.batch_id == batch_id).values(stopped_at=now, stopped_by=by)
    )
    waiting = update(bulk_results).where(_r.batch_id == batch_id, _IS_PENDING)
    return (await connection.execute(waiting.values(outcome=BulkOutcome.STOPPED))).rowcount


async def queued(connection: Connection, batch_id: str, limit: int) -> list[str]:
    """Return ids of commands of a bulk action that were not sent yet."""
    statement = select(_c.command_id).where(_c.batch_id == batch_id, _c.status == CommandStatus.QUEUED)
    return list((await connection.scalars(statement.limit(limit))).all())


async def progress(connection: Connection, batch_ids: Collection[str]) -> dict[str, BulkProgress]:
    """Return how far bulk actions are."""
    outcomes: dict[str, dict[BulkOutcome, int]] = {one: {} for one in batch_ids}
    statuses: dict[str, dict[CommandStatus, int]] = {one: {} for one in batch_ids}
    waiting: dict[tuple[str, Waiting | None], int] = {}
    for chunk in chunks(batch_ids):
        counted = select(_r.batch_id, _r.outcome, func.count()).where(_r.batch_id.in_(chunk))
        for one, outcome, count in await connection.execute(counted.group_by(_r.batch_id, _r.outcome)):
            outcomes[one][outcome] = count
        # Commands that the lockout refused have no part in what is still to come.
        columns = (_c.batch_id, _c.status, _c.waits_for)
        moving = select(*columns, func.count()).where(_c.batch_id.in_(chunk))
        for one, status, waits_for, count in await connection.execute(moving.group_by(*columns)):
            statuses[one][status] = statuses[one].get(status, 0) + count
            waiting[one, waits_for] = waiting.get((one, waits_for), 0) + count
    return {
        one: BulkProgress(
            outcomes[one],
            statuses[one],
            waiting.get((one, Waiting.TURN), 0),
            waiting.get((one, Waiting.CLIENT), 0),
        )
        for one in batch_ids
    }


async def lines(
    connection: Connection, batch_id: str, limit: int, cursor: str | None = None
) -> Page[BulkLine]:
    """Return what became of each client, in the order in which they take their turns."""
    statement = (
        select(
            _r.position,
            _r.client_uuid,
            func.coalesce(clients.c.name, clients.c.hostname).label("label"),
            clients.c.site,
            _r.outcome,
            _r.command_id,
            _c.status,
            _c.waits_for,
        )
        .outerjoin(clients, clients.c.uuid == _r.client_uuid)
        .outerjoin(client_commands, _c.command_id == _r.command_id)
        .where(_r.batch_id == batch_id)
    )
    if cursor is not None:
        statement = statement.where(_r.position > min(cursor_number(decode_cursor(cursor, 1)[0]), 2**31 - 1))
    rows = await connection.execute(statement.order_by(_r.position).limit(limit + 1))
    found = [BulkLine(**row) for row in rows.mappings()]
    shown = found[:limit]
    return Page(shown, encode_cursor(shown[-1].position) if len(found) > limit else None)


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete a few bulk actions older than ``before`` with their results; return ``limit`` if more may be."""
    old = select(_a.batch_id).where(_a.at < before).limit(FORGOTTEN_AT_ONCE)
    deleted = (await connection.execute(delete(bulk_actions).where(_a.batch_id.in_(old)))).rowcount
    return limit if deleted == FORGOTTEN_AT_ONCE else deleted
