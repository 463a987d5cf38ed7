"""Who has not come back with an opening: which places have more of them than chance explains.

When they were heard last says nothing: it was their closing, or when they were switched off.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from infoscreen.domain.recovery.cases import Case
from infoscreen.domain.recovery.coincidence import DAY, LEAST, UNLIKELY, chance
from infoscreen.domain.recovery.incidents import Incident, IncidentKind
from infoscreen.domain.recovery.silence import SMALLEST_NETWORK, YEAR, Cause, scope_of
from infoscreen.domain.recovery.snapshot import FLEET, Population, Scope, ScopeKind

SAME_OPENING = timedelta(hours=2)
"""An outage that began so shortly before goes on with those who were missed later."""

_KINDS = {
    ScopeKind.SITE: IncidentKind.SITE_OUTAGE,
    ScopeKind.NETWORK: IncidentKind.NETWORK_OUTAGE,
    ScopeKind.FLEET: IncidentKind.FLEET_OUTAGE,
}


def causes_of_openings(
    cases: Sequence[Case],
    outages: Mapping[str, Incident],
    populations: Mapping[Scope, Population],
    rate: float,
    now: datetime,
) -> list[Cause]:
    """Return the outages that clients which missed their opening are part of.

    ``rate`` is silences per client and day. Over a long night some die by chance; of each place, more than
    that have a cause in common.
    """
    found: list[Cause] = []
    left = list(cases)
    for kind in (ScopeKind.SITE, ScopeKind.NETWORK, ScopeKind.FLEET):
        of_place: defaultdict[str | None, list[Case]] = defaultdict(list)
        for case in left:
            patient = case.patient
            of_place[{ScopeKind.SITE: patient.site, ScopeKind.NETWORK: patient.network}.get(kind, "")].append(
                case
            )
        taken: set[str] = set()
        for place, some in of_place.items():
            cause = (
                None if place is None else _cause(some, Scope(kind, place), outages, populations, rate, now)
            )
            if cause is not None:
                found.append(cause)
                taken.update(cause.joined)
        left = [case for case in left if case.patient.uuid not in taken]
    return found


def _cause(
    some: Sequence[Case],
    scope: Scope,
    outages: Mapping[str, Incident],
    populations: Mapping[Scope, Population],
    rate: float,
    now: datetime,
) -> Cause | None:
    uuids = [case.patient.uuid for case in some]
    for incident in outages.values():
        begun_lately = incident.ended_at is None and incident.began_at >= now - SAME_OPENING
        if scope_of(incident) == scope and begun_lately and scope != FLEET:
            return Cause(replace(incident, members=incident.members + len(some)), uuids)
    population = populations.get(scope)
    size = max(len(some), 0 if population is None else population.clients)
    if len(some) < LEAST or (scope.kind is ScopeKind.NETWORK and size < SMALLEST_NETWORK):
        return None
    heard = [case.patient.last_alive for case in some if case.patient.last_alive is not None]
    night = (now - min(heard, default=now)).total_seconds()
    unlikely = chance(len(some), size * night / DAY * rate)
    if unlikely >= UNLIKELY:
        return None
    kind = _KINDS[scope.kind]
    return Cause(
        Incident(
            key=f"{kind}/{scope.name[:80]}/{now.timestamp():.0f}/{uuids[0]}",
            kind=kind,
            began_at=min(min(case.since for case in some), now),
            site=scope.name if scope.kind is ScopeKind.SITE else None,
            network=scope.name if scope.kind is ScopeKind.NETWORK else None,
            members=len(some),
            facts={
                "silent": len(some),
                "well": size,
                "minutes": max(1, round(night / 60)),
                "years": min(1_000_000, int(night / max(unlikely, 1e-12) / YEAR)),
            },
        ),
        uuids,
    )
