"""The listening connection against a real mosquitto. What it must never do is lose a message."""

import asyncio
import gc
import os
import signal
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from infoscreen.clock import SystemClock
from infoscreen.domain.broker import BrokerFault
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.inbox import Batch
from infoscreen.mqtt.listener import Listener
from infoscreen.mqtt.listening import ListeningClient
from infoscreen.services.ports import Incoming, LinkState
from infoscreen.wire.topics import DEVICE_FILTERS
from tests.broker import Broker
from tests.doors import (
    DEVICE,
    HEARTBEAT,
    Shelf,
    address_of,
    eventually,
    listener_for,
    listening,
    running,
    say,
)

pytestmark = pytest.mark.broker

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def site(broker: Broker) -> Broker:
    """Return a broker that knows one device."""
    await broker.add_device(DEVICE)
    return broker


@pytest.fixture
async def quick_site(tmp_path: Path, free_port: int) -> AsyncIterator[Broker]:
    """Yield a broker that knows one device and does not save each change."""
    broker = Broker(tmp_path / "quick", free_port, save_every_change=False)
    await broker.add_device(DEVICE)
    async with broker.running():
        yield broker


@pytest.fixture(autouse=True)
def _no_loose_ends(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail when asyncio complains: of errors that nobody retrieved, or of callbacks on closed sockets."""
    yield
    gc.collect()
    said = [*caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in said if record.name == "asyncio"] == []


async def heard_next(broker: Broker) -> list[bytes]:
    """Return what a new listener of the same session hears, up to a message that is sent last."""
    await say(broker, b"last")
    shelf = Shelf()
    async with listening(listener_for(address_of(broker), shelf)):
        await eventually(lambda: b"last" in shelf.payloads)
    return shelf.payloads[: shelf.payloads.index(b"last")]


async def test_messages_reach_the_handler_in_order(site: Broker) -> None:
    shelf = Shelf()
    said = [b"%d" % number for number in range(50)]
    async with listening(listener_for(address_of(site), shelf)):
        await say(site, *said)
        await eventually(lambda: len(shelf.payloads) >= len(said))
    assert shelf.payloads == said
    assert {message.topic for batch in shelf.batches for message in batch} == {HEARTBEAT}


async def test_a_message_whose_handler_failed_is_delivered_again(site: Broker) -> None:
    async def fail(batch: Sequence[Incoming], received_at: datetime) -> None:
        raise ZeroDivisionError

    listener = Listener(address_of(site), SystemClock(), fail, DEVICE_FILTERS)
    task = asyncio.ensure_future(listener.run())
    await eventually(lambda: listener.state.listening_since)
    await say(site, b"first")
    with pytest.raises(ZeroDivisionError):
        await task
    assert listener.state.connected is False
    assert await heard_next(site) == [b"first"]


async def test_a_stored_message_is_not_delivered_again(site: Broker) -> None:
    shelf = Shelf()
    async with listening(listener_for(address_of(site), shelf)):
        await say(site, b"first")
        await eventually(lambda: shelf.finished)
    assert await heard_next(site) == []


async def test_nothing_is_acknowledged_while_the_handler_works(site: Broker) -> None:
    shelf = Shelf()
    shelf.gate.clear()
    async with listening(listener_for(address_of(site), shelf)) as task:
        await say(site, b"first")
        await eventually(lambda: shelf.batches)
        await say(site, b"second")
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # the second cancellation does not wait for the handler
        await asyncio.wait([task])
    assert shelf.finished == 0
    assert await heard_next(site) == [b"first", b"second"]


async def test_stopping_finishes_the_batch_in_hand(site: Broker) -> None:
    shelf = Shelf()
    shelf.gate.clear()
    async with listening(listener_for(address_of(site), shelf)) as task:
        await say(site, b"first")
        await eventually(lambda: shelf.batches)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        shelf.gate.set()
    assert shelf.finished == 1
    assert await heard_next(site) == []


@pytest.mark.slow
async def test_a_stop_does_not_wait_for_ever_for_a_store_that_hangs(site: Broker) -> None:
    shelf = Shelf()
    shelf.gate.clear()
    async with listening(listener_for(address_of(site), shelf)):
        await say(site, b"first")
        await eventually(lambda: shelf.batches)
    assert shelf.finished == 0
    assert await heard_next(site) == [b"first"]


async def test_a_session_keeps_what_is_said_while_nobody_listens(quick_site: Broker) -> None:
    async with listening(listener_for(address_of(quick_site), Shelf())):
        pass
    said = [b"%d" % number for number in range(3000)]
    await say(quick_site, *said)
    # The broker delivers the first 2,000 right after its CONNACK, before there is a SUBACK.
    assert await heard_next(quick_site) == said


async def test_waiting_messages_come_in_batches_of_at_most_the_limit(site: Broker) -> None:
    shelf = Shelf()
    shelf.gate.clear()
    said = [b"%d" % number for number in range(250)]
    async with listening(listener_for(address_of(site), shelf, batch_limit=100)):
        await say(site, b"first")
        await eventually(lambda: shelf.batches)
        await say(site, *said)
        shelf.gate.set()
        await eventually(lambda: len(shelf.payloads) == 251)
    assert shelf.payloads == [b"first", *said]
    assert max(len(batch) for batch in shelf.batches) == 100
    assert len(shelf.batches) <= 5


async def test_only_what_was_retained_before_carries_the_flag(site: Broker) -> None:
    shelf = Shelf()
    topic = f"infoscreen/{DEVICE}/service_failed"
    await site.pub(topic, b"before", retain=True)
    async with listening(listener_for(address_of(site), shelf)):
        await eventually(lambda: shelf.payloads)
        await site.pub(topic, b"after", retain=True)
        await eventually(lambda: len(shelf.payloads) == 2)
    heard = [message for batch in shelf.batches for message in batch]
    assert [one[:3] for one in heard] == [(topic, b"before", True), (topic, b"after", False)]


async def test_a_killed_broker_is_found_again(site: Broker) -> None:
    shelf = Shelf()
    listener = listener_for(address_of(site), shelf)
    async with listening(listener):
        first = listener.state
        assert first == LinkState(True, first.listening_since, 0, None)
        await site.kill()
        await eventually(lambda: listener.state.last_error)
        down = listener.state
        assert (down.connected, down.listening_since) == (False, None)
        await site.start()
        await eventually(lambda: listener.state.listening_since)
        again = listener.state
        assert first.listening_since is not None
        assert again.listening_since is not None
        assert again.listening_since > first.listening_since
        assert again == LinkState(True, again.listening_since, 1, None)
        await say(site, b"after")
        await eventually(lambda: b"after" in shelf.payloads)


async def test_a_batch_whose_connection_died_is_delivered_again(site: Broker) -> None:
    shelf = Shelf()
    shelf.gate.clear()
    listener = listener_for(address_of(site), shelf)
    async with listening(listener):
        await say(site, b"first")
        await eventually(lambda: shelf.batches)
        async with ListeningClient(address_of(site), None, MEBIBYTE):
            pass  # the broker allows one connection per client id, so this ended the listener's
        shelf.gate.set()
        await eventually(lambda: len(shelf.payloads) == 2)
        assert listener.state.reconnects == 1
    assert shelf.payloads == [b"first", b"first"]
    assert await heard_next(site) == []


async def test_what_has_arrived_is_stored_although_the_broker_was_killed(site: Broker) -> None:
    shelf = Shelf()
    shelf.gate.clear()
    listener = listener_for(address_of(site), shelf)
    async with listening(listener):
        await say(site, b"first")
        await eventually(lambda: shelf.batches)
        await say(site, b"second")
        await site.settle()
        await site.kill()
        shelf.gate.set()
        await eventually(lambda: listener.state.last_error)
    assert shelf.payloads == [b"first", b"second"]


@pytest.mark.slow
async def test_what_a_session_delivers_is_stored_although_the_subscription_fails(free_port: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Deliver a message of the session, and hang up instead of answering the subscription."""
        await _packet(reader)
        writer.write(b"\x20\x02\x01\x00" + _message(1, b"kept"))
        await _packet(reader)
        writer.close()

    shelf = Shelf()
    async with await asyncio.start_server(answer, "127.0.0.1", free_port):
        address = BrokerAddress("127.0.0.1", free_port, None, None, "daemon")
        async with running(listener_for(address, shelf).run):
            await eventually(lambda: shelf.finished)
    assert shelf.payloads[0] == b"kept"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_has_arrived_is_read_before_an_acknowledgement_that_cannot_be_sent(
    free_port: int, loop: str
) -> None:
    said = [b"%d" % number for number in range(50)]
    with asyncio.Runner(loop_factory=pytest.importorskip(loop).new_event_loop) as runner:
        assert runner.run(_stored_of_a_reset_connection(free_port, said)) == said


async def _stored_of_a_reset_connection(port: int, said: Sequence[bytes]) -> list[bytes]:
    """Return what is stored when all but the first arrive, and the connection is reset, in a busy moment."""
    busy, gone = threading.Event(), threading.Event()

    def answer(listening: socket.socket) -> None:
        with listening, listening.accept()[0] as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(4096)
            connection.sendall(b"\x20\x02\x01\x00")
            subscribe = connection.recv(4096)
            granted = bytes((0x90, 2 + len(DEVICE_FILTERS))) + subscribe[3:5] + b"\x01" * len(DEVICE_FILTERS)
            connection.sendall(granted + _message(1, said[0]))
            busy.wait()
            connection.sendall(
                b"".join(_message(1 + mid, payload) for mid, payload in enumerate(said[1:], 1))
            )
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.set()

    stored: list[bytes] = []

    async def store(batch: Sequence[Incoming], received_at: datetime) -> None:
        stored.extend(message.payload for message in batch)
        busy.set()
        gone.wait()  # holds up the event loop, as a machine with too much to do would

    address = BrokerAddress("127.0.0.1", port, None, None, "daemon")
    listener = Listener(address, SystemClock(), store, DEVICE_FILTERS)
    broker = asyncio.to_thread(answer, socket.create_server(("127.0.0.1", port)))
    async with running(lambda: broker), running(listener.run):
        await eventually(lambda: listener.state.last_error)
    return stored


async def test_a_subscription_may_wait_behind_a_long_backlog(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infoscreen.mqtt.listening.ANSWER_SECONDS", 0.5)
    said = [b"%d" % number for number in range(8)]
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Deliver the backlog of a session, slowly, before the subscription is answered."""
        nonlocal connections
        connections += 1
        await _packet(reader)
        writer.write(b"\x20\x02\x01\x00")
        subscribe = await _packet(reader)
        for mid, payload in enumerate(said, 1):
            writer.write(_message(mid, payload))
            await asyncio.sleep(0.1)
        writer.write(bytes((0x90, 2 + len(DEVICE_FILTERS))) + subscribe[:2] + b"\x01" * len(DEVICE_FILTERS))
        await reader.read()
        writer.close()

    shelf = Shelf()
    async with await asyncio.start_server(answer, "127.0.0.1", free_port):
        listener = listener_for(BrokerAddress("127.0.0.1", free_port, None, None, "daemon"), shelf)
        async with listening(listener):
            await eventually(lambda: len(shelf.payloads) == len(said))
    assert (shelf.payloads, connections) == (said, 1)


async def test_a_socket_that_is_closed_before_its_turn_to_write_is_left_alone(site: Broker) -> None:
    async with ListeningClient(address_of(site), None, MEBIBYTE) as client:
        client._paho.unsubscribe("infoscreen/nothing")
        connection = client._paho.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        client._read()
        assert connection.fileno() == -1
        await asyncio.sleep(0)  # else asyncio's complaint is found by ``_no_loose_ends``


async def test_it_starts_without_a_broker_and_connects_when_there_is_one(site: Broker) -> None:
    await site.stop()
    states: list[LinkState] = []
    shelf = Shelf()
    listener = Listener(address_of(site), SystemClock(), shelf.store, DEVICE_FILTERS, on_state=states.append)
    async with running(listener.run):
        await eventually(lambda: listener.state.last_error)
        error = f"cannot connect to {site.host}:{site.port}: Connection refused"
        assert listener.state == LinkState(False, None, 0, error, fault=BrokerFault.UNREACHABLE)
        await site.start()
        await eventually(lambda: listener.state.listening_since)
        assert states[-1] == listener.state
    assert states[-1].connected is False


async def test_a_wrong_password_is_told_and_tried_again(site: Broker) -> None:
    right = address_of(site)
    wrong = BrokerAddress(right.host, right.port, right.user, "not-the-password", right.client_id)
    listener = listener_for(wrong, Shelf())
    refusals = "disconnected, not authorised"
    async with running(listener.run):
        await eventually(lambda: site.log.count(refusals) >= 2)
        told = listener.state.last_error
    assert (
        told
        == f"cannot connect to {site.host}:{site.port}: the broker refused the connection: not authorized"
    )
    assert "not-the-password" not in repr(wrong)


async def test_a_stop_while_the_broker_does_not_answer_leaves_nothing_behind(site: Broker) -> None:
    os.kill(site.pid, signal.SIGSTOP)
    try:
        async with running(listener_for(address_of(site), Shelf()).run):
            await eventually(lambda: _established(site.port))
        assert not _established(site.port)
    finally:
        os.kill(site.pid, signal.SIGCONT)


@pytest.mark.slow
async def test_a_broker_that_does_not_answer_is_told_and_its_connection_closed(site: Broker) -> None:
    os.kill(site.pid, signal.SIGSTOP)
    listener = listener_for(address_of(site), Shelf())
    try:
        async with running(listener.run):
            await eventually(lambda: listener.state.last_error)
            assert listener.state.last_error is not None
            assert listener.state.last_error.endswith("the broker did not answer in time")
    finally:
        os.kill(site.pid, signal.SIGCONT)
    assert not _established(site.port)


async def test_a_refused_subscription_is_no_listening(free_port: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Accept the connection and, as mosquitto never does, refuse each of its subscriptions."""
        await _packet(reader)
        writer.write(b"\x20\x02\x00\x00")
        subscribe = await _packet(reader)
        writer.write(bytes((0x90, 2 + len(DEVICE_FILTERS))) + subscribe[:2] + b"\x80" * len(DEVICE_FILTERS))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", free_port):
        listener = listener_for(BrokerAddress("127.0.0.1", free_port, None, None, "daemon"), Shelf())
        async with running(listener.run):
            await eventually(lambda: listener.state.last_error)
            state = listener.state
    assert state.listening_since is None
    assert state.last_error is not None
    assert state.last_error.startswith("the broker refused to subscribe infoscreen/+/discovery, ")


async def test_the_library_leaves_reading_and_acknowledging_to_us(site: Broker) -> None:
    async with ListeningClient(address_of(site), None, MEBIBYTE) as client:
        asking = asyncio.ensure_future(client.subscribe_all(DEVICE_FILTERS))
        assert await client.answered(asking)
        assert asking.result() == []
        await say(site, *(b"%d" % number for number in range(300)))
        taken: list[Batch] = []
        while sum(len(batch.messages) for batch in taken) < 300:
            taken.append(await client.next_batch(100, MEBIBYTE))
        for batch in taken:
            if batch.messages[-1].payload < b"200" and len(batch.messages[-1].payload) == 3:
                client.acknowledge(batch)
    assert (await heard_next(site))[-100:] == [b"%d" % number for number in range(200, 300)]


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """Read one MQTT packet and return what follows its length."""
    await reader.readexactly(1)
    length = shift = 0
    while True:
        (byte,) = await reader.readexactly(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return await reader.readexactly(length)


def _message(mid: int, payload: bytes) -> bytes:
    """Return a PUBLISH of a heartbeat at QoS 1."""
    body = len(HEARTBEAT).to_bytes(2) + HEARTBEAT.encode() + mid.to_bytes(2) + payload
    return bytes((0x32, len(body))) + body


def _established(port: int) -> bool:
    """Tell whether this process holds a TCP connection to the port."""
    return any(
        one.raddr and one.raddr.port == port and one.status == "ESTABLISHED"
        for one in psutil.Process().net_connections("tcp")
    )
