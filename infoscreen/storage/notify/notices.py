"""What was told of each incident under each rule, and which pairs are to be looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, delete, literal, or_, select, update

from infoscreen.domain.notifying import SeenIncident, ToldSoFar, severity_of
from infoscreen.storage.columns import insert_or
from infoscreen.storage.engine import Connection
from infoscreen.storage.notify_tables import notices
from infoscreen.storage.recovery.incidents import StoredIncident
from infoscreen.storage.tables import client_tags, clients, incident_members, incidents

_I, _N = incidents.c, notices.c
_INCIDENT = tuple(StoredIncident.__dataclass_fields__)

STATE = (
    case((_I.ended_at.is_(None), ""), else_="e")
    .concat(case((_I.acknowledged_at.is_(None), ""), else_="a"))
    .concat(case((_I.calm_since.is_(None), ""), else_="c"))
    .concat(case((_I.stopped_at.is_(None), ""), else_="s"))
)
"""What of an incident makes a difference, in one word; a pair is looked at again when it changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticePair:
    """An incident and what was told of it under one rule; ``state`` is the incident's word of ``STATE``."""

    incident: StoredIncident
    told: ToldSoFar
    state: str

    def seen(self, tags: frozenset[str] = frozenset()) -> SeenIncident:
        """Return the incident as the rules want it."""
        one = self.incident
        stored = one.facts.get("severity")
        return SeenIncident(
            kind=one.kind,
            began_at=one.began_at,
            severity=severity_of(one.kind, None if stored is None else str(stored)),
            site=one.site,
            tags=tags,
            calm=one.calm_since is not None,
            ended_at=one.ended_at,
            closing=one.closing,
            acknowledged=one.acknowledged_at is not None,
            stopped_at=one.stopped_at,
        )


async def to_look_at(
    connection: Connection, rule_id: int, now: datetime, after: int, limit: int
) -> list[NoticePair]:
    """Return pairs of a rule that are new, due or changed, by the incident's number beyond ``after``.

    An incident that ended before anybody looked at it is no pair: it was too short.
    """
    new = and_(_N.incident_id.is_(None), _I.ended_at.is_(None))
    old = and_(_N.done.is_(False), or_(_N.look_at <= now, _N.seen != STATE))
    statement = (
        select(
            *(_I[name] for name in _INCIDENT),
            _N.opened_at,
            _N.reminded_at,
            _N.escalated_at,
            _N.calm_at,
            STATE,
        )
        .select_from(
            incidents.outerjoin(notices, and_(_N.incident_id == _I.id, _N.rule_id == literal(rule_id)))
        )
        .where(_I.id > after, or_(new, old))
        .order_by(_I.id)
        .limit(limit)
    )
    found = []
    for row in await connection.execute(statement):
        told = ToldSoFar(opened_at=row[-5], reminded_at=row[-4], escalated_at=row[-3], calm_at=row[-2])
        incident = StoredIncident(**dict(zip(_INCIDENT, row[:-5], strict=True)))
        found.append(NoticePair(incident=incident, told=told, state=row[-1]))
    return found


async def tags_of(connection: Connection, incident_id: int) -> frozenset[str]:
    """Return the tags of an incident's members."""
    joined = client_tags.join(incident_members, incident_members.c.client_uuid == client_tags.c.client_uuid)
    statement = select(client_tags.c.tag).distinct().select_from(joined)
    found = await connection.scalars(statement.where(incident_members.c.incident_id == incident_id))
    return frozenset(found.all())


async def save(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write what was told; the rows have all columns."""
    if not rows:
        return
    statement = insert_or(connection, notices)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in ("incident_id", "rule_id")}
    statement = statement.on_conflict_do_update(index_elements=["incident_id", "rule_id"], set_=changed)
    await connection.execute(statement, list(rows))


async def look_at_all(connection: Connection, now: datetime) -> None:
    """Let every unfinished pair be looked at, after a step of the clock."""
    await connection.execute(
        update(notices).where(_N.done.is_(False), _N.look_at.is_not(None)).values(look_at=now)
    )


async def forget_untold(connection: Connection, rule_id: int) -> None:
    """Let a rule that was changed decide again on everything that it has not told yet."""
    await connection.execute(delete(notices).where(_N.rule_id == rule_id, _N.opened_at.is_(None)))


async def names_of(connection: Connection, incident_id: int, limit: int) -> list[str]:
    """Return the names of some members of an incident."""
    joined = clients.join(incident_members, incident_members.c.client_uuid == clients.c.uuid)
    statement = select(clients.c.name, clients.c.hostname, clients.c.uuid).select_from(joined)
    statement = statement.where(incident_members.c.incident_id == incident_id)
    rows = await connection.execute(statement.order_by(clients.c.uuid).limit(limit))
    return [name or hostname or uuid for name, hostname, uuid in rows]
