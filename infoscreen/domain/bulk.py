"""Commands for many clients at once: what becomes of each client's part, and how the whole is getting on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from infoscreen.domain.clients import Condition
from infoscreen.domain.commands import OPEN, Action, CommandStatus


class BulkOutcome(StrEnum):
    """What became of one client's part of a bulk request.

    ``pending`` is not looked at yet, ``stopped`` was not when somebody stopped the request. All but these and
    ``queued`` are refusals.
    """

    PENDING = "pending"
    QUEUED = "queued"
    COMMAND_IN_FLIGHT = "command_in_flight"
    LOCKED_OUT = "locked_out"
    MAINTENANCE = "maintenance"
    NEVER_CONNECTED = "never_connected"
    UNREACHABLE = "unreachable"
    SWITCHED_OFF = "switched_off"
    NOT_CAPABLE = "not_capable"
    UNKNOWN_CLIENT = "unknown_client"
    STOPPED = "stopped"


OUT_OF_REACH: Mapping[Condition, BulkOutcome] = MappingProxyType(
    {
        Condition.NEVER_SEEN: BulkOutcome.NEVER_CONNECTED,
        Condition.UNREACHABLE: BulkOutcome.UNREACHABLE,
        Condition.OFF_HOURS: BulkOutcome.UNREACHABLE,
        Condition.SHUT_DOWN: BulkOutcome.SWITCHED_OFF,
    }
)
"""Conditions in which no command would arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAction:
    """A command for many clients; ``query`` is what they were filtered by, None if they were named.

    ``expires_in`` is how many seconds commands wait for clients that are silent; None if they do not.
    """

    batch_id: str
    action: Action
    source: str
    reason: str | None
    query: Mapping[str, Any] | None
    expires_in: float | None
    actor_id: int | None
    actor: str
    at: datetime
    clients: int
    stopped_at: datetime | None = None
    stopped_by: str | None = None


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """How far a bulk action is: its clients by outcome, and the queued ones by the status of their command.

    ``waiting`` of the queued ones wait for their turn, ``absent`` for their client to come back.
    """

    outcomes: Mapping[BulkOutcome, int] = field(default_factory=dict)
    statuses: Mapping[CommandStatus, int] = field(default_factory=dict)
    waiting: int = 0
    absent: int = 0

    @property
    def unfinished(self) -> int:
        """Return for how many clients there is something left to come, other than that they come back."""
        open_ones = sum(self.statuses.get(status, 0) for status in OPEN)
        return self.outcomes.get(BulkOutcome.PENDING, 0) + open_ones - self.absent

    @property
    def stoppable(self) -> int:
        """Return for how many clients a stop would still change something."""
        return self.outcomes.get(BulkOutcome.PENDING, 0) + self.statuses.get(CommandStatus.QUEUED, 0)

    @property
    def refused(self) -> int:
        """Return for how many clients nothing was done."""
        done = (BulkOutcome.QUEUED, BulkOutcome.PENDING)
        return sum(count for outcome, count in self.outcomes.items() if outcome not in done)
