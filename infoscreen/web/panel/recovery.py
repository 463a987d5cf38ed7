"""What pages show of the recovery: the ladder as steps on a line, and outages with the clients in them."""

from dataclasses import dataclass

from infoscreen.domain.clients import Client
from infoscreen.domain.recovery import IncidentKind, Phase, Rung, Verb
from infoscreen.services.monitoring import Overview
from infoscreen.services.recovery.explain import ClientRecovery, RungShown
from infoscreen.storage import clients
from infoscreen.storage.engine import Connection
from infoscreen.storage.recovery import decisions
from infoscreen.storage.recovery.incidents import StoredIncident


@dataclass(frozen=True, slots=True)
class LadderStep:
    """One rung as a step; ``state`` is one of those of a command's stages."""

    rung: Rung
    state: str
    tried: int
    allowed: int


@dataclass(frozen=True, slots=True)
class Outage:
    """An incident under way with some of its ``affected`` clients; nobody takes care of ``held`` singly."""

    incident: StoredIncident
    clients: list[Client]
    held: int
    affected: int


def steps_of(known: ClientRecovery) -> list[LadderStep]:
    """Return the ladder of a client; none of it is lit while the ladder is at rest."""
    return [LadderStep(one.rung, _state(one, known), one.tried, one.allowed) for one in known.rungs]


def _state(shown: RungShown, known: ClientRecovery) -> str:
    decision = known.decision
    if known.phase is Phase.NEEDS_HUMAN and shown.rung is Rung.HUMAN:
        return "bad"
    if decision is not None and decision.verb is Verb.ACT and decision.rung is shown.rung:
        return "now"
    if shown.current and known.phase in {Phase.CLIMBING, Phase.PROVING} and shown.rung is not Rung.HUMAN:
        return "now"
    if shown.tried:
        return "done"
    return "skipped" if shown.allowed == 0 and shown.rung is not Rung.HUMAN else "ahead"


async def outages_of(connection: Connection, overview: Overview, limit: int) -> list[Outage]:
    """Return the outages under way, each with up to ``limit`` of the clients that it holds."""
    found = []
    for incident in overview.incidents:
        if incident.kind is IncidentKind.OBSERVER:
            continue
        held = overview.held.get(incident.id, 0)
        uuids = await decisions.held_by(connection, incident.id, limit)
        members = (await clients.get_many(connection, uuids)).values()
        ordered = sorted(members, key=lambda one: one.status_since, reverse=True)
        affected = await decisions.count_held_by(connection, incident.id)
        found.append(Outage(incident, ordered, held, affected))
    return found
