"""The decision: exactly one for every patient, each with its reason. The observer's faults come first.

A function of what it is given: the caller stores ladders and incidents, carries out what is to be done, and
hands the facts back in with the next snapshot. Its cost grows with the unwell, never with the fleet.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from infoscreen.domain.clients import Condition
from infoscreen.domain.recovery.judging import Case, Verdict, Weather, age, case_of, judge
from infoscreen.domain.recovery.ladder import SILENT, Ladder
from infoscreen.domain.recovery.outage import (
    Blindness,
    Census,
    Counts,
    Incident,
    IncidentKind,
    Observer,
    blindness,
    counted_since,
    followed,
    is_suspected,
    settled_at,
    storm_until,
)
from infoscreen.domain.recovery.plan import Budget, Decision, Plan, Verb
from infoscreen.domain.recovery.policy import OUTAGE_LEAST, RecoveryPolicy
from infoscreen.domain.recovery.reasons import Reason
from infoscreen.domain.recovery.snapshot import Snapshot

Judged = tuple[Verdict, Ladder | None]


def decide(snapshot: Snapshot, policy: RecoveryPolicy, now: datetime) -> Plan:
    """Return one decision for every patient, in their order.

    While the observer is blind nothing moves, ladders and incidents included. Holds consume no attempt: an
    attempt is what the caller writes for an ``ACT``, and it is charged once it is published.
    """
    observer = snapshot.observer
    blind = blindness(observer, policy, now)
    cases = [
        case_of(patient, observer.listening_since, policy, now, blind=blind is not None)
        for patient in snapshot.patients
    ]
    counts = _counts(snapshot, cases, now)
    fleet = counts[None]
    sites = {site: of_site for site, of_site in counts.items() if site is not None}
    incidents = followed(snapshot.incidents, blind, fleet, sites, policy, now)
    if blind is not None:
        cannot_see = _cannot_see(blind, observer)
        judged: list[Judged] = [(cannot_see, case.ladder) for case in cases]
    else:
        weather = _weather(incidents, counts, cases, policy, now)
        judged = [judge(case, weather) for case in cases]
    judged, budget = _within_budget(snapshot.fleet_size, cases, judged, policy)
    decisions = tuple(
        _decision(case, verdict, ladder) for case, (verdict, ladder) in zip(cases, judged, strict=True)
    )
    deadlines = [one.until for one in decisions if one.until is not None and one.until > now]
    return Plan(
        decisions=decisions,
        incidents=incidents,
        budget=budget,
        blind=blind,
        next_at=min([now + policy.poll, *deadlines]),
    )


def _counts(snapshot: Snapshot, cases: Sequence[Case], now: datetime) -> dict[str | None, Counts]:
    """Return the counts of the fleet (None) and of each site that was counted or has a patient."""
    of_site: defaultdict[str | None, list[Case]] = defaultdict(list)
    for case in cases:
        if case.client.site:
            of_site[case.client.site].append(case)
    sites = {*snapshot.sites, *(one for one in of_site if one is not None)}
    found: dict[str | None, Counts] = {None: _count(snapshot.fleet, cases, snapshot.incidents, None, now)}
    for site in sites:
        census = snapshot.sites.get(site, Census(0))
        found[site] = _count(census, of_site[site], snapshot.incidents, site, now)
    return found


def _count(
    census: Census, cases: Iterable[Case], incidents: Sequence[Incident], site: str | None, now: datetime
) -> Counts:
    since = counted_since(incidents, site, now)
    well, silent = census.online, 0
    for case in cases:
        left = case.patient.well_until
        if case.client.status is Condition.ONLINE or left is None or left < since or case.explained:
            continue
        well += 1
        silent += case.trouble in SILENT
    return Counts(well, silent, 1 - census.heard / census.asked if census.asked else None)


def _weather(
    incidents: Sequence[Incident],
    counts: Mapping[str | None, Counts],
    cases: Sequence[Case],
    policy: RecoveryPolicy,
    now: datetime,
) -> Weather:
    outages = {
        one.site: _outage(one, counts.get(one.site, Counts(0, 0)), policy)
        for one in incidents
        if one.ended_at is None and one.kind is not IncidentKind.OBSERVER
    }
    silent: defaultdict[str | None, list[datetime]] = defaultdict(list)
    for case in cases:
        if case.trouble in SILENT and not case.explained:
            silent[None].append(case.since)
            if case.client.site:
                silent[case.client.site].append(case.since)
    suspicions: dict[str | None, Verdict] = {}
    unsure: set[str | None] = set()
    for scope, since in silent.items():
        of_scope = counts[scope]
        if is_suspected(of_scope):
            suspicions[scope] = Verdict(Verb.HOLD, Reason.OUTAGE_SUSPECTED)
        elif (until := storm_until(since, of_scope, policy, now)) is not None:
            lately = sum(at > now - policy.storm_cooldown for at in since)
            suspicions[scope] = Verdict(Verb.HOLD, Reason.STORM, until, {"silent": lately})
        if of_scope.unheard is None and of_scope.well_recently >= OUTAGE_LEAST:
            unsure.add(scope)
    return Weather(outages, suspicions, frozenset(unsure))


def _outage(incident: Incident, counts: Counts, policy: RecoveryPolicy) -> Verdict:
    of_site = {"site": incident.site} if incident.site is not None else {}
    is_fleet = incident.kind is IncidentKind.FLEET_OUTAGE
    if incident.calm_since is not None:
        until = settled_at(incident, policy)
        return Verdict(Verb.HOLD, Reason.FLEET_SETTLING if is_fleet else Reason.SITE_SETTLING, until, of_site)
    numbers = {"silent": counts.silent, "well": counts.well_recently}
    reason = Reason.FLEET_OUTAGE if is_fleet else Reason.SITE_OUTAGE
    return Verdict(Verb.HOLD, reason, None, {**numbers, **of_site})


def _cannot_see(blind: Blindness, observer: Observer) -> Verdict:
    if blind.reason is not Reason.INGEST_LAG:
        return Verdict(Verb.HOLD, blind.reason, blind.until)
    lags = {
        "ingest": round(observer.ingest_lag.total_seconds()),
        "loop": round(observer.loop_lag.total_seconds()),
    }
    return Verdict(Verb.HOLD, blind.reason, blind.until, lags)


def _within_budget(
    fleet_size: int, cases: Sequence[Case], judged: Sequence[Judged], policy: RecoveryPolicy
) -> tuple[list[Judged], Budget]:
    """Let the oldest act, as many as may; the others wait their turn with their ladders as they were."""
    in_flight = sum(case.in_flight for case in cases)
    per_poll = max(1, fleet_size // 100)
    allowed = max(0, min(per_poll, policy.max_concurrent - in_flight))
    acts = [number for number, (verdict, _) in enumerate(judged) if verdict.verb is Verb.ACT]
    acts.sort(key=lambda number: age(cases[number]))
    started = len(acts[:allowed])
    arguments = {"in_flight": in_flight + started, "concurrent": policy.max_concurrent}
    turn = Verdict(Verb.HOLD, Reason.BUDGET, None, arguments)
    result = list(judged)
    for number in acts[allowed:]:
        verdict, _ = judged[number]
        result[number] = (replace(turn, rung=verdict.rung), cases[number].ladder)
    budget = Budget(in_flight=in_flight, started=started, concurrent=policy.max_concurrent, per_poll=per_poll)
    return result, budget


def _decision(case: Case, verdict: Verdict, ladder: Ladder | None) -> Decision:
    return Decision(
        client_uuid=case.client.uuid,
        verb=verdict.verb,
        reason=verdict.reason,
        arguments=verdict.arguments,
        rung=verdict.rung or (ladder.rung if ladder is not None else None),
        attempt=verdict.attempt,
        until=verdict.until,
        would=not case.policy.enabled,
        ladder=ladder,
    )
