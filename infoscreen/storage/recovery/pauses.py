"""Pauses of the recovery: somebody's word that a client, a site or the fleet is left alone until a time."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Row, and_, bindparam, insert, or_, select, update

from infoscreen.storage import locks
from infoscreen.storage.engine import Connection
from infoscreen.storage.locks import AdvisoryLock
from infoscreen.storage.tables import recovery_pauses


class PauseScope(StrEnum):
    """How much is paused."""

    FLEET = "fleet"
    SITE = "site"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPause:
    """One pause. ``site`` and ``client_uuid`` are set as the scope asks; it ends at ``until`` or earlier."""

    id: int = 0
    scope: PauseScope
    site: str | None = None
    client_uuid: str | None = None
    reason: str
    by: str
    created_at: datetime
    until: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None


_NAMES = tuple(StoredPause.__dataclass_fields__)
_COLUMNS = [recovery_pauses.c[name] for name in _NAMES]


def _pause(row: Row[Any]) -> StoredPause:
    values = dict(zip(_NAMES, row, strict=True))
    return StoredPause(**values | {"scope": PauseScope(values["scope"])})


def _in_force(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    return and_(recovery_pauses.c.ended_at.is_(None), recovery_pauses.c.until > now)


async def one_at_a_time(connection: Connection) -> None:
    """Let nobody else begin or end a pause until this transaction ends.

    A scope has at most one pause, which is ended before another one begins; no row is there yet that could
    be locked for a fleet without a pause. SQLite has one writer anyway.
    """
    await locks.hold(connection, AdvisoryLock.PAUSES)


_IN_FORCE = select(*_COLUMNS).where(_in_force(bindparam("now"))).order_by(recovery_pauses.c.until)


async def in_force(connection: Connection, now: datetime) -> list[StoredPause]:
    """Return all pauses that are in force, those that end first in front."""
    return [_pause(row) for row in await connection.execute(_IN_FORCE, {"now": now})]


async def of_client(
    connection: Connection, client_uuid: str, site: str | None, now: datetime
) -> list[StoredPause]:
    """Return the pauses in force that cover one client, those that last longest in front."""
    c = recovery_pauses.c
    covering = or_(
        c.scope == PauseScope.FLEET,
        and_(c.scope == PauseScope.CLIENT, c.client_uuid == client_uuid),
        and_(c.scope == PauseScope.SITE, c.site == site),
    )
    statement = select(*_COLUMNS).where(_in_force(now), covering).order_by(c.until.desc())
    return [_pause(row) for row in await connection.execute(statement)]


async def since(connection: Connection, begin: datetime) -> list[StoredPause]:
    """Return the pauses that were in force at any time since ``begin``, oldest first."""
    c = recovery_pauses.c
    statement = select(*_COLUMNS).where(c.until > begin, or_(c.ended_at.is_(None), c.ended_at > begin))
    return [_pause(row) for row in await connection.execute(statement.order_by(c.created_at))]


async def add(connection: Connection, pause: StoredPause) -> StoredPause:
    """Write a new pause and return it with its number."""
    values = {name: getattr(pause, name) for name in _NAMES if name != "id"}
    result = await connection.execute(insert(recovery_pauses).values(**values))
    key = result.inserted_primary_key
    return StoredPause(**values, id=0 if key is None else key[0])


async def end(
    connection: Connection,
    scope: PauseScope,
    site: str | None,
    client_uuid: str | None,
    now: datetime,
    by: str,
) -> list[StoredPause]:
    """End every pause in force of exactly this scope, and return them as they were."""
    c = recovery_pauses.c
    same = and_(
        _in_force(now),
        c.scope == scope,
        c.site == site if scope is PauseScope.SITE else c.site.is_(None),
        c.client_uuid == client_uuid if scope is PauseScope.CLIENT else c.client_uuid.is_(None),
    )
    found = [_pause(row) for row in await connection.execute(select(*_COLUMNS).where(same))]
    ids = [pause.id for pause in found]
    if ids:
        ending = update(recovery_pauses).where(c.id.in_(ids)).values(ended_at=now, ended_by=by)
        await connection.execute(ending)
    return found
