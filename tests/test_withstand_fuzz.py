"""Bytes that nobody would send on purpose: refused with a reason, or stored and readable again.

What decodes and then cannot be stored would be the worst: the daemon ends, the broker delivers it again, and
one device has stopped the whole house.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infoscreen.domain.errors import BadMessage
from infoscreen.services.ports import Incoming
from infoscreen.storage import client_lists, rejected, timeline
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.web.api import models, rejected_models
from infoscreen.wire import topics
from infoscreen.wire.messages import (
    MAX_JSON_BYTES,
    MAX_SCREENSHOT_BYTES,
    PresenceReport,
    Screenshot,
    ServiceCleared,
    decode,
    decode_command,
    encode,
)
from infoscreen.words.speaking import say
from tests.spine import Spine, open_spine, sqlite_url, uuid_of

T = TypeVar("T")
UUID = uuid_of(7)
NOW = "2026-03-02T07:00:00Z"

settings.register_profile(
    "withstand",
    deadline=None,  # machines are shared
    database=None,
    derandomize=True,  # the same messages in every run
    suppress_health_check=list(HealthCheck),
)
STEADY = settings(settings.get_profile("withstand"), max_examples=400)
THROUGH_A_DATABASE = settings(settings.get_profile("withstand"), max_examples=60)

GOOD: dict[str, dict[str, Any]] = {
    "heartbeat": {
        "timestamp": NOW,
        "uuid": UUID,
        "process_status": "running",
        "current_process": "player",
        "process_pid": 1,
        "app_started_at": NOW,
        "boot_id": "b",
        "booted_at": NOW,
        "ip": "10.0.0.1",
        "hostname": "screen",
        "software_version": "1",
        "persistent_session": True,
    },
    "health": {
        "timestamp": NOW,
        "expected_state": {"event_id": 5, "event_type": "t", "media_file": "f", "started_at": NOW},
        "actual_state": {"process": "player", "pid": 1, "status": "running", "started_at": NOW},
        "health_metrics": {"cpu_percent": 1.5, "uptime_seconds": 5, "screen_on": True},
        "broker_connection": {"reconnect_count": 1, "last_disconnect_at": NOW},
    },
    "discovery": {"uuid": UUID, "hostname": "screen", "mac": "m", "capabilities": ["screenshot"]},
    "service_failed": {"unit": "u", "failed_at": NOW, "client_uuid": UUID, "result": "r"},
    "logs/info": {"timestamp": NOW, "message": "m", "logger": "l", "context": {"a": [1, {"b": None}]}},
    "commands/ack": {"command_id": uuid_of(1), "status": "failed", "error_code": "c", "error_message": "m"},
    "command/ack": {"command_id": uuid_of(1), "status": "accepted", "error_code": None},
    "commands": {
        "schema_version": "1.0",
        "command_id": uuid_of(1),
        "client_uuid": UUID,
        "action": "reboot_host",
        "issued_at": NOW,
        "expires_at": NOW,
        "requested_by": 1,
        "reason": "r",
    },
}
"""A whole message for each topic that carries JSON."""

DEVICE_TOPICS = sorted({*GOOD, "presence", "screenshot"} - {"commands"})
NO_MESSAGE = ("malformed", "too_large", "uuid_mismatch", "not_an_image")
IMAGES = [b"\xff\xd8\xff\xe0\x00\xff\xd9", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00IEND\xaeB`\x82"]

DEEP = "[" * 180 + "]" * 180
"""As deep as decodes; twice that does not."""

NASTY = [
    *(
        "null",
        "true",
        "-0",
        "-1",
        "0.1",
        "1e308",
        "-1e308",
        "1e309",
        "-1e999999",
        "NaN",
        "Infinity",
        "-Infinity",
    ),
    *(str(2**31 - 1), str(2**31), str(2**63), str(-(2**63) - 1), "9" * 400, "9" * 4300, "9" * 5000),
    *(
        '""',
        '"\\u0000"',
        '"a\\u0000b"',
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\uffff"',
        '"\u202e"',
    ),
    *(f'"{"x" * length}"' for length in (60, 61, 200, 500, 501, 4001, 60_000)),
    *(f'"{"é" * length}"' for length in (500, 4_000)),
    *(
        "[]",
        "{}",
        '{"a": 1, "a": 2}',
        '{"": {}}',
        '{"\\u0000": 1}',
        '{"a": NaN}',
        '{"a": [1e999]}',
        '{"a": -Infinity}',
    ),
    *(DEEP, f'{{"a": {DEEP}}}', "[" * 5_000, "[" * 400 + "]" * 400, '{"a":' * 3_000, f"[{'1,' * 9_000}1]"),
    *('"0000-01-01T00:00:00Z"', '"0001-01-01T00:00:00Z"', '"1969-12-31T23:59:59Z"', '"9999-12-31T23:59:59Z"'),
    *(
        '"1970-01-01T00:00:00+23:59"',
        '"9000-12-31T23:59:59-23:59"',
        '"9000-01-01T00:00:00"',
        '"10000-01-01T00:00Z"',
    ),
    *(
        '"2026-03-02T07:00:00.123456789Z"',
        '"2026-03-02T07:00:60Z"',
        '"2026-02-30T07:00:00Z"',
        '"2026-03-02T07:00+99:00"',
    ),
    *(
        "1700000000",
        "1e18",
        '"1700000000"',
        f'"{UUID}"',
        f'"urn:uuid:{UUID}"',
        f'"{{{UUID}}}"',
        f'"{UUID[:-1]}\\u0000"',
    ),
]
"""JSON values, and what is almost one, that mean trouble to somebody."""

json_values = st.recursive(
    st.sampled_from(NASTY)
    | st.text(max_size=20).map(json.dumps)
    | st.integers().map(str)
    | st.floats().map(str),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(st.tuples(st.text(max_size=5), inner), max_size=3).map(lambda pairs: written(pairs))
    ),
    max_leaves=5,
)


def written(pairs: list[tuple[str, str]]) -> str:
    """Return an object of JSON as text; names may repeat."""
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in pairs) + "}"


@st.composite
def changed_objects(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    """Draw a message in which some fields, in blocks too, are something else, missing, doubled or new."""
    return draw(_changed(good)).encode("utf-8", "surrogatepass")


@st.composite
def _changed(draw: st.DrawFn, good: dict[str, Any]) -> str:
    pairs = []
    for name, value in good.items():
        if isinstance(value, dict) and draw(st.booleans()):
            pairs.append((name, draw(_changed(value))))
        else:
            pairs.append((name, json.dumps(value)))
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from([*good, "more"]))
        how = draw(st.sampled_from(["replace", "remove", "double"]))
        if how != "double":
            pairs = [pair for pair in pairs if pair[0] != name]
        if how != "remove":
            pairs.insert(draw(st.integers(0, len(pairs))), (name, draw(json_values)))
    return written(pairs)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw what is left of a message after a few bytes of it were lost, changed, moved or repeated."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        data[start:end] = draw(st.binary(max_size=8) | st.just(bytes(data[start:end] * 2)))
    return bytes(data)


def payloads(topic: str) -> st.SearchStrategy[bytes]:
    """Return what may arrive on a topic, from noise to almost right."""
    kinds: list[st.SearchStrategy[bytes]] = [
        st.binary(max_size=300),
        json_values.map(lambda text: text.encode("utf-8", "surrogatepass")),
    ]
    if topic in GOOD:
        whole = json.dumps(GOOD[topic]).encode()
        kinds += [changed_objects(GOOD[topic])] * 4 + [damaged(whole)] * 2 + [st.just(whole)]
    elif topic == "presence":
        kinds += [damaged(b"online"), st.sampled_from([b"online", b"offline", b"online\x00"])]
    else:
        kinds += [damaged(image) for image in IMAGES] + [st.sampled_from(IMAGES)]
    return st.one_of(kinds)


arrivals = st.sampled_from(DEVICE_TOPICS).flatmap(
    lambda topic: st.tuples(st.just(topic), payloads(topic), st.booleans(), st.booleans())
)


# Decoding.


def understood(decode_it: Callable[[], T], *reasons: str) -> T | None:
    """Return what was decoded, or None when it was refused for one of the reasons."""
    try:
        return decode_it()
    except BadMessage as refusal:
        if refusal.reason in reasons and say(refusal.fact):
            return None
        raise


@pytest.mark.parametrize("topic", DEVICE_TOPICS)
def test_a_decoder_raises_nothing_but_bad_message_and_understands_what_it_understood_again(
    topic: str,
) -> None:
    parsed = topics.parse(f"infoscreen/{UUID}/{topic}")

    @STEADY
    @given(payloads(topic))
    def check(payload: bytes) -> None:
        message = understood(lambda: decode(parsed, payload), *NO_MESSAGE)
        if message and not isinstance(message, Screenshot | ServiceCleared | PresenceReport):
            assert decode(parsed, encode(message)) == message

    check()


@STEADY
@given(payloads("commands"))
def test_the_decoder_of_commands_raises_nothing_but_bad_message(payload: bytes) -> None:
    command = understood(lambda: decode_command(payload), "malformed", "too_large")
    assert command is None or decode_command(command.encode()) == command


@STEADY
@given(
    st.text(max_size=100)
    | st.lists(
        st.sampled_from(["infoscreen", UUID, UUID.upper(), "logs", "info", "", "+", "#", "\x00"]), max_size=6
    ).map("/".join)
    | st.builds(
        lambda who, tail: f"infoscreen/{who}/{tail}", st.text(max_size=50), st.sampled_from(DEVICE_TOPICS)
    )
)
def test_a_topic_is_taken_apart_or_refused(topic: str) -> None:
    parsed = understood(lambda: topics.parse(topic), "unknown_topic", "bad_uuid")
    assert parsed is None or topic.startswith(f"infoscreen/{parsed.uuid}/")


@pytest.mark.parametrize("topic", DEVICE_TOPICS)
@pytest.mark.parametrize("start", [b"", b"[", b"{", b'"', b'{"timestamp":"', b"9", b"\xff\xd8\xff", b" "])
def test_however_much_comes_it_is_refused_by_its_length_alone(topic: str, start: bytes) -> None:
    """Nothing is parsed of what is too long, so that no payload can cost much."""
    largest = MAX_SCREENSHOT_BYTES if topic == "screenshot" else MAX_JSON_BYTES
    with pytest.raises(BadMessage) as refusal:
        decode(topics.parse(f"infoscreen/{UUID}/{topic}"), start.ljust(largest + 1, b"["))
    assert refusal.value.reason == ("malformed" if topic == "presence" else "too_large")


# Storing.


class House:
    """The spine on a database, in an event loop of its own: Hypothesis calls functions that are not async."""

    def __init__(self, runner: asyncio.Runner, spine: Spine) -> None:
        self._runner = runner
        self._spine = spine

    def take_in(self, batch: list[Incoming]) -> None:
        """Store a batch and read all of it that is shown to people."""
        self._runner.run(self._take_in(batch))

    async def _take_in(self, batch: list[Incoming]) -> None:
        before = self._spine.measures.counts.copy()
        await self._spine.ingest.handle(batch, self._spine.clock.now())
        counted = self._spine.measures.counts - before
        assert sum(n for what, n in counted.items() if what[0] == "message") == len(batch)
        self._spine.clock.advance(1)
        async with self._spine.store.read() as connection:
            page = await client_lists.search(connection, ClientQuery(), 100)
            lines = await timeline.page(connection, UUID, 100)
            refused = (await rejected.page(connection, 100)).items
        now, since = self._spine.clock.now(), self._spine.link.listening_since
        answers: list[Any] = [
            models.client_list(page, now, since),
            models.Timeline.of(lines),
            *(rejected_models.RejectedMessageModel.of(message) for message in refused),
        ]
        for shown in answers:
            json.loads(shown.model_dump_json(), parse_constant=_no_json)
        await self._spine.watch.look()


def _no_json(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def house(request: pytest.FixtureRequest, tmp_path: Path, runner: asyncio.Runner) -> Iterator[House]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    stack = AsyncExitStack()

    async def build() -> Spine:
        return await stack.enter_async_context(open_spine(url))

    spine = runner.run(build())
    yield House(runner, spine)
    runner.run(stack.aclose())


def test_whatever_arrives_is_stored_or_refused_and_can_be_shown(house: House) -> None:
    @THROUGH_A_DATABASE
    @given(st.lists(arrivals, min_size=1, max_size=12))
    def check(batch: list[tuple[str, bytes, bool, bool]]) -> None:
        house.take_in([Incoming(f"infoscreen/{UUID}/{topic}", *rest) for topic, *rest in batch])

    check()


def test_every_nasty_value_in_every_field_is_stored_or_refused(house: House) -> None:
    for topic in DEVICE_TOPICS:
        good = GOOD.get(topic, {})
        batch = [
            Incoming(
                f"infoscreen/{UUID}/{topic}",
                written(
                    [*((k, json.dumps(v)) for k, v in good.items() if k != name), (name, value)]
                ).encode(),
            )
            for name in good
            for value in NASTY
        ]
        if batch:
            house.take_in(batch)


@pytest.mark.parametrize(
    "topic", ["infoscreen/a\x00b/heartbeat", "infoscreen/\x00", "\x00", "infoscreen//presence", ""]
)
def test_a_topic_that_no_broker_should_let_through_is_refused(house: House, topic: str) -> None:
    house.take_in([Incoming(topic, b"\x00", False)])
