"""Watches when certificates end: the broker's as it is presented, the CA's, and our own.

Opens nothing itself: where the certificates come from is given.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from typing import NoReturn

from infoscreen.clock import Clock, until_woken
from infoscreen.domain.alerts import Alert, AlertCode, Certificate, Severity, certificate_alert
from infoscreen.domain.certificates import Lifetime
from infoscreen.domain.codes import Fact
from infoscreen.domain.errors import PkiError
from infoscreen.progress import SLACK_SECONDS, expect_within

log = logging.getLogger(__name__)

LOOK_SECONDS = 3_600.0
PAUSE_SECONDS = 10.0
"""How far looks are apart at least, however often the connection changes."""
REMINDER = timedelta(days=1)

Source = Callable[[], Awaitable[Lifetime | None]]
"""Returns a certificate's dates, None if it cannot be seen now; raises ``PkiError`` if it cannot be read."""


class CertificateWatch:
    """Knows the certificates' dates, and raises alerts before they end."""

    def __init__(
        self,
        sources: Mapping[Certificate, Source],
        clock: Clock,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; ``on_change`` is told when other alerts are true than before."""
        self._sources = sources
        self._clock = clock
        self._on_change = on_change
        self._woken = asyncio.Event()
        self._unreadable: frozenset[Certificate] = frozenset()
        self._logged: dict[object, float] = {}  # by certificate
        self._told: list[Alert] = []
        self.lifetimes: dict[Certificate, Lifetime] = {}
        """What is known; a certificate that cannot be seen any more keeps its last dates."""

    def wake(self) -> None:
        """Look again soon."""
        self._woken.set()

    def alerts(self) -> Iterator[Alert]:
        """Return the alerts that are true now."""
        now = self._clock.now()
        for which in self._sources:
            if which in self._unreadable:
                yield Alert(Fact(AlertCode.CERTIFICATE_UNREADABLE, {"which": which}), Severity.CRITICAL)
            elif which in self.lifetimes:
                alert = certificate_alert(which, self.lifetimes[which], now)
                if alert is not None:
                    yield alert

    async def run(self) -> NoReturn:
        """Look each hour, and soon after ``wake``, until cancelled."""
        while True:
            expect_within()
            await self.look()
            expect_within(PAUSE_SECONDS + LOOK_SECONDS + SLACK_SECONDS)
            await self._clock.sleep(PAUSE_SECONDS)
            await until_woken(self._woken, LOOK_SECONDS, self._clock)

    async def look(self, *, quietly: bool = False) -> None:
        """Read all certificates, and log what is wrong, unless ``quietly``: at once, and then once a day."""
        self._woken.clear()
        unreadable = set()
        for which, source in self._sources.items():
            try:
                life = await source()
            except PkiError as error:
                unreadable.add(which)
                log.debug("a certificate cannot be read", extra={"certificate": which, "error": str(error)})
                continue
            if life is not None:
                self.lifetimes[which] = life
        self._unreadable = frozenset(unreadable)
        alerts = list(self.alerts())
        for alert in alerts if not quietly else ():
            self._log(alert)
        if alerts != self._told:
            self._told = alerts
            self._on_change()

    def _log(self, alert: Alert) -> None:
        which = alert.fact.arguments["which"]
        now, last = self._clock.monotonic(), self._logged.get(which)
        if alert in self._told and last is not None and now - last < REMINDER.total_seconds():
            return
        self._logged[which] = now
        log.log(
            logging.ERROR if alert.severity is Severity.CRITICAL else logging.WARNING,
            "a certificate needs attention",
            extra={
                "event": "certificate_alert",
                "code": alert.fact.code.value,
                **{name: str(value) for name, value in alert.fact.arguments.items()},
            },
        )
