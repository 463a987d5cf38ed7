"""Messages received over one connection and not stored yet, found in the stream of bytes and counted.

Knows MQTT 3.1.1 packets and no network. The budget is in bytes: when it is used up, the socket is not read.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from infoscreen.services.ports import Incoming

OVERHEAD_BYTES = 300
"""What a message takes in memory beside its packet: a few Python objects, twice while it is decoded."""

_PUBLISH = 0x30
_PUBACK = b"\x40\x02"  # a packet id follows
_LONGEST_LENGTH = 4


class MalformedStream(Exception):
    """The bytes are no MQTT."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages to be stored together; ``pubacks`` are the packets that acknowledge all of them."""

    messages: list[Incoming]
    pubacks: bytes
    size: int


class Inbox:
    """What a connection has received. ``budget`` is in bytes, ``OVERHEAD_BYTES`` per message included."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._parts: list[bytes] = []
        self._partial = 0
        self._needed = 0
        self._messages: list[Incoming] = []
        self._ids: list[bytes] = []
        self._sizes: list[int] = []
        self._unstored = 0
        self._closed = False
        self.most_held = 0

    @property
    def held(self) -> int:
        """Return the bytes of all that was received and is not stored."""
        return self._unstored + self._partial

    @property
    def full(self) -> bool:
        """Tell whether to stop reading. Never because of a single packet that is still incomplete."""
        return self._unstored > 0 and self.held >= self._budget

    @property
    def waiting(self) -> int:
        """Return how many messages nobody has taken yet."""
        return len(self._messages)

    def feed(self, data: bytes) -> bytes:
        """Take received bytes; return the complete packets among them that carry no message.

        Raises:
            MalformedStream: a packet cannot be one of MQTT 3.1.1.
        """
        self._parts.append(data)
        self._partial += len(data)
        if self._partial < self._needed:
            return b""
        stream = data if len(self._parts) == 1 else b"".join(self._parts)
        at, self._needed, others = self._packets(stream)
        rest = stream[at:] if at else stream
        self._parts = [rest] if rest else []
        self._partial = len(rest)
        self.most_held = max(self.most_held, self.held)
        return others

    def _packets(self, stream: bytes) -> tuple[int, int, bytes]:
        """Return where the first incomplete packet begins, its length as far as known, and other packets."""
        messages, ids, sizes = self._messages, self._ids, self._sizes
        others = b""
        before = len(sizes)
        at, end_of_all = 0, len(stream)
        needed = 0
        while at + 2 <= end_of_all:
            length, start = stream[at + 1], at + 2
            if length & 0x80:
                length, start = _long_length(stream, at + 1)
                if not start:
                    break
            end = start + length
            if end > end_of_all:
                needed = end - at
                break
            first = stream[at]
            if first & 0xF0 != _PUBLISH:
                others += stream[at:end]
            elif not self._closed:
                body = start + 2 + int.from_bytes(stream[start : start + 2])
                topic = stream[start + 2 : body].decode(errors="replace")
                packet_id = b""
                if first & 0x06:
                    packet_id = stream[body : body + 2]
                    body += 2
                if body > end:
                    raise MalformedStream
                ids.append(packet_id)
                retain, repeated = first & 0x01 == 1, first & 0x08 == 0x08
                messages.append(Incoming(topic, stream[body:end], retain, repeated, packet_id))
                sizes.append(end - at + OVERHEAD_BYTES)
            at = end
        self._unstored += sum(sizes[before:])
        return at, needed, others

    def take(self, limit: int, most_bytes: int) -> Batch:
        """Return the oldest messages, at most ``limit`` and ``most_bytes``, but at least one."""
        sizes = self._sizes[:limit]
        count = max(1, bisect_right(list(accumulate(sizes)), most_bytes))
        batch = Batch(
            self._messages[:count],
            b"".join([_PUBACK + packet_id for packet_id in self._ids[:count] if packet_id]),
            sum(sizes[:count]),
        )
        del self._messages[:count], self._ids[:count], self._sizes[:count]
        return batch

    def stored(self, batch: Batch) -> None:
        """Forget a batch that was taken."""
        self._unstored -= batch.size

    def close(self) -> None:
        """Drop all messages and take no more; they are not acknowledged and will be delivered again."""
        self._closed = True
        self._unstored = 0
        self._messages.clear()
        self._ids.clear()
        self._sizes.clear()


def _long_length(stream: bytes, at: int) -> tuple[int, int]:
    """Return a length of more than one byte and what follows it; zeros if it is incomplete."""
    length = 0
    for place in range(_LONGEST_LENGTH):
        if at + place >= len(stream):
            return 0, 0
        digit = stream[at + place]
        length |= (digit & 0x7F) << 7 * place
        if not digit & 0x80:
            return length, at + place + 1
    raise MalformedStream
