"""When the host's clock is set, every stored time of the recovery moves along."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from infoscreen.domain.recovery import Attempt, Incident, moved, moved_time
from infoscreen.storage import commands
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.recovery import attempts, incidents, ladders, unwell

LOOKED_BACK = timedelta(days=2)
CHUNK = 500


class Shift(NamedTuple):
    """A step of the clock: the new time at it, by how much it was set, and the time now."""

    stepped_at: datetime
    step: timedelta
    now: datetime

    def of(self, at: datetime | None) -> datetime | None:
        """Return a stored time on the new clock; what was written since the step is left alone."""
        return None if at is None else moved_time(at, self.stepped_at, self.step, self.now)


@dataclass(slots=True)
class MovedSoFar:
    """How far the times were moved by one step, as the database may fail in between: each is moved once."""

    recovery: bool = False
    clients: str = ""
    """The last one whose times were moved."""


async def move_times(
    store: Store, stepped_at: datetime, step: timedelta, now: datetime, progress: MovedSoFar | None = None
) -> None:
    """Move ladders, attempts, incidents, publications and the unwell clients' times by a step of the clock.

    Args:
        store: where they are.
        stepped_at: the new time at the step.
        step: by how much the clock was set, negative for back.
        now: the time now.
        progress: where an earlier call for the same step stopped.
    """
    shift, so_far = Shift(stepped_at, step, now), progress or MovedSoFar()
    if not so_far.recovery:
        await _recovery(store, shift)
        so_far.recovery = True
    async with store.read() as connection:
        uuids = set(await ladders.all_of_them(connection))
        async for part in unwell.unwell(connection):
            uuids.update(row[0] for row in part)
    ordered = sorted(uuid for uuid in uuids if uuid > so_far.clients)
    for start in range(0, len(ordered), CHUNK):
        chunk = ordered[start : start + CHUNK]
        async with store.write() as connection:
            await _clients(connection, chunk, shift)
        so_far.clients = chunk[-1]


async def _recovery(store: Store, shift: Shift) -> None:
    stepped_at, step, now = shift
    async with store.write() as connection:
        known = await ladders.all_of_them(connection)
        await ladders.save(
            connection, {uuid: moved(one, stepped_at, step, now) for uuid, one in known.items()}
        )
        since = min(now, now - step) - LOOKED_BACK
        await commands.move_published(connection, since, shift.of)
        lately = await attempts.since_then(connection, since)
        await attempts.move(connection, [_attempt(one, shift) for one in lately])
        for incident in await incidents.under_way(connection):
            await incidents.save(connection, _incident(incident.fact, shift))


def _attempt(attempt: Attempt, shift: Shift) -> Attempt:
    return replace(
        attempt,
        decided_at=shift.of(attempt.decided_at) or attempt.decided_at,
        published_at=shift.of(attempt.published_at),
        accepted_at=shift.of(attempt.accepted_at),
        ended_at=shift.of(attempt.ended_at),
    )


def _incident(incident: Incident, shift: Shift) -> Incident:
    return replace(
        incident,
        began_at=shift.of(incident.began_at) or incident.began_at,
        calm_since=shift.of(incident.calm_since),
        stopped_at=shift.of(incident.stopped_at),
    )


async def _clients(connection: Connection, uuids: Sequence[str], shift: Shift) -> None:
    async for part in unwell.times(connection, uuids):
        for row in part:
            uuid = row.pop("uuid")
            changed = {name: after for name, at in row.items() if (after := shift.of(at)) != at}
            if changed:
                await unwell.set_times(connection, uuid, changed)
