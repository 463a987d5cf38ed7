"""Messages that can never be stored as what they claim to be.

Kept for the operator to see, the newest 1,000.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import delete, desc, insert, select

from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import rejected_messages

KEPT = 1_000
HEAD_BYTES = 200


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """What came and why it was refused; ``head`` is the first 200 bytes of ``size``."""

    at: datetime
    topic: str
    reason: str
    detail: str
    size: int
    head: bytes


async def keep(connection: Connection, messages: Sequence[RejectedMessage]) -> None:
    """Add the messages and let the oldest go."""
    if not messages:
        return
    await connection.execute(insert(rejected_messages), [asdict(message) for message in messages[-KEPT:]])
    newest = select(rejected_messages.c.id).order_by(desc(rejected_messages.c.id)).limit(1).offset(KEPT)
    limit = await connection.scalar(newest)
    if limit is not None:
        await connection.execute(delete(rejected_messages).where(rejected_messages.c.id <= limit))


async def newest(connection: Connection, limit: int) -> list[RejectedMessage]:
    """Return up to ``limit`` of them, newest first."""
    c = rejected_messages.c
    statement = select(c.at, c.topic, c.reason, c.detail, c.size, c.head).order_by(desc(c.id)).limit(limit)
    return [RejectedMessage(*row) for row in await connection.execute(statement)]
