"""State that survives a restart: the commands that were received, and the acks not sent yet.

Lives in memory and tells each change as a record, in the order in which they are to be kept. Writes no file.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from infoscreen.domain.commands import AckStatus
from infoscreen.wire.messages import Command, CommandAck

JOURNAL_LENGTH = 500
"""Commands remembered for telling duplicates; far more than any lockout window lets through."""
UNSENT_LENGTH = 2_000
"""Acks kept for sending; the outbox holds fewer."""

FINAL_ACKS = frozenset({AckStatus.COMPLETED, AckStatus.FAILED})


@dataclass(frozen=True, slots=True)
class StateAtStart:
    """How the device was when it began to carry out a command: what the end is told by."""

    boot_id: str
    app_started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A command and the ack last given for it; ``before`` from the start of its execution on."""

    command: Command
    ack: CommandAck
    before: StateAtStart | None = None

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more will be said of the command."""
        return self.ack.status in FINAL_ACKS


@dataclass(frozen=True, slots=True)
class AckGiven:
    """An ack was given; ``serial`` is larger than any before."""

    serial: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class AckSent:
    """The broker has the ack of this serial, on both topics. Losing this record only repeats the ack."""

    serial: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The command made room for a newer one."""

    command_id: UUID


@dataclass(frozen=True, slots=True)
class Linked:
    """How the connection has fared since the device was set up."""

    connections: int = 0
    last_disconnect_at: datetime | None = None

    @property
    def reconnects(self) -> int:
        """Return how often a connection was made again after the first."""
        return max(self.connections - 1, 0)


@dataclass(frozen=True, slots=True)
class Lost:
    """What was known before ``at`` is lost: commands issued before then may have been carried out."""

    at: datetime


Record = AckGiven | AckSent | Forgotten | Linked | Lost


@dataclass(frozen=True, slots=True)
class JournalContents:
    """What outlived the process: commands and unsent acks by serial, in order."""

    commands: dict[int, Entry]
    unsent: dict[int, CommandAck]
    link: Linked = Linked()
    lost: Lost | None = None

    @classmethod
    def nothing(cls, *, lost: Lost | None = None) -> "JournalContents":
        """Return what a new device knows."""
        return cls({}, {}, lost=lost)


class Journal:
    """The commands that a device knows, at most ``JOURNAL_LENGTH``.

    ``keep`` is told each record that must reach the disk before anything is sent or done because of it;
    without, nothing outlives the process. ``first_serial`` must be larger than any that is kept already.
    """

    def __init__(
        self,
        known: JournalContents | None = None,
        keep: Callable[[Record], None] | None = None,
        *,
        first_serial: int = 1,
    ) -> None:
        self._keep = keep
        self._entries: OrderedDict[UUID, Entry] = OrderedDict()
        self._serials: dict[UUID, int] = {}
        self._unsent: dict[int, CommandAck] = {}
        self._serial = first_serial - 1
        self._complete = False
        self.link = Linked()
        self.lost: Lost | None = None
        self.refused: frozenset[UUID] = frozenset()
        """Commands refused by an earlier process that could not write them down."""
        if known is not None:
            self.recall(known)

    @property
    def entries(self) -> list[Entry]:
        """Return every command known, oldest first."""
        return list(self._entries.values())

    @property
    def unsent(self) -> list[tuple[int, CommandAck]]:
        """Return serials and acks that were given and not sent, in their order."""
        return list(self._unsent.items())

    def find(self, command_id: UUID) -> Entry | None:
        """Return what is known of a command."""
        return self._entries.get(command_id)

    def give(self, entry: Entry) -> int:
        """Write down an ack; return its serial."""
        self._serial += 1
        command_id = entry.command.command_id
        self._entries[command_id] = entry
        self._tell(AckGiven(self._serial, entry))
        if self._keep is not None:
            self._serials[command_id] = self._serial
            self._unsent[self._serial] = entry.ack
            if len(self._unsent) > UNSENT_LENGTH:
                self.sent(next(iter(self._unsent)))
        while len(self._entries) > JOURNAL_LENGTH:
            self._forget_one(command_id)
        return self._serial

    def sent(self, serial: int) -> None:
        """Write down that the broker has the ack of this serial."""
        self._unsent.pop(serial, None)
        self._tell(AckSent(serial))

    def connected(self) -> None:
        """Count a connection."""
        self.link = replace(self.link, connections=self.link.connections + 1)
        self._tell(self.link)

    def disconnected(self, now: datetime) -> None:
        """Note the end of a connection."""
        self.link = replace(self.link, last_disconnect_at=now)
        self._tell(self.link)

    def mistrust(self, before: datetime) -> None:
        """Mistrust commands issued up to this moment, because what was known of them is lost."""
        if self.lost is None or self.lost.at < before:
            self.lost = Lost(before)
            self._tell(self.lost)

    def recall(self, known: JournalContents) -> None:
        """Add what outlived the process, once; what this process knows itself is newer."""
        if self._complete:
            return
        self._complete = True
        older = {
            entry.command.command_id: (serial, entry)
            for serial, entry in known.commands.items()
            if entry.command.command_id not in self._entries
        }
        ours = self._entries
        self._entries = OrderedDict((one, entry) for one, (_, entry) in older.items())
        self._entries.update(ours)
        self._serials.update((one, serial) for one, (serial, _) in older.items())
        self._unsent = {**known.unsent, **self._unsent}
        self._serial = max(self._serial, *known.commands, *known.unsent, 0)
        self.link = Linked(
            self.link.connections + known.link.connections,
            self.link.last_disconnect_at or known.link.last_disconnect_at,
        )
        if known.lost is not None and (self.lost is None or self.lost.at < known.lost.at):
            self.lost = known.lost

    def everything(self) -> list[Record]:
        """Return records that say all that is known, for a file that knows nothing."""
        given = {self._serials[one]: entry for one, entry in self._entries.items()}
        for serial, ack in self._unsent.items():
            entry = self._entries.get(ack.command_id)
            if entry is not None:
                given.setdefault(serial, Entry(entry.command, ack))
        records: list[Record] = [self.link, *([] if self.lost is None else [self.lost])]
        for serial, entry in sorted(given.items(), key=lambda one: one[0]):
            records.append(AckGiven(serial, entry))
            if serial not in self._unsent:
                records.append(AckSent(serial))
        return records

    def _forget_one(self, newest: UUID) -> None:
        """Forget the command that is least likely to come again: one that is over and expires first."""
        over = (entry.command for entry in self._entries.values() if entry.is_final)
        others = (command for command in over if command.command_id != newest)
        first = min(others, key=lambda command: command.expires_at, default=None)
        forgotten = next(iter(self._entries)) if first is None else first.command_id
        del self._entries[forgotten]
        self._serials.pop(forgotten, None)
        self._tell(Forgotten(forgotten))

    def _tell(self, record: Record) -> None:
        if self._keep is not None:
            self._keep(record)
