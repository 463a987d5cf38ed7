"""A device with its own account against the shipped rules, and files that look right and are not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from infoscreen.provisioning import broker_process
from infoscreen.wire import topics
from tests import brokers
from tests.broker import Broker, RefusedByBroker
from tests.doors import stranger
from tests.programs import find_free_port

pytestmark = pytest.mark.broker

DEVICE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER = "9b2c1d4e-7a66-4f0e-8d51-6c1b2a3f4e5d"


@pytest.fixture(params=brokers.programs())
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """Yield a broker of either version that knows two devices."""
    broker = Broker(tmp_path / "broker", find_free_port(), program=brokers.program(request.param))
    await broker.add_devices([DEVICE, OTHER])
    async with broker.running():
        yield broker


async def heard_before_the_end(site: Broker, listener: Any, topic: str) -> list[bytes]:
    """Return what came before a message that the server sends or the owner of the topic, at the end."""
    await site.pub(topic, b"end", account=site.server_user if topic.endswith("commands") else None)
    found: list[bytes] = []
    while b"end" not in found:
        found.append((await listener.next()).payload)
    return found[:-1]


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("topic", [topics.presence(OTHER), topics.heartbeat(OTHER), topics.commands(OTHER)])
async def test_a_last_will_on_a_topic_of_others_is_not_delivered(
    site: Broker, topic: str, retain: bool
) -> None:
    async with site.sub(topic, account=site.server_user) as server:
        will = aiomqtt.Will(topic, b"forged", 1, retain)
        with contextlib.suppress(aiomqtt.MqttError):
            async with stranger(site, DEVICE, will=will) as client:
                sock = client._client.socket()
                assert sock is not None
                sock.close()  # so the broker sends the will
                await asyncio.sleep(0)
        assert await heard_before_the_end(site, server, topic) == []
    async with site.sub(topic, account=site.server_user) as server:
        assert b"forged" not in await heard_before_the_end(site, server, topic)


@pytest.mark.parametrize(
    "wanted",
    [
        f"$share/group/{topics.commands(OTHER)}",
        "$share/group/infoscreen/+/commands",
        "$share/group/#",
        "infoscreen/+/commands",
        f"infoscreen/{OTHER}/#",
        "+/+/commands",
        "#",
    ],
)
async def test_no_subscription_delivers_what_is_for_others(site: Broker, wanted: str) -> None:
    own = topics.commands(DEVICE)
    async with site.sub(wanted, own, account=DEVICE) as device:
        await site.pub(topics.commands(OTHER), b"secret", account=site.server_user)
        assert b"secret" not in await heard_before_the_end(site, device, own)


async def test_a_retained_message_of_one_device_lies_on_no_topic_of_another(site: Broker) -> None:
    for topic in (topics.commands(OTHER), topics.service_failed(OTHER), topics.presence(OTHER)):
        await site.pub(topic, b"forged", account=DEVICE, retain=True)
    async with site.sub(f"infoscreen/{OTHER}/service_failed", account=site.server_user) as server:
        assert await heard_before_the_end(site, server, topics.service_failed(OTHER)) == []


@pytest.mark.parametrize("name", ["x" * 60_000, f"{DEVICE}/../{OTHER}", "infoscreen-server", "a b", "ä#+"])
async def test_a_strange_client_id_gives_no_other_rights_and_harms_nobody(site: Broker, name: str) -> None:
    topic = topics.heartbeat(OTHER)
    async with site.sub(topic, account=site.server_user) as server:
        with contextlib.suppress(aiomqtt.MqttError):
            async with stranger(site, DEVICE, identifier=name) as client:
                await client.publish(topic, b"forged", qos=1, timeout=5)
        assert await heard_before_the_end(site, server, topic) == []


# Files. What `faults` lets pass must be in force after a reload: mosquitto 2.0 fails open otherwise.

ACL_CHANGES = {
    "as it is": lambda text: text,
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "BOM": lambda text: b"\xef\xbb\xbf" + text,
    "no-break space": lambda text: text.replace(b"pattern write", b"pattern\xc2\xa0write", 1),
    "tab": lambda text: text.replace(b"pattern write", b"pattern\twrite", 1),
    "form feed": lambda text: text.replace(b"pattern write", b"pattern write\x0c", 1),
    "line separator": lambda text: text.replace(b"\npattern write", b"\xe2\x80\xa8pattern write", 1),
    "old Mac lines": lambda text: text.replace(b"\n", b"\r"),
    "Latin 1": lambda text: text + b"pattern read infoscreen/%u/\xe4\n",
    "NUL": lambda text: text.replace(b"pattern write", b"pattern\x00write", 1),
    "no end of line": lambda text: text.rstrip(),
    "wildcard in the middle": lambda text: text + b"pattern write infoscreen/#/%u\n",
    "half a wildcard": lambda text: text + b"pattern write infoscreen/%u+/x\n",
    "no topic": lambda text: text + b"pattern write\n",
    "no user": lambda text: text + b"user\n",
    "another word": lambda text: text + b"allow everybody\n",
    "another access": lambda text: text + b"topic all infoscreen/#\n",
    "indented": lambda text: text.replace(b"pattern write", b"  pattern write"),
    "empty": lambda text: b"",
    "remarks only": lambda text: b"# nothing\n",
}


async def test_an_acl_file_that_passes_the_check_is_in_force_after_a_reload(site: Broker) -> None:
    shipped, topic = site.files.acl.read_bytes(), topics.heartbeat(OTHER)
    wrong, passed = [], []
    for name, change in ACL_CHANGES.items():
        site.files.acl.write_bytes(change(shipped))
        if broker_process.faults(site.files):
            continue
        async with site.sub(topic, account=site.server_user) as server:
            await site.reload()
            await site.pub(topic, b"forged", account=DEVICE)
            if await heard_before_the_end(site, server, topic):
                wrong.append(name)
        passed.append(name)
    assert wrong == []
    assert {"as it is", "CRLF"} <= set(passed)


PASSWORD_CHANGES = {
    "as it is": lambda text: text,
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "BOM": lambda text: b"\xef\xbb\xbf" + text,
    "no end of line": lambda text: text.rstrip(),
    "empty lines": lambda text: text.replace(b"\n", b"\n\n"),
    "space before": lambda text: b" " + text,
    "space behind": lambda text: text.replace(b"\n", b" \n"),
    "tab behind": lambda text: text.replace(b"\n", b"\t\n"),
    "no-break space": lambda text: text.replace(b":$7$", b"\xc2\xa0:$7$", 1),
    "old Mac lines": lambda text: text.replace(b"\n", b"\r"),
    "line separator": lambda text: text.replace(b"\n", b"\xe2\x80\xa8", 1),
}


async def test_a_password_file_that_passes_the_check_lets_everybody_in_after_a_reload(site: Broker) -> None:
    shipped, wrong = site.files.passwords.read_bytes(), []
    for name, change in PASSWORD_CHANGES.items():
        site.files.passwords.write_bytes(change(shipped))
        if broker_process.faults(site.files):
            continue
        await site.reload()
        try:
            await site.pub("x", b"", account=site.server_user)
            for device in (DEVICE, OTHER):
                await site.pub(topics.heartbeat(device), b"{}")
        except RefusedByBroker:
            wrong.append(name)
    assert wrong == []
