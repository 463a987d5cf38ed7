"""Messages found in a stream of bytes, however it is cut, and counted until they are stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from benchmarks.packets import publish
from infoscreen.mqtt.inbox import OVERHEAD_BYTES, Inbox, MalformedStream
from infoscreen.services.ports import Incoming

SUBACK = b"\x90\x03\x00\x01\x01"
PINGRESP = b"\xd0\x00"

messages = some.tuples(
    some.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()),
    some.one_of(some.binary(max_size=300), some.integers(0, 40_000).map(bytes)),
    some.booleans(),
)
packets = some.lists(some.one_of(messages, some.sampled_from([SUBACK, PINGRESP])), max_size=12)


@given(packets, some.lists(some.integers(1, 5_000), min_size=1, max_size=5), some.integers(1, 7))
def test_messages_come_out_as_they_went_in_however_the_stream_is_cut(
    sent: list[tuple[str, bytes, bool] | bytes], cuts: list[int], limit: int
) -> None:
    stream = b""
    for number, one in enumerate(sent, 1):
        stream += one if isinstance(one, bytes) else publish(one[0], one[1], number, retain=one[2])
    inbox, others, at, turn = Inbox(10**9), b"", 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        others += inbox.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert others == b"".join(one for one in sent if isinstance(one, bytes))
    taken: list[Incoming] = []
    pubacks = b""
    while inbox.waiting:
        batch = inbox.take(limit, 10**9)
        assert 1 <= len(batch.messages) <= limit
        taken += batch.messages
        pubacks += batch.pubacks
        inbox.stored(batch)
    numbers = [number for number, one in enumerate(sent, 1) if not isinstance(one, bytes)]
    messages = [one for one in sent if not isinstance(one, bytes)]
    ids = [number.to_bytes(2) for number in numbers]
    assert taken == [Incoming(*one, packet_id=id_) for one, id_ in zip(messages, ids, strict=True)]
    assert pubacks == b"".join(b"\x40\x02" + number.to_bytes(2) for number in numbers)
    assert inbox.held == 0


def test_a_message_that_is_delivered_again_is_told_apart() -> None:
    inbox = Inbox(10**9)
    once = publish("t", b"x", 7)
    inbox.feed(once + bytes([once[0] | 0x08]) + once[1:])
    assert [message.repeated for message in inbox.take(10, 10**9).messages] == [False, True]


def test_a_message_of_qos_0_is_not_acknowledged() -> None:
    inbox = Inbox(10**9)
    inbox.feed(b"\x30\x05\x00\x01tab" + publish("t", b"cd", 7))
    batch = inbox.take(10, 10**9)
    assert [message.payload for message in batch.messages] == [b"ab", b"cd"]
    assert batch.pubacks == b"\x40\x02\x00\x07"


def test_a_batch_is_bounded_in_bytes_but_never_empty() -> None:
    inbox = Inbox(10**9)
    for size in (900, 50, 50, 3_000, 10):
        inbox.feed(publish("t", bytes(size), 1))
    most = 1_000 + 2 * OVERHEAD_BYTES
    taken = []
    while inbox.waiting:
        taken.append([len(message.payload) for message in inbox.take(10, most).messages])
    assert taken == [[900, 50], [50], [3_000], [10]]


def test_it_is_full_until_enough_is_stored() -> None:
    inbox = Inbox(2_000)
    inbox.feed(publish("t", bytes(1_000), 1))
    assert not inbox.full
    inbox.feed(publish("t", bytes(1_000), 2))
    assert inbox.full
    batch = inbox.take(1, 10**9)
    assert inbox.full  # taken is not stored
    inbox.stored(batch)
    assert not inbox.full


def test_a_packet_larger_than_the_budget_is_still_received() -> None:
    inbox, packet = Inbox(1_000), publish("t", bytes(100_000), 1)
    for at in range(0, len(packet), 1_000):
        assert not inbox.full
        inbox.feed(packet[at : at + 1_000])
    assert inbox.waiting == 1
    assert inbox.full


def test_a_closed_inbox_takes_no_more_messages_but_other_packets() -> None:
    inbox = Inbox(1_000)
    inbox.feed(publish("t", bytes(2_000), 1))
    inbox.close()
    assert inbox.feed(publish("t", bytes(2_000), 2) + PINGRESP) == PINGRESP
    assert (inbox.waiting, inbox.held, inbox.full) == (0, 0, False)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x32\xff\xff\xff\xff\x01",
        b"\x32\x05\x00\x09abc",
        b"\x32\x00",
        b"\x32\x04\x00\x02ab",
        b"\x32\x01\x00",
    ],
    ids=["length of five bytes", "topic beyond the packet", "empty", "no packet id", "half a length"],
)
def test_what_is_no_mqtt_is_refused(stream: bytes) -> None:
    with pytest.raises(MalformedStream):
        Inbox(1_000).feed(stream)
