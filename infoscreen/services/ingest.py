"""Ingest: a batch of messages in, one transaction, events out. At least once in, exactly once in effect.

The batch is acknowledged to the broker when ``handle`` returns, so it returns only after the commit. Trouble
with the database therefore keeps the batch here and is tried again; nothing that could be stored is ever
given up.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from infoscreen.clock import Clock
from infoscreen.domain.commands import ClientCommand, Timeouts
from infoscreen.domain.error_codes import MessageDefect
from infoscreen.domain.errors import BadMessage, StoreUnavailable
from infoscreen.domain.events import ClientChanged, CommandChanged, Event
from infoscreen.domain.presence import StalePolicy
from infoscreen.services.acks import save_acks
from infoscreen.services.beats import Beats
from infoscreen.services.bus import Bus
from infoscreen.services.displays import note_switched
from infoscreen.services.lag import Lag
from infoscreen.services.log_lines import dropped_entry
from infoscreen.services.ports import Incoming, LinkState, Measures
from infoscreen.services.quiet import AT_A_STRETCH, save_quiet
from infoscreen.services.quota import Ledger, Overrun, QuotaPolicy, Quotas
from infoscreen.services.reports import Folding, Told, fold, fold_beats, settle
from infoscreen.services.sorting import SortedBatch, kind_of, rejection
from infoscreen.storage import batches, clients, failed_services, heartbeats, rejected, screenshots, timeline
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.rejected import RejectedMessage
from infoscreen.storage.screenshots import StoredScreenshot
from infoscreen.wire import topics
from infoscreen.wire.messages import ServiceCleared, ServiceFailed

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
QUIET_AFTER_REJECTION_SECONDS = 60.0
"""One log line per client and reason in this time (wire contract, rule 8)."""


@dataclass(frozen=True, slots=True)
class IngestPolicy:
    """What ingest needs to know of the settings."""

    stale: StalePolicy
    timeouts: Timeouts
    auto_register: bool


@dataclass(slots=True)
class _Outcome:
    """What a committed batch has to tell."""

    events: list[Event] = field(default_factory=list)
    moved: list[ClientCommand] = field(default_factory=list)
    rejections: list[RejectedMessage] = field(default_factory=list)
    unwanted: list[RejectedMessage] = field(default_factory=list)
    """What could be read and is refused all the same: its client or its command is unknown."""
    ledger: Ledger = field(default_factory=list)


class Ingest:
    """Takes in whatever devices say."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        bus: Bus,
        policy: IngestPolicy,
        measures: Measures,
        link: Callable[[], LinkState],
        quotas: Quotas | None = None,
        writer: str = "state",
    ) -> None:
        """Prepare.

        Args:
            store: Where messages are stored.
            clock: For receipts, and for waiting between attempts.
            bus: Told what changed, after the commit.
            policy: See ``IngestPolicy``.
            measures: Where messages are counted.
            link: Returns the state of the connection; asked once or twice a batch.
            quotas: Of devices; shared by all that take in messages.
            writer: Names the session the messages come from. Only one ``Ingest`` at a time may use it.
        """
        self._store = store
        self._clock = clock
        self._bus = bus
        self._policy = policy
        self._measures = measures
        self._link = link
        self._quotas = quotas or Quotas(QuotaPolicy(), clock)
        self._writer = writer
        self._last_logged: dict[tuple[str, str], float] = {}
        self.trouble: StoreUnavailable | None = None
        """Why messages cannot be stored; readiness says so."""
        self._lag = Lag(clock)
        self._storing_since: datetime | None = None

    @property
    def lag_seconds(self) -> float:
        """Return how long messages wait from receipt to commit: now, or at worst in the last minute."""
        if self._storing_since is None:
            return self._lag.seconds
        return max(self._lag.seconds, (self._clock.now() - self._storing_since).total_seconds())

    async def handle(self, batch: Sequence[Incoming], received_at: datetime) -> None:
        """Store a batch. Returns after the commit; a database that is locked or full is waited for."""
        self._storing_since = received_at
        sorted_batch = SortedBatch(self._quotas)
        for start in range(0, len(batch), AT_A_STRETCH):
            sorted_batch.take(batch[start : start + AT_A_STRETCH], received_at)
            await asyncio.sleep(0)
        overruns = self._quotas.overruns()
        outcome = await self._stored(sorted_batch, overruns, received_at)
        self._storing_since = None
        self._lag.note((self._clock.now() - received_at).total_seconds())
        if self.trouble is not None:
            self.trouble = None
            log.warning("messages are stored again", extra={"event": "store_back"})
        self._tell(sorted_batch, outcome)

    async def _stored(self, batch: SortedBatch, overruns: Sequence[Overrun], now: datetime) -> _Outcome:
        name = uuid4().hex
        unsure: _Outcome | None = None  # of an attempt that may have been committed
        while True:
            outcome, new = _Outcome(), False
            try:
                async with self._store.write() as connection:
                    new = await batches.begin(connection, self._writer, name)
                    if new:
                        if unsure is not None:
                            self._quotas.give_back(unsure.ledger)
                            unsure = None
                        await self._apply(connection, batch, overruns, outcome, now)
            except StoreUnavailable as error:
                if not error.outcome_unknown:
                    self._quotas.give_back(outcome.ledger)
                elif new:
                    unsure = outcome
                self._note_trouble(error)
                await self._clock.sleep(RETRY_SECONDS)
            else:
                return unsure or outcome

    async def _apply(
        self,
        connection: Connection,
        batch: SortedBatch,
        overruns: Sequence[Overrun],
        outcome: _Outcome,
        now: datetime,
    ) -> None:
        # On PostgreSQL a request may delete a client while we write what refers to it.
        await clients.hold(connection, batch.from_whom)
        pulses = await heartbeats.pulses(connection, batch.from_whom.keys())
        strangers = batch.from_whom.keys() - pulses.keys()
        if strangers:
            strangers = await self._admit(connection, batch, strangers, outcome, now)
        stored = await rejected.stored_before(connection, batch.rejections)
        beats, link = batch.beats_not_stored(pulses), self._link()
        if strangers:
            beats = {uuid: one for uuid, one in beats.items() if uuid not in strangers}
        remaining = await save_quiet(
            connection,
            beats,
            batch.to_fold(strangers, stored),
            pulses,
            now,
            link.listening_since,
            link.backlog,
            self._policy.stale,
        )
        outcome.events.extend(ClientChanged(uuid) for uuid in remaining.written)
        await self._save_telling(connection, remaining.beats, remaining.reports, outcome, now)
        acks = [ack for ack in batch.acks if ack[0] not in strangers]
        acked = await save_acks(connection, acks, self._policy.timeouts, now)
        outcome.moved = acked.moved
        outcome.unwanted += acked.rejections
        outcome.events += [CommandChanged(one.command_id, one.client_uuid) for one in acked.moved]
        switched = await note_switched(connection, acked.moved, now, self._link().listening_since)
        entries = [entry for folding in switched for entry in folding.entries]
        await timeline.add(connection, self._quotas.kept(entries, outcome.ledger))
        outcome.events += [ClientChanged(one.client.uuid) for one in switched]
        lines = [entry for uuid, entry in batch.logs if uuid not in strangers]
        known = await clients.keep(connection, {overrun.uuid for overrun in overruns})
        lines += [dropped_entry(one, now) for one in overruns if one.uuid in known]
        await timeline.add(connection, lines)
        for uuid, shot in batch.shots.items():
            if uuid not in strangers:
                await screenshots.save(connection, uuid, StoredScreenshot(shot.image, shot.content_type, now))
                outcome.events.append(ClientChanged(uuid))
        stored |= await rejected.stored_before(connection, outcome.unwanted)
        refused = [*batch.rejections, *outcome.unwanted]
        outcome.rejections = [one for one in refused if one.key not in stored]
        await rejected.keep(connection, self._kept(outcome))

    async def _admit(
        self,
        connection: Connection,
        batch: SortedBatch,
        strangers: set[str],
        outcome: _Outcome,
        now: datetime,
    ) -> set[str]:
        """Create the unknown clients, or refuse their messages; return those that remain strangers."""
        if self._policy.auto_register:
            known = await clients.register(connection, strangers, now)
            for uuid in strangers:
                log.info("new client registered", extra={"event": "client_registered", "client_uuid": uuid})
                outcome.events.append(ClientChanged(uuid))
            return strangers - known
        for uuid in sorted(strangers):
            for message in batch.from_whom[uuid]:
                unknown = BadMessage(MessageDefect.UNKNOWN_CLIENT)
                outcome.unwanted.append(rejection(message, now, unknown))
        return strangers

    async def _save_telling(
        self,
        connection: Connection,
        telling: dict[str, Beats],
        folded: Sequence[tuple[str, Told]],
        outcome: _Outcome,
        now: datetime,
    ) -> None:
        """Fold everything else into its clients and save what became different."""
        link = self._link()
        since, backlog = link.listening_since, link.backlog
        known = await clients.for_change(connection, {*telling, *(uuid for uuid, _ in folded)})
        failing = {uuid for uuid, told in folded if isinstance(told.report, ServiceFailed | ServiceCleared)}
        failures = await failed_services.of_clients(connection, failing & known.keys())
        foldings = {
            uuid: Folding(
                before=client,
                client=client,
                failures_before=failures.get(uuid, {}),
                failures=failures.get(uuid, {}),
            )
            for uuid, client in known.items()
        }
        for uuid, beats in telling.items():
            if uuid in foldings:
                fold_beats(foldings[uuid], beats, now, since, backlog, self._policy.stale)
        for uuid, told in folded:
            if uuid in foldings:
                fold(foldings[uuid], told, now, backlog, self._policy.stale)
        changed = {uuid: (foldings[uuid].failures_before, foldings[uuid].failures) for uuid in failures}
        await failed_services.save(connection, changed)
        all_of_them = list(foldings.values())
        for start in range(0, len(all_of_them), AT_A_STRETCH):
            some = all_of_them[start : start + AT_A_STRETCH]
            for folding in some:
                settle(folding, now, since)
            await clients.save_all_changes(connection, [(one.before, one.client, one.said) for one in some])
            entries = [entry for folding in some for entry in folding.entries]
            await timeline.add(connection, self._quotas.kept(entries, outcome.ledger))
            outcome.events += [ClientChanged(one.client.uuid, alert=one.alert) for one in some]

    def _tell(self, batch: SortedBatch, outcome: _Outcome) -> None:
        """Count and spread the news, after the commit."""
        refused_kinds: Counter[str] = Counter()
        for refused in outcome.rejections:
            self._measures.rejected(refused.reason)
            refused_kinds[kind_of(refused.topic)] += 1
            self._log_rejection(refused)
        for kind, count in refused_kinds.items():
            self._measures.message(kind, "rejected", count)
        undone = Counter(kind_of(one.topic) for one in outcome.unwanted)
        for kind, count in (batch.kinds - undone).items():
            self._measures.message(kind, "stored", count)
        for kind, count in batch.surplus.items():
            self._measures.message(kind, "dropped", count)
        for kind, count in batch.retained.items():
            self._measures.message(kind, "retained", count)
        for kind, count in batch.emptied.items():
            self._measures.message(kind, "emptied", count)
        for field_name, count in batch.unread.items():
            self._measures.unread(field_name, count)
        for command in outcome.moved:
            self._measures.command(command.action, command.status)
            if command.finished_at is not None:
                seconds = (command.finished_at - command.created_at).total_seconds()
                self._measures.command_duration(command.action, seconds)
        self._bus.publish(*outcome.events)

    def _kept(self, outcome: _Outcome) -> list[RejectedMessage]:
        """Return the rejected messages that fit the quotas of their devices."""
        senders = [(topics.sender(one.topic), one) for one in outcome.rejections]
        return [
            one for uuid, one in senders if uuid is None or self._quotas.keeps_rejection(uuid, outcome.ledger)
        ]

    def _log_rejection(self, rejection: RejectedMessage) -> None:
        who = rejection.topic.split("/")[1][:60] if rejection.topic.count("/") else rejection.topic[:60]
        last, now = self._last_logged.get((who, rejection.reason)), self._clock.monotonic()
        if last is not None and now - last < QUIET_AFTER_REJECTION_SECONDS:
            return
        if len(self._last_logged) > 10_000:
            self._last_logged.clear()  # forgetting only costs some more lines
        self._last_logged[who, rejection.reason] = now
        log.warning(
            "message rejected",
            extra={
                "event": "message_rejected",
                "client_uuid": who,
                "reason": rejection.reason,
                "detail": str(rejection.defect),
                "topic": rejection.topic[:200],
                "head": rejection.head.decode(errors="backslashreplace"),
            },
        )

    def _note_trouble(self, error: StoreUnavailable) -> None:
        if self.trouble is None:
            log.error(
                "messages cannot be stored just now; the broker keeps them until they can",
                extra={"event": "store_unavailable", "trouble": error.trouble, "error": str(error)},
            )
        self.trouble = error
