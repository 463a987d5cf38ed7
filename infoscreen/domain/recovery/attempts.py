"""How far an attempt has come, as its command tells. What came of it when time passes, the decision tells."""

from dataclasses import replace
from datetime import datetime

from infoscreen.domain.commands import AT_THE_OUTLET, OPEN, ClientCommand, CommandStatus, Verification
from infoscreen.domain.power.outlet import PowerFault
from infoscreen.domain.recovery.ladder import Attempt, Outcome
from infoscreen.domain.refusals import is_refusal

OUTLET_REFUSES = frozenset(fault.value for fault in PowerFault) - {
    PowerFault.NOT_ALLOWED,
    PowerFault.CLIENT_IS_BACK,
}
"""Faults that say something of the outlet; after the others it is decided again at the next poll."""


def followed_attempt(attempt: Attempt, command: ClientCommand | None, now: datetime) -> Attempt:
    """Return an attempt that is under way after a look at its command; the same object if nothing is new.

    One whose command is not there was decided on by a daemon that died before it could request it. It is
    closed and not charged; whether it is still the right thing is decided again.
    """
    if command is None:
        return replace(attempt, ended_at=now, outcome=Outcome.NOT_SENT)
    accepted = command.accepted_at or command.started_at
    if accepted is None and command.status is CommandStatus.COMPLETED:
        accepted = command.finished_at
    after = attempt
    # Taken once: the attempt's own times move along when the host's clock is set, the command's do not.
    published = attempt.published_at or _within(attempt, command.published_at, now)
    accepted_at = attempt.accepted_at or _within(attempt, accepted, now)
    if published != attempt.published_at or accepted_at != attempt.accepted_at:
        after = replace(attempt, published_at=published, accepted_at=accepted_at)
    outcome = _outcome(command, accepted)
    if outcome is None:
        return after
    code = command.error_code if outcome in {Outcome.REFUSED, Outcome.NO_EFFECT} else None
    return replace(after, ended_at=now, outcome=outcome, error_code=code)


def _within(attempt: Attempt, at: datetime | None, now: datetime) -> datetime | None:
    """Return a command's time on the attempt's clock: not before its decision, and not in the future."""
    return None if at is None else min(max(at, attempt.decided_at), now)


def _outcome(command: ClientCommand, accepted: datetime | None) -> Outcome | None:
    if command.verification is Verification.VERIFIED:
        return Outcome.HELPED
    if command.verification is Verification.CONTRADICTED:
        return Outcome.NO_EFFECT
    if command.status is CommandStatus.FAILED and command.published_at is not None:
        refused = accepted is None or is_refusal(command.error_code)
        return Outcome.REFUSED if refused else Outcome.NO_EFFECT
    if command.status in OPEN:
        return None
    if command.action in AT_THE_OUTLET and command.error_code in OUTLET_REFUSES:
        return Outcome.REFUSED
    if command.published_at is None:
        return Outcome.NOT_SENT
    return Outcome.UNANSWERED if accepted is None else None
