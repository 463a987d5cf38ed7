"""Who takes care of which client, and whether the recovery keeps out of it meanwhile; at most one each."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, exists, insert, or_, select

from infoscreen.domain.clients import Condition
from infoscreen.domain.commands import Verification
from infoscreen.domain.recovery import Meanwhile, Phase
from infoscreen.storage.columns import chunks
from infoscreen.storage.commands import is_judged
from infoscreen.storage.engine import Connection
from infoscreen.storage.recovery_tables import recovery_acknowledgements
from infoscreen.storage.tables import client_commands, clients, recovery_ladders


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAcknowledgement:
    """Somebody takes care of a client: until a time, or until it is given back or well again."""

    client_uuid: str
    recovery: Meanwhile
    by: str
    at: datetime
    until: datetime | None = None
    comment: str | None = None


_c = recovery_acknowledgements.c
_NAMES = tuple(StoredAcknowledgement.__dataclass_fields__)
_STANDING = select(*(_c[name] for name in _NAMES)).where(or_(_c.until.is_(None), _c.until > bindparam("now")))
_HOLDING = _STANDING.where(_c.recovery == Meanwhile.HOLD)
_OF_CLIENTS = _STANDING.where(_c.client_uuid.in_(bindparam("uuids", expanding=True)))
_OF_CLIENT = _STANDING.where(_c.client_uuid == bindparam("uuid"))


def _acknowledgement(row: Row[Any]) -> StoredAcknowledgement:
    return StoredAcknowledgement(**dict(zip(_NAMES, row, strict=True)))


async def holding(connection: Connection, now: datetime) -> dict[str, StoredAcknowledgement]:
    """Return those that keep the recovery out, by client."""
    found = map(_acknowledgement, await connection.execute(_HOLDING, {"now": now}))
    return {one.client_uuid: one for one in found}


async def of_client(connection: Connection, client_uuid: str, now: datetime) -> StoredAcknowledgement | None:
    """Return the one of a client, None if nobody takes care of it."""
    row = (await connection.execute(_OF_CLIENT, {"now": now, "uuid": client_uuid})).one_or_none()
    return None if row is None else _acknowledgement(row)


async def of_clients(
    connection: Connection, client_uuids: Collection[str], now: datetime
) -> dict[str, StoredAcknowledgement]:
    """Return those of the clients."""
    found: dict[str, StoredAcknowledgement] = {}
    for chunk in chunks(client_uuids):
        rows = await connection.execute(_OF_CLIENTS, {"now": now, "uuids": chunk})
        found |= {one.client_uuid: one for one in map(_acknowledgement, rows)}
    return found


_k, _l, _m = clients.c, recovery_ladders.c, client_commands.c
_IS_WELL = and_(
    _k.status == Condition.ONLINE,
    or_(_k.status_since <= bindparam("well_since"), _k.status_since > bindparam("now")),
    _k.heartbeats - _k.heartbeats_at_change + 1 >= bindparam("reports"),
    or_(_l.phase.is_(None), _l.phase == Phase.WELL),
    ~exists().where(
        _m.client_uuid == _c.client_uuid,
        is_judged(Verification.CONTRADICTED),
        _m.verified_at > bindparam("contradicted_since"),
    ),
)
_OVER = (
    select(_c.client_uuid)
    .join(clients, _k.uuid == _c.client_uuid)
    .outerjoin(recovery_ladders, _l.client_uuid == _c.client_uuid)
    .where(or_(_c.until <= bindparam("now"), _IS_WELL))
)


async def over(
    connection: Connection, now: datetime, well_for: timedelta, reports: int, contradicted: timedelta
) -> list[str]:
    """Return the clients whose acknowledgement is over: its time has passed, or the client is well.

    Well is who has been online for ``well_for`` and so many reports, also if no poll saw it unwell, and of
    whose commands none was ``contradicted`` within that time.
    """
    given = {
        "now": now,
        "well_since": now - well_for,
        "reports": reports,
        "contradicted_since": now - contradicted,
    }
    return list((await connection.scalars(_OVER, given)).all())


async def put(connection: Connection, acknowledgement: StoredAcknowledgement) -> None:
    """Write one in place of the one before."""
    await end(connection, [acknowledgement.client_uuid])
    values = {name: getattr(acknowledgement, name) for name in _NAMES}
    await connection.execute(insert(recovery_acknowledgements).values(values))


async def end(connection: Connection, client_uuids: Collection[str]) -> int:
    """End those of the clients, and return how many there were."""
    ended = 0
    for chunk in chunks(client_uuids):
        ended += (
            await connection.execute(delete(recovery_acknowledgements).where(_c.client_uuid.in_(chunk)))
        ).rowcount
    return ended
