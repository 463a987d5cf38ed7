"""What the recovery makes of a client or of the fleet, gathered for people who ask why. Only reads."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from infoscreen.domain.clients import Client, Condition
from infoscreen.domain.recovery import (
    OUTAGES,
    Attempt,
    IncidentKind,
    Outcome,
    Phase,
    Reason,
    RecoveryPolicy,
    Rung,
    Trouble,
    Verb,
)
from infoscreen.domain.recovery.incidents import SETTLED_AFTER
from infoscreen.domain.recovery.ladder import allowed
from infoscreen.domain.recovery.reasons import Arguments
from infoscreen.services.monitoring import Overview
from infoscreen.storage.engine import Connection
from infoscreen.storage.recovery import acknowledgements, attempts, decisions, ladders, pauses
from infoscreen.storage.recovery.acknowledgements import StoredAcknowledgement
from infoscreen.storage.recovery.decisions import StoredDecision
from infoscreen.storage.recovery.incidents import StoredIncident
from infoscreen.storage.recovery.pauses import PauseScope, StoredPause

LATEST_ATTEMPTS = 10


class RecoveryMode(StrEnum):
    """How the recovery is."""

    OFF = "off"
    """It has not looked at the fleet yet."""
    ACTIVE = "active"
    HOLDING = "holding"
    """Active, and something holds it back for many clients."""
    DRY_RUN = "dry_run"
    PAUSED = "paused"
    """Somebody has paused all of it."""


@dataclass(frozen=True, slots=True)
class RungShown:
    """One rung as it is for a client: ``tried`` on its present ladder, of ``allowed``."""

    rung: Rung
    allowed: int
    tried: int
    wait_seconds: float
    current: bool

    @property
    def action(self) -> str:
        """Return the name of what is done on it."""
        return self.rung.action


@dataclass(frozen=True, slots=True)
class ClientRecovery:
    """All that is known of one client's recovery. ``decision`` is None while there is nothing to decide."""

    decision: StoredDecision | None
    phase: Phase
    rungs: Sequence[RungShown]
    attempts: Sequence[Attempt]
    pauses: Sequence[StoredPause]
    acknowledgement: StoredAcknowledgement | None

    @property
    def next_at(self) -> datetime | None:
        """Return when the next step is at the latest, None when that is not a matter of time."""
        return None if self.decision is None else self.decision.until


@dataclass(frozen=True, slots=True)
class HoldShown:
    """What holds the recovery back for more than single clients, as a reason with its arguments."""

    reason: Reason
    site: str | None
    since: datetime | None
    until: datetime | None
    arguments: Arguments = field(default_factory=dict)


async def explain(
    connection: Connection, client: Client, policy: RecoveryPolicy, now: datetime
) -> ClientRecovery:
    """Return what is known of the recovery of one client."""
    ladder = await ladders.get(connection, client.uuid)
    tried = await attempts.of_client(connection, client.uuid, LATEST_ATTEMPTS)
    decision = (await decisions.standing(connection, [client.uuid])).get(client.uuid)
    if decision is None and client.status is Condition.OFF_HOURS:
        decision = _off_hours(client, policy)
    of_ladder = [
        one
        for one in tried
        if ladder is not None and one.decided_at >= ladder.began_at and one.outcome is not Outcome.NOT_SENT
    ]
    at = None if ladder is None or ladder.phase is Phase.WELL else ladder.rung
    trouble = Trouble.SERVICE_FAILED if client.status is Condition.SERVICE_FAILED else Trouble.CRASHED
    tried_on = {rung: sum(one.rung is rung for one in of_ladder) for rung in Rung}
    rungs = [
        RungShown(
            rung,
            # As the decision counts them: no less than were tried when something else was wrong.
            max(tried_on[rung], allowed(rung, trouble, policy)),
            tried_on[rung],
            policy.wait(rung).total_seconds(),
            current=rung is at,
        )
        for rung in Rung
    ]
    covering = await pauses.of_client(connection, client.uuid, client.site, now)
    taken = await acknowledgements.of_client(connection, client.uuid, now)
    phase = Phase.REST if ladder is None else ladder.phase
    return ClientRecovery(decision, phase, rungs, tried, covering, taken)


def _off_hours(client: Client, policy: RecoveryPolicy) -> StoredDecision:
    """Return the hold of a client that is dark outside its hours: nothing is decided, so none is stored."""
    return StoredDecision(
        client_uuid=client.uuid,
        verb=Verb.HOLD,
        reason=Reason.OFF_HOURS,
        arguments={},
        rung=None,
        attempt=None,
        until=client.expected_by if client.within_hours else client.next_change_at,
        would=not policy.enabled,
        incident_id=None,
        first_at=client.status_since,
        first_poll=0,
    )


def mode_of(overview: Overview) -> RecoveryMode:
    """Return how the recovery is."""
    if any(pause.scope is PauseScope.FLEET for pause in overview.pauses):
        return RecoveryMode.PAUSED
    if overview.poll is None:
        return RecoveryMode.OFF
    # A pause that has ended since the last poll must not be shown any longer.
    mode = RecoveryMode(overview.poll.summary.get("without_pause", "off"))
    if mode is RecoveryMode.ACTIVE and any(one.reason is not Reason.PAUSED for one in holds_of(overview)):
        return RecoveryMode.HOLDING
    return mode


OF_OUTAGES = {
    IncidentKind.FLEET_OUTAGE: (Reason.FLEET_OUTAGE, Reason.FLEET_SETTLING),
    IncidentKind.SITE_OUTAGE: (Reason.SITE_OUTAGE, Reason.SITE_SETTLING),
    IncidentKind.NETWORK_OUTAGE: (Reason.NETWORK_OUTAGE, Reason.NETWORK_SETTLING),
}


def holds_of(overview: Overview) -> list[HoldShown]:
    """Return what holds back more than single clients."""
    holds: list[HoldShown] = []
    blind = None if overview.poll is None else overview.poll.summary.get("blind")
    if blind is not None:
        since = [one.began_at for one in overview.incidents if one.kind is IncidentKind.OBSERVER]
        holds.append(
            HoldShown(Reason(blind["reason"]), None, min(since, default=None), None, blind["arguments"])
        )
    holds += [hold for one in overview.incidents if (hold := _hold_of(one)) is not None]
    holds += [
        HoldShown(Reason.PAUSED, pause.site, pause.created_at, pause.until, {"why": pause.reason})
        for pause in overview.pauses
        if pause.scope is not PauseScope.CLIENT
    ]
    return holds


def _hold_of(incident: StoredIncident) -> HoldShown | None:
    if incident.kind in OUTAGES:
        reason, settling = OF_OUTAGES[incident.kind]
        arguments: dict[str, str | int] = {
            "silent": incident.members,
            "well": incident.facts.get("well", incident.members),
        }
        if incident.site is not None:
            arguments["site"] = incident.site
        if incident.network is not None:
            arguments["network"] = incident.network
        until = None if incident.calm_since is None else incident.calm_since + SETTLED_AFTER
        shown = reason if until is None else settling
        return HoldShown(shown, incident.site, incident.began_at, until, arguments)
    if incident.kind is IncidentKind.COMMANDS_UNANSWERED:
        return HoldShown(Reason.COMMANDS_UNANSWERED, None, incident.began_at, None)
    if incident.kind is IncidentKind.ALIKE and incident.stopped_at is not None:
        arguments = {"alike": incident.members, "action": "restart_app"}
        return HoldShown(Reason.NO_EFFECT, None, incident.stopped_at, None, arguments)
    return None
