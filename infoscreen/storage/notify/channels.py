"""Notification channels: where messages go. Their addresses are sealed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, case, delete, func, insert, select, update

from infoscreen.domain.notifying import ChannelKind
from infoscreen.storage import locks
from infoscreen.storage.engine import Connection
from infoscreen.storage.locks import AdvisoryLock
from infoscreen.storage.notify_tables import channels
from infoscreen.storage.paging import Page, cursor_id, numbered_page


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChannel:
    """One channel. ``target`` is what may be shown of its address; ``last_error`` holds no secret either."""

    id: int = 0
    name: str
    kind: ChannelKind
    target: str
    sealed_url: str
    sealed_secret: str | None = None
    language: str
    enabled: bool = True
    created_at: datetime
    last_ok_at: datetime | None = None
    failing_since: datetime | None = None
    last_error: str | None = None


_NAMES = tuple(StoredChannel.__dataclass_fields__)
_ALL = select(*(channels.c[name] for name in _NAMES)).order_by(channels.c.id)


def _channel(row: Row[Any]) -> StoredChannel:
    return StoredChannel(**dict(zip(_NAMES, row, strict=True)))


async def every(connection: Connection) -> list[StoredChannel]:
    """Return all channels; there are few."""
    return [_channel(row) for row in await connection.execute(_ALL)]


async def page(connection: Connection, limit: int, cursor: str | None = None) -> Page[StoredChannel]:
    """Return channels in the order in which they were added."""
    statement = _ALL.limit(limit + 1).where(channels.c.id > cursor_id(cursor))
    found = [_channel(row) for row in await connection.execute(statement)]
    return numbered_page(found, limit, await count(connection))


async def count(connection: Connection) -> int:
    """Return how many channels there are."""
    return await connection.scalar(select(func.count()).select_from(channels)) or 0


async def get(connection: Connection, channel_id: int) -> StoredChannel | None:
    """Return one channel, None if there is none of that number."""
    row = (await connection.execute(_ALL.where(channels.c.id == channel_id))).one_or_none()
    return None if row is None else _channel(row)


async def named(connection: Connection, name: str) -> StoredChannel | None:
    """Return the channel of a name, None if there is none; others that give names wait until the end."""
    await locks.hold(connection, AdvisoryLock.NOTICE_NAMES)
    row = (await connection.execute(_ALL.where(channels.c.name == name))).one_or_none()
    return None if row is None else _channel(row)


async def add(connection: Connection, channel: StoredChannel) -> int:
    """Add a channel and return its number; the address is written by ``change`` once it is sealed for it."""
    values = {name: getattr(channel, name) for name in _NAMES if name != "id"}
    key = (await connection.execute(insert(channels).values(values))).inserted_primary_key
    return 0 if key is None else int(key[0])


async def change(connection: Connection, channel_id: int, values: Mapping[str, Any]) -> None:
    """Write some columns of a channel."""
    if values:
        await connection.execute(update(channels).where(channels.c.id == channel_id).values(**values))


async def remove(connection: Connection, channel_id: int) -> bool:
    """Delete a channel with its messages; tell whether there was one."""
    found = await connection.execute(delete(channels).where(channels.c.id == channel_id))
    return found.rowcount > 0


async def note_result(connection: Connection, channel_id: int, now: datetime, error: str | None) -> None:
    """Note how the last message went; ``error`` is why it failed."""
    if error is None:
        values: dict[str, Any] = {"last_ok_at": now, "failing_since": None, "last_error": None}
    else:
        since = case((channels.c.failing_since.is_(None), now), else_=channels.c.failing_since)
        values = {"failing_since": since, "last_error": error}
    await connection.execute(update(channels).where(channels.c.id == channel_id).values(**values))
