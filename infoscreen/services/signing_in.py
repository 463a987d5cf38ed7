"""From a password, a code or a provider's word to a session."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor, Session, SignInWay, User
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import SecondFactorNeeded, Unauthenticated
from infoscreen.domain.second_factor import PENDING_LASTS
from infoscreen.services.logins import Knock, Logins, sha256
from infoscreen.services.second_factors import OfferedSecret, SecondFactors
from infoscreen.storage import accounts, audit, logins, second_factors
from infoscreen.storage.engine import Connection, Store

SESSION_LIFETIME = timedelta(days=7)
SESSION_IDLE = timedelta(hours=12)
DEVICE_LIFETIME = timedelta(days=365)
"""How long a device stays known after the last login on it."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A fresh session. ``token`` is the browser's and is not stored anywhere, and neither is ``device``.

    ``device`` marks the browser as one on which the user has signed in; None where it is marked already.
    """

    token: str
    session: Session
    user: User
    device: str | None


@dataclass(frozen=True, slots=True)
class Pending:
    """The password was right; a code is missing. ``set_up``: the user has to set the factor up first."""

    token: str
    set_up: bool


class SigningIn:
    """The steps of signing in."""

    def __init__(self, store: Store, clock: Clock, logins: Logins, factors: SecondFactors) -> None:
        self._store = store
        self._clock = clock
        self._logins = logins
        self._factors = factors

    async def with_password(
        self, username: str, password: str, knock: Knock, user_agent: str | None = None
    ) -> SignedIn | Pending:
        """Begin a session, which replaces the browser's one, or tell that a second factor is needed.

        Raises ``Unauthenticated`` for a wrong name or password (never telling which) and for a disabled user,
        ``TooManyAttempts`` while the next attempt must wait, ``Busy`` when too many sign in at once.
        """
        verified = await self._logins.verify(username, password, knock)
        now = self._clock.now()
        async with self._store.write() as connection:
            user = await accounts.hold_user(
                connection, verified.user.id, with_password=verified.password_hash
            )
            if user is None:
                raise Unauthenticated(ErrorCode.PASSWORD_CHANGED)
            if not (user.second_factor or self._factors.is_required(user.role)):
                return await begin_session(connection, user, knock, user_agent, SignInWay.PASSWORD, now)
            token = secrets.token_urlsafe(32)
            await second_factors.add_pending(connection, user.id, sha256(token), now + PENDING_LASTS, now)
        return Pending(token, set_up=not user.second_factor)

    async def with_code(self, token: str, code: str, knock: Knock, user_agent: str | None = None) -> SignedIn:
        """Begin the session of a sign-in that waits for its code.

        Raises ``SecondFactorNeeded`` when it has waited too long, else as ``SecondFactors.check`` does.
        """
        user = await self.user_of(token)
        if not user.second_factor:
            raise SecondFactorNeeded(ErrorCode.FACTOR_NOT_SET_UP)
        await self._factors.check(user, code, knock)
        now = self._clock.now()
        async with self._store.write() as connection:
            held = await self._take(connection, token, user.id)
            return await begin_session(connection, held, knock, user_agent, SignInWay.CODE, now)

    async def user_of(self, token: str | None) -> User:
        """Return whose sign-in waits under a token; raise ``Unauthenticated`` when none does."""
        async with self._store.read() as connection:
            found = None
            if token is not None:
                found = await second_factors.pending_user(connection, sha256(token), self._clock.now())
            user = None if found is None else await accounts.user_by_id(connection, found)
        if user is None or user.disabled:
            raise Unauthenticated(ErrorCode.SIGN_IN_EXPIRED)
        return user

    async def offer(self, token: str) -> OfferedSecret:
        """Return a secret to set up, to a user who must have a factor and has none."""
        user = await self.user_of(token)
        if user.second_factor:
            raise Unauthenticated(ErrorCode.SIGN_IN_EXPIRED)
        return await self._factors.offered(user) or await self._factors.offer(user)

    async def with_new_factor(
        self, token: str, code: str, knock: Knock, user_agent: str | None = None
    ) -> tuple[SignedIn, list[str]]:
        """Set the factor up with its first code and begin the session; return the recovery codes too."""
        user = await self.user_of(token)
        now = self._clock.now()
        async with self._store.write() as connection:
            held = await self._take(connection, token, user.id)
            if held.second_factor:
                raise Unauthenticated(ErrorCode.SIGN_IN_EXPIRED)
            actor = Actor(held.id, held.username, held.role, "session", knock.address)
            codes = await self._factors.confirm_in(connection, held, code, actor)
            await accounts.remove_sessions_of(connection, held.id)
            signed_in = await begin_session(connection, held, knock, user_agent, SignInWay.CODE, now)
        return signed_in, codes

    async def _take(self, connection: Connection, token: str, user_id: int) -> User:
        """Hold the user whose sign-in waits and use it up; a changed password, role or factor ends it."""
        held = await accounts.hold_user(connection, user_id)
        taken = await second_factors.take_pending(connection, sha256(token))
        if held is None or held.disabled or not taken:
            raise Unauthenticated(ErrorCode.SIGN_IN_EXPIRED)
        return held


async def begin_session(
    connection: Connection,
    user: User,
    knock: Knock,
    user_agent: str | None,
    way: SignInWay,
    now: datetime,
) -> SignedIn:
    """Add a session for a user who is held, in place of the browser's one."""
    token = secrets.token_urlsafe(32)
    session = Session(
        token_hash=sha256(token),
        user_id=user.id,
        created_at=now,
        last_seen_at=now,
        expires_at=now + SESSION_LIFETIME,
        address=knock.address,
        user_agent=_printable(user_agent or "", 300) or None,
        way=way,
    )
    if knock.session is not None:
        await accounts.remove_session(connection, sha256(knock.session))
    await accounts.remove_dead_sessions(connection, now, SESSION_IDLE)
    await accounts.add_session(connection, session)
    await accounts.change_user(connection, user.id, last_login_at=now)
    device = await _remember(connection, user.id, knock, now)
    actor = Actor(user.id, user.username, user.role, "session", knock.address)
    await audit.record(connection, now, actor, "auth.login", f"user/{user.username}", {"way": way})
    return SignedIn(token, session, user, device)


async def _remember(connection: Connection, user_id: int, knock: Knock, now: datetime) -> str | None:
    """Remember the device; return the token to mark it with unless it has one."""
    await logins.forget_devices(connection, user_id, before=now - DEVICE_LIFETIME)
    if knock.device is not None and await logins.knows_device(connection, user_id, sha256(knock.device)):
        await logins.touch_device(connection, sha256(knock.device), now)
        return None
    device = secrets.token_urlsafe(32)
    await logins.add_device(connection, user_id, sha256(device), now)
    return device


def _printable(text: str, length: int) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:length])
