"""The way in from the broker. Hands on batches, and acknowledges them after they are stored.

Never looks into a message. Nothing received is lost: what is not acknowledged is delivered again.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from infoscreen.clock import Clock, SteadySince
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt import diagnosis
from infoscreen.mqtt.connection import BrokerAddress, Reconnecting, load_tls
from infoscreen.mqtt.dropped import Dropped
from infoscreen.mqtt.identity import Admission
from infoscreen.mqtt.inbox import Batch
from infoscreen.mqtt.listening import ListeningClient
from infoscreen.progress import expect_within
from infoscreen.services.ports import BatchHandler, BrokerHealth, LinkState, backlog_of

log = logging.getLogger(__name__)

FINISH_SECONDS = 2.5
"""How long the batch in hand may take after a stop; a locked database must not hold up the process."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much is stored at once, and how much may wait for that.

    A batch that took longer than ``seconds`` to store is followed by smaller ones. Measured: with 500
    messages to a commit, a backlog takes twice as long as with 5,000.
    """

    messages: int = 5_000
    size: int = 8 * 1024 * 1024
    seconds: float = 1.0
    fewest: int = 100
    waiting_bytes: int = 32 * 1024 * 1024
    """Received and not yet stored; above that the socket is not read, and the broker keeps the rest."""


class Listener:
    """Listens to topics over a persistent session of its own; a ``Link``."""

    def __init__(
        self,
        address: BrokerAddress,
        clock: Clock,
        handler: BatchHandler,
        filters: Sequence[str],
        *,
        role: str = "listener",
        limits: BatchLimits | None = None,
        on_state: Callable[[LinkState], None] | None = None,
        moved: Sequence[str] = (),
        moved_to: "Listener | None" = None,
        dropped: Dropped | None = None,
        health: Callable[[], BrokerHealth] = BrokerHealth,
        admission: Admission | None = None,
    ) -> None:
        """Prepare; nothing is connected before ``run``.

        Args:
            address: Where to connect; its client id names the session the broker keeps for us.
            clock: For ``listening_since`` and for waiting between attempts.
            handler: Stores a batch; may get the same message twice. What it raises ends ``run``.
            filters: Topic filters, subscribed at QoS 1.
            role: Tells the connections apart in the log.
            limits: Of batches and of what waits.
            on_state: Told each change of ``state``.
            moved: Filters that older versions subscribed over this session. They are unsubscribed once
                ``moved_to`` has subscribed them, so that nothing is lost in between.
            moved_to: Who listens to them now.
            dropped: The broker's losses, which are part of ``state``.
            health: What is known of the broker itself, part of ``state``.
            admission: Awaited before each connection.
        """
        self._address = address
        self._clock = clock
        self._handler = handler
        self._filters = tuple(filters)
        self._limits = limits or BatchLimits()
        self._on_state = on_state
        self._moved = tuple(moved)
        self._moved_to = moved_to
        self._dropped = dropped
        self._health = health
        self._admission = admission
        self._at_once = self._limits.messages
        self._client: ListeningClient | None = None
        self._most_held = 0
        self._listening = SteadySince(clock)
        self._link = Reconnecting(role, address, clock, self._changed, diagnosis.answers)

    @property
    def state(self) -> LinkState:
        """Return the state of the connection as it is now."""
        return LinkState(
            connected=self._link.connected,
            listening_since=self._listening.since,
            reconnects=self._link.reconnects,
            last_error=self._link.last_error,
            fault=self._link.fault,
            dropped=0 if self._dropped is None else self._dropped.total,
            dropped_at=None if self._dropped is None else self._dropped.at,
            taken_over_at=self._link.taken_over_at,
            health=self._health(),
            backlog=backlog_of(self._listening),
        )

    @property
    def held_bytes(self) -> int:
        """Return the bytes that were received and are not stored."""
        return 0 if self._client is None else self._client.inbox.held

    @property
    def most_held_bytes(self) -> int:
        """Return the largest ``held_bytes`` there ever was."""
        return max(self._most_held, 0 if self._client is None else self._client.inbox.most_held)

    @property
    def paused(self) -> bool:
        """Tell whether the socket is not read because too much waits to be stored."""
        return self._client is not None and self._client.paused

    @property
    def has_moved(self) -> bool:
        """Tell whether the session is rid of the subscriptions of older versions."""
        return not self._moved

    async def run(self) -> NoReturn:
        """Listen until cancelled; reconnect when the broker is unavailable.

        To stop, cancel: the batch in hand is still stored and acknowledged, for at most ``FINISH_SECONDS``,
        then the connection is closed. A second cancellation does not wait.
        """
        await self._link.run(self._listen)

    async def _listen(self) -> NoReturn:
        """Keep one connection; raise when it is lost."""
        if self._admission is not None:
            await self._admission()
        tls = await load_tls(self._address)
        async with ListeningClient(self._address, tls, self._limits.waiting_bytes) as client:
            self._client = client
            try:
                await self._subscribe(client)
                while True:
                    await self._finish(client, await client.next_batch(self._at_once, self._limits.size))
                    if self._moved and self._moved_to is not None and self._moved_to.state.listening_since:
                        await self._answer(client, client.unsubscribe_all(self._moved))
                        self._moved = ()
            except BrokerUnavailable:
                # Not only a matter of speed: a killed mosquitto 2.0 forgets what it had in flight to us.
                while client.inbox.waiting:
                    await self._finish(client, client.inbox.take(self._at_once, self._limits.size))
                raise
            finally:
                self._most_held = self.most_held_bytes
                self._client = None
                self._listening.end()

    async def _subscribe(self, client: ListeningClient) -> None:
        refused = await self._answer(client, client.subscribe_all(self._filters))
        if refused:
            raise BrokerUnavailable(f"the broker refused to subscribe {', '.join(refused)} at QoS 1")
        self._listening.begin()
        self._link.up()

    async def _answer(self, client: ListeningClient, call: Coroutine[Any, Any, Answer]) -> Answer:
        """Return the broker's answer; it may come after more than there is room for, which is then stored."""
        asking = asyncio.ensure_future(call)
        try:
            while not await client.answered(asking):
                await self._finish(client, client.inbox.take(self._at_once, self._limits.size))
            return asking.result()
        finally:
            asking.cancel()

    async def _finish(self, client: ListeningClient, batch: Batch) -> None:
        """Store and acknowledge a batch, to the end also when we are cancelled in between."""
        expect_within()
        began = self._clock.monotonic()
        step = asyncio.ensure_future(self._store(client, batch, self._clock.now()))
        try:
            await asyncio.shield(step)
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(FINISH_SECONDS):
                    await step
            except TimeoutError:
                log.warning(
                    "stopped before the last batch was stored; the broker will deliver it again",
                    extra={"event": "batch_abandoned", "messages": len(batch.messages)},
                )
            raise
        self._adapt(len(batch.messages), self._clock.monotonic() - began)

    def _adapt(self, messages: int, seconds: float) -> None:
        """Keep batches as large as can be stored within the limit of time."""
        if seconds > self._limits.seconds:
            fitting = int(messages * self._limits.seconds / seconds)
            self._at_once = min(max(fitting, self._limits.fewest), self._limits.messages)
        else:
            self._at_once = min(2 * self._at_once, self._limits.messages)

    async def _store(self, client: ListeningClient, batch: Batch, received_at: datetime) -> None:
        await self._handler(batch.messages, received_at)
        client.acknowledge(batch)

    def _changed(self) -> None:
        if self._on_state is not None:
            self._on_state(self.state)
