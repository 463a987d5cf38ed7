"""Commands that are to be published, for the first time or again. The command table is the outbox."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import (
    and_,
    or_,
    select,
)

from infoscreen.domain.commands import CommandStatus
from infoscreen.domain.verification import Before
from infoscreen.storage.columns import chunks
from infoscreen.storage.commands import IS_OPEN
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import client_commands, clients

Due = dict[str, CommandStatus]
"""Commands that are to be published, by id, with the status in which they were seen."""

_ID_AND_STATUS = select(client_commands.c.command_id, client_commands.c.status)


async def to_publish(connection: Connection, now: datetime, limit: int) -> Due:
    """Return commands that wait for the broker, oldest first.

    Those past their expiry are left to the sweep.
    """
    waiting = client_commands.c.status.in_([CommandStatus.QUEUED, CommandStatus.PUBLISH_IN_PROGRESS])
    statement = _ID_AND_STATUS.where(IS_OPEN, waiting, client_commands.c.expires_at > now)
    rows = await connection.execute(statement.order_by(client_commands.c.created_at).limit(limit))
    return {row[0]: row[1] for row in rows}


async def to_publish_again(
    connection: Connection,
    now: datetime,
    patience: timedelta,
    most: int,
    listening_since: datetime | None,
    limit: int,
) -> Due:
    """Return commands that their device may have missed, or whose answer we may have missed.

    Missed by the device: published at least ``patience`` ago, heard of the client since then, never accepted.
    Missed by us: our own listening was interrupted since the last publication, so an ack may be gone with a
    broker that crashed; a device that has the command answers a repeat with the ack it gave.
    """
    c = client_commands.c
    due_at = now - patience
    heard_again = and_(c.status == CommandStatus.PUBLISHED, clients.c.last_heard_at > c.last_publish_at)
    if listening_since is not None:
        heard_again = or_(
            heard_again, and_(c.last_publish_at < listening_since, clients.c.last_heard_at > listening_since)
        )
    statement = _ID_AND_STATUS.join(clients, clients.c.uuid == c.client_uuid).where(
        IS_OPEN,
        c.status.in_([CommandStatus.PUBLISHED, CommandStatus.ACCEPTED, CommandStatus.EXECUTION_STARTED]),
        c.last_publish_at <= due_at,
        c.publish_count < most,
        c.expires_at > now,
        heard_again,
    )
    rows = await connection.execute(statement.limit(limit))
    return {row[0]: row[1] for row in rows}


async def before_publication(connection: Connection, uuids: Collection[str]) -> dict[str, Before]:
    """Return what the clients say of themselves now, by UUID."""
    c = clients.c
    statement = select(c.uuid, *(c[name] for name in Before._fields))
    found: dict[str, Before] = {}
    for chunk in chunks(uuids):
        rows = await connection.execute(statement.where(c.uuid.in_(chunk)))
        found.update((uuid, Before(*said)) for uuid, *said in rows)
    return found
