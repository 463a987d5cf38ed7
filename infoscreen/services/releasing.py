"""Ends the waits of queued commands: by turns, or once their client is heard again.

Never more in a second than the policy says, so that a site does not go dark at once and the server of its
content is not asked by everybody. Nothing is released while the broker is away: it would leave in a burst
once the broker is back.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from infoscreen.clock import Clock, until_woken
from infoscreen.domain.clients import Condition
from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import (
    DISRUPTIVE,
    ClientCommand,
    CommandStatus,
    CommandStep,
    Waiting,
    ended_by,
    released,
)
from infoscreen.domain.history import Note, Part
from infoscreen.services.bulk import Bulk
from infoscreen.services.commanding import Commanding
from infoscreen.services.loops import every
from infoscreen.services.outbox import ConnectedPublisher
from infoscreen.storage import clients, command_history, commands, waiting
from infoscreen.storage.command_history import HistoryLine
from infoscreen.storage.engine import Connection, Store

POLL_SECONDS = 1.0
SHORTEST_SECONDS = 0.2
"""Commands are released in steps of this length; at a slower pace one by one."""

CLOSE_ENOUGH = 0.001
"""Seconds by which a timer may be early."""

LOOKED_AT = 500
"""Commands that are looked at in one step: some of them cannot be released yet."""


class Releasing:
    """Lets waiting commands go, at the pace of bulk actions."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        commanding: Commanding,
        bulk: Bulk,
        publisher: ConnectedPublisher,
        *,
        expiry: timedelta,
        per_second: float,
    ) -> None:
        """``expiry`` counts from the release."""
        self._store = store
        self._clock = clock
        self._commanding = commanding
        self._bulk = bulk
        self._publisher = publisher
        self._expiry = expiry
        self._pause = max(SHORTEST_SECONDS, 1 / per_second)
        self._at_once = max(1, int(per_second * self._pause + 1e-9))
        self._next_at = 0.0

    async def run(self) -> None:
        """Release until cancelled."""
        await every(0, self._step_then_wait, self._clock)

    async def _step_then_wait(self) -> None:
        released_some = await self.step()
        if released_some:
            await self._clock.sleep(max(0.0, self._next_at - self._clock.monotonic()))
        else:
            await until_woken(self._bulk.begun, POLL_SECONDS, self._clock)

    async def step(self) -> int:
        """Release what may go now; return how many commands that were."""
        await self._bulk.step()
        now = self._clock.monotonic()
        if not self._publisher.connected or now < self._next_at - CLOSE_ENOUGH:
            return 0
        count = await self._release()
        if count:
            # What a busy machine has missed is not made up for, or it would come as a burst.
            self._next_at = now + self._pause
        return count

    async def _release(self) -> int:
        now = self._clock.now()
        async with self._store.read() as connection:
            ids = await waiting.heard_again(connection, now, LOOKED_AT)
            ids += await waiting.next_in_turn(connection, now, self._at_once + LOOKED_AT // 10)
        if not ids:
            return 0
        async with self._store.write() as connection:
            held = await commands.for_change(connection, ids)
            ready = [held[one] for one in ids if one in held and _waits(held[one])]
            changed, lines, count = await self._let_go(connection, ready, now)
            await command_history.record(connection, lines)
        self._commanding.tell(changed)
        return count

    async def _let_go(
        self, connection: Connection, ready: Sequence[ClientCommand], now: datetime
    ) -> tuple[list[ClientCommand], list[HistoryLine], int]:
        """Release as many as may go at once, each if nothing stands in its way by now."""
        uuids = list({command.client_uuid for command in ready})
        known = await clients.targets(connection, uuids)
        occupied = await self._commanding.occupied(connection, uuids)
        locks = await self._commanding.locks(connection, uuids, now)
        changed: list[ClientCommand] = []
        lines: list[HistoryLine] = []
        count = 0
        for command in ready:
            if count == self._at_once:
                break
            one = command.client_uuid
            disruptive = command.action in DISRUPTIVE
            other = occupied.get(one) if disruptive else None
            locked = disruptive and locks.get(one) is not None and not command.forced
            in_turn = command.waits_for is Waiting.TURN
            if in_turn and one in known and known[one].status is Condition.MAINTENANCE:
                step, note = CommandStep.CANCEL, Fact(Note.TURN_IN_MAINTENANCE)
            elif in_turn and other is not None:
                step, note = CommandStep.CANCEL, Fact(Note.TURN_IN_FLIGHT, {"action": other.action.value})
            elif in_turn and locked:
                step, note = CommandStep.BLOCK, Fact(Note.REFUSED_BY_LOCKOUT)
            elif other is not None or locked:
                continue  # it waits on, as long as it may
            else:
                step, note = None, Fact(Note.TURN_CAME if in_turn else Note.CLIENT_HEARD)
            after = released(command, now, self._expiry) if step is None else ended_by(command, step, now)
            if after is None or not await waiting.release(connection, command, after):
                continue  # another one was faster; looked at again in the next step
            if after.status is CommandStatus.QUEUED:
                count += 1
                if disruptive:
                    occupied[one] = after
            changed.append(after)
            lines.append(HistoryLine.of(command, after, now, Part.RELEASE, note))
        return changed, lines, count


def _waits(command: ClientCommand) -> bool:
    return command.waits_for is not None and command.status is CommandStatus.QUEUED
