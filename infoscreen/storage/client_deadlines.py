"""Clients that a loop has something to do for: silent for too long, out of maintenance, to be cleared."""

from datetime import datetime, timedelta

from sqlalchemy import (
    and_,
    or_,
    select,
    text,
)

from infoscreen.domain.clients import Client, Condition
from infoscreen.storage.clients import COLUMNS, client_of
from infoscreen.storage.columns import one_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import INCOMPREHENSIBLE, STARTING, WATCHED, clients


async def fallen_silent(
    connection: Connection, now: datetime, listened_for: timedelta, longest: timedelta
) -> list[Client]:
    """Return clients whose silence has passed their threshold while we listened, but does not show yet.

    Among them those who were last heard in the future, by a clock that was set back since; ``longest`` is
    more than any threshold.
    """
    due = and_(
        one_of(clients.c.status, WATCHED),
        or_(clients.c.stale_at <= now, clients.c.stale_at > now + longest),
        clients.c.stale_after_seconds <= listened_for.total_seconds(),
    )
    return [client_of(row) for row in await connection.execute(select(*COLUMNS).where(due).limit(5_000))]


async def fallen_mute(connection: Connection, now: datetime) -> list[Client]:
    """Return clients that no longer send even what cannot be read."""
    due = and_(text(INCOMPREHENSIBLE), clients.c.refused_until <= now)
    return [client_of(row) for row in await connection.execute(select(*COLUMNS).where(due).limit(5_000))]


async def not_started(connection: Connection, now: datetime) -> list[Client]:
    """Return clients whose application has been starting for too long, which does not show yet."""
    due = and_(text(STARTING), clients.c.start_due_at <= now)
    return [client_of(row) for row in await connection.execute(select(*COLUMNS).where(due).limit(5_000))]


async def out_of_maintenance(connection: Connection, now: datetime) -> list[Client]:
    """Return clients that still show a maintenance that is over."""
    due = and_(clients.c.status == Condition.MAINTENANCE, clients.c.maintenance_until <= now)
    return [client_of(row) for row in await connection.execute(select(*COLUMNS).where(due).limit(5_000))]


async def awaiting_clear(connection: Connection) -> list[str]:
    """Return the clients whose retained failure an operator has acknowledged and the broker still holds."""
    statement = select(clients.c.uuid).where(text("clients.service_failed_clear_pending"))
    return list((await connection.scalars(statement.limit(1_000))).all())
