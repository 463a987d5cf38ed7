"""How many clients there are in each condition, in the whole fleet and at each site.

Read from counters that triggers keep (``storage.counting``), so it costs the same for any fleet.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, String, bindparam, delete, func, insert, literal, select, text, union_all
from sqlalchemy.dialects import postgresql, sqlite

from infoscreen.domain.clients import Condition
from infoscreen.storage.columns import chunks
from infoscreen.storage.counting import FLEET
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.tables import client_total_changes, client_totals, clients

FOLDED_AT_ONCE = 2_000
"""So many changes are added up in one transaction."""

WORTH_FOLDING = 200
"""Fewer changes than this wait for more."""

_counted, _changed = client_totals.c, client_total_changes.c


def _totals() -> Select[Any]:
    site = bindparam("site", type_=String)
    both = union_all(
        select(_counted.status, _counted.clients.label("number")).where(_counted.site == site),
        select(_changed.status, _changed.change).where(_changed.site == site),
    ).subquery()
    return select(both.c.status, func.sum(both.c.number)).group_by(both.c.status)


_TOTALS = _totals()


async def totals(connection: Connection, site: str | None = None) -> dict[Condition, int]:
    """Return how many clients are in each condition, zeros included; of one site, or of the whole fleet."""
    rows = await connection.execute(_TOTALS, {"site": site or FLEET})
    counted = {status: int(number) for status, number in rows}
    return {condition: counted.get(condition, 0) for condition in Condition}


async def of_sites(connection: Connection, names: Collection[str]) -> dict[str, dict[Condition, int]]:
    """Return the same for each of several sites."""
    found = {name: dict.fromkeys(Condition, 0) for name in names}
    for chunk in chunks(names):
        both = union_all(
            select(_counted.site, _counted.status, _counted.clients.label("number")).where(
                _counted.site.in_(chunk)
            ),
            select(_changed.site, _changed.status, _changed.change).where(_changed.site.in_(chunk)),
        ).subquery()
        statement = select(both.c.site, both.c.status, func.sum(both.c.number))
        for site, status, number in await connection.execute(statement.group_by(both.c.site, both.c.status)):
            found[site][Condition(status)] = int(number)
    return found


async def count(connection: Connection, statuses: Collection[Condition], site: str | None = None) -> int:
    """Return how many clients are in any of the conditions; no conditions means all."""
    counted = await totals(connection, site)
    return sum(number for condition, number in counted.items() if not statuses or condition in statuses)


_WAITING = select(
    select(func.max(_changed.id)).scalar_subquery() - select(func.min(_changed.id)).scalar_subquery() + 1
)


async def is_worth_folding(connection: Connection) -> bool:
    """Tell whether there are about ``WORTH_FOLDING`` changes, from the numbers of the first and the last."""
    waiting = await connection.scalar(_WAITING)
    return waiting is not None and waiting >= WORTH_FOLDING


async def fold(connection: Connection) -> None:
    """Add up to ``FOLDED_AT_ONCE`` changes to the counters.

    PostgreSQL locks the changes meanwhile, so that two daemons never add the same one.
    """
    statement = select(client_total_changes).order_by(_changed.id).limit(FOLDED_AT_ONCE).with_for_update()
    rows = (await connection.execute(statement)).all()
    sums: Counter[tuple[str, str]] = Counter()
    for row in rows:
        sums[row.site, row.status] += row.change
    await _add(connection, sums)
    for chunk in chunks([row.id for row in rows]):
        await connection.execute(delete(client_total_changes).where(_changed.id.in_(chunk)))


async def _add(connection: Connection, sums: Counter[tuple[str, str]]) -> None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    values = [
        {"site": site, "status": status, "clients": change}
        # In order: two that fold at the same time must not wait for each other.
        for (site, status), change in sorted(sums.items())
        if change
    ]
    if values:
        statement = dialect.insert(client_totals)
        added = _counted.clients + statement.excluded.clients
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["site", "status"], set_={"clients": added}),
            values,
        )


def _difference() -> Select[Any]:
    """Return by how much each counter is off, as one statement that sees one state."""
    site, status = clients.c.site, clients.c.status.label("status")
    parts = union_all(
        select(literal(FLEET).label("site"), status, func.count().label("number")).group_by(status),
        select(site, status, func.count()).where(site != FLEET).group_by(site, status),
        select(_counted.site, _counted.status, -_counted.clients),
        select(_changed.site, _changed.status, -_changed.change),
    ).subquery()
    off = func.sum(parts.c.number)
    return select(parts.c.site, parts.c.status, off).group_by(parts.c.site, parts.c.status).having(off != 0)


DIFFERENCE = _difference()


async def repair(store: Store) -> int:
    """Correct counters that differ from a count, which only a change of the schema by hand can cause.

    Returns:
        How many were corrected.
    """
    async with store.read() as connection:
        if not (await connection.execute(DIFFERENCE)).first():
            return 0
    async with store.write() as connection:
        if connection.dialect.name == "postgresql":
            # Nobody may change a client between the count and the commit.
            await connection.execute(text("LOCK TABLE clients IN SHARE MODE"))
        rows = (await connection.execute(DIFFERENCE)).all()
        corrections = [{"site": site, "status": status, "change": int(off)} for site, status, off in rows]
        if corrections:
            await connection.execute(insert(client_total_changes), corrections)
    return len(corrections)
