"""Refusals: a device that says no has tried nothing, so it is neither charged nor counted."""

from infoscreen.domain.commands import ClientCommand, CommandStatus

EXPIRED = "expired"

REFUSALS = frozenset(
    {
        *(EXPIRED, "busy", "unsupported", "unsupported_action", "dry_run"),
        *("journal_lost", "journal_unavailable"),
    }
)
"""What devices answer instead of carrying a command out."""

WRONG_CLOCK_SECONDS = 60.0
"""From here on a clock explains why a command seems to have expired."""


def is_refusal(error_code: str | None) -> bool:
    """Tell whether a device that failed with this code has not even tried."""
    return error_code in REFUSALS


def is_refused(command: ClientCommand) -> bool:
    """Tell whether the device refused the command; what it had begun was no refusal."""
    failed = command.status is CommandStatus.FAILED
    return failed and command.started_at is None and is_refusal(command.error_code)


def wrong_clock_seconds(command: ClientCommand) -> float | None:
    """Return how far the clock is off that makes the device refuse its commands, None if it is not that."""
    skew = command.refused_skew_seconds
    if not is_refused(command) or command.error_code != EXPIRED or skew is None:
        return None
    return skew if abs(skew) >= WRONG_CLOCK_SECONDS else None
