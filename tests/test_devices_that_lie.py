"""What devices send that is odd, and what becomes of the rest of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from infoscreen.domain.clients import Condition, Presence, ProcessStatus
from infoscreen.domain.errors import BadMessage
from infoscreen.domain.presence import conditions_of
from infoscreen.domain.visible import visible
from infoscreen.storage import clients
from infoscreen.wire import topics
from infoscreen.wire.messages import CommandAck, Discovery, Health, Heartbeat, LogLine, decode, read
from infoscreen.wire.pictures import image_size
from tests.spine import Spine, open_spine, sqlite_url, uuid_of, zulu

U = uuid_of(1)
FULL: dict[str, Any] = {
    "timestamp": "2026-03-02T07:00:00Z",
    "uuid": U,
    "process_status": "running",
    "current_process": "player",
    "process_pid": 1284,
    "app_started_at": "2026-03-02T06:00:00Z",
    "boot_id": "one",
    "booted_at": "2026-03-01T22:00:00Z",
    "ip": "192.0.2.17",
    "hostname": "foyer",
    "software_version": "4.2.1",
    "persistent_session": True,
}
OPTIONAL = sorted(FULL.keys() - {"timestamp", "uuid"})

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
NASTY = (
    b"1284.0",
    b"1e400",
    b"-1e300",
    b"NaN",
    b"-Infinity",
    b"9" * 5_000,
    b"1" + b"0" * 60_000,
    b"[" * 20_000 + b"]" * 20_000,
    b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
    b'"\\u0000"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"B\xfcro"',
    b'"\xed\xa0\x80"',
    b'"tab\there"',
    b'""',
    b'"' + b"x" * 501 + b'"',
    b'["192.0.2.1"]',
    b"{}",
    b"null",
    b"true",
    b'"9999999-01-01T00:00:00Z"',
)
T = TypeVar("T")


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with open_spine(sqlite_url(tmp_path)) as opened:
        yield opened


def heartbeat_with(field: str, raw: bytes, **more: Any) -> bytes:
    """A full heartbeat in which one member is any bytes."""
    rest = {name: value for name, value in (FULL | more).items() if name != field}
    return json.dumps(rest).encode()[:-1] + b', "' + field.encode() + b'": ' + raw + b"}"


HEARTBEAT = topics.parse(topics.heartbeat(U))


@pytest.mark.parametrize("field", OPTIONAL)
@pytest.mark.parametrize("raw", NASTY, ids=lambda raw: raw[:20].decode(errors="replace"))
def test_one_odd_field_costs_nothing_but_itself(field: str, raw: bytes) -> None:
    received = read(HEARTBEAT, heartbeat_with(field, raw))
    assert isinstance(received.message, Heartbeat)
    whole = decode(HEARTBEAT, json.dumps(FULL).encode())
    assert isinstance(whole, Heartbeat)
    assert replace(received.message, **{field: None}) == replace(whole, **{field: None})
    assert {one.field for one in received.unread} <= {field}
    assert all(len(one.said) <= 60 and one.said.isprintable() for one in received.unread)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(OPTIONAL), JSON_VALUES)
def test_a_heartbeat_with_any_value_in_any_optional_field_is_a_heartbeat(field: str, value: Any) -> None:
    message = decode(HEARTBEAT, heartbeat_with(field, json.dumps(value).encode()))
    assert isinstance(message, Heartbeat)
    assert message.timestamp == datetime(2026, 3, 2, 7, tzinfo=UTC)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["expected_state", "actual_state", "health_metrics", "broker_connection"]),
    st.text(st.characters(codec="utf-8"), max_size=12),
    JSON_VALUES,
)
def test_blocks_of_health_are_read_member_by_member(block: str, name: str, value: Any) -> None:
    whole = {"timestamp": "2026-03-02T07:00:00Z", block: {name: value, "status": "running", "cpu_percent": 5}}
    message = decode(topics.parse(topics.health(U)), json.dumps(whole).encode())
    assert isinstance(message, Health)
    assert getattr(message, block) is not None


def test_in_health_only_the_odd_reading_is_missing() -> None:
    told = {
        "timestamp": "2026-03-02T07:00:00Z",
        "actual_state": 5,
        "health_metrics": {"uptime_seconds": -1e300, "cpu_percent": 12, "memory_percent": "lots"},
    }
    received = read(topics.parse(topics.health(U)), json.dumps(told).encode())
    assert isinstance(received.message, Health)
    assert received.message.health_metrics is not None
    assert received.message.health_metrics.cpu_percent == 12
    assert received.message.health_metrics.uptime_seconds is None
    assert [one.field for one in received.unread] == [
        "actual_state",
        "health_metrics.uptime_seconds",
        "health_metrics.memory_percent",
    ]


def test_of_capabilities_the_readable_ones_count() -> None:
    told = {"uuid": U, "hostname": 7, "capabilities": ["reboot_host", 42, None, "x" * 61, "cec"]}
    message = decode(topics.parse(topics.discovery(U)), json.dumps(told).encode())
    assert isinstance(message, Discovery)
    assert (message.capabilities, message.hostname) == (["reboot_host", "cec"], None)


def test_text_for_people_is_escaped_where_it_cannot_be_stored() -> None:
    line = {"timestamp": "2026-03-02T07:00:00Z", "message": "a\0b\ud800c", "logger": 5, "context": [1]}
    message = decode(topics.parse(topics.logs(U, topics.LogLevel.INFO)), json.dumps(line).encode())
    assert isinstance(message, LogLine)
    assert (message.message, message.logger, message.context) == ("a\\x00b\\ud800c", None, None)
    ack = {"command_id": U, "status": "failed", "error_code": 5, "error_message": "x\0" + "y" * 3_000}
    acked = decode(topics.parse(topics.acks(U)[0]), json.dumps(ack).encode())
    assert isinstance(acked, CommandAck)
    assert acked.error_code is None
    assert (acked.error_message or "")[:6] == "x\\x00y"
    assert len(acked.error_message or "") == 2_000


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"timestamp": "2026-03-02T07:00:00Z",}',
        b'{"timestamp": "2026-03-02T07:00:00Z"}}',
        b'{"timestamp": "2026-03-02T07:00:00Z" "ip": "x"}',
        b'{"timestamp": "2026-03-02T07:00:00Z", "ip": x}',
        b'{"timestamp": "2026-03-02T07:00:00Z", "unknown": [1 2]}',
        b'{"timestamp": "2026-03-02T07:00:00Z", "unknown": [}',
        b'{"timestamp": "2026-03-02T07:00:00Z", "ip": "a\\q"}',
        b'{"timestamp": null}',
        b'{"timestamp": "yesterday"}',
        b'{"timestamp": "2026-03-02T07:00:00Z", "uuid": 5}',
        b'{"timestamp": "2026-03-02T07:00:00Z", "uuid": "00000000-0000-4000-8000-000000000009"}',
        '{"timestamp": "2026-03-02T07:00:00Z"}'.encode("utf-16"),
    ],
)
def test_broken_json_identity_or_required_fields_refuse_the_message(payload: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(HEARTBEAT, payload)


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ("1969-12-31T19:00:07-05:00", "1970-01-01T00:00:07Z"),
        ("1970-01-01T00:00:07+01:00", "1969-12-31T23:00:07Z"),
        ("1901-01-01T00:00:00Z", "1901-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59-05:00", "9998-12-31T00:00:00Z"),
        ("0001-01-01T00:00:00+05:00", "0002-01-01T00:00:00Z"),
        ("0000-00-00T00:00:00Z", "0002-01-01T00:00:00Z"),
        ("12026-03-02T07:00:00Z", "9998-12-31T00:00:00Z"),
    ],
)
def test_a_clock_that_is_far_off_is_a_wrong_clock(said: str, understood: str) -> None:
    message = decode(HEARTBEAT, json.dumps({"timestamp": said}).encode())
    assert isinstance(message, Heartbeat)
    assert message.timestamp == datetime.fromisoformat(understood)


@pytest.mark.parametrize(
    "payload",
    [
        b'\xef\xbb\xbf{"timestamp": "2026-03-02T07:00:00Z"}',
        b' {"timestamp": "2026-03-02T07:00:00Z", "timestamp": "2026-03-02T07:00:00Z"} ',
    ],
)
def test_a_byte_order_mark_and_repeated_members_are_no_reason_to_refuse(payload: bytes) -> None:
    assert isinstance(decode(HEARTBEAT, payload), Heartbeat)


@pytest.mark.parametrize("word", ["idle", "", "RUNNING", "x" * 600, "\0", "\ud800"])
def test_unknown_process_states_are_other(word: str) -> None:
    message = decode(HEARTBEAT, json.dumps(FULL | {"process_status": word}).encode())
    assert isinstance(message, Heartbeat)
    assert message.process_status is ProcessStatus.OTHER


async def test_odd_fields_are_counted_and_shown_until_they_are_gone(spine: Spine) -> None:
    await spine.beat(U, process_status="idle", process_pid=1284.0, hostname="foyer", ip=["192.0.2.1"])
    client = await spine.client(U)
    assert client.status is Condition.ONLINE
    assert client.hostname == "foyer"
    assert client.unread_fields == {
        "heartbeat.process_status": '"idle"',
        "heartbeat.process_pid": "1284.0",
        "heartbeat.ip": '["192.0.2.1"]',
    }
    assert spine.measures.counts["unread", "process_status"] == 1
    await spine.hear((f"{U}/health", {"timestamp": zulu(spine.clock.now()), "health_metrics": "good"}))
    await spine.beat(U, process_status="running", hostname="foyer")
    assert (await spine.client(U)).unread_fields == {"health.health_metrics": '"good"'}


async def test_a_device_that_is_always_odd_still_costs_only_its_pulse(spine: Spine) -> None:
    for pid in range(5):
        await spine.beat(U, process_status="idle", process_pid=pid + 0.5)
        spine.clock.advance(30)
    client = await spine.client(U)
    assert (client.heartbeats, client.unread_fields["heartbeat.process_pid"]) == (5, "0.5")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(OPTIONAL), JSON_VALUES | st.sampled_from(NASTY))
def test_whatever_stands_in_an_optional_field_the_client_stays_online(
    house: "House", field: str, value: Any
) -> None:
    async def story(spine: Spine) -> Condition:
        await spine.watch.look()
        spine.clock.advance(30)
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        body = heartbeat_with(field, raw, timestamp=zulu(spine.clock.now()))
        await spine.hear((f"{U}/heartbeat", body))
        return (await spine.client(U)).status

    # A device may truthfully say that its application crashed.
    expected = {Condition.ONLINE} | ({Condition.CRASHED} if value == "crashed" else set())
    assert house.run(story) in expected


class House:
    """The spine in an event loop of its own: Hypothesis calls functions that are not async."""

    def __init__(self, loop: asyncio.AbstractEventLoop, spine: Spine) -> None:
        self._loop = loop
        self._spine = spine

    def run(self, story: Callable[[Spine], Coroutine[Any, Any, T]]) -> T:
        return self._loop.run_until_complete(story(self._spine))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    loop = asyncio.new_event_loop()
    opened = open_spine(sqlite_url(tmp_path))
    try:
        yield House(loop, loop.run_until_complete(opened.__aenter__()))
    finally:
        loop.run_until_complete(opened.__aexit__(None, None, None))
        loop.close()


# Refused, and yet a sign that the device is there.


async def fall_silent(spine: Spine, seconds: int = 600) -> None:
    spine.clock.advance(seconds)
    await spine.watch.look()


async def test_a_refused_message_is_remembered_at_the_client(spine: Spine) -> None:
    await spine.beat(U)
    spine.clock.advance(30)
    await spine.hear((f"{U}/heartbeat", "{"), (f"{U}/health", '{"timestamp": "today"}'))
    client = await spine.client(U)
    assert (client.refused_at, client.refused_count, client.refused_reason) == (
        spine.clock.now(),
        2,
        "malformed",
    )
    assert client.last_heard_at == spine.clock.now()
    assert client.status is Condition.ONLINE


async def test_a_refused_message_registers_nobody(spine: Spine) -> None:
    await spine.hear((f"{U}/heartbeat", "{"))
    async with spine.store.read() as connection:
        assert await clients.get(connection, U) is None


async def test_who_speaks_and_is_not_understood_is_neither_hung_nor_unreachable(spine: Spine) -> None:
    await spine.beat(U)
    for _ in range(20):
        spine.clock.advance(30)
        await spine.hear((f"{U}/heartbeat", '{"timestamp": "today"}'))
        await spine.watch.look()
    client = await spine.client(U)
    assert client.status is Condition.INCOMPREHENSIBLE
    assert conditions_of(client, spine.clock.now(), spine.link.listening_since) == (
        Condition.INCOMPREHENSIBLE,
    )
    spine.clock.advance(30)
    await spine.beat(U)
    assert (await spine.client(U)).status is Condition.ONLINE


async def test_a_restart_of_the_daemon_does_not_forget_that_it_was_not_understood(spine: Spine) -> None:
    await spine.beat(U)
    for _ in range(20):
        spine.clock.advance(30)
        await spine.hear((f"{U}/heartbeat", "{"))
        await spine.watch.look()
    spine.clock.advance(3600)
    spine.link.listening_since = spine.clock.now()
    await spine.watch.look()
    spine.clock.advance(10)
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.INCOMPREHENSIBLE
    await fall_silent(spine)
    assert (await spine.client(U)).status is Condition.UNREACHABLE


async def test_who_then_falls_silent_altogether_is_silent(spine: Spine) -> None:
    await spine.beat(U)
    await spine.hear((f"{U}/presence", "online"))
    for _ in range(20):
        spine.clock.advance(30)
        await spine.hear((f"{U}/heartbeat", "{"))
        await spine.watch.look()
    await fall_silent(spine)
    assert (await spine.client(U)).status is Condition.HUNG


async def test_one_that_was_never_understood_is_incomprehensible(spine: Spine) -> None:
    await spine.hear((f"{U}/discovery", {"uuid": U}))
    await spine.hear((f"{U}/heartbeat", "{"))
    assert (await spine.client(U)).status is Condition.INCOMPREHENSIBLE


# What the broker has retained is no sign of life.

LIVELY: tuple[tuple[str, Any], ...] = (
    ("heartbeat", FULL),
    ("health", {"timestamp": "2026-03-02T07:00:00Z"}),
    ("discovery", {"uuid": U, "hostname": "ghost"}),
    ("logs/info", {"timestamp": "2026-03-02T07:00:00Z", "message": "boo"}),
    ("commands/ack", {"command_id": U, "status": "accepted"}),
    ("screenshot", b"\xff\xd8\xff\xd9"),
    ("presence", "online"),
    ("presence", "offline"),
    ("heartbeat", "{"),
    ("service_failed", {"unit": "app.service", "failed_at": "2026-03-02T06:59:58Z"}),
)


@pytest.mark.parametrize("message", LIVELY, ids=lambda message: str(message[0]))
async def test_a_retained_message_registers_nobody(spine: Spine, message: tuple[str, Any]) -> None:
    await spine.hear((f"{U}/{message[0]}", message[1]), retain=True)
    async with spine.store.read() as connection:
        assert await clients.get(connection, U) is None


@pytest.mark.parametrize("message", LIVELY, ids=lambda message: str(message[0]))
async def test_a_retained_message_revives_nobody(spine: Spine, message: tuple[str, Any]) -> None:
    await spine.beat(U)
    await spine.hear((f"{U}/presence", "offline"))
    await fall_silent(spine)
    before = await spine.client(U)
    assert before.status is Condition.UNREACHABLE
    for _ in range(3):
        spine.clock.advance(5)
        await spine.hear((f"{U}/{message[0]}", message[1]), retain=True)
        await spine.watch.look()
    after = await spine.client(U)
    assert (after.last_alive, after.last_heard_at, after.refused_at, after.presence) == (
        before.last_alive,
        before.last_heard_at,
        None,
        Presence.OFFLINE,
    )
    assert not {Condition.ONLINE, Condition.HUNG, Condition.INCOMPREHENSIBLE} & set(
        conditions_of(after, spine.clock.now(), spine.link.listening_since)
    )


async def test_a_last_will_that_arrives_after_the_deletion_brings_nobody_back(spine: Spine) -> None:
    await spine.hear((f"{U}/presence", "offline"))
    async with spine.store.read() as connection:
        assert await clients.get(connection, U) is None


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("Müller 日本", "Müller 日本"),
        ("exe\u202egpj.", "exe\\u202egpj."),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb", "a\\x0ab"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text: str, seen: str) -> None:
    assert visible(text, one_line=True) == seen


@given(st.text(st.characters()))
def test_nothing_that_is_shown_hides_or_turns_anything(text: str) -> None:
    joiners = {"\u200c", "\u200d"}
    assert all(one.isprintable() or one in joiners or one.isspace() for one in visible(text, one_line=True))


def png(width: int, height: int) -> bytes:
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + size + b"\x00" * 9 + b"IEND\xaeB`\x82"


def jpeg(width: int, height: int) -> bytes:
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc2\x00\x0b\x08" + size + b"\x01\x01\x11\x00\xff\xd9"


@pytest.mark.parametrize("make", [png, jpeg])
def test_a_picture_is_bounded_in_pixels_too(make: Callable[[int, int], bytes]) -> None:
    topic = topics.parse(topics.screenshot(U))
    decode(topic, make(7_680, 4_320))
    with pytest.raises(BadMessage) as refused:
        decode(topic, make(50_000, 50_000))
    assert refused.value.reason == "too_large"


SKIPPED = [b"\xff\x01", b"\xff\xd0", b"\xff\xd7", b"\xff\xd8", b"\xff", b"\xff\x00", b"\x00a"]


@given(st.lists(st.sampled_from(SKIPPED), max_size=8))
def test_what_decoders_skip_in_a_jpeg_hides_no_size(between: list[bytes]) -> None:
    head, _, tail = jpeg(50_000, 40_000).partition(b"\xff\xc2")
    assert image_size(head + b"".join(between) + b"\xff\xc2" + tail) == (50_000, 40_000)
