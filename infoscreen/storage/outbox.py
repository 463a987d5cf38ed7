"""Commands that are to be published, for the first time or again. The command table is the outbox."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import and_, bindparam, or_, select

from infoscreen.domain.commands import AT_THE_OUTLET, CommandStatus
from infoscreen.domain.verification import Before
from infoscreen.storage.columns import chunks, one_of
from infoscreen.storage.commands import IS_OPEN
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import client_commands, clients

Due = dict[str, CommandStatus]
"""Commands that are to be published, by id, with the status in which they were seen."""

_c, _k = client_commands.c, clients.c
_ID_AND_STATUS = select(_c.command_id, _c.status).where(
    IS_OPEN,
    _c.expires_at > bindparam("now"),
    _c.waits_for.is_(None),
    _c.action.not_in(sorted(AT_THE_OUTLET)),
)
_TO_PUBLISH = (
    _ID_AND_STATUS.where(one_of(_c.status, {CommandStatus.QUEUED, CommandStatus.PUBLISH_IN_PROGRESS}))
    .order_by(_c.created_at)
    .limit(bindparam("most"))
)


async def to_publish(connection: Connection, now: datetime, limit: int) -> Due:
    """Return commands that wait for the broker, oldest first.

    Those past their expiry are left to the sweep, and those that wait to ``services.releasing``.
    """
    rows = await connection.execute(_TO_PUBLISH, {"now": now, "most": limit})
    return {row[0]: row[1] for row in rows}


_UNHEARD = and_(_c.status == CommandStatus.PUBLISHED, _k.last_heard_at > _c.last_publish_at)
_MISSED = and_(
    _c.last_publish_at < bindparam("listening_since"), _k.last_heard_at > bindparam("listening_since")
)
_TO_PUBLISH_AGAIN = (
    _ID_AND_STATUS.join(clients, _k.uuid == _c.client_uuid)
    .where(
        one_of(
            _c.status,
            {CommandStatus.PUBLISHED, CommandStatus.ACCEPTED, CommandStatus.EXECUTION_STARTED},
        ),
        _c.last_publish_at <= bindparam("due_at"),
        _c.publish_count < bindparam("times"),
        or_(_UNHEARD, _MISSED),
    )
    .limit(bindparam("most"))
)


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
    broker that crashed; a device that has the command answers a repeat with the ack it gave. While we do not
    listen nothing compares with ``listening_since``.
    """
    given = {
        "now": now,
        "due_at": now - patience,
        "times": most,
        "listening_since": listening_since,
        "most": limit,
    }
    rows = await connection.execute(_TO_PUBLISH_AGAIN, given)
    return {row[0]: row[1] for row in rows}


_BEFORE = select(_k.uuid, *(_k[name] for name in Before._fields)).where(
    _k.uuid.in_(bindparam("uuids", expanding=True))
)


async def before_publication(connection: Connection, uuids: Collection[str]) -> dict[str, Before]:
    """Return what the clients say of themselves now, by UUID."""
    found: dict[str, Before] = {}
    for chunk in chunks(uuids):
        rows = await connection.execute(_BEFORE, {"uuids": chunk})
        found.update((uuid, Before(*said)) for uuid, *said in rows)
    return found
