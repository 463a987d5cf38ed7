"""The command state machine: every state with every step, and the rules around it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import (
    FINAL,
    OPEN,
    STEP_OF_ACK,
    TRANSITIONS,
    AckStatus,
    Action,
    ClientCommand,
    CommandStatus,
    CommandStep,
    Source,
    Timeouts,
    Verification,
    acknowledged,
    next_status,
    published,
)
from infoscreen.domain.history import Finding
from infoscreen.domain.verification import Evidence, verify

S, T = CommandStatus, CommandStep
NOW = datetime(2026, 3, 1, 7, 0, tzinfo=UTC)
TIMEOUTS = Timeouts(timedelta(seconds=120), timedelta(seconds=600), timedelta(seconds=120))
ORDER = [S.QUEUED, S.PUBLISH_IN_PROGRESS, S.PUBLISHED, S.ACCEPTED, S.EXECUTION_STARTED, S.EXPIRED]


def command(
    action: Action = Action.REBOOT_HOST, status: CommandStatus = S.PUBLISHED, **changes: object
) -> ClientCommand:
    base = ClientCommand(
        command_id="c",
        client_uuid="u",
        action=action,
        status=status,
        source=Source.OPERATOR,
        requested_by=1,
        reason=None,
        created_at=NOW,
        expires_at=NOW + timedelta(seconds=240),
        deadline_at=NOW + timedelta(seconds=240),
    )
    return replace(base, **changes)


def test_every_state_has_its_row_in_the_table() -> None:
    assert set(TRANSITIONS) == set(CommandStatus)


def test_only_the_four_ends_are_final() -> None:
    assert {S.COMPLETED, S.FAILED, S.CANCELLED, S.BLOCKED_SAFETY} == FINAL


def test_open_states_are_those_that_can_still_expire() -> None:
    assert {S.QUEUED, S.PUBLISH_IN_PROGRESS, S.PUBLISHED, S.ACCEPTED, S.EXECUTION_STARTED} == OPEN


@pytest.mark.parametrize("status", CommandStatus)
@pytest.mark.parametrize("step", CommandStep)
def test_no_step_leads_backwards(status: CommandStatus, step: CommandStep) -> None:
    after = next_status(status, step)
    if after is None or after in FINAL:
        return
    if step is T.WAIT_AGAIN:
        assert after is S.QUEUED
        return
    assert ORDER.index(after) > ORDER.index(status)


@pytest.mark.parametrize("status", sorted(FINAL))
@pytest.mark.parametrize("step", CommandStep)
def test_nothing_leaves_a_final_state(status: CommandStatus, step: CommandStep) -> None:
    assert next_status(status, step) is None


@pytest.mark.parametrize("status", CommandStatus)
def test_cancelling_is_certain_only_while_queued(status: CommandStatus) -> None:
    assert (next_status(status, T.CANCEL) is S.CANCELLED) == (status is S.QUEUED)


@pytest.mark.parametrize("ack", AckStatus)
def test_a_queued_command_takes_no_ack_because_it_was_never_sent(ack: AckStatus) -> None:
    assert next_status(S.QUEUED, STEP_OF_ACK[ack]) is None


@pytest.mark.parametrize("status", [S.PUBLISH_IN_PROGRESS, S.PUBLISHED, S.ACCEPTED, S.EXECUTION_STARTED])
def test_an_ack_may_skip_states(status: CommandStatus) -> None:
    done = acknowledged(command(status=status), AckStatus.COMPLETED, NOW, TIMEOUTS)
    assert done is not None
    assert done.status is S.COMPLETED


@given(st.lists(st.sampled_from(AckStatus), min_size=1, max_size=12))
def test_any_order_of_acks_ends_where_its_best_news_says(acks: list[AckStatus]) -> None:
    current = command()
    for ack in acks:
        current = acknowledged(current, ack, NOW, TIMEOUTS) or current
    ends = [ack for ack in acks if ack in (AckStatus.COMPLETED, AckStatus.FAILED)]
    if ends:
        assert current.status.value == ends[0].value
    else:
        assert current.status.value == max(acks, key=list(AckStatus).index).value


@given(st.lists(st.sampled_from(AckStatus), min_size=1, max_size=8))
def test_repeating_every_ack_changes_nothing(acks: list[AckStatus]) -> None:
    once = twice = command()
    for ack in acks:
        once = acknowledged(once, ack, NOW, TIMEOUTS) or once
        twice = acknowledged(twice, ack, NOW, TIMEOUTS) or twice
        assert acknowledged(twice, ack, NOW, TIMEOUTS) is None
    assert once == twice


def test_a_late_end_corrects_an_expired_command_and_is_marked_late() -> None:
    late = acknowledged(command(status=S.EXPIRED), AckStatus.COMPLETED, NOW, TIMEOUTS)
    assert late is not None
    assert (late.status, late.late) == (S.COMPLETED, True)


@pytest.mark.parametrize("ack", [AckStatus.ACCEPTED, AckStatus.EXECUTION_STARTED])
def test_an_expired_command_is_not_revived_by_less_than_an_end(ack: AckStatus) -> None:
    assert acknowledged(command(status=S.EXPIRED), ack, NOW, TIMEOUTS) is None


def test_the_deadline_moves_to_the_actions_own_timeout_once_execution_has_started() -> None:
    started = acknowledged(command(), AckStatus.EXECUTION_STARTED, NOW, TIMEOUTS)
    assert started is not None
    assert started.deadline_at == NOW + timedelta(seconds=600)


def test_a_puback_after_the_ack_does_not_go_back() -> None:
    accepted = acknowledged(command(status=S.PUBLISH_IN_PROGRESS), AckStatus.ACCEPTED, NOW, TIMEOUTS)
    assert accepted is not None
    assert published(accepted, NOW + timedelta(seconds=1)).status is S.ACCEPTED


def test_an_ack_before_the_puback_counts_as_published_for_the_lockout() -> None:
    accepted = acknowledged(command(status=S.PUBLISH_IN_PROGRESS), AckStatus.ACCEPTED, NOW, TIMEOUTS)
    assert accepted is not None
    assert accepted.published_at == NOW


# --- verification


def evidence(**changes: object) -> Evidence:
    base = Evidence(
        boot_id="new",
        booted_at=None,
        heartbeats_since_boot=2,
        app_started_at=None,
        process_pid=None,
        process_running=True,
        last_heartbeat_at=NOW + timedelta(seconds=30),
        silent=False,
    )
    return replace(base, **changes)


REBOOTED = command(
    status=S.COMPLETED, finished_at=NOW, verification=Verification.PENDING, before_boot_id="old"
)


def test_a_reboot_is_verified_by_a_new_boot_id_and_two_heartbeats() -> None:
    verdict = verify(REBOOTED, evidence(), NOW, TIMEOUTS)
    assert verdict is not None
    assert verdict.verification is Verification.VERIFIED


def test_a_reboot_waits_for_its_second_heartbeat() -> None:
    assert verify(REBOOTED, evidence(heartbeats_since_boot=1), NOW, TIMEOUTS) is None


def test_a_reboot_that_did_not_happen_is_contradicted_after_its_timeout() -> None:
    unchanged = evidence(boot_id="old", last_heartbeat_at=NOW + timedelta(seconds=590))
    assert verify(REBOOTED, unchanged, NOW + timedelta(seconds=599), TIMEOUTS) is None
    verdict = verify(REBOOTED, unchanged, NOW + timedelta(seconds=600), TIMEOUTS)
    assert verdict is not None
    assert verdict.verification is Verification.CONTRADICTED
    assert verdict.finding == Fact(Finding.SAME_BOOT_ID, {"boot_id": "old"})


def test_a_device_that_shows_nothing_ends_unverifiable() -> None:
    silent_about_it = evidence(boot_id=None)
    verdict = verify(REBOOTED, silent_about_it, NOW + timedelta(seconds=600), TIMEOUTS)
    assert verdict is not None
    assert verdict.verification is Verification.UNVERIFIABLE


def test_nobody_is_contradicted_who_was_not_heard_since() -> None:
    unheard = evidence(boot_id="old", last_heartbeat_at=NOW - timedelta(seconds=1))
    verdict = verify(REBOOTED, unheard, NOW + timedelta(seconds=600), TIMEOUTS)
    assert verdict is not None
    assert verdict.verification is Verification.UNVERIFIABLE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            {"before_process_pid": 10, "before_app_started_at": NOW},
            {"process_pid": 11, "app_started_at": NOW + timedelta(seconds=5)},
        ),
        ({"before_app_started_at": NOW}, {"app_started_at": NOW + timedelta(seconds=31)}),
        (
            {"before_process_pid": 10, "before_app_started_at": NOW},
            {"process_pid": 10, "app_started_at": NOW + timedelta(1)},
        ),
    ],
)
def test_a_restart_is_verified_by_a_new_pid_or_start_time_and_a_running_application(
    before: dict[str, object], after: dict[str, object]
) -> None:
    restarted = command(
        Action.RESTART_APP, S.COMPLETED, finished_at=NOW, verification=Verification.PENDING, **before
    )
    verdict = verify(restarted, evidence(**after), NOW, TIMEOUTS)
    assert verdict is not None
    assert verdict.verification is Verification.VERIFIED
    assert verify(restarted, evidence(process_running=False, **after), NOW, TIMEOUTS) is None


def test_a_shutdown_is_verified_by_silence_even_when_the_halt_beat_the_last_ack() -> None:
    halted = command(
        Action.SHUTDOWN_HOST, S.EXECUTION_STARTED, started_at=NOW, verification=Verification.PENDING
    )
    assert verify(halted, evidence(), NOW, TIMEOUTS) is None
    verdict = verify(halted, evidence(silent=True), NOW, TIMEOUTS)
    assert verdict is not None
    assert verdict.verification is Verification.VERIFIED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"before_process_pid": 10}, {"process_pid": 11}),
        ({"before_app_started_at": NOW}, {"app_started_at": NOW + timedelta(seconds=0.3)}),
        ({"before_app_started_at": NOW}, {"app_started_at": NOW - timedelta(seconds=30)}),
        (
            {"before_app_started_at": NOW, "before_process_pid": 10},
            {"app_started_at": NOW, "process_pid": 11},
        ),
        (
            # The device's clock was set by an hour, and the start time is computed with it.
            {"before_app_started_at": NOW, "before_clock_skew_seconds": 0.0},
            {"app_started_at": NOW + timedelta(hours=1), "clock_skew_seconds": 3600.0},
        ),
        (
            # It was set, and the start time had been written down.
            {"before_app_started_at": NOW, "before_clock_skew_seconds": -3600.0},
            {"app_started_at": NOW, "clock_skew_seconds": 0.0},
        ),
    ],
)
def test_wavering_times_and_clocks_that_are_set_prove_no_restart(
    before: dict[str, object], after: dict[str, object]
) -> None:
    restarted = command(
        Action.RESTART_APP, S.COMPLETED, finished_at=NOW, verification=Verification.PENDING, **before
    )
    assert verify(restarted, evidence(**after), NOW, TIMEOUTS) is None
    rebooted = command(
        Action.REBOOT_HOST,
        S.COMPLETED,
        finished_at=NOW,
        verification=Verification.PENDING,
        before_booted_at=before.get("before_app_started_at"),
        before_clock_skew_seconds=before.get("before_clock_skew_seconds"),
    )
    booted = {"boot_id": None, "booted_at": after.get("app_started_at")}
    skew = {"clock_skew_seconds": after.get("clock_skew_seconds")}
    assert verify(rebooted, evidence(**booted, **skew), NOW, TIMEOUTS) is None


def test_what_was_said_before_the_command_left_or_by_two_devices_never_counts() -> None:
    left = replace(REBOOTED, published_at=NOW)
    assert verify(left, evidence(last_heartbeat_at=NOW), NOW, TIMEOUTS) is None
    assert verify(left, evidence(last_heartbeat_at=NOW + timedelta(seconds=1)), NOW, TIMEOUTS) is not None
    two = evidence(last_heartbeat_at=NOW + timedelta(seconds=1), duplicate=True)
    assert verify(left, two, NOW, TIMEOUTS) is None
    verdict = verify(left, two, NOW + timedelta(hours=1), TIMEOUTS)
    assert verdict is not None
    assert verdict.verification is Verification.UNVERIFIABLE
