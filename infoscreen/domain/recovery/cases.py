"""One patient and what follows from its facts alone: its trouble, its ladder, what is under way for it."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from infoscreen.domain.clients import Condition, Presence, ProcessStatus
from infoscreen.domain.hours import is_expected, missed_from, missed_opening
from infoscreen.domain.recovery.ladder import (
    SILENT,
    Attempt,
    Ladder,
    Outcome,
    Phase,
    Step,
    Trouble,
    begun,
    entry,
    stepped,
)
from infoscreen.domain.recovery.policy import MOST_PATIENCE, RELAPSED_WITHIN, UNKNOWN_RHYTHM, RecoveryPolicy
from infoscreen.domain.recovery.snapshot import Patient

UNTOUCHED = frozenset({"maintenance", "shut_down", "off_hours", "incomprehensible", "duplicate"})
"""Conditions that are neither trouble nor being well; a ladder stays as it is."""

BEGINS_SLOWLY = frozenset({ProcessStatus.STARTING, ProcessStatus.STOPPED})

SPOKEN: Mapping[str, Trouble] = {
    "crashed": Trouble.CRASHED,
    "not_showing": Trouble.NOT_SHOWING,
    "hung": Trouble.HUNG,
    "unreachable": Trouble.UNREACHABLE,
}


class Case:
    """A patient in the making of a decision.

    ``since`` is since when it has its trouble, as far as we could see it, or is back. ``ladder`` has taken in
    what is observed now. ``ordered`` is an attempt whose command has not been sent, ``awaited`` one whose
    effect may still show, ``awaited_until`` for how long. It is ``off`` if its hours are why it is silent,
    and has ``missed`` its opening if it has not been heard since.
    """

    __slots__ = (
        "awaited",
        "awaited_until",
        "ladder",
        "missed",
        "off",
        "ordered",
        "patient",
        "silent",
        "since",
        "trouble",
    )

    def __init__(self, patient: Patient) -> None:
        self.patient = patient
        self.trouble: Trouble | None = None
        self.silent = False
        self.off = False
        self.missed = False
        self.since = patient.status_since
        self.ladder = patient.ladder
        self.ordered: Attempt | None = None
        self.awaited: Attempt | None = None
        self.awaited_until: datetime | None = None

    @property
    def explained(self) -> bool:
        """Tell whether its silence may come from a command, ours or an operator's."""
        return self.patient.command is not None or self.ordered is not None or self.awaited is not None


def case_of(
    patient: Patient,
    listening_since: datetime | None,
    policy: RecoveryPolicy,
    now: datetime,
    *,
    under_way: Collection[str],
    blind: bool,
) -> Case:
    """Return the case of a patient; while ``blind`` its ladder stays as it is.

    ``under_way`` are the keys of the open incidents.
    """
    patient = _dated(patient, now)
    case = Case(patient)
    trouble = case.trouble = trouble_of(patient, now, listening_since)
    if trouble is not None:
        case.silent = trouble in SILENT
        case.since = _since(patient, listening_since, policy, now, silent=case.silent)
        case.off = case.silent and (not is_expected(patient, now) or _is_closing(patient, policy))
        case.missed = case.silent and not case.off and missed_opening(patient)
    if patient.attempts:
        _see_attempts(case, policy, now)
    if not blind:
        case.ladder = _observed(case, policy, now, under_way)
    return case


def _dated(patient: Patient, now: datetime) -> Patient:
    """Return the patient without receipts from the future, which a clock that was set back leaves behind.

    They tell that nothing was heard since, so its silence is as old as its status at most.
    """
    if patient.last_alive is None or patient.last_alive <= now:
        return patient
    at = min(patient.status_since, now)
    heard = patient.last_heard_at
    return patient._replace(
        status_since=at,
        last_alive=at,
        last_heard_at=at if heard is None or heard > now else heard,
        stale_at=at if patient.stale_at is None or patient.stale_at > now else patient.stale_at,
    )


def trouble_of(patient: Patient, now: datetime, listening_since: datetime | None) -> Trouble | None:
    """Return what is to be recovered from, or None.

    A failed service outranks silence in what is shown, but not here: a command would not arrive. And once the
    application is reported running, there is nothing left to recover even though the failure stays shown
    until it is acknowledged.
    """
    if (
        patient.refused_until is not None
        and patient.refused_until > now
        and patient.status is not Condition.CRASHED
    ):
        return None
    if patient.status is not Condition.SERVICE_FAILED:
        return SPOKEN.get(patient.status)
    silent_from = stale_from(patient, listening_since)
    if patient.last_alive is None or (silent_from is not None and silent_from <= now):
        return Trouble.HUNG if patient.presence is Presence.ONLINE else Trouble.UNREACHABLE
    running = patient.process_status is ProcessStatus.RUNNING
    if running and (patient.failed_at is None or patient.last_alive > patient.failed_at):
        return None
    return Trouble.SERVICE_FAILED


def stale_from(patient: Patient, listening_since: datetime | None) -> datetime | None:
    """Return when the client became, or becomes, stale; never before we have listened for a threshold."""
    if patient.stale_at is None or patient.stale_after is None or listening_since is None:
        return None
    return max(patient.stale_at, listening_since + timedelta(seconds=patient.stale_after))


def _since(
    patient: Patient, listening_since: datetime | None, policy: RecoveryPolicy, now: datetime, *, silent: bool
) -> datetime:
    if silent:
        # Our own absence since then is no new trouble, nor is going from hung to unreachable.
        at = None if patient.stale_at is None else missed_from(patient, patient.stale_at)
        return min(at, now) if at is not None else patient.status_since
    since = patient.status_since
    if patient.status is Condition.CRASHED and patient.process_status in BEGINS_SLOWLY:
        # It has been starting for too long, and all that time it has told so.
        since = min(since, (patient.start_due_at or since) - policy.start_timeout)
    if patient.failed_at is not None and patient.failed_at > since:
        since = patient.failed_at
    if patient.booted_at is not None and patient.booted_at > since:
        since = patient.booted_at
    if listening_since is not None and listening_since > since:
        since = listening_since
    return since


def _see_attempts(case: Case, policy: RecoveryPolicy, now: datetime) -> None:
    """Find the attempt that is under way; one not sent counts until its command must have expired."""
    last = case.patient.attempts[-1]
    if last.outcome is not None:
        return
    if last.published_at is None:
        if now < last.decided_at + policy.command_expiry:
            case.ordered = last
        return
    until = last.published_at + policy.wait(last.rung)
    if now < until:
        case.awaited, case.awaited_until = last, until


def _observed(case: Case, policy: RecoveryPolicy, now: datetime, under_way: Collection[str]) -> Ladder | None:
    """Return the ladder after what is seen of the client now."""
    ladder, patient = case.patient.ladder, case.patient
    if case.off or patient.status is Condition.OFF_HOURS:
        return _while_off(ladder, patient, policy)
    if case.trouble is None:
        if ladder is None or patient.status in UNTOUCHED:
            return ladder
        return _without_trouble(case, ladder, policy, now, under_way)
    if ladder is None:
        return begun(now, case.since, entry(case.trouble))
    if ladder.phase is Phase.CLIMBING or ladder.phase is Phase.NEEDS_HUMAN:
        return ladder
    if ladder.phase is Phase.GONE:
        return ladder if case.silent else begun(now, case.since, entry(case.trouble))
    again = stepped(ladder, Step.UNWELL, now)
    if again is not None and again.incident is not None and again.incident not in under_way:
        # A new silence, which may have a new cause in common.
        again = again.of_incident(None)
    return again


def _is_closing(patient: Patient, policy: RecoveryPolicy) -> bool:
    """Tell whether a silent client was heard so shortly before its closing that it is taken to be off."""
    closes, heard = patient.next_change_at, patient.last_alive
    if closes is None or heard is None or not patient.within_hours:
        return False
    return heard >= closes - policy.hours.closing_grace


def _while_off(ladder: Ladder | None, patient: Patient, policy: RecoveryPolicy) -> Ladder | None:
    """Return the ladder of a client that may be dark: none, if its trouble was only that it is dark.

    Trouble that began well before the closing is not over with it.
    """
    if ladder is None or patient.within_hours or ladder.phase not in _IN_TROUBLE:
        return ladder
    began = ladder.changed_at if ladder.phase is Phase.CLIMBING else ladder.unwell_since
    closed = patient.hours_since
    return None if closed is None or began >= closed - policy.hours.closing_grace else ladder


_IN_TROUBLE = frozenset({Phase.CLIMBING, Phase.NEEDS_HUMAN, Phase.GONE})


def _without_trouble(
    case: Case, ladder: Ladder, policy: RecoveryPolicy, now: datetime, under_way: Collection[str]
) -> Ladder | None:
    if ladder.incident is not None and ladder.incident not in under_way:
        ladder = ladder.of_incident(None)
    if ladder.phase is Phase.CLIMBING or ladder.phase is Phase.GONE:
        helped = any(one.charged and one.decided_at >= ladder.began_at for one in case.patient.attempts)
        back = ladder if helped else ladder._replace(returns=ladder.returns + 1)
        return stepped(back, Step.BACK, now)
    if ladder.phase is Phase.WELL:
        return stepped(ladder, Step.FORGOTTEN, now) if now >= ladder.changed_at + policy.relapse else ladder
    if case.patient.reports >= policy.recovered_heartbeats and now >= confirmed_from(case, ladder, policy):
        return stepped(ladder, Step.CONFIRMED, now)
    return ladder


def rhythm_known_from(patient: Patient) -> datetime:
    """Return from when on silence means something: a client heard once may beat as rarely as any."""
    heard = patient.last_alive or patient.status_since
    return heard if patient.interval is not None else heard + UNKNOWN_RHYTHM


def confirmed_from(case: Case, ladder: Ladder, policy: RecoveryPolicy) -> datetime:
    """Return from when on a client that is back may count as well."""
    # A failed service stays shown; there, being back is what the ladder saw.
    online = case.patient.status is Condition.ONLINE
    return (case.patient.status_since if online else ladder.changed_at) + policy.recovered_after


def patience(case: Case, policy: RecoveryPolicy) -> timedelta:
    """Return how long a silent client is waited for, from its threshold: the longer, the more it returns."""
    returns = 0 if case.ladder is None else min(case.ladder.returns, 16)
    longest: timedelta = max(MOST_PATIENCE, policy.grace)
    return min(policy.grace * (1 << returns), longest)


def outcome_of(case: Case, policy: RecoveryPolicy, now: datetime) -> tuple[Attempt, Outcome] | None:
    """Return the attempt whose outcome is known now and was not before, with it."""
    if not case.patient.attempts:
        return None
    last = case.patient.attempts[-1]
    if last.published_at is None or last.accepted_at is None:
        return None
    if last.outcome is None:
        if case.trouble is None:
            runs = case.patient.process_status in {ProcessStatus.RUNNING, None}
            return (last, Outcome.HELPED) if runs and case.patient.status not in UNTOUCHED else None
        if now >= last.published_at + policy.wait(last.rung):
            return last, Outcome.NO_EFFECT
        return None
    if last.outcome is Outcome.HELPED and case.trouble is not None and not case.silent:
        ended = last.ended_at or last.published_at
        if case.since > last.published_at and case.since < ended + RELAPSED_WITHIN:
            return last, Outcome.NO_EFFECT
    return None
