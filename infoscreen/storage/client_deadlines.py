"""Clients that a loop has something to do for: silent for too long, out of maintenance, to be cleared.

By UUID: callers read them again for the change.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    TextClause,
    bindparam,
    or_,
    select,
    text,
    union_all,
    update,
)

from infoscreen.domain.clients import Condition
from infoscreen.storage.columns import Common, one_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import INCOMPREHENSIBLE, NOT_SHOWING, ONLINE, WATCHED, clients

AT_ONCE = 1_000
"""So many are returned; those that are left show at the next look."""


_c = clients.c


def _due(*conditions: ColumnElement[bool] | TextClause) -> Select[Any]:
    return select(_c.uuid).where(*conditions).limit(AT_ONCE)


_watched = (Common(one_of(_c.status, WATCHED)), _c.stale_after_seconds <= bindparam("listened"))
_FALLEN_SILENT = union_all(
    select(_c.uuid).where(*_watched, _c.stale_at <= bindparam("now")),
    select(_c.uuid).where(*_watched, _c.stale_at > bindparam("latest")),
).limit(AT_ONCE)
_FALLEN_MUTE = _due(text(INCOMPREHENSIBLE), _c.refused_until <= bindparam("now"))
_NOT_STARTED = _due(Common(text(ONLINE)), _c.start_due_at.is_not(None), _c.start_due_at <= bindparam("now"))
_NO_LONGER_DARK = _due(
    text(NOT_SHOWING), or_(_c.not_showing_until <= bindparam("now"), _c.within_hours.is_(False))
)
_OUT_OF_MAINTENANCE = _due(_c.status == Condition.MAINTENANCE, _c.maintenance_until <= bindparam("now"))
_AWAITING_CLEAR = (
    select(_c.uuid, _c.service_failed_clear_requested_at)
    .where(text("clients.service_failed_clear_pending"))
    .limit(AT_ONCE)
)


async def _some(
    connection: Connection, due: Select[Any] | CompoundSelect[Any], **bounds: datetime | float
) -> list[str]:
    return list((await connection.scalars(due, bounds)).all())


async def fallen_silent(
    connection: Connection, now: datetime, listened_for: timedelta, longest: timedelta
) -> list[str]:
    """Return clients whose silence has passed their threshold while we listened, but does not show yet.

    Among them those who were last heard in the future, by a clock that was set back since; ``longest`` is
    more than any threshold.
    """
    listened = listened_for.total_seconds()
    return await _some(connection, _FALLEN_SILENT, now=now, latest=now + longest, listened=listened)


async def fallen_mute(connection: Connection, now: datetime) -> list[str]:
    """Return clients that no longer send even what cannot be read."""
    return await _some(connection, _FALLEN_MUTE, now=now)


async def not_started(connection: Connection, now: datetime) -> list[str]:
    """Return clients whose application has been starting for too long, which does not show yet."""
    return await _some(connection, _NOT_STARTED, now=now)


async def no_longer_dark(connection: Connection, now: datetime) -> list[str]:
    """Return clients that count as not showing, but are closed, or no message says so for too long."""
    return await _some(connection, _NO_LONGER_DARK, now=now)


async def out_of_maintenance(connection: Connection, now: datetime) -> list[str]:
    """Return clients that still show a maintenance that is over."""
    return await _some(connection, _OUT_OF_MAINTENANCE, now=now)


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
