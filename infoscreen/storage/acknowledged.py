"""Which clients somebody takes care of: singly, by an outage they are part of, or by an acknowledged failure.

An acknowledged failure of a service counts until the unit was seen running again, so that acknowledging a
client never makes it look well. It says nothing of other problems, nor of failures of other units: a client
with one is not acknowledged by it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    union,
)

from infoscreen.domain.clients import PROBLEMS, Condition, ProcessStatus
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.recovery.acknowledgements import StoredAcknowledgement, of_clients
from infoscreen.storage.recovery_tables import recovery_acknowledgements
from infoscreen.storage.tables import clients, failed_services, incidents, recovery_decisions

_acks, _failed, _decisions, _incidents = (
    recovery_acknowledgements.c,
    failed_services.c,
    recovery_decisions.c,
    incidents.c,
)


Now = datetime | BindParameter[datetime]
NOW: BindParameter[datetime] = bindparam("now", type_=_acks.until.type)
"""For statements that are built once: to build one of these takes longer than to answer it."""

UUIDS: BindParameter[Any] = bindparam("uuids", expanding=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """Who takes care of a client: ``acknowledgement`` of the client, ``incident_by`` of its outage.

    ``units`` are acknowledged failures that were not seen running since, by who acknowledged them; none while
    something else is wrong.
    """

    acknowledgement: StoredAcknowledgement | None
    units: Mapping[str, str]
    incident_by: str | None = None

    @property
    def can_be_given_back(self) -> bool:
        """Tell whether somebody takes care of the client itself, not only of its outage."""
        return self.acknowledgement is not None or bool(self.units)

    @property
    def by(self) -> str:
        """Return who takes care of it."""
        if self.acknowledgement is not None:
            return self.acknowledgement.by
        return next(iter(self.units.values()), self.incident_by or "")


def _runs_again() -> ColumnElement[bool]:
    """Tell whether what failed was seen running since: started after it, or booted, by the device's clock.

    Devices that do not tell when the application started are believed when they say that it runs: a report of
    a failure makes that unknown.
    """
    c = clients.c
    return or_(
        func.coalesce(c.app_started_at >= _failed.failed_at, False),
        func.coalesce(c.booted_at >= _failed.failed_at, False),
        and_(c.app_started_at.is_(None), func.coalesce(c.process_status == ProcessStatus.RUNNING, False)),
    )


def _unit_acknowledged() -> ColumnElement[bool]:
    return and_(
        _failed.client_uuid == clients.c.uuid,
        _failed.acknowledged_by.is_not(None),
        clients.c.status.not_in(sorted(PROBLEMS)),
        ~_runs_again(),
    )


def _of_known_outage() -> ColumnElement[bool]:
    held = and_(
        _decisions.client_uuid == clients.c.uuid,
        _decisions.last_at.is_(None),
        _decisions.incident_id == _incidents.id,
    )
    return and_(held, _incidents.acknowledged_by.is_not(None), _incidents.ended_at.is_(None))


def is_acknowledged_itself(now: Now) -> ColumnElement[bool]:
    """Return the condition that somebody takes care of a client, and not only of the outage it is part of."""
    standing = and_(_acks.client_uuid == clients.c.uuid, or_(_acks.until.is_(None), _acks.until > now))
    return or_(exists().where(standing), exists().where(_unit_acknowledged()))


def is_acknowledged(now: Now) -> ColumnElement[bool]:
    """Return the condition that somebody takes care of a client."""
    return or_(is_acknowledged_itself(now), exists().where(_of_known_outage()))


def candidates() -> CompoundSelect[str]:
    """Select the clients of all that was acknowledged: ``is_acknowledged`` is true of no others."""
    held = select(_decisions.client_uuid).join(incidents, _incidents.id == _decisions.incident_id)
    known = _incidents.acknowledged_by.is_not(None), _incidents.ended_at.is_(None)
    return union(
        select(_acks.client_uuid),
        select(_failed.client_uuid).where(_failed.acknowledged_by.is_not(None)),
        held.where(_decisions.last_at.is_(None), *known),
    )


async def some_candidates(connection: Connection, limit: int) -> list[str]:
    """Return up to ``limit`` of the candidates.

    A list reads them first: in one statement PostgreSQL expects ``is_acknowledged`` to be true of most
    clients and reads the whole fleet in the order of the list.
    """
    return list((await connection.scalars(candidates().limit(limit))).all())


_COUNTS = (
    select(clients.c.status, func.count())
    .where(clients.c.uuid.in_(candidates()), is_acknowledged(NOW))
    .group_by(clients.c.status)
)
_UNITS = (
    select(_failed.client_uuid, _failed.unit, _failed.acknowledged_by)
    .join(clients, clients.c.uuid == _failed.client_uuid)
    .where(_failed.client_uuid.in_(UUIDS), _unit_acknowledged())
)
_OUTAGES = (
    select(clients.c.uuid, _incidents.acknowledged_by)
    .where(clients.c.uuid.in_(UUIDS))
    .join(recovery_decisions, _decisions.client_uuid == clients.c.uuid)
    .join(incidents, _of_known_outage())
)


async def counts(connection: Connection, now: datetime) -> dict[Condition, int]:
    """Return how many clients somebody takes care of, by condition."""
    return {row[0]: row[1] for row in await connection.execute(_COUNTS, {"now": now})}


async def care_of(connection: Connection, uuids: Collection[str], now: datetime) -> dict[str, Care]:
    """Return who takes care of which of the clients."""
    taken = await of_clients(connection, uuids, now)
    units: dict[str, dict[str, str]] = {}
    outages: dict[str, str] = {}
    for chunk in chunks(uuids):
        for uuid, unit, by in await connection.execute(_UNITS, {"uuids": chunk}):
            units.setdefault(uuid, {})[unit] = by
        outages |= {row[0]: row[1] for row in await connection.execute(_OUTAGES, {"uuids": chunk})}
    return {
        uuid: Care(acknowledgement=taken.get(uuid), units=units.get(uuid, {}), incident_by=outages.get(uuid))
        for uuid in {*taken, *units, *outages}
    }
