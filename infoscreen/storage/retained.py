"""Topics whose retained messages are to be emptied at the broker, because their client is gone."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from infoscreen.storage.broker_tables import retained_clears
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection


async def ask_to_empty(connection: Connection, topics: Sequence[str], now: datetime) -> None:
    """Note topics to be emptied; those that are noted already stay as they are."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(retained_clears).on_conflict_do_nothing()
    await connection.execute(statement, [{"topic": topic, "requested_at": now} for topic in topics])


_TO_EMPTY = select(retained_clears.c.topic).order_by(retained_clears.c.topic).limit(bindparam("most"))


async def to_empty(connection: Connection, limit: int) -> list[str]:
    """Return topics that are still to be emptied."""
    return list((await connection.scalars(_TO_EMPTY, {"most": limit})).all())


async def emptied(connection: Connection, topics: Collection[str]) -> None:
    """Forget topics that the broker has emptied."""
    for chunk in chunks(topics):
        await connection.execute(delete(retained_clears).where(retained_clears.c.topic.in_(chunk)))
