"""What a simulated device has yet to send.

Events wait for a connection; state is only worth sending while it is new.
"""

from collections import deque
from dataclasses import dataclass

UNSENT_EVENTS = 1_000
"""Events kept while there is no connection; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One message for the broker, always at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


class Outbox:
    """Packets in the order in which they go out: greeting, events as they happened, newest state."""

    def __init__(self) -> None:
        self._greeting: Packet | None = None
        self._events: deque[Packet] = deque(maxlen=UNSENT_EVENTS)
        self._state: dict[str, Packet] = {}

    def greet(self, packet: Packet) -> None:
        """Put ``packet`` before all others; it is dropped with the connection."""
        self._greeting = packet

    def event(self, packet: Packet) -> None:
        """Keep ``packet`` until it is sent, over as many connections as it takes."""
        self._events.append(packet)

    def state(self, packet: Packet) -> None:
        """Replace an unsent packet on the same topic; it is dropped with the connection."""
        self._state[packet.topic] = packet

    def next(self) -> Packet | None:
        """Return what to send next; the same one until ``sent`` is told, or something goes before it."""
        if self._greeting is not None:
            return self._greeting
        if self._events:
            return self._events[0]
        return next(iter(self._state.values()), None)

    def sent(self, packet: Packet) -> None:
        """Forget a packet that the broker has; one that was replaced meanwhile changes nothing."""
        if self._greeting is packet:
            self._greeting = None
        elif self._events and self._events[0] is packet:
            self._events.popleft()
        elif self._state.get(packet.topic) is packet:
            del self._state[packet.topic]

    def drop_state(self) -> None:
        """Forget everything that is only worth sending while it is new."""
        self._greeting = None
        self._state.clear()
