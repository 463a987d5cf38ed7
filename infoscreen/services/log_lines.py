"""From a device's log line to a line of its client's timeline; what is too long is cut, and marked as cut."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from infoscreen.domain.codes import Fact
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.history import Happening
from infoscreen.services.quota import Metered, Overrun
from infoscreen.storage.timeline import NewEntry
from infoscreen.wire.messages import LogLine
from infoscreen.wire.topics import LogLevel

_DROPPED = {
    Metered.LOGS: Happening.LOGS_DROPPED,
    Metered.SCREENSHOTS: Happening.SCREENSHOTS_DROPPED,
    Metered.ACKS: Happening.ACKS_DROPPED,
    Metered.HAPPENINGS: Happening.HAPPENINGS_DROPPED,
    Metered.REJECTIONS: Happening.REJECTIONS_DROPPED,
}
MOST_CONTEXT_BYTES = 4 * 1024
CUT_FROM = "cut_from_bytes"
"""The key that marks a context that was cut; its value is how long it was."""


def log_entry(uuid: str, level: LogLevel | None, line: LogLine, payload: bytes, now: datetime) -> NewEntry:
    """Return a log line for the timeline; the same bytes once more are a redelivery, not another line."""
    digest_of_line = hashlib.sha256(f"{uuid}/{level}/".encode() + payload).hexdigest()
    context = None if line.context is None else shortened(line.context)
    data = {"device_time": line.timestamp.isoformat(), "logger": line.logger, "context": context}
    return NewEntry(
        client_uuid=uuid,
        at=now,
        kind=TimelineKind.LOG,
        text=line.message,
        level=level,
        data={name: value for name, value in data.items() if value is not None},
        dedupe_key=digest_of_line,
    )


def shortened(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return a context of at most ``MOST_CONTEXT_BYTES`` as JSON: its first members, the last one cut."""
    whole = _size(context)
    if whole <= MOST_CONTEXT_BYTES:
        return dict(context)
    short: dict[str, Any] = {CUT_FROM: whole}
    left = MOST_CONTEXT_BYTES - _size(short)
    for name, value in context.items():
        room = left - _size({name: ""})
        if room < 0:
            break
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        needed = _size({name: value}) - _size({name: ""})
        if name == CUT_FROM:
            continue
        if needed <= room:
            short[name] = value
        else:
            short[name] = _fitting(text, room)
            break
        left = MOST_CONTEXT_BYTES - _size(short)
    return short


def _fitting(text: str, room: int) -> str:
    """Return the longest beginning that takes at most ``room`` bytes within JSON."""
    fits, too_long = 0, len(text) + 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if _size(text[:middle]) - 2 <= room:
            fits = middle
        else:
            too_long = middle
    return text[:fits]


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


def dropped_entry(overrun: Overrun, now: datetime) -> NewEntry:
    """Return the line that stands for what one device sent too much of in a minute."""
    return NewEntry(
        client_uuid=overrun.uuid,
        at=now,
        kind=TimelineKind.LOG,
        fact=Fact(_DROPPED[overrun.metered], {"dropped": overrun.dropped}),
        level=LogLevel.WARN,
    )
