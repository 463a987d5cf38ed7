"""The daemon's sending connection: MQTT 5, for message expiry and reasons. Never sends a message twice."""

import asyncio
import math
import ssl

import infoscreen.mqtt.client as mqtt
from infoscreen.clock import Clock
from infoscreen.domain.errors import BrokerUnavailable, PublishRefused
from infoscreen.mqtt.answers import Puback
from infoscreen.mqtt.client import BrokerClient
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.services.ports import Outgoing

MOST_IN_FLIGHT = 200

_NEVER = frozenset({135, 144, 153})
"""PUBACK reasons that a repetition will not change.

Not authorised, topic name invalid, payload format invalid (MQTT 5.0, 3.4.2.1).
"""
_PUBLISH_OVERHEAD = 32
"""An upper bound of what a PUBLISH has beside topic and payload: header, packet id, expiry property."""


class PublishingClient(BrokerClient):
    """A connection to publish on; no session outlives it."""

    def __init__(self, address: BrokerAddress, tls: ssl.SSLContext | None, clock: Clock) -> None:
        """Prepare the connection."""
        super().__init__(address, tls, version=mqtt.MQTT_5, clean_start=True)
        self._clock = clock
        self._slots: asyncio.Semaphore | None = None

    async def send(self, message: Outgoing) -> None:
        """Publish at QoS 1 and wait for the PUBACK, without a time limit.

        Many may be in flight at once; more wait for their turn. Raise ``BrokerUnavailable`` or, if the broker
        will never take the message, ``PublishRefused``.
        """
        size = len(message.topic.encode()) + len(message.payload) + _PUBLISH_OVERHEAD
        if self.maximum_packet_size is not None and size > self.maximum_packet_size:
            raise PublishRefused(
                f"the broker takes at most {self.maximum_packet_size} bytes, this has {size}"
            )
        if self._slots is None:
            self._slots = asyncio.Semaphore(min(self.receive_maximum or MOST_IN_FLIGHT, MOST_IN_FLIGHT))
        slots, asked_at = self._slots, self._clock.monotonic()
        await slots.acquire()
        waited = self._clock.monotonic() - asked_at
        puback: asyncio.Future[Puback | None] = asyncio.get_running_loop().create_future()

        def answered(answer: Puback | None) -> None:
            # Only here, not when the sender gives up: until the PUBACK the broker counts it as in flight.
            slots.release()
            if not puback.done():
                puback.set_result(answer)

        expiry = None if message.expires_in is None else max(1, math.ceil(message.expires_in - waited))
        try:
            self.post(message, answered, expiry)
        except BrokerUnavailable:
            slots.release()
            raise
        answer = await puback
        if answer is None:
            raise BrokerUnavailable("the connection was lost before the broker answered")
        if answer.code in _NEVER:
            raise PublishRefused(f"the broker refused the message: {answer.words}")
        if answer.is_failure:
            raise BrokerUnavailable(f"the broker did not take the message: {answer.words}")
