"""What the recovery looks at: the one builder of snapshots. Only reads.

However many are unwell, the event loop gets its turn every few milliseconds.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from infoscreen.domain.lockout import LockoutPolicy, locked_until
from infoscreen.domain.recovery import (
    FLEET,
    RATE_UNLEARNED,
    Attempt,
    Hold,
    InFlight,
    Ladder,
    Observer,
    Patient,
    Pause,
    Population,
    RecoveryPolicy,
    Rung,
    Scope,
    ScopeKind,
    Snapshot,
    network_of,
    usual_rate,
)
from infoscreen.storage import commands
from infoscreen.storage.engine import Connection
from infoscreen.storage.recovery import (
    acknowledgements,
    attempts,
    decisions,
    incidents,
    ladders,
    outlets,
    pauses,
    unwell,
)
from infoscreen.storage.recovery.decisions import LastPoll, StoredDecision
from infoscreen.storage.recovery.incidents import StoredIncident

ATTEMPTS_FOR = timedelta(days=1)
COUNTED_FOR = timedelta(days=1)
"""Clients that have been silent for longer are counted nowhere."""

LEARNED_FOR = timedelta(days=14)
SENT_FOR = timedelta(hours=1)
COUNTED_AGAIN = timedelta(minutes=1)
"""So long the populations are taken to be the same; counting them is a walk through the fleet."""

IN_A_ROW = 500
"""After so many rows the event loop gets its turn."""

MOST = 0.95
NIGHT = range(2, 5)
"""Hours of the host's local time at which a careful try disturbs least."""

network = lru_cache(maxsize=100_000)(network_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollState:
    """The snapshot that is decided on, and what is stored of the polls before."""

    snapshot: Snapshot
    standing: Mapping[str, StoredDecision]
    incidents: Sequence[StoredIncident]
    poll: LastPoll | None
    paused: bool
    fleet: int


class Pauses:
    """The pauses in force, found by client; of several the one that ends last counts."""

    def __init__(self, in_force: Sequence[pauses.StoredPause]) -> None:
        self._by_scope: dict[tuple[str | None, str | None], Pause] = {}
        for pause in sorted(in_force, key=lambda one: one.until):
            self._by_scope[pause.site, pause.client_uuid] = Pause(pause.until, pause.reason)

    @property
    def of_fleet(self) -> Pause | None:
        """Return the pause of the whole fleet."""
        return self._by_scope.get((None, None))

    def of(self, uuid: str, site: str | None) -> Pause | None:
        """Return the pause that covers a client."""
        if not self._by_scope:
            return None
        covering = [self.of_fleet, self._by_scope.get((None, uuid))]
        if site is not None:
            covering.append(self._by_scope.get((site, None)))
        return max((one for one in covering if one is not None), key=lambda one: one.until, default=None)


class SnapshotBuilder:
    """Builds snapshots; remembers between polls how many clients there are in each place."""

    def __init__(self, policy: RecoveryPolicy, lockout: LockoutPolicy, cycles_per_day: int = 3) -> None:
        self._policy = policy
        self._cycles_per_day = cycles_per_day
        # The last place is an operator's.
        self._lockout = LockoutPolicy(max(1, lockout.threshold - 1), lockout.window)
        self._populations: Mapping[Scope, Population] = {}
        self._counted_at: datetime | None = None

    async def look(self, connection: Connection, observer: Observer, now: datetime) -> PollState:
        """Return the world as it is at ``now``; everything is read in the one transaction that is given."""
        known = await ladders.all_of_them(connection)
        rows = await _rows(connection, known)
        under_way = await incidents.under_way(connection)
        paused = Pauses(await pauses.in_force(connection, now))
        keys = {one.key for one in under_way} | {one.incident for one in known.values() if one.incident}
        tried = await attempts.that_matter(connection, now - ATTEMPTS_FOR, keys) if known else []
        patients = await self._patients(connection, rows, known, tried, paused, now)
        usual = RATE_UNLEARNED
        if rows:
            await self._count(connection, now)
            first_day = (now - LEARNED_FOR).date().isoformat()
            usual = usual_rate(*await unwell.silences(connection, first_day))
        waves: defaultdict[str, list[Attempt]] = defaultdict(list)
        for one in tried:
            if one.incident is not None:
                waves[one.incident].append(one)
        standing: dict[str, StoredDecision] = {}
        async for part in decisions.all_standing(connection):
            standing.update((decision.client_uuid, decision) for decision in part)
        fleet = self._populations.get(FLEET)
        return PollState(
            snapshot=Snapshot(
                observer=observer,
                patients=patients,
                populations=self._populations,
                silences=usual,
                incidents=[one.fact for one in under_way],
                waves=waves,
                sent=await unwell.sent(connection, now - SENT_FOR),
                night=now.astimezone().hour in NIGHT,
            ),
            standing=standing,
            incidents=under_way,
            poll=await decisions.last_poll(connection),
            paused=paused.of_fleet is not None,
            fleet=len(rows) if fleet is None else fleet.clients,
        )

    async def _patients(
        self,
        connection: Connection,
        rows: Sequence[Sequence[Any]],
        known: Mapping[str, Ladder],
        tried: Iterable[Attempt],
        paused: Pauses,
        now: datetime,
    ) -> list[Patient]:
        if not rows:
            return []
        of_client: defaultdict[str, list[Attempt]] = defaultdict(list)
        for attempt in tried:
            of_client[attempt.client_uuid].append(attempt)
        flying: dict[str, InFlight] = {}
        async for part in commands.all_in_flight(connection):
            for one in part:
                flying[one.client_uuid] = InFlight(one.command_id, one.action.value, one.deadline_at)
        locks: dict[str, datetime | None] = {}
        for uuid, published in (
            await commands.disruptive_since(connection, now - self._lockout.window)
        ).items():
            locks[uuid] = locked_until(published, self._lockout, now)
        taken_over = {
            uuid: Hold(one.by, one.until)
            for uuid, one in (await acknowledgements.holding(connection, now)).items()
        }
        power = await outlets.of_unwell(
            connection, now, self._cycles_per_day, self._policy.wait(Rung.POWER_CYCLE)
        )
        patients: list[Patient] = []
        for number, row in enumerate(rows):
            if number % IN_A_ROW == IN_A_ROW - 1:
                await asyncio.sleep(0)
            uuid, site = row[0], row[3]
            outlet = power.get(uuid)
            patients.append(
                Patient._make(
                    (
                        *row[:4],
                        network(row[4]),
                        *row[5:23],
                        outlet is not None and outlet.obstacle is None,
                        known.get(uuid),
                        of_client.get(uuid, ()),
                        flying.get(uuid) or (outlet and outlet.busy),
                        locks.get(uuid),
                        paused.of(uuid, site),
                        taken_over.get(uuid),
                        outlet and outlet.obstacle,
                        *row[23:27],
                    )
                )
            )
        return patients

    async def _count(self, connection: Connection, now: datetime) -> None:
        """Count the clients of each place and find the threshold that most of them keep."""
        counted = self._counted_at
        if counted is not None and counted <= now < counted + COUNTED_AGAIN:
            return
        counts: Counter[tuple[str | None, str | None, float | None]] = Counter()
        async for part in unwell.places(connection, now - COUNTED_FOR):
            counts.update((site, network(ip), after) for site, ip, after in part)
            await asyncio.sleep(0)
        thresholds: defaultdict[Scope, Counter[float]] = defaultdict(Counter)
        unlearned = self._policy.stale_unlearned.total_seconds()
        for (site, net, after), count in counts.items():
            rounded = round(unlearned if after is None else after)
            thresholds[FLEET][rounded] += count
            if site is not None:
                thresholds[Scope(ScopeKind.SITE, site)][rounded] += count
            if net is not None:
                thresholds[Scope(ScopeKind.NETWORK, net)][rounded] += count
        self._populations = {scope: _population(found) for scope, found in thresholds.items()}
        self._counted_at = now


def _population(thresholds: Counter[float]) -> Population:
    total = thresholds.total()
    below = 0
    for seconds in sorted(thresholds):
        below += thresholds[seconds]
        if below >= MOST * total:
            break
    return Population(total, timedelta(seconds=seconds))


async def _rows(connection: Connection, known: Mapping[str, Ladder]) -> list[Sequence[Any]]:
    """Return the unwell, and those that are back but whose ladder is not at rest."""
    found: list[Sequence[Any]] = []
    async for part in unwell.unwell(connection):
        found += part
        await asyncio.sleep(0)
    back = sorted(known.keys() - {row[0] for row in found})
    async for part in unwell.some(connection, back):
        found += part
    return found
