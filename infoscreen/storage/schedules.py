"""The hours of clients as their rows hold them: which are to be looked up again, and writing the result."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, select, text, union_all, update

from infoscreen.domain.hours import HoursSource
from infoscreen.storage.columns import Common, chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import CLOSED_SILENT, SILENT_BY_HOURS, clients

AT_ONCE = 1_000


class HoursInForce(NamedTuple):
    """What counts for a client now: columns of its row."""

    hours: str
    hours_source: HoursSource
    time_zone: str | None
    hours_fault: str | None
    within_hours: bool
    hours_since: datetime | None
    expected_by: datetime | None
    next_change_at: datetime | None


@dataclass(frozen=True, slots=True)
class Hourly:
    """As much of a client as its hours follow from, and what its row says of them."""

    uuid: str
    site: str | None
    own_hours: str | None
    own_time_zone: str | None
    own_country: str | None
    effective: HoursInForce


_c = clients.c
_HOURLY: Select[Any] = select(
    _c.uuid,
    _c.site,
    _c.own_hours,
    _c.own_time_zone,
    _c.own_country,
    *(_c[name] for name in HoursInForce._fields),
)
_DUE = (
    _HOURLY.where(text("next_change_at IS NOT NULL"), _c.next_change_at <= bindparam("now"))
    .order_by(_c.uuid)
    .limit(AT_ONCE)
    .with_for_update(key_share=True)
)
_IS_DUE = (
    select(_c.uuid).where(text("next_change_at IS NOT NULL"), _c.next_change_at <= bindparam("now")).limit(1)
)
_AFTER = _HOURLY.where(_c.uuid > bindparam("after")).order_by(_c.uuid).limit(AT_ONCE)


def _hourly(row: Sequence[Any]) -> Hourly:
    uuid, site, hours, zone, country, *effective = row
    return Hourly(uuid, site, hours, zone, country, HoursInForce._make(effective))


async def is_due(connection: Connection, now: datetime) -> bool:
    """Tell whether the hours of any client have changed between open and closed."""
    return (await connection.execute(_IS_DUE, {"now": now})).first() is not None


async def due(connection: Connection, now: datetime) -> list[Hourly]:
    """Return up to ``AT_ONCE`` clients whose hours have changed, held until the transaction ends."""
    return [_hourly(row) for row in await connection.execute(_DUE, {"now": now})]


async def after(connection: Connection, uuid: str, *, hold: bool) -> list[Hourly]:
    """Return up to ``AT_ONCE`` clients after a UUID, in their order."""
    statement = _AFTER.with_for_update(key_share=True) if hold else _AFTER
    return [_hourly(row) for row in await connection.execute(statement, {"after": uuid})]


async def at_site(connection: Connection, site: str, uuid: str) -> list[Hourly]:
    """Return up to ``AT_ONCE`` clients of a site after a UUID, held until the transaction ends."""
    statement = _AFTER.where(_c.site == site).with_for_update(key_share=True)
    return [_hourly(row) for row in await connection.execute(statement, {"after": uuid})]


async def save(connection: Connection, found: Iterable[tuple[str, HoursInForce]]) -> None:
    """Write what counts for clients, with one statement for all for whom the same does."""
    alike: defaultdict[HoursInForce, list[str]] = defaultdict(list)
    for uuid, effective in found:
        alike[effective].append(uuid)
    for effective, uuids in alike.items():
        values = effective._asdict()
        for chunk in chunks(uuids):
            await connection.execute(update(clients).where(_c.uuid.in_(chunk)).values(**values))


_CLOSED = select(_c.uuid).where(text(CLOSED_SILENT)).limit(AT_ONCE)
_opened = (
    Common(text(SILENT_BY_HOURS)),
    text("within_hours"),
    _c.stale_after_seconds <= bindparam("listened"),
)
_OPENED = union_all(
    select(_c.uuid).where(*_opened, _c.expected_by <= bindparam("now")),
    select(_c.uuid).where(*_opened, _c.expected_by.is_(None)),
).limit(AT_ONCE)


async def closed_silent(connection: Connection) -> list[str]:
    """Return silent clients that are dark outside their hours by now, which does not show yet."""
    return list((await connection.scalars(_CLOSED)).all())


async def missed(connection: Connection, now: datetime, listened_for: timedelta) -> list[str]:
    """Return clients that are missed since their opening while we listened, which does not show yet."""
    bounds = {"now": now, "listened": listened_for.total_seconds()}
    return list((await connection.scalars(_OPENED, bounds)).all())
