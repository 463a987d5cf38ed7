"""Who may do what: roles, users, API tokens and how failed logins are slowed down."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class Role(StrEnum):
    """What someone may do; each role may all that the one before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def may(self, needed: "Role") -> bool:
        """Tell whether this role is enough where ``needed`` is asked for."""
        return _RANK[self] >= _RANK[needed]

    def capped_at(self, limit: "Role") -> "Role":
        """Return the lower of the two."""
        return limit if self.may(limit) else self


class SignInWay(StrEnum):
    """How a session was begun."""

    PASSWORD = "password"  # noqa: S105 - a word
    CODE = "code"
    """With a password and a code of the second factor."""
    PROVIDER = "provider"
    """At an OpenID Connect provider, which may ask for a factor of its own."""


_RANK = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Someone who can sign in. The password hash never leaves the storage room but for checking."""

    id: int
    username: str
    role: Role
    disabled: bool
    created_at: datetime
    last_login_at: datetime | None = None
    second_factor: bool = False
    """Whether a second factor is set up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A program's key. Only its SHA-256 is stored; the secret is shown once."""

    id: int
    name: str
    user_id: int
    role: Role
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    manages_accounts: bool = False
    """Whether it may manage users, tokens, sessions and passwords; only if it was made for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that is signed in. Only the SHA-256 of its token is stored."""

    token_hash: str
    user_id: int
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None
    way: SignInWay = SignInWay.PASSWORD

    @property
    def id(self) -> str:
        """Return what names the session in lists, which is of no use to sign in with."""
        return self.token_hash[:16]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a user of the panel, a program with a token, or the daemon itself (``user_id`` None).

    A token that was not made to manage accounts acts with ``manages_accounts`` False; ``ends_at`` is its end.
    ``credential`` is the stored hash of the session or token that it acts with.
    """

    user_id: int | None
    name: str
    role: Role
    via: str
    address: str | None = None
    manages_accounts: bool = True
    ends_at: datetime | None = None
    credential: str | None = field(default=None, repr=False)


FREE_FAILURES = 3
"""Failed logins in a row, of one account from one address, that cost nothing: people mistype."""

FREE_FAILURES_PER_ADDRESS = 10
"""The same for an address and all accounts together; a whole office may share one."""

FREE_FAILURES_PER_DEVICE = 10
"""The same for a device on which the owner of the account has signed in before."""

LONGEST_DELAY = timedelta(minutes=15)
CLOCK_DOUBT = timedelta(minutes=1)
"""A failure further in the future is of a clock that was set back since."""

FORGET_FAILURES_AFTER = timedelta(hours=24)


def login_blocked_until(
    failures: int, last_at: datetime, now: datetime, free: int = FREE_FAILURES
) -> datetime | None:
    """Return when the next login may be tried, or None when it may be tried now.

    An account as such is never locked: otherwise everybody could lock everybody out by guessing.

    The delay doubles with each failure past the ``free`` ones, from one second up to ``LONGEST_DELAY``. A
    failure from the future (``CLOCK_DOUBT``) must not lock people out until then.
    """
    if failures < free or last_at <= now - FORGET_FAILURES_AFTER or last_at > now + CLOCK_DOUBT:
        return None
    delay = min(timedelta(seconds=2 ** min(failures - free, 20)), LONGEST_DELAY)
    until = last_at + delay
    return until if until > now else None
