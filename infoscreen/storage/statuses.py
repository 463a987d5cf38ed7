"""How clients are, and nothing else of them."""

from collections.abc import Collection

from sqlalchemy import or_, select, text

from infoscreen.domain.clients import Condition
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import UNWELL, clients

_UNWELL = select(clients.c.uuid, clients.c.status).where(
    or_(text(UNWELL), clients.c.status == Condition.OFF_HOURS)
)


async def of_unwell(connection: Connection) -> dict[str, Condition]:
    """Return the status of each client that is neither online nor never seen."""
    return dict((await connection.execute(_UNWELL)).all())


async def of_some(connection: Connection, uuids: Collection[str]) -> dict[str, Condition]:
    """Return the status of those of the clients that exist."""
    found: dict[str, Condition] = {}
    for chunk in chunks(uuids):
        statement = select(clients.c.uuid, clients.c.status).where(clients.c.uuid.in_(chunk))
        found.update((await connection.execute(statement)).all())
    return found
