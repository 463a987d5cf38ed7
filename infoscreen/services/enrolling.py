"""Giving new devices their account at the broker, at once or by a one-time code.

The accounts themselves are the broker helper's; no password is stored here.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor, Role, login_blocked_until
from infoscreen.domain.enrolment import (
    FREE_FAILURES,
    MOST_OPEN_CODES,
    EnrolmentCode,
    NewDevice,
    hash_of,
    new_code,
)
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, TooManyAttempts, Unauthenticated
from infoscreen.services.logins import network_of, sha256
from infoscreen.services.ports import AccountMaker
from infoscreen.storage import audit, enrolments, logins
from infoscreen.storage.engine import Store

log = logging.getLogger(__name__)

KEEP_EXPIRED = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class IssuedCode:
    """A one-time code that was just made; it is shown once. ``uuid`` None: for any new device."""

    code: str
    uuid: str | None
    expires_at: datetime


class Enrolling:
    """The use cases of new devices; each leaves a line in the audit trail."""

    def __init__(
        self, store: Store, clock: Clock, helper: AccountMaker, code_lifetime: timedelta | None
    ) -> None:
        """Prepare; without a lifetime there are no codes."""
        self._store = store
        self._clock = clock
        self._helper = helper
        self._lifetime = code_lifetime

    @property
    def has_codes(self) -> bool:
        """Tell whether one-time codes are switched on."""
        return self._lifetime is not None

    async def add(self, uuid: str | None, actor: Actor, *, replace: bool) -> NewDevice:
        """Give a device an account at the broker now; None makes up its UUID.

        Raises ``Conflict`` if it has one and is not to be replaced, ``HelperMissing`` and ``HelperUnable``.
        """
        chosen = uuid or str(uuid4())
        await self._note(actor, "device.add", f"device/{chosen}", replace)
        return await self._helper.add_device(chosen, replace=replace)

    async def issue(self, uuids: Sequence[str | None], actor: Actor, *, replace: bool) -> list[IssuedCode]:
        """Make a code for each of the devices; None stands for any that has no account yet.

        Raises ``Conflict`` if codes are switched off or too many are open.
        """
        lifetime, now = self._require_codes(), self._clock.now()
        issued = [IssuedCode(new_code(), uuid, now + lifetime) for uuid in uuids]
        async with self._store.write() as connection:
            await enrolments.forget_expired(connection, now - KEEP_EXPIRED)
            if await enrolments.open_codes(connection, now) + len(issued) > MOST_OPEN_CODES:
                raise Conflict(ErrorCode.TOO_MANY_ENROLMENT_CODES, most=MOST_OPEN_CODES)
            stored = [
                EnrolmentCode(
                    hash_of(one.code), now, one.expires_at, one.uuid, replace and one.uuid is not None
                )
                for one in issued
            ]
            await enrolments.add(connection, stored)
            detail = {"codes": len(issued), "uuids": [uuid for uuid in uuids if uuid is not None]}
            await audit.record(connection, now, actor, "device.code", None, detail)
        return issued

    async def redeem(self, code: str, uuid: str | None, password: str, address: str | None) -> NewDevice:
        """Exchange a code for an account with the password that the device has made.

        The same device may repeat this until the code expires: its answer may have been lost. Wrong codes
        slow their address down.

        Raises:
            Unauthenticated: the code does not count, for whatever reason; which is not told.
            TooManyAttempts: the address has to wait.
            Conflict: the device has an account that the code does not replace, or codes are switched off.
        """
        lifetime = self._require_codes()
        counter, code_hash, device = f"enrol from {network_of(address)}", hash_of(code), sha256(password)
        now, chosen = self._clock.now(), str(uuid4())
        async with self._store.write() as connection:
            await logins.forget_old_failures(connection, now)
            failures = await logins.hold_failures(connection, counter, now)
            until = login_blocked_until(failures.failures, failures.last_at, now, FREE_FAILURES)
            if until is not None:
                raise TooManyAttempts(int((until - now).total_seconds()) + 1)
            held = await enrolments.hold(connection, code_hash)
            if held is None or not held.admits(device, uuid, now, lifetime):
                held = None
                await logins.add_failure(connection, counter, now)
            else:
                chosen = held.used_uuid or held.uuid or uuid or chosen
                await enrolments.use(connection, code_hash, device, chosen)
                if held.used_by is None:
                    actor = Actor(None, "enrolment code", Role.VIEWER, "code", address)
                    await audit.record(connection, now, actor, "device.enrol", f"device/{chosen}")
        if held is None:
            log.warning("enrolment failed", extra={"event": "enrolment_failed", "address": address})
            raise Unauthenticated(ErrorCode.WRONG_ENROLMENT_CODE)
        return await self._helper.add_device(chosen, password=password, replace=held.replaces)

    def _require_codes(self) -> timedelta:
        if self._lifetime is None:
            raise Conflict(ErrorCode.ENROLMENT_OFF)
        return self._lifetime

    async def _note(self, actor: Actor, action: str, target: str, replace: bool) -> None:
        async with self._store.write() as connection:
            await audit.record(connection, self._clock.now(), actor, action, target, {"replace": replace})
