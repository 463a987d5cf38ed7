"""Incidents: what several clients have, or had, in common; one row each, and one for each member."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from infoscreen.domain.recovery import OF_RECOVERY, Closing, Incident, IncidentKind
from infoscreen.storage.columns import one_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page, cursor_number, decode_cursor, encode_cursor
from infoscreen.storage.tables import incident_members, incidents


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIncident(Incident):
    """One incident with its number, and who takes care of it."""

    id: int = 0
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    comment: str | None = None

    @property
    def fact(self) -> Incident:
        """Return it as the rules want it."""
        return Incident(**{name: getattr(self, name) for name in FACTS})


FACTS = tuple(Incident.__dataclass_fields__)
_NAMES = tuple(StoredIncident.__dataclass_fields__)
_COLUMNS = [incidents.c[name] for name in _NAMES]


def _incident(row: Row[Any]) -> StoredIncident:
    return StoredIncident(**dict(zip(_NAMES, row, strict=True)))


_OPEN = select(*_COLUMNS).where(incidents.c.ended_at.is_(None)).order_by(incidents.c.began_at)
_UNDER_WAY = _OPEN.where(one_of(incidents.c.kind, OF_RECOVERY))


async def under_way(connection: Connection) -> list[StoredIncident]:
    """Return the incidents of the recovery that have not ended, oldest first."""
    return [_incident(row) for row in await connection.execute(_UNDER_WAY)]


async def open_of(connection: Connection, kinds: Collection[IncidentKind]) -> list[StoredIncident]:
    """Return the incidents of these kinds that have not ended, oldest first."""
    return [_incident(row) for row in await connection.execute(_OPEN.where(one_of(incidents.c.kind, kinds)))]


async def some(connection: Connection, ids: Collection[int]) -> list[StoredIncident]:
    """Return the incidents of these numbers."""
    if not ids:
        return []
    rows = await connection.execute(select(*_COLUMNS).where(incidents.c.id.in_(sorted(ids))))
    return [_incident(row) for row in rows]


async def get(connection: Connection, incident_id: int) -> StoredIncident | None:
    """Return one incident, None if there is none of that number."""
    return next(iter(await some(connection, [incident_id])), None)


async def page(
    connection: Connection, limit: int, cursor: str | None = None, *, open_only: bool = False
) -> Page[StoredIncident]:
    """Return incidents, newest first; raise ``InvalidInput`` for a foreign cursor."""
    c = incidents.c
    matching = [c.ended_at.is_(None)] if open_only else []
    statement = select(*_COLUMNS).where(*matching).order_by(c.id.desc()).limit(limit + 1)
    if cursor is not None:
        statement = statement.where(c.id < cursor_number(decode_cursor(cursor, 1)[0]))
    found = [_incident(row) for row in await connection.execute(statement)]
    shown = found[:limit]
    return Page(shown, encode_cursor(shown[-1].id) if len(found) > limit else None)


async def since(connection: Connection, kind: IncidentKind, begin: datetime) -> list[StoredIncident]:
    """Return the incidents of a kind that were under way at any time since ``begin``, oldest first."""
    c = incidents.c
    statement = select(*_COLUMNS).where(c.kind == kind, or_(c.ended_at.is_(None), c.ended_at > begin))
    return [_incident(row) for row in await connection.execute(statement.order_by(c.began_at))]


async def save(connection: Connection, incident: Incident) -> int:
    """Write an incident as it is now, a new one or one known by its key; return its number.

    One that was ended by a person stays so.
    """
    c = incidents.c
    values = {name: getattr(incident, name) for name in FACTS}
    values["facts"] = dict(incident.facts)
    found = await connection.scalar(select(c.id).where(c.key == incident.key))
    if found is not None:
        await connection.execute(
            update(incidents).where(c.id == found, c.ended_at.is_(None)).values(**values)
        )
        return int(found)
    key = (await connection.execute(insert(incidents).values(**values))).inserted_primary_key
    return 0 if key is None else int(key[0])


async def acknowledge(
    connection: Connection,
    incident_id: int,
    now: datetime,
    by: str,
    comment: str | None,
    *,
    if_nobody: bool = False,
) -> bool:
    """Note who takes care of an incident; return False if somebody else does, with ``if_nobody``."""
    values = {"acknowledged_at": now, "acknowledged_by": by, "comment": comment}
    changed = update(incidents).where(incidents.c.id == incident_id).values(**values)
    if if_nobody:
        changed = changed.where(incidents.c.acknowledged_at.is_(None))
    return (await connection.execute(changed)).rowcount > 0


async def dismiss(connection: Connection, incident_id: int, now: datetime) -> None:
    """End an incident because a person says so."""
    values = {"ended_at": now, "closing": Closing.DISMISSED}
    await connection.execute(update(incidents).where(incidents.c.id == incident_id).values(**values))


async def join(connection: Connection, incident_id: int, uuids: Sequence[str], now: datetime) -> None:
    """Write down who has become part of an incident; they must exist."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    rows = [{"incident_id": incident_id, "client_uuid": uuid, "joined_at": now} for uuid in uuids]
    if rows:
        await connection.execute(dialect.insert(incident_members).on_conflict_do_nothing(), rows)


async def members(connection: Connection, ids: Collection[int], limit: int) -> dict[int, list[str]]:
    """Return the clients that have ever been part of each of the incidents, up to ``limit`` of each."""
    c = incident_members.c
    found: dict[int, list[str]] = {}
    for one in ids:
        statement = select(c.client_uuid).where(c.incident_id == one).order_by(c.client_uuid).limit(limit)
        found[one] = list((await connection.scalars(statement)).all())
    return found


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` incidents that ended before a time; return how many."""
    c = incidents.c
    old = select(c.id).where(c.ended_at < before).limit(limit)
    return (await connection.execute(delete(incidents).where(c.id.in_(old)))).rowcount
