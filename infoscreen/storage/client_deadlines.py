"""Clients that a loop has something to do for: silent for too long, out of maintenance, to be cleared."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, TextClause, bindparam, or_, select, text, update

from infoscreen.domain.clients import Client, Condition
from infoscreen.storage.clients import COLUMNS, client_of
from infoscreen.storage.columns import one_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import INCOMPREHENSIBLE, STARTING, WATCHED, clients

AT_ONCE = 5_000


def _due(*conditions: ColumnElement[bool] | TextClause) -> Select[Any]:
    """Return a statement that is made once: these run every second, and nearly always find nothing."""
    return select(*COLUMNS).where(*conditions).limit(AT_ONCE)


_NOW = bindparam("now", type_=clients.c.stale_at.type)
_SILENT = _due(
    one_of(clients.c.status, WATCHED),
    or_(clients.c.stale_at <= _NOW, clients.c.stale_at > bindparam("latest")),
    clients.c.stale_after_seconds <= bindparam("listened_for"),
)
_MUTE = _due(text(INCOMPREHENSIBLE), clients.c.refused_until <= _NOW)
_NOT_STARTED = _due(text(STARTING), clients.c.start_due_at <= _NOW)
_OUT_OF_MAINTENANCE = _due(
    one_of(clients.c.status, [Condition.MAINTENANCE]), clients.c.maintenance_until <= _NOW
)
_AWAITING_CLEAR = (
    select(clients.c.uuid, clients.c.service_failed_clear_requested_at)
    .where(text("clients.service_failed_clear_pending"))
    .limit(1_000)
)


async def fallen_silent(
    connection: Connection, now: datetime, listened_for: timedelta, longest: timedelta
) -> list[Client]:
    """Return clients whose silence has passed their threshold while we listened, but does not show yet.

    Among them those who were last heard in the future, by a clock that was set back since; ``longest`` is
    more than any threshold.
    """
    given = {"now": now, "latest": now + longest, "listened_for": listened_for.total_seconds()}
    return [client_of(row) for row in await connection.execute(_SILENT, given)]


async def fallen_mute(connection: Connection, now: datetime) -> list[Client]:
    """Return clients that no longer send even what cannot be read."""
    return [client_of(row) for row in await connection.execute(_MUTE, {"now": now})]


async def not_started(connection: Connection, now: datetime) -> list[Client]:
    """Return clients whose application has been starting for too long, which does not show yet."""
    return [client_of(row) for row in await connection.execute(_NOT_STARTED, {"now": now})]


async def out_of_maintenance(connection: Connection, now: datetime) -> list[Client]:
    """Return clients that still show a maintenance that is over."""
    return [client_of(row) for row in await connection.execute(_OUT_OF_MAINTENANCE, {"now": now})]


async def awaiting_clear(connection: Connection) -> list[tuple[str, datetime | None]]:
    """Return the clients whose retained failure an operator has acknowledged and the broker still holds.

    Each with the time of that acknowledgement.
    """
    return [(uuid, requested_at) for uuid, requested_at in await connection.execute(_AWAITING_CLEAR)]


async def note_cleared(connection: Connection, cleared: Sequence[tuple[str, datetime | None]]) -> None:
    """Note that the broker holds these failures no more; one acknowledged again meanwhile waits on."""
    for uuid, requested_at in cleared:
        same = clients.c.service_failed_clear_requested_at.is_not_distinct_from(requested_at)
        await connection.execute(
            update(clients).where(clients.c.uuid == uuid, same).values(service_failed_clear_pending=False)
        )
