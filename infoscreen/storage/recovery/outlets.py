"""The outlets of unwell clients as the recovery sees them: whether they may be switched now. Only reads."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import func, select, text

from infoscreen.domain.clients import STALE, Condition
from infoscreen.domain.commands import Action
from infoscreen.domain.power.outlet import OutletObstacle
from infoscreen.domain.recovery import InFlight
from infoscreen.storage.columns import chunks
from infoscreen.storage.commands import IS_OPEN
from infoscreen.storage.engine import Connection
from infoscreen.storage.power_tables import client_power, power_cycles
from infoscreen.storage.tables import UNWELL, client_commands, clients

DAY = timedelta(days=1)

_o, _k, _p, _s = client_power.c, clients.c, power_cycles.c, client_commands.c


@dataclass(frozen=True, slots=True)
class OutletView:
    """An outlet that may be switched unless there is an ``obstacle``.

    ``busy`` is a cycle for another client at the same outlet, which is waited for like one of its own.
    """

    obstacle: OutletObstacle | None
    busy: InFlight | None


class _Own(NamedTuple):
    uuid: str
    key: str
    also_feeds: list[str]


_OWN = (
    select(_o.client_uuid, _o.outlet_key, _o.also_feeds)
    .join_from(client_power, clients, _k.uuid == _o.client_uuid)
    .where(text(UNWELL))
)
_PROTECTED = select(_o.outlet_key).where(_o.protected.is_(True))
_SHARED = select(_o.outlet_key).group_by(_o.outlet_key).having(func.count() > 1)
_TOGETHER = select(_o.outlet_key, _o.client_uuid, _o.also_feeds).where(_o.outlet_key.in_(_SHARED))
_ASKED = select(_s.client_uuid, _s.command_id, _s.deadline_at).where(
    IS_OPEN, _s.action == Action.POWER_CYCLE.value
)


async def of_unwell(
    connection: Connection, now: datetime, per_day: int, wait: timedelta
) -> dict[str, OutletView]:
    """Return the outlets of unwell clients by client.

    ``per_day`` is how often one may be switched within a day, ``wait`` how long what it feeds may then take
    to be heard again.
    """
    own = [_Own._make(row) for row in await connection.execute(_OWN)]
    if not own:
        return {}
    protected = set((await connection.scalars(_PROTECTED)).all())
    fed, at_it = await _fed(connection, own)
    lit = await _lit(connection, {one for ones in fed.values() for one in ones})
    switched = (
        await connection.execute(
            select(_p.outlet_key, _p.client_uuid, _p.command_id, _p.switched_at).where(
                _p.switched_at > now - DAY
            )
        )
    ).all()
    of_key: defaultdict[str, list[tuple[str, str, datetime]]] = defaultdict(list)
    elsewhere: defaultdict[str, list[str]] = defaultdict(list)
    for key, uuid, command_id, at in switched:
        of_key[key].append((uuid, command_id, at))
        elsewhere[uuid].append(key)
    asked = {row[0]: InFlight(row[1], Action.POWER_CYCLE, row[2]) for row in await connection.execute(_ASKED)}
    found = {}
    for one in own:
        obstacle = None
        times = len(of_key[one.key]) + sum(key != one.key for key in elsewhere[one.uuid])
        if one.key in protected:
            obstacle = OutletObstacle.PROTECTED
        elif not lit.isdisjoint(fed[one.uuid] - {one.uuid}):
            obstacle = OutletObstacle.SHARED
        elif times >= per_day:
            obstacle = OutletObstacle.USED_UP
        others = at_it.get(one.key, frozenset()) - {one.uuid}
        busy = next((asked[other] for other in sorted(others) if other in asked), None)
        for uuid, command_id, at in of_key[one.key]:
            if uuid != one.uuid and at + wait > now:
                busy = busy or InFlight(command_id, Action.POWER_CYCLE, at + wait)
        found[one.uuid] = OutletView(obstacle, busy)
    return found


async def _fed(
    connection: Connection, own: Sequence[_Own]
) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    """Return whose power goes with each client's outlet, and who is configured at each shared outlet."""
    at_it: defaultdict[str, set[str]] = defaultdict(set)
    with_it: defaultdict[str, set[str]] = defaultdict(set)
    for key, uuid, also_feeds in await connection.execute(_TOGETHER):
        at_it[key].add(uuid)
        with_it[key].update((uuid, *also_feeds))
    fed = {one.uuid: frozenset(one.also_feeds) | with_it.get(one.key, set()) for one in own}
    return fed, {key: frozenset(uuids) for key, uuids in at_it.items()}


async def _lit(connection: Connection, uuids: set[str]) -> set[str]:
    """Return which of the clients are not silent."""
    lit: set[str] = set()
    for chunk in chunks(sorted(uuids)):
        rows = await connection.execute(select(_k.uuid, _k.status).where(_k.uuid.in_(chunk)))
        lit.update(uuid for uuid, status in rows if Condition(status) not in STALE)
    return lit
