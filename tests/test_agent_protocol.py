"""The device's side of the contract without a device: the desk, the journal and the outbox."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoscreen.agent.journal_file import JournalFile
from infoscreen.agent.protocol import packets
from infoscreen.agent.protocol.desk import CommandDesk, CommandOutcome, Fate, fate
from infoscreen.agent.protocol.journal import (
    JOURNAL_LENGTH,
    Entry,
    Journal,
    JournalContents,
    Lost,
    Record,
    StateAtStart,
)
from infoscreen.agent.protocol.packet_queue import UNSENT_BYTES, UNSENT_EVENTS, PacketQueue
from infoscreen.agent.protocol.packets import Packet
from infoscreen.agent.protocol.values import build
from infoscreen.domain.commands import AT_THE_OUTLET, AckStatus, Action
from infoscreen.domain.visible import visible
from infoscreen.wire import topics
from infoscreen.wire.messages import (
    Command,
    CommandAck,
    Discovery,
    Health,
    HealthMetrics,
    Heartbeat,
    LogLine,
    ServiceFailed,
    decode,
    encode,
)
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
    """An agent's memory: what it was told to keep, and what a later process makes of that."""

    def __init__(self) -> None:
        self.kept: list[Record] = []
        self.known = JournalContents.nothing()
        self.start()

    def start(self) -> None:
        self.outbox = PacketQueue()
        self.journal = Journal(self._known(), keep=self.kept.append)
        self.desk = CommandDesk(UUID, can=lambda _: True, journal=self.journal, outbox=self.outbox)
        self.desk.send_unsent()

    def _known(self) -> JournalContents:
        with TemporaryDirectory() as directory:
            file = JournalFile(Path(directory))
            file.open(NOW)
            file.append(self.kept)
            return file.open(NOW)

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
    assert agent.desk.receive(payload, NOW + timedelta(days=1)).verdict is CommandOutcome.REPEATED
    assert agent.take() == [C]


def test_a_refused_command_is_refused_again_in_the_same_words(agent: Agent) -> None:
    payload = command(expires_at=NOW.isoformat())
    assert agent.desk.receive(payload, NOW).verdict is CommandOutcome.REFUSED
    assert agent.take() == [F]
    assert agent.desk.receive(payload, NOW).verdict is CommandOutcome.REPEATED
    assert agent.take() == [F]


def test_a_retained_command_leaves_no_trace(agent: Agent) -> None:
    assert agent.desk.receive(command(), NOW, retain=True).verdict is CommandOutcome.RETAINED
    assert (agent.take(), agent.kept) == ([], [])


@pytest.mark.parametrize(
    "kind",
    [
        [Action.RESTART_APP, Action.REBOOT_HOST, Action.SHUTDOWN_HOST],
        [Action.SCREENSHOT],
        [Action.DISPLAY_ON, Action.DISPLAY_OFF],
    ],
)
def test_of_each_kind_one_command_is_carried_out_at_a_time_and_kinds_do_not_wait_for_each_other(
    agent: Agent, kind: list[Action]
) -> None:
    first = agent.receive(command(kind[0]))
    for action in [one for one in Action if one not in AT_THE_OUTLET]:
        verdict = CommandOutcome.REFUSED if action in kind else CommandOutcome.TAKEN
        receipt = agent.desk.receive(command(action), NOW)
        assert receipt.verdict is verdict, action
        if receipt.command is not None:
            agent.desk.complete(receipt.command)
    agent.desk.complete(first)
    assert agent.desk.receive(command(kind[-1]), NOW).verdict is CommandOutcome.TAKEN


# Restarts.


@pytest.mark.parametrize(
    ("action", "before", "boot_id", "expected"),
    [
        (Action.REBOOT_HOST, StateAtStart(BOOT), NEXT_BOOT, Fate.COMPLETED),
        (Action.REBOOT_HOST, StateAtStart(BOOT), BOOT, Fate.INTERRUPTED),
        (Action.REBOOT_HOST, None, NEXT_BOOT, Fate.INTERRUPTED),
        (Action.SHUTDOWN_HOST, StateAtStart(BOOT), NEXT_BOOT, Fate.COMPLETED),
        (Action.SHUTDOWN_HOST, StateAtStart(BOOT), BOOT, Fate.INTERRUPTED),
        (Action.RESTART_APP, StateAtStart(BOOT), NEXT_BOOT, Fate.INTERRUPTED),
        (Action.RESTART_APP, StateAtStart(BOOT), BOOT, Fate.UNDECIDED),
        (Action.RESTART_APP, None, BOOT, Fate.INTERRUPTED),
        (Action.SCREENSHOT, StateAtStart(BOOT), BOOT, Fate.INTERRUPTED),
        (Action.SCREENSHOT, StateAtStart(BOOT), NEXT_BOOT, Fate.INTERRUPTED),
    ],
)
def test_the_fate_of_an_unfinished_command(
    action: Action, before: StateAtStart | None, boot_id: str, expected: Fate
) -> None:
    taken = Command.model_validate_json(command(action))
    ack = CommandAck(command_id=taken.command_id, status=A if before is None else E)
    assert fate(Entry(taken, ack, before), boot_id) is expected


def test_a_reboot_is_completed_by_the_agent_that_comes_up_afterwards(agent: Agent) -> None:
    agent.desk.start(agent.receive(command()), StateAtStart(BOOT))
    assert agent.take() == [A, E]
    agent.start()
    assert agent.desk.resume(NEXT_BOOT) == []
    assert agent.take() == [C]
    agent.start()
    assert agent.desk.resume(NEXT_BOOT) == []
    assert agent.take() == []


def test_a_restart_that_the_agent_did_not_see_through_still_occupies_the_device(agent: Agent) -> None:
    before = StateAtStart(BOOT, NOW - timedelta(minutes=5))
    taken = agent.receive(command(Action.RESTART_APP))
    agent.desk.start(taken, before)
    agent.start()
    assert [entry.before for entry in agent.desk.resume(BOOT)] == [before]
    assert agent.desk.receive(command(), NOW).verdict is CommandOutcome.REFUSED
    agent.desk.complete(taken)
    assert agent.desk.receive(command(), NOW).verdict is CommandOutcome.TAKEN


def test_acks_that_were_not_sent_before_a_restart_are_sent_after_it_in_their_order(agent: Agent) -> None:
    taken = agent.receive(command(Action.SCREENSHOT))
    agent.desk.start(taken, StateAtStart(BOOT))
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


# What is forgotten.


def test_a_flood_of_commands_does_not_push_out_one_that_is_not_over_or_may_come_again() -> None:
    agent = Agent()
    running = agent.receive(command(Action.REBOOT_HOST))
    agent.desk.start(running, StateAtStart(BOOT))
    fresh = command(Action.SCREENSHOT, expires_at=(NOW + timedelta(days=7)).isoformat())
    agent.desk.complete(agent.receive(fresh))
    for _ in range(2 * JOURNAL_LENGTH):
        agent.desk.receive(command(Action.RESTART_APP), NOW)
    assert len(agent.journal.entries) == JOURNAL_LENGTH
    agent.start()
    assert len(agent.journal.entries) == JOURNAL_LENGTH
    assert agent.desk.receive(fresh, NOW).verdict is CommandOutcome.REPEATED
    assert agent.desk.resume(NEXT_BOOT) == []
    found = agent.journal.find(running.command_id)
    assert found is not None
    assert found.ack.status is C


def test_commands_from_before_a_lost_journal_are_refused_and_later_ones_taken(agent: Agent) -> None:
    agent.journal.mistrust(NOW - timedelta(seconds=1))
    old = command(issued_at=(NOW - timedelta(minutes=1)).isoformat())
    assert agent.desk.receive(old, NOW).verdict is CommandOutcome.REFUSED
    agent.start()
    assert agent.journal.lost == Lost(NOW - timedelta(seconds=1))
    assert agent.desk.receive(command(), NOW).verdict is CommandOutcome.TAKEN


def test_a_command_that_an_earlier_process_refused_without_a_journal_is_refused_again(agent: Agent) -> None:
    payload = command()
    agent.journal.refused = frozenset({Command.model_validate_json(payload).command_id})
    assert agent.desk.receive(payload, NOW).verdict is CommandOutcome.REPEATED
    assert agent.take() == [F]


def test_what_is_learned_late_from_the_disk_is_added_to_what_the_process_knows(agent: Agent) -> None:
    old = command(Action.SCREENSHOT)
    agent.desk.complete(agent.receive(old))
    agent.journal.connected()
    known = agent._known()
    late = Journal(keep=lambda _: None, first_serial=1_000_000)
    late.connected()
    desk = CommandDesk(UUID, can=lambda _: True, journal=late, outbox=PacketQueue())
    new = command(Action.SCREENSHOT)
    assert desk.receive(new, NOW).verdict is CommandOutcome.TAKEN
    late.recall(known)
    late.recall(known)
    assert late.link.connections == 2
    assert desk.receive(old, NOW).verdict is CommandOutcome.REPEATED
    assert [entry.command.command_id for entry in late.entries] == [
        Command.model_validate_json(one).command_id for one in (old, new)
    ]


STEPS = st.lists(
    st.sampled_from(["take", "start", "complete", "send", "link", "unlink", "mistrust"]), max_size=25
)


@given(steps=STEPS)
@settings(max_examples=30, deadline=None)
def test_everything_says_the_same_as_the_records_one_by_one(steps: list[str]) -> None:
    agent = Agent()
    for step in steps:
        running = [entry.command for entry in agent.journal.entries if not entry.is_final]
        match step:
            case "take":
                agent.desk.receive(command(Action.SCREENSHOT), NOW)
            case "start" if running:
                agent.desk.start(running[-1], StateAtStart(BOOT, NOW))
            case "complete" if running:
                agent.desk.complete(running[-1])
            case "send":
                agent.take(1)
            case "link":
                agent.journal.connected()
            case "unlink":
                agent.journal.disconnected(NOW)
            case "mistrust":
                agent.journal.mistrust(NOW)
    one_by_one = agent._known()
    agent.kept = agent.journal.everything()
    assert agent._known() == one_by_one


# Anything at all on a command topic.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=15,
)
FIELDS = list(Command.model_fields)


@given(
    payload=st.binary(max_size=300)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.tuples(st.sampled_from(FIELDS), JSON).map(lambda one: command(**{one[0]: one[1]}))
    | st.tuples(st.text(st.characters()), JSON).map(lambda one: command(**{one[0]: one[1]}))
    | st.sampled_from(FIELDS).map(lambda name: command().replace(name.encode(), b"\\ud800"))
)
@settings(max_examples=300)
def test_whatever_comes_on_a_command_topic_the_desk_goes_on(payload: bytes) -> None:
    desk = CommandDesk(UUID, can=lambda _: True, journal=Journal(), outbox=PacketQueue())
    receipt = desk.receive(payload, NOW)
    if receipt.complaint is not None:
        packet = packets.log_line(UUID, LogLevel.WARN, receipt.complaint, NOW)
        line = decode(parse(packet.topic), packet.payload)
        assert isinstance(line, LogLine)
        assert visible(line.message, one_line=True) == line.message
    if receipt.command is not None:
        desk.start(receipt.command, StateAtStart(BOOT))
        desk.fail(receipt.command, "x", "y")
    first = desk.receive(command(Action.REBOOT_HOST), NOW)
    assert first.verdict is CommandOutcome.TAKEN


# Values of the device itself.


@given(
    text=st.text(st.characters()) | st.text("\0\ud800\x1b", min_size=400, max_size=5_000), number=st.floats()
)
@settings(max_examples=100)
def test_no_value_of_its_own_keeps_the_device_from_speaking(text: str, number: float) -> None:
    beat = build(Heartbeat, timestamp=NOW, hostname=text, boot_id=text, process_pid=2**40, ip=text)
    assert len(beat.hostname or "") <= 500
    assert beat.process_pid is None
    decode(parse(topics.heartbeat(UUID)), encode(beat))
    metrics = build(HealthMetrics, temperature_celsius=number, cpu_percent=number, uptime_seconds=number)
    health = build(Health, timestamp=NOW, health_metrics=metrics)
    decode(parse(topics.health(UUID)), encode(health))
    discovery = build(Discovery, uuid=UUID, os_release=text, capabilities=[text[:70], "reboot_host"])
    decode(parse(topics.discovery(UUID)), encode(discovery))
    line = packets.log_line(UUID, LogLevel.WARN, text, NOW, logger=text, context={text: text, "n": 1})
    decode(parse(line.topic), line.payload)
    failed = build(ServiceFailed, unit=text or "x", failed_at=NOW, result=text)
    packets.service_failed(UUID, failed)


# The outbox.


def test_log_lines_make_room_for_acks_and_not_the_other_way_round() -> None:
    outbox = PacketQueue()
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


def test_pictures_that_are_not_sent_take_no_more_than_their_share_of_memory() -> None:
    outbox = PacketQueue()
    outbox.event(Packet("ack", b"x"), 1)
    for _ in range(100):
        outbox.event(Packet("screenshot", bytes(500_000)))
    assert outbox.events * 500_000 <= UNSENT_BYTES + 500_000
    first = outbox.next()
    assert first is not None
    assert first.topic == "ack"


def test_a_token_is_handed_back_with_the_last_packet_under_it() -> None:
    outbox = PacketQueue()
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
