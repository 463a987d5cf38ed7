"""One connection to the broker that carries the packets of many simulated devices: MQTT 3.1.1, QoS 1.

Keeps itself up with jittered backoff, and has as many packets in flight as it is given. Knows no devices:
callers keep the order of packets by waiting for the acknowledgement of one before the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from infoscreen.agent.protocol.packets import Packet
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.answers import Puback
from infoscreen.mqtt.device import DeviceClient
from infoscreen.simulator.connection import Backoff, DeviceClock, Endpoint
from infoscreen.simulator.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Account:
    """The broker's account for all lines; it may speak for every simulated device."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TopicSubscription:
    """What a line listens to, and who is told topic, payload and whether it was retained."""

    filters: Sequence[str]
    hear: Callable[[str, bytes, bool], None]
    keeps_session: bool
    """Whether the broker keeps what comes while the line is down."""


class Line:
    """A connection that is up or not. ``up`` and ``down`` are told whenever that changes."""

    def __init__(
        self,
        client_id: str,
        broker: Endpoint,
        account: Account,
        *,
        clock: DeviceClock,
        random: Random,
        traffic: Traffic,
        subscription: TopicSubscription | None = None,
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
        self._client: DeviceClient | None = None
        self._in_flight = 0

    @property
    def is_up(self) -> bool:
        """Tell whether packets can be sent."""
        return self._client is not None

    @property
    def in_flight(self) -> int:
        """Return how many packets the broker has yet to acknowledge."""
        return self._in_flight

    def send(self, packet: Packet, acknowledged: Callable[[Packet, datetime], None]) -> bool:
        """Send a packet, without waiting; False when the line is down.

        ``acknowledged`` is called when the broker has it, and never if the line goes down before that.
        """
        client = self._client
        if client is None:
            return False
        sent_at = self._clock.now()

        def answered(answer: Puback | None) -> None:
            if answer is None or client is not self._client:
                return
            now = self._clock.now()
            self._in_flight -= 1
            self._traffic.acked += 1
            self._traffic.pubacks.add(now - sent_at)
            acknowledged(packet, now)

        try:
            client.post(packet, answered)
        except BrokerUnavailable:
            return False
        self._traffic.sent += 1
        self._in_flight += 1
        return True

    async def unsubscribe(self) -> None:
        """Stop listening, so that the broker keeps nothing for a line that never comes back."""
        if self._client is not None and self._subscription is not None:
            await self._client.unsubscribe_from(self._subscription.filters)

    async def run(self) -> None:
        """Stay connected until cancelled; then leave in order."""
        while True:
            began = self._clock.now()
            trouble = await self._connection()
            self._traffic.errors[trouble] += 1
            await self._clock.sleep(self._backoff.after(self._clock.now() - began))

    async def _connection(self) -> str:
        """Connect, and stay until the connection is lost; return why it could not be made or was lost."""
        client = None
        try:
            client = self._new_client()
            async with client:
                if self._subscription is not None:
                    await client.subscribe_to(self._subscription.filters)
                self._client = client
                self.up(self._clock.now())
                async for message in client.received():
                    if self._subscription is not None:
                        self._subscription.hear(message.topic, message.payload, message.retain)
        except BrokerUnavailable as error:
            return str(error)
        finally:
            if client is not None:
                client.drop()
            if self._client is not None:
                self._client = None
                self._in_flight = 0
                self.down(self._clock.now())
        return "the connection ended"

    def _new_client(self) -> DeviceClient:
        return DeviceClient(
            self._broker.address(self._account.user, self._account.password, self._client_id),
            self._broker.context(),
            clean_session=self._subscription is None or not self._subscription.keeps_session,
        )


def _nobody(now: datetime) -> None:
    """Be told, and do nothing."""
