"""Sites: reading and writing them, and what their clients know of them."""

from collections.abc import Collection, Iterable
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from infoscreen.domain.sites import Site
from infoscreen.storage import availability_days, client_index
from infoscreen.storage.columns import chunks, insert_or
from infoscreen.storage.engine import Connection
from infoscreen.storage.notify_tables import rules
from infoscreen.storage.site_tables import sites
from infoscreen.storage.tables import clients, incidents, recovery_pauses

_FIELDS = tuple(field.name for field in fields(Site))
_c = sites.c
_ALL = select(*(_c[name] for name in _FIELDS))


def _site(row: Row[Any]) -> Site:
    return Site(**dict(zip(_FIELDS, row, strict=True)))


async def get(connection: Connection, number: int) -> Site | None:
    """Return a site, None if there is none of this number."""
    row = (await connection.execute(_ALL.where(_c.id == number))).one_or_none()
    return None if row is None else _site(row)


async def for_change(connection: Connection, number: int) -> Site | None:
    """Return the same, held until the transaction ends."""
    row = (await connection.execute(_ALL.where(_c.id == number).with_for_update())).one_or_none()
    return None if row is None else _site(row)


async def by_names(connection: Connection, names: Collection[str]) -> dict[str, Site]:
    """Return those of the sites that exist, by name."""
    found: dict[str, Site] = {}
    for chunk in chunks(sorted(names)):
        rows = await connection.execute(_ALL.where(_c.name.in_(chunk)))
        found.update((one.name, one) for one in map(_site, rows))
    return found


async def all_of_them(connection: Connection) -> list[Site]:
    """Return all sites, by name."""
    return [_site(row) for row in await connection.execute(_ALL.order_by(_c.name))]


async def page(connection: Connection, after: str | None, limit: int) -> list[Site]:
    """Return the sites after a name, by name."""
    statement = _ALL.order_by(_c.name).limit(limit)
    rows = await connection.execute(statement if after is None else statement.where(_c.name > after))
    return [_site(row) for row in rows]


async def count(connection: Connection) -> int:
    """Return how many sites there are."""
    return int(await connection.scalar(select(func.count()).select_from(sites)) or 0)


async def ensure(connection: Connection, names: Iterable[str], now: datetime) -> None:
    """Create the sites of these names that do not exist yet."""
    rows = [{"name": name, "created_at": now} for name in dict.fromkeys(names) if name]
    if rows:
        statement = insert_or(connection, sites).on_conflict_do_nothing(index_elements=["name"])
        await connection.execute(statement, rows)


async def create(connection: Connection, values: dict[str, Any]) -> int | None:
    """Insert a site; return its number, or None if there is one of its name."""
    statement = insert_or(connection, sites).values(**values).on_conflict_do_nothing(index_elements=["name"])
    number: int | None = await connection.scalar(statement.returning(_c.id))
    return number


async def save(connection: Connection, number: int, values: dict[str, Any]) -> bool:
    """Write columns of a site; return False if another one has its name."""
    if not values:
        return True
    try:
        async with connection.begin_nested():
            await connection.execute(update(sites).where(_c.id == number).values(**values))
    except IntegrityError:
        return False
    return True


async def rename(connection: Connection, before: str, after: str) -> None:
    """Let everything that names a site use its new name: clients, incidents, pauses, sums and rules."""
    for table in (clients, incidents, recovery_pauses):
        await connection.execute(update(table).where(table.c.site == before).values(site=after))
    await availability_days.rename_site(connection, before, after)
    await client_index.note_site(connection, after)
    for number, settings in (await connection.execute(select(rules.c.id, rules.c.settings))).all():
        names = settings.get("sites") or []
        if before in names:
            renamed = {**settings, "sites": [after if name == before else name for name in names]}
            await connection.execute(update(rules).where(rules.c.id == number).values(settings=renamed))


async def remove(connection: Connection, number: int) -> bool:
    """Delete a site; tell whether it was there."""
    return (await connection.execute(delete(sites).where(_c.id == number))).rowcount > 0
