"""Lists of clients for people: searched, filtered and sorted, page by page."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)

from infoscreen.domain.clients import UNCLEAR, Client, Condition
from infoscreen.domain.errors import InvalidInput
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.letters import words_of
from infoscreen.storage import client_index, client_totals
from infoscreen.storage.acknowledged import candidates, is_acknowledged, some_candidates
from infoscreen.storage.clients import get_many
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page, count_some, cursor_text, cursor_time, decode_cursor, encode_cursor
from infoscreen.storage.recovery.decisions import HELD, LEFT, THE_POLL
from infoscreen.storage.tables import clients, recovery_decisions, recovery_polls

_LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class ClientQuery:
    """Which clients, ordered by ``name``, ``last_alive`` or ``status_since``, with ``-`` for descending.

    All words of ``q`` are searched in name, host name, site, IP address, UUID, tags and failed units, in any
    order and without regard to case and accents (``domain.letters``). An empty ``status`` means any.
    ``unacknowledged`` leaves only those with a failed service that nobody has acknowledged, whatever their
    status. ``alone`` leaves only those that no incident under way holds. ``cared_at`` is a time; with it
    ``cared_for`` leaves only those that somebody takes care of then, or that nobody does. ``left_to_people``
    leaves only those for which the recovery does nothing until somebody acts, or only the others.
    """

    status: frozenset[Condition] = frozenset()
    site: str | None = None
    tag: str | None = None
    q: str | None = None
    sort: str = "name"
    unacknowledged: bool = False
    alone: bool = False
    cared_for: bool = False
    cared_at: datetime | None = None
    left_to_people: bool | None = None


SORTS: Mapping[str, ColumnElement[Any]] = {
    "name": clients.c.sort_key,
    "last_alive": func.coalesce(clients.c.last_alive, _LONG_AGO, type_=clients.c.last_alive.type),
    "status_since": clients.c.status_since,
}


@dataclass(frozen=True, slots=True)
class _Filter:
    """A query's conditions, without the one on the status.

    ``few`` are the only clients that may match, None if they may be many; ``rare`` tells that few have the
    status. ``any_status`` is the one on the status where a list does not begin at an index of it: SQLite has
    no statistics that tell it so.
    """

    conditions: list[ColumnElement[bool]]
    few: set[str] | None
    rare: bool
    any_status: list[ColumnElement[bool]]

    @property
    def where(self) -> list[ColumnElement[bool]]:
        return [*self.conditions, clients.c.uuid.in_(self.few)] if self.few is not None else self.conditions


async def _filter(connection: Connection, query: ClientQuery) -> _Filter:
    conditions: list[ColumnElement[bool]] = []
    few: set[str] | None = None
    if query.unacknowledged:
        conditions.append(clients.c.service_failed_at.is_not(None))
    if query.alone:
        conditions.append(~exists().where(recovery_decisions.c.client_uuid == clients.c.uuid, HELD))
    if query.cared_at is not None:
        cared = is_acknowledged(query.cared_at)
        conditions.append(cared if query.cared_for else ~cared)
        if query.cared_for:
            cared_for = await some_candidates(connection, client_index.FEW + 1)
            few = set(cared_for) if len(cared_for) <= client_index.FEW else None
            conditions.append(clients.c.uuid.in_(candidates()))
    if query.left_to_people is not None:
        left = _is_left_to_people()
        conditions.append(left if query.left_to_people else ~left)
    if query.site:
        conditions.append(clients.c.site == query.site)
    if query.tag:
        found = await client_index.few_with_tag(connection, query.tag)
        if found is None:
            conditions.append(client_index.has_tag(query.tag))
        else:
            few = set(found) if few is None else few & set(found)
    if query.q and words_of(query.q):
        found = await client_index.few_with_text(connection, query.q)
        if found is None:
            conditions.append(client_index.has_text(query.q))
        else:
            few = set(found) if few is None else few & set(found)
    some = query.status and await client_totals.count(connection, query.status) <= client_index.FEW
    status = clients.c.status
    hidden = func.coalesce(status, "") if connection.dialect.name == "sqlite" else status
    return _Filter(conditions, few, bool(some), _any_status(query, hidden))


def _is_left_to_people() -> ColumnElement[bool]:
    """Return the condition that nothing is done about a client by itself; true before the first poll."""
    decided = exists().where(recovery_decisions.c.client_uuid == clients.c.uuid, LEFT)
    return or_(
        clients.c.status.in_(sorted(UNCLEAR)), decided, ~exists().where(recovery_polls.c.id == THE_POLL)
    )


def _any_status(
    query: ClientQuery, status: ColumnElement[Any] = clients.c.status
) -> list[ColumnElement[bool]]:
    every = not query.status or query.status >= frozenset(Condition)
    return [] if every else [status.in_(sorted(query.status))]


def _first(query: ClientQuery, found: _Filter, last: tuple[Any, str] | None, limit: int) -> Select[Any]:
    """Select UUID and sort key of the first clients that match, in order, after ``last``.

    Only these two columns, because a sort carries along all that is selected. Where an index has the order,
    within a status or without, it is read no further than the page goes.
    """
    name, descending = query.sort.removeprefix("-"), query.sort.startswith("-")

    def part(conditions: Sequence[ColumnElement[bool]], key: ColumnElement[Any] = SORTS[name]) -> Select[Any]:
        statement = select(clients.c.uuid, key.label("page_key")).where(*found.where, *conditions)
        if last is not None:
            after, there = tuple_(key, clients.c.uuid), tuple_(*last)
            statement = statement.where(after < there if descending else after > there)
        order = (key.desc(), clients.c.uuid.desc()) if descending else (key, clients.c.uuid)
        return statement.order_by(*order).limit(limit)

    if found.few is not None or query.cared_for:
        return part(found.any_status)
    narrow = found.rare or query.site or query.unacknowledged
    if narrow or (name == "name" and not query.status):
        return part(_any_status(query))
    if name != "last_alive":
        parts = [part([clients.c.status == status]) for status in sorted(query.status or Condition)]
    elif query.status and Condition.ONLINE not in query.status:
        # In the order of the index they would come before or after all that are online.
        return part(_any_status(query))
    else:
        alive = clients.c.last_alive
        parts = [
            part([alive.is_not(None), *found.any_status], alive),
            part([alive.is_(None), *found.any_status], literal(_LONG_AGO, alive.type)),
        ]
    # SQLite takes an order within a union in a subquery only.
    merged = union_all(*(select(one.subquery()) for one in parts)).subquery()
    columns = (merged.c.page_key, merged.c.uuid)
    statement = select(merged.c.uuid, merged.c.page_key)
    return statement.order_by(*(one.desc() if descending else one for one in columns)).limit(limit)


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
    last: tuple[Any, str] | None = None
    if cursor is not None:
        last_key, last_uuid = decode_cursor(cursor, 2)
        last = cursor_text(last_key) if name == "name" else cursor_time(last_key), cursor_text(last_uuid)
    found = await _filter(connection, query)
    rows = (await connection.execute(_first(query, found, last, limit + 1))).all()
    known = await get_many(connection, [row.uuid for row in rows[:limit]])
    items = [known[row.uuid] for row in rows[:limit] if row.uuid in known]
    more = len(rows) > limit
    total = await _total(connection, query, found) if more or cursor is not None else len(items)
    following = encode_cursor(rows[limit - 1].page_key, rows[limit - 1].uuid) if more else None
    return Page(items, following, total)


async def _total(connection: Connection, query: ClientQuery, found: _Filter) -> int | None:
    rest = (
        query.unacknowledged or query.alone or query.cared_at is not None or query.left_to_people is not None
    )
    narrowed = query.status or query.site or rest
    if query.q and words_of(query.q) and not (query.tag or narrowed):
        return await client_index.count_with_text(connection, query.q)
    if query.tag and not (query.q or narrowed):
        return await client_index.count_with_tag(connection, query.tag)
    if query.tag or query.q or rest:
        return await count_some(connection, clients, [*found.where, *_any_status(query)])
    return await client_totals.count(connection, query.status, query.site)


async def matching_uuids(connection: Connection, query: ClientQuery, limit: int) -> list[str]:
    """Return the UUIDs of up to ``limit`` clients that match, in the order of their names."""
    found = await _filter(connection, query)
    named = replace(query, sort="name")
    return [row.uuid for row in await connection.execute(_first(named, found, None, limit))]


async def labels(connection: Connection, uuids: Collection[str]) -> dict[str, str]:
    """Return what clients are called, of those that exist."""
    found: dict[str, str] = {}
    for chunk in chunks(uuids):
        label = func.coalesce(clients.c.name, clients.c.hostname, func.substr(clients.c.uuid, 1, 8))
        rows = await connection.execute(select(clients.c.uuid, label).where(clients.c.uuid.in_(chunk)))
        found.update((uuid, text) for uuid, text in rows)
    return found


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
