"""The life of a command as steps on a line: those behind it, the one it is at, those that may come."""

from dataclasses import dataclass
from datetime import datetime

from infoscreen.domain.commands import DISRUPTIVE, OPEN, ClientCommand, CommandStatus, Verification
from infoscreen.words.language import N_
from infoscreen.words.names import COMMAND_STATUSES, VERIFICATIONS

_PATH = (
    (CommandStatus.QUEUED, "created_at"),
    (CommandStatus.PUBLISHED, "published_at"),
    (CommandStatus.ACCEPTED, "accepted_at"),
    (CommandStatus.EXECUTION_STARTED, "started_at"),
    (CommandStatus.COMPLETED, "finished_at"),
)

CHECKED = N_("Effect verified")


@dataclass(frozen=True, slots=True)
class Stage:
    """One step; ``state`` is ``done``, ``now``, ``ahead``, ``skipped``, ``good`` or ``bad``."""

    title: str
    state: str
    at: datetime | None = None


def stages(command: ClientCommand) -> list[Stage]:
    """Return the steps of a command, oldest first. Devices may leave steps out; those are ``skipped``."""
    if command.status in OPEN:
        return _under_way(command)
    if command.status is CommandStatus.COMPLETED:
        return [*_behind(command, len(_PATH)), *_checked(command)]
    passed = [stage for stage in _behind(command, len(_PATH) - 1) if stage.state == "done"]
    ended = Stage(COMMAND_STATUSES[command.status], "bad", command.finished_at or command.deadline_at)
    return [*passed, ended, *_checked(command)]


def _under_way(command: ClientCommand) -> list[Stage]:
    reached = max(index for index, (_, name) in enumerate(_PATH) if getattr(command, name) is not None)
    steps = _behind(command, reached + 1)
    for index, (status, _) in enumerate(_PATH[reached + 1 :]):
        steps.append(Stage(COMMAND_STATUSES[status], "now" if index == 0 else "ahead"))
    return [*steps, Stage(CHECKED, "ahead")] if command.action in DISRUPTIVE else steps


def _behind(command: ClientCommand, count: int) -> list[Stage]:
    return [
        Stage(COMMAND_STATUSES[status], "skipped" if at is None else "done", at)
        for status, at in ((status, getattr(command, name)) for status, name in _PATH[:count])
    ]


def _checked(command: ClientCommand) -> list[Stage]:
    match command.verification:
        case None:
            return []
        case Verification.PENDING:
            return [Stage(VERIFICATIONS[Verification.PENDING], "now")]
        case Verification.VERIFIED:
            return [Stage(CHECKED, "good", command.verified_at)]
        case Verification.CONTRADICTED:
            return [Stage(VERIFICATIONS[Verification.CONTRADICTED], "bad", command.verified_at)]
        case Verification.UNVERIFIABLE:
            return [Stage(VERIFICATIONS[Verification.UNVERIFIABLE], "skipped", command.verified_at)]
