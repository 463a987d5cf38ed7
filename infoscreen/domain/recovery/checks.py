"""What to do about one client, as far as the client itself and the incidents it is part of decide it.

The checks are asked in order; the first that answers decides. What is left over is a proposal: how many of
those may begin at once is decided for all of them together.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from infoscreen.domain.clients import STALE, Condition, Presence
from infoscreen.domain.recovery.book import held_by
from infoscreen.domain.recovery.cases import Case, confirmed_from, patience, rhythm_known_from, stale_from
from infoscreen.domain.recovery.hours import outside_hours
from infoscreen.domain.recovery.incidents import (
    OUTAGES,
    Blindness,
    Incident,
    is_small,
    observing_from,
)
from infoscreen.domain.recovery.ladder import (
    Ladder,
    Next,
    Outcome,
    Phase,
    Trouble,
    allowed,
    entry,
    is_asked_again,
    next_rung,
)
from infoscreen.domain.recovery.plan import Verb, Verdict
from infoscreen.domain.recovery.policy import (
    BUSY_TRIES,
    CAREFUL_AFTER,
    KEEPALIVE_SLACK,
    KEEPALIVES,
    REFUSED_AGAIN,
    UNKNOWN_KEEPALIVE_SECONDS,
    RecoveryPolicy,
    Rung,
)
from infoscreen.domain.recovery.reasons import Arguments, Reason
from infoscreen.domain.recovery.snapshot import FLEET, Scope, ScopeKind, Snapshot

DAY = timedelta(days=1)
MOST_WAVERING = 5.0
MOST_REPORTS_MORE = 3

CONDITION_REASONS: Mapping[str, Reason] = {
    "incomprehensible": Reason.INCOMPREHENSIBLE,
    "duplicate": Reason.DUPLICATE,
}


class Proposal(NamedTuple):
    """Something to be done now, if not for too many at once."""

    rung: Rung
    attempt: int
    attempts: int


class View:
    """What the checks need to know besides the client."""

    def __init__(
        self,
        snapshot: Snapshot,
        policy: RecoveryPolicy,
        now: datetime,
        blind: Blindness | None,
        incidents: Mapping[str, Incident],
        *,
        unheard: bool = False,
    ) -> None:
        self.policy, self.now = policy, now
        self.unheard = unheard
        """It may be our commands that do not arrive: no answer leads to no higher rung, and to no call."""
        self.night = snapshot.night
        self.listening_since = snapshot.observer.listening_since
        self.blind = None
        if blind is not None:
            self.blind = Verdict(Verb.HOLD, blind.reason, None, blind.arguments)
        self._populations = snapshot.populations
        self._observer = snapshot.observer
        self.outages = {
            key: held_by(one)
            for key, one in incidents.items()
            if one.kind in OUTAGES and one.ended_at is None
        }
        self.small = {key for key in self.outages if is_small(incidents[key])}
        self._thresholds: dict[tuple[str | None, str | None], timedelta] = {}
        self._untried: dict[tuple[Trouble, tuple[str, ...], bool], Next] = {}

    def threshold(self, site: str | None, network: str | None) -> timedelta:
        """Return the longest of the thresholds that 95 % of the client's scopes keep."""
        known = self._thresholds.get((site, network))
        if known is None:
            scopes = [FLEET]
            if site is not None:
                scopes.append(Scope(ScopeKind.SITE, site))
            found = [self._populations[scope].threshold for scope in scopes if scope in self._populations]
            known = max(found, default=self.policy.stale_unlearned)
            self._thresholds[site, network] = known
        return known

    def next_rung(self, case: Case, ladder: Ladder, trouble: Trouble) -> Next:
        """Return the rung that comes next; the first one is the same for all clients alike."""
        if case.patient.attempts:
            return _next(case, ladder, trouble, self.policy, Rung.RESTART_APP, unheard=self.unheard)
        key = trouble, tuple(case.patient.can), case.patient.outlet
        known = self._untried.get(key)
        if known is None:
            known = self._untried[key] = _next(case, ladder, trouble, self.policy, Rung.RESTART_APP)
        return known

    def observing_from(self, threshold: timedelta) -> datetime | None:
        """Return from when silence says something."""
        return observing_from(self._observer, threshold, self.policy)


def verdict_of(case: Case, view: View) -> Verdict | Proposal:
    """Return what to do about a client."""
    verdict = _left_alone(case, view)
    if verdict is not None:
        return verdict
    if view.blind is not None:
        return view.blind
    if case.trouble is None:
        return _on_its_way_back(case, view)
    verdict = _under_way(case, view)
    if verdict is not None:
        return verdict
    verdict = _silent(case, view) if case.silent else _speaking(case, view)
    if verdict is not None:
        return verdict
    return _climb(case, view)


def _left_alone(case: Case, view: View) -> Verdict | None:
    patient, now = case.patient, view.now
    if patient.status is Condition.SHUT_DOWN:
        return Verdict(Verb.HOLD, Reason.SHUT_DOWN)
    until = patient.maintenance_until
    if until is not None and until > now:
        return Verdict(Verb.HOLD, Reason.MAINTENANCE, until)
    outside = outside_hours(case, view.policy, now)
    if outside is not None:
        return outside
    reason = CONDITION_REASONS.get(patient.status)
    if reason is not None:
        return Verdict(Verb.HOLD, reason)
    if case.trouble is None:
        unread = patient.refused_until is not None and patient.refused_until > now
        silent = patient.status in STALE or patient.status is Condition.SERVICE_FAILED
        return Verdict(Verb.HOLD, Reason.INCOMPREHENSIBLE) if unread and silent else None
    if patient.pause is not None and patient.pause.until > now:
        return Verdict(Verb.HOLD, Reason.PAUSED, patient.pause.until, {"why": patient.pause.why})
    hold = patient.hold
    if hold is not None and (hold.until is None or hold.until > now):
        return Verdict(Verb.HOLD, Reason.TAKEN_OVER, hold.until, {"by": hold.by})
    if not patient.auto_recovery:
        return Verdict(Verb.HOLD, Reason.AUTO_RECOVERY_OFF)
    return None


def _on_its_way_back(case: Case, view: View) -> Verdict:
    ladder, policy = case.ladder, view.policy
    if ladder is None:
        runs_again = case.patient.status is Condition.SERVICE_FAILED
        return Verdict(Verb.HOLD, Reason.RUNS_AGAIN if runs_again else Reason.NOTHING_TO_DO)
    if ladder.phase is Phase.WELL:
        return Verdict(Verb.WAIT, Reason.RELAPSE_WATCH, ladder.changed_at + policy.relapse)
    arguments: Arguments = {
        "heartbeats": policy.recovered_heartbeats,
        "seconds": round(policy.recovered_after.total_seconds()),
    }
    # The heartbeats may take longer than the time.
    until = max(confirmed_from(case, ladder, policy), view.now + policy.poll)
    return Verdict(Verb.WAIT, Reason.CONFIRMING, until, arguments)


def _under_way(case: Case, view: View) -> Verdict | None:
    last = case.patient.attempts[-1] if case.patient.attempts else None
    if last is not None and last.outcome is None and last.accepted_at is None:
        standing = _asked_again(case) if case.patient.command or case.ordered or case.awaited else None
        if standing is not None:
            return standing
    if case.ordered is not None:
        until = case.ordered.decided_at + view.policy.command_expiry
        return Verdict(Verb.WAIT, Reason.ORDERED, until, {"action": case.ordered.rung.action})
    if case.awaited is not None:
        action = case.awaited.rung.action
        return Verdict(Verb.WAIT, Reason.WAITING_FOR_VERIFICATION, case.awaited_until, {"action": action})
    command = case.patient.command
    if command is None:
        return None
    until = max(command.deadline_at, view.now + view.policy.poll)
    return Verdict(Verb.WAIT, Reason.COMMAND_IN_FLIGHT, until, {"action": command.action})


def _asked_again(case: Case) -> Verdict | None:
    """Return the standing call for a human while a device that was called for is asked again."""
    ladder, attempts = case.ladder, case.patient.attempts
    if ladder is None or ladder.phase is not Phase.NEEDS_HUMAN or not is_asked_again(attempts):
        return None
    last = next(one for one in reversed(attempts) if one.outcome in {Outcome.REFUSED, Outcome.UNANSWERED})
    arguments: dict[str, str | int] = {"action": last.rung.action, "code": last.error_code or "?"}
    reason = Reason.REFUSED
    if last.outcome is Outcome.UNANSWERED:
        reason, arguments = Reason.UNANSWERED, {"tried": 0}
    return Verdict(Verb.HOLD, reason, None, arguments, Rung.HUMAN, None, ladder.incident)


def _speaking(case: Case, view: View) -> Verdict | None:
    """Wait until its own reports have told of the trouble for long enough, and not while it boots."""
    patient, policy, now = case.patient, view.policy, view.now
    if patient.booted_at is not None and now < patient.booted_at + policy.boot_grace:
        return Verdict(Verb.WAIT, Reason.BOOTING, patient.booted_at + policy.boot_grace)
    until = case.since + policy.grace
    # The beat wavers: one that comes at every half of the grace must not be missed by a second.
    slack = timedelta(seconds=min(MOST_WAVERING, (patient.interval or 0) / 4))
    last = patient.last_alive
    told_since = last is not None and last >= until - slack and patient.reports >= 2
    # Of an application that keeps crashing and starting again, two reports in a row may be of two crashes.
    returns = 0 if case.ladder is None else case.ladder.returns
    flaps = patient.reports < 2 + min(returns // 2, MOST_REPORTS_MORE)
    if now >= until and told_since and not flaps:
        return None
    if case.since == view.listening_since and case.since > patient.status_since and now < until:
        return Verdict(Verb.WAIT, Reason.OBSERVER_GRACE, until)
    if patient.last_alive is not None and patient.interval is not None:
        until = max(until, patient.last_alive + timedelta(seconds=patient.interval))
    until = max(until, now + timedelta(seconds=1))
    if flaps and told_since:
        return Verdict(Verb.WAIT, Reason.FLAPPING, until, {"returns": returns})
    return Verdict(Verb.WAIT, Reason.GRACE, until)


def _silent(case: Case, view: View) -> Verdict | None:
    """Wait until its silence is known to be its own, and not to pass by itself."""
    ladder, patient, policy, now = case.ladder, case.patient, view.policy, view.now
    if ladder is not None and ladder.phase is Phase.GONE:
        return Verdict(Verb.HOLD, Reason.GONE, incident=ladder.incident)
    heard = patient.last_alive or case.since
    outage = None if ladder is None or ladder.incident is None else view.outages.get(ladder.incident)
    if outage is not None and (outage.incident not in view.small or now < _proven_hung_from(case, policy)):
        return outage
    if now < rhythm_known_from(patient):
        return Verdict(Verb.WAIT, Reason.RHYTHM_UNKNOWN, rhythm_known_from(patient))
    threshold = view.threshold(patient.site, patient.network)
    sees_from = view.observing_from(threshold)
    if sees_from is not None and now < sees_from:
        return Verdict(Verb.HOLD, Reason.OBSERVER_GRACE, sees_from)
    returns = 0 if ladder is None else ladder.returns
    until = max(case.since, stale_from(patient, view.listening_since) or case.since) + patience(case, policy)
    if now < until:
        if returns:
            return Verdict(Verb.WAIT, Reason.FLAPPING, until, {"returns": returns})
        return Verdict(Verb.WAIT, Reason.GRACE, until)
    if case.trouble is Trouble.HUNG:
        keepalive = timedelta(seconds=KEEPALIVES * (patient.keepalive or UNKNOWN_KEEPALIVE_SECONDS))
        until = (patient.last_heard_at or heard) + keepalive + KEEPALIVE_SLACK
        if now < until:
            return Verdict(Verb.WAIT, Reason.KEEPALIVE, until)
    # An outage that has just begun shows slowly: those that beat rarely are missed last.
    until = heard + threshold + min(timedelta(seconds=patient.interval or 0), policy.grace)
    if now < until:
        return Verdict(Verb.HOLD, Reason.OUTAGE_SUSPECTED, until)
    if case.trouble is Trouble.UNREACHABLE:
        until = heard + policy.credible_absence
        if now < until:
            return Verdict(Verb.WAIT, Reason.MAY_BE_REBOOTING, until)
    return None


def _proven_hung_from(case: Case, policy: RecoveryPolicy) -> datetime:
    """Return from when on no cut network explains a silence: the connection has outlived every keepalive."""
    patient = case.patient
    if case.trouble is not Trouble.HUNG:
        return datetime.max.replace(tzinfo=UTC)
    keepalive = timedelta(seconds=KEEPALIVES * (patient.keepalive or UNKNOWN_KEEPALIVE_SECONDS))
    heard = patient.last_heard_at or patient.last_alive or case.since
    return heard + max(keepalive, policy.credible_absence) + policy.credible_absence


def _climb(case: Case, view: View) -> Verdict | Proposal:
    """Return the next attempt, or the call for help when there is none left."""
    patient, ladder, trouble, policy = case.patient, case.ladder, case.trouble, view.policy
    if ladder is None or trouble is None:
        return Verdict(Verb.HOLD, Reason.NOTHING_TO_DO)
    comes = view.next_rung(case, ladder, trouble)
    if not patient.attempts and comes.rung is not Rung.HUMAN and patient.locked_until is None:
        return Proposal(comes.rung, 1, max(1, allowed(comes.rung, trouble, policy)))
    if comes.rung is not Rung.HUMAN:
        refused = _refused(case, view)
        if refused is not None:
            return refused
    made = [one.published_at for one in patient.attempts if one.charged and one.published_at is not None]
    today = sum(at > view.now - DAY for at in made) if made else 0
    if comes.rung is not Rung.HUMAN and today >= policy.actions_per_day:
        comes = Next(Rung.HUMAN, Reason.LIMIT_REACHED)
    if comes.rung is Rung.HUMAN and comes.because is not Reason.UNANSWERED:
        comes = _careful(case, view, comes, made)
    if comes.because is Reason.UNANSWERED and not case.silent:
        comes = _once_more(case, view, comes)
    if comes.rung is Rung.HUMAN:
        arguments: dict[str, str | int] = {
            "tried": sum(one.decided_at >= ladder.began_at for one in patient.attempts if one.charged)
        }
        because = comes.because or Reason.EXHAUSTED
        if because is Reason.LIMIT_REACHED:
            arguments = {"limit": policy.actions_per_day}
        if because is Reason.NO_OUTLET and patient.outlet_obstacle is not None:
            because, arguments = Reason.OUTLET_UNUSABLE, {"obstacle": patient.outlet_obstacle.value}
        return Verdict(Verb.HOLD, because, None, arguments, Rung.HUMAN, None, ladder.incident)
    if patient.locked_until is not None and patient.locked_until > view.now:
        return Verdict(Verb.HOLD, Reason.LOCKOUT, patient.locked_until, {}, comes.rung)
    attempt = 1
    for one in patient.attempts:
        attempt += one.rung is comes.rung and one.charged and one.decided_at >= ladder.began_at
    return Proposal(comes.rung, attempt, max(attempt, allowed(comes.rung, trouble, policy)))


STANDING_CALLS = frozenset(
    {
        Reason.BROKER_DISCONNECTED,
        Reason.INGEST_LAG,
        Reason.OBSERVER_GRACE,
        Reason.COMMANDS_UNANSWERED,
        Reason.GRACE,
        Reason.BOOTING,
        Reason.FLAPPING,
        Reason.KEEPALIVE,
        Reason.OUTAGE_SUSPECTED,
        Reason.MAY_BE_REBOOTING,
        Reason.RHYTHM_UNKNOWN,
        Reason.ORDERED,
        Reason.WAITING_FOR_VERIFICATION,
        Reason.LOCKOUT,
        Reason.CLOSING_SOON,
        Reason.OFF_HOURS,
    }
)
"""Reasons to wait that do not take back the call for a human of before."""


def standing(case: Case, verdict: Verdict) -> Verdict:
    """Return the verdict on a client; a call for a human stands until it is well or a person has answered."""
    ladder = case.ladder
    if ladder is None or ladder.phase is not Phase.NEEDS_HUMAN or ladder.incident is not None:
        return verdict
    if verdict.reason not in STANDING_CALLS or (
        case.trouble is None and verdict.reason is not Reason.OFF_HOURS
    ):
        return verdict
    return verdict._replace(rung=Rung.HUMAN)


def rung_above(case: Case, floor: Rung, policy: RecoveryPolicy) -> Rung | None:
    """Return the lowest rung from ``floor`` on that can still be tried, None when only a person is left."""
    if case.ladder is None or case.trouble is None:
        return None
    comes = _next(case, case.ladder, case.trouble, policy, floor)
    return None if comes.rung is Rung.HUMAN else comes.rung


def _next(
    case: Case,
    ladder: Ladder,
    trouble: Trouble,
    policy: RecoveryPolicy,
    floor: Rung,
    *,
    unheard: bool = False,
) -> Next:
    patient = case.patient
    attempts = patient.attempts
    if unheard:
        attempts = [one for one in attempts if one.outcome is not Outcome.UNANSWERED]
    return next_rung(trouble, ladder, attempts, policy, can=patient.can, outlet=patient.outlet, floor=floor)


def _refused(case: Case, view: View) -> Verdict | None:
    """Call for help because of a refusal, until it is time to ask again."""
    last = case.patient.attempts[-1] if case.patient.attempts else None
    if last is None or last.outcome is not Outcome.REFUSED:
        return None
    soon = last.error_code == "busy" and _times_busy(case) <= BUSY_TRIES
    # From one try to the next, so that there is no more than one an hour.
    until = last.decided_at + REFUSED_AGAIN
    if soon:
        until = (last.ended_at or last.decided_at) + view.policy.command_expiry
    if view.now >= until:
        return None
    arguments: Arguments = {"action": last.rung.action, "code": last.error_code or "?"}
    incident = None if case.ladder is None else case.ladder.incident
    rung = last.rung if soon else Rung.HUMAN
    return Verdict(Verb.HOLD, Reason.REFUSED, until, arguments, rung, None, incident)


def _times_busy(case: Case) -> int:
    """Return how often in a row, up to now, the device has said that it is busy."""
    times = 0
    for one in reversed(case.patient.attempts):
        if one.outcome is not Outcome.REFUSED or one.error_code != "busy":
            break
        times += 1
    return times


def _once_more(case: Case, view: View, otherwise: Next) -> Next:
    """Return one more try an hour of a device that is heard and answers nothing."""
    ladder, trouble = case.ladder, case.trouble
    if ladder is None or trouble is None or case.patient.attempts[-1].decided_at > view.now - REFUSED_AGAIN:
        return otherwise
    return _next(case, ladder, trouble, view.policy, Rung.RESTART_APP, unheard=True)


def _careful(case: Case, view: View, otherwise: Next, made: Sequence[datetime]) -> Next:
    """Return one careful try a day, at night, for a client on which all has been tried."""
    patient, trouble = case.patient, case.trouble
    if trouble is None or trouble is Trouble.UNREACHABLE or not view.night or not made:
        return otherwise
    if patient.presence is Presence.OFFLINE or max(made) > view.now - CAREFUL_AFTER:
        return otherwise
    rung = entry(trouble)
    can = not patient.can or rung.action in patient.can
    return Next(rung) if can and view.policy.attempts(rung) else otherwise
