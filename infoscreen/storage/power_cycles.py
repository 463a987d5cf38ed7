"""Power cycles: the journal that survives the daemon, and what it tells of the last day."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, delete, insert, or_, select, update

from infoscreen.domain.commands import Action, ClientCommand, CommandStatus
from infoscreen.domain.power import Cycle, CycleStage, PowerFault
from infoscreen.domain.power.configuration import ClientPower
from infoscreen.storage.columns import chunks
from infoscreen.storage.commands import COLUMNS, IS_OPEN, command_of
from infoscreen.storage.engine import Connection
from infoscreen.storage.power_tables import client_power, power_cycles
from infoscreen.storage.tables import client_commands, clients

_p, _k, _o = power_cycles.c, clients.c, client_power.c


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCycle:
    """A power cycle as it is stored: of which command, at which outlet as it was then, and how far it is.

    ``client_label`` and ``site`` are the client's at this moment; None if it has none or is removed.
    """

    command_id: str
    client_uuid: str
    outlet: ClientPower
    cycle: Cycle
    client_label: str | None = None
    site: str | None = None


_TIMES = tuple(
    field.name for field in fields(Cycle) if field.name.endswith("_at") or field.name == "on_since"
)


def _packed(cycle: Cycle) -> dict[str, Any]:
    values = asdict(cycle)
    return values | {name: None if values[name] is None else values[name].isoformat() for name in _TIMES}


def _cycle(packed: Mapping[str, Any]) -> Cycle:
    values = {**packed, "stage": CycleStage(packed["stage"])}
    values |= {
        name: None if packed[name] is None else datetime.fromisoformat(packed[name]) for name in _TIMES
    }
    if packed["fault"] is not None:
        values["fault"] = PowerFault(packed["fault"])
    return Cycle(**values)


def _packed_outlet(outlet: ClientPower) -> dict[str, Any]:
    return {**asdict(outlet), "updated_at": outlet.updated_at.isoformat()}


def _outlet(packed: Mapping[str, Any]) -> ClientPower:
    updated_at = datetime.fromisoformat(packed["updated_at"])
    return ClientPower(**{**packed, "also_feeds": tuple(packed["also_feeds"]), "updated_at": updated_at})


async def add(connection: Connection, stored: StoredCycle) -> None:
    """Write a cycle that begins."""
    await connection.execute(
        insert(power_cycles).values(
            command_id=stored.command_id,
            client_uuid=stored.client_uuid,
            outlet_key=stored.outlet.key,
            outlet=_packed_outlet(stored.outlet),
            cycle=_packed(stored.cycle),
            began_at=stored.cycle.began_at,
        )
    )


async def save(connection: Connection, command_id: str, cycle: Cycle, now: datetime) -> None:
    """Write how far a cycle is; that something may have been switched is noted once."""
    values: dict[str, Any] = {"cycle": _packed(cycle)}
    if cycle.stage is CycleStage.ENDED:
        values["ended_at"] = now
    await connection.execute(update(power_cycles).where(_p.command_id == command_id).values(values))
    if cycle.has_switched:
        first = update(power_cycles).where(_p.command_id == command_id, _p.switched_at.is_(None))
        await connection.execute(first.values(switched_at=now))


_UNFINISHED = (
    select(_p.command_id, _p.client_uuid, _p.outlet, _p.cycle, _k.name, _k.hostname, _k.site)
    .join_from(power_cycles, clients, _k.uuid == _p.client_uuid, isouter=True)
    .where(_p.ended_at.is_(None))
    .order_by(_p.began_at)
)


def _stored(row: Sequence[Any]) -> StoredCycle:
    return StoredCycle(
        command_id=row[0],
        client_uuid=row[1],
        outlet=_outlet(row[2]),
        cycle=_cycle(row[3]),
        client_label=row[4] or row[5],
        site=row[6],
    )


async def unfinished(connection: Connection) -> list[StoredCycle]:
    """Return the cycles that are under way, oldest first."""
    return [_stored(row) for row in await connection.execute(_UNFINISHED)]


async def get(connection: Connection, command_id: str) -> StoredCycle | None:
    """Return a cycle that is under way, None if there is none or it is over."""
    row = (await connection.execute(_UNFINISHED.where(_p.command_id == command_id))).one_or_none()
    return None if row is None else _stored(row)


async def of_client(connection: Connection, client_uuid: str) -> StoredCycle | None:
    """Return the cycle that is under way for a client."""
    row = (await connection.execute(_UNFINISHED.where(_p.client_uuid == client_uuid).limit(1))).one_or_none()
    return None if row is None else _stored(row)


_WAITING = (
    select(*COLUMNS, _k.name, _k.hostname, _k.site)
    .join_from(client_commands, clients, _k.uuid == client_commands.c.client_uuid)
    .where(
        IS_OPEN,
        client_commands.c.action == Action.POWER_CYCLE,
        client_commands.c.status == CommandStatus.QUEUED,
        client_commands.c.expires_at > bindparam("now"),
    )
    .order_by(client_commands.c.created_at)
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class WaitingCycle:
    """A command that waits for its outlet."""

    command: ClientCommand
    client_label: str | None
    site: str | None


async def waiting(connection: Connection, now: datetime, limit: int) -> list[WaitingCycle]:
    """Return commands that wait for their outlet, oldest first; those past their expiry are the sweep's."""
    rows = await connection.execute(_WAITING, {"now": now, "most": limit})
    count = len(COLUMNS)
    return [
        WaitingCycle(command_of(row[:count]), row[count] or row[count + 1], row[count + 2]) for row in rows
    ]


async def in_use(connection: Connection, outlet_keys: Collection[str]) -> set[str]:
    """Return which of the outlets are being cycled, or have a command that waits for them, of any client."""
    found: set[str] = set()
    for chunk in chunks(sorted(outlet_keys)):
        running = select(_p.outlet_key).where(_p.ended_at.is_(None), _p.outlet_key.in_(chunk))
        found.update((await connection.scalars(running)).all())
        queued = (
            select(_o.outlet_key)
            .join_from(client_power, client_commands, client_commands.c.client_uuid == _o.client_uuid)
            .where(_o.outlet_key.in_(chunk), IS_OPEN, client_commands.c.action == Action.POWER_CYCLE)
        )
        found.update((await connection.scalars(queued)).all())
    return found


async def switched_since(
    connection: Connection, since: datetime, outlets: Mapping[str, str]
) -> dict[str, list[datetime]]:
    """Return by client when its outlet, or an earlier one of the client, was switched after ``since``.

    ``outlets`` are the keys of the outlets by client.
    """
    found: dict[str, list[datetime]] = {}
    for chunk in chunks(sorted(outlets)):
        keys = {outlets[uuid] for uuid in chunk}
        rows = await connection.execute(
            select(_p.client_uuid, _p.outlet_key, _p.switched_at).where(
                and_(_p.switched_at > since, or_(_p.client_uuid.in_(chunk), _p.outlet_key.in_(sorted(keys))))
            )
        )
        for client_uuid, key, at in rows:
            for uuid in chunk:
                if uuid == client_uuid or outlets[uuid] == key:
                    found.setdefault(uuid, []).append(at)
    return found


async def forget_before(connection: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` cycles that ended before; return how many."""
    old = select(_p.command_id).where(_p.ended_at < before).limit(limit)
    return (await connection.execute(delete(power_cycles).where(_p.command_id.in_(old)))).rowcount
