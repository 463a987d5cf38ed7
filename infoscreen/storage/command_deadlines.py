"""Commands that time has something to do with: unfinished, overdue, waiting for verification."""

from datetime import datetime

from sqlalchemy import (
    and_,
    select,
)

from infoscreen.domain.clients import Client
from infoscreen.domain.commands import (
    ClientCommand,
    Verification,
)
from infoscreen.storage.clients import get_many as get_clients
from infoscreen.storage.commands import COLUMNS, IS_OPEN, command_of, is_judged
from infoscreen.storage.engine import Connection
from infoscreen.storage.tables import client_commands


async def unfinished(connection: Connection) -> list[ClientCommand]:
    """Return all commands that may still come to an end."""
    return [command_of(row) for row in await connection.execute(select(*COLUMNS).where(IS_OPEN))]


async def past_deadline(connection: Connection, now: datetime, limit: int) -> list[ClientCommand]:
    """Return unfinished commands whose deadline has passed."""
    overdue = and_(IS_OPEN, client_commands.c.deadline_at <= now)
    return [command_of(row) for row in await connection.execute(select(*COLUMNS).where(overdue).limit(limit))]


async def to_verify(connection: Connection, limit: int) -> list[tuple[ClientCommand, Client]]:
    """Return commands whose effect is still to be seen, each with its client as it is now."""
    statement = select(*COLUMNS).where(is_judged(Verification.PENDING)).limit(limit)
    commands = [command_of(row) for row in await connection.execute(statement)]
    known = await get_clients(connection, {command.client_uuid for command in commands})
    return [(command, known[command.client_uuid]) for command in commands]
