"""The unwell clients, and how many well ones stand beside them; never a walk over the whole fleet.

All goes through partial indexes. The well ones are counted only as far as the question goes: whether a share
of them is silent is settled long before all are counted.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, String, TextClause, bindparam, func, literal_column, select, text

from infoscreen.domain.clients import Client
from infoscreen.domain.recovery import WITNESSES, Census
from infoscreen.storage.clients import COLUMNS, client_of
from infoscreen.storage.columns import UtcDateTime
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import ONLINE, UNWELL, clients

IN_ONE_READ = 50
"""So many clients are made of rows in a row: a few milliseconds."""

SITES_IN_ONE_READ = 20
LOOKED_AT = 10 * WITNESSES
"""Among so many of the well ones witnesses are looked for; where none of these beats often, few do."""

_UNWELL = select(*COLUMNS).where(text(UNWELL)).order_by(clients.c.status_since, clients.c.uuid)


async def unwell(connection: Connection) -> AsyncIterator[list[Client]]:
    """Yield the clients that are neither online nor never seen, unwell for longest first, in small parts."""
    result = await connection.stream(_UNWELL)
    async for rows in result.partitions(IN_ONE_READ):
        yield [client_of(row) for row in rows]


async def some(connection: Connection, uuids: Sequence[str]) -> AsyncIterator[list[Client]]:
    """Yield those of the clients that exist, in small parts."""
    for start in range(0, len(uuids), IN_ONE_READ):
        chunk = uuids[start : start + IN_ONE_READ]
        rows = await connection.execute(select(*COLUMNS).where(clients.c.uuid.in_(chunk)))
        yield [client_of(row) for row in rows]


async def size(connection: Connection, most: int) -> int:
    """Return how many clients there are, counting no further than ``most``."""
    first = select(literal_column("1")).select_from(clients).limit(most).subquery()
    return await connection.scalar(select(func.count()).select_from(first)) or 0


@dataclass(frozen=True, slots=True)
class Witnessing:
    """Who can bear witness: beats every ``within_seconds``; and who does: was heard after ``after``."""

    within_seconds: float
    after: datetime


async def census_of_fleet(connection: Connection, most: int, witnessing: Witnessing) -> Census:
    """Count the clients that are online, no further than ``most``, and ask some of them."""
    row = (await connection.execute(_FLEET, _values(most, witnessing))).one()
    return Census(*(int(number or 0) for number in row))


async def census_of_sites(
    connection: Connection, most: Mapping[str, int], witnessing: Witnessing
) -> dict[str, Census]:
    """Count the same for each of the sites, no further than given for each."""
    found: dict[str, Census] = {}
    sites = list(most)
    for start in range(0, len(sites), SITES_IN_ONE_READ):
        chunk = sites[start : start + SITES_IN_ONE_READ]
        # One statement for any number of sites, so that it is compiled once; the last ones are repeated.
        padded = chunk + [chunk[-1]] * (SITES_IN_ONE_READ - len(chunk))
        values = _values(max(most[site] for site in chunk), witnessing)
        values |= {f"site_{number}": site for number, site in enumerate(padded)}
        for number, *counted in await connection.execute(_SITES, values):
            found[padded[number]] = Census(*(int(one or 0) for one in counted))
    return found


def _values(most: int, witnessing: Witnessing) -> dict[str, Any]:
    return {"most": most, "within": witnessing.within_seconds, "after": witnessing.after}


def _counting(number: int, where: str) -> str:
    """Return the SQL of one row: a number, the online ones, the asked and the heard."""
    beating = "heartbeat_interval_seconds + 2 * heartbeat_deviation_seconds <= :within"
    return (
        f"SELECT {number} AS number, o.online, w.asked, w.heard FROM"
        " (SELECT count(*) AS online FROM"
        f" (SELECT 1 AS one FROM clients WHERE {where} LIMIT :most) AS c) AS o,"
        " (SELECT count(*) AS asked, sum(CASE WHEN last_alive >= :after THEN 1 ELSE 0 END) AS heard FROM"
        f" (SELECT last_alive FROM (SELECT last_alive, heartbeat_interval_seconds,"
        f" heartbeat_deviation_seconds FROM clients WHERE {where} ORDER BY uuid LIMIT {LOOKED_AT}) AS l"
        f" WHERE {beating} LIMIT {WITNESSES}) AS s) AS w"
    )


def _bound(sql: str, sites: int) -> TextClause:
    return text(sql).bindparams(
        bindparam("most", type_=Integer),
        bindparam("after", type_=UtcDateTime),
        *(bindparam(f"site_{number}", type_=String) for number in range(sites)),
    )


_FLEET = _bound(f"SELECT online, asked, heard FROM ({_counting(0, ONLINE)}) AS counted", 0)
_SITES = _bound(
    " UNION ALL ".join(
        _counting(number, f"{ONLINE} AND site = :site_{number}") for number in range(SITES_IN_ONE_READ)
    ),
    SITES_IN_ONE_READ,
)
