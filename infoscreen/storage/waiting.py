"""Queued commands that are not to be sent yet: those of bulk actions, and those for clients that are away."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.exc import IntegrityError

from infoscreen.domain.commands import DISRUPTIVE, ClientCommand, Waiting
from infoscreen.storage import commands
from infoscreen.storage.columns import chunks
from infoscreen.storage.commands import COLUMNS, command_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import client_commands, clients

_c = client_commands.c
_IN_TURN = _c.waits_for == Waiting.TURN
_FOR_CLIENT = _c.waits_for == Waiting.CLIENT
_OLDEST_FIRST = (_c.created_at, _c.command_id)


async def of_clients(connection: Connection, client_uuids: Collection[str]) -> dict[str, list[ClientCommand]]:
    """Return what waits for each client that has any, oldest first."""
    found: dict[str, list[ClientCommand]] = {}
    for chunk in chunks(client_uuids):
        statement = select(*COLUMNS).where(_c.client_uuid.in_(chunk), _c.waits_for.is_not(None))
        for row in await connection.execute(statement.order_by(*_OLDEST_FIRST)):
            command = command_of(row)
            found.setdefault(command.client_uuid, []).append(command)
    return found


async def disruptive(connection: Connection, client_uuids: Collection[str]) -> dict[str, ClientCommand]:
    """Return the oldest disruptive command that waits, of each client that has one."""
    found = await of_clients(connection, client_uuids)
    first = {uuid: [one for one in waiting if one.action in DISRUPTIVE] for uuid, waiting in found.items()}
    return {uuid: waiting[0] for uuid, waiting in first.items() if waiting}


async def count_in_turn(connection: Connection) -> int:
    """Return how many commands wait for their turn."""
    return await connection.scalar(select(func.count()).where(_IN_TURN)) or 0


_NEXT = select(_c.command_id).where(_IN_TURN, _c.deadline_at > bindparam("now"))
_NEXT = _NEXT.order_by(*_OLDEST_FIRST).limit(bindparam("most"))


async def next_in_turn(connection: Connection, now: datetime, limit: int) -> list[str]:
    """Return the ids of the commands whose turn it is, oldest first."""
    return list((await connection.scalars(_NEXT, {"now": now, "most": limit})).all())


_SINCE = func.coalesce(_c.last_publish_at, _c.created_at)
_HEARD = (
    select(_c.command_id)
    .join(clients, clients.c.uuid == _c.client_uuid)
    .where(_FOR_CLIENT, _c.deadline_at > bindparam("now"), clients.c.last_heard_at > _SINCE)
    .order_by(*_OLDEST_FIRST)
    .limit(bindparam("most"))
)


async def heard_again(connection: Connection, now: datetime, limit: int) -> list[str]:
    """Return the ids of commands whose client was heard since they began to wait, oldest first."""
    return list((await connection.scalars(_HEARD, {"now": now, "most": limit})).all())


async def release(connection: Connection, held: ClientCommand, after: ClientCommand) -> bool:
    """Write a command whose wait is over; return False if its client is occupied by another one.

    The partial unique index decides, as it does for new commands.
    """
    try:
        async with connection.begin_nested():
            await commands.save(connection, {held.command_id: held}, [after])
    except IntegrityError:
        return False
    return True
