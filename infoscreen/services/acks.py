"""Acks: what devices say of their commands.

A repeated one causes no write. One that is not possible in its command's state changes nothing and leaves one
line in the history.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import (
    AT_THE_OUTLET,
    ClientCommand,
    Timeouts,
    acknowledged,
    is_known,
)
from infoscreen.domain.error_codes import MessageDefect
from infoscreen.domain.errors import BadMessage
from infoscreen.domain.history import Note, Part, note_of_ack
from infoscreen.domain.refusals import EXPIRED, is_refused, wrong_clock_seconds
from infoscreen.services.ports import Incoming
from infoscreen.services.sorting import rejection
from infoscreen.storage import clients, command_history, commands, heartbeats
from infoscreen.storage.command_history import HistoryLine
from infoscreen.storage.engine import Connection
from infoscreen.storage.rejected import RejectedMessage
from infoscreen.wire.messages import CommandAck

SentAck = tuple[str, CommandAck, Incoming]
"""The UUID of the client that sent an ack, the ack, and the message it came in."""


@dataclass(slots=True)
class AckOutcome:
    """Commands that moved, each as often as it did, and acks that belong to no command of their sender."""

    moved: list[ClientCommand] = field(default_factory=list)
    rejections: list[RejectedMessage] = field(default_factory=list)


def _about(code: MessageDefect, ack: CommandAck) -> BadMessage:
    return BadMessage(code, command_id=str(ack.command_id))


async def save_acks(
    connection: Connection, acks: Sequence[SentAck], timeouts: Timeouts, now: datetime
) -> AckOutcome:
    """Advance the commands that devices acknowledge, in order of arrival."""
    outcome = AckOutcome()
    if not acks:
        return outcome
    await heartbeats.heard(connection, {uuid for uuid, _, _ in acks}, now)
    before = await commands.for_change(connection, {str(ack.command_id) for _, ack, _ in acks})
    current = dict(before)
    skews = await _skews(connection, acks)
    lines: list[HistoryLine] = []
    for uuid, ack, message in acks:
        command = current.get(str(ack.command_id))
        if command is None or command.action in AT_THE_OUTLET:
            outcome.rejections.append(rejection(message, now, _about(MessageDefect.UNKNOWN_COMMAND, ack)))
            continue
        if command.client_uuid != uuid:
            outcome.rejections.append(rejection(message, now, _about(MessageDefect.FOREIGN_COMMAND, ack)))
            continue
        if is_known(command, ack.status, error_code=ack.error_code, error_message=ack.error_message):
            continue
        after = acknowledged(
            command, ack.status, now, timeouts, error_code=ack.error_code, error_message=ack.error_message
        )
        if after is not None and is_refused(after):
            after = replace(after, refused_skew_seconds=skews.get(uuid))
        lines.append(_ack_line(command, after, ack, now))
        if after is not None:
            current[command.command_id] = after
            outcome.moved.append(after)
    await commands.save(connection, before, [one for key, one in current.items() if one is not before[key]])
    await command_history.record(connection, lines)
    return outcome


async def _skews(connection: Connection, acks: Sequence[SentAck]) -> dict[str, float]:
    """Return how far the clocks of devices are off that refuse commands as expired."""
    refusing = {uuid for uuid, ack, _ in acks if ack.error_code == EXPIRED}
    if not refusing:
        return {}
    known = await clients.get_many(connection, refusing)
    return {
        uuid: client.clock_skew_seconds
        for uuid, client in known.items()
        if client.clock_skew_seconds is not None
    }


def _ack_line(
    before: ClientCommand, after: ClientCommand | None, ack: CommandAck, now: datetime
) -> HistoryLine:
    note: Fact[Note] | None = None
    if after is None or after.late or after.error_code:
        note = note_of_ack(ack.status, ack.error_code, ack.error_message, ignored=after is None)
    off = None if after is None else wrong_clock_seconds(after)
    if off is not None:
        note = Fact(Note.REFUSED_BY_WRONG_CLOCK, {"by": timedelta(seconds=abs(off))})
    elif after is not None and is_refused(after):
        error = ": ".join(part for part in (ack.error_code, ack.error_message) if part)
        note = Fact(Note.REFUSED_BY_DEVICE, {"error": error})
    return HistoryLine.of(before, after or before, now, Part.DEVICE, note)
