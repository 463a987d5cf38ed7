"""Fan-out of events to live views inside the process. Bounded; publishing can neither wait nor fail.

A slow view receives what changed, not how often. One that is too slow is told to reload everything.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from infoscreen.domain.events import Event

MOST_PENDING = 10_000
"""So many different changes may wait for one subscriber before it should reload everything."""


class BusClosed(Exception):
    """The daemon is going down; there will be no more events."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """More changed than was kept: reload everything."""


class Subscription:
    """What changed since one subscriber looked last."""

    def __init__(self) -> None:
        self._pending: set[Event] = set()
        self._overflown = False
        self._closed = asyncio.Event()
        self._something = asyncio.Event()

    def put(self, events: tuple[Event, ...]) -> None:
        """Add events; the same one twice counts once."""
        self._pending.update(events)
        if len(self._pending) > MOST_PENDING:
            self._pending.clear()
            self._overflown = True
        self._something.set()

    def close(self) -> None:
        """Wake the subscriber for the last time."""
        self._closed.set()
        self._something.set()

    async def next(self) -> frozenset[Event | Overflow]:
        """Wait until something has changed and return all of it; raise ``BusClosed`` at the end."""
        await self._something.wait()
        if self._closed.is_set():
            raise BusClosed
        self._something.clear()
        changes: set[Event | Overflow] = {*self._pending}
        if self._overflown:
            changes.add(Overflow())
        self._pending, self._overflown = set(), False
        return frozenset(changes)

    async def pause(self, seconds: float) -> None:
        """Let more gather for so long; return at once when the bus is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()


class Bus:
    """Hands events to every subscriber."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    def publish(self, *events: Event) -> None:
        """Tell everybody; to be called after the commit, never before."""
        for subscription in self._subscriptions:
            subscription.put(events)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Listen for as long as the block lasts."""
        subscription = Subscription()
        if self._closed:
            subscription.close()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription, so that open event streams do not hold up the stop."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
