"""What must hold whatever happens in whatever order: the recovery as a machine that hypothesis drives."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from infoscreen.domain.clients import Client, Condition, Presence, ProcessStatus
from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Source
from infoscreen.domain.lockout import LockoutPolicy, locked_until
from infoscreen.domain.recovery import (
    Attempt,
    Census,
    Decision,
    Ending,
    Incident,
    Ladder,
    Observer,
    Patient,
    Pause,
    Phase,
    Plan,
    RecoveryPolicy,
    Rung,
    Snapshot,
    Verb,
    acknowledged,
    decide,
)
from infoscreen.domain.recovery.ladder import charged

START = datetime(2026, 3, 1, tzinfo=UTC)
NUMBERS = range(4)
LOCKOUT = LockoutPolicy(3, timedelta(seconds=900))
UNWELL = [Condition.CRASHED, Condition.HUNG, Condition.UNREACHABLE, Condition.SERVICE_FAILED]
OTHERS = [Condition.ONLINE, Condition.SHUT_DOWN, *UNWELL]


@dataclass
class Row:
    """One client as the caller would store it."""

    client: Client
    well_until: datetime | None = None
    heartbeats: int = 100
    ladder: Ladder | None = None
    attempts: list[Attempt] = field(default_factory=list)
    command: ClientCommand | None = None
    published: list[datetime] = field(default_factory=list)
    pause: Pause | None = None
    outlet: bool = False


class Recovering(RuleBasedStateMachine):
    """Clients fail and come back, commands are sent or not, the daemon looks away: in any order."""

    @initialize(
        enabled=st.booleans(), concurrent=st.integers(1, 5), attempts=st.integers(1, 4), outlets=st.booleans()
    )
    def begin(self, enabled: bool, concurrent: int, attempts: int, outlets: bool) -> None:
        self.now = START
        self.policy = RecoveryPolicy(
            enabled=enabled,
            max_concurrent=concurrent,
            observer_grace=timedelta(seconds=60),
            restart_attempts=attempts,
            reboot_attempts=attempts,
        )
        self.since: datetime | None = START - timedelta(days=1)
        self.started = START - timedelta(days=1)
        self.others = 400
        self.unheard = 0
        self.incidents: tuple[Incident, ...] = ()
        self.rows = [
            Row(
                Client(
                    uuid=f"{number}",
                    created_at=START,
                    status=Condition.ONLINE,
                    status_since=START - timedelta(days=1),
                    last_alive=START,
                    stale_after_seconds=45,
                    stale_at=START + timedelta(seconds=45),
                    site="ulm" if number % 2 else None,
                    presence=Presence.ONLINE,
                    persistent_session=number % 3 != 0,
                    process_status=ProcessStatus.RUNNING,
                ),
                outlet=outlets and number % 2 == 0,
            )
            for number in NUMBERS
        ]
        self.plan: Plan | None = None
        self.before: list[Row] = []

    # What happens.

    @rule(number=st.sampled_from(NUMBERS), status=st.sampled_from(OTHERS))
    def turns(self, number: int, status: Condition) -> None:
        row = self.rows[number]
        if row.client.status is status:
            return
        if row.client.status is Condition.ONLINE:
            row.well_until = self.now
        silent = status in {Condition.HUNG, Condition.UNREACHABLE}
        last = self.now - timedelta(seconds=45) if silent else self.now
        row.heartbeats = 1
        row.client = replace(
            row.client,
            status=status,
            status_since=self.now,
            last_alive=last,
            stale_at=last + timedelta(seconds=45),
            process_status=ProcessStatus.RUNNING if status is Condition.ONLINE else ProcessStatus.CRASHED,
            service_failed_at=self.now if status is Condition.SERVICE_FAILED else None,
            shut_down_at=self.now if status is Condition.SHUT_DOWN else None,
        )

    @rule(number=st.sampled_from(NUMBERS), beats=st.integers(1, 5))
    def beats(self, number: int, beats: int) -> None:
        row = self.rows[number]
        if row.client.status in {Condition.ONLINE, Condition.CRASHED}:
            row.heartbeats += beats
            row.client = replace(row.client, last_alive=self.now, stale_at=self.now + timedelta(seconds=45))

    @rule(number=st.sampled_from(NUMBERS), seconds=st.integers(1, 4_000))
    def paused(self, number: int, seconds: int) -> None:
        self.rows[number].pause = Pause(until=self.now + timedelta(seconds=seconds), why="painters")

    @rule(number=st.sampled_from(NUMBERS), seconds=st.integers(1, 4_000))
    def maintained(self, number: int, seconds: int) -> None:
        row = self.rows[number]
        row.client = replace(row.client, maintenance_until=self.now + timedelta(seconds=seconds))

    @rule(number=st.sampled_from(NUMBERS))
    def switched(self, number: int) -> None:
        row = self.rows[number]
        row.client = replace(row.client, auto_recovery=not row.client.auto_recovery)

    @rule(number=st.sampled_from(NUMBERS))
    def acknowledged(self, number: int) -> None:
        self.rows[number].ladder = acknowledged(self.rows[number].ladder, self.now)

    @rule(number=st.sampled_from(NUMBERS), times=st.integers(1, 3))
    def an_operator_reboots(self, number: int, times: int) -> None:
        for _ in range(times):
            self.send(self.rows[number], Action.REBOOT_HOST)
            self.rows[number].command = None

    @rule(number=st.sampled_from(NUMBERS))
    def an_operator_has_a_command_under_way(self, number: int) -> None:
        if self.rows[number].command is None:
            self.send(self.rows[number], Action.REBOOT_HOST)

    @rule(number=st.sampled_from(NUMBERS))
    def its_command_ends(self, number: int) -> None:
        self.rows[number].command = None

    @rule(number=st.sampled_from(NUMBERS), leaves=st.booleans())
    def its_attempt_is_sent_or_dropped(self, number: int, leaves: bool) -> None:
        row = self.rows[number]
        for place, attempt in enumerate(row.attempts):
            if attempt.published_at is None and not attempt.dropped:
                if leaves and row.command is None:
                    row.attempts[place] = replace(attempt, published_at=self.now)
                    self.send(row, Action.REBOOT_HOST)
                else:
                    row.attempts[place] = replace(attempt, dropped=True)

    def send(self, row: Row, action: Action) -> None:
        row.published.append(self.now)
        row.command = ClientCommand(
            command_id="c",
            client_uuid=row.client.uuid,
            action=action,
            status=CommandStatus.PUBLISHED,
            source=Source.RECOVERY,
            requested_by=None,
            reason=None,
            created_at=self.now,
            expires_at=self.now + timedelta(seconds=240),
            deadline_at=self.now + timedelta(seconds=240),
        )

    @rule(restarts=st.booleans())
    def the_daemon_looks_away(self, restarts: bool) -> None:
        self.since = None
        self.poll()
        self.now += timedelta(seconds=15)
        self.since = self.now
        if restarts:
            self.started = self.now
        self.poll()

    @rule(online=st.sampled_from([0, 5]), unheard=st.integers(0, 40))
    def others_fall_silent(self, online: int, unheard: int) -> None:
        self.others, self.unheard = online, min(unheard, online)
        self.poll()
        self.others, self.unheard = 400, 0

    # What the daemon does.

    @rule(seconds=st.sampled_from([1, 15, 60, 120, 300, 600, 700, 3_000, 40_000]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.poll()

    @rule(
        numbers=st.sets(st.sampled_from(NUMBERS), min_size=1),
        status=st.sampled_from(UNWELL),
        polls=st.integers(1, 12),
        seconds=st.sampled_from([15, 130, 300, 700]),
    )
    def trouble_is_left_to_the_recovery(
        self, numbers: set[int], status: Condition, polls: int, seconds: int
    ) -> None:
        for number in numbers:
            self.turns(number, status)
        for _ in range(polls):
            self.time_passes(seconds)
            for number in numbers:
                self.its_attempt_is_sent_or_dropped(number, leaves=True)
                self.its_command_ends(number)

    @rule(numbers=st.sets(st.sampled_from(NUMBERS), min_size=1), forgotten=st.booleans())
    def they_are_well_again(self, numbers: set[int], forgotten: bool) -> None:
        for number in numbers:
            row = self.rows[number]
            row.client = replace(row.client, auto_recovery=True, maintenance_until=None)
            row.pause = None
            self.turns(number, Condition.ONLINE)
            self.beats(number, 3)
        for seconds in (15, 60, 900 if forgotten else 15, 15):
            self.time_passes(seconds)

    def poll(self) -> None:
        patients = [
            row for row in self.rows if row.client.status is not Condition.ONLINE or row.ladder is not None
        ]
        self.before = [replace(row, attempts=list(row.attempts)) for row in patients]
        online = Census(self.others, min(40, self.others), min(40, self.others) - self.unheard)
        snapshot = Snapshot(
            observer=Observer(listening_since=self.since, started_at=self.started),
            fleet=online,
            fleet_size=self.others + len(NUMBERS),
            patients=tuple(self.patient(row) for row in patients),
            sites={"ulm": Census(self.others // 10)},
            incidents=self.incidents,
        )
        self.plan = decide(snapshot, self.policy, self.now)
        assert decide(snapshot, self.policy, self.now) == self.plan
        self.check()
        self.incidents = tuple(one for one in self.plan.incidents if one.ended_at is None)
        for row, decision in zip(patients, self.plan.decisions, strict=True):
            row.ladder = decision.ladder
            if decision.verb is Verb.ACT:
                assert decision.rung is not None
                sent = self.now if decision.would else None
                row.attempts.append(
                    Attempt(rung=decision.rung, decided_at=self.now, published_at=sent, would=decision.would)
                )

    def patient(self, row: Row) -> Patient:
        return Patient(
            client=row.client,
            heartbeats_in_a_row=row.heartbeats,
            well_until=row.well_until,
            ladder=row.ladder,
            attempts=tuple(row.attempts),
            command=row.command,
            locked_until=locked_until(row.published, LOCKOUT, self.now),
            pause=row.pause,
            outlet=row.outlet,
        )

    # What must hold.

    def check(self) -> None:
        """Every patient has one decision, with a reason and a next step; and no act is one too many."""
        assert self.plan is not None
        assert [one.client_uuid for one in self.plan.decisions] == [one.client.uuid for one in self.before]
        assert self.now < self.plan.next_at <= self.now + self.policy.poll
        for decision in self.plan.decisions:
            assert decision.sentence("de")
            assert decision.sentence("en")
            assert decision.would is not self.policy.enabled
            assert (decision.ending is Ending.TIME) is (decision.until is not None)
            assert decision.until is None or decision.until > self.now
            assert (decision.verb is Verb.ACT) is (decision.ending is Ending.DONE)
        self.check_acts([one for one in self.plan.decisions if one.verb is Verb.ACT])

    def check_acts(self, acts: list[Decision]) -> None:
        assert self.plan is not None
        rows = {row.client.uuid: row for row in self.before}
        assert len(acts) == self.plan.budget.started
        assert len(acts) <= max(0, self.policy.max_concurrent - self.plan.budget.in_flight)
        assert len(acts) <= self.plan.budget.per_poll
        open_ones = [one for one in self.plan.incidents if one.ended_at is None]
        if self.plan.blind is not None or any(one.site is None for one in open_ones):
            assert acts == []
        for act in acts:
            row = rows[act.client_uuid]
            self.check_nothing_holds(row)
            self.check_nothing_is_under_way(row)
            self.check_limits(row, act)
        for decision in self.plan.decisions:
            row = rows[decision.client_uuid]
            if self.plan.blind is not None:
                assert decision.ladder == row.ladder
            elif decision.ladder and row.ladder and decision.ladder.would is row.ladder.would:
                # Whatever holds it, the attempts of the ladder stay those that they were.
                assert decision.ladder.began_at == row.ladder.began_at

    def check_nothing_holds(self, row: Row) -> None:
        client = row.client
        assert client.status in UNWELL
        assert client.auto_recovery
        assert row.pause is None or row.pause.until <= self.now
        assert client.maintenance_until is None or client.maintenance_until <= self.now
        assert locked_until(row.published, LOCKOUT, self.now) is None
        kept = row.ladder is not None and row.ladder.would is not self.policy.enabled
        if kept and row.ladder is not None and row.ladder.phase is Phase.NEEDS_HUMAN:
            assert row.ladder.tried == 0

    def check_nothing_is_under_way(self, row: Row) -> None:
        assert row.command is None
        for attempt in row.attempts:
            if attempt.would is self.policy.enabled:
                continue
            if attempt.published_at is None:
                lapsed = self.now >= attempt.decided_at + self.policy.command_expiry
                assert attempt.dropped or lapsed
            elif row.ladder is not None and attempt.decided_at >= row.ladder.began_at:
                assert self.now >= attempt.published_at + self.policy.wait(attempt.rung)

    def check_limits(self, row: Row, act: Decision) -> None:
        assert act.rung is not None
        assert act.ladder is not None
        assert act.rung is not Rung.POWER_CYCLE or row.outlet
        limit = self.policy.limit(act.rung)
        if limit is not None:
            most, within = limit
            lately = charged(row.attempts, START - timedelta(days=9), would=act.would)
            sent = [one for one in lately if one.rung is act.rung and one.published_at is not None]
            assert sum(one.published_at > self.now - within for one in sent if one.published_at) < most
        of_ladder = charged(row.attempts, act.ladder.began_at, would=act.would)
        assert sum(one.rung is act.rung for one in of_ladder) < self.policy.attempts(act.rung)
        assert all(one.rung <= act.rung for one in of_ladder)


TestRecovering = Recovering.TestCase
TestRecovering.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
