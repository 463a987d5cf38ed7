"""What the recovery looks at: the unwell clients, all that matters about each, and how many are well.

Only reads. However many are unwell, the event loop gets its turn every few milliseconds.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from infoscreen.domain.clients import STALE, Client, Condition
from infoscreen.domain.commands import ClientCommand
from infoscreen.domain.lockout import LockoutPolicy, locked_until
from infoscreen.domain.recovery import (
    Census,
    IncidentKind,
    Ladder,
    Observer,
    Patient,
    Pause,
    RecoveryPolicy,
    Snapshot,
    count_up_to,
)
from infoscreen.storage import attempts, commands, decisions, incidents, ladders, pauses, unwell
from infoscreen.storage.attempts import StoredAttempt
from infoscreen.storage.decisions import LastPoll, StoredDecision
from infoscreen.storage.engine import Connection
from infoscreen.storage.incidents import StoredIncident
from infoscreen.storage.unwell import Witnessing

ATTEMPTS_FOR = timedelta(days=1)
"""The longest time that a limit of the recovery looks back."""

IN_A_ROW = 100
"""Number of patients after which the event loop gets a turn."""

MAYBE_SILENT = STALE | {Condition.SERVICE_FAILED}
"""Statuses behind which there may be silence; counting well clients a little too far does no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The snapshot that is decided on, and what is stored of the polls before."""

    snapshot: Snapshot
    standing: Mapping[str, StoredDecision]
    incidents: Sequence[StoredIncident]
    attempts: Mapping[str, Sequence[StoredAttempt]]
    paused: bool
    poll: LastPoll | None


class Pauses:
    """The pauses in force, found by client; of several the one that ends last counts."""

    def __init__(self, in_force: Sequence[pauses.Pause]) -> None:
        self._by_scope: dict[tuple[str | None, str | None], Pause] = {}
        for pause in sorted(in_force, key=lambda one: one.until):
            self._by_scope[pause.site, pause.client_uuid] = Pause(until=pause.until, why=pause.reason)

    @property
    def of_fleet(self) -> Pause | None:
        """Return the pause of the whole fleet."""
        return self._by_scope.get((None, None))

    def of(self, client: Client) -> Pause | None:
        """Return the pause that covers a client."""
        if not self._by_scope:
            return None
        covering = [self.of_fleet, self._by_scope.get((None, client.uuid))]
        if client.site is not None:
            covering.append(self._by_scope.get((client.site, None)))
        return max((one for one in covering if one is not None), key=lambda one: one.until, default=None)


async def look(
    connection: Connection, observer: Observer, policy: RecoveryPolicy, lockout: LockoutPolicy, now: datetime
) -> World:
    """Return the world as it is at ``now``; everything is read in the one transaction that is given."""
    known = await ladders.all_of_them(connection)
    found = await _clients(connection, known)
    tried = await attempts.that_matter(connection, now - ATTEMPTS_FOR)
    under_way = await incidents.under_way(connection)
    paused = Pauses(await pauses.in_force(connection, now))
    patients = await _patients(connection, found, known, tried, paused, lockout, now)
    fleet, sites = await _census(connection, found, under_way, policy, now)
    standing: dict[str, StoredDecision] = {}
    async for part in decisions.all_standing(connection):
        standing.update((decision.client_uuid, decision) for decision in part)
    snapshot = Snapshot(
        observer=observer,
        fleet=fleet,
        fleet_size=await unwell.size(connection, 100 * policy.max_concurrent),
        patients=tuple(patients),
        sites=sites,
        incidents=tuple(incident.fact for incident in under_way),
    )
    return World(
        snapshot=snapshot,
        standing=standing,
        incidents=under_way,
        attempts=tried,
        paused=paused.of_fleet is not None,
        poll=await decisions.last_poll(connection),
    )


async def _clients(connection: Connection, known: Mapping[str, Ladder]) -> list[Client]:
    """Return the unwell, and those that are back but whose ladder is not at rest."""
    found: list[Client] = []
    async for part in unwell.unwell(connection):
        found += part
    back = sorted(known.keys() - {client.uuid for client in found})
    async for part in unwell.some(connection, back):
        found += part
    return found


async def _patients(
    connection: Connection,
    found: Sequence[Client],
    known: Mapping[str, Ladder],
    tried: Mapping[str, Sequence[StoredAttempt]],
    paused: Pauses,
    lockout: LockoutPolicy,
    now: datetime,
) -> list[Patient]:
    flying: dict[str, ClientCommand] = {}
    async for part in commands.all_in_flight(connection):
        flying.update((command.client_uuid, command) for command in part)
    uuids = [client.uuid for client in found]
    published = await commands.published_since(connection, uuids, now - lockout.window)
    patients: list[Patient] = []
    for client in found:
        if len(patients) % IN_A_ROW == IN_A_ROW - 1:
            await asyncio.sleep(0)
        patients.append(
            Patient(
                client=client,
                heartbeats_in_a_row=client.heartbeats - client.heartbeats_at_change + 1,
                well_until=client.well_until,
                ladder=known.get(client.uuid),
                attempts=tuple(attempt.fact for attempt in tried.get(client.uuid, ())),
                command=flying.get(client.uuid),
                locked_until=locked_until(published.get(client.uuid, ()), lockout, now),
                pause=paused.of(client),
            )
        )
    return patients


async def _census(
    connection: Connection,
    found: Sequence[Client],
    under_way: Sequence[StoredIncident],
    policy: RecoveryPolicy,
    now: datetime,
) -> tuple[Census, dict[str, Census]]:
    """Count who is well in the fleet and at the sites where anybody is silent, or was."""
    silent = [client for client in found if client.status in MAYBE_SILENT]
    at_sites = Counter(client.site for client in silent if client.site)
    for incident in under_way:
        if incident.kind is IncidentKind.SITE_OUTAGE and incident.site is not None:
            at_sites[incident.site] += 0
    within = policy.witness_within
    witnessing = Witnessing(within.total_seconds(), now - within)
    fleet = await unwell.census_of_fleet(connection, count_up_to(len(silent)), witnessing)
    most = {site: count_up_to(count) for site, count in at_sites.items() if site is not None}
    return fleet, await unwell.census_of_sites(connection, most, witnessing)
