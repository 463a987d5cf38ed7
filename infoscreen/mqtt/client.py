"""aiomqtt's client plus what it leaves to the paho client below it.

The only module that reaches below aiomqtt: manual acknowledgement, reading what already waits in the socket,
PUBACK reason codes, and never leaving a socket behind. It knows no topics and stores nothing. The tests named
``test_the_library_...`` fail when aiomqtt or paho change underneath.
"""

import asyncio
import contextlib
import logging
import math
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Self, cast

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from infoscreen.clock import Clock
from infoscreen.domain.errors import BrokerUnavailable, PublishRefused
from infoscreen.mqtt.connection import BrokerAddress, describe
from infoscreen.services.ports import Outgoing

log = logging.getLogger(__name__)

_library_log = logging.getLogger(f"{__name__}.library")
_library_log.setLevel(logging.CRITICAL)
"""What the libraries call an error is a connection that was lost, which we tell ourselves, and once."""

ANSWER_SECONDS = 4.0
"""How long the broker may take for a TCP connection, a CONNACK or a SUBACK.

Below 5 s: a thread that connects cannot be cancelled, and a stop waits for it.
"""
KEEPALIVE_SECONDS = 20
CLOSE_SECONDS = 1.0
LEAVE_SECONDS = 2.0
"""How long an orderly goodbye may take: a broker under load reads our acknowledgements one by one."""

READ_AHEAD = 100
"""Packets read between two turns of the event loop, about 3 ms."""
MOST_UNREAD = 2_000
"""Messages of QoS 1 that the broker hands out before it waits, its ``max_inflight_messages``."""
MOST_WAITING = 50_000
"""Messages waiting in memory. Those of QoS 1 are bounded by the broker's ``max_inflight_messages``."""

MOST_IN_FLIGHT = 200

_NEVER_SUBSCRIBED = "infoscreen/nothing"
_PUBACK = struct.Struct("!BBH")
_NEVER = frozenset({135, 144, 153})
"""PUBACK reasons that a repetition will not change.

Not authorised, topic name invalid, payload format invalid (MQTT 5.0, 3.4.2.1).
"""
_PUBLISH_OVERHEAD = 32
"""An upper bound of what a PUBLISH has beside topic and payload: header, packet id, expiry property."""


class BrokerClient(aiomqtt.Client):
    """A connection that is used once, as a context manager, and leaves no socket behind however it ends.

    Entering raises ``BrokerUnavailable``.
    """

    def __init__(self, address: BrokerAddress, tls: ssl.SSLContext | None, **options: Any) -> None:
        """Prepare a connection; ``options`` are aiomqtt's."""
        super().__init__(
            address.host,
            address.port,
            username=address.user,
            password=address.password,
            tls_context=tls,
            timeout=ANSWER_SECONDS,
            keepalive=KEEPALIVE_SECONDS,
            logger=_library_log,
            # Else a lone command waits up to 40 ms behind data the broker's host has not acknowledged.
            socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
            **options,
        )
        self._address = address
        self._paho: paho.Client = self._client
        self._paho.connect_timeout = ANSWER_SECONDS
        self._gone = asyncio.Event()
        self._tell_aiomqtt_closed = cast("Callable[..., None]", self._paho.on_socket_close)
        self._paho.on_socket_close = self._on_closed
        self._paho.on_socket_register_write = self._on_something_to_write

    def _on_closed(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        self._tell_aiomqtt_closed(client, userdata, sock)
        # A connection that is refused early is closed in the thread that makes it.
        self._loop.call_soon_threadsafe(self._gone.set)

    def _on_something_to_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        def watch() -> None:
            # aiomqtt keeps the number only, which by now may belong to nobody, or to another socket.
            if sock.fileno() == -1:
                return
            try:
                self._loop.add_writer(sock.fileno(), self._write)
            except RuntimeError:
                # uvloop gives up on a connection that was reset, without a word; paho learns it by writing.
                while not self._write():
                    pass

        self._loop.call_soon_threadsafe(watch)

    def _write(self) -> bool:
        """Write what waits to be written; return False if that was put off, and is to be asked for again."""
        self._paho.loop_write()
        return True

    async def __aenter__(self) -> Self:
        """Connect and wait for the CONNACK."""
        entering = asyncio.ensure_future(super().__aenter__())
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            # The thread goes on, and would come up later as a second client of our id that nobody knows.
            if self._paho.socket() is None:
                await asyncio.wait([entering], timeout=ANSWER_SECONDS)
            await self._cut()
            entering.cancel()
            await asyncio.wait([entering])
            raise
        except (aiomqtt.MqttError, UnicodeError) as error:
            await self._cut()
            raise BrokerUnavailable(
                f"cannot connect to {self._address.host}:{self._address.port}: {describe(error)}"
            ) from None
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Disconnect in order if the connection still stands, for at most ``LEAVE_SECONDS``, and close."""
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._take_leave()
                await super().__aexit__(exc_type, exc, tb)
        await self._cut()

    async def _take_leave(self) -> None:
        """Do what must be done before the DISCONNECT."""

    async def _cut(self) -> None:
        """Close a socket that is still open, by making it look lost, so that all callbacks run as usual."""
        sock = self._paho.socket()
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._gone.wait()
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # else asyncio logs that nobody asked for it


class ListeningClient(BrokerClient):
    """The way in: MQTT 3.1.1 with a persistent session; the broker keeps what is not acknowledged."""

    def __init__(self, address: BrokerAddress, tls: ssl.SSLContext | None) -> None:
        """Prepare the connection; acknowledging is left to us from the first message on."""
        super().__init__(
            address,
            tls,
            identifier=address.client_id,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=False,
            queue_type=BatchQueue,
        )
        self._paho.manual_ack_set(True)
        self._rest: list[aiomqtt.Message] = []
        self._reads = 0  # since the last write

    async def _take_leave(self) -> None:
        """Wait until the broker has read the acknowledgements.

        It reads one packet in each turn of its loop, and drops what it has not read of a connection when the
        same client connects again. An answer to something sent later proves that it got there; it stands
        behind whatever the broker is still sending, which is read and left unacknowledged.
        """
        asking = asyncio.ensure_future(self.unsubscribe(_NEVER_SUBSCRIBED))
        try:
            while not asking.done():
                self._read_ahead()
                await asyncio.wait([asking], timeout=0.005)
            await asking
        finally:
            asking.cancel()

    async def subscribe_all(self, filters: Sequence[str]) -> list[str]:
        """Subscribe at QoS 1 and return the filters which the broker refused, or granted less for.

        What a resumed session delivers before the SUBACK is kept for ``next_batch``.
        """
        asking = asyncio.ensure_future(self.subscribe([(one, 1) for one in filters], timeout=math.inf))
        try:
            await self._patiently(asking)
        finally:
            asking.cancel()
        codes = cast("list[ReasonCode]", asking.result())
        return [one for one, code in zip(filters, codes, strict=True) if code.value != 1]

    async def _patiently(self, asking: asyncio.Future[Any]) -> None:
        """Wait for an answer as long as messages come in: it stands behind all that the session delivers."""
        heard = -1
        while not asking.done():
            if len(self.messages) == heard:
                raise BrokerUnavailable("the broker did not answer in time")
            heard = len(self.messages)
            await asyncio.wait([asking], timeout=ANSWER_SECONDS)

    async def next_batch(self, limit: int) -> list[aiomqtt.Message]:
        """Wait for messages and return all that have arrived, at most ``limit``.

        Raise ``MqttError`` when the connection is lost and all that came over it has been returned. Reads on
        until the socket is empty: aiomqtt reads one message in each turn of the event loop, which alone costs
        more than half of the throughput.
        """
        batch = self._rest or await self._queued()
        while len(batch) < limit and self._read_ahead():
            batch += await self._queued()
        self._rest = batch[limit:]
        return batch[:limit]

    async def arrived(self, limit: int) -> list[aiomqtt.Message]:
        """Return what has arrived already, at most ``limit`` messages, also after the connection was lost."""
        batch = self._rest or (await self._queued() if len(self.messages) else [])
        self._rest = batch[limit:]
        return batch[:limit]

    async def _queued(self) -> list[aiomqtt.Message]:
        # aiomqtt's iterator hands on whatever its queue's ``get`` returns.
        return cast("list[aiomqtt.Message]", await anext(self.messages))

    def _read_ahead(self) -> bool:
        """Read packets until none is complete or enough have come; tell whether the queue holds messages."""
        before = waiting = len(self.messages)
        while True:
            self._paho.loop_read()
            grown = len(self.messages)
            sock = self._paho.socket()
            # What TLS has already decrypted must be read now: the socket will not become readable for it.
            if not (isinstance(sock, ssl.SSLSocket) and sock.pending()) and (
                grown == waiting or grown - before >= READ_AHEAD
            ):
                return grown > 0
            waiting = grown

    def _write(self) -> bool:
        # A write that fails closes the socket with all that is unread in it, which a killed broker does not
        # deliver again. As long as there is something to read, the writing waits for the next turn of the
        # event loop, which asks again: reading all of it at once would hold up everything else.
        before = len(self.messages)
        self._read_ahead()
        self._reads += 1
        if len(self.messages) > before and self._reads < MOST_UNREAD // READ_AHEAD:
            return False
        self._reads = 0
        return super()._write()

    def acknowledge(self, messages: Sequence[aiomqtt.Message]) -> None:
        """Tell the broker to forget the messages; without a connection it will deliver them again.

        All PUBACKs go out as one: paho would make one ``send`` of each.
        """
        pubacks = b"".join([_PUBACK.pack(paho.PUBACK, 2, message.mid) for message in messages if message.qos])
        if pubacks:
            self._paho._packet_queue(paho.PUBACK, pubacks, 0, 1)  # noqa: SLF001 - no public way


class BatchQueue(asyncio.Queue[Any]):
    """A queue for aiomqtt whose ``get`` returns all that is waiting, as a list.

    Messages of QoS 0, which nobody was promised, are dropped while far too many wait; the first is logged.
    """

    _dropped = False

    async def get(self) -> list[aiomqtt.Message]:
        """Wait for a message and return it with all that are there."""
        batch = [await super().get()]
        while not self.empty():
            batch.append(self.get_nowait())
        return batch

    def put_nowait(self, item: aiomqtt.Message) -> None:
        """Take a message from the network."""
        if item.qos == 0 and self.qsize() >= MOST_WAITING:
            if not self._dropped:
                log.error(
                    "messages of QoS 0 are dropped, they arrive faster than they are stored",
                    extra={"event": "qos0_dropped", "waiting": self.qsize()},
                )
            self._dropped = True
            return
        super().put_nowait(item)


class PublishingClient(BrokerClient):
    """The way out: MQTT 5, for message expiry and reasons; no session outlives the connection."""

    def __init__(self, address: BrokerAddress, tls: ssl.SSLContext | None, clock: Clock) -> None:
        """Prepare the connection under a client id of its own."""
        super().__init__(
            address,
            tls,
            identifier=f"{address.client_id}-publisher",
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            max_inflight_messages=0,  # unlimited: the slots below keep to what the broker allows
        )
        self._clock = clock
        self._slots = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._pubacks: dict[int, asyncio.Future[ReasonCode]] = {}
        self._lost = False
        self._largest_packet: int | None = None
        self._tell_aiomqtt_connected = cast("Callable[..., None]", self._paho.on_connect)
        self._paho.on_connect = self._on_connack
        self._paho.on_publish = self._on_puback

    def _on_connack(
        self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any = None
    ) -> None:
        # paho ignores both, and a broker disconnects whoever exceeds them; mosquitto allows 20 by default.
        in_flight = getattr(properties, "ReceiveMaximum", MOST_IN_FLIGHT)
        self._slots = asyncio.Semaphore(min(in_flight, MOST_IN_FLIGHT))
        self._largest_packet = getattr(properties, "MaximumPacketSize", None)
        self._tell_aiomqtt_connected(client, userdata, flags, reason, properties)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Fail what is still waiting for its PUBACK, and disconnect."""
        self._lost = True
        for waiting in self._pubacks.values():
            if not waiting.done():
                waiting.set_exception(BrokerUnavailable("the connection was lost before the broker answered"))
            self._slots.release()
        self._pubacks.clear()
        await super().__aexit__(exc_type, exc, tb)

    async def send(self, message: Outgoing) -> None:
        """Publish at QoS 1 and wait for the PUBACK, without a time limit.

        Many may be in flight at once; more wait for their turn. Raise ``BrokerUnavailable`` or, if the broker
        will never take the message, ``PublishRefused``.
        """
        size = len(message.topic.encode()) + len(message.payload) + _PUBLISH_OVERHEAD
        if self._largest_packet is not None and size > self._largest_packet:
            raise PublishRefused(f"the broker takes at most {self._largest_packet} bytes, this has {size}")
        asked_at = self._clock.monotonic()
        await self._slots.acquire()
        waited = self._clock.monotonic() - asked_at
        if self._lost:
            self._slots.release()
            raise BrokerUnavailable("the connection was lost before the message was sent")
        expiry = None if message.expires_in is None else max(1, math.ceil(message.expires_in - waited))
        info = self._paho.publish(message.topic, message.payload, 1, message.retain, _expiring(expiry))
        if info.rc != paho.MQTT_ERR_SUCCESS:
            self._slots.release()
            raise BrokerUnavailable(f"the message could not be sent: {paho.error_string(info.rc)}")
        puback: asyncio.Future[ReasonCode] = self._loop.create_future()
        self._pubacks[info.mid] = puback
        reason = await puback
        if reason.value in _NEVER:
            raise PublishRefused(f"the broker refused the message: {reason.getName().lower()}")
        if reason.is_failure:
            raise BrokerUnavailable(f"the broker did not take the message: {reason.getName().lower()}")

    def _on_puback(
        self, client: paho.Client, userdata: Any, mid: int, reason: ReasonCode, properties: Any
    ) -> None:
        puback = self._pubacks.pop(mid, None)
        if puback is None:
            return
        # Only here, not when the sender gives up: until the PUBACK the broker counts it as in flight.
        self._slots.release()
        if not puback.done():
            puback.set_result(reason)


@lru_cache(maxsize=512)
def _expiring(seconds: int | None) -> Properties | None:
    """Return the properties of a message that lives so many seconds; paho is slow at building them."""
    if seconds is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has no types here
    properties.MessageExpiryInterval = seconds
    return properties
