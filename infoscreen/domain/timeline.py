"""Lines of a client's timeline as they are read: its own, and those of commands and of the recovery."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infoscreen.domain.codes import Code, Fact, Packed
from infoscreen.domain.commands import Action, CommandStatus
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.history import Part
from infoscreen.domain.recovery import Outcome, Reason, Rung, Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandMove:
    """A command has changed its status, or has got a note. ``by`` is a person if ``part`` is None."""

    command_id: str
    action: Action
    before: CommandStatus | None
    after: CommandStatus
    by: str
    part: Part | None

    def as_json(self) -> dict[str, Any]:
        """Return this for programs."""
        return {
            "command_id": self.command_id,
            "action": self.action,
            "from": self.before,
            "to": self.after,
            "by": self.by,
            "part": self.part,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade:
    """The recovery has decided something about the client."""

    verb: Verb
    reason: Reason
    arguments: Packed
    rung: Rung | None
    attempt: int | None
    until: datetime | None
    would: bool
    last_at: datetime | None
    times: int | None

    def as_json(self) -> dict[str, Any]:
        """Return this for programs."""
        return {
            "what": "decision",
            "verb": self.verb,
            "reason": self.reason,
            "arguments": self.arguments,
            "rung": self.rung,
            "attempt": self.attempt,
            "until": _zulu(self.until),
            "would": self.would,
            "last_at": _zulu(self.last_at),
            "times": self.times,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptBegun:
    """The recovery has begun an attempt."""

    rung: Rung
    command_id: str | None

    def as_json(self) -> dict[str, Any]:
        """Return this for programs."""
        return {
            "what": "attempt",
            "rung": self.rung,
            "action": self.rung.action,
            "command_id": self.command_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """What came of an attempt of the recovery."""

    rung: Rung
    command_id: str | None
    outcome: Outcome | None
    error_code: str | None

    def as_json(self) -> dict[str, Any]:
        """Return this for programs."""
        return {
            "what": "outcome",
            "rung": self.rung,
            "action": self.rung.action,
            "command_id": self.command_id,
            "outcome": self.outcome,
            "error_code": self.error_code,
        }


RecoveryLine = DecisionMade | AttemptBegun | AttemptEnded


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of a client's timeline.

    ``text`` is a log line's, in the device's words; ``level`` is set for logs. ``fact`` is what else there
    is to say. ``stored`` is JSON for programs: the context of a log line, or the arguments of the fact and
    more. ``about`` is set for lines that come from commands or from the recovery.
    """

    at: datetime
    kind: TimelineKind
    text: str | None = None
    level: str | None = None
    stored: Mapping[str, Any] | None = None
    fact: Fact[Code] | None = None
    about: CommandMove | RecoveryLine | None = None

    @property
    def data(self) -> Mapping[str, Any] | None:
        """Return what the line says, for programs."""
        return self.stored if self.about is None else self.about.as_json()


def _zulu(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
