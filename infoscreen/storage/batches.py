"""The newest batch that each writer has stored, by which a repeated one is recognised."""

from infoscreen.storage.broker_tables import ingest_batches
from infoscreen.storage.columns import insert_or
from infoscreen.storage.engine import Connection


async def begin(connection: Connection, writer: str, batch: str) -> bool:
    """Note a batch as stored; return False if it was stored already.

    Must be the first statement of the transaction that stores the batch: the writer's row stays locked until
    its end, so a repetition waits for a commit that is still under way and learns what became of it.
    """
    new = insert_or(connection, ingest_batches).values(writer=writer, batch=batch)
    noted = new.on_conflict_do_update(
        index_elements=["writer"],
        set_={"batch": batch},
        where=ingest_batches.c.batch != batch,
    )
    return await connection.scalar(noted.returning(ingest_batches.c.batch)) is not None
