"""Clients that need a person, and the incidents of the kind ``client`` that say so."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, or_, select

from infoscreen.domain.clients import WELL, Condition
from infoscreen.domain.recovery import IncidentKind, Reason, Verb
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import clients, incident_members, incidents, recovery_decisions

NEEDS_PERSON = (
    Reason.EXHAUSTED,
    Reason.NO_OUTLET,
    Reason.LIMIT_REACHED,
    Reason.REFUSED,
    Reason.UNANSWERED,
    Reason.AUTO_RECOVERY_OFF,
    Reason.INCOMPREHENSIBLE,
    Reason.DUPLICATE,
)
_D, _C, _I, _M = recovery_decisions.c, clients.c, incidents.c, incident_members.c
_STANDING = and_(_D.client_uuid == _C.uuid, _D.last_at.is_(None))
_NEEDS = and_(
    _D.incident_id.is_(None),
    or_(_D.reason.in_(NEEDS_PERSON), and_(_D.would, _D.verb == Verb.ACT)),
)
_HAS_ONE = exists(
    select(_I.id)
    .join(incident_members, _M.incident_id == _I.id)
    .where(_M.client_uuid == _C.uuid, _I.kind == IncidentKind.CLIENT, _I.ended_at.is_(None))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedingClient:
    """A client that needs a person and has no incident yet."""

    uuid: str
    name: str
    site: str | None
    since: datetime
    reason: Reason
    arguments: Mapping[str, Any]


async def without_incident(connection: Connection, limit: int) -> list[NeedingClient]:
    """Return clients that need a person and are in no incident, neither of their own nor of others."""
    statement = (
        select(_C.uuid, _C.name, _C.hostname, _C.site, _C.status_since, _D.first_at, _D.reason, _D.arguments)
        .select_from(clients.join(recovery_decisions, _STANDING))
        .where(_NEEDS, ~_HAS_ONE)
        .order_by(_C.uuid)
        .limit(limit)
    )
    return [
        NeedingClient(
            uuid=row.uuid,
            name=row.name or row.hostname or row.uuid,
            site=row.site,
            since=min(row.status_since, row.first_at),
            reason=row.reason,
            arguments=row.arguments,
        )
        for row in await connection.execute(statement)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClientIncident:
    """An open incident of a client whose decision is another one by now; None is: it was deleted."""

    id: int
    acknowledged: bool
    status: Condition | None
    reason: Reason | None
    elsewhere: bool


async def no_longer(connection: Connection, limit: int) -> list[OpenClientIncident]:
    """Return open incidents of clients that are over, or that somebody takes care of without its being noted.

    A client in trouble that needs no person at the moment is not among them: it stays as it is.
    """
    unnoted = and_(_I.acknowledged_at.is_(None), _D.reason == Reason.TAKEN_OVER)
    over = or_(_C.uuid.is_(None), _D.id.is_(None), _D.incident_id.is_not(None), _C.status.in_(WELL))
    statement = (
        select(_I.id, _I.acknowledged_at, _C.status, _D.reason, _D.incident_id)
        .select_from(
            incidents.outerjoin(incident_members, _M.incident_id == _I.id)
            .outerjoin(clients, _C.uuid == _M.client_uuid)
            .outerjoin(recovery_decisions, _STANDING)
        )
        .where(
            _I.kind == IncidentKind.CLIENT,
            _I.ended_at.is_(None),
            or_(_D.id.is_(None), ~_NEEDS),
            or_(over, unnoted),
        )
        .order_by(_I.id)
        .limit(limit)
    )
    return [
        OpenClientIncident(
            id=row.id,
            acknowledged=row.acknowledged_at is not None,
            status=row.status,
            reason=row.reason,
            elsewhere=row.incident_id is not None,
        )
        for row in await connection.execute(statement)
    ]
