"""Accounts: signing in and out, users, sessions and API tokens. The panel, the API and the CLI all come here.

Secrets are random 256-bit tokens of which only the SHA-256 is stored; passwords are hashed with argon2id.
Nothing here logs a secret, or returns one except to the caller that has just made it.
"""

import logging
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor, ApiToken, Role, Session, SignInWay, User
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    SecondFactorNeeded,
    StoreUnavailable,
    Unauthenticated,
)
from infoscreen.domain.events import AccessChanged
from infoscreen.domain.faults import FieldFault
from infoscreen.services.bus import Bus
from infoscreen.services.logins import Knock, Logins, Verified, sha256
from infoscreen.services.passwords import Passwords
from infoscreen.services.second_factors import SecondFactors
from infoscreen.services.secrets import Secrets
from infoscreen.services.signing_in import SESSION_IDLE, SignedIn, SigningIn
from infoscreen.storage import accounts, audit, logins
from infoscreen.storage.engine import Store
from infoscreen.storage.paging import Page

log = logging.getLogger(__name__)

SEEN_EVERY = timedelta(minutes=1)
"""How exactly ``last_seen_at`` and ``last_used_at`` are kept; finer would make every request a write."""

TOKEN_PREFIX = "isc_"  # noqa: S105 - what an API token starts with, so that secret scanners know ours
USERNAME = re.compile(r"[A-Za-z0-9._@-]{1,100}")
TOKEN_NAME_LENGTH = 64
PASSWORD_LENGTHS = range(10, 1001)

CLI = Actor(None, "cli", Role.ADMIN, "cli")
"""Commands run on the host itself have all permissions and need no password."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A fresh API token. ``secret`` is shown once and is not stored anywhere."""

    secret: str
    token: ApiToken


class Accounts:
    """The use cases of accounts; each is one transaction and leaves a line in the audit trail."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        passwords: Passwords,
        bus: Bus | None = None,
        factors: SecondFactors | None = None,
    ) -> None:
        """Put the parts together; the command line, which is a process of its own, has no bus."""
        self._bus = bus
        self._store = store
        self._clock = clock
        self._passwords = passwords
        self._logins = Logins(store, clock, passwords)
        self.factors = factors or SecondFactors(store, clock, Secrets(), bus)
        self.signing_in = SigningIn(store, clock, self._logins, self.factors)

    # Signing in and out.

    async def login(
        self,
        username: str,
        password: str,
        knock: Knock,
        user_agent: str | None = None,
        code: str | None = None,
    ) -> SignedIn:
        """Start a session in one step; raise as ``SigningIn`` does, and ``SecondFactorNeeded``."""
        begun = await self.signing_in.with_password(username, password, knock, user_agent)
        if isinstance(begun, SignedIn):
            return begun
        if code is None:
            raise SecondFactorNeeded(ErrorCode.FACTOR_NOT_SET_UP if begun.set_up else ErrorCode.CODE_NEEDED)
        return await self.signing_in.with_code(begun.token, code, knock, user_agent)

    async def logout(self, token: str, address: str | None) -> None:
        """End the session; one that is over already is fine."""
        async with self._store.write() as connection:
            found = await accounts.session_of(connection, sha256(token))
            if found is None:
                return
            session, user = found
            if not await accounts.remove_session(connection, session.token_hash):
                return
            actor = _actor(user, "session", address)
            await audit.record(connection, self._clock.now(), actor, "auth.logout", _named(user))
        self._access_ended(user.id)

    async def actor_of_session(self, token: str, address: str | None) -> Actor | None:
        """Return who is signed in with this session; None when it is over or its user disabled."""
        now = self._clock.now()
        async with self._store.read() as connection:
            found = await accounts.session_of(connection, sha256(token))
        if found is None:
            return None
        session, user = found
        if user.disabled or not _is_live(session, now):
            return None
        if session.way is SignInWay.PASSWORD and self.factors.is_required(user.role):
            return None  # of before the role required more
        if now - session.last_seen_at >= SEEN_EVERY:
            # A full disk must not sign everybody out.
            with suppress(StoreUnavailable):
                async with self._store.write(at_once=True) as connection:
                    await accounts.touch_session(connection, session, now)
        return replace(_actor(user, "session", address), credential=session.token_hash)

    async def actor_of_token(self, secret: str, address: str | None) -> Actor | None:
        """Return whose API token this is, with the lower of both roles; None when it is not valid."""
        if not secret.startswith(TOKEN_PREFIX):
            return None
        now = self._clock.now()
        async with self._store.read() as connection:
            found = await accounts.token_of(connection, sha256(secret))
        if found is None:
            return None
        token, user = found
        if user.disabled or (token.expires_at is not None and now >= token.expires_at):
            return None
        if token.last_used_at is None or now - token.last_used_at >= SEEN_EVERY:
            with suppress(StoreUnavailable):
                async with self._store.write(at_once=True) as connection:
                    await accounts.touch_token(connection, token, now)
        return Actor(
            user.id,
            f"{user.username}/{token.name}",
            token.role.capped_at(user.role),
            "token",
            address,
            manages_accounts=token.manages_accounts,
            ends_at=token.expires_at,
            credential=sha256(secret),
        )

    # Sessions.

    @staticmethod
    def is_session(session: Session, token: str | None) -> bool:
        """Tell whether the browser's token is that of this session."""
        return token is not None and sha256(token) == session.token_hash

    async def sessions(self, user_id: int) -> list[Session]:
        """Return the browsers that a user is signed in with, the one used last first."""
        now = self._clock.now()
        async with self._store.read() as connection:
            return [one for one in await accounts.sessions_of(connection, user_id) if _is_live(one, now)]

    async def end_session(self, user_id: int, session_id: str, actor: Actor) -> None:
        """Sign one of a user's browsers out."""
        async with self._store.write() as connection:
            theirs = await accounts.sessions_of(connection, user_id)
            session = next((one for one in theirs if one.id == session_id), None)
            if session is None or not await accounts.remove_session(connection, session.token_hash):
                raise NotFound(ErrorCode.NO_SESSION)
            target = f"session/{session_id}"
            await audit.record(connection, self._clock.now(), actor, "session.end", target)
        self._access_ended(user_id)

    # Users.

    async def users(self, limit: int, cursor: str | None = None) -> Page[User]:
        """Return users in the order in which they were added."""
        async with self._store.read() as connection:
            return await accounts.users_page(connection, limit, cursor)

    async def user(self, user_id: int) -> User:
        """Return a user; raise ``NotFound``."""
        async with self._store.read() as connection:
            return _found(await accounts.user_by_id(connection, user_id))

    async def user_named(self, username: str) -> User:
        """Return the user of that name, whatever its case; raise ``NotFound``."""
        async with self._store.read() as connection:
            return _found(await accounts.user_by_name(connection, username))

    async def add_user(self, username: str, password: str, role: Role, actor: Actor) -> User:
        """Add a user; raise ``InvalidInput`` or, when the name is taken, ``Conflict``."""
        if not USERNAME.fullmatch(username):
            raise InvalidInput.of("username", FieldFault.NOT_A_USER_NAME)
        _refuse_bad_password(password)
        password_hash = await self._passwords.hash(password)
        now = self._clock.now()
        async with self._store.write() as connection:
            user = await accounts.add_user(connection, username, password_hash, role, now)
            if user is None:
                raise Conflict(ErrorCode.USER_EXISTS, username=username)
            await audit.record(connection, now, actor, "user.add", _named(user), {"role": role})
        return user

    async def set_password(
        self,
        user_id: int,
        password: str,
        actor: Actor,
        keep_session: str | None = None,
        *,
        revoke_tokens: bool = False,
        instead_of: str | None = None,
    ) -> None:
        """Give a user another password and end the sessions but the one with the token ``keep_session``.

        Known devices are forgotten; API tokens are revoked only if that is asked for. With the hash
        ``instead_of`` it raises ``Unauthenticated`` if that is no longer the password's.
        """
        _refuse_bad_password(password)
        password_hash = await self._passwords.hash(password)
        kept = [] if keep_session is None else [sha256(keep_session)]
        async with self._store.write() as connection:
            user = _found(await accounts.hold_user(connection, user_id))
            if instead_of not in (None, await accounts.password_hash(connection, user_id)):
                raise Unauthenticated(ErrorCode.PASSWORD_CHANGED)
            await accounts.change_user(connection, user_id, password_hash=password_hash)
            await accounts.remove_sessions_of(connection, user_id, kept)
            await logins.forget_devices(connection, user_id)
            revoked = await accounts.remove_tokens_of(connection, user_id) if revoke_tokens else 0
            now, detail = self._clock.now(), {"revoked_tokens": revoked}
            await audit.record(connection, now, actor, "user.password", _named(user), detail)
        self._access_ended(user_id)

    async def check_password(self, user: User, password: str, knock: Knock) -> Verified:
        """Return if it is the user's password; raise as ``login`` does."""
        return await self._logins.verify(user.username, password, knock)

    async def change_password(
        self, actor: Actor, current: str, new: str, knock: Knock, *, revoke_tokens: bool = False
    ) -> None:
        """Give the actor another password, if ``current`` is the one they have; see ``set_password``.

        Raises ``Unauthenticated`` and ``TooManyAttempts`` as ``login`` does, and ``InvalidInput``.
        """
        _refuse_bad_password(new)
        if actor.user_id is None:
            raise Forbidden(ErrorCode.PEOPLE_ONLY)
        user = await self.user(actor.user_id)
        verified = await self.check_password(user, current, knock)
        await self.set_password(
            user.id,
            new,
            actor,
            knock.session,
            revoke_tokens=revoke_tokens,
            instead_of=verified.password_hash,
        )

    async def change_user(
        self, user_id: int, actor: Actor, *, role: Role | None = None, disabled: bool | None = None
    ) -> User:
        """Give a user another role, lock them out at once (sessions, tokens and all), or let them in again.

        Another role ends all sessions. What is None stays as it is. Raises ``Conflict`` for the last admin.
        """
        async with self._store.write() as connection:
            held, other_admins = await accounts.hold_user_and_admins(connection, user_id)
            user = _found(held)
            if disabled or role not in (None, Role.ADMIN):
                _keep_an_admin(user, other_admins)
            now = self._clock.now()
            if role not in (None, user.role):
                await accounts.change_user(connection, user_id, role=role)
                await audit.record(connection, now, actor, "user.role", _named(user), {"role": role})
                await accounts.remove_sessions_of(connection, user_id)
            if disabled not in (None, user.disabled):
                await accounts.change_user(connection, user_id, disabled=disabled)
                action = "user.disable" if disabled else "user.enable"
                await audit.record(connection, now, actor, action, _named(user))
            if disabled:
                await accounts.remove_sessions_of(connection, user_id)
            changed = _found(await accounts.user_by_id(connection, user_id))
        self._access_ended(user_id)
        return changed

    async def remove_user(self, user_id: int, actor: Actor) -> None:
        """Remove a user, sessions and tokens and all; raise ``Conflict`` for the last admin."""
        async with self._store.write() as connection:
            held, other_admins = await accounts.hold_user_and_admins(connection, user_id)
            user = _found(held)
            _keep_an_admin(user, other_admins)
            await accounts.remove_user(connection, user_id)
            await audit.record(connection, self._clock.now(), actor, "user.remove", _named(user))
        self._access_ended(user_id)

    # API tokens.

    async def tokens(self, actor: Actor, limit: int, cursor: str | None = None) -> Page[ApiToken]:
        """Return the actor's own tokens, or everybody's to an admin."""
        owner = None if actor.role.may(Role.ADMIN) else actor.user_id
        async with self._store.read() as connection:
            return await accounts.tokens_page(connection, limit, cursor, owner)

    async def count_tokens(self, user_id: int) -> int:
        """Count a user's API tokens."""
        async with self._store.read() as connection:
            return await accounts.tokens_of(connection, user_id)

    async def create_token(
        self,
        user_id: int,
        name: str,
        role: Role,
        actor: Actor,
        expires_at: datetime | None = None,
        *,
        manages_accounts: bool = False,
    ) -> IssuedToken:
        """Make an API token for a user; only an admin makes one for somebody else.

        Raises ``Forbidden`` when the role is above the actor's or the user's own, or when the new token would
        outlive the one that makes it.
        """
        now = self._clock.now()
        if not 1 <= len(name) <= TOKEN_NAME_LENGTH or not name.isprintable():
            raise InvalidInput.of("name", FieldFault.NOT_A_TOKEN_NAME, most=TOKEN_NAME_LENGTH)
        if expires_at is not None and expires_at <= now:
            raise InvalidInput.of("expires_at", FieldFault.PASSED, at=expires_at)
        if actor.user_id != user_id and not actor.role.may(Role.ADMIN):
            raise Forbidden(ErrorCode.TOKENS_FOR_OTHERS)
        if actor.ends_at is not None and (expires_at is None or expires_at > actor.ends_at):
            raise Forbidden(ErrorCode.TOKEN_OUTLIVES, ends_at=actor.ends_at)
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        async with self._store.write() as connection:
            user = _found(await accounts.hold_user(connection, user_id))
            if actor.credential is not None and not await accounts.is_valid(connection, actor.credential):
                # It was taken away since the request began, as tokens are with a password.
                raise Unauthenticated(ErrorCode.ACCESS_ENDED)
            highest = user.role.capped_at(actor.role)
            if not highest.may(role):
                raise Forbidden(ErrorCode.TOKEN_ROLE_TOO_HIGH, role=role, highest=highest)
            token = await accounts.add_token(
                connection,
                token_hash=sha256(secret),
                name=name,
                user_id=user_id,
                role=role,
                now=now,
                expires_at=expires_at,
                manages_accounts=manages_accounts,
            )
            detail = {
                "user": user.username,
                "name": name,
                "role": role,
                "manages_accounts": manages_accounts,
            }
            await audit.record(connection, now, actor, "token.create", f"token/{token.id}", detail)
        return IssuedToken(secret, token)

    async def revoke_token(self, token_id: int, actor: Actor) -> None:
        """End an API token; somebody else's only as an admin, to others it does not exist."""
        async with self._store.write() as connection:
            token = await accounts.token_by_id(connection, token_id)
            if token is None or not (token.user_id == actor.user_id or actor.role.may(Role.ADMIN)):
                raise NotFound(ErrorCode.NO_TOKEN, id=str(token_id))
            if not await accounts.remove_token(connection, token_id):
                raise NotFound(ErrorCode.NO_TOKEN, id=str(token_id))
            now, target = self._clock.now(), f"token/{token_id}"
            await audit.record(connection, now, actor, "token.revoke", target, {"name": token.name})
        self._access_ended(token.user_id)

    def _access_ended(self, user_id: int) -> None:
        if self._bus is not None:
            self._bus.publish(AccessChanged(user_id))


def _actor(user: User, via: str, address: str | None) -> Actor:
    return Actor(user.id, user.username, user.role, via, address)


def _is_live(session: Session, now: datetime) -> bool:
    return now < session.expires_at and now - session.last_seen_at < SESSION_IDLE


def _named(user: User) -> str:
    return f"user/{user.username}"


def _found(user: User | None) -> User:
    if user is None:
        raise NotFound(ErrorCode.NO_USER)
    return user


def _keep_an_admin(user: User, others: int) -> None:
    if user.role is Role.ADMIN and not user.disabled and others == 0:
        raise Conflict(ErrorCode.LAST_ADMIN, username=user.username)


def _refuse_bad_password(password: str) -> None:
    if len(password) not in PASSWORD_LENGTHS:
        raise InvalidInput.of(
            "password",
            FieldFault.PASSWORD_LENGTH,
            length=len(password),
            least=PASSWORD_LENGTHS[0],
            most=PASSWORD_LENGTHS[-1],
        )
