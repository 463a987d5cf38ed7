"""What a device must not forget: the commands it was given, and the acks that have not been sent.

Kept as records, one line each, which may be appended, repeated and cut off anywhere: a line that is not whole
counts for nothing, and what is left is what was known before it. Writes no file.
"""

import json
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from infoscreen.domain.commands import AckStatus
from infoscreen.domain.errors import BadMessage
from infoscreen.wire.messages import Command, CommandAck, decode_command

JOURNAL_LENGTH = 500
"""Commands remembered for telling duplicates; far more than any lockout window lets through."""

FINAL_ACKS = frozenset({AckStatus.COMPLETED, AckStatus.FAILED})


@dataclass(frozen=True, slots=True)
class Before:
    """How the device was when it began to carry out a command: what the end is told by."""

    boot_id: str
    app_started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A command and the ack last given for it; ``before`` from the start of its execution on."""

    command: Command
    ack: CommandAck
    before: Before | None = None

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more will be said of the command."""
        return self.ack.status in FINAL_ACKS


@dataclass(frozen=True, slots=True)
class Given:
    """An ack was given; ``serial`` is larger than any before."""

    serial: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Sent:
    """The broker has the ack of this serial, on both topics. Losing this record only repeats the ack."""

    serial: int


@dataclass(frozen=True, slots=True)
class Linked:
    """How the connection has fared since the device was set up."""

    connections: int = 0
    last_disconnect_at: datetime | None = None

    @property
    def reconnects(self) -> int:
        """Return how often a connection was made again after the first."""
        return max(self.connections - 1, 0)


Record = Given | Sent | Linked


class Journal:
    """The commands that a device knows, newest ``JOURNAL_LENGTH``.

    ``keep`` is told each record that must reach the disk before anything is sent or done because of it;
    without, nothing outlives the process.
    """

    def __init__(self, records: Iterable[Record] = (), keep: Callable[[Record], None] | None = None) -> None:
        self._keep = keep
        self._entries: OrderedDict[UUID, Entry] = OrderedDict()
        self._unsent: dict[int, Given] = {}
        self._serial = 0
        self.link = Linked()
        for record in records:
            self._apply(record)

    @property
    def entries(self) -> list[Entry]:
        """Return every command known, oldest first."""
        return list(self._entries.values())

    @property
    def unsent(self) -> list[Given]:
        """Return the acks that were given and not sent before the restart, in their order."""
        return list(self._unsent.values())

    def find(self, command_id: UUID) -> Entry | None:
        """Return what is known of a command."""
        return self._entries.get(command_id)

    def give(self, entry: Entry) -> int:
        """Write down an ack; return its serial."""
        self._serial += 1
        self._enter(entry)
        self._tell(Given(self._serial, entry))
        return self._serial

    def sent(self, serial: int) -> None:
        """Write down that the broker has the ack of this serial."""
        self._unsent.pop(serial, None)
        self._tell(Sent(serial))

    def connected(self) -> None:
        """Count a connection."""
        self.link = replace(self.link, connections=self.link.connections + 1)
        self._tell(self.link)

    def disconnected(self, now: datetime) -> None:
        """Note the end of a connection."""
        self.link = replace(self.link, last_disconnect_at=now)
        self._tell(self.link)

    def _apply(self, record: Record) -> None:
        match record:
            case Given(serial, entry):
                self._serial = max(self._serial, serial)
                self._unsent[serial] = record
                self._enter(entry)
            case Sent(serial):
                self._serial = max(self._serial, serial)
                self._unsent.pop(serial, None)
            case Linked():
                self.link = record

    def _enter(self, entry: Entry) -> None:
        self._entries[entry.command.command_id] = entry
        if len(self._entries) > JOURNAL_LENGTH:
            self._entries.popitem(last=False)

    def _tell(self, record: Record) -> None:
        if self._keep is not None:
            self._keep(record)


def compacted(records: Iterable[Record]) -> list[Record]:
    """Return the fewest records that say the same: the last ack of each command, the unsent ones, the link.

    A command that is older than the newest ``JOURNAL_LENGTH`` is forgotten, unless an ack of it is unsent.
    """
    given: dict[int, Given] = {}
    sent: set[int] = set()
    last: OrderedDict[UUID, int] = OrderedDict()
    link: list[Record] = []
    for record in records:
        match record:
            case Given(serial, entry):
                given[serial] = record
                last[entry.command.command_id] = serial
            case Sent(serial):
                sent.add(serial)
            case Linked():
                link = [record]
    known = set(list(last.values())[-JOURNAL_LENGTH:])
    kept = [given[serial] for serial in sorted(given) if serial in known or serial not in sent]
    return [*link, *kept, *(Sent(serial) for serial in sorted(sent & known))]


def encode_record(record: Record) -> bytes:
    """Return the record as a line, with its checksum.

    A line break stands before it as well, so that it never sticks to a line that was cut off.
    """
    text = json.dumps(_fields(record), separators=(",", ":")).encode()
    return b"\n%08x %s\n" % (zlib.crc32(text), text)


def decode_records(data: bytes) -> tuple[list[Record], int]:
    """Return the records of all whole lines, and how many lines were not whole or not understood."""
    records: list[Record] = []
    damaged = 0
    for line in data.split(b"\n"):
        if not line:
            continue
        record = _decode_line(line)
        if record is None:
            damaged += 1
        else:
            records.append(record)
    return records, damaged


def _decode_line(line: bytes) -> Record | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        return _record(json.loads(text))
    except (ValueError, LookupError, TypeError, BadMessage):
        return None  # whole, so written by another version


def _fields(record: Record) -> dict[str, Any]:
    match record:
        case Given(serial, entry):
            fields: dict[str, Any] = {
                "given": serial,
                "command": entry.command.model_dump(mode="json"),
                "ack": entry.ack.model_dump(mode="json"),
            }
            if entry.before is not None:
                fields["boot_id"] = entry.before.boot_id
                fields["app_started_at"] = _text(entry.before.app_started_at)
            return fields
        case Sent(serial):
            return {"sent": serial}
        case Linked(connections, last_disconnect_at):
            return {"connections": connections, "last_disconnect_at": _text(last_disconnect_at)}


def _record(fields: dict[str, Any]) -> Record:
    if "given" in fields:
        before = None
        if "boot_id" in fields:
            before = Before(str(fields["boot_id"]), _time(fields["app_started_at"]))
        command = decode_command(json.dumps(fields["command"]).encode())
        ack = CommandAck.model_validate_json(json.dumps(fields["ack"]))
        return Given(int(fields["given"]), Entry(command, ack, before))
    if "sent" in fields:
        return Sent(int(fields["sent"]))
    return Linked(int(fields["connections"]), _time(fields["last_disconnect_at"]))


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
