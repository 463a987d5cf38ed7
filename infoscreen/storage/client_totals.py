"""How many clients there are in each condition."""

from sqlalchemy import (
    func,
    null,
    select,
    union_all,
)

from infoscreen.domain.clients import Condition
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import clients

_status = clients.c.status
_TOTALS = union_all(
    select(_status, func.count()).where(_status < Condition.ONLINE).group_by(_status),
    select(_status, func.count()).where(_status > Condition.ONLINE).group_by(_status),
    select(null(), func.count()).select_from(clients),
)
"""The online ones, nearly all there are, are what is left of the whole, whose size an index knows."""


async def totals(connection: Connection) -> dict[Condition, int]:
    """Return how many clients are in each condition, zeros included."""
    counted: dict[Condition | None, int] = {row[0]: row[1] for row in await connection.execute(_TOTALS)}
    whole = counted.pop(None)
    counted[Condition.ONLINE] = whole - sum(counted.values())
    return {condition: counted.get(condition, 0) for condition in Condition}
