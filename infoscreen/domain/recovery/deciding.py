"""The decision: exactly one for every patient, each with its reason.

A function of what it is given: the caller stores ladders and incidents, carries out what is to be done, and
hands the facts back in with the next snapshot. Its cost grows with the unwell, never with the fleet.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from infoscreen.domain.clients import Condition
from infoscreen.domain.recovery.book import IncidentBook
from infoscreen.domain.recovery.calls import find_cut_off, find_left_behind, find_more_alike, find_refusing
from infoscreen.domain.recovery.cases import Case, case_of, outcome_of
from infoscreen.domain.recovery.checks import Proposal, View, rung_above, standing, verdict_of
from infoscreen.domain.recovery.incidents import (
    OUTAGES,
    Blindness,
    Closing,
    IncidentKind,
    blindness,
    followed,
)
from infoscreen.domain.recovery.ladder import (
    CHARGED,
    Attempt,
    Ladder,
    Outcome,
    Phase,
    Step,
    is_asked_again,
    stepped,
)
from infoscreen.domain.recovery.openings import causes_of_openings
from infoscreen.domain.recovery.plan import ACTS, Decision, Plan, Verb, Verdict
from infoscreen.domain.recovery.policy import RecoveryPolicy, Rung
from infoscreen.domain.recovery.reasons import Reason
from infoscreen.domain.recovery.silence import Cause, causes_of, dark_of, silent_ones
from infoscreen.domain.recovery.snapshot import FLEET, Snapshot
from infoscreen.domain.recovery.voice import (
    DOUBTED_CLIENTS,
    UNANSWERED_CLIENTS,
    UNDELIVERED_BEFORE,
    asked_too_soon,
    probes,
    unanswered_in_a_row,
    undelivered,
)
from infoscreen.domain.recovery.waves import (
    Pace,
    alike,
    first_ones,
    paces_of,
    share_of,
    singly,
    tries_of_members,
    was_dismissed,
)


def decide(snapshot: Snapshot, policy: RecoveryPolicy, now: datetime) -> Plan:
    """Return one decision for every patient, in their order.

    While the observer is blind nothing moves, ladders and incidents included.
    """
    blind = blindness(snapshot.observer, now)
    round_ = _Round(snapshot, policy, now, blind)
    return round_.plan()


class _Round:
    """One decision in the making; each step is called once, in the order of ``plan``."""

    def __init__(
        self, snapshot: Snapshot, policy: RecoveryPolicy, now: datetime, blind: Blindness | None
    ) -> None:
        self.snapshot, self.policy, self.now, self.blind = snapshot, policy, now, blind
        self.book = IncidentBook(snapshot.incidents, now)
        self.incidents = self.book.incidents
        self.outcomes: dict[str, Outcome] = {}
        self.outages: Mapping[str, Verdict] = {}
        self.alone: Mapping[str, Sequence[Attempt]] = {}
        self.intervals: Mapping[str, float] = {}
        self.doubted = False
        """Several clients in a row have not answered: it may be our commands that do not arrive."""
        listening = snapshot.observer.listening_since
        kept = frozenset(self.book.open(*OUTAGES, IncidentKind.ALIKE))
        self.cases = [
            case_of(one, listening, policy, now, under_way=kept, blind=blind is not None)
            for one in snapshot.patients
        ]

    def plan(self) -> Plan:
        silences = 0
        if self.blind is None:
            self._judge_attempts()
            self._end_incidents()
            silences = self._find_causes()
        self._observer_incident()
        unheard = bool(self.book.open(IncidentKind.COMMANDS_UNANSWERED))
        view = View(self.snapshot, self.policy, self.now, self.blind, self.incidents, unheard=unheard)
        self.outages = view.outages
        judged = [verdict_of(case, view) for case in self.cases]
        verdicts = self._paced(judged)
        decisions = self._decided(verdicts)
        waits = [one.verdict.until for one in decisions if one.verdict.until is not None]
        return Plan(
            decisions=decisions,
            incidents=tuple(self.incidents.values()),
            joined=self.book.joined,
            outcomes=self.outcomes,
            silences=silences,
            blind=self.blind,
            next_at=min((one for one in waits if one > self.now), default=self.now + self.policy.poll),
        )

    # --- what is known of attempts

    def _judge_attempts(self) -> None:
        for case in self.cases:
            found = outcome_of(case, self.policy, self.now)
            if found is not None:
                self.outcomes[found[0].command_id] = found[1]

    def _tries(self, key: str) -> list[Attempt]:
        """Return a group's attempts with what is known by now."""
        tries = sorted(
            (*self.snapshot.waves.get(key, ()), *self.alone.get(key, ())), key=lambda one: one.decided_at
        )
        if not self.outcomes:
            return tries
        return [
            replace(one, outcome=self.outcomes[one.command_id]) if one.command_id in self.outcomes else one
            for one in tries
        ]

    # --- incidents

    def _end_incidents(self) -> None:
        dark: Counter[str] = Counter()
        asleep: Counter[str] = Counter()
        proving: set[str] = set()
        for case in self.cases:
            if case.ladder is None or case.ladder.incident is None:
                continue
            if case.off or case.patient.status is Condition.OFF_HOURS:
                asleep[case.ladder.incident] += 1
                dark[case.ladder.incident] += 1
            elif case.trouble is not None:
                dark[case.ladder.incident] += 1
            elif case.ladder.phase is Phase.PROVING:
                proving.add(case.ladder.incident)
        for key, incident in list(self.incidents.items()):
            if incident.kind in OUTAGES:
                self.incidents[key] = followed(incident, dark[key], self.now, asleep[key])
            elif incident.kind is IncidentKind.ALIKE and key in proving:
                # They may all crash again a moment later.
                continue
            elif incident.kind in {IncidentKind.ALIKE, IncidentKind.LEFT_BEHIND} and not dark[key]:
                self.incidents[key] = replace(incident, ended_at=self.now, closing=Closing.OVER)
        over = {
            key
            for key, one in self.incidents.items()
            if one.kind is IncidentKind.ALIKE and one.closing is Closing.OVER
        }
        for case in self.cases if over else ():
            # Also those that are only left alone for now: they have not been dismissed.
            if case.ladder is not None and case.ladder.incident in over:
                case.ladder = case.ladder.of_incident(None)
        gone = {key for key, one in self.incidents.items() if one.closing is Closing.GONE}
        if not gone:
            return
        for case in self.cases:
            if case.silent and case.ladder is not None and case.ladder.incident in gone:
                case.ladder = stepped(case.ladder, Step.LOST, self.now)

    def _find_causes(self) -> int:
        """Let those join an outage that fell silent with others; return how many others are new."""
        outages = self.book.open(*OUTAGES)
        known, single = silent_ones(self.cases, outages, self.snapshot, self.policy, self.now)
        fresh = sum(case.patient.ladder is None for case in single)
        missed = [case for case in single if case.missed]
        if missed:
            single = [case for case in single if not case.missed]
            populations, rate = self.snapshot.populations, self.snapshot.silences
            fresh -= self._join(causes_of_openings(missed, outages, populations, rate, self.now), missed)
            outages = self.book.open(*OUTAGES)
        if not single or len(single) + len(known) < 2:
            return fresh
        dark = [dark_of(case, self.policy) for case in (*known, *single)]
        causes = causes_of(dark, outages, self.snapshot.populations, self.snapshot.silences, self.now)
        return max(0, fresh - self._join(causes, single))

    def _join(self, causes: Sequence[Cause], single: Sequence[Case]) -> int:
        """Write outages and their new members down; return how many of these were well before."""
        of_client = {case.patient.uuid: case for case in single}
        for cause in causes:
            self.incidents[cause.incident.key] = replace(cause.incident, calm_since=None)
            self.book.join(cause.incident.key, [of_client[uuid] for uuid in cause.joined])
        return sum(of_client[uuid].patient.ladder is None for cause in causes for uuid in cause.joined)

    def _observer_incident(self) -> None:
        """Begin and end the incidents of our own; a start of the daemon is none."""
        open_ones = self.book.open(IncidentKind.OBSERVER)
        if self.blind is None:
            for key, one in open_ones.items():
                self.incidents[key] = replace(one, ended_at=self.now, closing=Closing.OVER)
            self._follow_voice()
        elif not open_ones and not self.blind.starting:
            self.book.begin(IncidentKind.OBSERVER)

    def _follow_voice(self) -> None:
        """Begin the incident when nobody answers; end it at the first answer, or when nobody is unwell."""
        silent = unanswered_in_a_row(self.snapshot.sent, self.now)
        lost = silent >= UNANSWERED_CLIENTS
        self.doubted = silent >= DOUBTED_CLIENTS
        open_ones = self.book.open(IncidentKind.COMMANDS_UNANSWERED)
        answered = any(one.answered for one in self.snapshot.sent)
        over = answered or not any(case.trouble is not None and not case.silent for case in self.cases)
        if lost and not open_ones:
            self.book.begin(IncidentKind.COMMANDS_UNANSWERED)
        elif open_ones and not lost and over:
            for key, one in open_ones.items():
                self.incidents[key] = replace(one, ended_at=self.now, closing=Closing.OVER)
                self.outcomes |= undelivered(self.cases, one.began_at - UNDELIVERED_BEFORE)

    # --- how many at once

    def _paced(self, judged: Sequence[Verdict | Proposal]) -> list[Verdict]:
        """Turn proposals into acts, as many as may, and into waits for the others."""
        verdicts: list[Verdict | None] = [one if isinstance(one, Verdict) else None for one in judged]
        proposals = {number: one for number, one in enumerate(judged) if isinstance(one, Proposal)}
        if self.blind is None:
            find_left_behind(self.book, self.cases, verdicts)
            find_cut_off(self.book, self.cases, verdicts, self.snapshot, self.policy)
            find_refusing(self.book, self.cases, verdicts)
            self._hold_unanswered(proposals, verdicts)
            self._find_groups(proposals)
        self.alone = tries_of_members(self.cases)
        of_group: defaultdict[str, list[int]] = defaultdict(list)
        groups = self.book.open(IncidentKind.ALIKE)
        for number, proposal in proposals.items():
            case = self.cases[number]
            key = None if case.ladder is None else case.ladder.incident
            if key is None or not (case.silent or key in groups or was_dismissed(case, groups)):
                verdicts[number] = self._act(proposal)
            else:
                of_group[key].append(number)
        if of_group:
            tried = (case.patient for case in self.cases if case.patient.attempts)
            self.intervals = {one.uuid: one.interval for one in tried if one.interval is not None}
        for key, numbers in of_group.items():
            self._go_on(key, numbers, proposals, verdicts)
        if self.blind is None:
            find_more_alike(self.book, self.cases, verdicts, self._fleet())
        self._one_alarm_for_groups(verdicts)
        self._mark_stopped(verdicts)
        return [
            standing(case, one) for case, one in zip(self.cases, verdicts, strict=True) if one is not None
        ]

    def _hold_unanswered(self, proposals: dict[int, Proposal], verdicts: list[Verdict | None]) -> None:
        """Hold back, and call for nobody singly, while it may be our commands that do not arrive."""
        unanswered = [n for n, one in enumerate(verdicts) if one and one.reason is Reason.UNANSWERED]
        if self.doubted and unanswered and not self.book.open(IncidentKind.COMMANDS_UNANSWERED):
            self.book.begin(IncidentKind.COMMANDS_UNANSWERED)
        voice = next(iter(self.book.open(IncidentKind.COMMANDS_UNANSWERED).values()), None)
        if voice is None:
            for number in list(proposals) if self.doubted else ():
                until = asked_too_soon(self.cases[number], self.now)
                if until is not None:
                    del proposals[number]
                    verdicts[number] = Verdict(Verb.HOLD, Reason.COMMANDS_UNANSWERED, until)
            return
        tried = probes(self.cases, proposals, self.snapshot.sent, voice.began_at, self.now)
        for number in (*unanswered, *(proposals.keys() - tried)):
            proposals.pop(number, None)
            verdicts[number] = Verdict(Verb.HOLD, Reason.COMMANDS_UNANSWERED, incident=voice.key)

    def _find_groups(self, proposals: Mapping[int, Proposal]) -> None:
        speaking = [case for case in self.cases if not case.silent and case.ladder is not None]
        due = {self.cases[number].patient.uuid for number in proposals if not self.cases[number].silent}
        if not due or self.book.open(IncidentKind.COMMANDS_UNANSWERED):
            return
        groups = self.book.open(IncidentKind.ALIKE)
        found, joined = alike(speaking, due, groups, self._fleet(), self.now)
        self.incidents |= found
        members: defaultdict[str, list[Case]] = defaultdict(list)
        for case in speaking:
            if (key := joined.get(case.patient.uuid)) is not None:
                members[key].append(case)
        for key, cases in members.items():
            self.book.join(key, cases)

    def _fleet(self) -> int:
        known = self.snapshot.populations.get(FLEET)
        return max(len(self.cases), known.clients if known is not None else 0)

    def _go_on(
        self,
        key: str,
        numbers: Sequence[int],
        proposals: Mapping[int, Proposal],
        verdicts: list[Verdict | None],
    ) -> None:
        """Begin as much of a group as its pace allows."""
        most = share_of(self._fleet(), self.policy.max_share)
        tries = self._tries(key)
        dismissed = was_dismissed(self.cases[numbers[0]], self.book.open(IncidentKind.ALIKE))
        paces = singly(tries, most) if dismissed else paces_of(tries, most, self.now, self.intervals)
        waiting: defaultdict[Rung, list[int]] = defaultdict(list)
        for number in numbers:
            waiting[self._rung(number, proposals[number], paces)].append(number)
        used: set[int] = set()
        for rung in sorted(waiting):
            pace = paces[rung]
            left = 0 if id(pace) in used else pace.allowed
            used.add(id(pace))
            some = [self.cases[number] for number in waiting[rung]]
            begins = {case.patient.uuid for case in first_ones(some, left, tried_first=pace.stopped)}
            reason = Reason.NO_EFFECT if pace.stopped else Reason.WAVE
            arguments: dict[str, str | int] = {"waiting": len(some) - len(begins)}
            if pace.stopped:
                arguments = {"alike": len(some), "action": rung.action}
            else:
                arguments["trying"] = pace.under_way + len(begins)
            held = Verdict(Verb.HOLD, reason, None, arguments, rung, None, key)
            for number in waiting[rung]:
                acts = self.cases[number].patient.uuid in begins
                verdicts[number] = self._act(proposals[number]._replace(rung=rung), key) if acts else held

    def _rung(self, number: int, proposal: Proposal, paces: Mapping[Rung, Pace]) -> Rung:
        """Return the rung a member goes on with: not one that is known to be in vain for all of them."""
        pace, rung = paces[proposal.rung], proposal.rung
        if pace.floor > rung:
            return rung_above(self.cases[number], pace.floor, self.policy) or rung
        if pace.stopped and proposal.attempt > 1 and rung < Rung.POWER_CYCLE:
            higher = rung_above(self.cases[number], Rung(rung + 1), self.policy)
            if higher is not None and not paces[higher].stopped:
                return higher
        return rung

    def _one_alarm_for_groups(self, verdicts: list[Verdict | None]) -> None:
        """Call for nobody singly where the group as a whole is not helped: that is one alarm."""
        groups = self.book.open(IncidentKind.ALIKE)
        in_vain: dict[str, bool] = {}
        for number, verdict in enumerate(verdicts):
            ladder = self.cases[number].ladder
            if verdict is None or verdict.rung is not Rung.HUMAN or ladder is None:
                continue
            key = ladder.incident
            if key is None:
                continue
            if key in self.outages and self.cases[number].silent:
                verdicts[number] = self.outages[key]
            if key not in groups:
                continue
            if verdict.reason is Reason.REFUSED:
                verdicts[number] = verdict._replace(rung=None, incident=key)
                continue
            if key not in in_vain:
                judged = [one for one in self._tries(key) if one.outcome in CHARGED]
                helped = sum(one.outcome is Outcome.HELPED for one in judged)
                in_vain[key] = 2 * helped < len(judged)
            if in_vain[key]:
                arguments: dict[str, str | int] = {"alike": groups[key].members}
                verdicts[number] = Verdict(Verb.HOLD, Reason.NO_EFFECT, None, arguments, incident=key)

    def _mark_stopped(self, verdicts: Sequence[Verdict | None]) -> None:
        stopped = {one.incident for one in verdicts if one is not None and one.reason is Reason.NO_EFFECT}
        waiting = {one.incident for one in verdicts if one is not None and one.reason is Reason.WAVE}
        for key, incident in self.book.open(IncidentKind.ALIKE).items():
            if key in stopped and incident.stopped_at is None:
                self.incidents[key] = replace(incident, stopped_at=self.now)
            elif key in waiting and key not in stopped and incident.stopped_at is not None:
                self.incidents[key] = replace(incident, stopped_at=None)

    def _act(self, proposal: Proposal, incident: str | None = None) -> Verdict:
        arguments: dict[str, str | int] = {"attempt": proposal.attempt, "attempts": proposal.attempts}
        return Verdict(
            Verb.ACT, ACTS[proposal.rung], None, arguments, proposal.rung, proposal.attempt, incident
        )

    # --- the result

    def _decided(self, verdicts: Sequence[Verdict]) -> list[Decision]:
        decisions = []
        for case, verdict in zip(self.cases, verdicts, strict=True):
            decisions.append(Decision(case.patient.uuid, verdict, self._ladder(case, verdict)))
        return decisions

    def _ladder(self, case: Case, verdict: Verdict) -> Ladder | None:
        ladder = case.ladder
        if ladder is None or self.blind is not None:
            return ladder
        if verdict.rung is Rung.HUMAN or verdict.reason is Reason.LEFT_BEHIND:
            if ladder.phase is Phase.CLIMBING:
                ladder = stepped(ladder, Step.GIVEN_UP, self.now)
            return ladder._replace(rung=Rung.HUMAN) if ladder and ladder.rung is not Rung.HUMAN else ladder
        if verdict.rung is None or verdict.verb is not Verb.ACT or not self.policy.enabled:
            return ladder
        careful = self.snapshot.night and any(one.charged for one in case.patient.attempts)
        if ladder.phase is Phase.NEEDS_HUMAN and (careful or is_asked_again(case.patient.attempts)):
            # No new beginning: the call for a human stands.
            return ladder
        climbing = stepped(ladder, Step.REACHABLE, self.now)
        return climbing and (
            climbing if climbing.rung is verdict.rung else climbing._replace(rung=verdict.rung)
        )
