"""Whether a command had its effect: weighs what the client has shown of itself since. Pure."""

from dataclasses import dataclass
from datetime import datetime

from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Timeouts, Verification
from infoscreen.domain.history import Finding, Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the client has shown of itself by now; None means it never said.

    ``heartbeats_since_boot`` counts heartbeats that carried the present boot id. ``silent`` is true when the
    broker says offline or no heartbeat came for the client's stale threshold.
    """

    boot_id: str | None
    booted_at: datetime | None
    heartbeats_since_boot: int
    app_started_at: datetime | None
    process_pid: int | None
    process_running: bool
    last_heartbeat_at: datetime | None
    silent: bool


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The end of a verification, with the evidence."""

    verification: Verification
    finding: Fact[Finding]

    @property
    def note(self) -> Fact[Note]:
        """Return the line for the command's history."""
        return Fact(Note(self.verification.value), {"finding": self.finding})


HEARTBEATS_AFTER_REBOOT = 2
"""So many heartbeats with the new boot id make a reboot a fact (lifecycle design)."""


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
    good, against = _weigh(command, evidence)
    if good is not None:
        return Conclusion(Verification.VERIFIED, good)
    since = command.finished_at if command.status is CommandStatus.COMPLETED else command.started_at
    if since is None:
        since = command.finished_at or command.deadline_at
    if listening_since is not None:
        since = max(since, listening_since)
    if now < since + timeouts.of(command.action):
        return None
    heard_since = evidence.last_heartbeat_at is not None and evidence.last_heartbeat_at > since
    if command.status is CommandStatus.COMPLETED and heard_since and against is not None:
        return Conclusion(Verification.CONTRADICTED, against)
    if command.status is CommandStatus.COMPLETED and not heard_since:
        return Conclusion(Verification.UNVERIFIABLE, Fact(Finding.NOT_HEARD_SINCE))
    return Conclusion(Verification.UNVERIFIABLE, Fact(Finding.NOTHING_SHOWS_IT))


Weighed = tuple[Fact[Finding] | None, Fact[Finding] | None]
"""What speaks for the effect, and what speaks against it."""


def _weigh(command: ClientCommand, evidence: Evidence) -> Weighed:
    match command.action:
        case Action.REBOOT_HOST:
            return _weigh_reboot(command, evidence)
        case Action.RESTART_APP:
            return _weigh_restart(command, evidence)
        case Action.SHUTDOWN_HOST:
            if evidence.silent:
                return Fact(Finding.WENT_SILENT), None
            return None, Fact(Finding.STILL_HEARD)
        case Action.SCREENSHOT | Action.DISPLAY_ON | Action.DISPLAY_OFF:
            return None, None


def _weigh_reboot(command: ClientCommand, evidence: Evidence) -> Weighed:
    pairs = (
        ("boot_id", Finding.NEW_BOOT_ID, Finding.SAME_BOOT_ID, command.before_boot_id, evidence.boot_id),
        (
            "booted_at",
            Finding.NEW_BOOT_TIME,
            Finding.SAME_BOOT_TIME,
            command.before_booted_at,
            evidence.booted_at,
        ),
    )
    for name, new, same, before, after in pairs:
        if before is None or after is None:
            continue
        if before == after:
            return None, Fact(same, {name: after})
        if evidence.heartbeats_since_boot < HEARTBEATS_AFTER_REBOOT:
            return None, None
        return Fact(new, {name: after, "heartbeats": evidence.heartbeats_since_boot}), None
    return None, None


def _weigh_restart(command: ClientCommand, evidence: Evidence) -> Weighed:
    unchanged: Fact[Finding] | None = None
    before_at, after_at = command.before_app_started_at, evidence.app_started_at
    if before_at is not None and after_at is not None:
        if before_at != after_at:
            if evidence.process_running:
                return Fact(Finding.NEW_START_TIME, {"app_started_at": after_at}), None
            return None, Fact(Finding.NEW_START_TIME_NOT_RUNNING, {"app_started_at": after_at})
        unchanged = Fact(Finding.SAME_START_TIME, {"app_started_at": after_at})
    before_pid, after_pid = command.before_process_pid, evidence.process_pid
    if before_pid is not None and after_pid is not None:
        pid = {"process_pid": str(after_pid)}
        if before_pid != after_pid:
            if evidence.process_running:
                return Fact(Finding.NEW_PROCESS_ID, pid), None
            return None, Fact(Finding.NEW_PROCESS_ID_NOT_RUNNING, pid)
        unchanged = unchanged or Fact(Finding.SAME_PROCESS_ID, pid)
    return None, unchanged
