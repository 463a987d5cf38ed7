"""What is on record of some days, for all clients at once: how they were, and what the recovery did."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from infoscreen.domain.clients import Condition
from infoscreen.domain.commands import Action, Source
from infoscreen.domain.events import TimelineKind
from infoscreen.storage.engine import Connection
from infoscreen.storage.power_tables import client_power
from infoscreen.storage.tables import client_commands, clients, timeline


@dataclass(frozen=True, slots=True)
class Change:
    """A client's status changed."""

    at: datetime
    client_uuid: str
    before: Condition
    after: Condition


@dataclass(frozen=True, slots=True)
class Seen:
    """A client as it is today, as far as the past needs it."""

    uuid: str
    label: str
    site: str | None
    status: Condition
    ip: str | None
    auto_recovery: bool
    outlet: str | None = None
    """What clients at the same outlet have in common; None without one."""
    outlet_protected: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """An action of the recovery that was really published."""

    at: datetime
    client_uuid: str
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is on record between two times; changes and acts in order of time."""

    since: datetime
    until: datetime
    clients: dict[str, Seen]
    changes: list[Change]
    done: list[Done]


async def since(connection: Connection, begin: datetime, now: datetime) -> Past:
    """Return what is on record since ``begin``."""
    c = clients.c
    o = client_power.c
    people = select(
        *(c.uuid, c.name, c.hostname, c.site, c.status, c.ip, c.auto_recovery, o.outlet_key, o.protected)
    ).join_from(clients, client_power, o.client_uuid == c.uuid, isouter=True)
    everybody = {
        uuid: Seen(uuid, name or hostname or uuid[:8], site, status, ip, auto, outlet, bool(protected))
        for uuid, name, hostname, site, status, ip, auto, outlet, protected in await connection.execute(
            people
        )
    }
    t = timeline.c
    told = select(t.at, t.client_uuid, t.data).where(t.kind == TimelineKind.STATUS, t.at >= begin)
    changes = [
        Change(at, uuid, Condition(data["from"]), Condition(data["to"]))
        for at, uuid, data in await connection.execute(told.order_by(t.at, t.id))
    ]
    k = client_commands.c
    sent = select(k.published_at, k.client_uuid, k.action).where(
        k.source == Source.RECOVERY, k.published_at >= begin
    )
    done = [Done(*row) for row in await connection.execute(sent.order_by(k.published_at))]
    return Past(since=begin, until=now, clients=everybody, changes=changes, done=done)
