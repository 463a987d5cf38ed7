"""The shipped broker configuration on a real mosquitto.

It acknowledges what it forbids, so only what is delivered proves an ACL: each test of a forbidden thing ends
with an allowed one on the same way, and looks at what came before it.
"""

import uuid
from pathlib import Path

import aiomqtt
import pytest

from infoscreen.domain.errors import ProvisioningError
from infoscreen.provisioning.passwords import password_line
from infoscreen.wire import topics
from tests.broker import ANONYMOUS, Broker, RefusedByBroker

pytestmark = pytest.mark.broker

DEVICE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER = "9b2c1d4e-7a66-4f0e-8d51-6c1b2a3f4e5d"
SERVER = Broker.server_user

REPORTS = [
    topics.discovery(DEVICE),
    topics.heartbeat(DEVICE),
    topics.health(DEVICE),
    topics.service_failed(DEVICE),
    topics.presence(DEVICE),
    topics.screenshot(DEVICE),
    *(topics.logs(DEVICE, level) for level in topics.LogLevel),
    *topics.acks(DEVICE),
]
COMMANDS = [topics.commands(DEVICE), topics.command_alias(DEVICE)]


@pytest.fixture
async def site(broker: Broker) -> Broker:
    """Return a broker that knows two devices."""
    await broker.add_devices([DEVICE, OTHER])
    return broker


async def test_the_server_hears_every_report_of_a_device(site: Broker) -> None:
    async with site.sub(*topics.DEVICE_FILTERS, account=SERVER) as server:
        for topic in REPORTS:
            await site.pub(topic, b"{}", account=DEVICE)
            assert (await server.next()).topic == topic


async def test_a_device_hears_its_commands(site: Broker) -> None:
    async with site.sub(*COMMANDS, account=DEVICE) as device:
        for topic in COMMANDS:
            await site.pub(topic, b"{}", account=SERVER)
            assert (await device.next()).topic == topic


async def test_a_device_cannot_speak_for_another(site: Broker) -> None:
    async with site.sub(*topics.DEVICE_FILTERS, account=SERVER) as server:
        for topic in REPORTS:
            await site.pub(topic, b"{}", account=OTHER, retain=True)
        await site.pub(topics.heartbeat(DEVICE), b"allowed", account=DEVICE)
        assert (await server.next()).payload == b"allowed"


async def test_a_device_cannot_forge_a_command_for_itself_or_another(site: Broker) -> None:
    async with site.sub(*COMMANDS, account=DEVICE) as device, site.sub(*COMMANDS, account=SERVER) as server:
        for forger in (DEVICE, OTHER):
            for topic in COMMANDS:
                await site.pub(topic, b"forged", account=forger)
        await site.pub(COMMANDS[0], b"allowed", account=SERVER)
        assert (await device.next()).payload == b"allowed"
        assert (await server.next()).payload == b"allowed"


@pytest.mark.parametrize(
    "topic_filter", ["#", "infoscreen/#", f"infoscreen/{OTHER}/#", "+/+/+", "+/+/commands"]
)
async def test_a_device_hears_nothing_that_is_not_for_it(site: Broker, topic_filter: str) -> None:
    await site.pub(topics.presence(OTHER), b"online", retain=True)
    async with site.sub(topic_filter, *COMMANDS, account=DEVICE) as device:
        await site.pub(topics.commands(OTHER), b"{}", account=SERVER)
        await site.pub(topics.heartbeat(OTHER), b"{}")
        await site.pub(topics.heartbeat(DEVICE), b"{}")
        await site.pub(COMMANDS[0], b"allowed", account=SERVER)
        assert (await device.next()).payload == b"allowed"


async def test_only_the_server_hears_of_the_broker_itself(site: Broker) -> None:
    async with site.sub("$SYS/#", account=SERVER) as server:
        assert (await server.next()).topic.startswith("$SYS/broker/")
    async with site.sub("$SYS/#", *COMMANDS, account=DEVICE) as device:
        await site.pub(COMMANDS[0], b"allowed", account=SERVER)
        assert (await device.next()).payload == b"allowed"


async def test_nobody_comes_in_without_an_account(site: Broker) -> None:
    stranger = str(uuid.uuid4())
    site.passwords[stranger] = "guessed"
    for account in (ANONYMOUS, stranger):
        with pytest.raises(RefusedByBroker, match="not authorised"):
            await site.pub(topics.heartbeat(DEVICE), b"{}", account=account)
        with pytest.raises(RefusedByBroker):
            async with site.sub("#", account=account):
                pass


async def test_a_wrong_password_is_refused(site: Broker) -> None:
    site.passwords[DEVICE] += "0"
    with pytest.raises(RefusedByBroker, match="not authorised"):
        await site.pub(topics.heartbeat(DEVICE), b"{}")


async def test_a_new_password_ends_the_old_one(site: Broker) -> None:
    old = site.passwords[DEVICE]
    await site.add_device(DEVICE)
    await site.pub(topics.heartbeat(DEVICE), b"{}")
    site.passwords[DEVICE] = old
    with pytest.raises(RefusedByBroker, match="not authorised"):
        await site.pub(topics.heartbeat(DEVICE), b"{}")


async def test_a_device_has_one_account_however_its_uuid_is_spelled(site: Broker) -> None:
    for name in (DEVICE.upper(), DEVICE.replace("-", ""), f" {DEVICE}\n"):
        assert list(await site.add_devices([name])) == [DEVICE]
    for name in ("+", "#", "", f"{DEVICE}:", f"{DEVICE}/x", "infoscreen-server"):
        with pytest.raises(ProvisioningError, match="UUID"):
            await site.add_devices([name])


async def test_an_account_named_like_a_wildcard_speaks_for_nobody(broker: Broker) -> None:
    await broker.stop()
    passwords = broker.files.passwords
    passwords.write_text(passwords.read_text() + password_line("+", "known"))
    broker.passwords["+"] = "known"
    await broker.start()
    await broker.add_device(DEVICE)
    async with broker.sub(*topics.DEVICE_FILTERS, account=SERVER) as server:
        await broker.pub(topics.heartbeat(DEVICE), b"forged", account="+")
        await broker.pub("infoscreen/+/heartbeat".replace("+", OTHER), b"forged", account="+")
        await broker.pub(topics.heartbeat(DEVICE), b"allowed")
        assert (await server.next()).payload == b"allowed"


async def test_the_server_finds_a_retained_command(site: Broker) -> None:
    await site.pub(COMMANDS[0], b"{}", account=SERVER, retain=True)
    async with site.sub(*topics.COMMAND_FILTERS, account=SERVER) as server:
        assert (await server.next()).retain


async def test_the_server_clears_what_the_broker_retains_of_a_client(site: Broker) -> None:
    retained = [topics.service_failed(DEVICE), topics.presence(DEVICE)]
    for topic in retained:
        await site.pub(topic, b"kept", retain=True)
        await site.pub(topic, b"", account=SERVER, retain=True)
    async with site.sub(*retained, topics.heartbeat(DEVICE), account=SERVER) as server:
        await site.pub(topics.heartbeat(DEVICE), b"allowed")
        assert (await server.next()).payload == b"allowed"


async def test_a_killed_broker_remembers_what_it_retained_and_what_it_still_had_to_deliver(
    site: Broker,
) -> None:
    heartbeats = topics.heartbeat(DEVICE)
    async with site.sub(heartbeats, account=SERVER, session="away"):
        pass
    await site.pub(topics.service_failed(DEVICE), b"failed", retain=True)
    sent = [str(number).encode() for number in range(20)]
    for payload in sent:
        await site.pub(heartbeats, payload)
    await site.settle()
    await site.kill()
    await site.start()

    async with site.sub(heartbeats, account=SERVER, session="away") as back:
        assert [(await back.next()).payload for _ in sent] == sent
    async with site.sub(topics.service_failed(DEVICE), account=SERVER) as server:
        message = await server.next()
    assert (message.payload, message.retain) == (b"failed", True)


async def test_nothing_is_dropped_for_a_subscriber_that_is_away(tmp_path: Path, free_port: int) -> None:
    broker = Broker(tmp_path / "broker", free_port, save_every_change=False)
    await broker.start()
    try:
        password = await broker.add_device(DEVICE)
        heartbeats = topics.heartbeat(DEVICE)
        count = 4_000  # more than the defaults and more than our own limit of messages in flight
        async with broker.sub(heartbeats, account=SERVER, session="away"):
            pass
        async with aiomqtt.Client(broker.host, broker.port, username=DEVICE, password=password) as device:
            for number in range(count):
                await device.publish(heartbeats, str(number), qos=1)
        async with broker.sub(heartbeats, account=SERVER, session="away") as back:
            received = [int((await back.next()).payload) for _ in range(count)]
        assert received == list(range(count))
    finally:
        await broker.stop()


async def test_a_message_too_large_for_the_broker_ends_only_its_sender(site: Broker) -> None:
    async with site.sub(topics.screenshot(DEVICE), account=SERVER) as server:
        await site.pub(topics.screenshot(DEVICE), bytes(600 * 1024))
        assert len((await server.next()).payload) == 600 * 1024
        await site.pub(topics.screenshot(DEVICE), bytes(1100 * 1024))
        with pytest.raises(RefusedByBroker):
            await site.pub(topics.screenshot(DEVICE), bytes(2100 * 1024))
        await site.pub(topics.screenshot(DEVICE), b"small")
        assert (await server.next()).payload == b"small"


async def test_the_production_configuration_works_as_a_drop_in_of_debians(
    tmp_path: Path, free_port: int
) -> None:
    (tmp_path / "mosquitto.conf").write_text(
        f"user root\npid_file {tmp_path}/mosquitto.pid\npersistence true\npersistence_location {tmp_path}/\n"
        f"log_dest file {tmp_path}/mosquitto.log\ninclude_dir {tmp_path}/conf.d\n"
    )
    broker = Broker(tmp_path, free_port)
    assert not broker.files.is_private
    await broker.add_device(DEVICE)
    await broker.start()
    try:
        async with broker.sub(topics.heartbeat(DEVICE), account=SERVER) as server:
            await broker.pub(topics.heartbeat(DEVICE), b"{}")
            assert (await server.next()).payload == b"{}"
        with pytest.raises(RefusedByBroker, match="not authorised"):
            await broker.pub(topics.heartbeat(DEVICE), b"{}", account=ANONYMOUS)
    finally:
        await broker.stop()
