"""Events published after a commit. They name what changed; subscribers read the rest from the store."""

from dataclasses import dataclass
from enum import StrEnum


class TimelineKind(StrEnum):
    """What a line of a client's timeline is about."""

    STATUS = "status"
    PRESENCE = "presence"
    REBOOT = "reboot"
    SERVICE_FAILED = "service_failed"
    SERVICE_CLEARED = "service_cleared"
    COMMAND = "command"
    LOG = "log"
    OPERATOR = "operator"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class ClientChanged:
    """A client's row changed. ``alert`` is true when it became unwell or failed a service."""

    uuid: str
    alert: bool = False


@dataclass(frozen=True, slots=True)
class ClientRemoved:
    """A client was deleted."""

    uuid: str


@dataclass(frozen=True, slots=True)
class CommandChanged:
    """A command was created or moved."""

    command_id: str
    client_uuid: str


@dataclass(frozen=True, slots=True)
class BrokerChanged:
    """The connection to the broker came or went."""

    connected: bool


@dataclass(frozen=True, slots=True)
class RecoveryChanged:
    """The recovery was paused or resumed, an incident began or ended, or what holds it back changed."""


@dataclass(frozen=True, slots=True)
class AccessChanged:
    """A session, a token or the role of a user ended or changed: who watches as that user is asked again."""

    user_id: int


Event = AccessChanged | ClientChanged | ClientRemoved | CommandChanged | BrokerChanged | RecoveryChanged
