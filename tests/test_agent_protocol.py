"""The device's side of the contract without a device: the desk, the journal and the outbox."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoscreen.agent.protocol import packets
from infoscreen.agent.protocol.desk import CommandDesk, Fate, Verdict, fate
from infoscreen.agent.protocol.journal import (
    JOURNAL_LENGTH,
    Before,
    Entry,
    Given,
    Journal,
    Linked,
    Record,
    Sent,
    compacted,
    decode_records,
    encode_record,
)
from infoscreen.agent.protocol.outbox import UNSENT_EVENTS, Outbox
from infoscreen.agent.protocol.packets import Packet
from infoscreen.domain.commands import AckStatus, Action
from infoscreen.wire import topics
from infoscreen.wire.messages import Command, CommandAck, LogLine, decode
from infoscreen.wire.topics import LogLevel, parse

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
UUID = "0b3c2f0e-5a64-4a4e-9d4d-6a3c2f1e0d9b"
BOOT, NEXT_BOOT = "first", "second"
A, E, C, F = AckStatus.ACCEPTED, AckStatus.EXECUTION_STARTED, AckStatus.COMPLETED, AckStatus.FAILED


def command(action: Action = Action.REBOOT_HOST, **changes: Any) -> bytes:
    fields = {
        "schema_version": "1.0",
        "command_id": str(uuid4()),
        "client_uuid": UUID,
        "action": action,
        "issued_at": NOW.isoformat(),
        "expires_at": (NOW + timedelta(seconds=240)).isoformat(),
        "requested_by": 1,
        "reason": 'the "screen"\nis black',
    }
    return json.dumps(fields | changes).encode()


class Agent:
    """An agent's memory: what it was told to keep on disk, and everything made of that at each start."""

    def __init__(self) -> None:
        self.disk = b""
        self.start()

    def start(self) -> None:
        self.outbox = Outbox()
        self.journal = Journal(decode_records(self.disk)[0], keep=self._keep)
        self.desk = CommandDesk(UUID, can=lambda _: True, journal=self.journal, outbox=self.outbox)
        self.desk.send_unsent()

    def receive(self, payload: bytes) -> Command:
        command = self.desk.receive(payload, NOW).command
        assert command is not None
        return command

    def take(self, most: int = 1_000) -> list[AckStatus]:
        """Send so many packets and return the acks that went out on the first of the two topics."""
        sent = []
        for _ in range(most):
            packet = self.outbox.next()
            if packet is None:
                break
            token = self.outbox.sent(packet)
            if isinstance(token, int):
                self.journal.sent(token)
            if packet.topic == topics.acks(UUID)[0]:
                sent.append(CommandAck.model_validate_json(packet.payload).status)
        return sent

    def _keep(self, record: Record) -> None:
        self.disk += encode_record(record)


@pytest.fixture
def agent() -> Agent:
    return Agent()


# The desk.


def test_an_ack_is_in_the_journal_before_it_is_in_the_outbox(agent: Agent) -> None:
    waiting: list[Packet | None] = []
    agent.journal._keep = lambda record: waiting.append(agent.outbox.next())
    agent.receive(command())
    assert waiting == [None]
    assert agent.outbox.next() is not None


def test_each_ack_goes_out_on_both_topics(agent: Agent) -> None:
    agent.receive(command())
    sent = []
    while (packet := agent.outbox.next()) is not None:
        agent.outbox.sent(packet)
        sent.append(packet)
    assert [packet.topic for packet in sent] == list(topics.acks(UUID))
    assert len({packet.payload for packet in sent}) == 1


def test_a_command_known_from_before_the_restart_is_answered_and_not_taken_again(agent: Agent) -> None:
    payload = command(Action.SCREENSHOT)
    taken = agent.receive(payload)
    agent.desk.complete(taken)
    agent.take()
    agent.start()
    assert agent.desk.receive(payload, NOW + timedelta(days=1)).verdict is Verdict.REPEATED
    assert agent.take() == [C]


def test_a_refused_command_is_refused_again_in_the_same_words(agent: Agent) -> None:
    payload = command(expires_at=NOW.isoformat())
    assert agent.desk.receive(payload, NOW).verdict is Verdict.REFUSED
    assert agent.take() == [F]
    assert agent.desk.receive(payload, NOW).verdict is Verdict.REPEATED
    assert agent.take() == [F]


def test_a_retained_command_leaves_no_trace(agent: Agent) -> None:
    assert agent.desk.receive(command(), NOW, retain=True).verdict is Verdict.RETAINED
    assert (agent.take(), agent.disk) == ([], b"")


def test_a_second_disruptive_command_waits_for_no_one_but_a_screenshot_may_be_taken(agent: Agent) -> None:
    first = agent.receive(command(Action.RESTART_APP))
    assert agent.desk.receive(command(Action.REBOOT_HOST), NOW).verdict is Verdict.REFUSED
    assert agent.desk.receive(command(Action.SCREENSHOT), NOW).verdict is Verdict.TAKEN
    agent.desk.complete(first)
    assert agent.desk.receive(command(Action.REBOOT_HOST), NOW).verdict is Verdict.TAKEN


# Restarts.


@pytest.mark.parametrize(
    ("action", "before", "boot_id", "expected"),
    [
        (Action.REBOOT_HOST, Before(BOOT), NEXT_BOOT, Fate.COMPLETED),
        (Action.REBOOT_HOST, Before(BOOT), BOOT, Fate.INTERRUPTED),
        (Action.REBOOT_HOST, None, NEXT_BOOT, Fate.INTERRUPTED),
        (Action.SHUTDOWN_HOST, Before(BOOT), NEXT_BOOT, Fate.COMPLETED),
        (Action.SHUTDOWN_HOST, Before(BOOT), BOOT, Fate.INTERRUPTED),
        (Action.RESTART_APP, Before(BOOT), NEXT_BOOT, Fate.INTERRUPTED),
        (Action.RESTART_APP, Before(BOOT), BOOT, Fate.UNDECIDED),
        (Action.RESTART_APP, None, BOOT, Fate.INTERRUPTED),
        (Action.SCREENSHOT, Before(BOOT), BOOT, Fate.INTERRUPTED),
        (Action.SCREENSHOT, Before(BOOT), NEXT_BOOT, Fate.INTERRUPTED),
    ],
)
def test_the_fate_of_an_unfinished_command(
    action: Action, before: Before | None, boot_id: str, expected: Fate
) -> None:
    taken = Command.model_validate_json(command(action))
    ack = CommandAck(command_id=taken.command_id, status=A if before is None else E)
    assert fate(Entry(taken, ack, before), boot_id) is expected


def test_a_reboot_is_completed_by_the_agent_that_comes_up_afterwards(agent: Agent) -> None:
    agent.desk.start(agent.receive(command()), Before(BOOT))
    assert agent.take() == [A, E]
    agent.start()
    assert agent.desk.resume(NEXT_BOOT) == []
    assert agent.take() == [C]
    agent.start()
    assert agent.desk.resume(NEXT_BOOT) == []
    assert agent.take() == []


def test_a_restart_that_the_agent_did_not_see_through_still_occupies_the_device(agent: Agent) -> None:
    before = Before(BOOT, NOW - timedelta(minutes=5))
    taken = agent.receive(command(Action.RESTART_APP))
    agent.desk.start(taken, before)
    agent.start()
    assert [entry.before for entry in agent.desk.resume(BOOT)] == [before]
    assert agent.desk.receive(command(), NOW).verdict is Verdict.REFUSED
    agent.desk.complete(taken)
    assert agent.desk.receive(command(), NOW).verdict is Verdict.TAKEN


def test_acks_that_were_not_sent_before_a_restart_are_sent_after_it_in_their_order(agent: Agent) -> None:
    taken = agent.receive(command(Action.SCREENSHOT))
    agent.desk.start(taken, Before(BOOT))
    agent.desk.complete(taken)
    assert agent.take(3) == [A, E]  # the second only on its first topic
    agent.start()
    assert agent.take() == [E, C]
    agent.start()
    assert agent.take() == []


def test_reconnects_are_counted_over_restarts(agent: Agent) -> None:
    agent.journal.connected()
    agent.journal.disconnected(NOW)
    agent.start()
    agent.journal.connected()
    assert agent.journal.link.reconnects == 1
    assert agent.journal.link.last_disconnect_at == NOW


# The journal on a disk that loses power.


def eventful_disk() -> bytes:
    """Return the records of a life with several commands, some of whose acks were not sent."""
    agent = Agent()
    agent.journal.connected()
    done = agent.receive(command(Action.RESTART_APP))
    agent.desk.start(done, Before(BOOT, NOW))
    agent.desk.complete(done)
    agent.take()
    agent.journal.disconnected(NOW)
    agent.desk.start(agent.receive(command(Action.REBOOT_HOST)), Before(BOOT))
    agent.take(1)
    return agent.disk


def test_whatever_is_cut_off_the_journal_nothing_before_it_is_lost() -> None:
    disk = eventful_disk()
    records, damaged = decode_records(disk)
    assert damaged == 0
    ends = [0]
    for record in records:
        ends.append(ends[-1] + len(encode_record(record)))
    assert ends[-1] == len(disk)
    for length in range(len(disk) + 1):
        found, _ = decode_records(disk[:length])
        whole = sum(end - len("\n") <= length for end in ends) - 1
        assert found == records[:whole], length
        # And what is appended to the stump counts.
        again, _ = decode_records(disk[:length] + encode_record(records[-1]))
        assert again == [*records[:whole], records[-1]], length


def test_a_flipped_byte_costs_its_own_record_at_most() -> None:
    disk = eventful_disk()
    records, _ = decode_records(disk)
    for place in range(len(disk)):
        torn = bytearray(disk)
        torn[place] ^= 0x55
        found, _ = decode_records(bytes(torn))
        # A line break that is gone, or one too many, costs its two neighbours.
        assert len(found) >= len(records) - 2, place
        assert all(record in records for record in found), place


def test_sectors_that_were_never_written_are_skipped() -> None:
    disk = eventful_disk()
    records, _ = decode_records(disk)
    found, damaged = decode_records(disk + b"\0" * 4_096 + encode_record(records[0]))
    assert (found, damaged) == ([*records, records[0]], 1)


def test_a_record_of_another_version_is_skipped() -> None:
    record = encode_record(Sent(7))
    found, damaged = decode_records(record.replace(b'"sent"', b'"kept"') + record)
    assert (found, damaged) == ([Sent(7)], 1)


def entry(serial: int, status: AckStatus) -> Given:
    taken = Command.model_validate_json(command(Action.SCREENSHOT))
    return Given(serial, Entry(taken, CommandAck(command_id=taken.command_id, status=status)))


def test_a_compacted_journal_remembers_the_newest_commands_and_everything_unsent() -> None:
    count = JOURNAL_LENGTH + 5
    records: list[Record] = [entry(serial, C) for serial in range(1, count + 1)]
    records += [Sent(serial) for serial in range(2, count + 1)]
    records += [Linked(1), Linked(2)]
    compact = compacted(records)
    assert compact[0] == Linked(2)
    assert [record.serial for record in compact if isinstance(record, Given)] == [1, *range(6, count + 1)]
    assert compacted(compact) == compact


STEPS = st.lists(st.sampled_from(["take", "start", "complete", "send", "link"]), max_size=25)


@given(steps=STEPS, cut=st.integers(0, 10))
def test_a_compacted_journal_says_the_same_as_the_whole_one(steps: list[str], cut: int) -> None:
    agent = Agent()
    running: list[Command] = []
    for step in steps:
        match step:
            case "take":
                running.append(agent.receive(command(Action.SCREENSHOT)))
            case "start" if running:
                agent.desk.start(running[-1], Before(BOOT))
            case "complete" if running:
                agent.desk.complete(running.pop())
            case "send":
                agent.take(1)
            case "link":
                agent.journal.connected()
    records = decode_records(agent.disk)[0]
    whole, compact = Journal(records), Journal(compacted(records[:cut]) + records[cut:])
    assert {one.command.command_id: one for one in whole.entries} == {
        one.command.command_id: one for one in compact.entries
    }
    assert (whole.unsent, whole.link) == (compact.unsent, compact.link)


# The outbox.


def test_log_lines_make_room_for_acks_and_not_the_other_way_round() -> None:
    outbox = Outbox()
    ack = Packet("ack", b"")
    outbox.event(Packet("log", b"oldest"))
    outbox.event(ack, 1)
    for number in range(2 * UNSENT_EVENTS):
        outbox.event(Packet("log", b"%d" % number))
    assert outbox.next() is ack
    outbox.sent(ack)
    left = 0
    while (packet := outbox.next()) is not None:
        outbox.sent(packet)
        left += 1
    assert (left, packet) == (UNSENT_EVENTS - 1, None)


def test_a_token_is_handed_back_with_the_last_packet_under_it() -> None:
    outbox = Outbox()
    for name, token in [("a", 1), ("b", 1), ("c", None), ("d", 2)]:
        outbox.event(Packet(name, b""), token)
    tokens = []
    while (packet := outbox.next()) is not None:
        tokens.append(outbox.sent(packet))
    assert tokens == [None, 1, None, 2]


def test_a_log_line_names_the_agent_and_is_cut_where_the_contract_cuts() -> None:
    packet = packets.log_line(UUID, LogLevel.WARN, "x" * 5_000, NOW)
    line = decode(parse(packet.topic), packet.payload)
    assert isinstance(line, LogLine)
    assert (len(line.message), line.logger) == (4_000, "infoscreen-agent")
