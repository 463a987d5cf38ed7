"""From a stranger's device to an operator and back: the daemon's process, mosquitto_pub and mosquitto_sub."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession

from infoscreen.wire import topics
from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.programs import find_free_port
from tests.waiting import until

pytestmark = [pytest.mark.xdist_group("end_to_end"), pytest.mark.broker, pytest.mark.slow]

STALE_SECONDS = 4.0


@dataclass(frozen=True)
class Site:
    """A broker and a daemon, shared by all tests here; each test brings a device of its own."""

    broker: Broker
    daemon: Daemon


@dataclass(frozen=True)
class Stranger:
    """A device made of shell commands."""

    broker: Broker
    uuid: str

    async def say(self, tail: str, *, retain: bool = False, **told: Any) -> None:
        """Publish JSON on a topic of its own."""
        await self.broker.pub(f"infoscreen/{self.uuid}/{tail}", json.dumps(told), retain=retain)

    async def beat(self, **told: Any) -> None:
        await self.say("heartbeat", timestamp=zulu(datetime.now(UTC)), **told)

    async def acknowledge(self, command_id: str, status: str) -> None:
        """Send an ack on both topics, as devices in the field do."""
        for tail in ("commands/ack", "command/ack"):
            await self.say(tail, command_id=command_id, status=status, error_code=None, error_message=None)

    async def fail(self, failed_at: datetime, unit: str = "infoscreen-app.service") -> None:
        await self.say(
            "service_failed",
            retain=True,
            event="service_failed",
            unit=unit,
            client_uuid=self.uuid,
            failed_at=zulu(failed_at),
            result="start-limit-hit",
        )


def zulu(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


@asynccontextmanager
async def built(place: Path) -> AsyncIterator[Site]:
    broker = Broker(place / "broker", find_free_port())
    settings = {
        "MQTT_COMMAND_ALIAS_ENABLED": True,
        "HEARTBEAT_STALE_SECONDS": STALE_SECONDS,
        "STALE_MIN_SECONDS": STALE_SECONDS,
        "CRASH_RECOVERY_POLL_SECONDS": 0.2,
    }
    try:
        await broker.start()
        async with installed(place / "daemon", broker, **settings) as daemon:
            await daemon.start()
            yield Site(broker, daemon)
    finally:
        await broker.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a running daemon on an empty database, and its broker; neither is tied to an event loop."""
    with asyncio.Runner() as runner:
        building = built(tmp_path_factory.mktemp("site"))
        yield runner.run(building.__aenter__())
        runner.run(building.__aexit__(None, None, None))


@pytest.fixture
async def device(site: Site) -> Stranger:
    """Return a device with an account at the broker that the daemon does not know."""
    uuid = str(uuid4())
    await site.broker.add_device(uuid)
    return Stranger(site.broker, uuid)


@pytest.fixture
async def api(site: Site) -> AsyncIterator[ClientSession]:
    """Yield an admin's program."""
    async with site.daemon.program() as session:
        yield session


async def known(api: ClientSession, device: Stranger, **told: Any) -> None:
    """Let the device be heard; return when it is a client."""
    await device.beat(**told)
    await ask_until(api, f"/api/clients?q={device.uuid}", lambda page: page["total"])


async def listed(api: ClientSession, path: str, device: Stranger) -> dict[str, Any]:
    """Wait until a list has the device on it, and return its item."""
    page = await ask_until(api, f"{path}?q={device.uuid}", lambda page: page["total"])
    (item,) = page["items"]
    assert item["uuid"] == device.uuid
    return dict(item)


async def told_now(broker: Broker, topic: str, account: str | None = None) -> list[bytes]:
    """Return what is delivered to someone who subscribes now."""
    async with broker.sub(topic, account=account) as subscriber:
        await broker.pub(topic, "end", account=broker.server_user)
        heard = []
        while (message := await subscriber.next()).payload != b"end":
            heard.append(message.payload)
        return heard


async def test_the_heartbeat_of_a_stranger_makes_it_a_client(device: Stranger, api: ClientSession) -> None:
    await ask(api, "GET", f"/api/clients/{device.uuid}", status=404)
    await device.beat(hostname="foyer", process_status="running", process_pid=4711)
    client = await listed(api, "/api/clients", device)
    assert (client["status"], client["is_alive"]) == ("online", True)
    assert (client["hostname"], client["process_status"], client["process_pid"]) == ("foyer", "running", 4711)
    assert (await ask(api, "GET", f"/api/clients/{device.uuid}"))["in_flight_command"] is None


async def test_a_command_reaches_the_device_and_its_acks_complete_it(
    site: Site, device: Stranger, api: ClientSession
) -> None:
    await known(api, device, process_status="running", process_pid=1, boot_id="first")
    names = topics.commands(device.uuid), topics.command_alias(device.uuid)
    async with site.broker.sub(names[0]) as hearer, site.broker.sub(names[1]) as older:
        body = {"action": "reboot_host", "reason": "Bild steht", "expires_in": 120}
        asked = await ask(api, "POST", f"/api/clients/{device.uuid}/commands", json=body, status=202)
        message, alias = await hearer.next(), await older.next()
    command = asked["command"]
    assert (message.qos, message.retain) == (1, False)
    assert alias.payload == message.payload
    assert json.loads(message.payload) == {
        "schema_version": "1.0",
        "command_id": command["command_id"],
        "client_uuid": device.uuid,
        "action": "reboot_host",
        "issued_at": command["created_at"],
        "expires_at": command["expires_at"],
        "requested_by": command["requested_by"],
        "reason": "Bild steht",
    }
    lifetime = datetime.fromisoformat(command["expires_at"]) - datetime.fromisoformat(command["created_at"])
    assert lifetime == timedelta(seconds=120)

    for status in ("accepted", "execution_started", "completed"):
        await device.acknowledge(command["command_id"], status)
    path = f"/api/commands/{command['command_id']}"
    done = await ask_until(api, path, lambda answer: answer["status"] == "completed")
    assert (done["verification"], done["late"]) == ("pending", False)
    assert [(event["from"], event["to"]) for event in done["events"] if event["from"] != event["to"]] == [
        (None, "queued"),
        ("queued", "publish_in_progress"),
        ("publish_in_progress", "published"),
        ("published", "accepted"),
        ("accepted", "execution_started"),
        ("execution_started", "completed"),
    ]
    for _ in range(2):
        await device.beat(process_status="running", process_pid=1, boot_id="second")
    await ask_until(api, path, lambda answer: answer["verification"] == "verified")
    timeline = await ask(api, "GET", f"/api/clients/{device.uuid}/timeline?limit=500")
    assert {"command", "reboot", "status"} <= {entry["kind"] for entry in timeline["items"]}


async def test_a_command_is_never_retained(site: Site, device: Stranger, api: ClientSession) -> None:
    await known(api, device)
    body = {"action": "restart_app"}
    asked = await ask(api, "POST", f"/api/clients/{device.uuid}/commands", json=body, status=202)
    path = f"/api/commands/{asked['command']['command_id']}"
    await ask_until(api, path, lambda answer: answer["status"] == "published")
    for topic in (topics.commands(device.uuid), topics.command_alias(device.uuid)):
        assert await told_now(site.broker, topic) == []


async def test_an_expired_command_never_reaches_a_device_that_was_away(
    site: Site, device: Stranger, api: ClientSession
) -> None:
    await known(api, device)
    topic = topics.commands(device.uuid)
    async with site.broker.sub(topic, session=device.uuid):
        pass
    body = {"action": "reboot_host", "expires_in": 1}
    asked = await ask(api, "POST", f"/api/clients/{device.uuid}/commands", json=body, status=202)
    path = f"/api/commands/{asked['command']['command_id']}"
    given_up = await ask_until(api, path, lambda answer: answer["status"] == "expired")
    assert given_up["published_at"] is not None
    # The broker counts whole seconds, rounded up.
    expires_at = datetime.fromisoformat(given_up["expires_at"])
    await until(lambda: datetime.now(UTC) > expires_at + timedelta(seconds=2))
    async with site.broker.sub(topic, session=device.uuid) as back:
        await site.broker.pub(topic, "end", account=site.broker.server_user)
        assert (await back.next()).payload == b"end"


async def test_a_failed_service_is_cleared_for_good(site: Site, device: Stranger, api: ClientSession) -> None:
    morning = datetime.now(UTC) - timedelta(hours=2)
    topic, server = topics.service_failed(device.uuid), site.broker.server_user
    await known(api, device)
    await device.fail(morning)
    client = await listed(api, "/api/clients/service_failed", device)
    assert client["service_failed_unit"] == "infoscreen-app.service"
    assert client["service_failed_at"] == zulu(morning)
    assert len(await told_now(site.broker, topic, server)) == 1

    clear = f"/api/clients/{device.uuid}/clear_service_failed"
    for _ in range(2):  # a second time is fine
        assert (await ask(api, "POST", clear, json={"comment": "gut"}))["service_failed_at"] is None
    await until(lambda: not site.daemon.rows("SELECT 1 FROM clients WHERE service_failed_clear_pending"))
    assert await told_now(site.broker, topic, server) == []

    assert await site.daemon.stop() == 0
    await site.daemon.start()
    await device.beat(hostname="after-the-restart")
    await ask_until(api, "/api/clients?q=after-the-restart", lambda page: page["total"])
    failed = f"/api/clients/service_failed?q={device.uuid}"
    assert (await ask(api, "GET", failed))["items"] == []
    assert await told_now(site.broker, topic, server) == []

    await device.fail(morning)  # the same one, by a device that could not know
    await device.fail(morning + timedelta(hours=1), "chromium.service")
    client = await listed(api, "/api/clients/service_failed", device)
    assert client["service_failed_unit"] == "chromium.service"
    raised = await ask(api, "GET", f"/api/clients/{device.uuid}/timeline?kind=service_failed")
    units = [entry["data"]["unit"] for entry in raised["items"]]
    assert units == ["chromium.service", "infoscreen-app.service"]


async def test_silence_and_a_crashed_process_are_told_apart(device: Stranger, api: ClientSession) -> None:
    await known(api, device, process_status="running")
    silent = await listed(api, "/api/clients/crashed", device)
    assert silent["crash_reason"] == "heartbeat_stale"
    assert silent["seconds_since_heartbeat"] >= STALE_SECONDS
    assert silent["is_alive"] is False

    await device.beat(process_status="crashed")
    crashed = f"/api/clients/crashed?q={device.uuid}"
    page = await ask_until(
        api, crashed, lambda page: page["total"] and page["items"][0]["status"] == "crashed"
    )
    assert page["items"][0]["crash_reason"] == "process_crashed"
    await device.beat(process_status="running")
    await ask_until(api, crashed, lambda page: not page["total"])


async def test_health_tells_how_the_device_fares_with_the_broker(
    device: Stranger, api: ClientSession
) -> None:
    now = datetime.now(UTC)
    connection = {
        "broker_reachable": True,
        "reconnect_count": 3,
        "last_disconnect_at": zulu(now - timedelta(minutes=5)),
    }
    await device.say("health", timestamp=zulu(now), broker_connection=connection)
    client = await listed(api, "/api/clients", device)
    assert client["mqtt_reconnect_count"] == 3
    assert client["mqtt_last_disconnect_at"] == connection["last_disconnect_at"]
    overview = await ask(api, "GET", f"/api/monitoring/overview?q={device.uuid}")
    assert overview["clients"]["items"][0]["mqtt_reconnect_count"] == 3
    assert overview["broker"]["connected"] is True


async def test_presence_is_what_the_broker_says_last(
    site: Site, device: Stranger, api: ClientSession
) -> None:
    path = f"/api/clients?q={device.uuid}"
    for said in ("online", "offline", "online"):
        await site.broker.pub(topics.presence(device.uuid), said, retain=True)
        await ask_until(
            api, path, lambda page, said=said: page["total"] and page["items"][0]["presence"] == said
        )
