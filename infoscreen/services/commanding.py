"""Requesting and withdrawing commands. A request only writes a row; sending it is the outbox's business."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.commands import (
    AT_THE_OUTLET,
    DISRUPTIVE,
    Action,
    ClientCommand,
    CommandStatus,
    CommandStep,
    Source,
    Timeouts,
    ended_by,
)
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import (
    CommandInFlight,
    Conflict,
    Forbidden,
    InvalidInput,
    LockedOut,
    NotFound,
    NotQueued,
    Refused,
)
from infoscreen.domain.events import CommandChanged
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.lockout import LockoutPolicy, locked_until
from infoscreen.services.bus import Bus
from infoscreen.services.orders import (
    Because,
    CheckedOrder,
    Decided,
    WantedCommand,
    first_line,
    lacks,
    new_command,
    stored_ones,
    waiting_of,
)
from infoscreen.services.ports import Measures
from infoscreen.services.power.permission import CycleLimits, permission
from infoscreen.storage import audit, clients, command_history, commands
from infoscreen.storage import waiting as queue
from infoscreen.storage.clients import Target
from infoscreen.storage.command_history import HistoryLine
from infoscreen.storage.engine import Connection, Store
from infoscreen.wire.messages import MAX_REASON_CHARACTERS

log = logging.getLogger(__name__)

LONGEST_EXPIRY = timedelta(days=1)
USUAL_WAIT, LONGEST_WAIT = timedelta(days=1), timedelta(days=7)
"""How long a command waits for a client that is silent."""

ROWS_PER_TRANSACTION = 250
"""A bulk request is cut so that heartbeats get their turn in between."""


@dataclass(frozen=True, slots=True)
class CommandPolicy:
    """How long commands live, and how many are too many."""

    expiry: timedelta
    timeouts: Timeouts
    lockout: LockoutPolicy
    cycles: CycleLimits = field(default_factory=CycleLimits)


class Commanding:
    """The one way to a command.

    For operators, programs and the recovery, under one life cycle and lockout.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        bus: Bus,
        policy: CommandPolicy,
        measures: Measures,
        wake: asyncio.Event,
    ) -> None:
        """``wake`` is set when the outbox has something new to send."""
        self._store = store
        self._clock = clock
        self._bus = bus
        self._policy = policy
        self._measures = measures
        self._wake = wake

    async def request(
        self,
        client_uuid: str,
        action: Action,
        *,
        source: Source,
        actor: Actor,
        reason: str | None = None,
        because: Because | None = None,
        expires_in: timedelta | None = None,
        force: bool = False,
        when_back: bool = False,
        command_id: str | None = None,
    ) -> ClientCommand:
        """Queue a command and return it as stored.

        Args:
            client_uuid: the client, canonical text.
            action: what it shall do.
            source: operator, program or recovery.
            actor: who asks.
            reason: a person's, up to 2,000 characters; the device is told as well.
            because: the recovery's, in place of a reason; the device is told its code.
            expires_in: how long it may take until the device has begun; the policy's expiry by default. With
                ``when_back`` also how long the command waits for its client, up to 7 days.
            force: override the lockout; admins only, and only with a reason.
            when_back: if the client is silent, do not send the command before it is heard again.
            command_id: what the command is to be called, for who has written that down before and may ask
                twice: the second time returns what the first one stored. A new one by default.

        Raises:
            NotFound: there is no such client.
            NoOutlet, OutletProtected, OutletShared, OutletInUse, ClientStarting, TooManyCycles: its power may
                not be cycled; ``force`` overrides the rules about sharing, starting and the day's limit.
            CommandInFlight: it has an unfinished disruptive command, which the error names.
            Conflict: it had one at the same moment.
            LockedOut: too many disruptive commands lately; a ``blocked_safety`` row was written.
            Forbidden: ``force`` or a power cycle without being an admin.
            InvalidInput: the reason or expiry is out of bounds, or the client lacks the capability.
        """
        order = replace(
            self.checked(action, source, actor, reason, expires_in, force, when_back=when_back),
            because=because,
            command_id=command_id,
        )
        outcome = (await self._request({client_uuid: order}))[client_uuid]
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    async def request_each(
        self,
        wanted: Sequence[WantedCommand],
        *,
        source: Source,
        actor: Actor,
        expires_in: timedelta | None = None,
    ) -> dict[str, ClientCommand | Refused]:
        """Queue different commands, at most one for a client, each as ``request`` does with a command id.

        Return by client the command as stored, or the refusal that ``request`` would raise.
        """
        outcome: dict[str, ClientCommand | Refused] = {}
        for start in range(0, len(wanted), ROWS_PER_TRANSACTION):
            orders = {
                one.client_uuid: replace(
                    self.checked(one.action, source, actor, None, expires_in, False),
                    because=one.because,
                    command_id=one.command_id,
                )
                for one in wanted[start : start + ROWS_PER_TRANSACTION]
            }
            outcome |= await self._request(orders)
        return outcome

    async def _request(self, orders: Mapping[str, CheckedOrder]) -> dict[str, ClientCommand | Refused]:
        """Queue one command for each client, and record who asked; return what became of each, by client."""
        named = {order.command_id: one for one, order in orders.items() if order.command_id is not None}
        async with self._store.write() as connection:
            stored = await commands.get_many(connection, named)
            outcome: dict[str, ClientCommand | Refused] = {named[key]: one for key, one in stored.items()}
            left = {one: order for one, order in orders.items() if one not in outcome}
            known = await clients.keep_targets(connection, left)
            for one, order in left.items():
                if one not in known:
                    outcome[one] = NotFound(ErrorCode.NO_CLIENT, uuid=one)
                elif lacks(known[one], order.action):
                    outcome[one] = InvalidInput.of("action", FieldFault.NOT_CAPABLE, action=order.action)
            fit = {one: order for one, order in left.items() if one not in outcome}
            now = self._clock.now()
            allowed = await permission(connection, fit, now, self._policy.cycles)
            outcome |= allowed.refused
            fit = {
                one: replace(order, overriding=one in allowed.overridden)
                for one, order in fit.items()
                if one not in outcome
            }
            decided = await self.decide(connection, fit, known, now)
            # The index refused it for another one, which has ended since.
            outcome |= {one: Conflict(ErrorCode.REQUESTED_AT_ONCE) for one in fit.keys() - decided.keys()}
            acts = [
                audit.AuditedAct(
                    fit[one.client_uuid].actor,
                    f"command.{one.action}",
                    f"client/{one.client_uuid}",
                    {
                        "command_id": one.command_id,
                        "status": one.status,
                        "reason": one.reason,
                        "forced": one.forced,
                    },
                )
                for one in stored_ones(decided)
            ]
            await audit.record_all(connection, now, acts)
        self.tell(stored_ones(decided))
        return outcome | decided

    async def hindrances(
        self, connection: Connection, uuids: Sequence[str], action: Action, now: datetime
    ) -> tuple[set[str], set[str]]:
        """Return which clients are occupied, and which are locked, as far as it stands in an action's way."""
        if action not in DISRUPTIVE:
            return set(), set()
        occupied = await self.occupied(connection, uuids, waiting=True)
        locks = await self.locks(connection, uuids, now)
        return set(occupied), {one for one, until in locks.items() if until is not None}

    async def cancel(self, command_id: str, actor: Actor) -> ClientCommand:
        """Withdraw a command that has not been handed to the broker yet.

        Raises:
            NotFound: there is no such command.
            NotQueued: it may be on its way already, or is over; the error has its current status.
        """
        async with self._store.write() as connection:
            held = await commands.for_change(connection, [command_id])
            command = held.get(command_id)
            if command is None:
                raise NotFound(ErrorCode.NO_COMMAND, id=command_id)
            now = self._clock.now()
            cancelled = ended_by(command, CommandStep.CANCEL, now)
            if cancelled is None:
                raise NotQueued(command)
            await commands.save(connection, held, [cancelled])
            line = HistoryLine.of(command, cancelled, now, actor.name)
            await command_history.record(connection, [line])
            await audit.record(connection, now, actor, "command.cancel", f"command/{command_id}")
        self.tell([cancelled])
        return cancelled

    async def why_not(self, client_uuid: str, action: Action, actor: Actor) -> Refused | None:
        """Return why a power cycle would be refused now, as far as its outlet goes."""
        order = self.checked(action, Source.OPERATOR, actor, None, None, False)
        async with self._store.read() as connection:
            now = self._clock.now()
            told = await permission(connection, {client_uuid: order}, now, self._policy.cycles)
        return told.refused.get(client_uuid)

    async def lockout(self, client_uuid: str) -> datetime | None:
        """Return when the client's lockout ends, or None while it is not locked."""
        return (await self.lockouts([client_uuid])).get(client_uuid)

    async def lockouts(self, client_uuids: Collection[str]) -> dict[str, datetime]:
        """Return when the lockouts of those clients end that are locked."""
        now = self._clock.now()
        async with self._store.read() as connection:
            since = now - self._policy.lockout.window
            published = await commands.published_since(connection, client_uuids, since)
        ends = {uuid: locked_until(times, self._policy.lockout, now) for uuid, times in published.items()}
        return {uuid: end for uuid, end in ends.items() if end is not None}

    def checked(
        self,
        action: Action,
        source: Source,
        actor: Actor,
        reason: str | None,
        expires_in: timedelta | None,
        force: bool,
        *,
        when_back: bool = False,
    ) -> CheckedOrder:
        """Return what is asked for; raise as ``request`` does for what no client decides."""
        if reason is not None and len(reason) > MAX_REASON_CHARACTERS:
            raise InvalidInput.of("reason", FieldFault.TOO_LONG, most=MAX_REASON_CHARACTERS)
        when_back = when_back and action not in AT_THE_OUTLET  # nobody has to be there for it
        usual = USUAL_WAIT if when_back else self._policy.expiry
        expiry = usual if expires_in is None else expires_in
        if expiry <= timedelta(0):
            raise InvalidInput.of("expires_in", FieldFault.NOT_MORE, than="0")
        longest = LONGEST_WAIT if when_back else LONGEST_EXPIRY
        if expiry > longest:
            raise InvalidInput.of("expires_in", FieldFault.TOO_LARGE, most=f"{longest.total_seconds():g}")
        if force and not actor.role.may(Role.ADMIN):
            raise Forbidden(ErrorCode.FORCE_NEEDS_ADMIN)
        if force and not (reason or "").strip():
            raise InvalidInput.of("reason", FieldFault.REASON_NEEDED_TO_FORCE)
        return CheckedOrder(
            action=action,
            source=source,
            actor=actor,
            reason=reason,
            expires_in=expiry,
            force=force,
            when_back=when_back,
        )

    async def decide(
        self,
        connection: Connection,
        orders: Mapping[str, CheckedOrder],
        known: Mapping[str, Target],
        now: datetime,
    ) -> dict[str, Decided]:
        """Write the row of each client's command and its history.

        Queued, or blocked by the lockout, or none if one is in flight. ``known`` are the clients of all
        orders, kept in this transaction.
        """
        waits = {one: waiting_of(order, known[one], now) for one, order in orders.items()}
        # A client that is there after all gets a command with the usual life time.
        orders = {
            one: replace(order, expires_in=self._policy.expiry)
            if order.when_back and waits[one] is None
            else order
            for one, order in orders.items()
        }
        disruptive = [one for one, order in orders.items() if order.action in DISRUPTIVE]
        flying = await self.occupied(connection, [one for one in disruptive if waits[one] is None])
        flying |= await self.occupied(connection, [one for one in disruptive if waits[one]], waiting=True)
        locks = await self.locks(connection, disruptive, now)
        # In one order, so that two transactions cannot wait for each other at the index.
        fresh = [
            new_command(orders[one], one, now, waits_for=waits[one], locked=locks.get(one) is not None)
            for one in sorted(orders.keys() - flying.keys())
        ]
        created = await commands.create(connection, fresh)
        if len(created) < len(fresh):
            # Another process or transaction was faster; the index has told us, now see who it was.
            flying |= await commands.in_flight(connection, disruptive)
        stored = [command for command in fresh if command.command_id in created]
        lines = [first_line(command, orders[command.client_uuid].actor) for command in stored]
        await command_history.record(connection, lines)
        outcome: dict[str, Decided] = {}
        for command in stored:
            blocked = command.status is CommandStatus.BLOCKED_SAFETY
            one = command.client_uuid
            outcome[one] = LockedOut(locks[one], command) if blocked else command
        for one, command in flying.items():
            outcome.setdefault(one, CommandInFlight(command))
        return outcome

    async def occupied(
        self, connection: Connection, uuids: Collection[str], *, waiting: bool = False
    ) -> dict[str, ClientCommand]:
        """Return what each client is occupied with, if ``waiting`` also with what waits for it."""
        found = await queue.disruptive(connection, uuids) if waiting else {}
        return found | await commands.in_flight(connection, uuids)

    async def locks(
        self, connection: Connection, uuids: Sequence[str], now: datetime
    ) -> dict[str, datetime | None]:
        """Return when lockouts end of clients that had disruptive commands lately; None: not locked."""
        since = now - self._policy.lockout.window
        published = await commands.published_since(connection, uuids, since)
        return {one: locked_until(times, self._policy.lockout, now) for one, times in published.items()}

    def tell(self, changed: Sequence[ClientCommand]) -> None:
        """Count and announce commands that a committed transaction has written, and wake the outbox."""
        for command in changed:
            self._measures.command(command.action, command.status)
        self._bus.publish(*(CommandChanged(command.command_id, command.client_uuid) for command in changed))
        self._wake.set()
