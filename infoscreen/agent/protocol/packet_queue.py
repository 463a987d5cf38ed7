"""What a device has yet to send.

Events wait for a connection; state is only worth sending while it is new.
"""

from collections import deque
from collections.abc import Hashable

from infoscreen.agent.protocol.packets import Packet

UNSENT_EVENTS = 1_000
UNSENT_BYTES = 8 * 1024 * 1024
"""Events kept while there is no connection; the oldest goes first, and acks and failures last."""


class PacketQueue:
    """Packets in the order in which they go out: greeting, events as they happened, newest state.

    An event may carry a token: ``sent`` returns it when the event need no longer be kept on disk. Events
    without one are the first to go when there are too many.
    """

    def __init__(self) -> None:
        self._greeting: Packet | None = None
        self._events: deque[tuple[Packet, Hashable]] = deque()
        self._bytes = 0
        self._state: dict[str, Packet] = {}

    @property
    def events(self) -> int:
        """Return how many events have not been sent."""
        return len(self._events)

    def greet(self, packet: Packet) -> None:
        """Put ``packet`` before all others; it is dropped with the connection."""
        self._greeting = packet

    def event(self, packet: Packet, token: Hashable = None) -> None:
        """Keep ``packet`` until it is sent, over as many connections as it takes."""
        self._events.append((packet, token))
        self._bytes += len(packet.payload)
        while len(self._events) > UNSENT_EVENTS or self._bytes > UNSENT_BYTES:
            place = self._least_missed()
            self._bytes -= len(self._events[place][0].payload)
            del self._events[place]

    def state(self, packet: Packet) -> None:
        """Replace an unsent packet on the same topic; it is dropped with the connection."""
        self._state[packet.topic] = packet

    def next(self) -> Packet | None:
        """Return what to send next; the same one until ``sent`` is told, or something goes before it."""
        if self._greeting is not None:
            return self._greeting
        if self._events:
            return self._events[0][0]
        return next(iter(self._state.values()), None)

    def sent(self, packet: Packet) -> Hashable:
        """Forget a packet that the broker has; one that was replaced meanwhile changes nothing.

        Return the token of an event, once every packet under that token has been sent; else None.
        """
        if self._greeting is packet:
            self._greeting = None
        elif self._events and self._events[0][0] is packet:
            _, token = self._events.popleft()
            self._bytes -= len(packet.payload)
            if token is not None and not (self._events and self._events[0][1] == token):
                return token
        elif self._state.get(packet.topic) is packet:
            del self._state[packet.topic]
        return None

    def drop_state(self) -> None:
        """Forget everything that is only worth sending while it is new."""
        self._greeting = None
        self._state.clear()

    def _least_missed(self) -> int:
        return next((place for place, (_, token) in enumerate(self._events) if token is None), 0)
