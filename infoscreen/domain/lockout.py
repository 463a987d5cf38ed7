"""The lockout: too many disruptive commands in a short time lock a client, from any source."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class LockoutPolicy:
    """``threshold`` disruptive commands that were really published within ``window`` lock the client."""

    threshold: int
    window: timedelta


def locked_until(published_at: Sequence[datetime], policy: LockoutPolicy, now: datetime) -> datetime | None:
    """Return when the client's lockout ends, or None while it is not locked.

    ``published_at`` are the times at which disruptive commands of one client left for the broker, in any
    order; commands that never left the server do not belong in it.
    """
    recent = sorted((at for at in published_at if at > now - policy.window), reverse=True)
    if len(recent) < policy.threshold:
        return None
    return recent[policy.threshold - 1] + policy.window
