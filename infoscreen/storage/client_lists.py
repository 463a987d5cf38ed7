"""Lists of clients for people: searched, filtered and sorted, page by page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    cast,
    func,
    or_,
    select,
    tuple_,
)

from infoscreen.domain.clients import Client, Condition
from infoscreen.domain.errors import InvalidInput
from infoscreen.domain.faults import FieldFault
from infoscreen.storage import client_totals
from infoscreen.storage.clients import COLUMNS, client_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page, count_some, cursor_text, cursor_time, decode_cursor, encode_cursor
from infoscreen.storage.tables import clients

_LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class ClientQuery:
    """Which clients, ordered by ``name``, ``last_alive`` or ``status_since``, with ``-`` for descending.

    ``q`` is searched in name, host name, IP address and UUID. An empty ``status`` means any.
    ``unacknowledged`` leaves only those with a failed service that nobody has acknowledged, whatever their
    status.
    """

    status: frozenset[Condition] = frozenset()
    site: str | None = None
    tag: str | None = None
    q: str | None = None
    sort: str = "name"
    unacknowledged: bool = False


SORTS: Mapping[str, ColumnElement[Any]] = {
    "name": clients.c.sort_key,
    "last_alive": func.coalesce(clients.c.last_alive, _LONG_AGO, type_=clients.c.last_alive.type),
    "status_since": clients.c.status_since,
}


def _where(query: ClientQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.status:
        conditions.append(clients.c.status.in_(sorted(query.status)))
    if query.unacknowledged:
        conditions.append(clients.c.service_failed_at.is_not(None))
    if query.site:
        conditions.append(clients.c.site == query.site)
    if query.tag:
        # The list is stored as JSON text, so the tag is looked for as it stands in there.
        conditions.append(cast(clients.c.tags, String).contains(json.dumps(query.tag), autoescape=True))
    if query.q:
        searched = (clients.c.name, clients.c.hostname, clients.c.ip, clients.c.uuid)
        conditions.append(or_(*(column.icontains(query.q, autoescape=True) for column in searched)))
    return conditions


async def search(
    connection: Connection, query: ClientQuery, limit: int, cursor: str | None = None
) -> Page[Client]:
    """Return a page of the clients that match.

    Raises:
        InvalidInput: the sort order does not exist, or the cursor is not one of this list.
    """
    name = query.sort.removeprefix("-")
    if name not in SORTS:
        allowed = ", ".join(sign + known for known in SORTS for sign in ("", "-"))
        raise InvalidInput.of("sort", FieldFault.NOT_ONE_OF, allowed=allowed)
    key, descending = SORTS[name], query.sort.startswith("-")
    matching = _where(query)
    statement = select(*COLUMNS, key.label("page_key")).where(*matching)
    if cursor is not None:
        last_key, last_uuid = decode_cursor(cursor, 2)
        after = tuple_(key, clients.c.uuid)
        last = tuple_(
            cursor_text(last_key) if name == "name" else cursor_time(last_key), cursor_text(last_uuid)
        )
        statement = statement.where(after < last if descending else after > last)
    order = (key.desc(), clients.c.uuid.desc()) if descending else (key, clients.c.uuid)
    rows = (await connection.execute(statement.order_by(*order).limit(limit + 1))).all()
    items = [client_of(row) for row in rows[:limit]]
    more = len(rows) > limit
    total = await _total(connection, query) if more or cursor is not None else len(items)
    following = encode_cursor(rows[limit - 1].page_key, items[-1].uuid) if more else None
    return Page(items, following, total)


async def _total(connection: Connection, query: ClientQuery) -> int | None:
    if query.tag or query.q or query.unacknowledged:
        return await count_some(connection, clients, _where(query))
    return await client_totals.count(connection, query.status, query.site)


async def matching_uuids(connection: Connection, query: ClientQuery, limit: int) -> list[str]:
    """Return the UUIDs of up to ``limit`` clients that match, in the order of their names."""
    statement = select(clients.c.uuid).where(*_where(query)).order_by(clients.c.sort_key, clients.c.uuid)
    return list((await connection.scalars(statement.limit(limit))).all())


def _each_site() -> Select[str]:
    """Walk from each site to the next one in the index, instead of through every client."""
    site = clients.c.site
    walk = select(func.min(site).label("site")).cte("walk", recursive=True)
    following = select(func.min(site)).where(site > walk.c.site).scalar_subquery()
    walk = walk.union_all(select(following).where(walk.c.site.is_not(None)))
    return select(walk.c.site).where(walk.c.site.is_not(None)).order_by(walk.c.site)


_EACH_SITE = _each_site()


async def sites(connection: Connection) -> list[str]:
    """Return the names of all sites."""
    return list((await connection.scalars(_EACH_SITE)).all())


async def is_site(connection: Connection, site: str) -> bool:
    """Tell whether any client is at a site of this name."""
    some = select(clients.c.uuid).where(clients.c.site == site).limit(1)
    return await connection.scalar(some) is not None
