"""Restarts a broker whose ACL is not in force: it does not start with a broken one.

The broker helper does it, once an hour at most; so do we, for a helper that is not there.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from infoscreen.clock import Clock, until_woken
from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.errors import HelperMissing, HelperUnable, StoreUnavailable
from infoscreen.progress import SLACK_SECONDS, expect_within
from infoscreen.services.ports import BrokerRestarter
from infoscreen.storage import audit
from infoscreen.storage.engine import Store

log = logging.getLogger(__name__)

EVERY = timedelta(hours=1)
POLL_SECONDS = 300.0
HELPER_SECONDS = 120.0

DAEMON = Actor(None, "daemon", Role.ADMIN, "daemon")


class BrokerRepair:
    """Waits for the alarm of the canary, and has the broker restarted."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        helper: BrokerRestarter,
        open_since: Callable[[], datetime | None],
    ) -> None:
        """``open_since`` tells since when the ACL is not in force, None while it is."""
        self._store = store
        self._clock = clock
        self._helper = helper
        self._open_since = open_since
        self._woken = asyncio.Event()
        self._tried: float | None = None

    def wake(self) -> None:
        """Look now."""
        self._woken.set()

    async def run(self) -> None:
        """Look when woken, and every few minutes, until cancelled."""
        while True:
            expect_within(HELPER_SECONDS)
            await self.look()
            expect_within(POLL_SECONDS + SLACK_SECONDS)
            await until_woken(self._woken, POLL_SECONDS, self._clock)

    async def look(self) -> None:
        """Have the broker restarted if its ACL is not in force and that was not tried within the hour."""
        since, now = self._open_since(), self._clock.monotonic()
        if since is None or (self._tried is not None and now - self._tried < EVERY.total_seconds()):
            return
        self._tried = now
        outcome = await self._restart()
        level = logging.WARNING if outcome == "restarted" else logging.CRITICAL
        log.log(
            level,
            "the broker's ACL is not in force; restart of the broker",
            extra={"event": "broker_restart", "outcome": outcome, "since": since.isoformat()},
        )
        try:
            async with self._store.write() as connection:
                detail = {"reason": "acl_open", "since": since.isoformat(), "outcome": outcome}
                await audit.record(connection, self._clock.now(), DAEMON, "broker.restart", "broker", detail)
        except StoreUnavailable as error:
            log.error(  # noqa: TRY400 - a traceback tells a sysadmin nothing
                "the restart is not in the audit trail", extra={"event": "audit_lost", "error": str(error)}
            )

    async def _restart(self) -> str:
        try:
            return "restarted" if await self._helper.restart_broker() else "not_restarted"
        except HelperMissing:
            return "no_helper"
        except HelperUnable:
            return "helper_failed"
