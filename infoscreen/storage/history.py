"""What is on record of some days, for all clients at once: changes of status, commands, pauses, incidents."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from infoscreen.domain.clients import Client, Condition
from infoscreen.domain.commands import DISRUPTIVE, ClientCommand, Source
from infoscreen.domain.events import Kind
from infoscreen.domain.recovery import IncidentKind
from infoscreen.storage import commands, incidents, pauses
from infoscreen.storage.attempts import StoredAttempt, since_then
from infoscreen.storage.clients import COLUMNS, client_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.incidents import StoredIncident
from infoscreen.storage.pauses import Pause
from infoscreen.storage.tables import timeline


@dataclass(frozen=True, slots=True)
class Change:
    """A client's status changed."""

    at: datetime
    client_uuid: str
    before: Condition
    after: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is on record since ``since``. ``clients`` are all, as they are now."""

    since: datetime
    until: datetime
    clients: dict[str, Client]
    changes: list[Change]
    commands: list[ClientCommand]
    """Disruptive ones that people asked for."""
    attempts: list[StoredAttempt]
    """What the recovery really did."""
    pauses: list[Pause]
    blind: list[StoredIncident]
    """When the daemon itself could not see."""


async def since(connection: Connection, begin: datetime, now: datetime) -> History:
    """Return what is on record since ``begin``."""
    known = await connection.stream(select(*COLUMNS))
    everybody: dict[str, Client] = {}
    async for rows in known.partitions(500):
        everybody.update((client.uuid, client) for client in map(client_of, rows))
    c = timeline.c
    found = select(c.at, c.client_uuid, c.data).where(c.kind == Kind.STATUS, c.at >= begin)
    changes = [_change(*row) for row in await connection.execute(found.order_by(c.at, c.id))]
    return History(
        since=begin,
        until=now,
        clients=everybody,
        changes=changes,
        commands=[
            one
            for one in await commands.created_since(connection, begin)
            if one.source is not Source.RECOVERY and one.action in DISRUPTIVE
        ],
        attempts=[one for one in await since_then(connection, begin) if not one.would],
        pauses=await pauses.since(connection, begin),
        blind=await incidents.since(connection, IncidentKind.OBSERVER, begin),
    )


def _change(at: datetime, uuid: str, data: dict[str, Any]) -> Change:
    return Change(at, uuid, Condition(data["from"]), Condition(data["to"]))
