"""What of a poll is new and is to be written down: decisions that begin and end, ladders, incidents.

What stands as it stood costs nothing. What is acted on is written in one transaction with its attempt; holds
of tens of thousands of clients are cut into transactions that leave heartbeats their turn.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from infoscreen.domain.recovery import Decision, Incident, IncidentKind, Ladder, Plan, Reason, Verb
from infoscreen.services.patients import World
from infoscreen.storage import attempts, clients, decisions, incidents, ladders
from infoscreen.storage.attempts import StoredAttempt
from infoscreen.storage.decisions import LastPoll, StoredDecision
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.incidents import StoredIncident

IN_A_ROW = 200
"""After so many comparisons the event loop gets a breath."""

ROWS_PER_TRANSACTION = 250
POSTPONED_BY = timedelta(seconds=1)
"""A deadline that moves by less is the same."""

HELD_BY: Mapping[Reason, IncidentKind] = {
    Reason.FLEET_OUTAGE: IncidentKind.FLEET_OUTAGE,
    Reason.FLEET_SETTLING: IncidentKind.FLEET_OUTAGE,
    Reason.SITE_OUTAGE: IncidentKind.SITE_OUTAGE,
    Reason.SITE_SETTLING: IncidentKind.SITE_OUTAGE,
    Reason.BROKER_DISCONNECTED: IncidentKind.OBSERVER,
    Reason.OBSERVER_GRACE: IncidentKind.OBSERVER,
    Reason.INGEST_LAG: IncidentKind.OBSERVER,
}
"""The kind of incident that a client with this reason is held by."""

Key = tuple[IncidentKind, str | None]
"""Of the incidents under way there is at most one of each kind and site."""


@dataclass(slots=True)
class Changes:
    """What differs from what is stored. ``begun`` take the place of ``ended`` ones, if there was any.

    ``acted`` are the begun ones that something is done for; ``begun`` are all the others.
    """

    poll: int
    acted: list[tuple[Decision, Key | None]] = field(default_factory=list)
    begun: list[tuple[Decision, Key | None]] = field(default_factory=list)
    ended: list[StoredDecision] = field(default_factory=list)
    postponed: dict[int, datetime | None] = field(default_factory=dict)
    ladders: dict[str, Ladder | None] = field(default_factory=dict)
    incidents: Sequence[Incident] = ()
    known: Mapping[Key, StoredIncident] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    holds: dict[Key, dict[str, Any]] = field(default_factory=dict)
    last: LastPoll | None = None


async def changes_of(world: World, plan: Plan, now: datetime) -> Changes:
    """Compare a plan with what is stored."""
    changes = Changes(
        poll=1 if world.poll is None else world.poll.number + 1,
        incidents=plan.incidents,
        known={(one.kind, one.site): one for one in world.incidents},
        last=world.poll,
    )
    left = dict(world.standing)
    for number, (patient, decision) in enumerate(zip(world.snapshot.patients, plan.decisions, strict=True)):
        if number % IN_A_ROW == IN_A_ROW - 1:
            await asyncio.sleep(0)
        if decision.ladder != patient.ladder:
            changes.ladders[decision.client_uuid] = decision.ladder
        if decision.reason is Reason.NOTHING_TO_DO:
            continue
        changes.counts[decision.reason] += 1
        standing = left.pop(decision.client_uuid, None)
        _compare(changes, decision, standing, patient.client.site)
    changes.ended += left.values()
    return changes


def _compare(changes: Changes, decision: Decision, standing: StoredDecision | None, site: str | None) -> None:
    kind = HELD_BY.get(decision.reason)
    key = None if kind is None else (kind, site if kind is IncidentKind.SITE_OUTAGE else None)
    if key is not None and kind is not IncidentKind.OBSERVER:
        changes.holds[key] = _hold([decision], decision.reason, decision.until, key[1])
    if standing is not None and decision.verb is not Verb.ACT and _is_same(decision, standing):
        if _is_postponed(decision.until, standing.until):
            changes.postponed[standing.id] = decision.until
        return
    if standing is not None:
        changes.ended.append(standing)
    (changes.acted if decision.verb is Verb.ACT else changes.begun).append((decision, key))


def _is_same(decision: Decision, standing: StoredDecision) -> bool:
    return (decision.verb, decision.reason, decision.rung, decision.attempt, decision.would) == (
        standing.verb,
        standing.reason,
        standing.rung,
        standing.attempt,
        standing.would,
    )


def _is_postponed(until: datetime | None, before: datetime | None) -> bool:
    if until is None or before is None:
        return until is not before
    return abs(until - before) > POSTPONED_BY


class Record:
    """Writes one poll down."""

    def __init__(
        self,
        store: Store,
        changes: Changes,
        poll: LastPoll,
        begun: Sequence[StoredAttempt],
        ended: Sequence[StoredAttempt],
    ) -> None:
        """Keep what is to be written: the changes, the poll itself, and attempts that begin and end."""
        self._store = store
        self._changes = changes
        self._poll = poll
        self._begun = begun
        self._ended = ended
        self._incident_ids: dict[Key, int] = {}

    async def write(self, now: datetime) -> list[IncidentKind]:
        """Write everything; return the kinds of the incidents that began."""
        changes = self._changes
        acting = {decision.client_uuid for decision, _ in changes.acted}
        over = [one for one in changes.ended if one.client_uuid in acting]
        async with self._store.write() as connection:
            began = await self._incidents(connection)
            # Somebody may have deleted a client since it was looked at.
            there = await clients.keep(connection, acting)
            await decisions.end(connection, over, changes.last)
            acted = [one for one in changes.acted if one[0].client_uuid in there]
            await decisions.begin(connection, [self._stored(*one, now) for one in acted])
            own = {uuid: ladder for uuid, ladder in changes.ladders.items() if uuid in there}
            await ladders.save(connection, own)
            await attempts.begin(connection, [one for one in self._begun if one.client_uuid in there])
            await attempts.save(connection, self._ended)
            await decisions.note_poll(connection, self._poll)
        await self._others(acting, now)
        return began

    async def _others(self, acting: set[str], now: datetime) -> None:
        """Write what is not acted on, client by client; what a crash leaves out the next poll writes."""
        changes = self._changes
        ended = {one.client_uuid: one for one in changes.ended if one.client_uuid not in acting}
        begun = {one[0].client_uuid: one for one in changes.begun}
        moved = {uuid: ladder for uuid, ladder in changes.ladders.items() if uuid not in acting}
        uuids = list(dict.fromkeys((*begun, *ended, *moved)))
        for start in range(0, len(uuids), ROWS_PER_TRANSACTION):
            chunk = uuids[start : start + ROWS_PER_TRANSACTION]
            async with self._store.write() as connection:
                there = await clients.keep(connection, chunk)
                over = [ended[one] for one in chunk if one in ended]
                await decisions.end(connection, over, changes.last)
                fresh = [self._stored(*begun[one], now) for one in chunk if one in begun and one in there]
                await decisions.begin(connection, fresh)
                own = {one: moved[one] for one in chunk if one in moved and one in there}
                await ladders.save(connection, own)
        postponed = list(changes.postponed.items())
        for start in range(0, len(postponed), ROWS_PER_TRANSACTION):
            async with self._store.write() as connection:
                await decisions.postpone(connection, dict(postponed[start : start + ROWS_PER_TRANSACTION]))
        await self._count_clients({key for _, key in (*changes.begun, *changes.acted) if key is not None})

    async def _incidents(self, connection: Connection) -> list[IncidentKind]:
        began: list[IncidentKind] = []
        for incident in self._changes.incidents:
            key = (incident.kind, incident.site)
            known = self._changes.known.get(key)
            # Incidents of one place follow one another; the begin tells a new one from the one before.
            if known is None or known.began_at != incident.began_at:
                self._incident_ids[key] = await incidents.begin(connection, incident)
                began.append(incident.kind)
                continue
            self._incident_ids[key] = known.id
            if known.fact != incident:
                values = {name: getattr(incident, name) for name in incidents.FACTS}
                await incidents.change(connection, known.id, values)
        return began

    async def _count_clients(self, keys: set[Key]) -> None:
        """Count anew whom the incidents have held that more clients have come to."""
        for key in keys & self._incident_ids.keys():
            async with self._store.write() as connection:
                held = await incidents.clients_held(connection, self._incident_ids[key])
                await incidents.change(connection, self._incident_ids[key], {"clients": held})

    def _stored(self, decision: Decision, key: Key | None, now: datetime) -> StoredDecision:
        return StoredDecision(
            client_uuid=decision.client_uuid,
            verb=decision.verb,
            reason=decision.reason,
            arguments=dict(decision.arguments),
            rung=decision.rung,
            attempt=decision.attempt,
            until=decision.until,
            would=decision.would,
            incident_id=None if key is None else self._incident_ids.get(key),
            first_at=now,
            first_poll=self._changes.poll,
        )


def summary_of(plan: Plan, changes: Changes, now: datetime, *, paused: bool, enabled: bool) -> LastPoll:
    """Return what is remembered of a poll as a whole, for whoever asks how the recovery is."""
    mode = "active" if enabled else "dry_run"
    blind = plan.blind
    summary: dict[str, Any] = {
        "blind": None if blind is None else _hold(plan.decisions[:1], blind.reason, blind.until),
        "outages": list(changes.holds.values()),
        "in_flight": plan.budget.in_flight + plan.budget.started,
        "concurrent": plan.budget.concurrent,
        "per_poll": plan.budget.per_poll,
        "counts": dict(changes.counts),
        "without_pause": mode,
    }
    return LastPoll(number=changes.poll, at=now, mode="paused" if paused else mode, summary=summary)


def _hold(
    told: Sequence[Decision], reason: Reason, until: datetime | None, site: str | None = None
) -> dict[str, Any]:
    arguments = dict(told[0].arguments) if told else {"ingest": "?", "loop": "?"}
    ends = None if until is None else until.isoformat()
    return {"reason": reason, "until": ends, "site": site, "arguments": arguments}
