"""The line of steps that shows the life of a command."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from infoscreen.domain.commands import FINAL, Action, ClientCommand, CommandStatus, Source, Verification
from infoscreen.web.panel.stages import Stage, stages

AT = datetime(2026, 3, 2, 7, tzinfo=UTC)
FRESH = ClientCommand(
    command_id="c",
    client_uuid="u",
    action=Action.REBOOT_HOST,
    status=CommandStatus.QUEUED,
    source=Source.OPERATOR,
    requested_by=None,
    reason=None,
    created_at=AT,
    expires_at=AT + timedelta(minutes=4),
    deadline_at=AT + timedelta(minutes=4),
)
STARTED = replace(
    FRESH,
    status=CommandStatus.EXECUTION_STARTED,
    published_at=AT,
    accepted_at=AT,
    started_at=AT,
    verification=Verification.PENDING,
)
COMPLETED = replace(STARTED, status=CommandStatus.COMPLETED, finished_at=AT)


def line(command: ClientCommand) -> list[tuple[str, str]]:
    return [(stage.title, stage.state) for stage in stages(command)]


def test_a_fresh_command_has_everything_before_it() -> None:
    assert line(FRESH) == [
        ("Requested", "done"),
        ("Sent", "now"),
        ("Accepted", "ahead"),
        ("Running", "ahead"),
        ("Completed", "ahead"),
        ("Effect verified", "ahead"),
    ]


def test_a_device_may_leave_steps_out() -> None:
    command = replace(COMPLETED, accepted_at=None, started_at=None, verification=None)
    assert line(command) == [
        ("Requested", "done"),
        ("Sent", "done"),
        ("Accepted", "skipped"),
        ("Running", "skipped"),
        ("Completed", "done"),
    ]


@pytest.mark.parametrize(
    ("verification", "last"),
    [
        (Verification.PENDING, Stage("Effect is being checked", "now")),
        (Verification.VERIFIED, Stage("Effect verified", "good", AT)),
        (Verification.CONTRADICTED, Stage("Effect contradicted", "bad", AT)),
        (Verification.UNVERIFIABLE, Stage("Effect cannot be checked", "skipped", AT)),
    ],
)
def test_completed_is_not_the_end_until_the_effect_was_checked(
    verification: Verification, last: Stage
) -> None:
    assert stages(replace(COMPLETED, verification=verification, verified_at=AT))[-1] == last


def test_a_command_that_expired_ends_where_it_had_come_to() -> None:
    command = replace(FRESH, status=CommandStatus.EXPIRED, published_at=AT)
    assert line(command) == [("Requested", "done"), ("Sent", "done"), ("Expired", "bad")]


@pytest.mark.parametrize("status", CommandStatus)
def test_every_command_under_way_has_one_step_it_waits_for_and_no_ended_one_has(
    status: CommandStatus,
) -> None:
    shown = [stage.state for stage in stages(replace(FRESH, status=status, published_at=AT))]
    ended = status in FINAL or status is CommandStatus.EXPIRED
    assert shown.count("now") == (0 if ended else 1)
