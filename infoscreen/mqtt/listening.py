"""The daemon's receiving connection: subscriptions, and batches that are acknowledged by hand.

Knows no topics and stores nothing.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.client import ANSWER_SECONDS, KEEPALIVE_SECONDS, ReadingClient
from infoscreen.mqtt.inbox import Batch
from infoscreen.progress import SLACK_SECONDS, expect_within

_NEVER_SUBSCRIBED = "infoscreen/nothing"


class ListeningClient(ReadingClient):
    """A connection that listens under the session of its client id."""

    async def _take_leave(self) -> None:
        """Wait until the broker has read the acknowledgements.

        It reads one packet in each turn of its loop, and drops what it has not read of a connection when the
        same client connects again. An answer to something sent later proves that it got there; it comes
        after all that the broker is still sending, which is read and left unacknowledged.
        """
        self.stop_taking()
        await self.unsubscribe(_NEVER_SUBSCRIBED)

    async def subscribe_all(self, filters: Sequence[str]) -> list[str]:
        """Subscribe at QoS 1 and return the filters which the broker refused, or granted less for.

        The answer comes after all that a resumed session delivers: see ``answered``.
        """
        granted = await self.ask(self.subscribe([(one, 1) for one in filters], timeout=math.inf))
        return [one for one, code in zip(filters, granted, strict=True) if getattr(code, "value", code) != 1]

    async def unsubscribe_all(self, filters: Sequence[str]) -> None:
        """End subscriptions; the answer comes as late as that to ``subscribe_all``."""
        await self.ask(self.unsubscribe(list(filters), timeout=math.inf))

    async def answered(self, asking: "asyncio.Future[Any]") -> bool:
        """Wait for an answer of the broker; False means that a batch must be taken first to make room.

        Raise ``BrokerUnavailable`` when the connection is lost, or nothing comes for ``ANSWER_SECONDS``.
        """
        while not asking.done() and not self.inbox.full:
            expect_within()
            self.changed.clear()
            self.raise_if_lost()
            changed = asyncio.ensure_future(self.changed.wait())
            done, _ = await asyncio.wait(
                {asking, changed}, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            changed.cancel()
            if not done:
                raise BrokerUnavailable("the broker did not answer in time")
        return asking.done()

    async def next_batch(self, limit: int, most_bytes: int) -> Batch:
        """Wait for messages and return all that have arrived, within the limits.

        Raise ``BrokerUnavailable`` when the connection is lost and all that came over it has been returned.
        """
        while not self.inbox.waiting:
            self.changed.clear()
            self.raise_if_lost()
            # The broker answers pings twice within a keepalive, else the connection is given up.
            expect_within(2 * KEEPALIVE_SECONDS + SLACK_SECONDS)
            await self.changed.wait()
        return self.inbox.take(limit, most_bytes)
