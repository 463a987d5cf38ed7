"""One connection to the broker that carries the packets of many simulated devices: MQTT 3.1.1, QoS 1.

Keeps itself up with jittered backoff, and has as many packets in flight as it is given. Knows no devices:
whoever gives it packets keeps their order by waiting for the acknowledgement of one before the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, NamedTuple

import aiomqtt
import paho.mqtt.client as paho

from infoscreen.simulator.connection import KEEPALIVE_SECONDS, NO_DELAY, Backoff, Broker, DeviceClock, drop
from infoscreen.simulator.outbox import Packet
from infoscreen.simulator.traffic import Traffic

UNLIMITED = 0


@dataclass(frozen=True, slots=True)
class Account:
    """The broker's account for all lines; it may speak for every simulated device."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a line listens to, and who is told topic, payload and whether it was retained."""

    filters: Sequence[str]
    hear: Callable[[str, bytes, bool], None]
    keeps_session: bool
    """Whether the broker keeps what comes while the line is down."""


class _InFlight(NamedTuple):
    packet: Packet
    sent_at: datetime
    acknowledged: Callable[[Packet, datetime], None]


class Line:
    """A connection that is up or not. ``up`` and ``down`` are told whenever that changes."""

    def __init__(
        self,
        client_id: str,
        broker: Broker,
        account: Account,
        *,
        clock: DeviceClock,
        random: Random,
        traffic: Traffic,
        subscription: Subscription | None = None,
    ) -> None:
        self.up: Callable[[datetime], None] = _nobody
        self.down: Callable[[datetime], None] = _nobody
        self._client_id = client_id
        self._broker = broker
        self._account = account
        self._clock = clock
        self._backoff = Backoff(random)
        self._traffic = traffic
        self._subscription = subscription
        self._client: aiomqtt.Client | None = None
        self._in_flight: dict[int, _InFlight] = {}

    @property
    def is_up(self) -> bool:
        """Tell whether packets can be sent."""
        return self._client is not None

    @property
    def in_flight(self) -> int:
        """Return how many packets the broker has yet to acknowledge."""
        return len(self._in_flight)

    def send(self, packet: Packet, acknowledged: Callable[[Packet, datetime], None]) -> bool:
        """Send a packet, without waiting; False when the line is down.

        ``acknowledged`` is called when the broker has it, and never if the line goes down before that.
        """
        if self._client is None:
            return False
        info = _paho(self._client).publish(packet.topic, packet.payload, 1, packet.retain)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            return False
        self._traffic.sent += 1
        self._in_flight[info.mid] = _InFlight(packet, self._clock.now(), acknowledged)
        return True

    async def unsubscribe(self) -> None:
        """Stop listening, so that the broker keeps nothing for a line that never comes back."""
        if self._client is not None and self._subscription is not None:
            await self._client.unsubscribe(list(self._subscription.filters))

    async def run(self) -> None:
        """Stay connected until cancelled; then leave in order."""
        while True:
            began = self._clock.now()
            trouble = await self._connection()
            self._traffic.errors[trouble] += 1
            await self._clock.sleep(self._backoff.after(self._clock.now() - began))

    async def _connection(self) -> str:
        """Connect, and stay until the connection is lost; return why it could not be made or was lost."""
        client = self._new_client()
        try:
            async with client:
                _paho(client).on_publish = self._on_puback
                _paho(client).disable_logger()  # a tenth of the time of a packet, for lines that nobody sees
                if self._subscription is not None:
                    await client.subscribe([(one, 1) for one in self._subscription.filters])
                self._client = client
                self.up(self._clock.now())
                async for message in client.messages:
                    if self._subscription is not None and isinstance(message.payload, bytes):
                        self._subscription.hear(message.topic.value, message.payload, message.retain)
        except aiomqtt.MqttError as error:
            return str(error)
        finally:
            drop(client)
            if self._client is not None:
                self._client = None
                self._in_flight.clear()
                self.down(self._clock.now())
        return "the connection ended"

    def _new_client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self._account.user,
            password=self._account.password,
            identifier=self._client_id,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=self._subscription is None or not self._subscription.keeps_session,
            max_inflight_messages=UNLIMITED,
            keepalive=KEEPALIVE_SECONDS,
            tls_context=self._broker.tls,
            socket_options=NO_DELAY,
        )

    def _on_puback(self, client: paho.Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        sent = self._in_flight.pop(mid, None)
        if sent is None:
            return
        now = self._clock.now()
        self._traffic.acked += 1
        self._traffic.pubacks.add(now - sent.sent_at)
        sent.acknowledged(sent.packet, now)


def _paho(client: aiomqtt.Client) -> paho.Client:
    """Return the client below aiomqtt's, which can publish without a coroutine for each packet."""
    return client._client  # noqa: SLF001


def _nobody(now: datetime) -> None:
    """Be told, and do nothing."""
