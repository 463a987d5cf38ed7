"""The way out to the broker, on a connection of its own, and an eye on commands that are retained there.

Never retries a message: the outbox does.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from infoscreen.clock import Clock
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt import diagnosis, signs_of_life
from infoscreen.mqtt.connection import BrokerAddress, Reconnecting, load_tls
from infoscreen.mqtt.dropped import TOPIC, Dropped
from infoscreen.mqtt.identity import Admission
from infoscreen.mqtt.publishing import PublishingClient
from infoscreen.services.ports import Outgoing

PUBACK_SECONDS = 10.0


class BrokerPublisher:
    """Publishes at QoS 1 over MQTT 5; a ``Publisher``.

    It also subscribes to ``watched`` filters, only to see messages that are retained there: commands never
    may be (wire contract, rule 2). Its own messages are not delivered back to it.
    """

    def __init__(
        self,
        address: BrokerAddress,
        clock: Clock,
        *,
        watched: Sequence[str] = (),
        on_retained_command: Callable[[str], None] | None = None,
        on_connected: Callable[[], None] | None = None,
        dropped: Dropped | None = None,
        admission: Admission | None = None,
    ) -> None:
        """Prepare; nothing is connected before ``run``.

        Args:
            address: Where to connect, as ``<client_id>-publisher``.
            clock: For waiting between attempts.
            watched: The filters of the command topics.
            on_retained_command: Told each topic with a retained command, once until it is cleared.
            on_connected: Called whenever publishing becomes possible, so that the outbox goes on at once.
            dropped: Told the broker's count of the messages it dropped.
            admission: Awaited before each connection.
        """
        self._address = replace(address, client_id=f"{address.client_id}-publisher")
        self._watched = tuple(watched)
        self._on_retained_command = on_retained_command
        self._on_connected = on_connected
        self._dropped = dropped
        self._admission = admission
        self._retained: set[str] = set()
        self._clock = clock
        self._client: PublishingClient | None = None
        self._link = Reconnecting("publisher", address, clock, self._changed, diagnosis.answers)

    @property
    def connected(self) -> bool:
        """Tell whether it is worth trying to publish."""
        return self._link.connected

    @property
    def last_error(self) -> str | None:
        """Return why there is no connection; None while there is one."""
        return self._link.last_error

    async def run(self) -> NoReturn:
        """Stay connected until cancelled; reconnect when the broker is unavailable."""
        await self._link.run(self._keep)

    async def publish(self, message: Outgoing) -> None:
        """Publish at QoS 1 and wait for the broker's PUBACK; raise ``BrokerUnavailable`` after 10 s.

        It is also raised at once when there is no connection or it is lost; the broker may then have the
        message all the same. Raise ``PublishRefused`` when the broker will never take it. Any number may be
        published at once.
        """
        client = self._client
        if client is None:
            raise BrokerUnavailable(self.last_error or "not connected to the broker")
        try:
            async with asyncio.timeout(PUBACK_SECONDS):
                await client.send(message)
        except TimeoutError:
            raise BrokerUnavailable(f"the broker did not answer within {PUBACK_SECONDS:g} s") from None

    async def _keep(self) -> NoReturn:
        """Keep one connection; raise when it is lost."""
        if self._admission is not None:
            await self._admission()
        async with PublishingClient(self._address, await load_tls(self._address), self._clock) as client:
            self._client = client
            self._link.up()
            try:
                await self._watch(client)
            finally:
                self._client = None

    async def _watch(self, client: PublishingClient) -> NoReturn:
        losses = () if self._dropped is None else (TOPIC,)
        await client.watch((*self._watched, *losses))
        async for message in signs_of_life.received(client):
            if self._dropped is not None and message.topic == TOPIC:
                self._dropped.note(message.payload)
            elif message.retain:
                self._note_retained(message.topic, cleared=not message.payload)
        raise BrokerUnavailable("the connection ended")

    def _note_retained(self, topic: str, *, cleared: bool) -> None:
        if cleared:
            self._retained.discard(topic)
        elif topic not in self._retained:
            self._retained.add(topic)
            if self._on_retained_command is not None:
                self._on_retained_command(topic)

    def _changed(self) -> None:
        if self.connected and self._on_connected is not None:
            self._on_connected()
