"""The unwell clients as the recovery sees them, and how often clients fall silent."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, func, select, text, update

from infoscreen.domain.clients import Condition
from infoscreen.domain.commands import AT_THE_OUTLET
from infoscreen.domain.recovery import Sent
from infoscreen.storage.columns import chunks, insert_or
from infoscreen.storage.engine import Connection
from infoscreen.storage.recovery_tables import recovery_days
from infoscreen.storage.tables import UNWELL, client_commands, clients

IN_ONE_READ = 200

_c = clients.c
_PATIENT: Select[Any] = select(
    _c.uuid,
    _c.status,
    _c.status_since,
    _c.site,
    _c.ip,
    _c.software_version,
    _c.last_alive,
    _c.last_heard_at,
    _c.stale_at,
    _c.stale_after_seconds,
    _c.heartbeat_interval_seconds,
    _c.keepalive_seconds,
    _c.heartbeats,
    (_c.heartbeats - _c.heartbeats_at_change + 1).label("reports"),
    _c.presence,
    _c.process_status,
    _c.start_due_at,
    _c.boot_seen_at,
    _c.service_failed_raised_at,
    _c.refused_until,
    _c.maintenance_until,
    _c.auto_recovery,
    _c.capabilities,
    _c.within_hours,
    _c.hours_since,
    _c.expected_by,
    _c.next_change_at,
)
"""In the order of the fields of ``Patient``, those about hours at the end."""


_UNWELL = _PATIENT.where(text(UNWELL)).order_by(_c.status_since, _c.uuid)


async def unwell(connection: Connection) -> AsyncIterator[Sequence[Sequence[Any]]]:
    """Yield the clients that are neither online nor never seen, in parts, as the fields of a patient."""
    result = await connection.stream(_UNWELL)
    async for rows in result.partitions(IN_ONE_READ):
        yield rows


async def some(connection: Connection, uuids: Sequence[str]) -> AsyncIterator[Sequence[Sequence[Any]]]:
    """Yield those of the clients that exist, in parts."""
    for chunk in chunks(uuids):
        yield (await connection.execute(_PATIENT.where(_c.uuid.in_(chunk)))).all()


async def places(connection: Connection, heard_after: datetime) -> AsyncIterator[Sequence[Sequence[Any]]]:
    """Yield site, address and threshold of every client that was heard after a time, in parts.

    Those that are dark outside their hours are left out: they cannot fall silent.
    """
    statement = select(_c.site, _c.ip, _c.stale_after_seconds).where(
        _c.last_alive > heard_after, _c.status != Condition.OFF_HOURS
    )
    async for rows in (await connection.stream(statement)).partitions(2_000):
        yield rows


LATELY = 60
_s = client_commands.c
_SENT = (
    select(_s.client_uuid, _s.published_at, _s.accepted_at, _s.started_at, _s.error_code, _s.status)
    .join(clients, _c.uuid == _s.client_uuid)
    .where(
        _s.published_at > bindparam("since"),
        _c.last_heard_at > _s.published_at,
        _s.action.not_in(sorted(AT_THE_OUTLET)),
    )
    .order_by(_s.published_at.desc())
    .limit(LATELY)
)


async def sent(connection: Connection, since: datetime) -> list[Sent]:
    """Return the newest commands that left after ``since``, to clients that have been heard since then.

    Answered is one whose device has said anything about it.
    """
    rows = await connection.execute(_SENT, {"since": since})
    return [
        Sent(
            uuid,
            published,
            any(one is not None for one in (accepted, started, code)) or status == "completed",
        )
        for uuid, published, accepted, started, code, status in rows
    ]


class Silences(NamedTuple):
    """How many clients fell silent by chance in how many days of clients."""

    silences: int
    client_days: float


_d = recovery_days.c
_SILENCES = select(func.sum(_d.silences), func.sum(_d.client_seconds)).where(_d.day >= bindparam("first_day"))


async def silences(connection: Connection, first_day: str) -> Silences:
    """Return what was counted from a day on (``2026-03-01``)."""
    counted, seconds = (await connection.execute(_SILENCES, {"first_day": first_day})).one()
    return Silences(int(counted or 0), float(seconds or 0) / 86_400)


async def note_silences(connection: Connection, day: str, fresh: int, client_seconds: float) -> None:
    """Add to what was counted on a day."""
    first = insert_or(connection, recovery_days).values(
        day=day, silences=fresh, client_seconds=client_seconds
    )
    added = {
        "silences": _d.silences + first.excluded.silences,
        "client_seconds": _d.client_seconds + first.excluded.client_seconds,
    }
    await connection.execute(first.on_conflict_do_update(index_elements=["day"], set_=added))


CLOCKED = (
    "status_since",
    "well_until",
    "last_heard_at",
    "last_alive",
    "stale_at",
    "presence_at",
    "start_due_at",
    "boot_seen_at",
    "service_failed_raised_at",
    "refused_until",
    "not_showing_until",
)
"""Times of a client that the recovery compares with now; they move along when the host's clock is set."""


async def times(connection: Connection, uuids: Sequence[str]) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield those times of the clients, in parts; each row has the key ``uuid`` as well."""
    columns = [_c.uuid, *(_c[name] for name in CLOCKED)]
    for chunk in chunks(uuids):
        rows = await connection.execute(select(*columns).where(_c.uuid.in_(chunk)))
        yield [dict(row) for row in rows.mappings()]


async def set_times(connection: Connection, uuid: str, values: dict[str, Any]) -> None:
    """Write times of one client."""
    await connection.execute(update(clients).where(_c.uuid == uuid).values(**values))
