"""One MQTT 3.1.1 connection spoken by hand, for every device at once.

A client library would be the slowest part of a benchmark. Knows as much of the protocol as that takes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from benchmarks.packets import DISCONNECT, connect, publish, subscribe

WINDOW = 1_000
"""Messages of QoS 1 in flight."""

_PUBLISH, _PUBACK = 3, 4  # the upper half of a packet's first byte

OnMessage = Callable[[str, bytes], None]


class Line(asyncio.Protocol):
    """A connection that publishes at QoS 1 and counts the broker's PUBACKs; made by ``line``."""

    def __init__(self, on_message: OnMessage | None) -> None:
        """Begin with nothing sent; ``on_message`` is told topic and payload of whatever comes in."""
        self.sent = 0
        self.acked = 0
        self._on_message = on_message
        self._unread = bytearray()
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._progress = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._lost: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        """Let nobody wait for what cannot come any more."""
        self._lost = exc or ConnectionError("the broker closed the devices' connection")
        self._progress.set()
        if not self._answer.done():
            self._answer.set_exception(self._lost)
            self._answer.exception()  # nobody may be waiting for it

    def data_received(self, data: bytes) -> None:
        """Take packets apart."""
        self._unread += data
        at = 0
        while (packet := _packet_at(self._unread, at)) is not None:
            start, end = packet
            self._received(self._unread[at], bytes(self._unread[start:end]))
            at = end
        del self._unread[:at]
        self._progress.set()

    def publish(self, topic: str, payload: bytes) -> None:
        """Send at QoS 1, without regard to what is in flight."""
        self._write(publish(topic, payload, self.sent % 65_535 + 1))
        self.sent += 1

    async def room(self) -> None:
        """Wait until fewer than ``WINDOW`` messages are in flight."""
        await self._until_in_flight(WINDOW - 1)

    async def settled(self) -> None:
        """Wait until the broker has taken everything."""
        await self._until_in_flight(0)

    async def sign_in(self, client_id: str, account: str, password: str) -> None:
        """Open a session that does not outlive the connection."""
        self._write(connect(account, password, client_id=client_id, keepalive=0))
        if (await self._answer)[1] != 0:
            raise RuntimeError("the broker refused the benchmark's devices")

    async def subscribe(self, name: str) -> None:
        """Subscribe at QoS 1."""
        self._answer = asyncio.get_running_loop().create_future()
        self._write(subscribe(name, 1))
        if (await self._answer)[2] != 1:
            raise RuntimeError(f"the broker refused {name}")

    async def leave(self) -> None:
        """Disconnect in order."""
        if self._transport is not None and not self._transport.is_closing():
            self._write(DISCONNECT)
            self._transport.close()
            await asyncio.sleep(0)

    async def _until_in_flight(self, most: int) -> None:
        while self.sent - self.acked > most:
            if self._lost is not None:
                raise self._lost
            self._progress.clear()
            await self._progress.wait()

    def _received(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == _PUBACK:
            self.acked += 1
        elif kind == _PUBLISH:
            self._delivered(first, body)
        elif not self._answer.done():
            self._answer.set_result(body)  # a CONNACK or a SUBACK, one at a time

    def _delivered(self, first: int, body: bytes) -> None:
        size = int.from_bytes(body[:2])
        topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
        if first & 0x06:
            self._write(b"\x40\x02" + rest[:2])
            rest = rest[2:]
        if self._on_message is not None:
            self._on_message(topic, rest)

    def _write(self, data: bytes) -> None:
        if self._transport is None or self._lost is not None:
            raise ConnectionError("the devices have no connection")
        self._transport.write(data)


@asynccontextmanager
async def line(
    port: int, client_id: str, account: str, password: str, on_message: OnMessage | None = None
) -> AsyncIterator[Line]:
    """Yield a connection to a broker on loopback."""
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(lambda: Line(on_message), "127.0.0.1", port)
    try:
        await made.sign_in(client_id, account, password)
        yield made
    finally:
        await made.leave()


def _packet_at(data: bytearray, at: int) -> tuple[int, int] | None:
    """Return where the body of the packet at ``at`` begins and ends, None if it is not all there."""
    length = shift = 0
    for position in range(at + 1, min(at + 5, len(data))):
        length |= (data[position] & 0x7F) << shift
        shift += 7
        if not data[position] & 0x80:
            end = position + 1 + length
            return (position + 1, end) if end <= len(data) else None
    return None
