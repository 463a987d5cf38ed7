"""The incidents of one decision in the making: which are open, which begin, and who joins them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

from infoscreen.domain.recovery.cases import Case
from infoscreen.domain.recovery.incidents import SETTLED_AFTER, Incident, IncidentKind
from infoscreen.domain.recovery.plan import Verb, Verdict
from infoscreen.domain.recovery.reasons import Reason


class IncidentBook:
    """Incidents by key, and the clients that have joined them in this decision."""

    __slots__ = ("incidents", "joined", "now")

    def __init__(self, incidents: Iterable[Incident], now: datetime) -> None:
        self.incidents = {one.key: one for one in incidents if one.ended_at is None}
        self.joined: defaultdict[str, list[str]] = defaultdict(list)
        self.now = now

    def open(self, *kinds: IncidentKind) -> dict[str, Incident]:
        """Return the open incidents of some kinds."""
        return {key: one for key, one in self.incidents.items() if one.ended_at is None and one.kind in kinds}

    def begin(self, kind: IncidentKind) -> None:
        """Begin an incident that is about no single clients."""
        key = f"{kind}/{self.now.timestamp():.0f}"
        self.incidents[key] = Incident(key=key, kind=kind, began_at=self.now)

    def join(self, key: str, cases: Iterable[Case]) -> None:
        """Let clients be part of an incident."""
        for case in cases:
            if case.ladder is not None:
                case.ladder = case.ladder.of_incident(key)
            self.joined[key].append(case.patient.uuid)


OUTAGE_REASONS: Mapping[IncidentKind, tuple[Reason, Reason]] = {
    IncidentKind.FLEET_OUTAGE: (Reason.FLEET_OUTAGE, Reason.FLEET_SETTLING),
    IncidentKind.SITE_OUTAGE: (Reason.SITE_OUTAGE, Reason.SITE_SETTLING),
    IncidentKind.NETWORK_OUTAGE: (Reason.NETWORK_OUTAGE, Reason.NETWORK_SETTLING),
}


def held_by(incident: Incident) -> Verdict:
    """Return the hold of an outage's members."""
    reason, settling = OUTAGE_REASONS[incident.kind]
    place: dict[str, str | int] = {}
    if incident.site is not None:
        place["site"] = incident.site
    if incident.network is not None:
        place["network"] = incident.network
    if incident.calm_since is not None:
        until = incident.calm_since + SETTLED_AFTER
        return Verdict(Verb.HOLD, settling, until, place, incident=incident.key)
    numbers = {"silent": incident.members, "well": incident.facts.get("well", incident.members)}
    arguments = {**numbers, **place}
    return Verdict(Verb.HOLD, reason, None, arguments, incident=incident.key)
