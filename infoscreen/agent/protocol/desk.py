"""Where a device takes commands: bytes in; acks into the outbox, and what is to be done, out.

It decides what becomes of a command and never carries one out. Every ack is in the journal before it is in
the outbox.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum

from infoscreen.agent.protocol import packets
from infoscreen.agent.protocol.journal import Entry, Journal, StateAtStart
from infoscreen.agent.protocol.packet_queue import PacketQueue
from infoscreen.agent.protocol.values import build
from infoscreen.domain.commands import DISRUPTIVE, AckStatus, Action
from infoscreen.domain.errors import BadMessage
from infoscreen.domain.visible import visible
from infoscreen.wire.messages import Command, CommandAck, decode_command


class CommandOutcome(StrEnum):
    """What became of something that arrived on a command topic."""

    TAKEN = "taken"
    """New and accepted; it is to be carried out."""
    REFUSED = "refused"
    """New, and answered with ``failed``."""
    REPEATED = "repeated"
    """Known, and answered with the ack last given for it."""
    RETAINED = "retained"
    INVALID = "invalid"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The verdict; ``command`` is set if it was taken, ``complaint`` if the device should say something."""

    verdict: CommandOutcome
    command: Command | None = None
    complaint: str | None = None


class Fate(Enum):
    """What became of a command that was not over when the agent ended."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    UNDECIDED = "undecided"
    """The executor must look."""


def fate(entry: Entry, boot_id: str) -> Fate:
    """Tell what became of an unfinished command, seen from the boot ``boot_id``.

    A host that was told to go down and has a new boot has gone down. An application that was being restarted
    when only the agent ended may be up again.
    """
    if entry.before is None:
        return Fate.INTERRUPTED
    rebooted = entry.before.boot_id != boot_id
    match entry.command.action:
        case Action.REBOOT_HOST | Action.SHUTDOWN_HOST if rebooted:
            return Fate.COMPLETED
        case Action.RESTART_APP if not rebooted:
            return Fate.UNDECIDED
        case _:
            return Fate.INTERRUPTED


JOURNAL_UNAVAILABLE = ("journal_unavailable", "the device cannot write its journal")

LONGEST_COMPLAINT = 300

KINDS = {Action.DISPLAY_ON: "display", Action.DISPLAY_OFF: "display"} | dict.fromkeys(
    DISRUPTIVE, "disruptive"
)
"""What is carried out one at a time; an action that is not listed is a kind of its own."""


def kind_of(command: Command) -> str:
    """Return the kind of which a device carries out one at a time."""
    return KINDS.get(command.action, command.action.value)


class CommandDesk:
    """Takes commands for the device ``uuid``, one of a kind at a time, and answers them.

    ``can`` tells which actions the device carries out.
    """

    def __init__(
        self, uuid: str, *, can: Callable[[Action], bool], journal: Journal, outbox: PacketQueue
    ) -> None:
        self._uuid = uuid
        self._can = can
        self._journal = journal
        self._outbox = outbox
        self._executing: dict[str, Command] = {}

    def receive(self, payload: bytes, now: datetime, *, retain: bool = False) -> Receipt:
        """Take what arrived on a command topic.

        Only a new and valid command for this device is to be carried out. A known one is answered with the
        ack last given for it, however late it comes, and everything else is ignored. Raises nothing, whatever
        the payload is.
        """
        if retain:
            return Receipt(CommandOutcome.RETAINED)
        try:
            command = decode_command(payload)
        except BadMessage as error:
            said = visible(f"ignored an invalid command: {str(error)[:LONGEST_COMPLAINT]}", one_line=True)
            return Receipt(CommandOutcome.INVALID, complaint=said)
        if str(command.client_uuid) != self._uuid:
            return Receipt(CommandOutcome.FOREIGN, complaint="ignored a command for another device")
        known = self._journal.find(command.command_id)
        if known is not None:
            self._send(known.ack)
            return Receipt(CommandOutcome.REPEATED)
        if command.command_id in self._journal.refused:
            self._send(_ack(command, AckStatus.FAILED, *JOURNAL_UNAVAILABLE))
            return Receipt(CommandOutcome.REPEATED)
        return self._take(command, now)

    def start(self, command: Command, before: StateAtStart) -> None:
        """Say that it is being carried out; ``before`` is how the device is just now."""
        self._answer(command, AckStatus.EXECUTION_STARTED, before=before)

    def complete(self, command: Command) -> None:
        """Say that it has been carried out."""
        self._finish(command, AckStatus.COMPLETED)

    def fail(self, command: Command, code: str, text: str) -> None:
        """Say that it could not be carried out: a stable code, and a sentence for people."""
        self._finish(command, AckStatus.FAILED, code, text)

    def resume(self, boot_id: str) -> list[Entry]:
        """Come up: answer what was not over when the agent ended, and return what is undecided.

        An undecided one occupies the device until ``complete`` or ``fail`` ends it.
        """
        self._executing.clear()
        undecided = []
        for entry in self._journal.entries:
            if entry.is_final:
                continue
            match fate(entry, boot_id):
                case Fate.COMPLETED:
                    self.complete(entry.command)
                case Fate.INTERRUPTED:
                    self.fail(entry.command, "interrupted", "the device or its agent went down meanwhile")
                case Fate.UNDECIDED:
                    self._executing[kind_of(entry.command)] = entry.command
                    undecided.append(entry)
        return undecided

    def send_unsent(self) -> None:
        """Put the acks back into the outbox that the process before this one gave and could not send."""
        for serial, ack in self._journal.unsent:
            self._send(ack, serial)

    def _take(self, command: Command, now: datetime) -> Receipt:
        refusal = self._refusal(command, now)
        if refusal is not None:
            self._answer(command, AckStatus.FAILED, *refusal)
            return Receipt(CommandOutcome.REFUSED)
        self._answer(command, AckStatus.ACCEPTED)
        self._executing[kind_of(command)] = command
        return Receipt(CommandOutcome.TAKEN, command)

    def _refusal(self, command: Command, now: datetime) -> tuple[str, str] | None:
        if command.expires_at <= now:
            return "expired", f"expired at {command.expires_at.isoformat()}"
        if not self._can(command.action):
            return "unsupported_action", f"cannot do {command.action}"
        lost = self._journal.lost
        if lost is not None and command.issued_at <= lost.at:
            return "journal_lost", "the device lost its journal, and may have carried this out already"
        executing = self._executing.get(kind_of(command))
        if executing is not None:
            return "busy", f"still at {executing.command_id}"
        return None

    def _finish(
        self, command: Command, status: AckStatus, code: str | None = None, text: str | None = None
    ) -> None:
        executing = self._executing.get(kind_of(command))
        if executing is not None and executing.command_id == command.command_id:
            del self._executing[kind_of(command)]
        self._answer(command, status, code, text)

    def _answer(
        self,
        command: Command,
        status: AckStatus,
        code: str | None = None,
        text: str | None = None,
        *,
        before: StateAtStart | None = None,
    ) -> None:
        """Write the ack into the journal, then send it."""
        ack = _ack(command, status, code, text)
        self._send(ack, self._journal.give(Entry(command, ack, before)))

    def _send(self, ack: CommandAck, serial: int | None = None) -> None:
        for packet in packets.acks(self._uuid, ack):
            self._outbox.event(packet, serial)


def _ack(command: Command, status: AckStatus, code: str | None = None, text: str | None = None) -> CommandAck:
    return build(
        CommandAck, command_id=command.command_id, status=status, error_code=code, error_message=text
    )
