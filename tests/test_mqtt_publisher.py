"""The publishing connection against a real mosquitto."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

from infoscreen.clock import SystemClock
from infoscreen.domain.errors import BrokerUnavailable, PublishRefused
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.publisher import BrokerPublisher
from infoscreen.services.ports import Outgoing
from infoscreen.wire.topics import COMMAND_FILTERS
from tests.broker import Broker, Received
from tests.doors import DEVICE, Shelf, address_of, eventually, listener_for, listening, running, say, stranger

pytestmark = pytest.mark.broker

COMMANDS = f"infoscreen/{DEVICE}/commands"


@pytest.fixture
async def site(broker: Broker) -> Broker:
    """Return a broker that knows one device."""
    await broker.add_device(DEVICE)
    return broker


@contextlib.asynccontextmanager
async def publishing(address: BrokerAddress) -> AsyncIterator[BrokerPublisher]:
    """Run a publisher that is connected, and stop it in order."""
    publisher = BrokerPublisher(address, SystemClock())
    async with running(publisher.run):
        await eventually(lambda: publisher.connected)
        yield publisher


async def test_a_device_gets_what_is_published_for_it(site: Broker) -> None:
    async with site.sub(COMMANDS) as device, publishing(address_of(site)) as publisher:
        await publisher.publish(Outgoing(COMMANDS, b"{}", expires_in=60))
        assert await device.next() == Received(COMMANDS, b"{}", qos=1, retain=False)


async def test_that_nobody_listens_is_no_error(site: Broker) -> None:
    async with publishing(address_of(site)) as publisher:
        await publisher.publish(Outgoing(COMMANDS, b"{}"))


async def test_a_retained_message_can_be_cleared(site: Broker) -> None:
    topic = f"infoscreen/{DEVICE}/service_failed"
    await site.pub(topic, b"failed", retain=True)
    async with publishing(address_of(site)) as publisher:
        await publisher.publish(Outgoing(topic, b"", retain=True))
    await site.pub(f"infoscreen/{DEVICE}/presence", b"online", retain=True)
    async with site.sub(topic, f"infoscreen/{DEVICE}/presence", account=site.server_user) as server:
        assert (await server.next()).payload == b"online"


async def test_without_a_connection_it_says_so_at_once(site: Broker) -> None:
    await site.stop()
    publisher = BrokerPublisher(address_of(site), SystemClock())
    with pytest.raises(BrokerUnavailable, match="not connected to the broker"):
        await publisher.publish(Outgoing(COMMANDS, b"{}"))
    async with running(publisher.run):
        await eventually(lambda: publisher.last_error)
        with pytest.raises(BrokerUnavailable, match="Connection refused"):
            await publisher.publish(Outgoing(COMMANDS, b"{}"))


async def test_it_tells_whenever_publishing_becomes_possible(site: Broker) -> None:
    await site.stop()
    told: list[bool] = []
    publisher = BrokerPublisher(
        address_of(site), SystemClock(), on_connected=lambda: told.append(publisher.connected)
    )
    async with running(publisher.run):
        await eventually(lambda: publisher.last_error)
        assert told == []
        await site.start()
        await eventually(lambda: told)
        await publisher.publish(Outgoing(COMMANDS, b"{}"))
        await site.kill()
        await eventually(lambda: not publisher.connected)
        await site.start()
        await eventually(lambda: len(told) == 2)
        await publisher.publish(Outgoing(COMMANDS, b"{}"))
    assert told == [True, True]
    assert publisher.connected is False


async def test_the_library_hands_on_why_a_message_was_refused(site: Broker) -> None:
    async with publishing(address_of(site)) as publisher:
        with pytest.raises(PublishRefused, match="the broker refused the message: not authorized"):
            await publisher.publish(Outgoing("elsewhere/commands", b"{}"))
        await publisher.publish(Outgoing(COMMANDS, b"{}"))


async def test_a_packet_that_is_too_large_for_the_broker_is_not_sent(site: Broker) -> None:
    async with publishing(address_of(site)) as publisher:
        with pytest.raises(PublishRefused, match="the broker takes at most 2097152 bytes"):
            await publisher.publish(Outgoing(COMMANDS, b" " * 2_097_152))
        await publisher.publish(Outgoing(COMMANDS, b"{}"))
    assert site.log.count(f"as {site.server_user}-publisher ") == 1


async def test_many_are_in_flight_at_once_but_no_more_than_the_broker_allows(
    tmp_path: Path, free_port: int
) -> None:
    broker = Broker(tmp_path / "narrow", free_port, save_every_change=False)
    broker.reconfigure("max_inflight_messages 10000", "max_inflight_messages 20")
    await broker.add_device(DEVICE)
    await broker.start()
    said = [b"%d" % number for number in range(500)]
    try:
        async with stranger(broker) as device, publishing(address_of(broker)) as publisher:
            await device.subscribe(COMMANDS, qos=1)
            await asyncio.gather(*(publisher.publish(Outgoing(COMMANDS, one)) for one in said))
            heard = [(await anext(device.messages)).payload for _ in said]
    finally:
        await broker.stop()
    assert heard == said
    assert "Receive maximum exceeded" not in broker.log


async def test_the_lifetime_is_told_in_whole_seconds_rounded_up(site: Broker) -> None:
    told: list[int | None] = []
    v5 = aiomqtt.ProtocolVersion.V5
    async with stranger(site, protocol=v5) as device, publishing(address_of(site)) as publisher:
        await device.subscribe(COMMANDS, qos=1)
        for expires_in in (59.2, 0.01, None):
            await publisher.publish(Outgoing(COMMANDS, b"{}", expires_in=expires_in))
            message = await anext(device.messages)
            told.append(getattr(message.properties, "MessageExpiryInterval", None))
    assert told == [60, 1, None]


@pytest.mark.slow
async def test_an_expired_message_leaves_the_queue_of_an_older_device_that_is_away(site: Broker) -> None:
    async with site.sub(COMMANDS, session="device"):
        pass
    async with publishing(address_of(site)) as publisher:
        await publisher.publish(Outgoing(COMMANDS, b"gone", expires_in=0.5))
        expired_at = (
            time.monotonic() + 2.1
        )  # the broker counts whole seconds, and its clock is nobody's to move
        await publisher.publish(Outgoing(COMMANDS, b"kept", expires_in=60))
    await asyncio.sleep(expired_at - time.monotonic())
    async with site.sub(COMMANDS, session="device") as device:
        assert (await device.next()).payload == b"kept"


async def test_a_connection_that_dies_ends_the_waiting_for_its_answers(site: Broker) -> None:
    async with publishing(address_of(site)) as publisher:
        os.kill(site.pid, signal.SIGSTOP)
        waiting = [asyncio.ensure_future(publisher.publish(Outgoing(COMMANDS, b"{}"))) for _ in range(300)]
        await asyncio.sleep(0)
        await site.kill()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {BrokerUnavailable}
    assert {str(outcome) for outcome in outcomes} == {
        "the connection was lost before the broker answered",
        "the connection was lost before the message was sent",
    }


@pytest.mark.slow
async def test_a_broker_that_does_not_answer_is_waited_for_ten_seconds(site: Broker) -> None:
    async with publishing(address_of(site)) as publisher:
        os.kill(site.pid, signal.SIGSTOP)
        try:
            with pytest.raises(BrokerUnavailable, match="did not answer within 10 s"):
                await publisher.publish(Outgoing(COMMANDS, b"{}"))
        finally:
            os.kill(site.pid, signal.SIGCONT)
        await publisher.publish(Outgoing(COMMANDS, b"{}"))


async def test_retained_commands_are_found_once_until_they_are_cleared(site: Broker) -> None:
    alias = f"infoscreen/{DEVICE}/command"
    found: list[str] = []
    publisher = BrokerPublisher(
        address_of(site), SystemClock(), watched=COMMAND_FILTERS, on_retained_command=found.append
    )

    async def retain(topic: str, payload: bytes) -> None:
        await site.pub(topic, payload, account=site.server_user, retain=True)

    await retain(COMMANDS, b"lies there already")
    async with running(publisher.run):
        await eventually(lambda: found == [COMMANDS])
        await publisher.publish(Outgoing(COMMANDS, b"our own"))
        await site.pub(COMMANDS, b"not retained", account=site.server_user)
        await retain(COMMANDS, b"known already")
        await retain(alias, b"comes now")
        await eventually(lambda: found == [COMMANDS, alias])
        await retain(COMMANDS, b"")
        await retain(COMMANDS, b"comes again")
        await eventually(lambda: found == [COMMANDS, alias, COMMANDS])
        await site.restart()
        await eventually(lambda: not publisher.connected)
        await eventually(lambda: publisher.connected)
        await retain(alias, b"")
        await retain(alias, b"the last")
        await eventually(lambda: found[3:] == [alias])
    assert found == [COMMANDS, alias, COMMANDS, alias]


async def test_it_lives_beside_the_listener_under_one_account(site: Broker) -> None:
    address = address_of(site)
    shelf = Shelf()
    listener = listener_for(address, shelf)
    async with listening(listener), publishing(address) as publisher:
        await publisher.publish(Outgoing(COMMANDS, b"{}"))
        await say(site, b"heartbeat")
        await eventually(lambda: shelf.payloads == [b"heartbeat"])
        await publisher.publish(Outgoing(COMMANDS, b"{}"))
        assert listener.state.reconnects == 0
        assert publisher.connected
