"""How a new device gets its account at the broker: one-time codes, and what they are exchanged for."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

ALPHABET = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
"""Letters and digits that are not taken for each other when they are read aloud or typed."""
CODE_LENGTH = 16
"""So many of 30 characters are 78 bits: nobody guesses one within its lifetime, whatever the rate."""
GROUP = 4

MOST_CODES = 200
"""Codes made at once: a batch of devices on a bench, and short enough to print."""
MOST_OPEN_CODES = 2_000
FREE_FAILURES = 5
"""Wrong codes from one address that cost nothing."""

PASSWORD = re.compile(r"[0-9a-f]{40}")
"""A device makes its own password, so that it can repeat a request whose answer was lost."""


@dataclass(frozen=True, slots=True)
class NewDevice:
    """An account at the broker that was just made. ``file`` is what ``infoscreen agent enroll`` reads."""

    uuid: str
    password: str = field(repr=False)
    host: str
    port: int
    ca: str | None
    file: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EnrolmentCode:
    """A one-time code as it is stored: its hash, for whom it is and who used it.

    ``uuid`` is None for any device that has no account yet. ``used_by`` is the hash of the password of the
    device that used it, which may do so again until ``expires_at``.
    """

    code_hash: str
    created_at: datetime
    expires_at: datetime
    uuid: str | None
    replaces: bool
    used_by: str | None = None
    used_uuid: str | None = None

    def admits(self, device: str, uuid: str | None, now: datetime, lifetime: timedelta) -> bool:
        """Tell whether a device with this hash and UUID may use the code.

        A code from the future is of a clock that was set back since, and no longer counts.
        """
        ends_at = min(self.expires_at, self.created_at + lifetime)
        if not self.created_at - timedelta(minutes=1) <= now < ends_at:
            return False
        if self.used_by is not None:
            return self.used_by == device and uuid in (None, self.used_uuid)
        return self.uuid is None or uuid in (None, self.uuid)


def new_code() -> str:
    """Return a new code, in groups for reading."""
    characters = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
    return "-".join(characters[start : start + GROUP] for start in range(0, CODE_LENGTH, GROUP))


def hash_of(code: str) -> str:
    """Return how a code is stored and looked up, however it was typed."""
    plain = re.sub(r"[\s-]", "", code).upper()
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()
