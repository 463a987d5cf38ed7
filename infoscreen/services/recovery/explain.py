"""What the recovery makes of a client or of the fleet, gathered for people who ask why. Only reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from infoscreen.domain.clients import Client
from infoscreen.domain.recovery import (
    Ending,
    IncidentKind,
    Phase,
    Reason,
    RecoveryPolicy,
    Rung,
    Verb,
    sentence,
)
from infoscreen.services.monitoring import Overview
from infoscreen.storage import attempts, decisions, ladders, pauses
from infoscreen.storage.attempts import StoredAttempt
from infoscreen.storage.decisions import StoredDecision
from infoscreen.storage.engine import Connection
from infoscreen.storage.pauses import Pause, Scope

LATEST_ATTEMPTS = 10


class Mode(StrEnum):
    """How the recovery is."""

    OFF = "off"
    """It has not looked at the fleet yet."""
    ACTIVE = "active"
    DRY_RUN = "dry_run"
    PAUSED = "paused"
    """Somebody has paused all of it."""


NEXT_STEPS = {
    Ending.DONE: "It is carried out now; then its effect has to show.",
    Ending.TIME: "It is decided anew when the time is over, or as soon as the client changes.",
    Ending.OBSERVATION: "It is decided anew on every poll; it ends when things are seen to have changed.",
    Ending.HUMAN: "Nothing further is done until somebody acts, or the client becomes well by itself.",
}


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
class Known:
    """All that is known of one client's recovery. ``decision`` is None while there is nothing to decide."""

    decision: StoredDecision | None
    phase: Phase
    rungs: Sequence[RungShown]
    attempts: Sequence[StoredAttempt]
    pauses: Sequence[Pause]

    @property
    def next_step(self) -> str:
        """Return what happens next, in English."""
        if self.decision is None:
            return "Nothing: there is nothing to recover."
        if self.decision.would and self.decision.verb is Verb.ACT:
            return "Nothing is sent in a dry run; the ladder goes on as if it had been."
        return NEXT_STEPS[self.decision.ending]

    @property
    def next_at(self) -> datetime | None:
        """Return when it happens at the latest, None when that is not a matter of time."""
        return None if self.decision is None else self.decision.until


@dataclass(frozen=True, slots=True)
class HoldShown:
    """What holds the recovery back everywhere, or at one site."""

    reason: Reason
    site: str | None
    since: datetime | None
    until: datetime | None
    sentence: str


async def explain(connection: Connection, client: Client, policy: RecoveryPolicy, now: datetime) -> Known:
    """Return what is known of the recovery of one client."""
    ladder = await ladders.get(connection, client.uuid)
    tried = await attempts.of_client(connection, client.uuid, LATEST_ATTEMPTS)
    decision = (await decisions.standing(connection, [client.uuid])).get(client.uuid)
    of_ladder = [
        one
        for one in tried
        if ladder is not None
        and one.decided_at >= ladder.began_at
        and one.published_at is not None
        and one.would is ladder.would
    ]
    at = None if ladder is None or ladder.phase is Phase.WELL else ladder.rung
    rungs = [
        RungShown(
            rung,
            policy.attempts(rung),
            sum(one.rung is rung for one in of_ladder),
            policy.wait(rung).total_seconds(),
            current=rung is at,
        )
        for rung in Rung
    ]
    covering = await pauses.of_client(connection, client.uuid, client.site, now)
    return Known(decision, Phase.REST if ladder is None else ladder.phase, rungs, tried, covering)


def mode_of(overview: Overview) -> Mode:
    """Return how the recovery is."""
    if any(pause.scope is Scope.FLEET for pause in overview.pauses):
        return Mode.PAUSED
    if overview.poll is None:
        return Mode.OFF
    # A pause that has ended since the last poll must not be shown any longer.
    return Mode(overview.poll.summary["without_pause"])


def holds_of(overview: Overview, language: str = "en") -> list[HoldShown]:
    """Return what holds back more than single clients."""
    holds: list[HoldShown] = []
    blind = None if overview.poll is None else overview.poll.summary["blind"]
    if blind is not None:
        reason, until = Reason(blind["reason"]), blind["until"]
        said = sentence(reason, blind["arguments"], language)
        ends = None if until is None else datetime.fromisoformat(until)
        since = [one.began_at for one in overview.incidents if one.kind is IncidentKind.OBSERVER]
        holds.append(HoldShown(reason, None, min(since, default=None), ends, said))
    for hold in [] if overview.poll is None else overview.poll.summary["outages"]:
        reason = Reason(hold["reason"])
        since = [one.began_at for one in overview.incidents if one.site == hold["site"]]
        ends = None if hold["until"] is None else datetime.fromisoformat(hold["until"])
        said = sentence(reason, hold["arguments"], language)
        holds.append(HoldShown(reason, hold["site"], min(since, default=None), ends, said))
    for pause in overview.pauses:
        if pause.scope is not Scope.CLIENT:
            said = sentence(Reason.PAUSED, {"why": pause.reason}, language)
            holds.append(HoldShown(Reason.PAUSED, pause.site, pause.created_at, pause.until, said))
    return holds
