"""Takes a batch of messages apart: state coalesced to the newest per client, events in order of arrival.

Decodes, and decides nothing but which messages count at all: a retained message is no sign of life.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from infoscreen.domain.clients import Presence
from infoscreen.domain.errors import BadMessage
from infoscreen.services.beats import Beats, Heard, beats_of
from infoscreen.services.log_lines import log_entry
from infoscreen.services.ports import Incoming
from infoscreen.services.quota import Quotas
from infoscreen.services.reports import Refusal, Told
from infoscreen.storage.heartbeats import Pulse
from infoscreen.storage.rejected import HEAD_BYTES, Key, RejectedMessage
from infoscreen.storage.timeline import NewEntry
from infoscreen.wire import topics
from infoscreen.wire.messages import (
    CommandAck,
    DeviceMessage,
    Health,
    Heartbeat,
    LogLine,
    PresenceReport,
    Received,
    Screenshot,
    ServiceCleared,
    ServiceFailed,
    read,
)

REPEATED_WITHIN = timedelta(hours=1)
"""Heartbeats that the broker repeats span no more; after a larger step back it is a clock that was set."""


@dataclass(slots=True)
class SortedBatch:
    """A batch taken apart.

    ``reports`` are what clients said besides heartbeats; ``replayed`` what the broker retained of them.
    ``from_whom`` are the messages that show that their client exists; ``surplus`` counts those dropped unread
    because their device has used up its ``quotas``. ``refused`` are rejections by who sent them just
    now. ``repeated`` are heartbeats that may be stored already; a
    session delivers them before all others.
    """

    quotas: Quotas
    beats: dict[str, Beats] = field(default_factory=dict)
    repeated: defaultdict[str, list[Heard]] = field(default_factory=lambda: defaultdict(list))
    reports: list[tuple[str, Told]] = field(default_factory=list)
    replayed: list[tuple[str, Told]] = field(default_factory=list)
    refused: list[tuple[str, RejectedMessage]] = field(default_factory=list)
    acks: list[tuple[str, CommandAck, Incoming]] = field(default_factory=list)
    logs: list[tuple[str, NewEntry]] = field(default_factory=list)
    shots: dict[str, Screenshot] = field(default_factory=dict)
    from_whom: defaultdict[str, list[Incoming]] = field(default_factory=lambda: defaultdict(list))
    kinds: Counter[str] = field(default_factory=Counter)
    retained: Counter[str] = field(default_factory=Counter)
    emptied: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    rejections: list[RejectedMessage] = field(default_factory=list)
    surplus: Counter[str] = field(default_factory=Counter)
    _last_health: dict[str, int] = field(default_factory=dict)
    """Where in ``reports`` the health is that was a client's last report."""

    def take(self, batch: Sequence[Incoming], now: datetime) -> None:
        """Take in messages, in order of arrival."""
        for message in batch:
            try:
                topic = topics.parse(message.topic)
                if not self.quotas.admits(topic, len(message.payload)):
                    self.surplus[topic.kind] += 1
                    continue
                received = read(topic, message.payload)
            except BadMessage as error:
                self._refuse(message, now, error)
                continue
            if received.unread:
                self.unread.update(one.field for one in received.unread)
            if message.retain:
                self._replay(topic, received)
            else:
                self._sort(topic, received, message, now)

    def beats_not_stored(self, pulses: Mapping[str, Pulse]) -> dict[str, Beats]:
        """Return the heartbeats without repeated ones up to the last that is stored.

        Batches are stored whole and in order, so that one is told by its time. What is repeated may come in
        several batches: then what is a little earlier than the last that is stored is stored as well.
        """
        if not self.repeated:
            return self.beats
        found = dict(self.beats)
        for uuid, again in self.repeated.items():
            stored_at = pulses[uuid].last_device_time if uuid in pulses else None
            stored = [number for number, (said, _) in enumerate(again, 1) if said.timestamp == stored_at]
            fresh = again[stored[-1] :] if stored else _not_just_before(stored_at, again)
            if fresh:
                found[uuid] = beats_of(fresh, self.beats.get(uuid))
        return found

    def to_fold(self, strangers: set[str], stored: set[Key]) -> list[tuple[str, Told]]:
        """Return what changes clients besides heartbeats, of all but the strangers.

        What was retained comes first, because it is older than anything said meanwhile. Rejections that are
        ``stored`` already are left out.
        """
        refusals: dict[str, Refusal] = {}
        for uuid, message in self.refused:
            if message.key not in stored:
                before = refusals.get(uuid)
                refusals[uuid] = Refusal(message.defect, 1 + (before.count if before else 0))
        refused = [(uuid, Told(refusal)) for uuid, refusal in refusals.items()]
        everything = [*self.replayed, *self.reports, *refused]
        return [one for one in everything if one[0] not in strangers] if strangers else everything

    def _refuse(self, message: Incoming, now: datetime, error: BadMessage) -> None:
        if topics.is_of_check(message.topic):
            return
        uuid = topics.sender(message.topic)
        if uuid is not None and not message.payload:
            # That is how retained messages are taken back, also by us.
            self.emptied[kind_of(message.topic)] += 1
            return
        refused = rejection(message, now, error)
        self.rejections.append(refused)
        if uuid is not None and not message.retain:
            self.refused.append((uuid, refused))

    def _replay(self, topic: topics.DeviceTopic, received: Received) -> None:
        """Keep of what was retained only what is state; none of it was said just now.

        ``online`` may have been retained by a broker that never learned of the device's end.
        """
        self.retained[topic.kind] += 1
        match received.message:
            case ServiceFailed() | PresenceReport(presence=Presence.OFFLINE):
                self.replayed.append((topic.uuid, Told(received.message, received.unread, replay=True)))
            case _:
                pass

    def _sort(self, topic: topics.DeviceTopic, received: Received, message: Incoming, now: datetime) -> None:
        uuid, said = topic.uuid, received.message
        self.kinds[topic.kind] += 1
        if _shows_life(said):
            self.from_whom[uuid].append(message)
        match said:
            case Heartbeat() if message.repeated:
                self.repeated[uuid].append((said, received.unread))
            case Heartbeat():
                beats = self.beats.get(uuid)
                if beats is None:
                    self.beats[uuid] = Beats(said, received.unread)
                else:
                    beats.add(said, received.unread)
            case Health():
                self._take_health(uuid, Told(said, received.unread))
            case CommandAck():
                self.acks.append((uuid, said, message))
            case LogLine():
                self.logs.append((uuid, log_entry(uuid, topic.level, said, message.payload, now)))
            case Screenshot():
                self.shots[uuid] = said
            case _:
                self._last_health.pop(uuid, None)
                self.reports.append((uuid, Told(said, received.unread)))

    def _take_health(self, uuid: str, told: Told) -> None:
        """Keep health, in place of the client's last report if that is health and says nothing else."""
        at = self._last_health.get(uuid)
        if at is not None and _replaces(told, self.reports[at][1]):
            self.reports[at] = (uuid, told)
            return
        self._last_health[uuid] = len(self.reports)
        self.reports.append((uuid, told))


def _replaces(newer: Told, older: Told) -> bool:
    """Tell whether newer health says, apart from readings, what the older one does."""
    one, other = newer.report, older.report
    if newer.unread or older.unread or not isinstance(one, Health) or not isinstance(other, Health):
        return False
    state, before = one.actual_state, other.actual_state
    if state is None or before is None:
        same = state is before
    else:
        same = (
            state.status is before.status
            and state.pid == before.pid
            and state.process == before.process
            and state.started_at == before.started_at
        )
    if not same or other.broker_connection is None:
        return same
    broker = one.broker_connection
    return (
        broker is not None
        and broker.reconnect_count is not None
        and (broker.last_disconnect_at is not None or other.broker_connection.last_disconnect_at is None)
    )


def _not_just_before(stored_at: datetime | None, again: list[Heard]) -> list[Heard]:
    if stored_at is None:
        return again
    return [one for one in again if not stored_at - REPEATED_WITHIN < one[0].timestamp < stored_at]


def _shows_life(said: DeviceMessage) -> bool:
    """Tell whether a message shows that its client is there.

    The last will of one that is gone does not, nor does an emptied report, which may be our own.
    """
    match said:
        case Heartbeat() | Health():
            return True
        case ServiceCleared():
            return False
        case PresenceReport():
            return said.presence is not Presence.OFFLINE
        case _:
            return True


def rejection(message: Incoming, now: datetime, error: BadMessage) -> RejectedMessage:
    """Return what is kept of a message that was refused."""
    return RejectedMessage(
        at=now,
        # PostgreSQL cannot store NUL in a text.
        topic=message.topic.replace("\x00", "")[:500],
        reason=error.reason,
        defect=error.fact,
        size=len(message.payload),
        head=message.payload[:HEAD_BYTES],
        packet_id=int.from_bytes(message.packet_id) or None,
        repeated=message.repeated,
    )


def kind_of(topic: str) -> str:
    """Return the kind for counting; a topic outside of the contract must not make a label of its own."""
    try:
        return topics.parse(topic).kind
    except BadMessage:
        return "unknown"
