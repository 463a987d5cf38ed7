"""MQTT connections of the daemon, the agent and the simulator: aiomqtt's client plus what it leaves to paho.

The only module that imports aiomqtt or paho, and that reaches below them: acknowledging by hand, reading what
waits in the socket within a budget, keepalive while it is not read, PUBACK reasons, cutting connections. It
knows no topics and stores nothing. Every error of the network leaves it as ``BrokerUnavailable``. The tests
named ``test_the_library_...`` fail when aiomqtt or paho change underneath.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import aiomqtt
import paho.mqtt.client as paho
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.answers import TAKEN, Answered, Puback, Sendable
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.diagnosis import failure
from infoscreen.mqtt.endings import describe, failed, lost
from infoscreen.mqtt.faults import fault_of
from infoscreen.mqtt.inbox import Batch, Inbox, MalformedStream
from infoscreen.mqtt.properties import ending_session, expiring
from infoscreen.services.ports import Incoming

_library_log = logging.getLogger(f"{__name__}.library")
_library_log.setLevel(logging.CRITICAL)
"""What the libraries log as errors are lost connections, which we report ourselves, once."""

ANSWER_SECONDS = 4.0
"""How long the broker may take for a TCP connection, a CONNACK or a SUBACK.

Below 5 s: a thread that connects cannot be cancelled, and a stop waits for it.
"""
KEEPALIVE_SECONDS = 20
CLOSE_SECONDS = 1.0
LEAVE_SECONDS = 2.0
"""How long an orderly goodbye may take: a broker under load reads our acknowledgements one by one."""

MQTT_5 = aiomqtt.ProtocolVersion.V5

RECEIVE_BYTES = 65_536
READS_PER_TURN = 2
"""``RECEIVE_BYTES`` are read so often in one turn of the event loop, about 3 ms."""

Answer = TypeVar("Answer")


class BrokerClient(aiomqtt.Client):
    """A connection that is used once, as a context manager, and leaves no socket behind however it ends.

    Entering raises ``BrokerUnavailable``.
    """

    def __init__(
        self,
        address: BrokerAddress,
        tls: ssl.SSLContext | None,
        *,
        version: aiomqtt.ProtocolVersion = aiomqtt.ProtocolVersion.V311,
        keepalive: int = KEEPALIVE_SECONDS,
        explains: bool = True,
        **options: Any,
    ) -> None:
        """Prepare a connection under the address's client id; ``options`` are aiomqtt's.

        With ``explains`` the port is looked at again when an attempt failed without saying why.
        """
        super().__init__(
            address.host,
            address.port,
            username=address.user,
            password=address.password,
            identifier=address.client_id,
            protocol=version,
            tls_context=tls,
            timeout=ANSWER_SECONDS,
            keepalive=keepalive,
            logger=_library_log,
            max_inflight_messages=0,  # unlimited; callers keep to what the broker allows
            # Else a lone packet waits up to 40 ms behind data that the broker's host has not acknowledged.
            socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
            **options,
        )
        self._address, self._tls, self._explains = address, tls, explains
        self._paho: paho.Client = self._client
        self._paho.disable_logger()  # a tenth of the time of a packet, for lines that nobody sees
        self._paho.connect_timeout = ANSWER_SECONDS
        self._gone = asyncio.Event()
        self._dropped = False
        self._answered: dict[int, Answered] = {}
        self._tell_aiomqtt_closed = cast("Callable[..., None]", self._paho.on_socket_close)
        self._paho.on_socket_close = self._on_closed
        self._paho.on_socket_register_write = self._on_something_to_write
        self._paho.on_publish = self._on_puback
        self._goodbye: int | None = None  # the reason in the broker's DISCONNECT, which paho overlooks
        self._let_paho_disconnect = self._paho._handle_disconnect  # noqa: SLF001 - no public way
        self._paho._handle_disconnect = self._on_goodbye  # type: ignore[method-assign]  # noqa: SLF001
        self._tell_aiomqtt_connected = cast("Callable[..., None]", self._paho.on_connect)
        self._paho.on_connect = self._on_connack
        # Told by MQTT 5 brokers, who disconnect clients that exceed them; paho ignores both.
        self.receive_maximum: int | None = None
        self.maximum_packet_size: int | None = None
        self.assigned_client_id: str | None = None
        """The client id that an MQTT 5 broker chose for us."""

    def _on_connack(
        self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any = None
    ) -> None:
        self.receive_maximum = getattr(properties, "ReceiveMaximum", None)
        self.maximum_packet_size = getattr(properties, "MaximumPacketSize", None)
        self.assigned_client_id = getattr(properties, "AssignedClientIdentifier", None)
        self._tell_aiomqtt_connected(client, userdata, flags, reason, properties)

    def _on_goodbye(self) -> None:
        packet = self._paho._in_packet["packet"]  # noqa: SLF001 - no public way
        self._goodbye = packet[0] if packet else None
        self._let_paho_disconnect()

    def _on_closed(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        self._tell_aiomqtt_closed(client, userdata, sock)
        # A connection that is refused early is closed in the thread that makes it.
        self._loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        self._gone.set()
        waiting, self._answered = self._answered, {}
        for answered in waiting.values():
            answered(None)

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
            fault = BrokerFault.REFUSED if isinstance(error, MqttConnectError) else fault_of(error)
            raise await failure(
                self._address, self._tls, fault, describe(error), looks=self._explains
            ) from None
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Disconnect in order if the connection is still there, for at most ``LEAVE_SECONDS``, and close."""
        if not self._dropped:
            # Not asyncio.timeout: it does not work in a task whose cancellation Python 3.11 has not cleared.
            leaving = asyncio.ensure_future(self._leave())
            try:
                await asyncio.wait([leaving], timeout=LEAVE_SECONDS)
            finally:
                leaving.cancel()
                await self._cut()
            if leaving.done() and not leaving.cancelled():
                leaving.result()
            return
        await self._cut()

    async def _leave(self) -> None:
        with contextlib.suppress(aiomqtt.MqttError, BrokerUnavailable):
            await self._take_leave()
            await super().__aexit__(None, None, None)

    async def _take_leave(self) -> None:
        """Do what must be done before the DISCONNECT."""

    @property
    def is_lost(self) -> bool:
        """Tell whether the connection has ended or is being ended."""
        return self._dropped or self._gone.is_set()

    @property
    def heard_at(self) -> float:
        """Return when something last came from the broker; only differences mean anything."""
        return self._paho._last_msg_in  # noqa: SLF001 - no public way

    def drop(self) -> None:
        """Cut the connection without a DISCONNECT, so that the broker sends the last will; harmless twice."""
        self._dropped = True
        sock = self._paho.socket()
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    async def _cut(self) -> None:
        """Close a socket that is still open, by making it look lost, so that all callbacks run as usual."""
        self.drop()
        if self._paho.socket() is not None:
            gone = asyncio.ensure_future(self._gone.wait())
            await asyncio.wait([gone], timeout=CLOSE_SECONDS)
            gone.cancel()
        self._ended()
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # else asyncio logs that nobody asked for it

    def post(self, message: Sendable, answered: Answered, expires_in: int | None = None) -> None:
        """Send at QoS 1 without waiting; raise ``BrokerUnavailable`` if it cannot be sent."""
        if self.is_lost:
            raise BrokerUnavailable("the connection was lost before the message was sent")
        info = self._paho.publish(message.topic, message.payload, 1, message.retain, expiring(expires_in))
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise BrokerUnavailable(f"the message could not be sent: {paho.error_string(info.rc)}")
        self._answered[info.mid] = answered

    def _on_puback(
        self, client: paho.Client, userdata: Any, mid: int, reason: ReasonCode, properties: Any
    ) -> None:
        answered = self._answered.pop(mid, None)
        if answered is not None:
            answered(Puback(reason.value, str(reason).lower()) if reason.value else TAKEN)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Let the libraries' errors leave as ours."""
        try:
            yield
        except aiomqtt.MqttError as error:
            raise failed(error, self._goodbye) from None

    async def ask(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        """Await a call of aiomqtt; raise ``BrokerUnavailable``."""
        # A task of its own: aiomqtt uses ``wait_for``, which in Python 3.11 can swallow a cancellation.
        task = asyncio.ensure_future(call)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        with self._told():
            return task.result()

    async def watch(self, filters: Sequence[str]) -> None:
        """Subscribe over MQTT 5 to messages of others: what is retained, then new ones with their flag."""
        options = SubscribeOptions(
            qos=0,
            noLocal=True,
            retainAsPublished=True,
            retainHandling=SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE,
        )
        if filters:
            await self.ask(self.subscribe([(one, options) for one in filters]))

    def end_session(self) -> None:
        """Disconnect over MQTT 5 and have the broker forget the session."""
        self._paho.disconnect(properties=ending_session())

    def acknowledge_by_hand(self) -> None:
        """Let ``received`` acknowledge, instead of paho as soon as it has read a message."""
        self._paho.manual_ack_set(True)

    async def received(self) -> AsyncIterator[Incoming]:
        """Yield messages; each is acknowledged when the next one is asked for.

        Raises ``BrokerUnavailable`` when the connection is lost.
        """
        while True:
            with self._told():
                message = await anext(self.messages)
            yield Incoming(message.topic.value, bytes(message.payload), bool(message.retain))
            self._paho.ack(message.mid, message.qos)  # without effect unless by hand


class ReadingClient(BrokerClient):
    """A connection over MQTT 3.1.1 with a persistent session that reads itself what paho would read.

    The broker keeps what is not acknowledged. While more than ``budget`` bytes wait to be stored, the socket
    is not read: the broker then holds the rest back.
    """

    def __init__(
        self,
        address: BrokerAddress,
        tls: ssl.SSLContext | None,
        budget: int,
        keepalive: int = KEEPALIVE_SECONDS,
    ) -> None:
        """Prepare the connection."""
        super().__init__(address, tls, keepalive=keepalive, clean_session=False)
        self.inbox = Inbox(budget)
        self.pauses = 0
        """How often reading was paused because the budget was used up."""
        self.changed = asyncio.Event()
        self.paused = False
        self._silent = 0  # seconds in which the broker could have sent something and did not
        self._over = False
        self._for_paho = b""
        # paho reads a packet with four system calls. We read, and give it only what it must see.
        self._receive: Callable[[int], bytes] = self._paho._sock_recv  # noqa: SLF001 - no public way
        self._paho._sock_recv = self._give_paho  # type: ignore[method-assign, assignment]  # noqa: SLF001

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # Called by paho in the thread that connects; aiomqtt's own would let paho read.
        def watch() -> None:
            self._watch_reading()
            self._misc_task = self._loop.create_task(self._misc_loop())
            self._misc_task.add_done_callback(lambda task: None if task.cancelled() else self.drop())

        self._loop.call_soon_threadsafe(watch)

    def _watch_reading(self) -> None:
        sock = self._paho.socket()
        if sock is None or sock.fileno() == -1:
            return
        try:
            self._loop.add_reader(sock.fileno(), self._read)
        except RuntimeError:  # as in ``_on_something_to_write``
            self._loop.call_soon(self._read)

    async def _misc_loop(self) -> None:
        """Ping the broker, also while nothing is read; end a connection over which nothing comes any more.

        paho's own keepalive takes a broker for dead whose answers we do not read.
        """
        seconds = 0
        while self._paho.socket() is not None:
            await asyncio.sleep(1)
            seconds += 1
            self._silent = 0 if self.paused else self._silent + 1
            if self._silent > 1.5 * self._keepalive:
                self.drop()
            elif seconds % (self._keepalive // 2) == 0:
                self._paho._send_pingreq()  # noqa: SLF001 - no public way

    def _read(self) -> bool:
        """Read what waits in the socket, a limited amount; tell whether something came."""
        came = False
        for _ in range(READS_PER_TURN):
            if self.inbox.full or self._over:
                break
            try:
                data = self._receive(RECEIVE_BYTES)
                self._for_paho += self.inbox.feed(data)
            except BlockingIOError:
                break
            except (OSError, MalformedStream):
                data = b""
            came = came or bool(data)
            self._over = not data
        self._let_paho_read()
        if came:
            self._silent = 0
        self.changed.set()
        sock = self._paho.socket()
        if self.inbox.full and sock is not None and not self.paused:
            self.paused = True
            self.pauses += 1
            self._loop.remove_reader(sock.fileno())
        elif isinstance(sock, ssl.SSLSocket) and sock.pending() and not self._over:
            # What TLS has already decrypted does not make the socket readable.
            self._loop.call_soon(self._read)
        return came

    def _let_paho_read(self) -> None:
        while self._for_paho or self._over:
            if self._paho.loop_read() != paho.MQTT_ERR_SUCCESS:
                break

    def _give_paho(self, size: int) -> bytes:
        """Stand in for paho's way to read: packets without messages, then the end of the stream."""
        part, self._for_paho = self._for_paho[:size], self._for_paho[size:]
        if not part and not self._over:
            raise BlockingIOError
        return part

    def _resume(self) -> None:
        if self.paused and not self.inbox.full:
            self.paused = False
            self._watch_reading()

    def _write(self) -> bool:
        # A write that fails closes the socket with all that is unread in it, which a killed broker does not
        # deliver again. So everything is read first, a part in each turn of the event loop; the broker's
        # limit of messages in flight, or the budget, ends that.
        if self._read():
            return False
        return super()._write()

    def _ended(self) -> None:
        super()._ended()
        self.changed.set()

    def stop_taking(self) -> None:
        """Drop what waits and all that still comes; it is not acknowledged."""
        self.inbox.close()
        self._resume()

    def raise_if_lost(self) -> None:
        """Raise ``BrokerUnavailable`` once the connection has ended, however that came."""
        if self._gone.is_set():
            if self._misc_task is not None and self._misc_task.done() and not self._misc_task.cancelled():
                self._misc_task.result()
            error = self._disconnected.exception() if self._disconnected.done() else None
            raise lost(error, self._goodbye)

    def acknowledge(self, batch: Batch) -> None:
        """Tell the broker to forget the messages; without a connection it will deliver them again.

        All PUBACKs go out as one: paho would make one ``send`` of each.
        """
        if batch.pubacks:
            self._paho._packet_queue(paho.PUBACK, batch.pubacks, 0, 1)  # noqa: SLF001 - no public way
        self.inbox.stored(batch)
        self._resume()


def last_will(message: Sendable | None) -> aiomqtt.Will | None:
    """Return a message as aiomqtt takes it for the last will."""
    return None if message is None else aiomqtt.Will(message.topic, message.payload, 1, message.retain)
