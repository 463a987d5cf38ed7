"""Lines in: taken apart and checked, field by field, in words for those who write them."""

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

Line = Mapping[str, Any]

MOST_SECONDS = 366 * 86_400 * 100.0
YES, NO = frozenset({"true", "yes", "1", "on"}), frozenset({"false", "no", "0", "off"})


class BadLine(Exception):
    """A line that cannot be meant, in words."""


def parse(text: str) -> Line | None:
    """Return the object of one line, None for an empty one; raise ``BadLine``."""
    stripped = text.strip()
    if not stripped:
        return None
    try:
        line = json.loads(stripped)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not JSON: {error}") from None
    if not isinstance(line, dict):
        raise BadLine("not an object")
    return line


def payload_of(line: Line) -> bytes:
    """Return the payload of a message: text as it is, anything else as JSON, nothing as an empty one."""
    payload = line.get("payload", "")
    match payload:
        case str():
            return payload.encode(errors="surrogatepass")
        case bytes():
            return payload
        case None:
            return b""
        case _:
            return json.dumps(payload, separators=(",", ":")).encode()


def text_of(line: Line, *names: str) -> str:
    """Return the text of a field that is needed, by the first of its names that is given."""
    value = optional_text(line, *names)
    if value is None:
        raise BadLine(f"{line.get('kind')}: {names[0]} is missing")
    return value


def optional_text(line: Line, *names: str) -> str | None:
    """Return the text of a field, None if it is not given or null."""
    for name in names:
        value = line.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or not value or "\x00" in value or len(value) > 500:
            raise BadLine(f"{line.get('kind')}: {name} is {value!r}, wanted is text")
        return value
    return None


def optional_uuid(line: Line) -> str | None:
    """Return the client that a line is about, in the spelling of topics; None if it names none."""
    text = optional_text(line, "uuid", "client_uuid", "client")
    if text is None:
        return None
    try:
        return str(UUID(text))
    except ValueError:
        raise BadLine(f"{line.get('kind')}: uuid is {text!r}, wanted is a UUID") from None


def uuid_of(line: Line) -> str:
    """Return the client that a line is about; raise ``BadLine`` if it names none."""
    uuid = optional_uuid(line)
    if uuid is None:
        raise BadLine(f"{line.get('kind')}: uuid is missing")
    return uuid


def flag_of(line: Line, name: str, default: bool) -> bool:
    """Return a switch."""
    value = line.get(name, default)
    if isinstance(value, str):
        value = value.strip().lower()
        if value in YES | NO:
            return value in YES
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise BadLine(f"{line.get('kind')}: {name} is {value!r}, wanted is true or false")


def seconds_of(line: Line, *names: str) -> timedelta | None:
    """Return a length of time given in seconds, None if it is not given."""
    for name in names:
        value = line.get(name)
        if value is None:
            continue
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            raise BadLine(f"{line.get('kind')}: {name} is {value!r}, wanted are seconds") from None
        if not math.isfinite(seconds) or abs(seconds) > MOST_SECONDS:
            raise BadLine(f"{line.get('kind')}: {name} is {value!r}, which is too long")
        return timedelta(seconds=seconds)
    return None
