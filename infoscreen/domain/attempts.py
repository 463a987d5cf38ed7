"""What came of an attempt of the recovery, told by its command and by what is decided next."""

from datetime import datetime
from enum import StrEnum

from infoscreen.domain.commands import OPEN, ClientCommand
from infoscreen.domain.recovery import Decision, Phase, Reason


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    RECOVERED = "recovered"
    """The client was well again, and stayed so."""
    NO_EFFECT = "no_effect"
    """Its time passed, and the client was still unwell."""
    NOT_SENT = "not_sent"
    """The command never left the server; nothing is charged for it."""


STILL_AWAITED = frozenset(
    {
        Reason.ORDERED,
        Reason.WAITING_FOR_VERIFICATION,
        Reason.COMMAND_IN_FLIGHT,
        Reason.CONFIRMING,
        Reason.BROKER_DISCONNECTED,
        Reason.OBSERVER_GRACE,
        Reason.INGEST_LAG,
    }
)
"""While one of these stands nobody can tell yet."""


def never_sent(command: ClientCommand) -> bool:
    """Tell whether the command is over without ever having left the server."""
    return command.published_at is None and command.status not in OPEN


def outcome_after(decision: Decision | None, published_at: datetime | None) -> AttemptOutcome | None:
    """Return what came of a published attempt, given what is decided now; None while it is open.

    ``decision`` is None when there is nothing to decide for the client any more: it is well.
    """
    if published_at is None:
        return None
    if decision is None or decision.ladder is None or decision.ladder.phase is Phase.WELL:
        return AttemptOutcome.RECOVERED
    return None if decision.reason in STILL_AWAITED else AttemptOutcome.NO_EFFECT
