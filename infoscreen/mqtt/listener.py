"""The way in from the broker. Hands on batches, and acknowledges them after they are stored.

Never looks into a message. Nothing received is lost: what is not acknowledged is delivered again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NoReturn

import aiomqtt

from infoscreen.clock import Clock, SteadySince
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.client import ListeningClient
from infoscreen.mqtt.connection import BrokerAddress, Reconnecting, load_tls
from infoscreen.services.ports import BatchHandler, Incoming, LinkState

log = logging.getLogger(__name__)

BATCH_LIMIT = 5_000
"""A backlog is stored in as few commits as that: measured, 500 to a commit takes twice as long in all."""

FINISH_SECONDS = 2.5
"""How long the batch in hand may take after a stop; a locked database must not hold up the process."""


class Listener:
    """Listens to the device topics over a persistent session of its own; a ``Link``."""

    def __init__(
        self,
        address: BrokerAddress,
        clock: Clock,
        handler: BatchHandler,
        filters: Sequence[str],
        *,
        batch_limit: int = BATCH_LIMIT,
        on_state: Callable[[LinkState], None] | None = None,
    ) -> None:
        """Keep the parts.

        Args:
            address: Where to connect; its client id names the session the broker keeps for us.
            clock: For ``listening_since`` and for waiting between attempts.
            handler: Stores a batch; may get the same message twice. What it raises ends ``run``.
            filters: Topic filters, subscribed at QoS 1.
            batch_limit: About how many messages are handed on at most at once.
            on_state: Told each change of ``state``.
        """
        self._address = address
        self._clock = clock
        self._handler = handler
        self._filters = tuple(filters)
        self._batch_limit = batch_limit
        self._on_state = on_state
        self._listening = SteadySince(clock)
        self._link = Reconnecting("listener", address, clock, self._changed)

    @property
    def state(self) -> LinkState:
        """Return the state of the connection as it is now."""
        return LinkState(
            connected=self._link.connected,
            listening_since=self._listening.since,
            reconnects=self._link.reconnects,
            last_error=self._link.last_error,
        )

    async def run(self) -> NoReturn:
        """Listen for ever, whatever becomes of the broker.

        To stop, cancel: the batch in hand is still stored and acknowledged, for at most ``FINISH_SECONDS``,
        then the connection is closed. A second cancellation does not wait.
        """
        await self._link.run(self._listen)

    async def _listen(self) -> NoReturn:
        """Keep one connection; raise when it is lost."""
        async with ListeningClient(self._address, await load_tls(self._address)) as client:
            try:
                await self._subscribe(client)
                while True:
                    batch = await client.next_batch(self._batch_limit)
                    await self._finish(client, batch, self._clock.now())
            except (aiomqtt.MqttError, BrokerUnavailable):
                # Not only a matter of speed: a killed mosquitto 2.0 forgets what it had in flight to us.
                while batch := await client.arrived(self._batch_limit):
                    await self._finish(client, batch, self._clock.now())
                raise
            finally:
                self._listening.end()

    async def _subscribe(self, client: ListeningClient) -> None:
        refused = await client.subscribe_all(self._filters)
        if refused:
            raise BrokerUnavailable(f"the broker refused to subscribe {', '.join(refused)} at QoS 1")
        self._listening.begin()
        self._link.up()

    async def _finish(
        self, client: ListeningClient, batch: list[aiomqtt.Message], received_at: datetime
    ) -> None:
        """Store and acknowledge a batch, to the end also when we are cancelled in between."""
        step = asyncio.ensure_future(self._store(client, batch, received_at))
        try:
            await asyncio.shield(step)
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(FINISH_SECONDS):
                    await step
            except TimeoutError:
                log.warning(
                    "stopped before the last batch was stored; the broker will deliver it again",
                    extra={"event": "batch_abandoned", "messages": len(batch)},
                )
            raise

    async def _store(
        self, client: ListeningClient, batch: list[aiomqtt.Message], received_at: datetime
    ) -> None:
        incoming = [Incoming(one.topic.value, bytes(one.payload), one.retain) for one in batch]
        await self._handler(incoming, received_at)
        client.acknowledge(batch)

    def _changed(self) -> None:
        if self._on_state is not None:
            self._on_state(self.state)
