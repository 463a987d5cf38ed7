"""Clients that a loop has something to do for: silent for too long, out of maintenance, to be cleared.

By UUID: callers read them again for the change.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, or_, select, text, update

from infoscreen.domain.clients import Condition
from infoscreen.storage.columns import one_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import INCOMPREHENSIBLE, STARTING, WATCHED, clients

AT_ONCE = 1_000
"""So many are returned; those that are left show at the next look."""


async def _some(connection: Connection, due: ColumnElement[bool]) -> list[str]:
    return list((await connection.scalars(select(clients.c.uuid).where(due).limit(AT_ONCE))).all())


async def fallen_silent(
    connection: Connection, now: datetime, listened_for: timedelta, longest: timedelta
) -> list[str]:
    """Return clients whose silence has passed their threshold while we listened, but does not show yet.

    Among them those who were last heard in the future, by a clock that was set back since; ``longest`` is
    more than any threshold.
    """
    due = and_(
        one_of(clients.c.status, WATCHED),
        or_(clients.c.stale_at <= now, clients.c.stale_at > now + longest),
        clients.c.stale_after_seconds <= listened_for.total_seconds(),
    )
    return await _some(connection, due)


async def fallen_mute(connection: Connection, now: datetime) -> list[str]:
    """Return clients that no longer send even what cannot be read."""
    due = and_(text(INCOMPREHENSIBLE), clients.c.refused_until <= now)
    return await _some(connection, due)


async def not_started(connection: Connection, now: datetime) -> list[str]:
    """Return clients whose application has been starting for too long, which does not show yet."""
    due = and_(text(STARTING), clients.c.start_due_at <= now)
    return await _some(connection, due)


async def out_of_maintenance(connection: Connection, now: datetime) -> list[str]:
    """Return clients that still show a maintenance that is over."""
    due = and_(clients.c.status == Condition.MAINTENANCE, clients.c.maintenance_until <= now)
    return await _some(connection, due)


async def awaiting_clear(connection: Connection) -> list[tuple[str, datetime | None]]:
    """Return the clients whose retained failure an operator has acknowledged and the broker still holds.

    Each with the time of that acknowledgement.
    """
    statement = select(clients.c.uuid, clients.c.service_failed_clear_requested_at)
    found = await connection.execute(
        statement.where(text("clients.service_failed_clear_pending")).limit(1_000)
    )
    return [(uuid, requested_at) for uuid, requested_at in found]


async def note_cleared(connection: Connection, cleared: Sequence[tuple[str, datetime | None]]) -> None:
    """Note that the broker holds these failures no more; one acknowledged again meanwhile waits on."""
    for uuid, requested_at in cleared:
        same = clients.c.service_failed_clear_requested_at.is_not_distinct_from(requested_at)
        await connection.execute(
            update(clients).where(clients.c.uuid == uuid, same).values(service_failed_clear_pending=False)
        )
