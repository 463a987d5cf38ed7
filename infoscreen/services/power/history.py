"""What a power cycle does to its command: moves in the command's life, and lines in its history. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import (
    AckStatus,
    ClientCommand,
    CommandStep,
    Timeouts,
    acknowledged,
    next_status,
)
from infoscreen.domain.history import Note, Part
from infoscreen.domain.power import Cycle, CycleStage, PowerFault
from infoscreen.domain.verification import Before, with_snapshot
from infoscreen.storage.command_history import HistoryLine


@dataclass(frozen=True, slots=True)
class Moved:
    """A command after a step of its power cycle, and what to write into its history."""

    command: ClientCommand
    lines: list[HistoryLine]


def taken_up(command: ClientCommand, before: Before, now: datetime) -> Moved:
    """Return a queued command whose outlet is asked from now on."""
    status = next_status(command.status, CommandStep.PUBLISH) or command.status
    after = replace(with_snapshot(command, before), status=status, last_publish_at=now)
    return Moved(after, [line_of(after, None, now, before=command)])


def moved(
    command: ClientCommand, was: Cycle, now_is: Cycle, before: Before | None, now: datetime, times: Timeouts
) -> Moved:
    """Return the command after its cycle went from one stored state to the next.

    It has begun once anything may be switched: what the client says of itself just ``before`` is kept then.
    """
    lines: list[HistoryLine] = []
    after = command
    if now_is.has_switched and command.started_at is None:
        if before is not None:
            after = replace(with_snapshot(after, before), last_publish_at=now)
        after = acknowledged(after, AckStatus.EXECUTION_STARTED, now, times) or after
        note = Note.OUTLET_CHECKED if now_is.off_sends else Note.OUTLET_FOUND_OFF
        lines.append(line_of(after, Fact(note), now, before=command))
    ended = now_is.stage is CycleStage.ENDED
    lines += [line_of(after, note, now) for note in _steps(was, now_is)]
    if ended:
        began = after
        after = _over(after, now_is, now, times)
        lines.append(line_of(after, _end(now_is), now, before=began))
    return Moved(after, lines)


def line_of(
    command: ClientCommand, note: Fact[Note] | None, now: datetime, *, before: ClientCommand | None = None
) -> HistoryLine:
    """Return a line by the outlet for a command's history."""
    return HistoryLine.of(before or command, command, now, Part.OUTLET, note)


def _steps(was: Cycle, now_is: Cycle) -> Iterator[Fact[Note]]:
    if now_is.off_sent_at is not None and (was.off_sent_at, was.off_sends) != (
        now_is.off_sent_at,
        now_is.off_sends,
    ):
        yield Fact(Note.OUTLET_OFF_SENT, {"times": now_is.off_sends})
    if now_is.off_seen_at is not None and was.off_seen_at is None:
        yield Fact(Note.OUTLET_OFF_SEEN)
    if now_is.fault is not None and now_is.fault is not was.fault and now_is.stage is not CycleStage.ENDED:
        yield _fault(now_is.fault, now_is.detail)
    if now_is.on_sends and not was.on_sends:
        yield Fact(Note.OUTLET_ON_SENT)


def _end(cycle: Cycle) -> Fact[Note]:
    if cycle.fault is not None:
        return _fault(cycle.fault, cycle.detail)
    return Fact(Note.OUTLET_ON_SEEN)


def _fault(fault: PowerFault, detail: str | None) -> Fact[Note]:
    return Fact(Note.OUTLET_FAULT, {"fault": fault, "said": detail or "-"})


def _over(command: ClientCommand, cycle: Cycle, now: datetime, times: Timeouts) -> ClientCommand:
    if cycle.fault is None:
        return acknowledged(command, AckStatus.COMPLETED, now, times) or command
    if cycle.has_switched:
        failed = acknowledged(
            command, AckStatus.FAILED, now, times, error_code=cycle.fault.value, error_message=cycle.detail
        )
        return failed or command
    status = next_status(command.status, CommandStep.GIVE_UP)
    if status is None:
        return command
    return replace(
        command,
        status=status,
        finished_at=now,
        error_code=cycle.fault.value,
        error_message=cycle.detail,
    )
