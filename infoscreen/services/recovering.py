"""The crash-recovery loop: look at the unwell, let the rules decide, write it down, then carry it out.

Nothing is decided in here. What is to be done is written before it is done, under the id that its command
will have; so whatever the daemon dies of, an attempt is found again and never made twice. Switched off, the
same is decided and written, marked as what would be done.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.attempts import AttemptOutcome, never_sent, outcome_after
from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import Action, ClientCommand, Source
from infoscreen.domain.errors import Conflict, NotFound, Refused
from infoscreen.domain.events import ClientChanged, Kind, RecoveryChanged
from infoscreen.domain.history import Happening
from infoscreen.domain.lockout import LockoutPolicy
from infoscreen.domain.recovery import (
    Decision,
    Ladder,
    Observer,
    Patient,
    Phase,
    Plan,
    RecoveryPolicy,
    Verb,
    acknowledged,
    decide,
)
from infoscreen.services.bus import Bus
from infoscreen.services.commanding import Because, Commanding
from infoscreen.services.loops import every
from infoscreen.services.patients import World, look
from infoscreen.services.ports import Measures
from infoscreen.services.record import Record, changes_of, summary_of
from infoscreen.storage import attempts, audit, clients, decisions, ladders, timeline
from infoscreen.storage.attempts import StoredAttempt
from infoscreen.storage.engine import Store
from infoscreen.storage.timeline import NewEntry

log = logging.getLogger(__name__)

IN_A_ROW = 500
"""After so many decisions have been counted the event loop gets a breath."""

DAEMON = Actor(None, "recovery", Role.OPERATOR, "daemon")
"""In whose name commands are requested; it has the rights of an operator and no more."""


class Recovering:
    """Decides on every poll, and acts where it may. One step at a time, also with operators' acts."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        bus: Bus,
        commanding: Commanding,
        measures: Measures,
        policy: RecoveryPolicy,
        lockout: LockoutPolicy,
        observer: Callable[[], Observer],
    ) -> None:
        """Keep the parts; ``observer`` tells how well the daemon sees just now."""
        self.policy = policy
        self._store = store
        self._clock = clock
        self._bus = bus
        self._commanding = commanding
        self._measures = measures
        self._lockout = lockout
        self._observer = observer
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Poll for ever; not at once, since just after a start nobody has been listened to yet."""
        await self._clock.sleep(self.policy.poll.total_seconds())
        await every(self.policy.poll.total_seconds(), self.poll, self._clock)

    async def poll(self) -> Plan:
        """Decide on everything that is not well, write that down, and carry out what is to be done now."""
        async with self._one_at_a_time:
            await self._follow_up()
            now, observer = self._clock.now(), self._observer()
            async with self._store.read() as connection:
                world = await look(connection, observer, self.policy, self._lockout, now)
            # In a thread: with tens of thousands unwell this takes longer than the loop may be held up.
            plan = await asyncio.to_thread(decide, world.snapshot, self.policy, now)
            acts = await self._write(world, plan, now)
            for decision, attempt in acts:
                await self._carry_out(attempt, Because(decision.reason, dict(decision.arguments)))
        return plan

    async def acknowledge(self, client_uuid: str, actor: Actor, comment: str | None = None) -> None:
        """Note that somebody takes care of a client that the recovery has given up on; it may then try again.

        Raises:
            NotFound: there is no such client.
            Conflict: it does not wait for anybody.
        """
        async with self._one_at_a_time, self._store.write() as connection:
            if not await clients.keep(connection, [client_uuid]):
                raise NotFound(f"There is no client {client_uuid}.")
            now = self._clock.now()
            ladder = await ladders.get(connection, client_uuid)
            if ladder is None or ladder.phase is not Phase.NEEDS_HUMAN:
                raise Conflict("The recovery has not given up on this client: nothing to acknowledge.")
            await ladders.save(connection, {client_uuid: acknowledged(ladder, now)})
            standing = await decisions.standing(connection, [client_uuid])
            await decisions.end(connection, list(standing.values()), await decisions.last_poll(connection))
            detail = {"because": ladder.because, "comment": comment}
            await audit.record(
                connection, now, actor, "recovery.acknowledge", f"client/{client_uuid}", detail
            )
            fact = (
                Fact(Happening.TAKEN_OVER_WITH_COMMENT, {"by": actor.name, "comment": comment})
                if comment
                else Fact(Happening.TAKEN_OVER, {"by": actor.name})
            )
            data = {"act": "recovery.acknowledge", **detail}
            entry = NewEntry(client_uuid=client_uuid, at=now, kind=Kind.OPERATOR, fact=fact, data=data)
            await timeline.add(connection, [entry])
        self._bus.publish(RecoveryChanged(), ClientChanged(client_uuid))

    async def _follow_up(self) -> None:
        """See how far the attempts under way have come.

        One whose command is not there was decided on by a daemon that died before it could request it. It is
        closed and not charged; whether it is still the right thing is decided anew, at once.
        """
        now = self._clock.now()
        async with self._store.read() as connection:
            under_way = await attempts.under_way(connection)
        changed = [
            after
            for attempt, command in under_way
            if (after := _followed(attempt, command, now)) is not attempt
        ]
        if changed:
            async with self._store.write() as connection:
                await attempts.save(connection, changed)
        self._count(changed)

    async def _write(self, world: World, plan: Plan, now: datetime) -> list[tuple[Decision, StoredAttempt]]:
        """Write down what was decided, and return what is to be carried out."""
        acts = [(one, _attempt(one, now)) for one in plan.decisions if one.verb is Verb.ACT]
        ended = _ended(world, plan, now)
        changes = await changes_of(world, plan, now)
        summary = summary_of(plan, changes, now, paused=world.paused, enabled=self.policy.enabled)
        record = Record(self._store, changes, summary, [attempt for _, attempt in acts], ended)
        began = await record.write(now)
        self._count(ended)
        await self._tell(world, plan, changes_told=bool(acts or changes.begun or changes.ended or began))
        for kind in began:
            self._measures.incident(kind)
        return [(one, attempt) for one, attempt in acts if not attempt.would]

    async def _tell(self, world: World, plan: Plan, *, changes_told: bool) -> None:
        reasons = Counter(decision.reason for decision in plan.decisions)
        for reason, count in reasons.items():
            self._measures.recovery_decision(reason, count)
        self._measures.incidents_open(
            Counter(incident.kind.value for incident in plan.incidents if incident.ended_at is None)
        )
        pairs = zip(world.snapshot.patients, plan.decisions, strict=True)
        for number, (patient, decision) in enumerate(pairs, start=1):
            if number % IN_A_ROW == 0:
                await asyncio.sleep(0)
            seconds = _time_to_recovery(patient, decision.ladder)
            if seconds is not None:
                self._measures.recovered(seconds)
            if decision.verb is Verb.ACT or decision.ladder != patient.ladder:
                _log(patient, decision)
        if changes_told:
            self._bus.publish(RecoveryChanged())

    async def _carry_out(self, attempt: StoredAttempt, because: Because) -> None:
        """Request the attempt's command, by the attempt's id; close the attempt if that is refused."""
        try:
            await self._commanding.request(
                attempt.client_uuid,
                Action(attempt.rung.action),
                source=Source.RECOVERY,
                actor=DAEMON,
                because=because,
                expires_in=self.policy.command_expiry,
                command_id=attempt.command_id,
            )
        except Refused as refusal:
            log.info(
                "recovery was refused a command",
                extra={
                    "event": "recovery_refused",
                    "client_uuid": attempt.client_uuid,
                    "action": attempt.rung.action,
                    "reason": refusal.slug,
                },
            )
            closed = _closed(attempt, AttemptOutcome.NOT_SENT, self._clock.now(), refusal.slug)
            async with self._store.write() as connection:
                await attempts.save(connection, [closed])
            self._count([closed])

    def _count(self, changed: Sequence[StoredAttempt]) -> None:
        for attempt in changed:
            if attempt.outcome is not None and not attempt.would:
                self._measures.recovery_attempt(attempt.rung.action, attempt.outcome)


def _attempt(decision: Decision, now: datetime) -> StoredAttempt:
    assert decision.rung is not None  # noqa: S101 - an ACT has one; tells mypy
    return StoredAttempt(
        command_id=str(uuid4()),
        client_uuid=decision.client_uuid,
        rung=decision.rung,
        would=decision.would,
        decided_at=now,
        published_at=now if decision.would else None,
    )


def _followed(attempt: StoredAttempt, command: ClientCommand | None, now: datetime) -> StoredAttempt:
    """Return the attempt as its command tells; the same object when there is nothing new."""
    if attempt.would:
        return attempt
    if command is None:
        return _closed(attempt, AttemptOutcome.NOT_SENT, now, "interrupted")
    if never_sent(command):
        return _closed(attempt, AttemptOutcome.NOT_SENT, now, command.status)
    if command.published_at is not None and attempt.published_at is None:
        return replace(attempt, published_at=command.published_at)
    return attempt


def _closed(
    attempt: StoredAttempt, outcome: AttemptOutcome, now: datetime, detail: str | None = None
) -> StoredAttempt:
    return replace(attempt, ended_at=now, outcome=outcome, detail=detail)


def _ended(world: World, plan: Plan, now: datetime) -> list[StoredAttempt]:
    """Return the attempts of which it is known now what came of them."""
    by_client = {decision.client_uuid: decision for decision in plan.decisions}
    ended: list[StoredAttempt] = []
    for uuid, tried in world.attempts.items():
        for attempt in tried:
            outcome = outcome_after(by_client.get(uuid), attempt.published_at)
            if attempt.ended_at is None and outcome is not None:
                ended.append(_closed(attempt, outcome, now))
    return ended


def _time_to_recovery(patient: Patient, after: Ladder | None) -> float | None:
    """Return how long a client was unwell that counts as well from now on, if anything was done for it."""
    before = patient.ladder
    if before is None or after is None or after.phase is not Phase.WELL or before.phase is Phase.WELL:
        return None
    helped = [one for one in patient.attempts if one.published_at is not None and not one.would]
    if not any(one.decided_at >= before.began_at for one in helped):
        return None
    return max(timedelta(0), patient.client.status_since - before.unwell_since).total_seconds()


def _log(patient: Patient, decision: Decision) -> None:
    log.info(
        "recovery decided",
        extra={
            "event": "recovery_decided",
            "client_uuid": decision.client_uuid,
            "verb": decision.verb,
            "reason": decision.reason,
            "action": decision.action,
            "phase": None if decision.ladder is None else decision.ladder.phase,
            "dry_run": decision.would,
            "status": patient.client.status,
        },
    )
