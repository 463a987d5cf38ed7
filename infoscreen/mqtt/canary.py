"""The canary: proves again and again that the broker's ACL is in force.

After a SIGHUP that met a broken ACL file, mosquitto 2.0 allows everything and says so only in its log. So the
account of the probe, which may do nothing, publishes on a command topic that nobody has. If the daemon's side
hears it, devices can command each other. What the daemon itself publishes afterwards on the same topic proves
that it would have heard it.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from infoscreen.clock import Clock
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.answers import Puback
from infoscreen.mqtt.client import MQTT_5, BrokerClient
from infoscreen.mqtt.connection import BrokerAddress, load_tls
from infoscreen.services.ports import Outgoing

log = logging.getLogger(__name__)

TOPIC = "infoscreen/infoscreen-canary/commands"
"""No device's: the third level of a device is its UUID."""
ANSWER_SECONDS = 10.0
EVERY_SECONDS = 3_600.0
RETRY_SECONDS = 60.0


class AclState(StrEnum):
    """What is known of the broker's ACL."""

    UNKNOWN = "unknown"
    IN_FORCE = "in_force"
    OPEN = "open"


class Canary:
    """The newest finding, and how it is come by. ``hear`` gets what arrives on ``TOPIC``."""

    def __init__(self, clock: Clock, probe: BrokerAddress | None, on_change: Callable[[], None]) -> None:
        """Without a ``probe``, the state stays unknown."""
        self._clock = clock
        self._probe = probe
        self._on_change = on_change
        self._heard: set[bytes] = set()
        self._control: asyncio.Event = asyncio.Event()
        self._awaited = b""
        self.state = AclState.UNKNOWN
        self.checked_at: datetime | None = None
        self.open_since: datetime | None = None

    @property
    def is_possible(self) -> bool:
        """Tell whether there is an account to check with."""
        return self._probe is not None

    def hear(self, payload: bytes) -> None:
        """Take what arrived on ``TOPIC``."""
        if payload == self._awaited:
            self._control.set()
        elif len(self._heard) < 100:
            self._heard.add(payload[:100])

    async def check(self, ours: BrokerClient) -> AclState:
        """Send the canary, then the control over ``ours``, which is subscribed; return what is known now.

        Raises ``BrokerUnavailable`` if that cannot be done; the last finding stays.
        """
        if self._probe is None:
            return self.state
        canary, self._awaited = secrets.token_hex(16).encode(), secrets.token_hex(16).encode()
        self._control.clear()
        self._heard.clear()
        async with BrokerClient(
            self._probe, await load_tls(self._probe), version=MQTT_5, clean_start=True
        ) as probe:
            await _published(probe, canary)
        await _published(ours, self._awaited)
        waiting = asyncio.ensure_future(self._control.wait())
        try:
            await asyncio.wait([waiting], timeout=ANSWER_SECONDS)
        finally:
            waiting.cancel()
        if not self._control.is_set():
            raise BrokerUnavailable("the broker does not deliver what the daemon publishes for itself")
        self._found(AclState.OPEN if canary in self._heard else AclState.IN_FORCE)
        return self.state

    def _found(self, state: AclState) -> None:
        now = self._clock.now()
        self.state, self.checked_at = state, now
        if state is AclState.OPEN:
            self.open_since = self.open_since or now
            log.critical(
                "the broker's ACL is not in force: every device may command every other one. "
                "Restart the broker; it does not start with a broken ACL file",
                extra={"event": "broker_acl_open", "since": self.open_since.isoformat()},
            )
        elif self.open_since is not None:
            self.open_since = None
            log.warning("the broker's ACL is in force again", extra={"event": "broker_acl_in_force"})
        self._on_change()


async def _published(client: BrokerClient, payload: bytes) -> None:
    """Publish on ``TOPIC`` and wait until the broker has answered: 2.0 acknowledges also what it forbids."""
    answered: asyncio.Future[Puback | None] = asyncio.get_running_loop().create_future()

    def note(answer: Puback | None) -> None:
        if not answered.done():
            answered.set_result(answer)

    client.post(Outgoing(TOPIC, payload), note, expires_in=60)
    await asyncio.wait([answered], timeout=ANSWER_SECONDS)
    if not answered.done() or answered.result() is None:
        raise BrokerUnavailable("the broker did not answer in time")
