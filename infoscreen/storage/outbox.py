"""Commands that are to be published, for the first time or again. The command table is the outbox."""

from datetime import datetime, timedelta

from sqlalchemy import and_, bindparam, or_, select

from infoscreen.domain.commands import (
    ClientCommand,
    CommandStatus,
)
from infoscreen.storage.columns import one_of
from infoscreen.storage.commands import COLUMNS, IS_OPEN, command_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import client_commands, clients

_c = client_commands.c
_WAITING = (
    select(*COLUMNS)
    .where(
        IS_OPEN,
        one_of(_c.status, [CommandStatus.QUEUED, CommandStatus.PUBLISH_IN_PROGRESS]),
        _c.expires_at > bindparam("now"),
    )
    .order_by(_c.created_at)
    .limit(bindparam("most"))
)
_SINCE = bindparam("since", type_=_c.last_publish_at.type)
"""Since when we listen; compared with nothing while it is None, so that the condition does not hold."""
_MISSED = (
    select(*COLUMNS)
    .join(clients, clients.c.uuid == _c.client_uuid)
    .where(
        IS_OPEN,
        one_of(
            _c.status,
            [CommandStatus.PUBLISHED, CommandStatus.ACCEPTED, CommandStatus.EXECUTION_STARTED],
        ),
        _c.last_publish_at <= bindparam("due_at"),
        _c.publish_count < bindparam("publications"),
        _c.expires_at > bindparam("now"),
        or_(
            and_(_c.status == CommandStatus.PUBLISHED, clients.c.last_heard_at > _c.last_publish_at),
            and_(_c.last_publish_at < _SINCE, clients.c.last_heard_at > _SINCE),
        ),
    )
    .limit(bindparam("most"))
)


async def to_publish(connection: Connection, now: datetime, limit: int) -> list[ClientCommand]:
    """Return commands that wait for the broker, oldest first.

    Those past their expiry are left to the sweep.
    """
    return [command_of(row) for row in await connection.execute(_WAITING, {"now": now, "most": limit})]


async def to_publish_again(
    connection: Connection,
    now: datetime,
    patience: timedelta,
    most: int,
    listening_since: datetime | None,
    limit: int,
) -> list[ClientCommand]:
    """Return commands that their device may have missed, or whose answer we may have missed.

    Missed by the device: published at least ``patience`` ago, heard of the client since then, never accepted.
    Missed by us: our own listening was interrupted since the last publication, so an ack may be gone with a
    broker that crashed; a device that has the command answers a repeat with the ack it gave.
    """
    given = {
        "now": now,
        "due_at": now - patience,
        "publications": most,
        "since": listening_since,
        "most": limit,
    }
    return [command_of(row) for row in await connection.execute(_MISSED, given)]
