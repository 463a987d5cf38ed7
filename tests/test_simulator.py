"""The simulated device without a broker: what it says, when, and in answer to what."""

import json
import zlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from infoscreen.agent.protocol.packet_queue import UNSENT_EVENTS
from infoscreen.agent.protocol.packets import Packet
from infoscreen.domain.clients import ProcessStatus
from infoscreen.domain.commands import AckStatus, Action
from infoscreen.domain.errors import BadMessage, InvalidArguments
from infoscreen.simulator.connection import DeviceClock
from infoscreen.simulator.device import DeviceFault, SimulatedDevice, Tally, Timing, WantedLink
from infoscreen.simulator.faults import FaultPlan
from infoscreen.simulator.identity import device_uuids, identities
from infoscreen.simulator.picture import Shown, screenshot
from infoscreen.wire import topics
from infoscreen.wire.messages import (
    Command,
    CommandAck,
    Discovery,
    Health,
    Heartbeat,
    LogLine,
    PresenceReport,
    Screenshot,
    ServiceFailed,
    decode,
)
from infoscreen.wire.topics import parse
from tests.fakes import FakeClock

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
UUID = device_uuids(1, "test")[0]
OTHER = device_uuids(2, "test")[1]


class Rig:
    """A device and a time of its own; what it sends is taken as if a broker acknowledged at once."""

    def __init__(self, timing: Timing | None = None, *, connected: bool = True) -> None:
        self.now = START
        self.tally = Tally()
        self.device = SimulatedDevice(
            identities([UUID])[0],
            random=Random(1),
            timing=timing or Timing(),
            tally=self.tally,
            now=START,
        )
        if connected:
            self.device.connected(START)
            self.take()

    def take(self) -> list[Packet]:
        """Return everything there is to send now."""
        packets = []
        while (packet := self.device.next_packet()) is not None:
            packets.append(packet)
            self.device.sent(packet)
        return packets

    def messages(self) -> list[Any]:
        return [decode(parse(packet.topic), packet.payload) for packet in self.take()]

    def acks(self) -> list[tuple[AckStatus, str | None]]:
        """Return the acks there are to send, each of which must come on both topics."""
        packets = [packet for packet in self.take() if parse(packet.topic).kind is topics.TopicKind.ACK]
        assert [packet.topic for packet in packets] == [*topics.acks(UUID)] * (len(packets) // 2)
        assert [packet.payload for packet in packets[::2]] == [packet.payload for packet in packets[1::2]]
        given = [CommandAck.model_validate_json(packet.payload) for packet in packets[::2]]
        return [(ack.status, ack.error_code) for ack in given]

    def pass_time(self, duration: timedelta) -> None:
        """Let the device do what is due within ``duration``, each thing at its time."""
        end = self.now + duration
        while (due := self.device.next_due) is not None and due <= end:
            self.now = due
            self.device.advance(due)
        self.now = end

    def command(self, action: Action = Action.RESTART_APP, **changes: Any) -> bytes:
        fields = {
            "schema_version": "1.0",
            "command_id": str(uuid4()),
            "client_uuid": UUID,
            "action": action,
            "issued_at": self.now.isoformat(),
            "expires_at": (self.now + timedelta(seconds=240)).isoformat(),
            "requested_by": 1,
            "reason": None,
        }
        return json.dumps(fields | changes).encode()

    def receive(self, payload: bytes, *, retain: bool = False) -> None:
        self.device.receive(payload, self.now, retain=retain)


A, E, C, F = AckStatus.ACCEPTED, AckStatus.EXECUTION_STARTED, AckStatus.COMPLETED, AckStatus.FAILED


def only(messages: list[Any], kind: type[Any]) -> Any:
    found = [message for message in messages if isinstance(message, kind)]
    assert len(found) == 1, messages
    return found[0]


# What it says of itself.


def test_a_device_introduces_itself_when_it_connects() -> None:
    rig = Rig(connected=False)
    rig.device.connected(rig.now)
    first, *others = rig.take()
    assert first == Packet(topics.presence(UUID), b"online", retain=True)
    assert [parse(packet.topic).kind for packet in others] == ["logs", "discovery", "heartbeat", "health"]
    assert not any(packet.retain for packet in others)


def test_a_heartbeat_has_every_field_of_the_contract() -> None:
    rig = Rig(connected=False)
    rig.device.connected(rig.now)
    beat = only(rig.messages(), Heartbeat)
    assert None not in msgspec.structs.asdict(beat).values()
    assert beat.process_status is ProcessStatus.RUNNING


def test_health_has_every_block_and_the_devices_own_count_of_reconnects() -> None:
    rig = Rig()
    rig.pass_time(10 * SECOND)
    rig.device.disconnected(rig.now)
    lost_at = rig.now
    rig.pass_time(5 * SECOND)
    rig.device.connected(rig.now)
    health = only(rig.messages(), Health)
    assert None not in msgspec.structs.asdict(health).values()
    assert health.broker_connection.reconnect_count == 1
    assert health.broker_connection.last_disconnect_at == lost_at


def test_heartbeats_come_at_their_interval_give_or_take_a_little() -> None:
    rig = Rig(Timing(heartbeat=10 * SECOND, health=1000 * SECOND))
    beats = 0
    for _ in range(100):
        rig.pass_time(SECOND)
        beats += sum(isinstance(message, Heartbeat) for message in rig.messages())
    assert 9 <= beats <= 10


def test_a_reconnected_device_does_not_introduce_itself_again() -> None:
    rig = Rig()
    rig.device.disconnected(rig.now)
    rig.device.connected(rig.now)
    assert not any(isinstance(message, Discovery) for message in rig.messages())


def test_state_is_not_kept_for_later_but_events_are() -> None:
    rig = Rig()
    rig.device.disconnected(rig.now)
    rig.device.suffer(DeviceFault.SERVICE_FAILED, rig.now)
    rig.pass_time(timedelta(hours=1))
    kinds = [parse(packet.topic).kind for packet in rig.take()]
    assert kinds == ["service_failed", "logs"]


def test_a_packet_that_was_not_acknowledged_is_sent_again_in_its_place() -> None:
    rig = Rig()
    rig.device.suffer(DeviceFault.SERVICE_FAILED, rig.now)
    before = rig.device.next_packet()
    rig.device.disconnected(rig.now)
    rig.device.connected(rig.now)
    assert rig.take()[1] == before


def test_events_for_a_broker_that_is_away_for_weeks_are_bounded() -> None:
    rig = Rig(Timing(log=SECOND))
    rig.device.disconnected(rig.now)
    rig.pass_time(timedelta(seconds=2 * UNSENT_EVENTS))
    assert len(rig.take()) == UNSENT_EVENTS


def test_log_lines_and_screenshots_come_at_their_intervals() -> None:
    rig = Rig(Timing(log=10 * SECOND, screenshot=20 * SECOND))
    rig.pass_time(timedelta(seconds=65))
    kinds = Counter(type(message) for message in rig.messages())
    assert kinds[LogLine] == 6
    assert kinds[Screenshot] == 1  # only the newest is worth sending


# Commands.


def test_restart_app_gives_the_application_a_new_process() -> None:
    rig = Rig()
    rig.device.connected(rig.now)
    before = only(rig.messages(), Heartbeat)
    rig.receive(rig.command())
    assert rig.acks() == [(A, None)]
    rig.pass_time(SECOND)
    assert rig.acks() == [(E, None)]
    rig.pass_time(10 * SECOND)
    packets = rig.take()
    assert [parse(packet.topic).kind for packet in packets] == ["ack", "ack", "heartbeat"]
    after = only([decode(parse(packet.topic), packet.payload) for packet in packets], Heartbeat)
    assert after.process_status is ProcessStatus.RUNNING
    assert after.process_pid != before.process_pid
    assert after.app_started_at > before.app_started_at
    assert after.boot_id == before.boot_id


def test_reboot_host_completes_after_the_reboot_with_a_new_boot() -> None:
    rig = Rig()
    rig.device.connected(rig.now)
    before = only(rig.messages(), Heartbeat)
    rig.receive(rig.command(Action.REBOOT_HOST))
    rig.pass_time(SECOND)
    assert rig.acks() == [(A, None), (E, None)]
    assert rig.device.link is WantedLink.UP
    rig.pass_time(SECOND)
    assert rig.device.link is WantedLink.DROPPED
    rig.device.disconnected(rig.now)
    rig.pass_time(19 * SECOND)
    assert (rig.device.link, rig.take()) == (WantedLink.DROPPED, [])
    rig.pass_time(2 * SECOND)
    assert rig.device.link is WantedLink.UP
    rig.device.connected(rig.now)
    messages = rig.messages()
    assert [ack.status for ack in messages if isinstance(ack, CommandAck)] == [C, C]
    after = only(messages, Heartbeat)
    assert after.boot_id != before.boot_id
    assert after.booted_at > before.booted_at
    assert only(messages, Discovery)


def test_shutdown_host_completes_just_before_the_halt_and_stays_off_until_power_is_given_back() -> None:
    rig = Rig()
    rig.receive(rig.command(Action.SHUTDOWN_HOST))
    rig.pass_time(SECOND)
    assert rig.device.link is WantedLink.UP
    assert rig.acks() == [(A, None), (E, None), (C, None)]
    rig.pass_time(SECOND)
    assert rig.device.link is WantedLink.LEFT
    rig.device.disconnected(rig.now)
    rig.pass_time(timedelta(days=1))
    assert rig.device.link is WantedLink.LEFT
    rig.device.relieve(rig.now)
    rig.pass_time(timedelta(minutes=1))
    assert rig.device.link is WantedLink.UP


def test_a_screenshot_comes_before_the_command_for_it_is_completed() -> None:
    rig = Rig()
    rig.receive(rig.command(Action.SCREENSHOT))
    rig.pass_time(SECOND)
    kinds = [parse(packet.topic).kind for packet in rig.take()]
    assert kinds == ["ack", "ack", "ack", "ack", "screenshot", "ack", "ack"]


def test_the_display_is_switched_where_there_is_cec() -> None:
    rig = Rig()
    assert rig.device.identity.can(Action.DISPLAY_OFF)
    rig.receive(rig.command(Action.DISPLAY_OFF))
    rig.pass_time(SECOND)
    assert only(rig.messages(), Health).health_metrics.screen_on is False


def test_an_action_the_device_cannot_do_fails() -> None:
    basic = next(one for one in identities(device_uuids(20, "test")) if not one.can(Action.DISPLAY_OFF))
    tally = Tally()
    device = SimulatedDevice(basic, random=Random(1), timing=Timing(), tally=tally, now=START)
    payload = json.loads(Rig().command(Action.DISPLAY_OFF)) | {"client_uuid": basic.uuid}
    device.receive(json.dumps(payload).encode(), START)
    packet = device.next_packet()
    while packet is not None and parse(packet.topic).kind is not topics.TopicKind.ACK:
        device.sent(packet)
        packet = device.next_packet()
    assert packet is not None
    ack = CommandAck.model_validate_json(packet.payload)
    assert (ack.status, ack.error_code) == (F, "unsupported_action")


def test_a_second_disruptive_command_fails_while_the_first_is_carried_out() -> None:
    rig = Rig()
    rig.receive(rig.command(Action.RESTART_APP))
    rig.receive(rig.command(Action.REBOOT_HOST))
    assert rig.acks() == [(A, None), (F, "busy")]


def test_an_expired_command_is_refused() -> None:
    rig = Rig()
    rig.receive(rig.command(Action.REBOOT_HOST, expires_at=rig.now.isoformat()))
    assert rig.acks() == [(F, "expired")]
    rig.pass_time(10 * SECOND)
    assert rig.device.link is WantedLink.UP


@pytest.mark.parametrize("repeated_after", [0, 1, 60])
def test_a_repeated_command_is_answered_with_the_ack_last_given_and_not_carried_out_again(
    repeated_after: int,
) -> None:
    rig = Rig()
    payload = rig.command(Action.RESTART_APP)
    rig.receive(payload)
    rig.pass_time(repeated_after * SECOND)
    given = rig.acks()
    rig.receive(payload)
    assert rig.acks() == given[-1:]
    rig.pass_time(timedelta(minutes=5))
    assert given + rig.acks() == [(A, None), (E, None), (C, None)]
    assert (rig.tally.commands, rig.tally.duplicates) == (1, 1)


def test_a_repeated_command_is_known_after_a_reboot() -> None:
    rig = Rig()
    payload = rig.command(Action.REBOOT_HOST)
    rig.receive(payload)
    rig.pass_time(timedelta(minutes=1))
    assert rig.acks() == [(A, None), (E, None), (C, None)]
    rig.receive(payload)
    assert rig.acks() == [(C, None)]
    rig.pass_time(timedelta(minutes=1))
    assert rig.device.link is WantedLink.UP


def test_a_repeated_command_that_has_expired_meanwhile_is_still_answered_with_its_ack() -> None:
    rig = Rig()
    payload = rig.command(Action.RESTART_APP)
    rig.receive(payload)
    rig.pass_time(timedelta(hours=1))
    rig.take()
    rig.receive(payload)
    assert rig.acks() == [(C, None)]


def test_a_retained_command_is_ignored() -> None:
    rig = Rig()
    rig.receive(rig.command(), retain=True)
    assert rig.take() == []
    assert rig.tally.ignored == {"retained": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"client_uuid": OTHER}, "foreign"),
        ({"priority": 1}, "invalid"),
        ({"schema_version": "1.1"}, "invalid"),
        ({"action": "format_disk"}, "invalid"),
        ({"command_id": "1"}, "invalid"),
        ({"requested_by": 0}, "invalid"),
        ({"requested_by": "1"}, "invalid"),
        ({"reason": "x" * 2_001}, "invalid"),
        ({"expires_at": "soon"}, "invalid"),
    ],
)
def test_a_command_against_the_contract_is_ignored_and_logged(changes: dict[str, Any], reason: str) -> None:
    rig = Rig()
    rig.receive(rig.command(**changes))
    assert rig.tally.ignored == {reason: 1}
    assert rig.tally.commands == 0
    assert only(rig.messages(), LogLine).message.startswith("ignored")


@pytest.mark.parametrize("missing", sorted(Command.model_fields))
def test_a_command_without_one_of_the_eight_fields_is_ignored(missing: str) -> None:
    rig = Rig()
    fields = json.loads(rig.command())
    del fields[missing]
    rig.receive(json.dumps(fields).encode())
    assert rig.tally.ignored == {"invalid": 1}


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}" * 40_000])
def test_something_that_is_no_command_is_ignored(payload: bytes) -> None:
    rig = Rig()
    rig.receive(payload)
    assert rig.tally.ignored == {"invalid": 1}


def test_acks_that_cannot_be_sent_wait_for_the_next_connection_in_their_order() -> None:
    rig = Rig()
    rig.receive(rig.command(Action.RESTART_APP))
    rig.device.disconnected(rig.now)
    rig.pass_time(timedelta(minutes=1))
    rig.device.connected(rig.now)
    assert rig.acks() == [(A, None), (E, None), (C, None)]


def test_acks_not_sent_before_a_reboot_are_sent_after_it() -> None:
    rig = Rig()
    rig.receive(rig.command(Action.REBOOT_HOST))
    rig.device.disconnected(rig.now)
    rig.pass_time(timedelta(minutes=1))
    rig.device.connected(rig.now)
    assert rig.acks() == [(A, None), (E, None), (C, None)]


def test_what_was_being_done_when_the_power_went_has_failed() -> None:
    rig = Rig()
    rig.receive(rig.command(Action.RESTART_APP))
    rig.device.suffer(DeviceFault.POWER_LOSS, rig.now)
    rig.device.disconnected(rig.now)
    rig.device.relieve(rig.now)
    rig.pass_time(timedelta(minutes=1))
    assert rig.acks() == [(A, None), (F, "interrupted")]


# Faults.


def test_a_crashed_application_is_reported_until_it_is_restarted() -> None:
    rig = Rig()
    rig.device.suffer(DeviceFault.CRASH, rig.now)
    assert only(rig.messages(), Heartbeat).process_status is ProcessStatus.CRASHED
    rig.pass_time(timedelta(minutes=10))
    assert only(rig.messages(), Heartbeat).process_status is ProcessStatus.CRASHED
    rig.receive(rig.command(Action.RESTART_APP))
    rig.pass_time(10 * SECOND)
    assert only(rig.messages(), Heartbeat).process_status is ProcessStatus.RUNNING


def test_a_hung_device_stays_connected_says_nothing_and_can_be_rebooted() -> None:
    rig = Rig(Timing(log=SECOND, screenshot=SECOND))
    rig.device.suffer(DeviceFault.HANG, rig.now)
    rig.pass_time(timedelta(minutes=10))
    assert (rig.device.link, rig.take()) == (WantedLink.UP, [])
    rig.receive(rig.command(Action.REBOOT_HOST))
    rig.pass_time(2 * SECOND)
    rig.device.disconnected(rig.now)
    rig.pass_time(timedelta(minutes=1))
    rig.device.connected(rig.now)
    assert only(rig.messages(), Heartbeat)


def test_a_deaf_device_hears_no_command() -> None:
    rig = Rig()
    rig.device.suffer(DeviceFault.DEAF, rig.now)
    rig.receive(rig.command(Action.REBOOT_HOST))
    assert (rig.device.link, rig.take()) == (WantedLink.UP, [])
    assert rig.tally.ignored == {"not_heard": 1}


def test_a_silent_device_drops_off_and_comes_back_as_the_same_boot() -> None:
    rig = Rig()
    rig.device.connected(rig.now)
    before = only(rig.messages(), Heartbeat)
    rig.device.plan(rig.now + SECOND, DeviceFault.SILENCE)
    rig.device.plan_relief(rig.now + 60 * SECOND)
    rig.pass_time(SECOND)
    assert rig.device.link is WantedLink.DROPPED
    rig.device.disconnected(rig.now)
    rig.pass_time(60 * SECOND)
    assert rig.device.link is WantedLink.UP
    rig.device.connected(rig.now)
    assert only(rig.messages(), Heartbeat).boot_id == before.boot_id


def test_a_failed_service_is_reported_once_and_retained() -> None:
    rig = Rig()
    rig.device.suffer(DeviceFault.SERVICE_FAILED, rig.now)
    packets = rig.take()
    retained = [packet for packet in packets if packet.retain]
    assert [packet.topic for packet in retained] == [topics.service_failed(UUID)]
    report = decode(parse(retained[0].topic), retained[0].payload)
    assert isinstance(report, ServiceFailed)
    assert (report.failed_at, str(report.client_uuid)) == (rig.now, UUID)
    messages = [decode(parse(packet.topic), packet.payload) for packet in packets]
    assert only(messages, Heartbeat).process_status is ProcessStatus.STOPPED


def test_nonsense_is_refused_by_every_decoder() -> None:
    rig = Rig()
    rig.device.suffer(DeviceFault.NONSENSE, rig.now)
    refused = 0
    packets = rig.take()
    for packet in packets:
        try:
            message = decode(parse(packet.topic), packet.payload)
        except BadMessage:
            refused += 1
        else:
            assert isinstance(message, CommandAck), "only the ack of a command nobody gave can be decoded"
    assert refused == len(packets) - 1 > 3


@pytest.mark.parametrize("fault", DeviceFault)
def test_a_device_that_is_off_suffers_nothing(fault: DeviceFault) -> None:
    rig = Rig()
    rig.device.suffer(DeviceFault.POWER_LOSS, rig.now)
    rig.device.disconnected(rig.now)
    rig.device.suffer(fault, rig.now)
    assert rig.take() == []
    assert rig.tally.faults == {DeviceFault.POWER_LOSS.value: 1}


def test_power_given_back_twice_boots_once() -> None:
    rig = Rig()
    rig.device.suffer(DeviceFault.POWER_LOSS, rig.now)
    rig.device.disconnected(rig.now)
    rig.device.relieve(rig.now)
    rig.device.relieve(rig.now)
    rig.pass_time(timedelta(minutes=1))
    rig.device.connected(rig.now)
    assert sum(isinstance(message, LogLine) for message in rig.messages()) == 1


# The fleet.


def test_a_devices_clock_does_not_follow_a_jump_of_the_hosts(clock: FakeClock) -> None:
    device_clock = DeviceClock(clock)
    clock.advance(10)
    clock.set_wall_time(clock.now() + timedelta(hours=1))
    clock.advance(10)
    assert device_clock.now() == FakeClock().now() + timedelta(seconds=20)


def test_the_same_seed_makes_the_same_fleet_of_different_devices() -> None:
    fleet = identities(device_uuids(5_000, "seed"))
    assert fleet == identities(device_uuids(5_000, "seed"))
    for field in ("uuid", "name", "hostname", "ip", "mac"):
        assert len({getattr(identity, field) for identity in fleet}) == len(fleet), field
    assert not {one.uuid for one in fleet} & set(device_uuids(5_000, "another"))


def test_each_fault_hits_its_share_of_the_fleet_and_at_least_one() -> None:
    plan = FaultPlan(
        {DeviceFault.CRASH: 0.08, DeviceFault.SILENCE: 0.2, DeviceFault.HANG: 0.001, DeviceFault.DEAF: 0}
    )
    faults = Counter(plan.victims(25, Random(1)).values())
    assert faults == {DeviceFault.CRASH: 2, DeviceFault.SILENCE: 5, DeviceFault.HANG: 1}
    assert plan.victims(25, Random(1)) == plan.victims(25, Random(1))


@pytest.mark.parametrize(
    "shares", [{DeviceFault.CRASH: 0.6, DeviceFault.HANG: 0.6}, {DeviceFault.CRASH: -0.1}]
)
def test_impossible_shares_are_refused(shares: dict[DeviceFault, float]) -> None:
    with pytest.raises(InvalidArguments):
        FaultPlan(shares)


@pytest.mark.parametrize("shown", Shown)
@pytest.mark.parametrize("slide", [0, 1, 2])
def test_a_screenshot_is_a_whole_png(shown: Shown, slide: int) -> None:
    image = screenshot(UUID, shown, slide)
    assert isinstance(decode(parse(topics.screenshot(UUID)), image), Screenshot)
    kinds, rest = [], image[8:]
    while rest:
        length = int.from_bytes(rest[:4], "big")
        kind, data, checksum = rest[4:8], rest[8 : 8 + length], rest[8 + length : 12 + length]
        assert zlib.crc32(kind + data) == int.from_bytes(checksum, "big")
        if kind == b"IDAT":
            assert len(zlib.decompress(data)) == 180 * 321
        kinds.append(kind)
        rest = rest[12 + length :]
    assert kinds == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]


def test_the_goodbye_is_a_valid_presence() -> None:
    goodbye = Rig().device.goodbye
    assert goodbye.retain
    assert decode(parse(goodbye.topic), goodbye.payload) == PresenceReport(presence="offline")
