"""The recovery loop: look at the unwell, let the rules decide, write it down, then carry it out.

Nothing is decided in here. What is to be done is written before it is done, under the id that its command
will have; so whatever the daemon dies of, an attempt is found again and never made twice. Switched off, the
same is decided and written, marked as what would be done.
"""

import asyncio
import contextlib
import gc
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from uuid import uuid4

from infoscreen.clock import Clock, ClockStep
from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.commands import Action, Source
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, NotFound, Refused
from infoscreen.domain.events import ClientChanged, RecoveryChanged
from infoscreen.domain.lockout import LockoutPolicy
from infoscreen.domain.recovery import (
    Attempt,
    Decision,
    Ladder,
    Meanwhile,
    Observer,
    Outcome,
    Patient,
    Phase,
    Plan,
    RecoveryPolicy,
    Verb,
    decide,
    followed_attempt,
)
from infoscreen.progress import SLACK_SECONDS, expect_within
from infoscreen.services.bus import Bus
from infoscreen.services.commanding import Commanding
from infoscreen.services.loops import every
from infoscreen.services.orders import Because, WantedCommand
from infoscreen.services.ports import Measures
from infoscreen.services.recovery import caring
from infoscreen.services.recovery.clock_steps import MovedSoFar, move_times
from infoscreen.services.recovery.record import Record, changes_of, summary_of
from infoscreen.services.recovery.snapshot import PollState, SnapshotBuilder
from infoscreen.storage import audit
from infoscreen.storage.engine import Store
from infoscreen.storage.recovery import acknowledgements, attempts, decisions, incidents
from infoscreen.storage.recovery.acknowledgements import StoredAcknowledgement

log = logging.getLogger(__name__)

IN_A_ROW = 500
"""After so many decisions have been counted the event loop gets its turn."""

AT_ONCE = 100
"""So many patients are decided on in a millisecond or two."""

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
        new_id: Callable[[], str] = lambda: str(uuid4()),
        *,
        cycles_per_day: int = 3,
    ) -> None:
        """Prepare the loop.

        ``observer`` tells how well the daemon sees just now, ``new_id`` names attempts and their commands.
        """
        self._new_id = new_id
        self.policy = policy
        self._store = store
        self._clock = clock
        self._bus = bus
        self._commanding = commanding
        self._measures = measures
        self._observer = observer
        self._builder = SnapshotBuilder(policy, lockout, cycles_per_day)
        self._one_at_a_time = asyncio.Lock()
        self._step_before = clock.last_step
        self._is_first = True
        self._moving_by: ClockStep | None = None
        self._moved = MovedSoFar()

    async def run(self) -> None:
        """Poll until cancelled. The first poll waits one interval, because nothing was received before."""
        expect_within(self.policy.poll.total_seconds() + SLACK_SECONDS)
        await self._clock.sleep(self.policy.poll.total_seconds())
        await every(self.policy.poll.total_seconds(), self.step, self._clock)

    async def step(self) -> None:
        """Poll once, and free what was decided in parts, before the garbage collector may see it."""
        with _without_collections():
            plan = await self.poll()
            await _freed(plan.decisions)

    async def poll(self) -> Plan:
        """Decide on everything that is not well, write that down, and carry out what is to be done now."""
        async with self._one_at_a_time:
            with _without_collections():
                return await self._poll()

    async def _poll(self) -> Plan:
        await self._after_a_step()
        await self._follow_up()
        now, observer = self._clock.now(), self._observer()
        async with self._store.read() as connection:
            world = await self._builder.look(connection, observer, now)
        if len(world.snapshot.patients) <= AT_ONCE:
            plan = decide(world.snapshot, self.policy, now)
        else:
            # In a thread: with tens of thousands unwell this takes longer than the loop may be held up.
            plan = await asyncio.to_thread(decide, world.snapshot, self.policy, now)
        acts = await self._write(world, plan, now)
        if acts:
            await self._carry_out(acts)
        await _freed(world.snapshot.patients, world.standing)
        return plan

    async def acknowledge(
        self,
        client_uuid: str,
        actor: Actor,
        comment: str | None = None,
        *,
        until: datetime | None = None,
        recovery: Meanwhile = Meanwhile.GO_ON,
        given_up: bool = False,
    ) -> None:
        """Note that somebody takes care of a client, until a time, or until it is given back or well again.

        With ``HOLD`` the recovery keeps out of it; with ``GO_ON`` it goes on, from the first rung if it has
        given up.

        Raises:
            NotFound: there is no such client.
            Conflict: nothing is wrong with it; with ``given_up`` also, that the recovery has not given up.
            InvalidInput: the end is past or too far away.
        """
        async with self._one_at_a_time, self._store.write() as connection:
            taken = StoredAcknowledgement(
                client_uuid=client_uuid,
                recovery=recovery,
                by=actor.name,
                at=self._clock.now(),
                until=until,
                comment=comment,
            )
            await caring.acknowledge(connection, taken, actor, given_up=given_up)
        self._bus.publish(RecoveryChanged(), ClientChanged(client_uuid))

    async def try_again(self, client_uuid: str, actor: Actor) -> None:
        """Let the recovery begin again on the first rung with a client that it has given up on.

        Raises:
            NotFound: there is no such client.
            Conflict: the recovery has not given up.
        """
        async with self._one_at_a_time, self._store.write() as connection:
            await caring.try_again(connection, client_uuid, actor, self._clock.now())
        self._bus.publish(RecoveryChanged(), ClientChanged(client_uuid))

    async def give_back(self, client_uuid: str, actor: Actor) -> None:
        """Note that nobody takes care of a client any more; that nobody did is fine.

        Raises ``NotFound``.
        """
        async with self._one_at_a_time, self._store.write() as connection:
            await caring.give_back(connection, client_uuid, actor, self._clock.now())
        self._bus.publish(RecoveryChanged(), ClientChanged(client_uuid))

    async def take_back(self, client_uuid: str, actor: Actor, since: datetime) -> bool:
        """End the acknowledgement of a client if it is the actor's and not older; tell whether it was."""
        async with self._one_at_a_time, self._store.write() as connection:
            now = self._clock.now()
            ended = await caring.take_back(connection, client_uuid, actor, now, since)
        if ended:
            self._bus.publish(RecoveryChanged(), ClientChanged(client_uuid))
        return ended

    async def dismiss(self, incident_id: int, actor: Actor, comment: str | None = None) -> None:
        """End an incident: its members have nothing in common, each is treated singly from now on.

        Raises:
            NotFound: there is no such incident.
            Conflict: it is over already.
        """
        async with self._one_at_a_time, self._store.write() as connection:
            known = await incidents.get(connection, incident_id)
            if known is None:
                raise NotFound(ErrorCode.NO_INCIDENT, id=str(incident_id))
            if known.ended_at is not None:
                raise Conflict(ErrorCode.INCIDENT_OVER)
            now = self._clock.now()
            await incidents.dismiss(connection, incident_id, now)
            detail = {"comment": comment, "kind": known.kind.value}
            await audit.record(connection, now, actor, "incident.dismiss", f"incident/{incident_id}", detail)
        self._bus.publish(RecoveryChanged())

    async def acknowledge_incident(self, incident_id: int, actor: Actor, comment: str | None = None) -> None:
        """Note that somebody takes care of an incident; nothing else changes.

        Raises ``NotFound``.
        """
        async with self._store.write() as connection:
            if await incidents.get(connection, incident_id) is None:
                raise NotFound(ErrorCode.NO_INCIDENT, id=str(incident_id))
            now = self._clock.now()
            await incidents.acknowledge(connection, incident_id, now, actor.name, comment)
            detail = {"comment": comment}
            await audit.record(
                connection, now, actor, "incident.acknowledge", f"incident/{incident_id}", detail
            )
        self._bus.publish(RecoveryChanged())

    async def _after_a_step(self) -> None:
        """Move every stored time along once the host's clock was set, also while we were not running."""
        now = self._clock.now()
        step = self._clock.last_step
        if step is not None and step is not self._step_before and step.was_set:
            if self._moving_by is not step:
                self._moving_by, self._moved = step, MovedSoFar()
            await move_times(self._store, step.at, timedelta(seconds=step.seconds), now, self._moved)
        elif self._is_first:
            async with self._store.read() as connection:
                last = await decisions.last_poll(connection)
            if last is not None and last.at > now:
                await move_times(self._store, now, now - last.at, now, self._moved)
        self._is_first = False
        self._step_before = step

    async def _follow_up(self) -> None:
        """See how far the attempts under way have come, and which acknowledgements are over."""
        now = self._clock.now()
        async with self._store.read() as connection:
            under_way = await attempts.under_way(connection)
            over = await caring.over(connection, self.policy, now)
        changed = [
            after
            for attempt, command in under_way
            if (after := followed_attempt(attempt, command, now)) is not attempt
        ]
        if changed or over:
            async with self._store.write() as connection:
                await attempts.save(connection, changed)
                await acknowledgements.end(connection, over)
        self._count(changed)

    async def _write(self, world: PollState, plan: Plan, now: datetime) -> list[tuple[Attempt, Because]]:
        """Write down what was decided, and return what is to be carried out."""
        enabled = self.policy.enabled
        doing = [one for one in plan.decisions if enabled and one.verb is Verb.ACT]
        acts = [_attempt(one, self._new_id(), now) for one in doing]
        changes = await changes_of(world, plan, enabled=enabled)
        summary = summary_of(plan, changes, now, paused=world.paused, enabled=enabled)
        numbers = {one.key: one.id for one in world.incidents}
        await Record(self._store, changes, summary, acts, numbers).write(plan, world.fleet, now)
        for outcome in plan.outcomes.values():
            self._measures.recovery_attempt("any", outcome)
        await self._tell(world, plan, changes.counts)
        if changes.told:
            self._bus.publish(RecoveryChanged())
        for incident in changes.began:
            self._measures.incident(incident.kind)
        reasons = [Because(one.reason, dict(one.verdict.arguments)) for one in doing]
        return list(zip(acts, reasons, strict=True))

    async def _tell(self, world: PollState, plan: Plan, reasons: Counter[str]) -> None:
        for reason, count in reasons.items():
            self._measures.recovery_decision(reason, count)
        self._measures.incidents_open(
            Counter(incident.kind.value for incident in plan.incidents if incident.ended_at is None)
        )
        pairs = zip(world.snapshot.patients, plan.decisions, strict=True)
        for number, (patient, decision) in enumerate(pairs, start=1):
            if number % IN_A_ROW == 0:
                await asyncio.sleep(0)
            if decision.ladder is patient.ladder and decision.verb is not Verb.ACT:
                continue
            seconds = _time_to_recovery(patient, decision.ladder)
            if seconds is not None:
                self._measures.recovered(seconds)
            if decision.verb is Verb.ACT or _phase(decision.ladder) is not _phase(patient.ladder):
                _log(patient, decision, would=not self.policy.enabled)

    async def _carry_out(self, acts: Sequence[tuple[Attempt, Because]]) -> None:
        """Request the commands of attempts, by the attempts' ids; close the attempts that are refused one."""
        wanted = [
            WantedCommand(
                client_uuid=attempt.client_uuid,
                action=Action(attempt.rung.action),
                because=because,
                command_id=attempt.command_id,
            )
            for attempt, because in acts
        ]
        outcomes = await self._commanding.request_each(
            wanted, source=Source.RECOVERY, actor=DAEMON, expires_in=self.policy.command_expiry
        )
        closed: list[Attempt] = []
        for attempt, _ in acts:
            refusal = outcomes[attempt.client_uuid]
            if not isinstance(refusal, Refused):
                continue
            log.info(
                "recovery was refused a command",
                extra={
                    "event": "recovery_refused",
                    "client_uuid": attempt.client_uuid,
                    "action": attempt.rung.action,
                    "reason": refusal.slug,
                },
            )
            now = self._clock.now()
            closed.append(replace(attempt, ended_at=now, outcome=Outcome.NOT_SENT, error_code=refusal.slug))
        if closed:
            async with self._store.write() as connection:
                await attempts.save(connection, closed)
        self._count(closed)

    def _count(self, changed: Sequence[Attempt]) -> None:
        for attempt in changed:
            if attempt.outcome is not None:
                self._measures.recovery_attempt(attempt.rung.action, attempt.outcome)


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Keep the garbage collector from walking through a large poll; what it leaves is freed without it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


async def _freed(*held: Collection[object]) -> None:
    """Empty lists and dictionaries in parts: tens of thousands of objects at once take too long."""
    for one in held:
        while one:
            if isinstance(one, list):
                del one[-IN_A_ROW:]
            elif isinstance(one, dict):
                for key in list(islice(one, IN_A_ROW)):
                    del one[key]
            else:
                break
            await asyncio.sleep(0)


def _attempt(decision: Decision, command_id: str, now: datetime) -> Attempt:
    rung = decision.verdict.rung
    assert rung is not None  # noqa: S101 - an ACT has one; tells mypy
    return Attempt(
        command_id=command_id,
        client_uuid=decision.client_uuid,
        rung=rung,
        decided_at=now,
        incident=decision.verdict.incident,
    )


def _phase(ladder: Ladder | None) -> Phase:
    return Phase.REST if ladder is None else ladder.phase


def _time_to_recovery(patient: Patient, after: Ladder | None) -> float | None:
    """Return how long a client was unwell that counts as well from now on, if anything was done for it."""
    before = patient.ladder
    if before is None or after is None or after.phase is not Phase.WELL or before.phase is Phase.WELL:
        return None
    if not any(one.charged and one.decided_at >= before.began_at for one in patient.attempts):
        return None
    return max(timedelta(0), patient.status_since - before.unwell_since).total_seconds()


def _log(patient: Patient, decision: Decision, *, would: bool) -> None:
    verdict = decision.verdict
    log.info(
        "recovery decided",
        extra={
            "event": "recovery_decided",
            "client_uuid": decision.client_uuid,
            "verb": verdict.verb,
            "reason": verdict.reason,
            "action": verdict.rung.action if verdict.verb is Verb.ACT and verdict.rung else None,
            "phase": _phase(decision.ladder),
            "dry_run": would,
            "status": patient.status,
        },
    )
