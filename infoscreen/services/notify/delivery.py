"""Delivers the outbox of notifications: one message at a time per channel, channels beside each other.

Works from the tables alone: whatever the daemon dies of, a message that no channel has taken is tried again,
under the same id. Trouble of a channel is written down with it and goes no further.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from infoscreen.clock import Clock, until_woken
from infoscreen.domain.alerts import AlertCode, Severity
from infoscreen.domain.codes import unpacked
from infoscreen.domain.errors import SecretUnreadable, StoreUnavailable
from infoscreen.domain.notifying import (
    GIVE_UP_AFTER,
    PER_HOUR,
    DeliveryFault,
    NoticeStep,
    place_for,
    wait_after,
)
from infoscreen.domain.recovery import Closing, Incident, IncidentKind, Reason
from infoscreen.services.loops import every
from infoscreen.services.notify.links import token_of
from infoscreen.services.ports import Delivered, Notice, Receiver, Sender
from infoscreen.services.secrets import Secrets
from infoscreen.storage.engine import Store
from infoscreen.storage.notify import channels, messages
from infoscreen.storage.notify.channels import StoredChannel
from infoscreen.storage.notify.messages import StoredMessage

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
GIVE_UP_EVERY = timedelta(minutes=1)
CHANNELS_AT_ONCE = 8
"""So many deliveries run beside each other; each is a process."""

WITH_LINK = frozenset({NoticeStep.OPENED, NoticeStep.REMINDER, NoticeStep.ESCALATED})
"""Messages with a link to acknowledge the incident."""

URL, SECRET = "notification channel {id} url", "notification channel {id} secret"


class Delivery:
    """Sends what waits in the outbox."""

    def __init__(
        self, store: Store, clock: Clock, sender: Sender, secrets: Secrets, wake: asyncio.Event
    ) -> None:
        self._store = store
        self._clock = clock
        self._sender = sender
        self._secrets = secrets
        self._wake = wake
        self._busy: dict[int, asyncio.Task[None]] = {}
        self._step_before = clock.last_step
        self._gave_up_at: datetime | None = None

    async def run(self) -> None:
        """Deliver until cancelled: at once when woken, else at the next poll."""
        try:
            await every(0, self._step_then_wait, self._clock)
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _step_then_wait(self) -> None:
        await self.step()
        await until_woken(self._wake, POLL_SECONDS, self._clock)

    async def step(self) -> None:
        """Begin to deliver on every channel that has something to deliver and is not busy."""
        now = self._clock.now()
        async with self._store.read() as connection:
            if not await channels.count(connection):
                return
        await self._after_a_step(now)
        if self._gave_up_at is None or abs(now - self._gave_up_at) >= GIVE_UP_EVERY:
            async with self._store.write() as connection:
                await messages.give_up_before(connection, now - GIVE_UP_AFTER, now)
            self._gave_up_at = now
        for channel_id, task in list(self._busy.items()):
            if task.done():
                del self._busy[channel_id]
        async with self._store.read() as connection:
            waiting = await messages.channels_with_work(connection, now)
        for channel_id in waiting:
            if channel_id not in self._busy and len(self._busy) < CHANNELS_AT_ONCE:
                task = asyncio.create_task(self._deliver(channel_id))
                task.add_done_callback(self._ended)
                self._busy[channel_id] = task

    @property
    def under_way(self) -> bool:
        """Tell whether a delivery is under way."""
        return bool(self._busy)

    async def settled(self) -> None:
        """Wait until no delivery is under way."""
        await asyncio.gather(*self._busy.values(), return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Go on at once with the next message, unless there was trouble: then at the next poll."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._wake.set()
        elif not isinstance(error, StoreUnavailable):
            # Ours, and still no reason to end the daemon: the message is tried again, later each time.
            log.error(
                "delivering a notification failed",
                exc_info=error,
                extra={"event": "notification_error"},
            )

    async def _after_a_step(self, now: datetime) -> None:
        step = self._clock.last_step
        if step is None or step is self._step_before:
            return
        async with self._store.write() as connection:
            await messages.move_times(connection, now, GIVE_UP_AFTER)
        self._step_before = step

    async def _deliver(self, channel_id: int) -> None:
        """Send one message of a channel; an error of the store is met again at the next step."""
        now = self._clock.now()
        async with self._store.write() as connection:
            channel = await channels.get(connection, channel_id)
            if channel is None:
                return
            sent = await messages.sent_within_an_hour(connection, channel_id, now, PER_HOUR)
            waiting = await messages.waiting(connection, channel_id, PER_HOUR + 1)
            place = place_for(sent, waiting, now)
            if place.until is not None:
                await messages.put_off(connection, channel_id, now, place.until)
                return
            message = await messages.next_of(connection, channel_id, now)
            if message is None:
                return
            if place.summary and not place.singles and message.step is not NoticeStep.SUMMARY:
                counts = await messages.summed_up(connection, channel_id)
                number = await messages.add_one(connection, _summary(channel_id, counts, now))
                await messages.replace_by(connection, channel_id, number)
                message = await messages.get(connection, number)
                if message is None:
                    return
            await messages.begin(connection, message.id, now + wait_after(message.attempts + 1, None))
        outcome = await self._send(channel, message)
        await self._conclude(channel, message, outcome)

    async def _send(self, channel: StoredChannel, message: StoredMessage) -> Delivered:
        try:
            receiver = self.receiver(channel)
        except SecretUnreadable as error:
            return Delivered(ok=False, fault=DeliveryFault.SECRET_UNREADABLE, detail=str(error))
        return await self._sender.send(receiver, notice_of(message, self._link_of(message)))

    def _link_of(self, message: StoredMessage) -> str | None:
        if message.incident_id is None or message.step not in WITH_LINK:
            return None
        if message.facts.get("acknowledged_by") is not None:
            return None
        return token_of(self._secrets, message.message_id, self._clock.now())

    def receiver(self, channel: StoredChannel) -> Receiver:
        """Return where a channel leads, in clear; raise ``SecretUnreadable``."""
        url = self._secrets.unseal(channel.sealed_url, URL.format(id=channel.id))
        sealed = channel.sealed_secret
        secret = None if sealed is None else self._secrets.unseal(sealed, SECRET.format(id=channel.id))
        return Receiver(channel.kind, url, secret, channel.language)

    async def _conclude(self, channel: StoredChannel, message: StoredMessage, outcome: Delivered) -> None:
        now = self._clock.now()
        values: dict[str, Any]
        error = None if outcome.ok else told(outcome)
        if outcome.ok:
            values = {"sent_at": now, "next_at": None, "last_error": None}
        else:
            wait = wait_after(message.attempts + 1, outcome.retry_after)
            values = {"next_at": now + wait, "last_error": error}
            if now + wait > message.created_at + GIVE_UP_AFTER:
                values |= {"next_at": message.created_at + GIVE_UP_AFTER}
        if not outcome.ok and now >= message.created_at + GIVE_UP_AFTER:
            values |= {"next_at": None, "given_up_at": now}
        while True:
            try:
                async with self._store.write() as connection:
                    await messages.conclude(connection, message.id, values)
                    await channels.note_result(connection, channel.id, now, error)
            except StoreUnavailable:
                # It was sent or not; saying so late is better than sending it again.
                await self._clock.sleep(POLL_SECONDS)
            else:
                break
        if not outcome.ok:
            log.warning(
                "a notification could not be delivered",
                extra={
                    "event": "notification_failed",
                    "channel_id": channel.id,
                    "message_id": message.message_id,
                    "fault": outcome.fault,
                    "status": outcome.status,
                },
            )


def told(outcome: Delivered) -> str:
    """Return why a delivery failed, as a code, a status and what was said: for storing."""
    parts = [outcome.fault or "", "" if outcome.status is None else str(outcome.status), outcome.detail]
    return " ".join(part for part in parts if part)


def _summary(channel_id: int, counts: Mapping[str, int], now: datetime) -> StoredMessage:
    return StoredMessage(
        message_id=str(uuid4()),
        channel_id=channel_id,
        step=NoticeStep.SUMMARY,
        severity=Severity.WARNING,
        facts={"counts": dict(counts)},
        created_at=now,
        next_at=now,
    )


def notice_of(message: StoredMessage, link: str | None = None) -> Notice:
    """Return a stored message as a door wants it; ``link`` is the token of its link."""
    facts = message.facts
    incident = facts.get("incident")
    alert, reason = facts.get("alert"), facts.get("reason")
    return Notice(
        message_id=message.message_id,
        step=message.step,
        number=message.number,
        severity=message.severity,
        created_at=message.created_at,
        incident=None if incident is None else _incident(incident),
        incident_id=message.incident_id,
        clients=tuple(facts.get("clients") or ()),
        acknowledged_by=facts.get("acknowledged_by"),
        alert=None if alert is None else unpacked(AlertCode, alert["code"], alert["arguments"]),
        reason=None if reason is None else (Reason(reason["code"]), reason["arguments"]),
        text=facts.get("text"),
        counts=facts.get("counts") or {},
        link=link,
    )


_TIMES = ("began_at", "calm_since", "stopped_at", "ended_at")


def packed_incident(incident: Incident) -> dict[str, Any]:
    """Return an incident as JSON has it."""
    plain = {name: getattr(incident, name) for name in Incident.__dataclass_fields__}
    plain |= {name: value.isoformat() for name in _TIMES if (value := plain[name]) is not None}
    return plain | {"facts": dict(incident.facts)}


def _incident(plain: Mapping[str, Any]) -> Incident:
    values = {name: plain[name] for name in Incident.__dataclass_fields__ if name in plain}
    values |= {name: datetime.fromisoformat(plain[name]) for name in _TIMES if plain.get(name)}
    closing = plain.get("closing")
    values |= {
        "kind": IncidentKind(plain["kind"]),
        "closing": None if closing is None else Closing(closing),
    }
    return Incident(**values)
