"""Silence in common: which of the silent clients have a cause in common, and which incident that is."""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from heapq import merge
from typing import NamedTuple

from infoscreen.domain.recovery.cases import Case, rhythm_known_from
from infoscreen.domain.recovery.coincidence import (
    DAY,
    LEAST,
    NEAR_MOST,
    WINDOWS,
    chance,
    clusters,
    rarely_within,
)
from infoscreen.domain.recovery.incidents import Incident, IncidentKind, observing_from
from infoscreen.domain.recovery.ladder import Phase
from infoscreen.domain.recovery.policy import RecoveryPolicy
from infoscreen.domain.recovery.snapshot import FLEET, Population, Scope, ScopeKind, Snapshot

MOSTLY = 0.8
"""A place that so many of them are of is the scope."""

SMALLEST_NETWORK = 5
PASSES = 4
EARLIER = 15.0
"""Seconds by which two clients may have been cut off by the same cause and the later one heard last."""

NEAR = 300.0
"""Two groups of silences of the same scope that are no more seconds apart are one outage that spreads."""

PAIR = 2
YEAR = 365 * DAY


class Dark(NamedTuple):
    """A silent client: when it was heard last and when it would have been again, in seconds.

    ``incident`` is the key of the open outage that it is part of.
    """

    uuid: str
    heard: float
    due: float
    site: str | None
    network: str | None
    incident: str | None


class Cause(NamedTuple):
    """An outage, with those of its members that it had not before."""

    incident: Incident
    joined: list[str]


def silent_ones(
    cases: Iterable[Case],
    outages: Collection[str],
    snapshot: Snapshot,
    policy: RecoveryPolicy,
    now: datetime,
) -> tuple[list[Case], list[Case]]:
    """Return the silent that are part of an open outage, and those of none that may be part of one."""
    listening = snapshot.observer.listening_since
    fleet = snapshot.populations.get(FLEET)
    threshold = policy.stale_unlearned if fleet is None else fleet.threshold
    sees_from = observing_from(snapshot.observer, threshold, policy)
    known: list[Case] = []
    single: list[Case] = []
    for case in cases:
        if not case.silent or case.ladder is None or case.patient.last_alive is None:
            continue
        if case.ladder.incident in outages:
            known.append(case)
            continue
        if case.ladder.incident is not None or case.explained or case.off or case.ladder.phase is Phase.GONE:
            continue
        # It may beat more rarely than it is waited for.
        unknown = now < rhythm_known_from(case.patient)
        # It fell silent in our own absence, and may still be on its way back.
        unseen = listening and sees_from and case.patient.last_alive < listening and now < sees_from
        if not unknown and not unseen:
            single.append(case)
    return known, single


def dark_of(case: Case, policy: RecoveryPolicy) -> Dark:
    """Return a silent case as coincidences are looked for."""
    patient = case.patient
    heard = (patient.last_alive or patient.status_since).timestamp()
    due = heard + 1.5 * (patient.interval or policy.stale_unlearned.total_seconds() / 3) + 5
    key = None if case.ladder is None else case.ladder.incident
    return Dark(patient.uuid, heard, due, patient.site, patient.network, key)


def causes_of(
    dark: Iterable[Dark],
    outages: Mapping[str, Incident],
    populations: Mapping[Scope, Population],
    rate: float,
    now: datetime,
) -> list[Cause]:
    """Return the outages that have begun or grown; ``rate`` is silences per client and day.

    ``outages`` are those that are open. One that turns out to be wider than its site or network becomes one
    of the fleet: it is one cause.
    """
    search = _Search(outages, populations, rate, now)
    search.run(sorted(dark, key=lambda one: one.heard))
    return _causes(search, outages)


def causes_of_calls(
    dark: Iterable[Dark],
    calls: Collection[str],
    outages: Mapping[str, Incident],
    populations: Mapping[Scope, Population],
    rate: float,
    now: datetime,
) -> list[Cause]:
    """Return the outages that make it needless to call for unreachable clients singly.

    Nothing can be done for them from here, so less evidence will do than where an action is held back: the
    next outage of the same scope, if others rarely fall silent within that time, else a pair that is no
    chance.

    Args:
        dark: the members of open outages and all unreachable clients of none.
        calls: those of the latter that somebody would be called for.
        outages: the open ones.
        populations: how many clients there are where.
        rate: silences per client and day.
        now: the time.
    """
    search = _Search(outages, populations, rate, now)
    search.run_for_calls(sorted(dark, key=lambda one: one.heard), calls)
    return _causes(search, outages)


def _causes(search: "_Search", outages: Mapping[str, Incident]) -> list[Cause]:
    return [
        Cause(replace(incident, members=incident.members + len(search.joined[key])), search.joined[key])
        for key, incident in search.found.items()
        if search.joined[key] or incident is not outages.get(key)
    ]


class _Search:
    def __init__(
        self,
        outages: Mapping[str, Incident],
        populations: Mapping[Scope, Population],
        rate: float,
        now: datetime,
    ) -> None:
        self.found = dict(outages)
        self.joined: defaultdict[str, list[str]] = defaultdict(list)
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._populations = populations
        self._rate = rate
        self._now = now

    def run(self, pool: list[Dark]) -> None:
        self._note_times(pool)
        for _ in range(PASSES):
            if not _has_single(pool):
                return
            taken = self._look(pool, FLEET, len(pool))
            if not taken:
                break
            pool = [one for one in pool if one.uuid not in taken]
        for kind in (ScopeKind.SITE, ScopeKind.NETWORK):
            of_place: defaultdict[str, list[Dark]] = defaultdict(list)
            for one in pool:
                if (place := one.site if kind is ScopeKind.SITE else one.network) is not None:
                    of_place[place].append(one)
            taken = set()
            for place, some in of_place.items():
                if len(some) >= LEAST and _has_single(some):
                    taken |= self._look(some, Scope(kind, place), len(some))
            if taken:
                pool = [one for one in pool if one.uuid not in taken]
        self._stragglers([one for one in pool if one.incident is None])

    def run_for_calls(self, pool: list[Dark], calls: Collection[str]) -> None:
        self._note_times(pool)
        single = [one for one in pool if one.incident is None]
        for one in single:
            if one.uuid in calls:
                self._join_nearest(one)
        for kind in (ScopeKind.SITE, ScopeKind.NETWORK, ScopeKind.FLEET):
            left = self._left(single)
            of_place: defaultdict[str | None, list[Dark]] = defaultdict(list)
            for one in left:
                of_place[{ScopeKind.SITE: one.site, ScopeKind.NETWORK: one.network}.get(kind, "")].append(one)
            for place, some in of_place.items():
                if place is not None and len(some) >= PAIR:
                    self._pairs(some, Scope(kind, place), calls)

    def _left(self, single: Iterable[Dark]) -> list[Dark]:
        joined = {uuid for uuids in self.joined.values() for uuid in uuids}
        return [one for one in single if one.uuid not in joined]

    def _pairs(self, some: Sequence[Dark], scope: Scope, calls: Collection[str]) -> None:
        size = self._size(scope, len(some))
        if scope.kind is ScopeKind.NETWORK and size < SMALLEST_NETWORK:
            return
        windows = [window for window in WINDOWS if window <= NEAR_MOST]
        for positions in clusters([one.heard for one in some], size, self._rate, windows, PAIR):
            cluster = [some[position] for position in positions]
            if any(one.uuid in calls for one in cluster):
                self._take(cluster, scope)

    def _join_nearest(self, one: Dark) -> None:
        scopes = {FLEET, Scope(ScopeKind.SITE, one.site or ""), Scope(ScopeKind.NETWORK, one.network or "")}
        near: list[tuple[float, str]] = []
        for key, incident in self.found.items():
            times = self._times[key]
            if (scope := scope_of(incident)) in scopes and times:
                position = bisect_left(times, one.heard)
                apart = min(abs(at - one.heard) for at in times[max(0, position - 1) : position + 1])
                if apart < rarely_within(self._size(scope, 1), self._rate):
                    near.append((apart, key))
        if near:
            key = min(near)[1]
            self.joined[key].append(one.uuid)
            insort(self._times[key], one.heard)

    def _note_times(self, pool: Iterable[Dark]) -> None:
        for one in pool:
            if one.incident is not None:
                self._times[one.incident].append(one.heard)

    def _size(self, scope: Scope, least: int) -> int:
        population = self._populations.get(scope)
        return max(least, population.clients if population is not None else 0)

    def _look(self, pool: Sequence[Dark], scope: Scope, least: int) -> set[str]:
        """Find what is no chance within a scope; return those that it explains."""
        if scope.kind is ScopeKind.NETWORK and self._size(scope, least) < SMALLEST_NETWORK:
            return set()
        size = self._size(scope, least)
        taken: set[str] = set()
        for positions in clusters([one.heard for one in pool], size, self._rate):
            cluster = [pool[position] for position in positions]
            if all(one.incident is not None for one in cluster):
                continue
            narrowed = self._narrowed(cluster) if scope == FLEET else scope
            members = [one for one in cluster if _within(one, narrowed)]
            taken.update(one.uuid for one in members)
            if any(one.incident is None for one in members):
                self._take(members, narrowed)
        return taken

    def _narrowed(self, cluster: Sequence[Dark]) -> Scope:
        """Return the place that most of them are of, else the fleet."""
        sites = Counter(one.site for one in cluster if one.site is not None)
        networks = Counter(one.network for one in cluster if one.network is not None)
        fleet = self._size(FLEET, len(cluster))
        for kind, places in ((ScopeKind.SITE, sites), (ScopeKind.NETWORK, networks)):
            for place, count in places.most_common(1):
                scope = Scope(kind, place)
                size = self._size(scope, count)
                small = kind is ScopeKind.NETWORK and size < SMALLEST_NETWORK
                if count >= MOSTLY * len(cluster) and count >= LEAST and size < MOSTLY * fleet and not small:
                    return scope
        return FLEET

    def _take(self, members: Sequence[Dark], scope: Scope) -> None:
        known = Counter(one.incident for one in members if one.incident is not None)
        fresh = [one for one in members if one.incident is None]
        incident = self.found.get(known.most_common(1)[0][0] or "") if known else None
        incident = incident or self._spreading(members, scope)
        if incident is None:
            incident = self._begun(members, scope)
        elif scope_of(incident) not in {FLEET, scope}:
            incident = replace(incident, kind=IncidentKind.FLEET_OUTAGE, site=None, network=None)
        self._join(incident, fresh)

    def _spreading(self, members: Sequence[Dark], scope: Scope) -> Incident | None:
        """Return the outage that goes on with these: of the same scope, at about the same time, not calm."""
        first, last = members[0].heard - NEAR, members[-1].heard + NEAR
        for key, incident in self.found.items():
            if incident.calm_since is not None or scope_of(incident) not in {FLEET, scope}:
                continue
            times = self._times[key]
            position = bisect_left(times, first)
            if position < len(times) and times[position] <= last:
                return incident
        return None

    def _join(self, incident: Incident, fresh: Sequence[Dark]) -> None:
        self.found[incident.key] = incident
        self.joined[incident.key] += [one.uuid for one in fresh]
        times = self._times[incident.key]
        times += [one.heard for one in fresh]
        times.sort()

    def _begun(self, members: Sequence[Dark], scope: Scope) -> Incident:
        first, last = members[0].heard, members[-1].heard
        window = max(60.0, last - first)
        size = self._size(scope, len(members))
        expected = size * window / DAY * self._rate
        unlikely = max(chance(len(members), expected), 1e-12)
        kind = {
            ScopeKind.FLEET: IncidentKind.FLEET_OUTAGE,
            ScopeKind.SITE: IncidentKind.SITE_OUTAGE,
            ScopeKind.NETWORK: IncidentKind.NETWORK_OUTAGE,
        }[scope.kind]
        return Incident(
            key=f"{kind}/{scope.name[:80]}/{self._now.timestamp():.0f}/{members[0].uuid}",
            kind=kind,
            began_at=min(datetime.fromtimestamp(first, UTC), self._now),
            site=scope.name if scope.kind is ScopeKind.SITE else None,
            network=scope.name if scope.kind is ScopeKind.NETWORK else None,
            facts={
                "silent": len(members),
                "well": size,
                "minutes": -int(-window // 60),
                "years": min(1_000_000, int(window / unlikely / YEAR)),
            },
        )

    def _stragglers(self, left: Iterable[Dark]) -> None:
        """Let those join that were cut off at the same time, and are only missed later."""
        of_place: defaultdict[Scope, list[tuple[int, str]]] = defaultdict(list)
        by_size = sorted(self._times.items(), key=lambda pair: -len(pair[1]))
        for rank, (key, times) in enumerate(by_size):
            if (incident := self.found.get(key)) is not None:
                times.sort()
                of_place[scope_of(incident)].append((rank, key))
        for one in left:
            scopes = (
                FLEET,
                Scope(ScopeKind.SITE, one.site or ""),
                Scope(ScopeKind.NETWORK, one.network or ""),
            )
            for _, key in merge(*(of_place.get(scope, ()) for scope in scopes)):
                times = self._times[key]
                position = bisect_left(times, one.heard - EARLIER)
                if position < len(times) and times[position] <= one.due:
                    self.joined[key].append(one.uuid)
                    insort(times, one.heard)
                    break


def _has_single(pool: Iterable[Dark]) -> bool:
    return any(one.incident is None for one in pool)


def _within(one: Dark, scope: Scope) -> bool:
    match scope.kind:
        case ScopeKind.FLEET:
            return True
        case ScopeKind.SITE:
            return one.site == scope.name
        case ScopeKind.NETWORK:
            return one.network == scope.name


def scope_of(incident: Incident) -> Scope:
    """Return the place that an outage is of."""
    match incident.kind:
        case IncidentKind.SITE_OUTAGE:
            return Scope(ScopeKind.SITE, incident.site or "")
        case IncidentKind.NETWORK_OUTAGE:
            return Scope(ScopeKind.NETWORK, incident.network or "")
        case _:
            return FLEET
