"""The daemon on the virtual clock: hears, judges and commands by the domain's own rules. Knows no truth.

What it keeps in ``Known`` survives its restart, as the database would.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Protocol

from infoscreen.domain.clients import STALE, Condition, Presence, ProcessStatus
from infoscreen.domain.commands import (
    OPEN,
    AckStatus,
    Action,
    ClientCommand,
    CommandStatus,
    Source,
    Step,
    acknowledged,
    next_status,
    published,
)
from infoscreen.domain.lockout import locked_until
from infoscreen.domain.presence import Beat, stale_from
from infoscreen.domain.recovery import (
    WITNESSES,
    Attempt,
    Census,
    Decision,
    Incident,
    Observer,
    Patient,
    Phase,
    Plan,
    Rung,
    Snapshot,
    Verb,
    can_witness,
    decide,
)
from infoscreen.simulator.virtual.knowledge import Known
from infoscreen.simulator.virtual.terms import Mode, Policies, Tally
from infoscreen.simulator.virtual.timeline import START, Timeline, moment

Said = tuple[ProcessStatus, datetime | None]
"""What a heartbeat says of the application: how it is, and since when it runs by the device's clock."""

STEADY = frozenset({Condition.ONLINE, Condition.CRASHED, Condition.SERVICE_FAILED})


class World(Protocol):
    """What the daemon can do to the world, and what the score keeper wants to be told."""

    def deliver(self, number: int, command: ClientCommand) -> None:
        """Hand a command to the broker."""

    def noticed(self, number: int, known: Known) -> None:
        """Take notice that a client is no longer online in the daemon's eyes."""

    def watched(self, number: int) -> Known:
        """Return what is known of a client, quiet ones included."""

    def watching(self) -> Iterable[tuple[int, Known]]:
        """Return all clients whose heartbeats are played one by one."""

    def is_quiet(self, number: int) -> bool:
        """Tell whether the client is well and beating, so that nothing of it needs to be played."""


class Daemon:
    """Listens, polls and commands, until it is stopped; and again after it is started."""

    def __init__(
        self,
        timeline: Timeline,
        world: World,
        mode: Mode,
        policies: Policies,
        members: dict[str | None, list[int]],
    ) -> None:
        self._timeline = timeline
        self._world = world
        self._mode = mode
        self._policies = policies
        self._policy = policies.recovery
        self._stale = policies.stale
        self._members = members
        self._up = True
        self._life = 0
        self._started_at = START - timedelta(days=1)
        self._blind_periods: list[tuple[float, float]] = []
        self._blind_from: float | None = None
        self.listening_since: datetime | None = START - timedelta(days=1)
        self._unwell: dict[int, Known] = {}
        self._away: Counter[str | None] = Counter()
        self._open: dict[int, Known] = {}
        self._incidents: tuple[Incident, ...] = ()
        self._backlog: list[Callable[[], None]] = []
        self._backlog_beats: dict[int, tuple[Beat, Said]] = {}
        self.tally = Tally()
        self.begun: Counter[str] = Counter()

    def begin(self) -> None:
        """Start polling."""
        self._timeline.plan(self._timeline.now, self._poll, self._life)

    @property
    def now(self) -> datetime:
        """Return the time."""
        return moment(self._timeline.now)

    # The daemon's own life.

    def stop(self) -> None:
        """Be gone; the broker keeps what arrives."""
        self._up = False
        self._life += 1
        self.disconnect()

    def start(self) -> None:
        """Be there again, connected if the broker is, and take in what has waited."""
        self._up = True
        self._started_at = self.now
        self.begin()

    def disconnect(self) -> None:
        """Lose the broker."""
        if self.listening_since is not None:
            self._blind_from = self._timeline.now
        self.listening_since = None

    def connect(self) -> None:
        """Have the broker again."""
        if not self._up:
            return
        self.listening_since = self.now
        if self._blind_from is not None:
            sees_from = self._timeline.now + self._policy.observer_grace.total_seconds()
            self._blind_periods.append((self._blind_from, sees_from))
        backlog, self._backlog = self._backlog, []
        beats, self._backlog_beats = self._backlog_beats, {}
        for message in backlog:
            message()
        for number, (beat, said) in beats.items():
            self.heartbeat(number, beat._replace(received_at=self.now), said)
        for number, known in [*self._open.items()]:
            if known.command is not None and known.command.status is CommandStatus.QUEUED:
                self._publish(number, known)
        for number, known in self._world.watching():
            self.expect(number, known)

    # What it hears. While it is away the broker keeps events; of heartbeats only the newest matters.

    def heartbeat(self, number: int, beat: Beat, said: Said) -> None:
        """Take in heartbeats, and what the newest says of the application."""
        if self.listening_since is None:
            waiting = self._backlog_beats.get(number)
            count = beat.beats + (waiting[0].beats if waiting else 0)
            self._backlog_beats[number] = (beat._replace(beats=count), said)
            return
        known = self._world.watched(number)
        now = self.now
        tells = known.hear(*said, beat.boot_id)
        known.beat(now, beat, self.listening_since, self._stale)
        # As in ingest: a heartbeat that tells nothing new leaves a steady condition as it is.
        if tells or known.status not in STEADY:
            self._settle(number, known)
        self.expect(number, known)

    def presence(self, number: int, presence: Presence) -> None:
        """Take in what the broker says of a connection."""
        if self.listening_since is None:
            self._backlog.append(lambda: self.presence(number, presence))
            return
        known = self._world.watched(number)
        known.see(presence)
        self._settle(number, known)

    def service_failed(self, number: int, failed_at: datetime | None) -> None:
        """Take in that a service failed; None: an operator has acknowledged it."""
        if self.listening_since is None:
            self._backlog.append(lambda: self.service_failed(number, failed_at))
            return
        known = self._world.watched(number)
        known.fail(failed_at)
        self._settle(number, known)

    def ack(self, number: int, command_id: str, ack: AckStatus) -> None:
        """Take in a device's word on a command."""
        if self.listening_since is None:
            self._backlog.append(lambda: self.ack(number, command_id, ack))
            return
        known = self._world.watched(number)
        if known.command is None or known.command.command_id != command_id:
            return
        after = acknowledged(known.command, ack, self.now, self._policies.timeouts)
        if after is not None:
            self._keep(number, known, after)

    def blind_between(self, begin: float, end: float) -> float:
        """Return for how long it could not see, or not be sure, in that time."""
        seconds, seen_to = 0.0, begin
        for first, last in self._blind_periods:
            seconds += max(0.0, min(last, end) - max(first, seen_to))
            seen_to = max(seen_to, last)
        return seconds

    def is_busy_with(self, number: int) -> bool:
        """Tell whether the client is anything but well and at rest in the daemon's eyes."""
        return number in self._unwell or number in self._open

    # What it concludes.

    def _settle(self, number: int, known: Known) -> None:
        before = known.status
        if not known.settle(self.now, self.listening_since):
            return
        if before is Condition.ONLINE or known.status is Condition.ONLINE:
            step = 1 if before is Condition.ONLINE else -1
            self._away[None] += step
            if known.site is not None:
                self._away[known.site] += step
        if before is Condition.ONLINE:
            self._world.noticed(number, known)
        self._enlist(number, known)

    def _enlist(self, number: int, known: Known) -> None:
        if known.status is not Condition.ONLINE or known.ladder is not None:
            self._unwell[number] = known
        else:
            self._unwell.pop(number, None)

    def expect(self, number: int, known: Known) -> None:
        """Look again when the client would be stale, as the watch does every second."""
        if known.stale_check_planned or known.status in STALE:
            return
        at = stale_from(known.client, self.listening_since)
        if at is not None:
            known.stale_check_planned = True
            self._timeline.plan((at - START).total_seconds() + 0.5, self._check_stale, number, known)

    def _check_stale(self, number: int, known: Known) -> None:
        known.stale_check_planned = False
        if self._world.is_quiet(number) or self.listening_since is None:
            return
        self._settle(number, known)
        self.expect(number, known)

    # What it does.

    def _poll(self, life: int) -> None:
        if life != self._life or not self._up:
            return
        self._timeline.plan(self._timeline.now + self._policy.poll.total_seconds(), self._poll, life)
        if self._open:
            self._sweep()
        if self._mode is Mode.NAIVE:
            self._poll_naively()
        elif self._unwell or self._incidents or self.listening_since is None:
            self._carry_out(decide(self._snapshot(), self._policy, self.now))

    def _sweep(self) -> None:
        for number, known in [*self._open.items()]:
            command = known.command
            if command is not None and command.deadline_at <= self.now:
                status = next_status(command.status, Step.EXPIRE)
                if status is not None:
                    self._keep(number, known, replace(command, status=status))

    def _poll_naively(self) -> None:
        for number, known in [*self._unwell.items()]:
            if known.status in STALE or known.status is Condition.CRASHED:
                self._order(number, known, Action.REBOOT_HOST, None)

    def _snapshot(self) -> Snapshot:
        sites = {known.site for known in self._unwell.values() if known.status in STALE and known.site}
        sites |= {one.site for one in self._incidents if one.site is not None}
        return Snapshot(
            observer=Observer(listening_since=self.listening_since, started_at=self._started_at),
            fleet=self._census(None),
            fleet_size=len(self._members[None]),
            patients=tuple(self._patient(known) for known in self._unwell.values()),
            sites={site: self._census(site) for site in sites},
            incidents=self._incidents,
        )

    def _patient(self, known: Known) -> Patient:
        return Patient(
            client=known.client,
            heartbeats_in_a_row=known.heartbeats_in_a_row,
            well_until=known.well_until,
            ladder=known.ladder,
            attempts=tuple(known.attempts),
            command=known.command,
            locked_until=self._locked_until(known),
        )

    def _census(self, site: str | None) -> Census:
        members = self._members[site]
        online = len(members) - self._away[site]
        since = self.now - self._policy.witness_within
        asked = heard = 0
        for number in islice(self._online(members), WITNESSES):
            if self._world.is_quiet(number):
                asked += 1
                heard += 1
                continue
            known = self._world.watched(number)
            if can_witness(known.client, self._policy):
                asked += 1
                heard += known.last_alive >= since
        return Census(online, asked, heard)

    def _online(self, members: Iterable[int]) -> Iterable[int]:
        for number in members:
            known = self._unwell.get(number)
            if known is None or known.status is Condition.ONLINE:
                yield number

    def _carry_out(self, plan: Plan) -> None:
        for incident in plan.incidents:
            if incident.began_at == self.now:
                self.begun[incident.kind] += 1
        self._incidents = tuple(one for one in plan.incidents if one.ended_at is None)
        for number, decision in zip([*self._unwell], plan.decisions, strict=True):
            known = self._unwell[number]
            self._count(decision, known)
            known.ladder = decision.ladder
            if decision.verb is Verb.ACT and decision.rung is not None:
                self._order(number, known, Action(decision.rung.action), decision.rung)
            if known.ladder is None:
                self._enlist(number, known)

    def _count(self, decision: Decision, known: Known) -> None:
        self.tally.decisions += 1
        self.tally.reasons[decision.reason] += 1
        if not (decision.sentence("de") and decision.sentence("en")):
            self.tally.without_reason += 1
        after, before = decision.ladder, known.ladder
        if (
            after is not None
            and after.phase is Phase.NEEDS_HUMAN
            and after.phase != getattr(before, "phase", None)
        ):
            self.tally.alarms += 1

    def _locked_until(self, known: Known) -> datetime | None:
        if not known.published:
            return None
        return locked_until(known.published, self._policies.lockout, self.now)

    def _order(self, number: int, known: Known, action: Action, rung: Rung | None) -> None:
        """Queue a command, as ``commanding`` would: one at a time, and none for a locked client."""
        if known.command is not None or self._locked_until(known) is not None:
            return
        now = self.now
        expires = now + self._policy.command_expiry
        command = ClientCommand(
            command_id=f"{known.uuid}-{self._timeline.now}",
            client_uuid=known.uuid,
            action=action,
            status=CommandStatus.QUEUED,
            source=Source.RECOVERY,
            requested_by=None,
            reason=None,
            created_at=now,
            expires_at=expires,
            deadline_at=expires,
        )
        if rung is not None:
            known.attempts = [one for one in known.attempts if one.decided_at > now - timedelta(days=1)]
            known.attempts.append(Attempt(rung=rung, decided_at=now))
        self._keep(number, known, command)
        if self.listening_since is not None:
            self._publish(number, known)

    def _publish(self, number: int, known: Known) -> None:
        command = known.command
        status = next_status(command.status, Step.PUBLISH) if command is not None else None
        if command is None or status is None:
            return
        sent = published(replace(command, status=status), self.now)
        known.published = [at for at in known.published if at > self.now - self._policies.lockout.window]
        known.published.append(self.now)
        if known.attempts and known.attempts[-1].decided_at == command.created_at:
            known.attempts[-1] = replace(known.attempts[-1], published_at=self.now)
        self._keep(number, known, sent)
        self._world.deliver(number, sent)

    def _keep(self, number: int, known: Known, command: ClientCommand) -> None:
        if command.status in OPEN:
            known.command = command
            self._open[number] = known
        else:
            known.command = None
            self._open.pop(number, None)
