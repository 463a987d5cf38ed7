"""Reads the journal that agents wrote before it became a database: one line of JSON a record, with a CRC.

Only for taking it over at the first start of a newer agent.
"""

import json
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from infoscreen.agent.protocol.journal import AckGiven, AckSent, Entry, Linked, Record, StateAtStart
from infoscreen.domain.errors import BadMessage
from infoscreen.wire.messages import CommandAck, decode_command


def decode_records(data: bytes) -> Iterator[Record]:
    """Yield the records of all whole lines; a power loss left others."""
    for line in data.split(b"\n"):
        checksum, _, text = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            continue
        try:
            yield _record(json.loads(text))
        except (ValueError, LookupError, TypeError, BadMessage):
            continue


def _record(fields: dict[str, Any]) -> Record:
    if "given" in fields:
        before = None
        if "boot_id" in fields:
            before = StateAtStart(str(fields["boot_id"]), _time(fields["app_started_at"]))
        command = decode_command(json.dumps(fields["command"]).encode())
        ack = CommandAck.model_validate_json(json.dumps(fields["ack"]))
        return AckGiven(int(fields["given"]), Entry(command, ack, before))
    if "sent" in fields:
        return AckSent(int(fields["sent"]))
    return Linked(int(fields["connections"]), _time(fields["last_disconnect_at"]))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
