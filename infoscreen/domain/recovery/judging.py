"""What to do about one client, as far as the client itself decides it; of others, only ``Weather`` is known.

The checks of ``CHECKS`` are asked in order; the first that answers decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from infoscreen.domain.clients import STALE, Client, Condition
from infoscreen.domain.presence import speaks_unread, stale_from
from infoscreen.domain.recovery.ladder import (
    SILENT,
    Attempt,
    Ladder,
    Phase,
    Step,
    Trouble,
    allowed,
    begun,
    charged,
    confirmed_from,
    entry,
    is_confirmed,
    next_rung,
    stepped,
    trouble_of,
)
from infoscreen.domain.recovery.plan import Verb
from infoscreen.domain.recovery.policy import MOST_PATIENCE, RecoveryPolicy, Rung
from infoscreen.domain.recovery.reasons import Arguments, Reason
from infoscreen.domain.recovery.snapshot import Patient

ON_PURPOSE = frozenset({Condition.MAINTENANCE, Condition.SHUT_DOWN})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision in the making; ``rung`` and ``attempt`` as in ``Decision``."""

    verb: Verb
    reason: Reason
    until: datetime | None = None
    arguments: Arguments = field(default_factory=dict)
    rung: Rung | None = None
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Weather:
    """What holds for everybody (key None) or for those of one site.

    ``outages`` hold all that are unwell; ``suspicions`` only those that are silent. ``unsure`` are the
    scopes in which nobody can bear witness.
    """

    outages: Mapping[str | None, Verdict] = field(default_factory=dict)
    suspicions: Mapping[str | None, Verdict] = field(default_factory=dict)
    unsure: frozenset[str | None] = frozenset()

    def outage(self, client: Client) -> Verdict | None:
        """Return the outage that the client is in, the fleet's before its site's."""
        return self.outages.get(None) or (self.outages.get(client.site) if client.site else None)

    def suspicion(self, client: Client) -> Verdict | None:
        """Return why the client's silence may not be its own fault."""
        return self.suspicions.get(None) or (self.suspicions.get(client.site) if client.site else None)

    def is_unsure(self, client: Client) -> bool:
        """Tell whether nobody could say so."""
        return None in self.unsure or client.site in self.unsure


@dataclass(frozen=True, slots=True)
class Case:
    """A patient and what follows from its facts alone.

    ``since`` is since when it has its trouble, or is back. ``ladder`` has taken in what is observed now.
    ``tried`` are the attempts of this ladder that count, ``ordered`` one that has not been sent yet.
    """

    patient: Patient
    trouble: Trouble | None
    since: datetime
    ladder: Ladder | None
    tried: tuple[Attempt, ...]
    ordered: Attempt | None
    policy: RecoveryPolicy
    now: datetime

    @property
    def client(self) -> Client:
        """Return the client."""
        return self.patient.client

    @property
    def awaited_until(self) -> datetime | None:
        """Return until when the effect of the last attempt is awaited, None when none is."""
        if not self.tried or self.tried[-1].published_at is None:
            return None
        until = self.tried[-1].published_at + self.policy.wait(self.tried[-1].rung)
        return until if until > self.now else None

    @property
    def in_flight(self) -> bool:
        """Tell whether a recovery of this client is under way."""
        return self.trouble is not None and (self.ordered is not None or self.awaited_until is not None)

    @property
    def explained(self) -> bool:
        """Tell whether its silence may come from a command, ours or an operator's; a dry run sends none."""
        return (self.in_flight and self.policy.enabled) or self.patient.command is not None


def case_of(
    patient: Patient, listening_since: datetime | None, policy: RecoveryPolicy, now: datetime, *, blind: bool
) -> Case:
    """Return the case of a patient; while ``blind`` its ladder stays as it is."""
    would = not policy.enabled
    client = patient.client
    trouble = trouble_of(client, now, listening_since)
    stored = patient.ladder
    current = stored if stored is not None and stored.would is would else None
    since = _since(client, trouble, current, listening_since, now)
    ladder = stored
    if not blind:
        ladder = _observed(patient, current, trouble, since, policy, now)
    began = ladder.began_at if ladder is not None else now
    return Case(
        patient=patient,
        trouble=trouble,
        since=since,
        ladder=ladder,
        tried=tuple(charged(patient.attempts, began, would=would)),
        ordered=_ordered(patient, policy, now),
        policy=policy,
        now=now,
    )


def _since(
    client: Client,
    trouble: Trouble | None,
    ladder: Ladder | None,
    listening_since: datetime | None,
    now: datetime,
) -> datetime:
    if trouble in SILENT:
        # From hung to unreachable is no new trouble, and neither is our own absence since.
        known = [client.status_since] if client.status in STALE else []
        silent_from = stale_from(client, listening_since)
        return min([*known, *([silent_from] if silent_from is not None else [])], default=now)
    if trouble is not None and ladder is not None and ladder.phase in {Phase.CLIMBING, Phase.PROVING}:
        # Well for moments in between is not well: an application that crashes again and again is let off no
        # longer than one that stays down. Silence is different, it is not counted from here.
        return min(client.status_since, ladder.unwell_since)
    return client.status_since


def _observed(
    patient: Patient,
    ladder: Ladder | None,
    trouble: Trouble | None,
    since: datetime,
    policy: RecoveryPolicy,
    now: datetime,
) -> Ladder | None:
    """Return the ladder after what is observed of the client now."""
    client = patient.client
    if trouble is not None:
        if ladder is None:
            return begun(now, since, entry(trouble, client), would=not policy.enabled)
        return stepped(ladder, Step.UNWELL, now)
    if ladder is None or client.status in ON_PURPOSE:
        return ladder
    if ladder.phase is Phase.CLIMBING:
        helped = any(
            one.published_at is not None and one.published_at >= ladder.unwell_since
            for one in charged(patient.attempts, ladder.began_at, would=ladder.would)
        )
        back = replace(ladder, returns=ladder.returns if helped else ladder.returns + 1)
        return stepped(back, Step.BACK, now)
    if ladder.phase is Phase.WELL:
        forgotten = now >= ladder.changed_at + policy.relapse
        return stepped(ladder, Step.FORGOTTEN, now) if forgotten else ladder
    if is_confirmed(client, ladder, patient.heartbeats_in_a_row, policy, now):
        return stepped(ladder, Step.CONFIRMED, now)
    return ladder


def _ordered(patient: Patient, policy: RecoveryPolicy, now: datetime) -> Attempt | None:
    """Return the attempt that is decided and on its way to be sent.

    One that nobody has closed counts as never sent once its command must have expired: there is to be no
    state without a next step, whatever the daemon died of in between.
    """
    for one in patient.attempts:
        waits = one.published_at is None and not one.dropped and one.would is not policy.enabled
        if waits and now < one.decided_at + policy.command_expiry:
            return one
    return None


def judge(case: Case, weather: Weather) -> tuple[Verdict, Ladder | None]:
    """Return what to do about the client, and its ladder after that.

    An ``ACT`` is only a proposal: the budget has the last word, and with it the ladder.
    """
    if case.trouble is not None and (outage := weather.outage(case.client)) is not None:
        return outage, case.patient.ladder
    for check in CHECKS:
        verdict = check(case, weather)
        if verdict is not None:
            return verdict, case.ladder
    return _climb(case)


def _maintenance(case: Case, _: Weather) -> Verdict | None:
    until = case.client.maintenance_until
    if case.client.status is Condition.SHUT_DOWN or until is None or until <= case.now:
        return None
    return Verdict(Verb.HOLD, Reason.MAINTENANCE, until)


def _paused(case: Case, _: Weather) -> Verdict | None:
    pause = case.patient.pause
    if case.trouble is None or pause is None or pause.until <= case.now:
        return None
    return Verdict(Verb.HOLD, Reason.PAUSED, pause.until, {"why": pause.why})


def _switched_off(case: Case, _: Weather) -> Verdict | None:
    if case.trouble is None or case.client.auto_recovery:
        return None
    return Verdict(Verb.HOLD, Reason.AUTO_RECOVERY_OFF)


def _shut_down(case: Case, _: Weather) -> Verdict | None:
    return Verdict(Verb.HOLD, Reason.SHUT_DOWN) if case.client.status is Condition.SHUT_DOWN else None


def _out_of_reach(case: Case, _: Weather) -> Verdict | None:
    client = case.client
    if case.trouble is not None:
        return None
    if client.status is Condition.DUPLICATE:
        return Verdict(Verb.HOLD, Reason.DUPLICATE)
    failed = client.status is Condition.SERVICE_FAILED and speaks_unread(client, case.now)
    if failed or client.status is Condition.INCOMPREHENSIBLE:
        return Verdict(Verb.HOLD, Reason.INCOMPREHENSIBLE)
    return None


def _not_in_trouble(case: Case, _: Weather) -> Verdict | None:
    if case.trouble is not None:
        return None
    ladder, policy = case.ladder, case.policy
    if ladder is None:
        runs_again = case.client.status is Condition.SERVICE_FAILED
        return Verdict(Verb.HOLD, Reason.RUNS_AGAIN if runs_again else Reason.NOTHING_TO_DO)
    if ladder.phase is Phase.WELL:
        return Verdict(Verb.WAIT, Reason.RELAPSE_WATCH, ladder.changed_at + policy.relapse)
    arguments: Arguments = {
        "heartbeats": policy.recovered_heartbeats,
        "seconds": round(policy.recovered_after.total_seconds()),
    }
    # The heartbeats may take longer than the time.
    until = max(confirmed_from(case.client, ladder, policy), case.now + policy.poll)
    return Verdict(Verb.WAIT, Reason.CONFIRMING, until, arguments)


def _command_in_flight(case: Case, _: Weather) -> Verdict | None:
    command = case.patient.command
    if command is None:
        return None
    until = max(command.deadline_at, case.now + case.policy.poll)
    return Verdict(Verb.WAIT, Reason.COMMAND_IN_FLIGHT, until, {"action": command.action.value})


def _attempt_under_way(case: Case, _: Weather) -> Verdict | None:
    if case.ordered is not None:
        until = case.ordered.decided_at + case.policy.command_expiry
        return Verdict(Verb.WAIT, Reason.ORDERED, until, {"action": case.ordered.rung.action})
    if case.awaited_until is not None:
        rung = case.tried[-1].rung
        return Verdict(
            Verb.WAIT, Reason.WAITING_FOR_VERIFICATION, case.awaited_until, {"action": rung.action}
        )
    return None


def _needs_human(case: Case, _: Weather) -> Verdict | None:
    ladder = case.ladder
    if ladder is None or ladder.phase is not Phase.NEEDS_HUMAN:
        return None
    if not ladder.tried and _next(case, ladder) is not Rung.HUMAN:
        return None  # nothing had been possible, now something is
    return _call_for_help(case.policy, ladder)


def _call_for_help(policy: RecoveryPolicy, ladder: Ladder) -> Verdict:
    reason = ladder.because or Reason.EXHAUSTED
    arguments: Arguments = {"tried": ladder.tried}
    limit = policy.limit(ladder.limited) if ladder.limited is not None else None
    if reason is Reason.LIMIT_REACHED and limit is not None and ladder.limited is not None:
        arguments = {"action": ladder.limited.action, "limit": limit[0]}
    return Verdict(Verb.HOLD, reason, None, arguments, Rung.HUMAN)


def _too_early(case: Case, _: Weather) -> Verdict | None:
    """Give time to what may pass by itself: always some, more to whom it has passed before."""
    policy, returns = case.policy, case.ladder.returns if case.ladder is not None else 0
    if case.trouble not in SILENT:
        until = case.since + policy.grace
        return Verdict(Verb.WAIT, Reason.GRACE, until) if case.now < until else None
    patience = min(policy.grace * 2 ** min(returns, 16), max(MOST_PATIENCE, policy.grace))
    until = case.since + patience
    if case.now < until:
        if returns:
            return Verdict(Verb.WAIT, Reason.FLAPPING, until, {"returns": returns})
        return Verdict(Verb.WAIT, Reason.GRACE, until)
    if case.trouble is Trouble.UNREACHABLE:
        until = (case.client.last_alive or case.since) + policy.reboot_wait
        if case.now < until:
            return Verdict(Verb.WAIT, Reason.MAY_BE_REBOOTING, until)
    return None


def _suspicious(case: Case, weather: Weather) -> Verdict | None:
    if case.trouble not in SILENT:
        return None
    suspicion = weather.suspicion(case.client)
    if suspicion is not None:
        return suspicion
    # Without witnesses, time must tell: until then, whoever fell silent with this one is stale as well.
    until = (case.client.last_alive or case.since) + case.policy.stale_maximum + case.policy.grace
    if weather.is_unsure(case.client) and case.now < until:
        return Verdict(Verb.HOLD, Reason.NO_WITNESS, until)
    return None


def _locked_out(case: Case, _: Weather) -> Verdict | None:
    until = case.patient.locked_until
    if until is None or until <= case.now or case.ladder is None or _next(case, case.ladder) is Rung.HUMAN:
        return None
    return Verdict(Verb.HOLD, Reason.LOCKOUT, until)


CHECKS: tuple[Callable[[Case, Weather], Verdict | None], ...] = (
    _shut_down,
    _maintenance,
    _out_of_reach,
    _not_in_trouble,
    _paused,
    _switched_off,
    _command_in_flight,
    _attempt_under_way,
    _needs_human,
    _too_early,
    _suspicious,
    _locked_out,
)

ACTS: Mapping[Rung, Reason] = {
    Rung.RESTART_APP: Reason.ACT_RESTART_APP,
    Rung.REBOOT_HOST: Reason.ACT_REBOOT_HOST,
    Rung.POWER_CYCLE: Reason.ACT_POWER_CYCLE,
}


def _next(case: Case, ladder: Ladder) -> Rung:
    assert case.trouble is not None  # noqa: S101 - asked only in trouble; tells mypy
    patient = case.patient
    return next_rung(
        case.trouble, patient.client, ladder, patient.attempts, case.policy, case.now, outlet=patient.outlet
    ).rung


def _climb(case: Case) -> tuple[Verdict, Ladder | None]:
    """Return the next attempt, or the call for help when there is none left."""
    patient, ladder, policy, now = case.patient, case.ladder, case.policy, case.now
    assert case.trouble is not None and ladder is not None  # noqa: S101, PT018 - see CHECKS; tells mypy
    comes = next_rung(
        case.trouble, patient.client, ladder, patient.attempts, policy, now, outlet=patient.outlet
    )
    if comes.rung is Rung.HUMAN:
        given_up = stepped(ladder, Step.GIVEN_UP, now)
        assert given_up is not None  # noqa: S101 - no rest that way; tells mypy
        if given_up.because is None:
            given_up = replace(
                given_up,
                rung=Rung.HUMAN,
                because=comes.because,
                limited=comes.limited,
                tried=len(case.tried),
            )
        return _call_for_help(policy, given_up), given_up
    climbing = stepped(ladder, Step.REACHABLE, now)
    assert climbing is not None  # noqa: S101 - no rest that way; tells mypy
    attempt = 1 + sum(one.rung is comes.rung for one in case.tried)
    arguments: Arguments = {
        "attempt": attempt,
        "attempts": allowed(comes.rung, case.trouble, policy),
    }
    verdict = Verdict(Verb.ACT, ACTS[comes.rung], None, arguments, comes.rung, attempt)
    return verdict, replace(climbing, rung=comes.rung)


def age(case: Case) -> tuple[timedelta, str]:
    """Return what the oldest is found by, the UUID deciding between equals."""
    return case.since - case.now, case.client.uuid
