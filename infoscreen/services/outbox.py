"""The outbox: sends what the store says must be sent, and sends again what may have been missed.

Works from the tables alone, so that nothing is forgotten by a crash, an outage or a bad order of stopping.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from infoscreen.clock import Clock, until_woken
from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import (
    ClientCommand,
    CommandStatus,
    CommandStep,
    next_status,
    published,
)
from infoscreen.domain.errors import BrokerUnavailable, PublishRefused
from infoscreen.domain.events import CommandChanged
from infoscreen.domain.history import Note, Part
from infoscreen.domain.verification import Before, with_snapshot
from infoscreen.services.bus import Bus
from infoscreen.services.loops import every
from infoscreen.services.ports import Link, Measures, Outgoing, Publisher
from infoscreen.storage import client_deadlines, command_history, commands, outbox, retained
from infoscreen.storage.command_history import HistoryLine
from infoscreen.storage.engine import Store
from infoscreen.wire import topics
from infoscreen.wire.messages import Command

log = logging.getLogger(__name__)

PATIENCE = timedelta(seconds=10)
"""Heard again so long after publication and not accepted.

The device must have missed it (architecture, flow 2).
"""

MOST_PUBLICATIONS = 3
AT_ONCE = 500
"""Commands taken up in one step; bounds memory and the length of a transaction."""

POLL_SECONDS = 1.0


class ConnectedPublisher(Publisher, Protocol):
    """A publisher that can tell whether it is worth trying."""

    @property
    def connected(self) -> bool:
        """Tell whether the connection stands."""
        ...


@dataclass(frozen=True, slots=True)
class _Sent:
    command: ClientCommand
    refused: str | None = None


class Outbox:
    """Publishes queued commands, repeats them where the design says so, and clears acknowledged failures."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        bus: Bus,
        publisher: ConnectedPublisher,
        link: Link,
        measures: Measures,
        wake: asyncio.Event,
        *,
        alias: bool,
    ) -> None:
        """``alias`` also publishes on the older command topic."""
        self._store = store
        self._clock = clock
        self._bus = bus
        self._publisher = publisher
        self._link = link
        self._measures = measures
        self._wake = wake
        self._alias = alias

    async def run(self) -> None:
        """Send until cancelled: at once when woken, else at the next poll."""
        await every(0, self._step_then_wait, self._clock)

    async def _step_then_wait(self) -> None:
        if not await self.step():
            await until_woken(self._wake, POLL_SECONDS, self._clock)

    async def step(self) -> int:
        """Send what is due now; return how many messages the broker took."""
        if not self._publisher.connected:
            return 0
        taken = await self._take_up()
        sent = [one for one in await asyncio.gather(*(self._send(command) for command in taken)) if one]
        await self._settle(sent)
        return len(sent) + await self._clear_failures() + await self._empty_retained()

    async def _take_up(self) -> list[ClientCommand]:
        """Write down the intent to publish, with what the clients look like before."""
        now = self._clock.now()
        since = self._link.state.listening_since
        async with self._store.read() as connection:
            due = await outbox.to_publish(connection, now, AT_ONCE)
            again = await outbox.to_publish_again(
                connection, now, PATIENCE, MOST_PUBLICATIONS, since, AT_ONCE
            )
        seen = due | again
        if not seen:
            return []
        async with self._store.write() as connection:
            held = await commands.for_change(connection, seen)
            known = await outbox.before_publication(
                connection, {command.client_uuid for command in held.values()}
            )
            taken: list[ClientCommand] = []
            lines: list[HistoryLine] = []
            for command_id, status in seen.items():
                command = held.get(command_id)
                if command is None or command.status is not status:
                    continue  # cancelled, acked or deleted since we looked
                after = _taken_up(command, known[command.client_uuid], now)
                taken.append(after)
                lines.append(HistoryLine.of(command, after, now, Part.PUBLISHER, _publication(command)))
            await commands.save(connection, held, taken)
            await command_history.record(connection, lines)
        self._tell(taken)
        return taken

    async def _send(self, command: ClientCommand) -> _Sent | None:
        """Publish one command; None when the broker could not be asked, so that it stays in the outbox."""
        payload = Command(
            command_id=UUID(command.command_id),
            client_uuid=UUID(command.client_uuid),
            action=command.action,
            issued_at=command.created_at,
            expires_at=command.expires_at,
            requested_by=command.requested_by,
            reason=command.reason or command.reason_code,
        ).encode()
        names = [topics.commands(command.client_uuid)]
        if self._alias:
            names.append(topics.command_alias(command.client_uuid))
        try:
            for name in names:
                # Never longer than it was given: the clock may have been set back since.
                left = min(
                    command.expires_at - self._clock.now(), command.expires_at - command.created_at
                ).total_seconds()
                if left <= 0:
                    return None
                await self._publisher.publish(Outgoing(name, payload, expires_in=left))
        except BrokerUnavailable as error:
            log.warning(
                "command not taken by the broker yet",
                extra={"event": "publish_delayed", "command_id": command.command_id, "error": str(error)},
            )
            return None
        except PublishRefused as error:
            return _Sent(command, str(error))
        return _Sent(command)

    async def _settle(self, sent: Sequence[_Sent]) -> None:
        """Write down what the broker took, on top of whatever the devices have answered meanwhile."""
        if not sent:
            return
        async with self._store.write() as connection:
            now = self._clock.now()
            held = await commands.for_change(connection, [one.command.command_id for one in sent])
            changed: list[ClientCommand] = []
            lines: list[HistoryLine] = []
            for one in sent:
                command = held.get(one.command.command_id)
                if command is None:
                    continue
                after = (
                    published(command, now) if one.refused is None else _given_up(command, one.refused, now)
                )
                if after == command:
                    continue
                changed.append(after)
                if after.status is not command.status:
                    lines.append(HistoryLine.of(command, after, now, Part.PUBLISHER, _refusal(one)))
            await commands.save(connection, held, changed)
            await command_history.record(connection, lines)
        self._tell(changed)

    async def _clear_failures(self) -> int:
        """Empty the retained failures that operators have acknowledged."""
        async with self._store.read() as connection:
            waiting = await client_deadlines.awaiting_clear(connection)
        cleared: list[tuple[str, datetime | None]] = []
        for uuid, requested_at in waiting:
            try:
                await self._publisher.publish(Outgoing(topics.service_failed(uuid), b"", retain=True))
            except (BrokerUnavailable, PublishRefused) as error:
                log.warning(
                    "retained failure not cleared at the broker yet",
                    extra={"event": "clear_delayed", "client_uuid": uuid, "error": str(error)},
                )
                break
            cleared.append((uuid, requested_at))
        if cleared:
            async with self._store.write() as connection:
                await client_deadlines.note_cleared(connection, cleared)
        return len(cleared)

    async def _empty_retained(self) -> int:
        """Empty what the broker retains of clients that were removed.

        A broker that forbids us to write a topic keeps what it holds there, which is no sign of life anyway.
        """
        async with self._store.read() as connection:
            waiting = await retained.to_empty(connection, AT_ONCE)
        done: list[str] = []
        for topic in waiting:
            try:
                await self._publisher.publish(Outgoing(topic, b"", retain=True))
            except BrokerUnavailable:
                break
            except PublishRefused as error:
                log.warning(
                    "the broker does not let us empty a topic",
                    extra={"event": "clear_refused", "topic": topic, "error": str(error)},
                )
            done.append(topic)
        if done:
            async with self._store.write() as connection:
                await retained.emptied(connection, done)
        return len(done)

    def _tell(self, changed: Sequence[ClientCommand]) -> None:
        for command in changed:
            self._measures.command(command.action, command.status)
        self._bus.publish(*(CommandChanged(command.command_id, command.client_uuid) for command in changed))


def _taken_up(command: ClientCommand, before: Before, now: datetime) -> ClientCommand:
    status = next_status(command.status, CommandStep.PUBLISH) or command.status
    taken = replace(command, status=status, last_publish_at=now)
    return with_snapshot(taken, before) if command.status is CommandStatus.QUEUED else taken


def _given_up(command: ClientCommand, why: str, now: datetime) -> ClientCommand:
    status = next_status(command.status, CommandStep.GIVE_UP)
    if status is None:
        return command
    return replace(command, status=status, finished_at=now, error_code="publish_refused", error_message=why)


def _refusal(sent: _Sent) -> Fact[Note] | None:
    return None if sent.refused is None else Fact(Note.REFUSED_BY_BROKER, {"error": sent.refused})


def _publication(before: ClientCommand) -> Fact[Note] | None:
    if before.last_publish_at is None:
        return None
    return Fact(Note.SENT_AGAIN, {"publication": before.publish_count + 1})
