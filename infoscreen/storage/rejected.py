"""Messages that can never be stored as what they claim to be.

Kept for the operator to see, the newest 1,000, and of those at most a quarter of one device: one that sends
nothing else must not crowd out the others'.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, desc, func, insert, select

from infoscreen.domain.codes import Fact, unpacked
from infoscreen.domain.error_codes import MessageDefect
from infoscreen.storage.columns import chunks
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page, cursor_number, decode_cursor, encode_cursor
from infoscreen.storage.tables import rejected_messages

KEPT = 1_000
KEPT_OF_ONE = 250
SENDER_CHARACTERS = len("infoscreen/00000000-0000-4000-8000-000000000000")
"""So much of a topic tells who sent it; the broker lets devices publish nowhere else."""
HEAD_BYTES = 200

Key = tuple[str, int, bytes, int | None]
"""Topic, size, head and packet id."""


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """What came and why it was refused; ``head`` is the first 200 bytes of ``size``.

    ``reason`` is what the defect is counted under. ``packet_id`` is the broker's number of the message, None
    without one; ``repeated`` tells that it was delivered before under that number.
    """

    at: datetime
    topic: str
    reason: str
    defect: Fact[MessageDefect]
    size: int
    head: bytes
    packet_id: int | None = None
    repeated: bool = False

    @property
    def key(self) -> Key:
        """Return what is the same when the broker repeats it, and hardly ever of another message."""
        return self.topic, self.size, self.head, self.packet_id


async def stored_before(connection: Connection, messages: Sequence[RejectedMessage]) -> set[Key]:
    """Return the keys of those repeated messages that are stored already.

    Those that were not kept, because their device sends too many, are not known.
    """
    again = {one.packet_id for one in messages if one.repeated and one.packet_id is not None}
    c, known = rejected_messages.c, set[Key]()
    for chunk in chunks(again):
        rows = await connection.execute(
            select(c.topic, c.size, c.head, c.packet_id).where(c.packet_id.in_(chunk))
        )
        known |= {(topic, size, bytes(head), packet_id) for topic, size, head, packet_id in rows}
    return known & {one.key for one in messages if one.repeated}


async def keep(connection: Connection, messages: Sequence[RejectedMessage]) -> None:
    """Add the messages and let the oldest go."""
    if not messages:
        return
    fresh = _newest_of_each(messages)[-KEPT:]
    await connection.execute(insert(rejected_messages), [_row(message) for message in fresh])
    c = rejected_messages.c
    sender = func.substr(c.topic, 1, SENDER_CHARACTERS)
    ranks = select(c.id, func.row_number().over(partition_by=sender, order_by=desc(c.id)).label("rank"))
    ranked = ranks.subquery()
    surplus = select(ranked.c.id).where(ranked.c.rank > KEPT_OF_ONE)
    await connection.execute(delete(rejected_messages).where(c.id.in_(surplus)))
    newest = select(rejected_messages.c.id).order_by(desc(rejected_messages.c.id)).limit(1).offset(KEPT)
    limit = await connection.scalar(newest)
    if limit is not None:
        await connection.execute(delete(rejected_messages).where(rejected_messages.c.id <= limit))


def _row(message: RejectedMessage) -> dict[str, object]:
    return {
        "at": message.at,
        "topic": message.topic,
        "reason": message.reason,
        "code": message.defect.code.value,
        "arguments": message.defect.packed(),
        "size": message.size,
        "head": message.head,
        "packet_id": message.packet_id,
    }


def _newest_of_each(messages: Sequence[RejectedMessage]) -> list[RejectedMessage]:
    """Return the messages in order, without those that would be too many of their sender."""
    newer: Counter[str] = Counter()
    kept: list[RejectedMessage] = []
    for message in reversed(messages):
        sender = message.topic[:SENDER_CHARACTERS]
        newer[sender] += 1
        if newer[sender] <= KEPT_OF_ONE:
            kept.append(message)
    return kept[::-1]


async def page(connection: Connection, limit: int, cursor: str | None = None) -> Page[RejectedMessage]:
    """Return a page of them, newest first; raise ``InvalidInput`` for a foreign cursor."""
    c = rejected_messages.c
    statement = select(c.at, c.topic, c.reason, c.code, c.arguments, c.size, c.head, c.id).order_by(
        desc(c.id)
    )
    if cursor is not None:
        statement = statement.where(c.id < cursor_number(decode_cursor(cursor, 1)[0]))
    rows = (await connection.execute(statement.limit(limit + 1))).all()
    items = [
        RejectedMessage(
            row.at,
            row.topic,
            row.reason,
            unpacked(MessageDefect, row.code, row.arguments),
            row.size,
            row.head,
        )
        for row in rows[:limit]
    ]
    return Page(items, encode_cursor(rows[limit - 1].id) if len(rows) > limit else None)
