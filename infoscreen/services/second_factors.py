"""Second factors: setting one up, checking its codes, and taking it away.

The shared secret is stored sealed, recovery codes as hashes; both are returned to nobody but the caller that
has just made them. A code counts once.
"""

import base64
import logging
import secrets as randomness
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest

import pyotp

from infoscreen.clock import Clock
from infoscreen.domain.accounts import FREE_FAILURES, Actor, Role, User
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import (
    Conflict,
    Forbidden,
    NotFound,
    SecretUnreadable,
    TooManyAttempts,
    Unauthenticated,
)
from infoscreen.domain.events import AccessChanged
from infoscreen.domain.second_factor import (
    DIGITS,
    OFFER_LASTS,
    RECOVERY_CODE_BYTES,
    RECOVERY_CODES,
    Factor,
    plain,
    step_at,
    steps_at,
)
from infoscreen.services import attempts
from infoscreen.services.attempts import Counter
from infoscreen.services.bus import Bus
from infoscreen.services.logins import Knock, log_failure, proofs_of, sha256
from infoscreen.services.secrets import Secrets
from infoscreen.storage import accounts, audit, second_factors
from infoscreen.storage.engine import Connection, Store

log = logging.getLogger(__name__)

ISSUER = "infoscreen"
CODE = "code "
"""Failures of codes are counted under keys that begin so."""


@dataclass(frozen=True, slots=True)
class FactorState:
    """What a user has. ``trouble`` says why codes of the app cannot be checked at present."""

    since: datetime | None
    codes_left: int
    required: bool
    trouble: SecretUnreadable | None


@dataclass(frozen=True, slots=True)
class OfferedSecret:
    """A secret to put into an app: as text, and as the address that apps read from a QR code."""

    secret: str
    uri: str


class SecondFactors:
    """The use cases of second factors; each is one transaction and leaves a line in the audit trail."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        secrets: Secrets,
        bus: Bus | None = None,
        required: Collection[Role] = (),
    ) -> None:
        """``required`` are the roles that sign in with a second factor only."""
        self._store = store
        self._clock = clock
        self._secrets = secrets
        self._bus = bus
        self._required = frozenset(required)

    def is_required(self, role: Role) -> bool:
        """Tell whether users of the role must have a second factor."""
        return role in self._required

    async def state(self, user: User) -> FactorState:
        """Return what a user has."""
        async with self._store.read() as connection:
            factor = await second_factors.factor_of(connection, user.id)
            left = await second_factors.codes_left(connection, user.id)
        trouble = None
        if factor is not None and factor.sealed is not None:
            try:
                self._unsealed(factor.sealed, user.id)
            except SecretUnreadable as unreadable:
                trouble = unreadable
        return FactorState(
            None if factor is None else factor.since, left, self.is_required(user.role), trouble
        )

    async def offer(self, user: User) -> OfferedSecret:
        """Make a secret that counts once it is confirmed; raise ``SecretUnreadable`` without a key."""
        secret = pyotp.random_base32()
        sealed = self._secrets.seal(secret, purpose(user.id))
        async with self._store.write() as connection:
            if not await accounts.hold_user(connection, user.id):
                raise NotFound(ErrorCode.NO_USER)
            await second_factors.offer(connection, user.id, sealed, self._clock.now())
        return _offer(secret, user)

    async def offered(self, user: User) -> OfferedSecret | None:
        """Return the secret that waits to be confirmed."""
        async with self._store.read() as connection:
            factor = await second_factors.factor_of(connection, user.id)
        sealed = self._open_offer(factor)
        return None if sealed is None else _offer(self._unsealed(sealed, user.id), user)

    async def confirm(
        self, user: User, code: str, actor: Actor, keep_session: str | None = None
    ) -> list[str]:
        """Let the offered secret count, and return new recovery codes. Other sessions end.

        Raises ``Unauthenticated`` for a wrong code, ``Conflict`` when no secret waits.
        """
        async with self._store.write() as connection:
            await accounts.hold_user(connection, user.id)
            codes = await self.confirm_in(connection, user, code, actor)
            kept = [] if keep_session is None else [sha256(keep_session)]
            await accounts.remove_sessions_of(connection, user.id, kept)
        self._access_ended(user.id)
        return codes

    async def confirm_in(self, connection: Connection, user: User, code: str, actor: Actor) -> list[str]:
        """Do the same within a transaction that holds the user; all sessions stay."""
        now = self._clock.now()
        sealed = self._open_offer(await second_factors.factor_of(connection, user.id))
        if sealed is None:
            raise Conflict(ErrorCode.NO_FACTOR_OFFERED)
        step = _step_of(code, self._unsealed(sealed, user.id), now)
        if step is None or not await second_factors.confirm(connection, user.id, sealed, step, now):
            raise Unauthenticated(ErrorCode.WRONG_CODE)
        await audit.record(connection, now, actor, "factor.set", f"user/{user.username}")
        return await _new_codes(connection, user.id)

    async def check(self, user: User, code: str, knock: Knock) -> None:
        """Return if the code is right; it and those before it are used up.

        Guesses are counted for the account as a whole, apart from those on its own devices: only who has the
        password can make any. Raises ``Unauthenticated``, ``TooManyAttempts``, ``SecretUnreadable``.
        """
        now, trouble, right = self._clock.now(), None, False
        async with self._store.write() as connection:
            proofs = await proofs_of(connection, user.id, knock, CODE)
            strangers = [Counter(f"{CODE}account {user.id}", FREE_FAILURES)]
            lane, wait = await attempts.count(connection, [*([one] for one in proofs), strangers], now)
            if wait:
                log_failure("throttled", user.username, knock.address)
                raise TooManyAttempts(wait)
            try:
                right = await self._is_right(connection, user.id, code, now)
            except SecretUnreadable as unreadable:
                trouble = unreadable
                await attempts.take_back(connection, lane)
            if right:
                await attempts.succeed(connection, lane)
        if trouble is not None:
            log.error(
                "a second factor cannot be read",
                extra={"event": "auth.factor_unreadable", "error": str(trouble)},
            )
            raise trouble
        if not right:
            log_failure("code", user.username, knock.address)
            raise Unauthenticated(ErrorCode.WRONG_CODE)

    async def renew_codes(self, user: User, code: str, actor: Actor, knock: Knock) -> list[str]:
        """Replace the recovery codes, if ``code`` is right, and return the new ones; see ``check``."""
        await self.check(user, code, knock)
        async with self._store.write() as connection:
            await accounts.hold_user(connection, user.id)
            factor = await second_factors.factor_of(connection, user.id)
            if factor is None or factor.sealed is None:
                raise Conflict(ErrorCode.NO_FACTOR)
            codes = await _new_codes(connection, user.id)
            await audit.record(connection, self._clock.now(), actor, "factor.codes", f"user/{user.username}")
        return codes

    async def remove(self, user: User, code: str, actor: Actor, knock: Knock) -> None:
        """Take one's own factor away, if ``code`` is right and the role does without. Other sessions end."""
        if self.is_required(user.role):
            raise Forbidden(ErrorCode.FACTOR_REQUIRED)
        await self.check(user, code, knock)
        kept = [] if knock.session is None else [sha256(knock.session)]
        await self._take_away(user, actor, kept)

    async def reset(self, user: User, actor: Actor) -> None:
        """Take somebody's factor away: phone and recovery codes are lost. All their sessions end."""
        await self._take_away(user, actor, ())

    async def _take_away(self, user: User, actor: Actor, kept: Collection[str]) -> None:
        async with self._store.write() as connection:
            await accounts.hold_user(connection, user.id)
            if not await second_factors.remove(connection, user.id):
                raise Conflict(ErrorCode.NO_FACTOR)
            await accounts.remove_sessions_of(connection, user.id, list(kept))
            await audit.record(connection, self._clock.now(), actor, "factor.remove", f"user/{user.username}")
        self._access_ended(user.id)

    async def _is_right(self, connection: Connection, user_id: int, code: str, now: datetime) -> bool:
        typed = plain(code)
        if await second_factors.use_code(connection, user_id, sha256(typed)):
            return True
        factor = await second_factors.factor_of(connection, user_id)
        if factor is None or factor.sealed is None or not typed:
            return False
        step = _step_of(typed, self._unsealed(factor.sealed, user_id), now)
        newest = steps_at(now)[-1]
        return step is not None and await second_factors.use_step(
            connection, user_id, factor.sealed, step, newest
        )

    def _open_offer(self, factor: Factor | None) -> str | None:
        if factor is None or factor.offered is None or factor.offered_at is None:
            return None
        return factor.offered if self._clock.now() < factor.offered_at + OFFER_LASTS else None

    def _unsealed(self, sealed: str, user_id: int) -> str:
        return self._secrets.unseal(sealed, purpose(user_id))

    def _access_ended(self, user_id: int) -> None:
        if self._bus is not None:
            self._bus.publish(AccessChanged(user_id))


def purpose(user_id: int) -> str:
    """Return what the secret is bound to."""
    return f"second factor of user {user_id}"


def _offer(secret: str, user: User) -> OfferedSecret:
    return OfferedSecret(secret, pyotp.TOTP(secret).provisioning_uri(name=user.username, issuer_name=ISSUER))


def _step_of(code: str, secret: str, now: datetime) -> int | None:
    """Return the time step whose code this is, of those that are taken now."""
    typed = plain(code)
    if len(typed) != DIGITS or not (typed.isascii() and typed.isdigit()):
        return None
    totp = pyotp.TOTP(secret, digits=DIGITS)
    right = [step for step in steps_at(now) if compare_digest(totp.generate_otp(step), typed)]
    # Should two steps have the same code, the one of now counts.
    return min(right, key=lambda step: abs(step - step_at(now)), default=None)


async def _new_codes(connection: Connection, user_id: int) -> list[str]:
    codes = [
        base64.b32encode(randomness.token_bytes(RECOVERY_CODE_BYTES)).decode().lower()
        for _ in range(RECOVERY_CODES)
    ]
    await second_factors.set_codes(connection, user_id, [sha256(code) for code in codes])
    return [f"{code[:4]}-{code[4:8]}-{code[8:12]}-{code[12:]}" for code in codes]
