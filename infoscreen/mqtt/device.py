"""The connection of a device, or of a simulator that speaks for many: MQTT 3.1.1, everything at QoS 1.

Serves the agent and the simulator. What is received stays with the broker until it is acknowledged.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence

from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.answers import Puback, Sendable
from infoscreen.mqtt.client import BrokerClient, last_will
from infoscreen.mqtt.connection import BrokerAddress

KEEPALIVE_SECONDS = 30


class DeviceClient(BrokerClient):
    """A device's connection, used once."""

    def __init__(
        self,
        address: BrokerAddress,
        tls: ssl.SSLContext | None,
        *,
        will: Sendable | None = None,
        clean_session: bool = False,
        explains: bool = False,
    ) -> None:
        """Prepare the connection; the broker sends the ``will`` when the connection is lost."""
        super().__init__(
            address,
            tls,
            keepalive=KEEPALIVE_SECONDS,
            explains=explains,
            will=last_will(will),
            clean_session=clean_session,
        )
        self.acknowledge_by_hand()

    @property
    def local_address(self) -> str | None:
        """Return our own IP address on this connection; None without one."""
        sock = self._paho.socket()
        with contextlib.suppress(OSError):
            return str(sock.getsockname()[0]) if isinstance(sock, socket.socket) else None
        return None

    async def subscribe_to(self, filters: Sequence[str]) -> None:
        """Subscribe; raise ``BrokerUnavailable`` if the broker does not answer."""
        await self.ask(self.subscribe([(one, 1) for one in filters]))

    async def unsubscribe_from(self, filters: Sequence[str]) -> None:
        """End subscriptions; raise ``BrokerUnavailable`` if the broker does not answer."""
        await self.ask(self.unsubscribe(list(filters)))

    async def send(self, message: Sendable, within: float) -> None:
        """Send and wait so many seconds for the PUBACK; raise ``BrokerUnavailable``."""
        puback: asyncio.Future[Puback | None] = asyncio.get_running_loop().create_future()

        def answered(answer: Puback | None) -> None:
            if not puback.done():
                puback.set_result(answer)

        self.post(message, answered)
        # Not wait_for: in Python 3.11 it can swallow a cancellation.
        await asyncio.wait([puback], timeout=within)
        if not puback.done():
            raise BrokerUnavailable("the broker did not answer in time")
        if puback.result() is None:
            raise BrokerUnavailable("the connection was lost before the broker answered")
