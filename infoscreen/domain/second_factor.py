"""The second factor: six digits that an app computes from a shared secret and the time (TOTP, RFC 6238)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

STEP = timedelta(seconds=30)
DRIFT_STEPS = 1
"""So many steps early or late a code may be: phones are off by some seconds, and people type slowly."""

DIGITS = 6
RECOVERY_CODES = 10
RECOVERY_CODE_BYTES = 10
"""80 random bits, so that their SHA-256 is enough."""

OFFER_LASTS = timedelta(minutes=15)
"""How long a secret that was shown waits to be confirmed with a code."""

PENDING_LASTS = timedelta(minutes=5)
"""How long a sign-in whose password was right waits for its code."""

MOST_PENDING = 10
"""Such sign-ins of one user; the oldest is forgotten."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def step_at(now: datetime) -> int:
    """Return the number of the time step."""
    return (now - EPOCH) // STEP


def steps_at(now: datetime) -> range:
    """Return the time steps whose codes are taken."""
    step = step_at(now)
    return range(max(0, step - DRIFT_STEPS), step + DRIFT_STEPS + 1)


def plain(code: str) -> str:
    """Return a typed code without what people and apps put between its parts."""
    return "".join(code.split()).replace("-", "").lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """A user's second factor as it is stored: ``sealed`` counts, ``offered`` waits to be confirmed."""

    user_id: int
    sealed: str | None
    since: datetime | None
    last_step: int | None
    offered: str | None
    offered_at: datetime | None
