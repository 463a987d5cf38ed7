"""Whether the power of clients may be cycled now. Only reads; asked before a command is stored, and again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from infoscreen.domain.accounts import Role
from infoscreen.domain.clients import STALE, Client, Condition, ProcessStatus
from infoscreen.domain.commands import Action, ClientCommand, Source
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import (
    ClientStarting,
    Forbidden,
    NoOutlet,
    OutletInUse,
    OutletProtected,
    OutletShared,
    Refused,
    TooManyCycles,
)
from infoscreen.domain.power.configuration import ClientPower
from infoscreen.services.orders import CheckedOrder
from infoscreen.storage import clients, power, power_cycles
from infoscreen.storage.engine import Connection

DAY = timedelta(days=1)

NAMED = 3


@dataclass(frozen=True, slots=True)
class CycleLimits:
    """How often an outlet is cycled within a day, and for how long after a boot a client is starting."""

    per_day: int = 3
    boot_grace: timedelta = timedelta(seconds=300)


@dataclass(frozen=True, slots=True)
class Permission:
    """What became of the orders: ``refused`` by client, and those whose ``force`` was needed."""

    refused: dict[str, Refused] = field(default_factory=dict)
    overridden: set[str] = field(default_factory=set)


async def permission(
    connection: Connection, orders: Mapping[str, CheckedOrder], now: datetime, limits: CycleLimits
) -> Permission:
    """Tell which power cycles may be requested. Other actions are none of its business."""
    told = Permission()
    wanted = {uuid: order for uuid, order in orders.items() if order.action is Action.POWER_CYCLE}
    if not wanted:
        return told
    outlets = await power.of_clients(connection, wanted)
    keys = {uuid: outlet.key for uuid, outlet in outlets.items()}
    fed = await power.fed_by(connection, outlets.values())
    known = await clients.get_many(connection, {*wanted, *(one for ones in fed.values() for one in ones)})
    switched = await power_cycles.switched_since(connection, now - DAY, keys)
    in_use = await power_cycles.in_use(connection, set(keys.values()))
    protected = await power.protected(connection, set(keys.values()))
    taken: set[str] = set()
    for uuid, order in sorted(wanted.items()):
        outlet = outlets.get(uuid)
        if order.source is not Source.RECOVERY and not order.actor.role.may(Role.ADMIN):
            told.refused[uuid] = Forbidden(ErrorCode.ROLE_TOO_LOW, needed=Role.ADMIN, role=order.actor.role)
        elif outlet is None:
            told.refused[uuid] = NoOutlet(ErrorCode.NO_OUTLET, uuid=uuid)
        elif outlet.key in protected:
            told.refused[uuid] = OutletProtected(ErrorCode.OUTLET_PROTECTED)
        elif outlet.key in in_use | taken:
            told.refused[uuid] = OutletInUse(ErrorCode.OUTLET_IN_USE)
        else:
            obstacle = _obstacle(known[uuid], fed[uuid], known, switched.get(uuid, []), now, limits)
            if obstacle is not None and order.force:
                told.overridden.add(uuid)
            elif obstacle is not None:
                told.refused[uuid] = obstacle
            if uuid not in told.refused:
                taken.add(outlet.key)
    return told


def _obstacle(
    client: Client,
    others: Collection[str],
    known: Mapping[str, Client],
    switched: Collection[datetime],
    now: datetime,
    limits: CycleLimits,
) -> Refused | None:
    """Return what only ``force`` overrides."""
    if is_starting(client, now, limits.boot_grace):
        return ClientStarting(ErrorCode.CLIENT_STARTING)
    lit = lit_others(others, known)
    if lit:
        named = ", ".join(known[one].label for one in lit[:NAMED])
        return OutletShared(ErrorCode.OUTLET_FEEDS_OTHERS, clients=named)
    if len(switched) >= limits.per_day:
        until = sorted(switched)[-limits.per_day] + DAY
        return TooManyCycles(limits.per_day, until, now)
    return None


def lit_others(others: Collection[str], known: Mapping[str, Client]) -> list[str]:
    """Return which other clients of an outlet are not known to be silent."""
    return sorted(one for one in others if one in known and known[one].status not in STALE)


def is_starting(client: Client, now: datetime, boot_grace: timedelta) -> bool:
    """Tell whether the client is heard and says that it starts, or is in a state of its own (an update)."""
    if client.status not in {Condition.ONLINE, Condition.MAINTENANCE}:
        return False
    if client.process_status in {ProcessStatus.STARTING, ProcessStatus.OTHER}:
        return True
    booted = client.boot_seen_at
    return booted is not None and booted <= now < booted + boot_grace


async def may_still(
    connection: Connection, command: ClientCommand, outlet: ClientPower, now: datetime, limits: CycleLimits
) -> bool:
    """Tell whether an outlet whose cycle was allowed may still be switched.

    Not after another command has switched it meanwhile: the clients at it are just starting.
    """
    since = min(command.created_at, now) - timedelta(microseconds=1)
    if await power_cycles.switched_since(connection, since, {outlet.client_uuid: outlet.key}):
        return False
    current = await power.get(connection, outlet.client_uuid)
    if current is None or current.key != outlet.key or await power.protected(connection, [current.key]):
        return False
    fed = (await power.fed_by(connection, [current]))[outlet.client_uuid]
    known = await clients.get_many(connection, {outlet.client_uuid, *fed})
    client = known.get(outlet.client_uuid)
    if client is None:
        return False
    return command.forced or not (lit_others(fed, known) or is_starting(client, now, limits.boot_grace))
