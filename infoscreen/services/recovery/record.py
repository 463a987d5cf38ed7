"""What of a poll is new and is to be written down: decisions that begin and end, ladders, incidents.

Unchanged decisions cause no writes. What is acted on is written in one transaction with its attempt; holds of
tens of thousands of clients are cut into transactions that leave heartbeats their turn.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from infoscreen.domain.recovery import (
    Attempt,
    Decision,
    Incident,
    Ladder,
    Outcome,
    Plan,
    Reason,
    Verb,
)
from infoscreen.services.recovery.snapshot import PollState
from infoscreen.storage import clients
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.recovery import attempts, decisions, incidents, ladders, unwell
from infoscreen.storage.recovery.decisions import LastPoll, PollSummary, StoredDecision

IN_A_ROW = 500
"""After so many comparisons the event loop gets its turn."""

ROWS_PER_TRANSACTION = 250
POSTPONED_BY = timedelta(seconds=1)
"""A deadline that moves by less is the same."""

MOST_CLIENT_SECONDS = 120.0
"""Seconds between two polls that count as watched; after a longer pause nobody had looked."""


@dataclass(slots=True)
class Changes:
    """What differs from what is stored. ``begun`` take the place of ``ended`` ones, if there was any.

    ``acted`` are the begun ones that something is done for; ``begun`` are all the others.
    """

    poll: int
    would: bool
    acted: list[Decision] = field(default_factory=list)
    begun: list[Decision] = field(default_factory=list)
    ended: list[StoredDecision] = field(default_factory=list)
    postponed: dict[int, datetime | None] = field(default_factory=dict)
    ladders: dict[str, Ladder | None] = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)
    began: list[Incident] = field(default_factory=list)
    joined: Mapping[str, Sequence[str]] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    last: LastPoll | None = None

    @property
    def told(self) -> bool:
        """Tell whether anybody who watches has to be told."""
        return bool(self.acted or self.begun or self.ended or self.incidents)


async def changes_of(world: PollState, plan: Plan, *, enabled: bool) -> Changes:
    """Compare a plan with what is stored."""
    known = {one.key: one for one in world.incidents}
    differing = [one for one in plan.incidents if one.key not in known or known[one.key].fact != one]
    changes = Changes(
        poll=1 if world.poll is None else world.poll.number + 1,
        would=not enabled,
        incidents=differing,
        began=[one for one in differing if one.key not in known],
        joined=plan.joined,
        outcomes=plan.outcomes,
        last=world.poll,
    )
    left = dict(world.standing)
    pairs = zip(world.snapshot.patients, plan.decisions, strict=True)
    for number, (patient, decision) in enumerate(pairs):
        if number % IN_A_ROW == IN_A_ROW - 1:
            await asyncio.sleep(0)
        if decision.ladder is not patient.ladder and decision.ladder != patient.ladder:
            changes.ladders[decision.client_uuid] = decision.ladder
        if decision.reason is Reason.NOTHING_TO_DO:
            continue
        changes.counts[decision.reason.value] += 1
        _compare(changes, decision, left.pop(decision.client_uuid, None))
    changes.ended += left.values()
    return changes


def _compare(changes: Changes, decision: Decision, standing: StoredDecision | None) -> None:
    acts = decision.verb is Verb.ACT and not changes.would
    if standing is not None and not acts and _is_same(decision, standing, would=changes.would):
        if _is_postponed(decision.verdict.until, standing.until):
            changes.postponed[standing.id] = decision.verdict.until
        return
    if standing is not None:
        changes.ended.append(standing)
    (changes.acted if acts else changes.begun).append(decision)


def _is_same(decision: Decision, standing: StoredDecision, *, would: bool) -> bool:
    verdict = decision.verdict
    return (
        verdict.reason is standing.reason
        and verdict.verb is standing.verb
        and verdict.rung == standing.rung
        and verdict.attempt == standing.attempt
        and would is standing.would
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
        begun: Sequence[Attempt],
        known: Mapping[str, int],
    ) -> None:
        """Prepare to write: the changes, the poll, attempts that begin, and numbers of incidents by key."""
        self._store = store
        self._changes = changes
        self._poll = poll
        self._begun = begun
        self._numbers = dict(known)

    async def write(self, plan: Plan, fleet: int, now: datetime) -> None:
        """Write everything."""
        changes = self._changes
        async with self._store.write() as connection:
            for incident in changes.incidents:
                self._numbers[incident.key] = await incidents.save(connection, incident)
            await attempts.conclude(connection, changes.outcomes, now)
            await self._count(connection, plan, fleet, now)
            await decisions.note_poll(connection, self._poll)
        await self._acted(now)
        await self._others({decision.client_uuid for decision in changes.acted}, now)

    async def _acted(self, now: datetime) -> None:
        """Write what is acted on, each client's decision in one transaction with its attempt."""
        changes = self._changes
        ended = {one.client_uuid: one for one in changes.ended}
        begun = {one.client_uuid: one for one in self._begun}
        for start in range(0, len(changes.acted), ROWS_PER_TRANSACTION):
            acted = changes.acted[start : start + ROWS_PER_TRANSACTION]
            async with self._store.write() as connection:
                # Somebody may have deleted a client since it was looked at.
                there = await clients.keep(connection, [one.client_uuid for one in acted])
                over = [ended[one.client_uuid] for one in acted if one.client_uuid in ended]
                await decisions.end(connection, over, changes.last)
                acted = [one for one in acted if one.client_uuid in there]
                uuids = [one.client_uuid for one in acted]
                await decisions.begin(connection, [self._stored(one, now) for one in acted])
                own = {uuid: changes.ladders[uuid] for uuid in uuids if uuid in changes.ladders}
                await ladders.save(connection, own)
                await attempts.begin(connection, [begun[uuid] for uuid in uuids])

    async def _count(self, connection: Connection, plan: Plan, fleet: int, now: datetime) -> None:
        last = self._changes.last
        passed = 0.0 if last is None else (now - last.at).total_seconds()
        if plan.blind is None and 0 < passed <= MOST_CLIENT_SECONDS and fleet:
            await unwell.note_silences(connection, now.date().isoformat(), plan.silences, fleet * passed)

    async def _others(self, acting: set[str], now: datetime) -> None:
        """Write what is not acted on, client by client; what a crash leaves out the next poll writes."""
        changes = self._changes
        ended = {one.client_uuid: one for one in changes.ended if one.client_uuid not in acting}
        begun = {one.client_uuid: one for one in changes.begun}
        moved = {uuid: ladder for uuid, ladder in changes.ladders.items() if uuid not in acting}
        uuids = list(dict.fromkeys((*begun, *ended, *moved)))
        for start in range(0, len(uuids), ROWS_PER_TRANSACTION):
            chunk = uuids[start : start + ROWS_PER_TRANSACTION]
            async with self._store.write() as connection:
                there = await clients.keep(connection, chunk)
                over = [ended[one] for one in chunk if one in ended]
                await decisions.end(connection, over, changes.last)
                fresh = [self._stored(begun[one], now) for one in chunk if one in begun and one in there]
                await decisions.begin(connection, fresh)
                own = {one: moved[one] for one in chunk if one in moved and one in there}
                await ladders.save(connection, own)
        postponed = list(changes.postponed.items())
        for start in range(0, len(postponed), ROWS_PER_TRANSACTION):
            async with self._store.write() as connection:
                await decisions.postpone(connection, dict(postponed[start : start + ROWS_PER_TRANSACTION]))
        for key, joined in changes.joined.items():
            number = self._numbers.get(key)
            for start in range(0, len(joined) if number else 0, ROWS_PER_TRANSACTION):
                async with self._store.write() as connection:
                    there = await clients.keep(connection, joined[start : start + ROWS_PER_TRANSACTION])
                    await incidents.join(connection, number or 0, sorted(there), now)

    def _stored(self, decision: Decision, now: datetime) -> StoredDecision:
        verdict = decision.verdict
        return StoredDecision(
            client_uuid=decision.client_uuid,
            verb=verdict.verb,
            reason=verdict.reason,
            arguments=dict(verdict.arguments),
            rung=verdict.rung,
            attempt=verdict.attempt,
            until=verdict.until,
            would=self._changes.would,
            incident_id=None if verdict.incident is None else self._numbers.get(verdict.incident),
            first_at=now,
            first_poll=self._changes.poll,
        )


def summary_of(plan: Plan, changes: Changes, now: datetime, *, paused: bool, enabled: bool) -> LastPoll:
    """Return what is remembered of a poll as a whole, for those who ask how the recovery is."""
    mode = "active" if enabled else "dry_run"
    blind = plan.blind
    summary: PollSummary = {
        "blind": None if blind is None else {"reason": blind.reason, "arguments": dict(blind.arguments)},
        "counts": dict(changes.counts),
        "without_pause": mode,
    }
    return LastPoll(number=changes.poll, at=now, mode="paused" if paused else mode, summary=summary)
