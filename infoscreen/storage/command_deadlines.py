"""Commands that time has something to do with: unfinished, overdue, waiting for verification."""

from datetime import datetime

from sqlalchemy import bindparam, select

from infoscreen.domain.clients import Client
from infoscreen.domain.commands import (
    ClientCommand,
    Verification,
)
from infoscreen.storage.clients import get_many as get_clients
from infoscreen.storage.commands import COLUMNS, IS_OPEN, command_of, is_judged
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import client_commands

_UNFINISHED = select(*COLUMNS).where(IS_OPEN)
_OVERDUE = _UNFINISHED.where(client_commands.c.deadline_at <= bindparam("now")).limit(bindparam("most"))
_TO_VERIFY = select(*COLUMNS).where(is_judged(Verification.PENDING)).limit(bindparam("most"))


async def unfinished(connection: Connection) -> list[ClientCommand]:
    """Return all commands that may still come to an end."""
    return [command_of(row) for row in await connection.execute(_UNFINISHED)]


async def past_deadline(connection: Connection, now: datetime, limit: int) -> list[ClientCommand]:
    """Return unfinished commands whose deadline has passed."""
    rows = await connection.execute(_OVERDUE, {"now": now, "most": limit})
    return [command_of(row) for row in rows]


async def to_verify(connection: Connection, limit: int) -> list[tuple[ClientCommand, Client]]:
    """Return commands whose effect is still to be seen, each with its client as it is now."""
    commands = [command_of(row) for row in await connection.execute(_TO_VERIFY, {"most": limit})]
    known = await get_clients(connection, {command.client_uuid for command in commands})
    return [(command, known[command.client_uuid]) for command in commands]
