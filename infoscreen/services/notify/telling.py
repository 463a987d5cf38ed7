"""Looks at the incidents and puts what is to be told into the outbox.

What was told is written in the same transaction as the messages. A daemon that dies in between looks at the
same incidents again and comes to the same; nothing is kept in memory.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from infoscreen.clock import Clock
from infoscreen.domain.alerts import Alert, AlertCode, Severity
from infoscreen.domain.codes import Fact, Value
from infoscreen.domain.notifying import NextNotice, NoticeStep, Rule, ToldSoFar, after, matches, next_step
from infoscreen.progress import expect_within
from infoscreen.services.loops import every
from infoscreen.services.notify.delivery import packed_incident
from infoscreen.services.notify.sources import Sources
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.notify import channels, messages, notices, rules
from infoscreen.storage.notify.channels import StoredChannel
from infoscreen.storage.notify.messages import StoredMessage
from infoscreen.storage.notify.notices import NoticePair

POLL_SECONDS = 5.0
AT_ONCE = 250
MOST_NAMED = 20
FAILS_AFTER = timedelta(minutes=1)
"""A message that is taken at the second or third try is no reason for an alert."""

TAGS_AGAIN = timedelta(minutes=1)


class Telling:
    """Decides on every poll what is to be told. Without a channel it does nothing at all."""

    def __init__(self, store: Store, clock: Clock, sources: Sources) -> None:
        self._store = store
        self._clock = clock
        self._sources = sources
        self._step_before = clock.last_step
        self._failing: list[StoredChannel] = []

    def alerts(self) -> Iterator[Alert]:
        """Return an alert for each channel that has not taken messages for a while."""
        for channel in self._failing:
            if channel.failing_since is not None and self._clock.now() - channel.failing_since >= FAILS_AFTER:
                arguments: dict[str, Value] = {"channel": channel.name, "since": channel.failing_since}
                yield Alert(Fact(AlertCode.CHANNEL_FAILS, arguments), Severity.WARNING)

    async def run(self) -> None:
        """Look at the incidents until cancelled."""
        await every(POLL_SECONDS, self.step, self._clock)

    async def step(self) -> int:
        """Bring incidents that are not of the recovery up to date, and tell what is due; return how much."""
        async with self._store.read() as connection:
            known = await channels.every(connection)
            ruled = [one.rule for one in await rules.every(connection) if one.enabled]
        self._failing = [one for one in known if one.enabled and one.failing_since is not None]
        if not known:
            return 0
        await self._after_a_step()
        await self._sources.step()
        told = 0
        for rule in ruled:
            told += await self._tell(rule, known)
        return told

    async def _after_a_step(self) -> None:
        now, step = self._clock.now(), self._clock.last_step
        if step is not None and step is not self._step_before:
            async with self._store.write() as connection:
                await notices.look_at_all(connection, now)
            self._step_before = step

    async def _tell(self, rule: Rule, known: Sequence[StoredChannel]) -> int:
        told, last = 0, 0
        while True:
            expect_within()
            now = self._clock.now()
            async with self._store.read() as connection:
                pairs = await notices.to_look_at(connection, rule.id, now, last, AT_ONCE)
            if not pairs:
                return told
            last = pairs[-1].incident.id
            async with self._store.write() as connection:
                rows: list[dict[str, Any]] = []
                fresh: list[StoredMessage] = []
                for pair in pairs:
                    row, made = await _looked_at(connection, rule, pair, known, now)
                    rows.append(row)
                    fresh += made
                await notices.save(connection, rows)
                await messages.add(connection, fresh)
            told += len(fresh)


async def _looked_at(
    connection: Connection, rule: Rule, pair: NoticePair, known: Sequence[StoredChannel], now: datetime
) -> tuple[dict[str, Any], list[StoredMessage]]:
    """Return what is to be written of a pair, and the messages that follow."""
    incident, told = pair.incident, pair.told
    tags = await notices.tags_of(connection, incident.id) if rule.tags else frozenset()
    seen = pair.seen(tags)
    if told.opened_at is None and seen.calm:
        told = ToldSoFar(calm_at=now)
    if matches(rule, seen):
        follows = next_step(rule, seen, told, now)
    elif rule.tags and incident.ended_at is None:
        # Clients with one of the tags may still become members.
        follows = NextNotice(look_at=now + TAGS_AGAIN)
    else:
        follows = NextNotice(done=True)
    made: list[StoredMessage] = []
    if follows.step is not None:
        to = _channels_for(rule, follows.step, told, known)
        facts = await _facts(connection, pair) if to else {}
        number = 0
        if follows.step is NoticeStep.REMINDER:
            number = await messages.reminders(connection, incident.id) + 1
        made = [
            StoredMessage(
                message_id=str(uuid4()),
                channel_id=channel,
                incident_id=incident.id,
                step=follows.step,
                number=number,
                severity=seen.severity,
                facts=facts,
                created_at=now,
                next_at=now,
            )
            for channel in to
        ]
        told = after(told, follows.step, now)
    look_at = follows.look_at
    if follows.step is not None and not follows.done:
        # What comes next may have a time of its own.
        look_at = next_step(rule, seen, told, now).look_at
    row = {
        "incident_id": incident.id,
        "rule_id": rule.id,
        "opened_at": told.opened_at,
        "reminded_at": told.reminded_at,
        "escalated_at": told.escalated_at,
        "calm_at": told.calm_at,
        "look_at": look_at,
        "seen": pair.state,
        "done": follows.done,
    }
    return row, made


def _channels_for(rule: Rule, step: NoticeStep, told: ToldSoFar, known: Sequence[StoredChannel]) -> list[int]:
    enabled = {channel.id for channel in known if channel.enabled}
    if step is NoticeStep.ESCALATED:
        return sorted(rule.escalate_to & enabled)
    wanted = rule.channels or enabled
    if told.escalated_at is not None:
        wanted = wanted | rule.escalate_to
    return sorted(wanted & enabled)


async def _facts(connection: Connection, pair: NoticePair) -> dict[str, Any]:
    incident = pair.incident
    facts: dict[str, Any] = {
        "kind": incident.kind.value,
        "incident": packed_incident(incident.fact),
        "clients": await notices.names_of(connection, incident.id, MOST_NAMED),
        "acknowledged_by": incident.acknowledged_by,
    }
    arguments = json.loads(str(incident.facts.get("arguments", "{}")))
    for name in ("alert", "reason"):
        if name in incident.facts:
            facts[name] = {"code": incident.facts[name], "arguments": arguments}
    return facts
