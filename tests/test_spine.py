"""Ingest, life cycle, lockout, outbox and watch together, on a real database."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from infoscreen.domain.clients import Condition
from infoscreen.domain.commands import Action, CommandStatus, Source, Verification
from infoscreen.domain.errors import (
    CommandInFlight,
    Forbidden,
    InvalidInput,
    LockedOut,
    NotFound,
    NotQueued,
)
from infoscreen.domain.events import ClientChanged, TimelineKind
from infoscreen.storage import (
    client_deadlines,
    client_lists,
    clients,
    rejected,
    schedules,
    screenshots,
    timeline,
)
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.wire.messages import Command
from tests.spine import ADMIN, OPERATOR, Spine, open_spine, sqlite_url, uuid_of, zulu
from tests.statements import statements_of, steps_of

U, V = uuid_of(1), uuid_of(2)
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 20 + b"IEND\xaeB`\x82"


@pytest.fixture(params=["sqlite", "memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def spine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spine]:
    urls = {"sqlite": sqlite_url(tmp_path), "memory": "sqlite+aiosqlite:///:memory:"}
    url = urls.get(request.param) or request.getfixturevalue("postgres")
    async with open_spine(url) as parts:
        yield parts


async def test_the_first_heartbeat_registers_the_client_and_shows_it_online(spine: Spine) -> None:
    await spine.beat(U, hostname="lobby", process_status="running", boot_id="b1", process_pid=7)
    client = await spine.client(U)
    assert (client.status, client.hostname, client.boot_id, client.process_pid) == (
        Condition.ONLINE,
        "lobby",
        "b1",
        7,
    )
    assert client.last_alive == spine.clock.now()
    assert client.stale_at == spine.clock.now() + timedelta(seconds=180)


async def test_missing_optional_fields_leave_the_last_known_value(spine: Spine) -> None:
    await spine.beat(U, hostname="lobby", boot_id="b1")
    await spine.beat(U)
    assert (await spine.client(U)).hostname == "lobby"


async def test_only_the_newest_heartbeat_of_a_batch_counts_as_state_and_all_of_them_as_beats(
    spine: Spine,
) -> None:
    at = zulu(spine.clock.now())
    await spine.hear(*((f"{U}/heartbeat", {"timestamp": at, "process_pid": pid}) for pid in (1, 2, 3)))
    client = await spine.client(U)
    assert (client.process_pid, client.heartbeats) == (3, 3)


async def test_a_rhythm_is_learned_and_silence_noticed_at_its_threshold(spine: Spine) -> None:
    for _ in range(20):
        await spine.beat(U)
        spine.clock.advance(10)
    assert (await spine.client(U)).stale_after_seconds == 45
    spine.clock.advance(34.9)
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.ONLINE
    spine.clock.advance(0.2)
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.UNREACHABLE


async def test_a_heartbeat_brings_a_stale_client_back(spine: Spine) -> None:
    await spine.beat(U)
    spine.clock.advance(181)
    await spine.watch.look()
    await spine.beat(U)
    assert (await spine.client(U)).status is Condition.ONLINE


async def test_nobody_falls_silent_while_we_do_not_listen(spine: Spine) -> None:
    await spine.beat(U)
    spine.link.listening_since = None
    spine.clock.advance(10_000)
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.ONLINE
    spine.link.listening_since = spine.clock.now()
    spine.clock.advance(179)
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.ONLINE
    spine.clock.advance(1)
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.UNREACHABLE


async def test_a_heartbeat_that_says_the_same_again_is_still_read_after_health_said_otherwise(
    spine: Spine,
) -> None:
    await spine.beat(U, process_status="running")
    crashed = {"timestamp": zulu(spine.clock.now()), "actual_state": {"status": "crashed"}}
    await spine.hear((f"{U}/health", crashed))
    assert (await spine.client(U)).status is Condition.CRASHED
    await spine.beat(U, process_status="running")
    assert (await spine.client(U)).status is Condition.ONLINE


async def test_health_persists_reconnects_and_the_last_disconnect(spine: Spine) -> None:
    broker = {"broker_reachable": True, "reconnect_count": 4, "last_disconnect_at": "2026-03-01T00:00:00Z"}
    await spine.hear((f"{U}/health", {"timestamp": zulu(spine.clock.now()), "broker_connection": broker}))
    client = await spine.client(U)
    assert client.mqtt_reconnect_count == 4
    assert client.mqtt_last_disconnect_at is not None
    assert zulu(client.mqtt_last_disconnect_at) == "2026-03-01T00:00:00Z"


def failure(at: str = "2026-03-02T06:00:00Z") -> dict[str, str]:
    return {
        "event": "service_failed",
        "unit": "infoscreen-app.service",
        "failed_at": at,
        "result": "start-limit-hit",
    }


async def test_a_failed_service_is_raised_once_and_acknowledged_for_good(spine: Spine) -> None:
    await spine.beat(U)
    await spine.hear((f"{U}/service_failed", failure()))
    assert (await spine.client(U)).status is Condition.SERVICE_FAILED
    spine.clock.advance(1)
    after = await spine.fleet.clear_service_failed(U, OPERATOR, "seen")
    assert (after.service_failed_at, after.status) == (None, Condition.ONLINE)
    await spine.outbox.step()
    (emptied,) = spine.publisher.sent
    assert (emptied.topic, emptied.payload, emptied.retain) == (f"infoscreen/{U}/service_failed", b"", True)
    await spine.hear((f"{U}/service_failed", failure()), retain=True)
    assert (await spine.client(U)).service_failed_at is None
    await spine.hear((f"{U}/service_failed", failure("2026-03-02T06:30:00Z")))
    assert (await spine.client(U)).service_failed_unit == "infoscreen-app.service"


async def test_clearing_twice_is_fine(spine: Spine) -> None:
    await spine.hear((f"{U}/service_failed", failure()))
    await spine.fleet.clear_service_failed(U, OPERATOR)
    await spine.fleet.clear_service_failed(U, OPERATOR)
    await spine.outbox.step()
    assert await spine.outbox.step() == 0
    assert len(spine.publisher.sent) == 1


async def test_the_echo_of_our_clearing_does_not_swallow_a_newer_failure(spine: Spine) -> None:
    await spine.hear((f"{U}/service_failed", failure()))
    spine.clock.advance(1)
    await spine.fleet.clear_service_failed(U, OPERATOR)
    spine.clock.advance(1)
    await spine.hear((f"{U}/service_failed", failure("2026-03-02T06:59:00Z")), (f"{U}/service_failed", b""))
    assert (await spine.client(U)).status is Condition.SERVICE_FAILED
    await spine.hear((f"{U}/service_failed", b""))
    assert (await spine.client(U)).status is Condition.SERVICE_FAILED


async def test_a_device_that_empties_its_report_withdraws_it(spine: Spine) -> None:
    await spine.hear((f"{U}/service_failed", failure()))
    spine.clock.advance(1)
    await spine.hear((f"{U}/service_failed", b""))
    assert (await spine.client(U)).service_failed_at is None


async def test_clearing_waits_for_the_broker(spine: Spine) -> None:
    await spine.hear((f"{U}/service_failed", failure()))
    await spine.fleet.clear_service_failed(U, OPERATOR)
    spine.publisher.fails = True
    await spine.outbox.step()
    spine.publisher.fails = False
    await spine.outbox.step()
    assert [message.payload for message in spine.publisher.sent] == [b""]


async def test_presence_splits_silence_into_hung_and_unreachable(spine: Spine) -> None:
    await spine.beat(U)
    await spine.hear((f"{U}/presence", "online"))
    spine.clock.advance(181)
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.HUNG
    await spine.hear((f"{U}/presence", "offline"))
    assert (await spine.client(U)).status is Condition.UNREACHABLE


async def test_a_redelivered_log_line_stands_in_the_timeline_once(spine: Spine) -> None:
    line = {"timestamp": zulu(spine.clock.now()), "message": "x" * 5_000, "logger": "app"}
    await spine.hear((f"{U}/logs/error", line), (f"{U}/logs/error", line))
    await spine.hear((f"{U}/logs/error", line))
    async with spine.store.read() as connection:
        page = await timeline.page(connection, U, 10, kinds={TimelineKind.LOG})
    assert [(entry.level, len(entry.text)) for entry in page.items] == [("error", 4_000)]


async def test_the_latest_screenshot_is_kept_and_a_torn_one_refused(spine: Spine) -> None:
    await spine.hear((f"{U}/screenshot", PNG))
    await spine.hear((f"{U}/screenshot", PNG[:-4]))
    async with spine.store.read() as connection:
        shot = await screenshots.get(connection, U)
    assert shot is not None
    assert (shot.image, shot.content_type) == (PNG, "image/png")
    assert spine.measures.counts["rejected", "not_an_image"] == 1


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        (f"{U}/heartbeat", b"\xff\xfe", "malformed"),
        (f"{U}/heartbeat", "{}", "malformed"),
        (f"{U}/heartbeat", {"timestamp": "2026-03-02T07:00:00Z", "uuid": V}, "uuid_mismatch"),
        (f"{U}/heartbeat", b" " * 70_000, "too_large"),
        (f"{U}/presence", "maybe", "malformed"),
        (f"{U}/unheard-of", "{}", "unknown_topic"),
        (f"{U.upper()[:-1]}F/heartbeat", "{}", "bad_uuid"),
        (f"{U}/screenshot", b"\xff\xd8\xff" + b"0" * 600_000 + b"\xff\xd9", "too_large"),
        (f"{U}/commands/ack", {"command_id": V, "status": "completed"}, "unknown_command"),
    ],
    # pytest puts a test's id into the environment, where 600 KB leave no room to start programs.
    ids=[
        "no text",
        "no fields",
        "another uuid",
        "large",
        "no presence",
        "no topic",
        "upper case",
        "large picture",
        "stray ack",
    ],
)
async def test_bad_messages_are_counted_kept_and_never_fatal(
    spine: Spine, topic: str, body: object, reason: str
) -> None:
    await spine.hear((topic, body), (f"{V}/heartbeat", {"timestamp": zulu(spine.clock.now())}))
    assert spine.measures.counts["rejected", reason] == 1
    async with spine.store.read() as connection:
        (kept,) = (await rejected.page(connection, 10)).items
    assert (kept.reason, len(kept.head) <= 200) == (reason, True)
    assert (await spine.client(V)).status is Condition.ONLINE


async def test_the_rejected_messages_are_bounded_and_the_newest_stay(spine: Spine) -> None:
    for number in range(11):
        await spine.hear(*((f"{uuid_of(device)}/heartbeat", f"bad {number}") for device in range(100)))
    async with spine.store.read() as connection:
        kept = (await rejected.page(connection, 2_000)).items
    assert len(kept) == 1_000
    assert kept[0].head == b"bad 10"


async def test_a_device_that_sends_nothing_but_nonsense_does_not_crowd_out_the_others(spine: Spine) -> None:
    await spine.hear((f"{V}/heartbeat", "the only one"), *((f"{U}/heartbeat", "bad") for _ in range(1_500)))
    for _ in range(10):
        await spine.hear(*((f"{U}/heartbeat", "bad") for _ in range(150)))
    async with spine.store.read() as connection:
        kept = (await rejected.page(connection, 2_000)).items
    assert len(kept) == 250 + 1
    assert kept[-1].head == b"the only one"
    assert spine.measures.counts["rejected", "malformed"] == 3_001


async def test_unknown_clients_are_refused_when_they_may_not_register_themselves(tmp_path: Path) -> None:
    async with open_spine(sqlite_url(tmp_path), auto_register=False) as spine:
        await spine.beat(U)
        async with spine.store.read() as connection:
            assert await clients.get(connection, U) is None
        assert spine.measures.counts["rejected", "unknown_client"] == 1
        assert spine.measures.counts["message", "heartbeat", "rejected"] == 1
        assert spine.measures.counts["message", "heartbeat", "stored"] == 0


async def test_a_retained_last_will_does_not_bring_back_a_removed_client(spine: Spine) -> None:
    await spine.beat(U)
    await spine.fleet.remove(U, ADMIN)
    await spine.hear((f"{U}/presence", "offline"), retain=True)
    async with spine.store.read() as connection:
        assert await clients.get(connection, U) is None


async def test_events_are_told_after_the_commit(spine: Spine) -> None:
    with spine.bus.subscribe() as subscription:
        await spine.beat(U)
        assert ClientChanged(U) in await subscription.next()


# --- the life of a command


async def test_a_command_goes_from_request_to_verified_reboot(spine: Spine) -> None:
    await spine.beat(U, boot_id="old")
    command = await spine.request(U, reason="black screen")
    assert command.status is CommandStatus.QUEUED
    await spine.outbox.step()
    (message,) = spine.publisher.sent
    wire = Command.model_validate_json(message.payload)
    assert (str(wire.command_id), wire.action, wire.reason) == (
        command.command_id,
        Action.REBOOT_HOST,
        "black screen",
    )
    assert message.expires_in == 240
    assert not message.retain
    for status in ("accepted", "execution_started"):
        await spine.ack(command, status)
    spine.clock.advance(60)
    await spine.beat(U, boot_id="new")
    await spine.ack(command, "completed")
    await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.PENDING
    spine.clock.advance(30)
    await spine.beat(U, boot_id="new")
    await spine.watch.look()
    done = await spine.command(command)
    assert (done.status, done.verification) == (CommandStatus.COMPLETED, Verification.VERIFIED)
    assert [(before, after) for before, after, _ in await spine.history(command) if before != after] == [
        (None, "queued"),
        ("queued", "publish_in_progress"),
        ("publish_in_progress", "published"),
        ("published", "accepted"),
        ("accepted", "execution_started"),
        ("execution_started", "completed"),
    ]


async def test_every_ack_arrives_twice_and_counts_once(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    for _ in range(3):
        await spine.ack(command, "accepted")
    assert await spine.history(command) == [
        (None, "queued", 1),
        ("queued", "publish_in_progress", 1),
        ("publish_in_progress", "published", 1),
        ("published", "accepted", 1),
    ]


async def test_repeated_acks_write_nothing_about_the_command_at_any_time(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    steps = ("accepted", "execution_started", "completed")
    for number, step in enumerate(steps):
        await spine.ack(command, step)
        stored, history = await spine.command(command), await spine.history(command)
        spine.clock.advance(1)
        for repeated in steps[: number + 1]:
            await spine.ack(command, repeated)
        assert (await spine.command(command), await spine.history(command)) == (stored, history)


async def test_an_ack_that_is_not_possible_leaves_one_line_however_often_it_comes(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    await spine.ack(command, "completed")
    for _ in range(3):
        await spine.ack(command, "failed", error_code="busy")
        await spine.ack(command, "execution_started")
    assert [line for line in await spine.history(command) if line[0] == line[1]] == [
        ("completed", "completed", 1),
        ("completed", "completed", 1),
    ]
    assert (await spine.command(command)).status is CommandStatus.COMPLETED


async def test_a_history_full_of_impossible_acks_still_takes_changes_of_status(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    spine.clock.advance(250)
    assert await spine.watch.sweep() == 1
    for number in range(120):
        body = {"command_id": command.command_id, "status": "accepted", "error_code": f"code-{number}"}
        await spine.hear((f"{U}/commands/ack", body))
    await spine.ack(command, "completed")
    history = await spine.history(command)
    assert history[-1] == ("expired", "completed", 1)
    assert len(history) <= 100


async def test_an_ack_for_another_clients_command_is_refused(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    await spine.hear((f"{V}/commands/ack", {"command_id": command.command_id, "status": "completed"}))
    assert (await spine.command(command)).status is CommandStatus.PUBLISHED
    assert spine.measures.counts["rejected", "foreign_command"] == 1


async def test_of_two_hundred_concurrent_requests_exactly_one_wins(spine: Spine) -> None:
    await spine.beat(U)
    outcomes = await asyncio.gather(*(spine.request(U) for _ in range(200)), return_exceptions=True)
    won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, CommandInFlight)]
    assert (len(won), len(lost)) == (1, 199)
    assert {outcome.command.command_id for outcome in lost} == {won[0].command_id}


async def test_the_third_published_command_locks_every_disruptive_action(spine: Spine) -> None:
    await spine.beat(U)
    for action in (Action.RESTART_APP, Action.REBOOT_HOST, Action.SHUTDOWN_HOST):
        command = await spine.request(U, action)
        await spine.outbox.step()
        await spine.ack(command, "failed")
    with pytest.raises(LockedOut) as refused:
        await spine.request(U, Action.RESTART_APP)
    assert refused.value.locked_until == spine.clock.now() + timedelta(seconds=900)
    blocked = refused.value.command
    assert (await spine.command(blocked)).status is CommandStatus.BLOCKED_SAFETY
    spine.clock.advance(900)
    assert (await spine.request(U, Action.RESTART_APP)).status is CommandStatus.QUEUED


async def test_commands_that_never_left_the_server_do_not_count_for_the_lockout(spine: Spine) -> None:
    await spine.beat(U)
    for _ in range(5):
        command = await spine.request(U)
        await spine.commanding.cancel(command.command_id, OPERATOR)
    assert await spine.commanding.lockout(U) is None


async def test_only_an_admin_with_a_reason_overrides_the_lockout(spine: Spine) -> None:
    await spine.beat(U)
    for _ in range(3):
        command = await spine.request(U)
        await spine.outbox.step()
        await spine.ack(command, "failed")
    with pytest.raises(Forbidden):
        await spine.request(U, force=True, reason="please")
    with pytest.raises(InvalidInput):
        await spine.request(U, force=True, actor=ADMIN)
    forced = await spine.request(U, force=True, reason="on the phone with the site", actor=ADMIN)
    assert (forced.status, forced.forced) == (CommandStatus.QUEUED, True)


async def test_an_unknown_client_is_not_commanded(spine: Spine) -> None:
    with pytest.raises(NotFound):
        await spine.request(U)


async def test_a_capability_must_have_been_announced(spine: Spine) -> None:
    await spine.beat(U)
    with pytest.raises(InvalidInput):
        await spine.request(U, Action.SCREENSHOT)
    await spine.hear((f"{U}/discovery", {"uuid": U, "capabilities": ["screenshot"]}))
    assert (await spine.request(U, Action.SCREENSHOT)).status is CommandStatus.QUEUED


async def test_the_sweep_expires_in_every_open_state_and_is_safe_twice(spine: Spine) -> None:
    for number in range(4):
        await spine.beat(uuid_of(number))
    queued = await spine.request(uuid_of(0))
    spine.clock.advance(1)
    sent = [await spine.request(uuid_of(number)) for number in (1, 2, 3)]
    await spine.commanding.cancel(queued.command_id, OPERATOR)
    queued = await spine.request(uuid_of(0))
    spine.publisher.fails = True
    await spine.outbox.step()
    spine.clock.advance(239)
    assert await spine.watch.sweep() == 0
    spine.clock.advance(1)
    assert await spine.watch.sweep() == 4
    assert await spine.watch.sweep() == 0
    for command in (queued, *sent):
        assert (await spine.command(command)).status is CommandStatus.EXPIRED


async def test_a_late_ack_corrects_an_expired_command(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    spine.clock.advance(240)
    await spine.watch.sweep()
    await spine.ack(command, "completed")
    done = await spine.command(command)
    assert (done.status, done.late) == (CommandStatus.COMPLETED, True)


async def test_an_expired_command_is_never_published(spine: Spine) -> None:
    await spine.beat(U)
    await spine.request(U, expires_in=timedelta(seconds=0.5))
    spine.publisher.connected = False
    await spine.outbox.step()
    spine.clock.advance(1)
    spine.publisher.connected = True
    await spine.outbox.step()
    assert spine.publisher.sent == []


async def test_with_the_broker_down_commands_stay_queued(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    spine.publisher.connected = False
    await spine.outbox.step()
    assert (await spine.command(command)).status is CommandStatus.QUEUED


async def test_a_publication_without_puback_is_repeated_with_the_same_id(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    spine.publisher.fails = True
    await spine.outbox.step()
    assert (await spine.command(command)).status is CommandStatus.PUBLISH_IN_PROGRESS
    spine.publisher.fails = False
    await spine.outbox.step()
    assert (await spine.command(command)).status is CommandStatus.PUBLISHED
    assert command.command_id.encode() in spine.publisher.sent[0].payload


async def test_a_publication_that_is_refused_fails_the_command(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    spine.publisher.refuses = True
    await spine.outbox.step()
    failed = await spine.command(command)
    assert (failed.status, failed.error_code) == (CommandStatus.FAILED, "publish_refused")


async def test_a_command_is_repeated_when_the_device_is_heard_again_at_most_three_times(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    spine.clock.advance(9)
    await spine.beat(U)
    await spine.outbox.step()
    assert len(spine.publisher.sent) == 1
    for _ in range(5):
        spine.clock.advance(11)
        await spine.outbox.step()
        await spine.beat(U)
        await spine.outbox.step()
    assert len(spine.publisher.sent) == 3
    assert (await spine.command(command)).status is CommandStatus.PUBLISHED


async def test_attempts_that_the_broker_never_took_are_no_repetitions(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    spine.publisher.fails = True
    for _ in range(5):
        await spine.outbox.step()
    spine.publisher.fails = False
    await spine.outbox.step()
    assert len(spine.publisher.sent) == 1
    for _ in range(5):
        spine.clock.advance(11)
        await spine.beat(U)
        await spine.outbox.step()
    assert len(spine.publisher.sent) == 3
    assert (await spine.command(command)).publish_count == 3


async def test_an_accepted_command_is_not_repeated_while_we_listened_all_the_time(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    await spine.ack(command, "accepted")
    spine.clock.advance(60)
    await spine.beat(U)
    await spine.outbox.step()
    assert len(spine.publisher.sent) == 1


async def test_after_a_break_in_our_listening_the_device_is_asked_for_its_ack_again(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    await spine.ack(command, "accepted")
    spine.clock.advance(60)
    spine.link.listening_since = spine.clock.now()
    spine.clock.advance(5)
    await spine.beat(U)
    await spine.outbox.step()
    assert len(spine.publisher.sent) == 2
    assert (await spine.command(command)).status is CommandStatus.ACCEPTED


async def test_cancelling_is_possible_only_before_publication(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    with pytest.raises(NotQueued) as refused:
        await spine.commanding.cancel(command.command_id, OPERATOR)
    assert refused.value.command_status == "published"


async def test_a_verified_shutdown_is_on_purpose_until_the_device_is_heard_again(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U, Action.SHUTDOWN_HOST)
    await spine.outbox.step()
    await spine.ack(command, "execution_started")
    spine.clock.advance(2)
    await spine.hear((f"{U}/presence", "offline"))
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.SHUT_DOWN
    spine.clock.advance(1_000)
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.SHUT_DOWN
    await spine.beat(U)
    assert (await spine.client(U)).status is Condition.ONLINE


async def test_a_completed_reboot_without_a_new_boot_is_contradicted(spine: Spine) -> None:
    await spine.beat(U, boot_id="old")
    command = await spine.request(U)
    await spine.outbox.step()
    await spine.ack(command, "completed")
    spine.clock.advance(600)
    await spine.beat(U, boot_id="old")
    await spine.watch.look()
    judged = await spine.command(command)
    assert judged.verification is Verification.CONTRADICTED


async def test_a_bulk_request_judges_each_client_on_its_own(spine: Spine) -> None:
    for number in range(5):
        await spine.beat(uuid_of(number))
    await spine.request(uuid_of(1))
    until = spine.clock.now() + timedelta(hours=1)
    await spine.fleet.edit(uuid_of(2), {"maintenance_until": until}, OPERATOR)
    targets = [*(uuid_of(number) for number in range(5)), uuid_of(99)]
    batch = await spine.bulk.request(targets, Action.RESTART_APP, source=Source.API, actor=OPERATOR)
    assert [result.outcome for result in batch.results] == [
        "queued",
        "command_in_flight",
        "maintenance",
        "queued",
        "queued",
        "unknown_client",
    ]
    assert batch.counts == {"queued": 3, "command_in_flight": 1, "maintenance": 1, "unknown_client": 1}


async def test_a_bulk_request_over_a_filter_is_evaluated_by_the_server(spine: Spine) -> None:
    for number in range(5):
        await spine.beat(uuid_of(number), process_status="crashed" if number < 2 else "running")
    crashed = ClientQuery(status=frozenset({Condition.CRASHED}))
    batch = await spine.bulk.request(crashed, Action.RESTART_APP, source=Source.API, actor=OPERATOR)
    assert batch.counts == {"queued": 2}


async def test_pages_of_clients_follow_each_other_without_gap_or_repeat(spine: Spine) -> None:
    for number in range(25):
        await spine.beat(uuid_of(number), hostname=f"host{number % 7}")
        spine.clock.advance(1)
    for sort in ("name", "-name", "last_alive", "-last_alive", "status_since", "-status_since"):
        seen: list[str] = []
        cursor = None
        while True:
            async with spine.store.read() as connection:
                page = await client_lists.search(connection, ClientQuery(sort=sort), 4, cursor)
            assert page.total == 25
            seen += [client.uuid for client in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 25, sort


async def test_searching_by_text_tag_and_site(spine: Spine) -> None:
    for number in range(3):
        await spine.beat(uuid_of(number), hostname=f"Bahnhof_{number}", ip=f"10.0.0.{number}")
    await spine.fleet.edit(uuid_of(1), {"tags": ["küche", 'a"b%'], "site": "Köln"}, OPERATOR)
    async with spine.store.read() as connection:
        for query, count in (
            (ClientQuery(q="bahnhof_1"), 1),
            (ClientQuery(q="bahnhof%"), 0),
            (ClientQuery(q="10.0.0."), 3),
            (ClientQuery(tag="küche"), 1),
            (ClientQuery(tag='a"b%'), 1),
            (ClientQuery(tag="küch"), 0),
            (ClientQuery(site="Köln"), 1),
        ):
            assert (await client_lists.search(connection, query, 10)).total == count, query


async def test_the_timeline_merges_status_commands_and_operator_acts_newest_first(spine: Spine) -> None:
    await spine.beat(U)
    spine.clock.advance(1)
    command = await spine.request(U)
    spine.clock.advance(1)
    await spine.fleet.edit(U, {"name": "Lobby"}, OPERATOR)
    seen: list[TimelineKind] = []
    cursor = None
    while True:
        async with spine.store.read() as connection:
            page = await timeline.page(connection, U, 1, cursor)
        seen += [entry.kind for entry in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [TimelineKind.OPERATOR, TimelineKind.COMMAND, TimelineKind.STATUS]
    async with spine.store.read() as connection:
        only = await timeline.page(connection, U, 10, kinds={TimelineKind.COMMAND})
    assert only.items[0].data is not None
    assert only.items[0].data["command_id"] == command.command_id


async def test_a_removed_client_takes_its_history_with_it(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.fleet.remove(U, ADMIN)
    assert await spine.history(command) == []


async def test_maintenance_is_shown_and_ends_by_itself(spine: Spine) -> None:
    await spine.beat(U)
    until = spine.clock.now() + timedelta(seconds=30)
    after = await spine.fleet.edit(U, {"maintenance_until": until}, OPERATOR)
    assert after.status is Condition.MAINTENANCE
    spine.clock.advance(30)
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.ONLINE


async def test_what_is_older_than_the_retention_goes_and_what_is_open_stays(spine: Spine) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    spine.clock.advance(91 * 86_400)
    await spine.watch.tidy()
    assert (await spine.command(command)).status is CommandStatus.QUEUED
    await spine.watch.sweep()
    await spine.watch.tidy()
    assert await spine.history(command) == []


async def test_the_loops_look_through_partial_indexes_and_never_walk_the_fleet(tmp_path: Path) -> None:
    async with open_spine(sqlite_url(tmp_path)) as spine:
        await spine.beat(U)
        await spine.request(U)
        await spine.watch.sweep()  # the first one compares the totals with a count
        with statements_of(spine.store) as asked:
            await spine.watch.look()
            await spine.watch.sweep()
            await spine.outbox.step()
        selects = [one for one in asked if one[0].startswith("SELECT")]
        async with spine.store.read() as connection:
            for one in selects:
                steps = await steps_of(connection, one) - {"SCAN CONSTANT ROW"}
                walks = [step for step in steps if step.startswith("SCAN") and "INDEX" not in step]
                assert walks == [], one[0]
        assert len(selects) > 6


async def test_clients_are_not_found_by_what_all_have_in_common(tmp_path: Path) -> None:
    """SQLite would rather read all that are online, or that are dark at night, than the few that are due."""
    async with open_spine(sqlite_url(tmp_path)) as spine:
        now, hour = spine.clock.now(), timedelta(hours=1)
        async with spine.store.read() as connection:
            for index, ask in {
                "ix_clients_watched": client_deadlines.fallen_silent(connection, now, hour, hour),
                "ix_clients_starting": client_deadlines.not_started(connection, now),
                "ix_clients_opened_silent": schedules.missed(connection, now, hour),
            }.items():
                with statements_of(spine.store) as asked:
                    assert await ask == []
                found = [step for step in await steps_of(connection, asked[0]) if "clients" in step]
                assert found
                assert all(f" {index} " in step for step in found), found


async def test_a_failure_that_is_acknowledged_again_while_the_first_is_cleared_is_cleared_too(
    spine: Spine,
) -> None:
    """Another failure arrives, and is acknowledged, between the publication and its being written down."""
    at = zulu(spine.clock.now())
    await spine.beat(U)
    await spine.hear((f"{U}/service_failed", {"failed_at": at, "unit": "app.service", "result": "exit-code"}))
    await spine.fleet.clear_service_failed(U, OPERATOR)
    async with spine.store.read() as connection:
        seen = await client_deadlines.awaiting_clear(connection)
    spine.clock.advance(10)
    later = zulu(spine.clock.now())
    await spine.hear((f"{U}/service_failed", {"failed_at": later, "unit": "app.service", "result": "signal"}))
    await spine.fleet.clear_service_failed(U, OPERATOR)
    async with spine.store.write() as connection:
        await client_deadlines.note_cleared(connection, seen)
    assert (await spine.client(U)).service_failed_clear_pending
