"""Ingest: a batch of messages in, one transaction, events out. At least once in, exactly once in effect.

The batch is acknowledged to the broker when ``handle`` returns, so it returns only after the commit. Trouble
with the database therefore keeps the batch here and is tried again; nothing that could be stored is ever
given up.
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from infoscreen.clock import Clock
from infoscreen.domain.clients import Condition, Presence
from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import ClientCommand, CommandEvent, Timeouts, acknowledged
from infoscreen.domain.errors import BadMessage, StoreUnavailable
from infoscreen.domain.events import ClientChanged, CommandChanged, Event, Kind
from infoscreen.domain.history import Note, Part, note_of_ack
from infoscreen.domain.presence import Beat, Rhythm, StalePolicy, beaten
from infoscreen.services.bus import Bus
from infoscreen.services.lag import Lag
from infoscreen.services.ports import Incoming, Measures
from infoscreen.services.reports import Beats, ClientReport, Folding, digest, fold, fold_beats, settle
from infoscreen.storage import clients, command_history, commands, heartbeats, rejected, screenshots, timeline
from infoscreen.storage.command_history import HistoryLine
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.heartbeats import Pulse, QuietBeat
from infoscreen.storage.rejected import HEAD_BYTES, RejectedMessage
from infoscreen.storage.screenshots import StoredScreenshot
from infoscreen.storage.timeline import NewEntry
from infoscreen.wire import topics
from infoscreen.wire.messages import CommandAck, Heartbeat, LogLine, PresenceReport, Screenshot, decode

log = logging.getLogger(__name__)

STEADY = frozenset({Condition.ONLINE, Condition.CRASHED, Condition.SERVICE_FAILED, Condition.MAINTENANCE})
"""Conditions that a heartbeat which tells nothing new leaves as they are."""

AT_A_STRETCH = 250
"""Messages decoded, or clients judged, between two turns of the event loop: some 3 ms."""

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
class _Sorted:
    """A batch taken apart: state coalesced to the newest per client, events in order of arrival."""

    beats: dict[str, Beats] = field(default_factory=dict)
    reports: list[tuple[str, ClientReport]] = field(default_factory=list)
    acks: list[tuple[str, CommandAck, Incoming]] = field(default_factory=list)
    logs: list[tuple[str, NewEntry]] = field(default_factory=list)
    shots: dict[str, Screenshot] = field(default_factory=dict)
    from_whom: dict[str, list[Incoming]] = field(default_factory=dict)
    ghosts: set[str] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    rejections: list[RejectedMessage] = field(default_factory=list)


@dataclass(slots=True)
class _Outcome:
    """What a committed batch has to tell."""

    events: list[Event] = field(default_factory=list)
    finished: list[ClientCommand] = field(default_factory=list)
    moved: list[ClientCommand] = field(default_factory=list)
    rejections: list[RejectedMessage] = field(default_factory=list)


class Ingest:
    """Takes in whatever devices say."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        bus: Bus,
        policy: IngestPolicy,
        measures: Measures,
        listening_since: Callable[[], datetime | None],
    ) -> None:
        """Keep the parts; ``listening_since`` is asked once a batch."""
        self._store = store
        self._clock = clock
        self._bus = bus
        self._policy = policy
        self._measures = measures
        self._listening_since = listening_since
        self._last_logged: dict[tuple[str, str], float] = {}
        self.in_trouble = False
        """True while messages cannot be stored; readiness says so."""
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
        sorted_batch = _Sorted()
        for start in range(0, len(batch), AT_A_STRETCH):
            _sort(sorted_batch, batch[start : start + AT_A_STRETCH], received_at)
            await asyncio.sleep(0)
        outcome = await self._stored(sorted_batch, received_at)
        self._storing_since = None
        self._lag.note((self._clock.now() - received_at).total_seconds())
        if self.in_trouble:
            self.in_trouble = False
            log.warning("messages are stored again", extra={"event": "store_back"})
        self._tell(sorted_batch, outcome)

    async def _stored(self, batch: _Sorted, now: datetime) -> _Outcome:
        while True:
            try:
                async with self._store.write() as connection:
                    return await self._apply(connection, batch, now)
            except StoreUnavailable as error:
                self._note_trouble(error)
                await self._clock.sleep(RETRY_SECONDS)

    async def _apply(self, connection: Connection, batch: _Sorted, now: datetime) -> _Outcome:
        outcome = _Outcome(rejections=list(batch.rejections))
        pulses = await heartbeats.pulses(connection, batch.beats)
        strangers = set(batch.from_whom) - pulses.keys()
        strangers -= await clients.existing(connection, strangers)
        if strangers:
            strangers = await self._admit(connection, batch, strangers, outcome, now)
        reports = [(uuid, report) for uuid, report in batch.reports if uuid not in strangers]
        beats = {uuid: one for uuid, one in batch.beats.items() if uuid not in strangers}
        telling = await self._save_quiet(connection, beats, pulses, {uuid for uuid, _ in reports}, now)
        outcome.events.extend(ClientChanged(uuid) for uuid in beats.keys() - telling.keys())
        await self._save_telling(connection, telling, reports, outcome, now)
        await self._save_acks(
            connection, [ack for ack in batch.acks if ack[0] not in strangers], outcome, now
        )
        await timeline.add(connection, [entry for uuid, entry in batch.logs if uuid not in strangers])
        for uuid, shot in batch.shots.items():
            if uuid not in strangers:
                await screenshots.save(connection, uuid, StoredScreenshot(shot.image, shot.content_type, now))
                outcome.events.append(ClientChanged(uuid))
        await rejected.keep(connection, outcome.rejections)
        return outcome

    async def _admit(
        self, connection: Connection, batch: _Sorted, strangers: set[str], outcome: _Outcome, now: datetime
    ) -> set[str]:
        """Create the unknown clients, or refuse their messages; return those that remain strangers."""
        # A retained last will is no sign of life: it must not bring back a client that was deleted.
        ghosts = strangers & batch.ghosts
        newcomers = strangers - ghosts
        if self._policy.auto_register:
            await clients.register(connection, newcomers, now)
            for uuid in newcomers:
                log.info("new client registered", extra={"event": "client_registered", "client_uuid": uuid})
                outcome.events.append(ClientChanged(uuid))
            return ghosts
        for uuid in sorted(newcomers):
            for message in batch.from_whom[uuid]:
                detail = "no such client, and clients are not registered by themselves"
                outcome.rejections.append(_rejection(message, now, "unknown_client", detail))
        return strangers

    async def _save_quiet(
        self,
        connection: Connection,
        all_beats: dict[str, Beats],
        pulses: dict[str, Pulse],
        reporting: set[str],
        now: datetime,
    ) -> dict[str, Beats]:
        """Write heartbeats that tell nothing new; return the others, by client."""
        since = self._listening_since()
        quiet: list[QuietBeat] = []
        telling: dict[str, Beats] = {}
        for uuid, beats in all_beats.items():
            pulse = pulses.get(uuid)
            if (
                pulse is None
                or pulse.status not in STEADY
                or pulse.said != digest(beats.newest)
                or uuid in reporting
            ):
                telling[uuid] = beats
                continue
            quiet.append(_quiet_beat(pulse, beats, now, since, self._policy.stale))
            if len(quiet) >= AT_A_STRETCH:
                await heartbeats.save_quiet_beats(connection, quiet)
                quiet = []
        await heartbeats.save_quiet_beats(connection, quiet)
        return telling

    async def _save_telling(
        self,
        connection: Connection,
        telling: dict[str, Beats],
        reports: Sequence[tuple[str, ClientReport]],
        outcome: _Outcome,
        now: datetime,
    ) -> None:
        """Fold everything else into its clients and save what became different."""
        since = self._listening_since()
        known = await clients.for_change(connection, {*telling, *(uuid for uuid, _ in reports)})
        foldings = {uuid: Folding(before=client, client=client) for uuid, client in known.items()}
        for uuid, beats in telling.items():
            fold_beats(foldings[uuid], beats, now, since, self._policy.stale)
        for uuid, report in reports:
            fold(foldings[uuid], report, now)
        all_of_them = list(foldings.values())
        for start in range(0, len(all_of_them), AT_A_STRETCH):
            some = all_of_them[start : start + AT_A_STRETCH]
            for folding in some:
                settle(folding, now, since)
            await clients.save_all_changes(connection, [(one.before, one.client, one.said) for one in some])
            await timeline.add(connection, [entry for folding in some for entry in folding.entries])
            outcome.events += [ClientChanged(one.client.uuid, alert=one.alert) for one in some]

    async def _save_acks(
        self,
        connection: Connection,
        acks: Sequence[tuple[str, CommandAck, Incoming]],
        outcome: _Outcome,
        now: datetime,
    ) -> None:
        """Advance commands; what is repeated or out of date is noted and changes nothing."""
        if not acks:
            return
        await heartbeats.heard(connection, {uuid for uuid, _, _ in acks}, now)
        before = await commands.for_change(connection, {str(ack.command_id) for _, ack, _ in acks})
        current = dict(before)
        lines: list[HistoryLine] = []
        for uuid, ack, message in acks:
            command = current.get(str(ack.command_id))
            if command is None:
                detail = f"no command {ack.command_id}"
                outcome.rejections.append(_rejection(message, now, "unknown_command", detail))
                continue
            if command.client_uuid != uuid:
                detail = f"command {ack.command_id} belongs to another client"
                outcome.rejections.append(_rejection(message, now, "foreign_command", detail))
                continue
            after = acknowledged(
                command,
                ack.status,
                now,
                self._policy.timeouts,
                error_code=ack.error_code,
                error_message=ack.error_message,
            )
            lines.append(_ack_line(command, after, ack, now))
            if after is not None:
                current[command.command_id] = after
                outcome.moved.append(after)
        await commands.save(connection, [c for key, c in current.items() if c is not before[key]])
        await command_history.record(connection, lines)
        outcome.events.extend(CommandChanged(c.command_id, c.client_uuid) for c in outcome.moved)

    def _tell(self, batch: _Sorted, outcome: _Outcome) -> None:
        """Count and spread the news, after the commit."""
        refused_kinds: Counter[str] = Counter()
        for rejection in outcome.rejections:
            self._measures.rejected(rejection.reason)
            refused_kinds[_kind_of(rejection.topic)] += 1
            self._log_rejection(rejection)
        for kind, count in refused_kinds.items():
            self._measures.message(kind, "rejected", count)
        # Messages that decoded well and were refused all the same (unknown client or command) were not
        # stored.
        undone = Counter(_kind_of(one.topic) for one in outcome.rejections[len(batch.rejections) :])
        for kind, count in (batch.kinds - undone).items():
            self._measures.message(kind, "stored", count)
        for command in outcome.moved:
            self._measures.command(command.action, command.status)
            if command.finished_at is not None:
                seconds = (command.finished_at - command.created_at).total_seconds()
                self._measures.command_duration(command.action, seconds)
        self._bus.publish(*outcome.events)

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
                "detail": rejection.detail,
                "topic": rejection.topic[:200],
                "head": rejection.head.decode(errors="backslashreplace"),
            },
        )

    def _note_trouble(self, error: StoreUnavailable) -> None:
        if not self.in_trouble:
            log.error(
                "messages cannot be stored just now; the broker keeps them until they can",
                extra={
                    "event": "store_unavailable",
                    "error": str(getattr(error.__cause__, "orig", None) or error),
                },
            )
        self.in_trouble = True


def _sort(into: _Sorted, batch: Sequence[Incoming], now: datetime) -> None:
    """Decode messages and take them apart."""
    for message in batch:
        try:
            topic = topics.parse(message.topic)
            decoded = decode(topic, message.payload)
        except BadMessage as error:
            into.rejections.append(_rejection(message, now, error.reason, error.detail))
            continue
        uuid = topic.uuid
        into.kinds[topic.kind] += 1
        into.from_whom.setdefault(uuid, []).append(message)
        ghost = (
            message.retain and isinstance(decoded, PresenceReport) and decoded.presence is Presence.OFFLINE
        )
        if ghost and len(into.from_whom[uuid]) == 1:
            into.ghosts.add(uuid)
        elif not ghost:
            into.ghosts.discard(uuid)
        match decoded:
            case Heartbeat():
                beats = into.beats.get(uuid)
                if beats is None:
                    into.beats[uuid] = Beats(decoded)
                else:
                    beats.add(decoded)
            case CommandAck():
                into.acks.append((uuid, decoded, message))
            case LogLine():
                into.logs.append((uuid, _log_entry(uuid, topic.level, decoded, message.payload, now)))
            case Screenshot():
                into.shots[uuid] = decoded
            case _:
                into.reports.append((uuid, decoded))


def _quiet_beat(
    pulse: Pulse, beats: Beats, now: datetime, listening_since: datetime | None, policy: StalePolicy
) -> QuietBeat:
    """Return what heartbeats that tell nothing new change in their client."""
    newest = beats.newest
    rhythm = beaten(
        Rhythm(pulse.interval, pulse.deviation, pulse.heartbeats),
        pulse.last_alive,
        pulse.last_device_time,
        None,
        Beat(now, newest.timestamp, None, beats.count),
        listening_since,
        policy,
    )
    threshold = rhythm.threshold_seconds(policy)
    return QuietBeat(
        pulse.uuid,
        now,
        newest.timestamp,
        (newest.timestamp - now).total_seconds(),
        beats.count,
        rhythm.interval,
        rhythm.deviation,
        threshold,
        now + timedelta(seconds=threshold),
    )


def _log_entry(
    uuid: str, level: topics.LogLevel | None, line: LogLine, payload: bytes, now: datetime
) -> NewEntry:
    """Return a log line for the timeline; the same bytes once more are a redelivery, not another line."""
    digest_of_line = hashlib.sha256(f"{uuid}/{level}/".encode() + payload).hexdigest()
    data = {"device_time": line.timestamp.isoformat(), "logger": line.logger, "context": line.context}
    told = {name: value for name, value in data.items() if value is not None}
    return NewEntry(
        client_uuid=uuid,
        at=now,
        kind=Kind.LOG,
        text=line.message,
        level=level,
        data=told,
        dedupe_key=digest_of_line,
    )


def _ack_line(
    before: ClientCommand, after: ClientCommand | None, ack: CommandAck, now: datetime
) -> HistoryLine:
    note: Fact[Note] | None = None
    if after is None or after.late or after.error_code:
        note = note_of_ack(ack.status, ack.error_code, ack.error_message, ignored=after is None)
    event = CommandEvent(
        at=now, from_status=before.status, to_status=(after or before).status, by=Part.DEVICE, note=note
    )
    return HistoryLine(before.command_id, before.client_uuid, event)


def _rejection(message: Incoming, now: datetime, reason: str, detail: str) -> RejectedMessage:
    return RejectedMessage(
        at=now,
        # PostgreSQL cannot store NUL in a text, and what is wrong with a message may be told by quoting it.
        topic=message.topic.replace("\x00", "")[:500],
        reason=reason,
        detail=detail.replace("\x00", ""),
        size=len(message.payload),
        head=message.payload[:HEAD_BYTES],
    )


def _kind_of(topic: str) -> str:
    """Return the kind for counting; a topic outside of the contract must not make a label of its own."""
    try:
        return topics.parse(topic).kind
    except BadMessage:
        return "unknown"
