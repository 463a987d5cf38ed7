"""Checking a name and a password, and slowing down those who guess. Nobody can lock an account for its owner.

Failures count for an account *and* an address together, and for an address with all its accounts; never for
an account alone. A device on which the owner has signed in before, and an open session, have counters of
their own and their own lane to the password check; the other lane bounds what guessing costs in all.
"""

import hashlib
import logging
import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from infoscreen.clock import Clock
from infoscreen.domain.accounts import (
    FREE_FAILURES,
    FREE_FAILURES_PER_ADDRESS,
    FREE_FAILURES_PER_DEVICE,
    User,
)
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Busy, TooManyAttempts, Unauthenticated
from infoscreen.services import attempts
from infoscreen.services.attempts import Counter, Lane
from infoscreen.services.passwords import Passwords
from infoscreen.storage import accounts, logins
from infoscreen.storage.engine import Connection, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Knock:
    """Who knocks: from where, and with what proof of having been here before."""

    address: str | None
    device: str | None = None
    """The token in the cookie of a device on which somebody has signed in."""
    session: str | None = None
    """The token of an open session."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Whose name and password it was, and the stored hash."""

    user: User
    password_hash: str


class Logins:
    """Checks passwords, and counts what was wrong."""

    def __init__(self, store: Store, clock: Clock, passwords: Passwords) -> None:
        self._store = store
        self._clock = clock
        self._passwords = passwords

    async def verify(self, username: str, password: str, knock: Knock) -> Verified:
        """Return the user whose name and password these are.

        The attempt is counted as failed before the password is looked at, so that many at the same time are
        not one; a right password takes it back. Raises ``Unauthenticated`` (never telling what was wrong),
        ``TooManyAttempts`` while the next attempt must wait, and ``Busy``.
        """
        async with self._store.write() as connection:
            user = await accounts.user_by_name(connection, username)
            stored = None if user is None else await accounts.password_hash(connection, user.id)
            proofs = [] if user is None else await proofs_of(connection, user.id, knock)
            lanes = [*([proof] for proof in proofs), _of_strangers(username, knock.address)]
            counters, wait = await attempts.count(connection, lanes, self._clock.now())
            if wait:
                # Leaving the block like this rolls it back: waiting attempts do not make the wait longer.
                log_failure("throttled", username, knock.address)
                raise TooManyAttempts(wait)
        try:
            is_right = await self._passwords.check(stored, password, known=counters[0] in proofs)
        except Busy:
            await self._take_back(counters)
            raise
        if user is None or stored is None or not is_right or user.disabled:
            log_failure("credentials", username, knock.address)
            raise Unauthenticated(ErrorCode.WRONG_CREDENTIALS)
        outdated, changed = self._passwords.is_outdated(stored), False
        fresh = await self._passwords.hash(password) if outdated else stored
        async with self._store.write() as connection:
            await attempts.succeed(connection, counters)
            if outdated and not await accounts.replace_password(connection, user.id, stored, fresh):
                fresh = await accounts.password_hash(connection, user.id) or stored
                changed = fresh != stored
        if changed and not await self._passwords.check(fresh, password, known=True):
            raise Unauthenticated(ErrorCode.PASSWORD_CHANGED)
        return Verified(user, fresh)

    async def _take_back(self, counters: Lane) -> None:
        async with self._store.write() as connection:
            await attempts.take_back(connection, counters)


async def proofs_of(connection: Connection, user_id: int, knock: Knock, what: str = "") -> list[Counter]:
    """Return the counters that belong to the owner alone, for what proves to be theirs.

    ``what`` is counted apart: the right password forgives no wrong codes.
    """
    proofs = []
    if knock.session is not None:
        found = await accounts.session_of(connection, sha256(knock.session))
        if found is not None and found[1].id == user_id:
            proofs.append(Counter(f"{what}session {sha256(knock.session)[:32]}", FREE_FAILURES_PER_DEVICE))
    if knock.device is not None and await logins.knows_device(connection, user_id, sha256(knock.device)):
        proofs.append(Counter(f"{what}device {sha256(knock.device)[:32]}", FREE_FAILURES_PER_DEVICE))
    return proofs


def _of_strangers(username: str, address: str | None) -> Lane:
    """Return the counters of an account from an address, and of the address. IPv6: of the /64 around it."""
    account = f"account {sha256(username.lower())[:32]}"
    if address is None:
        return [Counter(account, FREE_FAILURES)]
    network = network_of(address)
    return [
        Counter(f"{account} from {network}", FREE_FAILURES),
        Counter(f"address {network}", FREE_FAILURES_PER_ADDRESS, forgiven=False),
    ]


def network_of(address: str | None) -> str:
    """Return what failures of an address are counted under. IPv6: the /64 around it."""
    if address is None:
        return "nowhere"
    block = ip_address(address)
    return str(ip_network((int(block), 64), strict=False) if isinstance(block, IPv6Address) else block)


def log_failure(reason: str, username: str, address: str | None) -> None:
    """Log a failed sign-in. fail2ban reads this line."""
    # The address comes first and the name can hold nothing that looks like a field.
    log.warning(
        "login failed",
        extra={
            "event": "auth.login_failed",
            "address": address,
            "reason": reason,
            "username": re.sub(r"[^A-Za-z0-9._@-]", "?", username)[:100],
        },
    )


def sha256(secret: str) -> str:
    """Return how a secret is stored and looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
