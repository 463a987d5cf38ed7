"""Whatever strangers send, over MQTT or HTTP: described or counted; no traceback, no end of the daemon."""

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import aiomqtt
import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from infoscreen.wire.messages import MAX_JSON_BYTES, MAX_SCREENSHOT_BYTES
from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.doors import stranger
from tests.malformed import MALFORMED
from tests.programs import find_free_port
from tests.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.xdist_group("abuse"), pytest.mark.broker, pytest.mark.slow]

NOW = "2026-03-02T07:00:00Z"
SOMEBODY = "00000000-0000-4000-8000-00000000000f"


@dataclass(frozen=True)
class Site:
    """A broker and a daemon, shared by all tests here."""

    broker: Broker
    daemon: Daemon


@asynccontextmanager
async def built(place: Path) -> AsyncIterator[Site]:
    broker = Broker(place / "broker", find_free_port(), save_every_change=False)
    try:
        await broker.start()
        async with installed(place / "daemon", broker) as daemon:
            await daemon.start()
            yield Site(broker, daemon)
    finally:
        await broker.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a running daemon, and its broker; neither is tied to an event loop."""
    with asyncio.Runner() as runner:
        building = built(tmp_path_factory.mktemp("site"))
        yield runner.run(building.__aenter__())
        runner.run(building.__aexit__(None, None, None))


@pytest.fixture(autouse=True)
async def _it_lives_on(site: Site) -> AsyncIterator[None]:
    """Fail when the daemon died, or logged a traceback."""
    process = site.daemon.pid
    yield
    assert site.daemon.alive, site.daemon.log
    assert site.daemon.pid == process
    await site.daemon.wait_for("/readyz", 200)
    assert "Traceback" not in site.daemon.log


@pytest.fixture
async def device(site: Site) -> str:
    """Return the UUID of a device with an account at the broker."""
    uuid = str(uuid4())
    await site.broker.add_device(uuid)
    return uuid


@pytest.fixture
async def api(site: Site) -> AsyncIterator[ClientSession]:
    """Yield an admin's program."""
    async with site.daemon.program() as session:
        yield session


# Over MQTT.

NO_JSON_OBJECTS = [
    b"{",
    b"nonsense",
    b"null",
    b"[]",
    b'"text"',
    b"\x00",
    b"\xff\xfe\x00",
    b"[" * 60_000,
    b" " * (MAX_JSON_BYTES + 1),
]
"""Wrong on every topic that carries JSON."""

WRONG = [
    *(
        (topic, body)
        for body in NO_JSON_OBJECTS
        for topic in ("heartbeat", "health", "discovery", "logs/info")
    ),
    *(
        (topic, body)
        for body in NO_JSON_OBJECTS
        for topic in ("service_failed", "commands/ack", "command/ack")
    ),
    *(
        ("heartbeat", json.dumps(body).encode())
        for body in (
            {},
            {"timestamp": "yesterday"},
            {"timestamp": 1e300},
            {"timestamp": NOW, "uuid": SOMEBODY},
            {"timestamp": NOW, "uuid": "x"},
        )
    ),
    ("discovery", json.dumps({"uuid": SOMEBODY}).encode()),
    ("service_failed", json.dumps({"unit": "", "failed_at": NOW}).encode()),
    ("service_failed", b'{"unit": "u", "failed_at": 1e999999}'),
    ("service_failed", json.dumps({"unit": "u", "failed_at": NOW, "client_uuid": SOMEBODY}).encode()),
    ("presence", b"ONLINE"),
    ("presence", b"\xff"),
    ("screenshot", b"\xff\xd8\xff no end"),
    ("screenshot", b"<svg/>"),
    ("screenshot", b"\xff\xd8\xff" + bytes(MAX_SCREENSHOT_BYTES) + b"\xff\xd9"),
    ("logs/loud", json.dumps({"timestamp": NOW, "message": "m"}).encode()),
    ("logs/info", json.dumps({"timestamp": NOW, "message": ["m"]}).encode()),
    ("commands/ack", json.dumps({"command_id": "x", "status": "accepted"}).encode()),
    ("commands/ack", json.dumps({"command_id": SOMEBODY, "status": "perhaps"}).encode()),
    ("command/ack", json.dumps({"command_id": SOMEBODY, "status": "completed"}).encode()),
]


async def counted(daemon: Daemon) -> tuple[int, int]:
    """Return how many messages were stored and how many were rejected."""
    async with daemon.visitor() as visitor, visitor.get("/metrics") as response:
        text = await response.text()
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "infoscreen_mqtt_messages_total":
                found[sample.labels["outcome"]] += int(sample.value)
    return found["stored"], found["rejected"]


async def counted_up_to(daemon: Daemon, number: int) -> None:
    """Wait for so many messages: logs and screenshots come over a session of their own and may be behind."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if sum(await counted(daemon)) >= number:
                return
            await asyncio.sleep(0.05)


async def heard_last(client: aiomqtt.Client, device: str, api: ClientSession) -> None:
    """Let the device say something right; return when the daemon has heard it, and all before it."""
    hostname = str(uuid4())
    beat = json.dumps({"timestamp": NOW, "hostname": hostname}).encode()
    await client.publish(f"infoscreen/{device}/heartbeat", beat, qos=1)
    await ask_until(api, f"/api/clients?q={hostname}", lambda page: page["total"])


async def test_every_wrong_message_is_refused_with_a_reason(
    site: Site, device: str, api: ClientSession
) -> None:
    before = await counted(site.daemon)
    async with stranger(site.broker, device) as client:
        for topic, body in WRONG:
            await client.publish(f"infoscreen/{device}/{topic}", body, qos=1)
        await heard_last(client, device, api)
    await counted_up_to(site.daemon, sum(before) + 1 + len(WRONG))
    stored, rejected = await counted(site.daemon)
    assert (stored - before[0], rejected - before[1]) == (1, len(WRONG))
    kept = await ask(api, "GET", "/api/monitoring/rejected?limit=500")
    ours = [message for message in kept["items"] if device in message["topic"]]
    assert len(ours) == len(WRONG)
    assert all(message["reason"] and message["detail"] for message in ours)
    assert {message["reason"] for message in ours} >= {
        "malformed",
        "too_large",
        "uuid_mismatch",
        "not_an_image",
        "unknown_topic",
        "unknown_command",
    }


@pytest.mark.parametrize("who", ["NOT-A-UUID", "3F2504E0-4F89-41D3-9A0C-0305E82C3301", "ä\U0001f600", " "])
async def test_a_topic_that_names_no_device_is_refused(site: Site, who: str, api: ClientSession) -> None:
    topic = f"infoscreen/{who}/presence"
    await site.broker.pub(topic, "online", account=site.broker.server_user)
    kept = await ask_until(
        api,
        "/api/monitoring/rejected",
        lambda answer: any(message["topic"] == topic for message in answer["items"]),
    )
    assert next(m for m in kept["items"] if m["topic"] == topic)["reason"] == "bad_uuid"


async def test_every_message_of_a_device_gone_mad_is_counted(
    site: Site, device: str, api: ClientSession
) -> None:
    random = Random(2026)
    before = sum(await counted(site.daemon))
    topics = [topic for topic, _ in WRONG]
    bodies = [body for _, body in WRONG if len(body) < 1000]
    async with stranger(site.broker, device) as client:
        for _ in range(400):
            body = bytearray(random.choice(bodies) or b"{}")
            for _ in range(random.randrange(4)):
                body[random.randrange(len(body))] = random.randrange(256)
            await client.publish(f"infoscreen/{device}/{random.choice(topics)}", bytes(body), qos=1)
        await heard_last(client, device, api)
    await counted_up_to(site.daemon, before + 401)
    assert sum(await counted(site.daemon)) - before == 401


# Over HTTP.


async def race(sessions: list[ClientSession], device: str, times: int) -> list[tuple[int, dict[str, Any]]]:
    """Let each session request a command so many times, all at once."""

    async def request(session: ClientSession) -> tuple[int, dict[str, Any]]:
        body = {"action": "reboot_host"}
        async with session.post(f"/api/clients/{device}/commands", json=body) as response:
            return response.status, await response.json(content_type=None)

    return await asyncio.gather(*(request(session) for _ in range(times) for session in sessions))


def judge(answers: list[tuple[int, dict[str, Any]]], daemon: Daemon, device: str) -> None:
    """One has won, and all others were told its command's id."""
    (winner,) = [answer["command"]["command_id"] for status, answer in answers if status == 202]
    refused = [(status, answer["type"], answer["command_id"]) for status, answer in answers if status != 202]
    assert refused == [(409, "command-in-flight", winner)] * (len(answers) - 1)
    assert daemon.rows("SELECT command_id FROM client_commands WHERE client_uuid = ?", device) == [(winner,)]


async def test_one_of_200_requests_at_once_wins(site: Site, device: str, api: ClientSession) -> None:
    async with stranger(site.broker, device) as client:
        await heard_last(client, device, api)
    judge(await race([api], device, 200), site.daemon, device)


async def test_one_of_200_requests_to_two_daemons_on_one_database_wins(
    tmp_path: Path, site: Site, device: str, api: ClientSession
) -> None:
    async with stranger(site.broker, device) as client:
        await heard_last(client, device, api)
    other = Daemon(site.daemon.database.parent, site.broker, MQTT_CLIENT_ID="the-other")
    try:
        await other.start()
        authorization = {"Authorization": str(api.headers["Authorization"])}
        async with other.visitor(**authorization) as there:
            judge(await race([api, there], device, 100), site.daemon, device)
        assert await other.stop() == 0
    finally:
        await other.kill()


def exchange(port: int, sent: bytes) -> bytes:
    """Send bytes, say that this is all, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as connection:
        answer = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65_536):
                answer += more
        except ConnectionError:  # it hung up before it had heard all
            pass
        return answer


@pytest.mark.parametrize("sent", MALFORMED, ids=lambda sent: repr(sent[:40]))
async def test_what_is_no_http_is_refused_or_hung_up_on(site: Site, sent: bytes) -> None:
    answer = await asyncio.to_thread(exchange, site.daemon.port, sent)
    assert b"Traceback" not in answer
    if answer:
        version, status, *_ = answer.split(b" ", 2)
        assert version.startswith(b"HTTP/1.")
        assert int(status) < 500 or int(status) == 505


NO_IDENTIFIERS = ["x", "%00", "..%2F..%2Fetc", "-1", "9" * 40, "%F0%9F%92%A9", "a" * 3000, SOMEBODY]
NO_QUERIES = [
    "limit=0",
    "limit=9e9",
    "cursor=x",
    "cursor=%00",
    "status=x&q=%00",
    "sort=%27--",
    "client_uuid=x",
]
NO_BODIES = [
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 60_000,
    b'{"action": 5, "password": {}}',
    b"x" * 400_000,
]


def wrong_requests(paths: dict[str, Any]) -> Iterator[tuple[str, URL, bytes | None]]:
    """Yield method, address and body of requests to every route that make no sense to it."""
    for path, operations in paths.items():
        for method in {*operations, "put", "options"}:
            if path == "/api/events" and method == "get":
                continue  # has no end
            names = [name.split("}")[0] for name in path.split("{")[1:]]
            for value in NO_IDENTIFIERS if names else [""]:
                place = path
                for name in names:
                    place = place.replace("{" + name + "}", value)
                yield method, URL(place, encoded=True), None
                for query in NO_QUERIES if value in ("", SOMEBODY) else ():
                    yield method, URL(f"{place}?{query}", encoded=True), None
                for body in (
                    NO_BODIES if value in ("", SOMEBODY) and method in ("post", "patch", "put") else ()
                ):
                    yield method, URL(place, encoded=True), body


async def test_no_request_to_any_route_is_answered_with_a_traceback_or_with_500(
    site: Site, api: ClientSession
) -> None:
    paths = (await ask(api, "GET", "/api/openapi.json"))["paths"]
    asked = 0
    for method, address, body in wrong_requests(paths):
        headers = {} if body is None else {"Content-Type": "application/json"}
        async with api.request(method, address, data=body, headers=headers) as response:
            text = await response.text()
        assert response.status < 500, f"{method} {address} {body!r:.60}: {response.status} {text}"
        assert "Traceback" not in text
        if response.status >= 400 and text:
            assert response.content_type == "application/problem+json", f"{method} {address}: {text:.200}"
        asked += 1
    assert asked > 300


async def test_somebody_who_leaves_in_the_middle_of_a_request_is_no_error(
    site: Site, device: str, api: ClientSession
) -> None:
    authorization = str(api.headers["Authorization"])
    head = (
        f"POST /api/clients/{device}/commands HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", site.daemon.port)) as connection:
        connection.sendall(head.encode() + b'{"action":')
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left = (
        'infoscreen_http_requests_total{method="POST",route="/api/clients/{uuid}/commands",status="499"} 1.0'
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            async with site.daemon.visitor() as visitor, visitor.get("/metrics") as response:
                if left in await response.text():
                    break
