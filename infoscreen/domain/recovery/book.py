"""The incidents of one decision in the making: which are open, which begin, and who joins them."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from infoscreen.domain.recovery.cases import Case
from infoscreen.domain.recovery.incidents import Incident, IncidentKind


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
