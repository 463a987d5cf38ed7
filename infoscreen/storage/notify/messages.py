"""The outbox of notifications: a row for each message and channel, kept as history afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, case, delete, func, insert, or_, select, update

from infoscreen.domain.alerts import Severity
from infoscreen.domain.notifying import HOUR, MessageState, NoticeStep
from infoscreen.storage.columns import insert_or
from infoscreen.storage.engine import Connection
from infoscreen.storage.notify_tables import channels, notifications
from infoscreen.storage.paging import Page, cursor_number, decode_cursor, encode_cursor

_C = notifications.c


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """One message to one channel. ``next_at`` is when it is tried next, None when nothing is left to do.

    ``message_id`` stays the same however often it is sent. ``summary_id`` is the message that took its place.
    """

    id: int = 0
    message_id: str
    channel_id: int
    incident_id: int | None = None
    step: NoticeStep
    number: int = 0
    severity: Severity
    facts: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime
    attempts: int = 0
    next_at: datetime | None = None
    sent_at: datetime | None = None
    given_up_at: datetime | None = None
    summary_id: int | None = None
    last_error: str | None = None
    link_used_at: datetime | None = None

    @property
    def state(self) -> MessageState:
        """Return what has become of it."""
        if self.sent_at is not None:
            return MessageState.SENT
        if self.given_up_at is not None:
            return MessageState.GIVEN_UP
        if self.summary_id is not None:
            return MessageState.SUMMED_UP
        return MessageState.WAITING if self.last_error is None else MessageState.RETRYING


_NAMES = tuple(StoredMessage.__dataclass_fields__)
_ALL = select(*(_C[name] for name in _NAMES))


def _message(row: Row[Any]) -> StoredMessage:
    return StoredMessage(**dict(zip(_NAMES, row, strict=True)))


def _values(message: StoredMessage) -> dict[str, Any]:
    values = {name: getattr(message, name) for name in _NAMES if name != "id"}
    return values | {"facts": dict(message.facts)}


async def add(connection: Connection, messages: Sequence[StoredMessage]) -> None:
    """Add messages; one about the same step of the same incident to the same channel is not added again."""
    if messages:
        statement = insert_or(connection, notifications).on_conflict_do_nothing()
        await connection.execute(statement, [_values(one) for one in messages])


async def add_one(connection: Connection, message: StoredMessage) -> int:
    """Add a message and return its number."""
    key = (await connection.execute(insert(notifications).values(_values(message)))).inserted_primary_key
    return 0 if key is None else int(key[0])


async def channels_with_work(connection: Connection, now: datetime) -> list[int]:
    """Return the enabled channels with a message to be tried now."""
    joined = notifications.join(channels, channels.c.id == _C.channel_id)
    statement = select(_C.channel_id).distinct().select_from(joined)
    found = await connection.scalars(statement.where(_C.next_at <= now, channels.c.enabled))
    return list(found.all())


async def next_of(connection: Connection, channel_id: int, now: datetime) -> StoredMessage | None:
    """Return the message of a channel to be tried now: critical ones first, then the oldest."""
    critical = case((_C.severity == Severity.CRITICAL, 0), else_=1)
    statement = _ALL.where(_C.channel_id == channel_id, _C.next_at <= now)
    row = (await connection.execute(statement.order_by(critical, _C.id).limit(1))).one_or_none()
    return None if row is None else _message(row)


async def waiting(connection: Connection, channel_id: int, most: int) -> int:
    """Return how many messages of a channel wait to be tried for the first time, at most ``most``."""
    first = select(_C.id).where(_C.channel_id == channel_id, _C.next_at.is_not(None)).limit(most)
    return await connection.scalar(select(func.count()).select_from(first.subquery())) or 0


async def sent_within_an_hour(
    connection: Connection, channel_id: int, now: datetime, most: int
) -> list[datetime]:
    """Return when a channel took messages within the last hour, newest first, at most ``most``."""
    statement = select(_C.sent_at).where(_C.channel_id == channel_id, _C.sent_at > now - HOUR)
    return list((await connection.scalars(statement.order_by(_C.sent_at.desc()).limit(most))).all())


async def put_off(connection: Connection, channel_id: int, now: datetime, until: datetime) -> None:
    """Let everything that a channel could be sent now wait."""
    matching = and_(_C.channel_id == channel_id, _C.next_at <= now)
    await connection.execute(update(notifications).where(matching).values(next_at=until))


async def summed_up(connection: Connection, channel_id: int) -> dict[str, int]:
    """Return how many messages of a channel wait, by ``KIND STEP``."""
    kind = _C.facts["kind"].as_string().label("kind")
    waiting = select(kind, _C.step).where(
        _C.channel_id == channel_id, _C.next_at.is_not(None), _C.step != NoticeStep.SUMMARY
    )
    # PostgreSQL takes the same expression for two when its key is a parameter of each.
    kinds = waiting.subquery().c
    rows = await connection.execute(
        select(kinds.kind, kinds.step, func.count()).group_by(kinds.kind, kinds.step)
    )
    return {f"{kind or 'other'} {NoticeStep(step).value}": count for kind, step, count in rows}


async def replace_by(connection: Connection, channel_id: int, summary_id: int) -> None:
    """Let a summary take the place of all messages of its channel that wait, but for other summaries."""
    matching = and_(_C.channel_id == channel_id, _C.next_at.is_not(None), _C.step != NoticeStep.SUMMARY)
    await connection.execute(
        update(notifications).where(matching).values(next_at=None, summary_id=summary_id)
    )


async def begin(connection: Connection, message_id: int, next_at: datetime) -> None:
    """Count an attempt before it is made, and when the next one follows should nobody hear of this one."""
    values = {"attempts": _C.attempts + 1, "next_at": next_at}
    await connection.execute(update(notifications).where(_C.id == message_id).values(values))


async def conclude(connection: Connection, message_id: int, values: Mapping[str, Any]) -> None:
    """Write how an attempt ended."""
    await connection.execute(update(notifications).where(_C.id == message_id).values(**values))


async def give_up_before(connection: Connection, before: datetime, now: datetime) -> int:
    """Give up messages that were made before a time and are still to be sent; return how many."""
    matching = and_(_C.next_at.is_not(None), _C.created_at < before)
    values = {"next_at": None, "given_up_at": now}
    return (await connection.execute(update(notifications).where(matching).values(values))).rowcount


async def reminders(connection: Connection, incident_id: int) -> int:
    """Return the highest number of a reminder of an incident, 0 without one."""
    statement = select(func.max(_C.number)).where(
        _C.incident_id == incident_id, _C.step == NoticeStep.REMINDER
    )
    return await connection.scalar(statement) or 0


async def get(connection: Connection, number: int) -> StoredMessage | None:
    """Return one message, None if there is none of that number."""
    row = (await connection.execute(_ALL.where(_C.id == number))).one_or_none()
    return None if row is None else _message(row)


async def named(connection: Connection, message_id: str) -> StoredMessage | None:
    """Return the message of an id, None if there is none."""
    row = (await connection.execute(_ALL.where(_C.message_id == message_id))).one_or_none()
    return None if row is None else _message(row)


async def use_link(connection: Connection, number: int, now: datetime) -> bool:
    """Note that the link of a message was used; False if it was used before."""
    unused = and_(_C.id == number, _C.link_used_at.is_(None))
    found = await connection.execute(update(notifications).where(unused).values(link_used_at=now))
    return found.rowcount > 0


async def page(
    connection: Connection,
    limit: int,
    cursor: str | None = None,
    *,
    channel_id: int | None = None,
    incident_id: int | None = None,
) -> Page[StoredMessage]:
    """Return messages, newest first."""
    statement = _ALL.order_by(_C.id.desc()).limit(limit + 1)
    if channel_id is not None:
        statement = statement.where(_C.channel_id == channel_id)
    if incident_id is not None:
        statement = statement.where(_C.incident_id == incident_id)
    if cursor is not None:
        statement = statement.where(_C.id < cursor_number(decode_cursor(cursor, 1)[0]))
    found = [_message(row) for row in await connection.execute(statement)]
    shown = found[:limit]
    return Page(shown, encode_cursor(shown[-1].id) if len(found) > limit else None)


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` messages made before a time; return how many."""
    old = select(_C.id).where(_C.created_at < before).limit(limit)
    return (await connection.execute(delete(notifications).where(_C.id.in_(old)))).rowcount


async def move_times(connection: Connection, now: datetime, longest: timedelta) -> None:
    """Bring back what a step of the clock left further in the future than anything ever waits."""
    too_far = or_(_C.next_at > now + longest, _C.sent_at > now)
    values = {
        "next_at": case((_C.next_at > now + longest, now), else_=_C.next_at),
        "sent_at": case((_C.sent_at > now, now), else_=_C.sent_at),
    }
    await connection.execute(update(notifications).where(too_far).values(values))
