"""The life of a command: states, legal moves and deadlines. Pure; nothing else decides a move.

``TRANSITIONS`` is the whole state machine. A step that is not in the table for a state changes nothing; the
caller records it and goes on, because every ack arrives at least twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from infoscreen.domain.codes import Fact, Packed, unpacked
from infoscreen.domain.history import Finding, Note, Part


class Action(StrEnum):
    """What a client can be told to do."""

    RESTART_APP = "restart_app"
    REBOOT_HOST = "reboot_host"
    SHUTDOWN_HOST = "shutdown_host"
    SCREENSHOT = "screenshot"
    DISPLAY_ON = "display_on"
    DISPLAY_OFF = "display_off"
    POWER_CYCLE = "power_cycle"


DISRUPTIVE = frozenset({Action.RESTART_APP, Action.REBOOT_HOST, Action.SHUTDOWN_HOST, Action.POWER_CYCLE})
"""Actions that interrupt what the screen shows: one at a time per client, and counted by the lockout."""

AT_THE_OUTLET = frozenset({Action.POWER_CYCLE})
"""Actions that the daemon carries out itself; they are never published, and no device may answer them."""

CAPABILITY_NEEDED = frozenset({Action.SCREENSHOT, Action.DISPLAY_ON, Action.DISPLAY_OFF})
"""Actions that go only to clients whose discovery announced the capability of the same name or ``cec``."""


class CommandStatus(StrEnum):
    """Where a command is in its life."""

    QUEUED = "queued"
    PUBLISH_IN_PROGRESS = "publish_in_progress"
    PUBLISHED = "published"
    ACCEPTED = "accepted"
    EXECUTION_STARTED = "execution_started"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    BLOCKED_SAFETY = "blocked_safety"


class Waiting(StrEnum):
    """What a queued command waits for before it is sent: its turn in a bulk request, or its client.

    A command that waits does not occupy its client; it is checked again when the wait ends.
    """

    TURN = "turn"
    CLIENT = "client"


class CommandStep(StrEnum):
    """What can happen to a command."""

    PUBLISH = "publish"
    PUBACK = "puback"
    GIVE_UP = "give_up"
    BLOCK = "block"
    WAIT_AGAIN = "wait_again"
    CANCEL = "cancel"
    EXPIRE = "expire"
    ACK_ACCEPTED = "ack_accepted"
    ACK_STARTED = "ack_execution_started"
    ACK_COMPLETED = "ack_completed"
    ACK_FAILED = "ack_failed"


S = CommandStatus
T = CommandStep

TRANSITIONS: Mapping[CommandStatus, Mapping[CommandStep, CommandStatus]] = {
    S.QUEUED: {
        T.PUBLISH: S.PUBLISH_IN_PROGRESS,
        T.GIVE_UP: S.FAILED,
        T.BLOCK: S.BLOCKED_SAFETY,
        T.CANCEL: S.CANCELLED,
        T.EXPIRE: S.EXPIRED,
    },
    S.PUBLISH_IN_PROGRESS: {
        T.PUBACK: S.PUBLISHED,
        T.GIVE_UP: S.FAILED,
        T.WAIT_AGAIN: S.QUEUED,
        T.EXPIRE: S.EXPIRED,
        # A fast device answers before the broker's PUBACK reaches us, or the daemon died between the two.
        T.ACK_ACCEPTED: S.ACCEPTED,
        T.ACK_STARTED: S.EXECUTION_STARTED,
        T.ACK_COMPLETED: S.COMPLETED,
        T.ACK_FAILED: S.FAILED,
    },
    S.PUBLISHED: {
        T.WAIT_AGAIN: S.QUEUED,
        T.EXPIRE: S.EXPIRED,
        T.ACK_ACCEPTED: S.ACCEPTED,
        T.ACK_STARTED: S.EXECUTION_STARTED,
        T.ACK_COMPLETED: S.COMPLETED,
        T.ACK_FAILED: S.FAILED,
    },
    S.ACCEPTED: {
        T.EXPIRE: S.EXPIRED,
        T.ACK_STARTED: S.EXECUTION_STARTED,
        T.ACK_COMPLETED: S.COMPLETED,
        T.ACK_FAILED: S.FAILED,
    },
    S.EXECUTION_STARTED: {
        T.EXPIRE: S.EXPIRED,
        T.ACK_COMPLETED: S.COMPLETED,
        T.ACK_FAILED: S.FAILED,
    },
    # Expired is a belief of the server; the device knows better.
    S.EXPIRED: {
        T.ACK_COMPLETED: S.COMPLETED,
        T.ACK_FAILED: S.FAILED,
    },
    S.COMPLETED: {},
    S.FAILED: {},
    S.CANCELLED: {},
    S.BLOCKED_SAFETY: {},
}

FINAL = frozenset(status for status, steps in TRANSITIONS.items() if not steps)
"""States that nothing leaves any more."""

OPEN = frozenset(status for status, steps in TRANSITIONS.items() if T.EXPIRE in steps)
"""States in which the command still occupies its client; ``expired`` is neither open nor final."""


class AckStatus(StrEnum):
    """What a device says about a command, in its own words (wire contract)."""

    ACCEPTED = "accepted"
    EXECUTION_STARTED = "execution_started"
    COMPLETED = "completed"
    FAILED = "failed"


STEP_OF_ACK: Mapping[AckStatus, CommandStep] = {
    AckStatus.ACCEPTED: T.ACK_ACCEPTED,
    AckStatus.EXECUTION_STARTED: T.ACK_STARTED,
    AckStatus.COMPLETED: T.ACK_COMPLETED,
    AckStatus.FAILED: T.ACK_FAILED,
}


class Source(StrEnum):
    """Who asked for a command."""

    OPERATOR = "operator"
    API = "api"
    RECOVERY = "recovery"


class Verification(StrEnum):
    """What the evidence says of a command that was carried out. Completed is a claim; verified is a fact."""

    PENDING = "pending"
    VERIFIED = "verified"
    CONTRADICTED = "contradicted"
    UNVERIFIABLE = "unverifiable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCommand:
    """One command and all that is known of it. All times are the daemon's own clock, aware UTC.

    ``expires_at`` goes to the device; ``deadline_at`` is when the sweep gives the command up, and moves once
    the device has begun. ``before_*`` is what the client said of itself when the command was published;
    ``refused_skew_seconds`` how far its clock was off when it refused the command as expired;
    ``publish_count`` is how often the broker is known to have taken it. A person's ``reason`` is text; the
    recovery's is a code with arguments. ``waits_for`` is set while a queued command is not to be sent yet;
    ``wait_until`` is the expiry of one that may wait for its client, and stays when the wait ends.
    """

    command_id: str
    client_uuid: str
    action: Action
    status: CommandStatus
    source: Source
    requested_by: int | None
    reason: str | None
    created_at: datetime
    expires_at: datetime
    deadline_at: datetime
    reason_code: str | None = None
    reason_arguments: Packed | None = None
    batch_id: str | None = None
    waits_for: Waiting | None = None
    wait_until: datetime | None = None
    forced: bool = False
    publish_count: int = 0
    last_publish_at: datetime | None = None
    published_at: datetime | None = None
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    late: bool = False
    error_code: str | None = None
    error_message: str | None = None
    verification: Verification | None = None
    verified_at: datetime | None = None
    verification_code: Finding | None = None
    verification_arguments: Packed | None = None
    before_boot_id: str | None = None
    before_booted_at: datetime | None = None
    before_app_started_at: datetime | None = None
    before_process_pid: int | None = None
    before_clock_skew_seconds: float | None = None
    refused_skew_seconds: float | None = None

    @property
    def finding(self) -> Fact[Finding] | None:
        """Return the evidence that ended the verification."""
        if self.verification_code is None:
            return None
        return unpacked(Finding, self.verification_code, self.verification_arguments or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEvent:
    """One line in a command's history, by a part of the system or by a person (a name).

    ``times`` counts equal lines that changed no status.
    """

    at: datetime
    from_status: CommandStatus | None
    to_status: CommandStatus
    by: Part | str
    note: Fact[Note] | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each action may take once the device has begun."""

    restart_app: timedelta
    reboot_host: timedelta
    shutdown_host: timedelta
    power_cycle: timedelta = timedelta(seconds=900)
    other: timedelta = timedelta(seconds=60)

    def of(self, action: Action) -> timedelta:
        """Return the time ``action`` may take from ``execution_started``."""
        match action:
            case Action.RESTART_APP:
                return self.restart_app
            case Action.REBOOT_HOST:
                return self.reboot_host
            case Action.SHUTDOWN_HOST:
                return self.shutdown_host
            case Action.POWER_CYCLE:
                return self.power_cycle
            case Action.SCREENSHOT | Action.DISPLAY_ON | Action.DISPLAY_OFF:
                return self.other


def ended_by(command: ClientCommand, step: CommandStep, now: datetime) -> ClientCommand | None:
    """Return a queued command as a step ends it; None if its status does not allow that."""
    status = next_status(command.status, step)
    return None if status is None else replace(command, status=status, waits_for=None, finished_at=now)


def next_status(status: CommandStatus, step: CommandStep) -> CommandStatus | None:
    """Return the state after ``step``, or None when the step is not legal here and changes nothing."""
    return TRANSITIONS[status].get(step)


def published(command: ClientCommand, now: datetime) -> ClientCommand:
    """Return the command after the broker's PUBACK, whatever the device has said meanwhile."""
    status = next_status(command.status, CommandStep.PUBACK) or command.status
    return replace(
        command,
        status=status,
        published_at=command.published_at or now,
        publish_count=command.publish_count + 1,
    )


def moved_by_step(
    command: ClientCommand, stepped_at: datetime, step: timedelta, now: datetime
) -> ClientCommand | None:
    """Return an unfinished command after the daemon's clock was set, None when it was begun later than that.

    Its deadline moves along, so that it has neither less nor more time than it was given. What was sent stays
    as it is, since the device has a clock of its own; what was not, or waits again, moves altogether. After a
    small step back a command may not be told from a newer one; it then has at most that much longer.
    """
    begun = command.started_at or command.created_at
    if not (begun < stepped_at if step > timedelta() else begun > now):
        return None
    moved = replace(
        command,
        deadline_at=command.deadline_at + step,
        wait_until=None if command.wait_until is None else command.wait_until + step,
    )
    sent_at = command.last_publish_at
    if sent_at is not None and command.waits_for is None:
        return moved
    return replace(
        moved,
        created_at=command.created_at + step,
        expires_at=command.expires_at + step,
        # Its client is waited for since then.
        last_publish_at=None if sent_at is None else sent_at + step,
    )


def released(command: ClientCommand, now: datetime, lifetime: timedelta) -> ClientCommand:
    """Return a command that no longer waits: from now on it has the life time of any other."""
    expires_at = now + lifetime
    if command.wait_until is not None:
        expires_at = min(expires_at, command.wait_until)
    return replace(command, waits_for=None, expires_at=expires_at, deadline_at=expires_at)


MOST_SENT_WAITING = 10
"""A command that was sent so often to a client that went away again expires with the next deadline."""


def overdue(command: ClientCommand, now: datetime) -> ClientCommand | None:
    """Return what becomes of a command whose deadline has passed, None if it is over already.

    One that its client never accepted waits for it again as long as it may; any other expires.
    """
    until = command.wait_until
    again = command.accepted_at is None and command.publish_count < MOST_SENT_WAITING
    if again and until is not None and until > now:
        status = next_status(command.status, CommandStep.WAIT_AGAIN)
        if status is not None:
            return replace(
                command,
                status=status,
                waits_for=Waiting.CLIENT,
                expires_at=until,
                deadline_at=until,
            )
    status = next_status(command.status, CommandStep.EXPIRE)
    return None if status is None else replace(command, status=status, waits_for=None, finished_at=now)


def acknowledged(
    command: ClientCommand,
    ack: AckStatus,
    now: datetime,
    timeouts: Timeouts,
    *,
    error_code: str | None = None,
    error_message: str | None = None,
) -> ClientCommand | None:
    """Return the command after a device's ack, or None when the ack is repeated or out of date.

    An ack skips states but never goes back. After expiry only an end still counts, and is marked ``late``.
    """
    status = next_status(command.status, STEP_OF_ACK[ack])
    if status is None:
        return None
    changes: dict[str, Any] = {
        "status": status,
        "late": command.status is S.EXPIRED,
        # A device that answers has received it, even if the PUBACK never reached us.
        "published_at": command.published_at or now,
        "accepted_at": command.accepted_at or (now if ack is not AckStatus.FAILED else None),
    }
    match ack:
        case AckStatus.ACCEPTED:
            pass
        case AckStatus.EXECUTION_STARTED:
            changes["started_at"] = now
            changes["deadline_at"] = now + timeouts.of(command.action)
            changes["verification"] = initial_verification(command.action)
        case AckStatus.COMPLETED:
            changes["finished_at"] = now
            changes["verification"] = command.verification or initial_verification(command.action)
        case AckStatus.FAILED:
            changes["finished_at"] = now
            changes["error_code"] = error_code
            changes["error_message"] = error_message
            changes["verification"] = None
    return replace(command, **changes)


def is_known(
    command: ClientCommand,
    ack: AckStatus,
    *,
    error_code: str | None = None,
    error_message: str | None = None,
) -> bool:
    """Tell whether an ack says only what the command says already, as the second of two topics does."""
    match ack:
        case AckStatus.ACCEPTED:
            return command.accepted_at is not None
        case AckStatus.EXECUTION_STARTED:
            return command.started_at is not None
        case AckStatus.COMPLETED:
            return command.status is S.COMPLETED
        case AckStatus.FAILED:
            told = (command.error_code, command.error_message)
            return command.status is S.FAILED and told == (error_code, error_message)


def initial_verification(action: Action) -> Verification | None:
    """Return ``pending`` for actions whose effect shows in what the device reports, None for the others."""
    return Verification.PENDING if action in DISRUPTIVE else None
