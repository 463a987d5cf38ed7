"""The same command for many clients: looked at beforehand, written down whole, worked off, and stopped.

What is asked for is in the database before the first client is looked at, so that a daemon that ends in
between goes on with the rest (``step``). Commands are sent by turns (``services.releasing``).
"""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.bulk import OUT_OF_REACH, BulkAction, BulkOutcome, BulkProgress
from infoscreen.domain.clients import Condition
from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import (
    AT_THE_OUTLET,
    Action,
    ClientCommand,
    CommandStep,
    Source,
    ended_by,
)
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import CommandInFlight, Conflict, InvalidInput, LockedOut, NotFound
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.history import Note
from infoscreen.services.commanding import Commanding
from infoscreen.services.orders import CheckedOrder, Decided, lacks, stored_ones
from infoscreen.storage import audit, bulk, client_lists, clients, command_history, commands, waiting
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.clients import Target
from infoscreen.storage.command_history import HistoryLine
from infoscreen.storage.engine import Store

log = logging.getLogger(__name__)

MOST_IN_A_BATCH = 5_000
ROWS_PER_TRANSACTION = 250
"""A bulk action is cut so that heartbeats get their turn in between."""


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of one client's part of a bulk action."""

    client_uuid: str
    outcome: BulkOutcome
    command_id: str | None = None
    detail: Fact[ErrorCode] | None = None


@dataclass(frozen=True, slots=True)
class CommandBatch:
    """What became of a bulk action when it was requested; ``counts`` is by outcome."""

    batch_id: str
    results: list[BulkResult]
    counts: dict[str, int] = field(default_factory=dict)


class Bulk:
    """Bulk actions, from the look beforehand to the stop."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        commanding: Commanding,
        *,
        expiry: timedelta,
        per_second: float,
    ) -> None:
        """``expiry`` is that of a command once its turn has come; so many are sent ``per_second``."""
        self._store = store
        self._clock = clock
        self._commanding = commanding
        self._expiry = expiry
        self._per_second = per_second
        self._working = asyncio.Lock()
        self.begun = asyncio.Event()
        """Set when something was queued that is sent by turns."""

    async def preview(
        self, targets: Sequence[str] | ClientQuery, action: Action, *, when_back: bool = False
    ) -> dict[str, BulkOutcome]:
        """Return what would become of each client now, in the order in which they would take their turns.

        Raises:
            InvalidInput: more than 5,000 clients.
            Conflict: the action is possible for one client at a time only.
        """
        _require_for_many(action)
        outcomes: dict[str, BulkOutcome] = {}
        uuids = await self._targets(targets)
        now = self._clock.now()
        for start in range(0, len(uuids), ROWS_PER_TRANSACTION):
            chunk = uuids[start : start + ROWS_PER_TRANSACTION]
            async with self._store.read() as connection:
                known = await clients.targets(connection, chunk)
                occupied, locked = await self._commanding.hindrances(connection, chunk, action, now)
            for one in chunk:
                client = known.get(one)
                refusal = _unfit(client, action, when_back=when_back)
                if refusal is None and one in occupied:
                    refusal = BulkOutcome.COMMAND_IN_FLIGHT
                waits = when_back and client is not None and client.is_away(now)
                if refusal is None and one in locked and not waits:
                    refusal = BulkOutcome.LOCKED_OUT
                outcomes[one] = refusal or BulkOutcome.QUEUED
        return outcomes

    async def request(
        self,
        targets: Sequence[str] | ClientQuery,
        action: Action,
        *,
        source: Source,
        actor: Actor,
        reason: str | None = None,
        when_back: bool = False,
        expires_in: timedelta | None = None,
    ) -> CommandBatch:
        """Queue the same command for many clients, each on its own merits; never all or nothing.

        ``when_back`` queues it also for clients that are silent, for which it waits up to ``expires_in``.

        Raises:
            InvalidInput: more than 5,000 clients, or the reason or the expiry is out of bounds.
            Conflict: the action is possible for one client at a time only.
        """
        _require_for_many(action)
        checked = self._commanding.checked(
            action, source, actor, reason, expires_in if when_back else None, False, when_back=when_back
        )
        uuids = await self._targets(targets)
        one = BulkAction(
            batch_id=str(uuid.uuid4()),
            action=action,
            source=source,
            reason=reason,
            query=_told(targets) if isinstance(targets, ClientQuery) else None,
            expires_in=checked.expires_in.total_seconds() if when_back else None,
            actor_id=actor.user_id,
            actor=actor.name,
            at=self._clock.now(),
            clients=len(uuids),
        )
        detail = {"batch_id": one.batch_id, "reason": reason, "filter": one.query, "clients": len(uuids)}
        # Held from the beginning: otherwise ``step`` might take it up first, and the results with it.
        async with self._working:
            async with self._store.write() as connection:
                await bulk.begin(connection, one, uuids)
                await audit.record(connection, one.at, actor, f"command.{action}", "many", detail)
            log.info(
                "bulk request of commands",
                extra={
                    "event": "bulk_requested",
                    "batch_id": one.batch_id,
                    "action": action,
                    "actor": actor.name,
                },
            )
            results = await self._work_off(one)
        counts = dict(Counter(result.outcome.value for result in results))
        return CommandBatch(one.batch_id, results, counts)

    async def step(self) -> int:
        """Go on with what an ended daemon or a database in trouble has left; return how many clients."""
        if self._working.locked():
            return 0
        async with self._store.read() as connection:
            left = await bulk.with_pending(connection)
            found = [await bulk.get(connection, batch_id) for batch_id in left]
        async with self._working:
            return sum([len(await self._work_off(one)) for one in found if one is not None])

    async def stop(self, batch_id: str, actor: Actor) -> int:
        """Withdraw what was not sent yet; return for how many clients. Doing it twice is fine.

        Raises:
            NotFound: there is no such bulk action.
        """
        async with self._store.write() as connection:
            one = await bulk.for_change(connection, batch_id)
            if one is None:
                raise NotFound(ErrorCode.NO_BULK_ACTION, id=batch_id)
            now = self._clock.now()
            stopped = 0
            if one.stopped_at is None:
                stopped = await bulk.stop(connection, batch_id, now, actor.name)
                await audit.record(connection, now, actor, "bulk.stop", f"bulk/{batch_id}")
        while taken := await self._withdraw_some(batch_id, actor):
            stopped += taken
        return stopped

    async def progress(self, batch_id: str) -> tuple[BulkAction, BulkProgress]:
        """Return a bulk action and how far it is; raise ``NotFound``."""
        async with self._store.read() as connection:
            one = await bulk.get(connection, batch_id)
            if one is None:
                raise NotFound(ErrorCode.NO_BULK_ACTION, id=batch_id)
            return one, (await bulk.progress(connection, [batch_id]))[batch_id]

    async def _withdraw_some(self, batch_id: str, actor: Actor) -> int:
        async with self._store.write() as connection:
            ids = await bulk.queued(connection, batch_id, ROWS_PER_TRANSACTION)
            held = await commands.for_change(connection, ids)
            now = self._clock.now()
            cancelled: list[ClientCommand] = []
            lines: list[HistoryLine] = []
            for command in held.values():
                after = ended_by(command, CommandStep.CANCEL, now)
                if after is None:
                    continue
                cancelled.append(after)
                lines.append(HistoryLine.of(command, after, now, actor.name, Fact(Note.BULK_STOPPED)))
            await commands.save(connection, held, cancelled)
            await command_history.record(connection, lines)
        self._commanding.tell(cancelled)
        return len(cancelled)

    async def _targets(self, targets: Sequence[str] | ClientQuery) -> list[str]:
        if isinstance(targets, ClientQuery):
            async with self._store.read() as connection:
                found = await client_lists.matching_uuids(connection, targets, MOST_IN_A_BATCH + 1)
        else:
            found = list(dict.fromkeys(targets))
        if len(found) > MOST_IN_A_BATCH:
            raise InvalidInput.of("client_uuids", FieldFault.TOO_MANY_ITEMS, most=MOST_IN_A_BATCH)
        return found

    async def _work_off(self, one: BulkAction) -> list[BulkResult]:
        results: list[BulkResult] = []
        while some := await self._work_off_some(one):
            results += some
        return results

    async def _work_off_some(self, one: BulkAction) -> list[BulkResult]:
        """Look at the next clients, and queue what is not refused; return none when all are looked at."""
        when_back = one.expires_in is not None
        async with self._store.write() as connection:
            held = await bulk.for_change(connection, one.batch_id)
            if held is None or held.stopped_at is not None:
                return []
            pending = await bulk.pending(connection, one.batch_id, ROWS_PER_TRANSACTION)
            known = await clients.keep_targets(connection, pending)
            now = self._clock.now()
            unfit = {who: _unfit(known.get(who), one.action, when_back=when_back) for who in pending}
            queue = await waiting.count_in_turn(connection)
            order = self._order(one, queue + len(pending))
            wait = timedelta(seconds=one.expires_in or 0)
            away = replace(order, in_turn=False, when_back=True, expires_in=wait)
            fit = {
                who: away if when_back and known[who].is_away(now) else order
                for who in pending
                if unfit[who] is None
            }
            decided = await self._commanding.decide(connection, fit, known, now)
            results = {who: _result(who, unfit[who], decided.get(who)) for who in pending}
            settled = {pending[who]: (each.outcome, each.command_id) for who, each in results.items()}
            await bulk.settle(connection, one.batch_id, settled)
        self._commanding.tell(stored_ones(decided))
        self.begun.set()
        return list(results.values())

    def _order(self, one: BulkAction, position: int) -> CheckedOrder:
        """Return the order for clients that are there; it waits twice as long as its turn should take."""
        return CheckedOrder(
            action=one.action,
            source=Source(one.source),
            actor=Actor(one.actor_id, one.actor, Role.OPERATOR, "daemon"),
            reason=one.reason,
            expires_in=self._expiry + timedelta(seconds=2 * position / self._per_second),
            batch_id=one.batch_id,
            in_turn=True,
        )


def _require_for_many(action: Action) -> None:
    if action in AT_THE_OUTLET:
        raise Conflict(ErrorCode.ONE_CLIENT_ONLY, action=action)


def _told(query: ClientQuery) -> dict[str, Any]:
    """Return what clients were filtered by, as JSON."""
    told: dict[str, Any] = {"status": sorted(query.status)} if query.status else {}
    for name, value in asdict(query).items():
        if value and name not in ("sort", "status"):
            told[name] = value.isoformat() if isinstance(value, datetime) else value
    return told


def _unfit(client: Target | None, action: Action, *, when_back: bool) -> BulkOutcome | None:
    """Return why a client is left out, whatever else is under way there; None if it is not."""
    if client is None:
        return BulkOutcome.UNKNOWN_CLIENT
    if client.status is Condition.MAINTENANCE:
        return BulkOutcome.MAINTENANCE
    if not when_back and client.status in OUT_OF_REACH:
        return OUT_OF_REACH[client.status]
    return BulkOutcome.NOT_CAPABLE if lacks(client, action) else None


def _result(client_uuid: str, unfit: BulkOutcome | None, decided: Decided | None) -> BulkResult:
    if unfit is not None:
        return BulkResult(client_uuid, unfit)
    match decided:
        case LockedOut():
            return BulkResult(client_uuid, BulkOutcome.LOCKED_OUT, decided.command.command_id)
        case ClientCommand():
            return BulkResult(client_uuid, BulkOutcome.QUEUED, decided.command_id)
        case CommandInFlight():
            in_flight = decided.command.command_id
            return BulkResult(client_uuid, BulkOutcome.COMMAND_IN_FLIGHT, in_flight, decided.fact)
        case None:
            requested = Fact(ErrorCode.REQUESTED_AT_ONCE)
            return BulkResult(client_uuid, BulkOutcome.COMMAND_IN_FLIGHT, None, requested)
