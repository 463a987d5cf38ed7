"""Heartbeats and health are read by msgspec or by pydantic, and nobody can tell by which."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infoscreen.domain.error_codes import MessageDefect
from infoscreen.domain.errors import BadMessage
from infoscreen.wire import examples, topics
from infoscreen.wire.base import described, quick_reader
from infoscreen.wire.messages import MAX_JSON_BYTES, Health, Heartbeat, decode, encode, read
from infoscreen.wire.reading import read_object
from tests.test_withstand_fuzz import GOOD, NASTY, NOW, STEADY, UUID, damaged, payloads, written

KINDS: dict[str, type[Heartbeat | Health]] = {"heartbeat": Heartbeat, "health": Health}
MANY = settings(STEADY, max_examples=800)


def outcome(reading: Callable[[], object]) -> object:
    """Return what was read, or why it was refused."""
    try:
        return reading()
    except BadMessage as refusal:
        return refusal.fact


def by_pydantic(kind: type[Heartbeat | Health], payload: bytes) -> tuple[Heartbeat | Health, object]:
    """Return the message and what of it could not be read, without help of the quick reader."""
    try:
        return kind.of(described(kind).__pydantic_validator__.validate_json(payload)), ()
    except ValidationError:
        return read_object(kind, payload)


def assert_same(topic: str, payload: bytes) -> None:
    assume(len(payload) <= MAX_JSON_BYTES)  # refused before either looks at it
    parsed = topics.parse(f"infoscreen/{UUID}/{topic}")

    def slowly() -> object:
        message, unread = by_pydantic(KINDS[topic], payload)
        if message.uuid is not None and str(message.uuid) != UUID:
            raise BadMessage(MessageDefect.UUID_MISMATCH, payload=str(message.uuid), topic=UUID)
        return repr(message), unread

    def as_it_is() -> object:
        received = read(parsed, payload)
        return repr(received.message), received.unread

    assert outcome(as_it_is) == outcome(slowly)


# Ordinary values in all their spellings, which is what msgspec may take.

DIGITS = st.text("0123456789", min_size=1, max_size=9)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-300, 1e11).map(repr),
    st.builds("{}{}.{}e{}".format, st.sampled_from(["", "-"]), DIGITS, DIGITS, st.integers(-400, 400)),
    st.sampled_from(["-0", "-0.0", "0", "00", "1.", ".5", "+1", "1e5", "1E+2", "2147483647.0", "0x1", "1_0"]),
)
ZONES = st.sampled_from(["Z", "z", "+00:00", "-00:00", "+0000", "+01:00", "-23:59", "+24:00", "", " Z"])
ODD_TIMES = [
    *("2026-03-02 07:00:00", "2026-03-02t07:00:00", "2026-03-02T07:00", "2026-03-02T24:00:00"),
    *("2026-03-02T07:00:60", "2016-12-31T23:59:60", "2026-03-02", "20260302T070000", "2026-3-2T07:00:00"),
    *("0000-01-01T00:00:00", "0002-01-01T00:00:00", "0003-01-01T00:00:00", "9998-12-31T23:59:59"),
]
TIMES = st.builds(
    '"{}{}{}"'.format,
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(datetime.isoformat)  # noqa: DTZ001
    | st.sampled_from(ODD_TIMES),
    st.sampled_from(["", ".", ".5", ".123456", ",5"]) | DIGITS.map(".{}".format),
    ZONES,
)
WORDS = ["running", "other", "Running", "idle", "true", UUID, UUID.upper(), UUID.replace("-", "")]
TEXTS = st.one_of(
    st.text(max_size=30).map('"{}"'.format),
    st.integers(498, 502).map(lambda size: f'"{"é" * size}"'),
    st.sampled_from(WORDS).map('"{}"'.format),
)
PLAIN = st.one_of(NUMBERS, TIMES, TEXTS, st.sampled_from(["null", "true", "false", "{}", "[]", *NASTY]))
SPACES = st.sampled_from(["", "", "", " ", "\n\t", "\r", "\x0c", "\ufeff", "\x00"])


@st.composite
def spelled(draw: st.DrawFn, good: dict[str, Any]) -> str:
    """Draw an object with a few of its fields in another spelling, doubled, or unknown."""
    pairs = [
        (name, draw(spelled(value)) if isinstance(value, dict) and draw(st.booleans()) else json.dumps(value))
        for name, value in good.items()
    ]
    for _ in range(draw(st.integers(0, 1))):
        name = draw(st.sampled_from([*good, "more", ""]))
        if draw(st.booleans()):
            pairs = [pair for pair in pairs if pair[0] != name]
        fitting = (
            TIMES if good.get(name) == NOW else NUMBERS if isinstance(good.get(name), float | int) else TEXTS
        )
        pairs.insert(draw(st.integers(0, len(pairs))), (name, draw(fitting | PLAIN)))
    return written(pairs)


@pytest.mark.parametrize("topic", KINDS)
def test_ordinary_payloads_in_every_spelling_are_read_the_same(topic: str) -> None:
    quick, taken = quick_reader(KINDS[topic]), Counter[bool]()

    @MANY
    @given(spelled(GOOD[topic]), SPACES)
    def check(text: str, spaces: str) -> None:
        payload = f"{spaces}{text}{spaces}".encode("utf-8", "surrogatepass")
        taken[quick(payload) is not None] += 1
        assert_same(topic, payload)

    check()
    assert min(taken[True], taken[False]) > 100, "the test has to see both ways"


@pytest.mark.parametrize("topic", KINDS)
def test_damaged_and_hostile_payloads_are_read_the_same(topic: str) -> None:
    whole = encode(examples.HEARTBEAT if topic == "heartbeat" else examples.HEALTH)

    @STEADY
    @given(payloads(topic) | damaged(whole))
    def check(payload: bytes) -> None:
        assert_same(topic, payload)

    check()


@pytest.mark.parametrize("message", [examples.HEARTBEAT, examples.HEALTH], ids=lambda one: type(one).__name__)
def test_what_devices_send_is_read_by_the_quick_way(message: Heartbeat | Health) -> None:
    quick = quick_reader(type(message))
    assert quick(encode(message)) == message
    assert quick(encode(message).replace(b"Z", b"+00:00")) == message  # as Python writes UTC


STORABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")


@STEADY
@given(
    st.builds(
        Heartbeat,
        timestamp=st.datetimes(datetime(3, 1, 1), datetime(9997, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        hostname=st.none() | st.text(STORABLE, max_size=500),
        process_pid=st.none() | st.integers(0, 2**31 - 1),
        booted_at=st.none() | st.datetimes(timezones=st.just(UTC)).filter(lambda at: 3 <= at.year < 9998),
    )
)
def test_msgspec_writes_what_pydantic_writes(heartbeat: Heartbeat) -> None:
    said = described(Heartbeat)(**{name: getattr(heartbeat, name) for name in Heartbeat.__struct_fields__})
    assert encode(heartbeat).decode() == said.model_dump_json(exclude_none=True)


def test_a_fraction_that_msgspec_would_round_is_cut() -> None:
    payload = b'{"timestamp": "2026-03-02T07:00:00.9999999Z"}'
    at = datetime(2026, 3, 2, 7, tzinfo=UTC) + timedelta(microseconds=999_999)
    assert decode(topics.parse(topics.heartbeat(UUID)), payload) == Heartbeat(timestamp=at)
