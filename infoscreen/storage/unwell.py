"""The unwell clients, and how many well ones stand beside them; never a walk over the whole fleet.

Both go through partial indexes. The well ones are counted only as far as the question goes: whether a share
of them is silent is settled long before all are counted.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from sqlalchemy import Select, Subquery, func, literal_column, select, text, union_all

from infoscreen.domain.clients import Client
from infoscreen.storage.clients import COLUMNS, client_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import ONLINE, UNWELL, clients

IN_ONE_READ = 100
SITES_IN_ONE_READ = 100

_UNWELL = select(*COLUMNS).where(text(UNWELL)).order_by(clients.c.status_since, clients.c.uuid)


async def unwell(connection: Connection) -> AsyncIterator[list[Client]]:
    """Yield the clients that are neither online nor never seen, unwell for longest first, in small parts."""
    result = await connection.stream(_UNWELL)
    async for rows in result.partitions(IN_ONE_READ):
        yield [client_of(row) for row in rows]


async def online(connection: Connection, most: int) -> int:
    """Return how many clients are online, but count no further than ``most``."""
    some = select(literal_column("1")).select_from(clients).where(text(ONLINE)).limit(most).subquery()
    return await connection.scalar(select(func.count()).select_from(some)) or 0


async def online_at(connection: Connection, most: Mapping[str, int]) -> dict[str, int]:
    """Return how many clients of each of the sites are online, counting no further than given for each."""
    found: dict[str, int] = {}
    sites = list(most)
    for start in range(0, len(sites), SITES_IN_ONE_READ):
        chunk = sites[start : start + SITES_IN_ONE_READ]
        parts = []
        for number, site in enumerate(chunk):
            one: Select[Any] = select(literal_column("1")).select_from(clients).limit(most[site])
            some: Subquery = one.where(text(ONLINE), clients.c.site == site).subquery()
            counted = select(func.count()).select_from(some)
            parts.append(select(literal_column(str(number)), counted.scalar_subquery()))
        for number, count in await connection.execute(union_all(*parts)):
            found[chunk[int(number)]] = count
    return found
