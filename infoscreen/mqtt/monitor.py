"""The daemon's eye on the broker itself: failed logins, reloads, and whether the ACL is in force.

A connection of its own, so that a flood of log lines holds up nothing else. No message of a device comes in.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from infoscreen.clock import Clock, until_woken
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt import canary, diagnosis, login_log, signs_of_life
from infoscreen.mqtt.canary import Canary
from infoscreen.mqtt.client import MQTT_5, BrokerClient
from infoscreen.mqtt.connection import BrokerAddress, Reconnecting, load_tls
from infoscreen.mqtt.identity import Admission
from infoscreen.mqtt.login_log import LoginLog
from infoscreen.services.ports import BrokerHealth
from infoscreen.tasks import beside

log = logging.getLogger(__name__)

INFORMATION = "$SYS/broker/log/I"
RELOADED = b"Reloading config."


class BrokerMonitor:
    """Watches the broker; ``health`` is what was found."""

    def __init__(
        self,
        address: BrokerAddress,
        clock: Clock,
        *,
        probe: BrokerAddress | None,
        alarm_from: int,
        admission: Admission | None = None,
        on_change: Callable[[], None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing is connected before ``run``.

        Args:
            address: where to connect, as ``<client_id>-monitor``.
            clock: for waiting, and for the time of findings.
            probe: the same broker with the account of the probe; None: the ACL is not checked.
            alarm_from: so many failed logins in ten minutes are alarming.
            admission: awaited before each connection.
            on_change: called when the ACL was checked.
            on_failure: called for each failed login.
        """
        self._address = replace(address, client_id=f"{address.client_id}-monitor")
        self._admission = admission
        self._clock = clock
        self._due = asyncio.Event()
        self.logins = LoginLog(clock, alarm_from, on_failure)
        self.canary = Canary(clock, probe, on_change)
        self._link = Reconnecting("monitor", self._address, clock, lambda: None, diagnosis.answers)

    def health(self) -> BrokerHealth:
        """Return what is known as of now."""
        logins = self.logins.shown()
        return BrokerHealth(
            acl=self.canary.state.value,
            acl_checked_at=self.canary.checked_at,
            acl_open_since=self.canary.open_since,
            failed_logins=logins.recent,
            failed_logins_address=logins.address,
            failed_logins_alarm=logins.alarm,
        )

    async def run(self) -> NoReturn:
        """Watch until cancelled; trouble with the broker is waited out."""
        await self._link.run(self._watch)

    async def _watch(self) -> NoReturn:
        if self._admission is not None:
            await self._admission()
        async with BrokerClient(
            self._address, await load_tls(self._address), version=MQTT_5, clean_start=True
        ) as client:
            await client.ask(
                client.subscribe([(one, 0) for one in (login_log.TOPIC, INFORMATION, canary.TOPIC)])
            )
            self._link.up()
            async with beside(self._check(client)):
                async for message in signs_of_life.received(client):
                    if message.topic == login_log.TOPIC:
                        self.logins.note(message.payload)
                    elif message.topic == canary.TOPIC:
                        self.canary.hear(message.payload)
                    elif message.payload.endswith(RELOADED):
                        self._due.set()
        raise BrokerUnavailable("the connection ended")

    async def _check(self, client: BrokerClient) -> None:
        """Check at once, after each reload, and once an hour; more often while it cannot be done."""
        while self.canary.is_possible:
            self._due.clear()
            pause = canary.EVERY_SECONDS
            try:
                await self.canary.check(client)
            except BrokerUnavailable as error:
                pause = canary.RETRY_SECONDS
                log.warning(
                    "cannot check the broker's ACL, trying again",
                    extra={"event": "broker_acl_unchecked", "error": str(error)},
                )
                if client.is_lost:
                    return
            await until_woken(self._due, pause, self._clock)
