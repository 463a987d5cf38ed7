"""Incidents: times at which the recovery held back a site, the fleet or itself, one row each."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, or_, select, update

from infoscreen.domain.recovery import Incident, IncidentKind
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page, cursor_number, decode_cursor, encode_cursor
from infoscreen.storage.tables import recovery_decisions, recovery_incidents


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIncident:
    """One incident, as in ``domain.recovery.Incident``; ``clients`` is how many it has held so far."""

    id: int = 0
    kind: IncidentKind
    site: str | None = None
    began_at: datetime
    calm_since: datetime | None = None
    ended_at: datetime | None = None
    silent: int = 0
    returned_at: datetime | None = None
    clients: int = 0

    @property
    def fact(self) -> Incident:
        """Return it as the rules want it."""
        return Incident(**{name: getattr(self, name) for name in FACTS})


FACTS = tuple(Incident.__dataclass_fields__)
"""What the rules know of an incident, and want back with the next poll."""

_NAMES = tuple(StoredIncident.__dataclass_fields__)
_COLUMNS = [recovery_incidents.c[name] for name in _NAMES]


def _incident(row: Row[Any]) -> StoredIncident:
    return StoredIncident(**dict(zip(_NAMES, row, strict=True)))


async def under_way(connection: Connection) -> list[StoredIncident]:
    """Return the incidents that have not ended, oldest first."""
    c = recovery_incidents.c
    rows = await connection.execute(select(*_COLUMNS).where(c.ended_at.is_(None)).order_by(c.began_at))
    return [_incident(row) for row in rows]


async def some(connection: Connection, ids: Collection[int]) -> list[StoredIncident]:
    """Return the incidents of these numbers."""
    if not ids:
        return []
    rows = await connection.execute(select(*_COLUMNS).where(recovery_incidents.c.id.in_(sorted(ids))))
    return [_incident(row) for row in rows]


async def page(connection: Connection, limit: int, cursor: str | None = None) -> Page[StoredIncident]:
    """Return incidents, newest first; raise ``InvalidInput`` for a foreign cursor."""
    c = recovery_incidents.c
    total = await connection.scalar(select(func.count()).select_from(recovery_incidents))
    statement = select(*_COLUMNS).order_by(c.id.desc()).limit(limit + 1)
    if cursor is not None:
        statement = statement.where(c.id < cursor_number(decode_cursor(cursor, 1)[0]))
    found = [_incident(row) for row in await connection.execute(statement)]
    shown = found[:limit]
    return Page(shown, encode_cursor(shown[-1].id) if len(found) > limit else None, total or 0)


async def since(connection: Connection, kind: IncidentKind, begin: datetime) -> list[StoredIncident]:
    """Return the incidents of a kind that were under way at any time since ``begin``, oldest first."""
    c = recovery_incidents.c
    statement = select(*_COLUMNS).where(c.kind == kind, or_(c.ended_at.is_(None), c.ended_at > begin))
    return [_incident(row) for row in await connection.execute(statement.order_by(c.began_at))]


async def begin(connection: Connection, incident: Incident) -> int:
    """Write a new incident and return its number."""
    values = {name: getattr(incident, name) for name in FACTS}
    key = (await connection.execute(insert(recovery_incidents).values(**values))).inserted_primary_key
    return 0 if key is None else int(key[0])


async def change(connection: Connection, incident_id: int, values: Mapping[str, Any]) -> None:
    """Set columns of one incident."""
    statement = update(recovery_incidents).where(recovery_incidents.c.id == incident_id)
    await connection.execute(statement.values(**values))


async def clients_held(connection: Connection, incident_id: int) -> int:
    """Return how many different clients were held by an incident so far."""
    c = recovery_decisions.c
    different = select(func.count(c.client_uuid.distinct())).where(c.incident_id == incident_id)
    return await connection.scalar(different) or 0


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` incidents that ended before a time; return how many."""
    c = recovery_incidents.c
    old = select(c.id).where(c.ended_at < before).limit(limit)
    return (await connection.execute(delete(recovery_incidents).where(c.id.in_(old)))).rowcount
