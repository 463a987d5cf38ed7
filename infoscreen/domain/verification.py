"""Verification: completed is a claim, and what the device shows of itself afterwards makes it a fact.

Evidence has a margin, because devices compute boot and start times as now minus uptime, which wavers, and
because their clocks are set. What a device said before the command left never counts, and neither does what
two devices under one identity say.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Timeouts, Verification
from infoscreen.domain.history import Finding, Note

MARGIN = timedelta(seconds=30)
"""Times that differ by no more are the same (lifecycle design)."""

HEARTBEATS_AFTER_REBOOT = 2
"""So many heartbeats with the new boot id make a reboot a fact (lifecycle design)."""


@dataclass(frozen=True, slots=True)
class FirstTold:
    """When the device told first of its present boot, or of the present start of its application.

    ``heard_at`` is the receipt; ``said_at`` is earlier if the message has waited at the broker.
    """

    said_at: datetime
    heard_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the client has shown of itself by now; None means it never said.

    ``heartbeats_since_boot`` counts heartbeats of the present boot. ``silent`` is true when the broker says
    offline or no heartbeat came for the client's stale threshold. ``clock_skew_seconds`` is how far the
    device's clock was off when it said so; ``duplicate`` that two devices use the identity. ``boot`` and
    ``application`` are when it told of the present ones first; None counts as after the command.
    """

    boot_id: str | None
    booted_at: datetime | None
    heartbeats_since_boot: int
    app_started_at: datetime | None
    process_pid: int | None
    process_running: bool
    last_heartbeat_at: datetime | None
    silent: bool
    clock_skew_seconds: float | None = None
    duplicate: bool = False
    boot: FirstTold | None = None
    application: FirstTold | None = None


class EvidenceOrder(Enum):
    """Whether what the device shows began before the command could act, after, or that cannot be told."""

    BEFORE = "before"
    AFTER = "after"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The end of a verification, with the evidence."""

    verification: Verification
    finding: Fact[Finding]

    @property
    def note(self) -> Fact[Note]:
        """Return the line for the command's history."""
        return Fact(Note(self.verification.value), {"finding": self.finding})


Weighed = tuple[Fact[Finding] | None, Fact[Finding] | None]
"""What speaks for the effect, and what speaks against it."""


class Before(NamedTuple):
    """What a client says of itself before a command reaches it."""

    boot_id: str | None
    booted_at: datetime | None
    app_started_at: datetime | None
    process_pid: int | None
    clock_skew_seconds: float | None


def with_snapshot(command: ClientCommand, before: Before) -> ClientCommand:
    """Return the command with what its client says of itself before it."""
    return replace(
        command,
        before_boot_id=before.boot_id,
        before_booted_at=before.booted_at,
        before_app_started_at=before.app_started_at,
        before_process_pid=before.process_pid,
        before_clock_skew_seconds=before.clock_skew_seconds,
    )


def moved(before: datetime, before_skew: float | None, after: datetime, after_skew: float | None) -> bool:
    """Tell whether a time of a device is another one, and not the same one seen by a clock that was set.

    A boot time that is computed moves along with the clock, a start time that was written down does not. So
    both the time as it was said and the time by our clock must differ.
    """
    if abs(after - before) <= MARGIN:
        return False
    if before_skew is None or after_skew is None:
        return True
    return abs((after - before).total_seconds() - (after_skew - before_skew)) > MARGIN.total_seconds()


def verify(
    command: ClientCommand,
    evidence: Evidence,
    now: datetime,
    timeouts: Timeouts,
    *,
    listening_since: datetime | None = None,
) -> Conclusion | None:
    """Weigh a command's evidence; None means that it must wait for more.

    Evidence in favour ends the wait at once. Otherwise the wait lasts for the action's own timeout from the
    last thing the device said of the command, and as long from ``listening_since`` if given; then a claim
    (``completed``) that a later heartbeat belies is contradicted, and everything else cannot be verified.
    """
    weigh = _is_later(command, evidence, now, listening_since)
    good, against = _weigh(command, evidence, now, listening_since) if weigh else (None, None)
    if good is not None and not evidence.duplicate:
        return Conclusion(Verification.VERIFIED, good)
    completed = command.status is CommandStatus.COMPLETED
    since = command.finished_at if completed else command.started_at
    if since is None:
        since = command.finished_at or command.deadline_at
    if listening_since is not None:
        since = max(since, listening_since)
    if now < since + timeouts.of(command.action):
        return None
    if evidence.duplicate:
        return Conclusion(Verification.UNVERIFIABLE, Fact(Finding.TWO_DEVICES))
    heard_since = evidence.last_heartbeat_at is not None and evidence.last_heartbeat_at > since
    if completed and heard_since and against is not None:
        return Conclusion(Verification.CONTRADICTED, against)
    if completed and not heard_since:
        return Conclusion(Verification.UNVERIFIABLE, Fact(Finding.NOT_HEARD_SINCE))
    return Conclusion(Verification.UNVERIFIABLE, Fact(Finding.NOTHING_SHOWS_IT))


def _weigh(
    command: ClientCommand, evidence: Evidence, now: datetime, listening_since: datetime | None
) -> Weighed:
    match command.action:
        case Action.REBOOT_HOST | Action.POWER_CYCLE:
            order = _order_of(command, evidence.boot, now, listening_since)
            return _weigh_reboot(command, evidence, order)
        case Action.RESTART_APP:
            order = _order_of(command, evidence.application, now, listening_since)
            return _weigh_restart(command, evidence, order)
        case Action.SHUTDOWN_HOST:
            if evidence.silent:
                return Fact(Finding.WENT_SILENT), None
            return None, Fact(Finding.STILL_HEARD)
        case Action.SCREENSHOT | Action.DISPLAY_ON | Action.DISPLAY_OFF:
            return None, None


def _is_later(
    command: ClientCommand, evidence: Evidence, now: datetime, listening_since: datetime | None
) -> bool:
    """Tell whether the evidence is from after the command left. A shutdown is told by silence instead."""
    left, heard = command.published_at, evidence.last_heartbeat_at
    if left is None or command.action is Action.SHUTDOWN_HOST:
        return True
    if left > now:
        # The host's clock was set back since; listening began again at that moment.
        return heard is not None and (listening_since is None or heard >= listening_since)
    return heard is not None and heard > left


def _order_of(
    command: ClientCommand, told: FirstTold | None, now: datetime, listening_since: datetime | None
) -> EvidenceOrder:
    """Tell whether a boot or start that differs from the one at publication may be the command's effect.

    A device may reboot by itself while a command waits for it, or between two publications. What it told
    before it accepted, or before the last publication, is then no effect. If it accepted after the last
    publication, it had not acted on an earlier one, and what it told before is evidence against the effect;
    else it may have acted on an earlier one, and its acks were lost.
    """
    if told is None:
        return EvidenceOrder.AFTER
    accepted = command.accepted_at
    if command.started_at is None and accepted == command.finished_at:
        accepted = None  # it never said so before the end
    left = command.last_publish_at
    fresh = accepted is not None and left is not None and accepted >= left
    if left is not None and accepted is not None and not fresh:
        left = command.published_at  # repeated while it was under way
    if left is not None and not _is_after(told.said_at, left, told, now, listening_since):
        return EvidenceOrder.BEFORE if fresh or command.publish_count <= 1 else EvidenceOrder.UNCLEAR
    if accepted is not None and not _is_after(told.heard_at, accepted, told, now, listening_since):
        # It may also have sent its acks late.
        return EvidenceOrder.UNCLEAR
    return EvidenceOrder.AFTER


def _is_after(
    at: datetime, moment: datetime, told: FirstTold, now: datetime, listening_since: datetime | None
) -> bool:
    if moment > now:
        # The host's clock was set back since; listening began again at that moment.
        return listening_since is None or told.heard_at >= listening_since
    return at >= moment


def _weigh_reboot(command: ClientCommand, evidence: Evidence, order: EvidenceOrder) -> Weighed:
    before_at, after_at = command.before_booted_at, evidence.booted_at
    beats = evidence.heartbeats_since_boot
    if command.before_boot_id is not None and evidence.boot_id is not None:
        if command.before_boot_id == evidence.boot_id:
            return None, Fact(Finding.SAME_BOOT_ID, {"boot_id": evidence.boot_id})
        found = Fact(Finding.NEW_BOOT_ID, {"boot_id": evidence.boot_id, "heartbeats": beats})
        same = Fact(Finding.SAME_BOOT_ID, {"boot_id": evidence.boot_id})
    elif before_at is not None and after_at is not None:
        if not _moved(command, before_at, evidence, after_at):
            return None, Fact(Finding.SAME_BOOT_TIME, {"booted_at": after_at})
        found = Fact(Finding.NEW_BOOT_TIME, {"booted_at": after_at, "heartbeats": beats})
        same = Fact(Finding.SAME_BOOT_TIME, {"booted_at": after_at})
    else:
        return None, None
    if order is not EvidenceOrder.AFTER:
        return None, same if order is EvidenceOrder.BEFORE else None
    return (found, None) if beats >= HEARTBEATS_AFTER_REBOOT else (None, None)


def _weigh_restart(command: ClientCommand, evidence: Evidence, order: EvidenceOrder) -> Weighed:
    before_at, after_at = command.before_app_started_at, evidence.app_started_at
    before_pid, after_pid = command.before_process_pid, evidence.process_pid
    if before_at is None or after_at is None:
        if before_pid is not None and before_pid == after_pid:
            return None, Fact(Finding.SAME_PROCESS_ID, {"process_pid": str(after_pid)})
        return None, None
    another_process = before_pid is not None and after_pid is not None and before_pid != after_pid
    told = {"app_started_at": after_at}
    if not _moved(command, before_at, evidence, after_at) and not (another_process and before_at != after_at):
        return None, Fact(Finding.SAME_START_TIME, told)
    if order is not EvidenceOrder.AFTER:
        return None, Fact(Finding.SAME_START_TIME, told) if order is EvidenceOrder.BEFORE else None
    if not evidence.process_running:
        return None, Fact(Finding.NEW_START_TIME_NOT_RUNNING, told)
    return Fact(Finding.NEW_START_TIME, told), None


def _moved(command: ClientCommand, before: datetime, evidence: Evidence, after: datetime) -> bool:
    return moved(before, command.before_clock_skew_seconds, after, evidence.clock_skew_seconds)
