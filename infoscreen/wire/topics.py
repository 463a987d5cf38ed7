"""Topics of the wire contract v1.

How they are built and taken apart. The only place that knows their spelling.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from infoscreen.domain.error_codes import MessageDefect
from infoscreen.domain.errors import BadMessage
from infoscreen.domain.visible import visible

ROOT = "infoscreen"
CHECK_PREFIX = "infoscreen-check-"
"""How accounts begin with which the broker's rules are tried; no device's name does."""


class TopicKind(StrEnum):
    """What a device topic carries."""

    DISCOVERY = "discovery"
    HEARTBEAT = "heartbeat"
    HEALTH = "health"
    SERVICE_FAILED = "service_failed"
    PRESENCE = "presence"
    LOG = "logs"
    SCREENSHOT = "screenshot"
    ACK = "ack"


class LogLevel(StrEnum):
    """Levels a device may log at; part of the topic."""

    ERROR = "error"
    WARN = "warn"
    INFO = "info"
    DEBUG = "debug"


@dataclass(frozen=True, slots=True)
class DeviceTopic:
    """A device topic taken apart; ``uuid`` is canonical text, ``level`` is set for logs only."""

    uuid: str
    kind: TopicKind
    level: LogLevel | None = None


STATE_FILTERS = (
    f"{ROOT}/+/discovery",
    f"{ROOT}/+/heartbeat",
    f"{ROOT}/+/health",
    f"{ROOT}/+/service_failed",
    f"{ROOT}/+/presence",
    f"{ROOT}/+/commands/ack",
    f"{ROOT}/+/command/ack",
)
"""State and events: what rules are decided on."""

BULK_FILTERS = (f"{ROOT}/+/logs/+", f"{ROOT}/+/screenshot")
"""What is large or frequent and decides nothing; it has a session of its own at the broker."""

DEVICE_FILTERS = STATE_FILTERS + BULK_FILTERS
"""What the daemon subscribes to: each device topic by name, never ``infoscreen/#``."""

COMMAND_FILTERS = (f"{ROOT}/+/commands", f"{ROOT}/+/command")
"""Where a retained command would lie, which must never be."""

_TAILS: dict[str, tuple[TopicKind, LogLevel | None]] = {
    "discovery": (TopicKind.DISCOVERY, None),
    "heartbeat": (TopicKind.HEARTBEAT, None),
    "health": (TopicKind.HEALTH, None),
    "service_failed": (TopicKind.SERVICE_FAILED, None),
    "presence": (TopicKind.PRESENCE, None),
    "screenshot": (TopicKind.SCREENSHOT, None),
    "commands/ack": (TopicKind.ACK, None),
    "command/ack": (TopicKind.ACK, None),
    **{f"logs/{level}": (TopicKind.LOG, level) for level in LogLevel},
}

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@lru_cache(maxsize=20_000)
def parse(topic: str) -> DeviceTopic:
    """Take a device topic apart.

    Raise ``BadMessage`` for any other, and for a UUID not in lower case with hyphens.
    """
    root, _, rest = topic.partition("/")
    who, _, tail = rest.partition("/")
    found = _TAILS.get(tail)
    if root != ROOT or found is None:
        raise BadMessage(MessageDefect.UNKNOWN_TOPIC, topic=visible(topic[:200], one_line=True))
    if _UUID.fullmatch(who) is None:
        raise BadMessage(MessageDefect.BAD_UUID, given=visible(who[:60], one_line=True))
    return DeviceTopic(who, *found)


def sender(topic: str) -> str | None:
    """Return the UUID of the device that a topic belongs to, also of one that the contract does not know."""
    root, _, rest = topic.partition("/")
    who = rest.partition("/")[0]
    return who if root == ROOT and _UUID.fullmatch(who) is not None else None


def is_of_check(topic: str) -> bool:
    """Tell whether a topic belongs to `infoscreen broker check`, which plays between accounts of its own."""
    return topic.startswith(f"{ROOT}/{CHECK_PREFIX}")


def heartbeat(uuid: str) -> str:
    """Return the topic of a device's heartbeats."""
    return f"{ROOT}/{uuid}/heartbeat"


def health(uuid: str) -> str:
    """Return the topic of a device's health."""
    return f"{ROOT}/{uuid}/health"


def discovery(uuid: str) -> str:
    """Return the topic on which a device introduces itself."""
    return f"{ROOT}/{uuid}/discovery"


def service_failed(uuid: str) -> str:
    """Return the topic of a device's retained report of a failed service."""
    return f"{ROOT}/{uuid}/service_failed"


def presence(uuid: str) -> str:
    """Return the topic of a device's presence and last will."""
    return f"{ROOT}/{uuid}/presence"


def logs(uuid: str, level: LogLevel) -> str:
    """Return the topic of a device's log lines of one level."""
    return f"{ROOT}/{uuid}/logs/{level}"


def screenshot(uuid: str) -> str:
    """Return the topic of a device's screenshots."""
    return f"{ROOT}/{uuid}/screenshot"


def commands(uuid: str) -> str:
    """Return the topic on which a device takes commands."""
    return f"{ROOT}/{uuid}/commands"


def command_alias(uuid: str) -> str:
    """Return the older name of the command topic."""
    return f"{ROOT}/{uuid}/command"


def acks(uuid: str) -> tuple[str, str]:
    """Return both topics on which a device sends each ack."""
    return f"{ROOT}/{uuid}/commands/ack", f"{ROOT}/{uuid}/command/ack"


def all_of(uuid: str) -> list[str]:
    """Return every topic that a device publishes on."""
    return [f"{ROOT}/{uuid}/{tail}" for tail in _TAILS]
