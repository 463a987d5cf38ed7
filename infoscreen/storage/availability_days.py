"""Sums of days: for each client from its creation up to the end of a day, and for each site of a day.

The former are running totals, so that any range is the difference of two rows.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, delete, func, select, tuple_

from infoscreen.domain.availability import DARK_CAUSES, FIELDS, Sums, minus
from infoscreen.storage.availability_tables import availability_days, site_days
from infoscreen.storage.columns import chunks, insert_or
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import client_tags, clients

_d, _s, _c = availability_days.c, site_days.c, clients.c
_SUMS = [_d[name] for name in FIELDS]


class DayRow(NamedTuple):
    """The sums of a client from its creation to ``until``, the end of a day."""

    client_uuid: str
    day: str
    until: datetime
    sums: Sums


_ROW = select(_d.client_uuid, _d.day, _d.until, *_SUMS)


def _row(row: Sequence[Any]) -> DayRow:
    uuid, day, until, *sums = row
    return DayRow(uuid, day, until, tuple(sums))


# --- summing up


class Standing(NamedTuple):
    """A client, and the newest day of which it has sums."""

    uuid: str
    created_at: datetime
    site: str | None
    newest: str | None


_NEWEST = select(func.max(_d.day)).where(_d.client_uuid == _c.uuid).scalar_subquery()


async def standings(connection: Connection, after: str, limit: int) -> list[Standing]:
    """Return the clients that come after a UUID, in order."""
    statement = select(_c.uuid, _c.created_at, _c.site, _NEWEST).where(_c.uuid > after)
    return [Standing(*row) for row in await connection.execute(statement.order_by(_c.uuid).limit(limit))]


async def sites_of(connection: Connection, uuids: Collection[str]) -> dict[str, str]:
    """Return the sites of those of the clients that exist, and hold them as ``clients.for_change`` does."""
    found: dict[str, str] = {}
    for chunk in chunks(sorted(uuids)):
        statement = select(_c.uuid, func.coalesce(_c.site, "")).where(_c.uuid.in_(chunk)).order_by(_c.uuid)
        rows = await connection.execute(statement.with_for_update(key_share=True))
        found.update((row[0], row[1]) for row in rows)
    return found


async def newest(connection: Connection, uuids: Collection[str]) -> dict[str, DayRow]:
    """Return the last row of each client that has any."""
    found: dict[str, DayRow] = {}
    for chunk in chunks(uuids):
        last = (
            select(_d.client_uuid, func.max(_d.day).label("day"))
            .where(_d.client_uuid.in_(chunk))
            .group_by(_d.client_uuid)
            .subquery()
        )
        statement = _ROW.join(last, and_(last.c.client_uuid == _d.client_uuid, last.c.day == _d.day))
        found.update((row[0], _row(row)) for row in await connection.execute(statement))
    return found


async def since(connection: Connection, uuids: Collection[str], ended: datetime) -> dict[str, list[DayRow]]:
    """Return the rows of days that ended after a time, of each client in order."""
    found: defaultdict[str, list[DayRow]] = defaultdict(list)
    for chunk in chunks(uuids):
        statement = _ROW.where(_d.client_uuid.in_(chunk), _d.until > ended)
        for row in await connection.execute(statement.order_by(_d.client_uuid, _d.day)):
            found[row[0]].append(_row(row))
    return found


async def save(
    connection: Connection, rows: Sequence[DayRow], changes: Mapping[tuple[str, str], Sums]
) -> None:
    """Write rows, and add changes to the sums of days and sites."""
    if rows:
        insert = insert_or(connection, availability_days)
        given = {name: insert.excluded[name] for name in FIELDS}
        statement = insert.on_conflict_do_update(index_elements=["client_uuid", "day"], set_=given)
        await connection.execute(
            statement,
            [
                {"client_uuid": one.client_uuid, "day": one.day, "until": one.until}
                | dict(zip(FIELDS, one.sums, strict=True))
                for one in rows
            ],
        )
    if changes:
        insert = insert_or(connection, site_days)
        added = {name: _s[name] + insert.excluded[name] for name in FIELDS}
        statement = insert.on_conflict_do_update(index_elements=["day", "site"], set_=added)
        await connection.execute(
            statement,
            [
                {"day": day, "site": site} | dict(zip(FIELDS, sums, strict=True))
                for (day, site), sums in sorted(changes.items())
            ],
        )


async def rename_site(connection: Connection, before: str, after: str) -> None:
    """Give the sums of a site to its new name; an earlier site of that name may have some as well."""
    rows = await connection.execute(select(_s.day, *(_s[name] for name in FIELDS)).where(_s.site == before))
    await save(connection, [], {(row[0], after): tuple(row[1:]) for row in rows})
    await connection.execute(delete(site_days).where(_s.site == before))


async def forget_before(connection: Connection, day: str, limit: int) -> int:
    """Delete up to ``limit`` sums of days before, of clients and of sites each; return the larger number.

    What is left tells the same as before.
    """
    most = 0
    for table in (availability_days, site_days):
        key = tuple_(*table.primary_key)
        doomed = select(*table.primary_key).where(table.c.day < day).order_by(table.c.day).limit(limit)
        gone: Any = await connection.execute(delete(table).where(key.in_(doomed)))
        most = max(most, gone.rowcount)
    return most


# --- asking


class ClientSums(NamedTuple):
    """The sums of one client in a range of days."""

    uuid: str
    label: str
    site: str | None
    sums: Sums


async def last_day(connection: Connection) -> str | None:
    """Return the newest day of which there are sums."""
    found: str | None = await connection.scalar(select(func.max(_s.day)))
    return found


async def by_day_and_site(
    connection: Connection, first: str, last: str, site: str | None = None
) -> list[tuple[str, str, Sums]]:
    """Return the sums of each day and site of a range, or of one site; clients without one are at ``""``."""
    statement = select(_s.day, _s.site, *(_s[name] for name in FIELDS)).where(_s.day >= first, _s.day <= last)
    if site is not None:
        statement = statement.where(_s.site == site)
    rows = await connection.execute(statement.order_by(_s.day, _s.site))
    return [(row[0], row[1], tuple(row[2:])) for row in rows]


class Of(NamedTuple):
    """Which clients; without any all of them."""

    site: str | None = None
    tag: str | None = None
    uuid: str | None = None


_LATER, _EARLIER = availability_days.alias("later"), availability_days.alias("earlier")
_CHANGES = {name: _LATER.c[name] - func.coalesce(_EARLIER.c[name], 0) for name in FIELDS}


def _between(columns: Sequence[ColumnElement[Any]], before: str, last: str, of: Of) -> Select[Any]:
    uuid = _LATER.c.client_uuid
    statement: Select[Any] = (
        select(*columns)
        .select_from(_LATER)
        .outerjoin(_EARLIER, and_(_EARLIER.c.client_uuid == uuid, _EARLIER.c.day == before))
        .where(_LATER.c.day == last)
    )
    if of.site is not None:
        statement = statement.where(uuid.in_(select(_c.uuid).where(_c.site == of.site)))
    if of.tag is not None:
        tagged = select(client_tags.c.client_uuid).where(client_tags.c.tag == of.tag)
        statement = statement.where(uuid.in_(tagged))
    if of.uuid is not None:
        statement = statement.where(uuid == of.uuid)
    return statement


async def by_client(connection: Connection, before: str, last: str, of: Of, worst: int) -> list[ClientSums]:
    """Return sums from the end of day ``before`` to the end of day ``last``, of the darkest clients."""
    dark = reduce(add, (_CHANGES[f"dark_{one}"] for one in DARK_CAUSES))
    # Of all clients only what they are ordered by is read; rows of clients are wide.
    uuid = _LATER.c.client_uuid
    ordered = _between([uuid, *_CHANGES.values()], before, last, of).order_by(dark.desc(), uuid).limit(worst)
    sums = {row[0]: tuple(row[1:]) for row in await connection.execute(ordered)}
    label = func.coalesce(_c.name, _c.hostname, func.substr(_c.uuid, 1, 8))
    named: dict[str, tuple[str, str | None]] = {}
    for chunk in chunks(sums):
        rows = await connection.execute(select(_c.uuid, label, _c.site).where(_c.uuid.in_(chunk)))
        named.update((row[0], (row[1], row[2])) for row in rows)
    return [ClientSums(one, *named[one], some) for one, some in sums.items() if one in named]


async def by_site(connection: Connection, before: str, last: str, of: Of) -> list[tuple[str, Sums]]:
    """Return the same sums, of the clients' present sites; those without one are at ``""``."""
    site = func.coalesce(_c.site, "")
    statement = _between([site, *(func.sum(one) for one in _CHANGES.values())], before, last, of)
    statement = statement.join(clients, _c.uuid == _LATER.c.client_uuid)
    rows = await connection.execute(statement.group_by(site).order_by(site))
    return [(row[0], tuple(int(one or 0) for one in row[1:])) for row in rows]


async def days_of_client(
    connection: Connection, uuid: str, days: Sequence[str], before: str
) -> list[tuple[str, Sums]]:
    """Return the sums of each of the days of one client; ``before`` is the day before the first."""
    statement = _ROW.where(_d.client_uuid == uuid, _d.day.in_([before, *days])).order_by(_d.day)
    rows = [_row(row) for row in await connection.execute(statement)]
    found, earlier = [], (0,) * len(FIELDS)
    for one in rows:
        if one.day != before:
            found.append((one.day, minus(one.sums, earlier)))
        earlier = one.sums
    return found
