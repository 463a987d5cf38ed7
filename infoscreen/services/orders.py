"""What is asked for, and the row and first line of history that it becomes. Nothing is stored in here."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from infoscreen.domain.accounts import Actor
from infoscreen.domain.codes import Fact, Packed
from infoscreen.domain.commands import (
    CAPABILITY_NEEDED,
    Action,
    ClientCommand,
    CommandStatus,
    Source,
    Waiting,
)
from infoscreen.domain.errors import CommandInFlight, LockedOut
from infoscreen.domain.history import Note, Part
from infoscreen.storage.clients import Target
from infoscreen.storage.command_history import HistoryLine


@dataclass(frozen=True, slots=True)
class Because:
    """Why the recovery asks: its code and arguments, as its decisions have them."""

    code: str
    arguments: Packed


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedCommand:
    """One of several commands that are requested together, for different clients."""

    client_uuid: str
    action: Action
    because: Because
    command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedOrder:
    """A request for a command, checked.

    One ``in_turn`` waits for its turn; one ``when_back`` for its client, if that is silent. ``overriding``:
    without ``force`` it would be refused.
    """

    action: Action
    source: Source
    actor: Actor
    reason: str | None
    expires_in: timedelta
    because: Because | None = None
    force: bool = False
    overriding: bool = False
    batch_id: str | None = None
    in_turn: bool = False
    when_back: bool = False
    command_id: str | None = None


Decided = ClientCommand | LockedOut | CommandInFlight
"""What became of an order: queued, blocked by the lockout, or not stored since another one is in flight."""


def stored_ones(decided: Mapping[str, Decided]) -> list[ClientCommand]:
    """Return the commands that were written, blocked ones included."""
    return [
        one.command if isinstance(one, LockedOut) else one
        for one in decided.values()
        if not isinstance(one, CommandInFlight)
    ]


def waiting_of(order: CheckedOrder, client: Target, now: datetime) -> Waiting | None:
    """Return what the command of an order is to wait for."""
    if order.when_back and client.is_away(now):
        return Waiting.CLIENT
    return Waiting.TURN if order.in_turn else None


def new_command(
    order: CheckedOrder, client_uuid: str, now: datetime, *, waits_for: Waiting | None = None, locked: bool
) -> ClientCommand:
    """Return the command that an order becomes for a client: queued, or blocked if it is ``locked``.

    The lockout is looked at again when a wait ends.
    """
    blocked = locked and not order.force and waits_for is not Waiting.CLIENT
    if blocked:
        waits_for = None
    return ClientCommand(
        command_id=order.command_id or str(uuid.uuid4()),
        client_uuid=client_uuid,
        action=order.action,
        status=CommandStatus.BLOCKED_SAFETY if blocked else CommandStatus.QUEUED,
        source=order.source,
        requested_by=order.actor.user_id,
        reason=order.reason,
        reason_code=None if order.because is None else order.because.code,
        reason_arguments=None if order.because is None else order.because.arguments,
        created_at=now,
        expires_at=now + order.expires_in,
        deadline_at=now + order.expires_in,
        batch_id=order.batch_id,
        waits_for=waits_for,
        wait_until=now + order.expires_in if waits_for is Waiting.CLIENT else None,
        forced=(locked and order.force) or order.overriding,
        finished_at=now if blocked else None,
    )


def first_line(command: ClientCommand, actor: Actor) -> HistoryLine:
    """Return the line with which the history of a new command begins."""
    note = Fact(Note.REFUSED_BY_LOCKOUT) if command.status is CommandStatus.BLOCKED_SAFETY else None
    if command.forced:
        power = command.action is Action.POWER_CYCLE
        note = Fact(Note.SAFETY_OVERRIDDEN if power else Note.LOCKOUT_OVERRIDDEN)
    if command.waits_for is Waiting.TURN:
        note = Fact(Note.WAITS_FOR_TURN)
    if command.waits_for is Waiting.CLIENT:
        note = Fact(Note.WAITS_FOR_CLIENT, {"until": command.expires_at})
    by = Part.RECOVERY if command.source is Source.RECOVERY else actor.name
    return HistoryLine.of(None, command, command.created_at, by, note)


def lacks(client: Target, action: Action) -> bool:
    """Tell whether the client has not announced a capability that the action needs."""
    if action not in CAPABILITY_NEEDED:
        return False
    enough = {action.value} if action is Action.SCREENSHOT else {action.value, "cec"}
    return enough.isdisjoint(client.capabilities)
