"""Takes a batch of messages apart: state coalesced to the newest per client, events in order of arrival.

Decodes, and decides nothing but which messages count at all: a retained message is no sign of life.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from infoscreen.domain.clients import Presence
from infoscreen.domain.errors import BadMessage
from infoscreen.services.log_lines import log_entry
from infoscreen.services.ports import Incoming
from infoscreen.services.quota import Quotas
from infoscreen.services.reports import Beats, Refusal, Told
from infoscreen.storage.rejected import HEAD_BYTES, RejectedMessage
from infoscreen.storage.timeline import NewEntry
from infoscreen.wire import topics
from infoscreen.wire.messages import (
    CommandAck,
    DeviceMessage,
    Heartbeat,
    LogLine,
    PresenceReport,
    Received,
    Screenshot,
    ServiceCleared,
    ServiceFailed,
    read,
)


@dataclass(slots=True)
class SortedBatch:
    """A batch taken apart.

    ``reports`` are what clients said besides heartbeats; ``replayed`` what the broker retained of them.
    ``from_whom`` are the messages that show that their client exists; ``surplus`` counts those dropped unread
    because their device has used up its ``quotas``.
    """

    quotas: Quotas
    beats: dict[str, Beats] = field(default_factory=dict)
    reports: list[tuple[str, Told]] = field(default_factory=list)
    replayed: list[tuple[str, Told]] = field(default_factory=list)
    refused: dict[str, Refusal] = field(default_factory=dict)
    acks: list[tuple[str, CommandAck, Incoming]] = field(default_factory=list)
    logs: list[tuple[str, NewEntry]] = field(default_factory=list)
    shots: dict[str, Screenshot] = field(default_factory=dict)
    from_whom: dict[str, list[Incoming]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    retained: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    rejections: list[RejectedMessage] = field(default_factory=list)
    surplus: Counter[str] = field(default_factory=Counter)

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
            self.unread.update(one.field for one in received.unread)
            if message.retain:
                self._replay(topic, received)
            else:
                self._sort(topic, received, message, now)

    def to_fold(self, strangers: set[str]) -> list[tuple[str, Told]]:
        """Return what changes clients besides heartbeats, of all but the strangers.

        What was retained comes first, because it is older than anything said meanwhile.
        """
        refused = [(uuid, Told(refusal)) for uuid, refusal in self.refused.items()]
        return [one for one in (*self.replayed, *self.reports, *refused) if one[0] not in strangers]

    def _refuse(self, message: Incoming, now: datetime, error: BadMessage) -> None:
        uuid = topics.sender(message.topic)
        if uuid is not None and not message.payload:
            # That is how retained messages are taken back, also by us.
            self.retained[kind_of(message.topic)] += 1
            return
        self.rejections.append(rejection(message, now, error))
        if uuid is None or message.retain:
            return
        before = self.refused.get(uuid)
        self.refused[uuid] = Refusal(error.fact, 1 + (before.count if before else 0))

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
            self.from_whom.setdefault(uuid, []).append(message)
        match said:
            case Heartbeat():
                beats = self.beats.get(uuid)
                if beats is None:
                    self.beats[uuid] = Beats(said, received.unread)
                else:
                    beats.add(said, received.unread)
            case CommandAck():
                self.acks.append((uuid, said, message))
            case LogLine():
                self.logs.append((uuid, log_entry(uuid, topic.level, said, message.payload, now)))
            case Screenshot():
                self.shots[uuid] = said
            case _:
                self.reports.append((uuid, Told(said, received.unread)))


def _shows_life(said: DeviceMessage) -> bool:
    """Tell whether a message shows that its client is there.

    The last will of one that is gone does not, nor does an emptied report, which may be our own.
    """
    if isinstance(said, ServiceCleared):
        return False
    return not (isinstance(said, PresenceReport) and said.presence is Presence.OFFLINE)


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
    )


def kind_of(topic: str) -> str:
    """Return the kind for counting; a topic outside of the contract must not make a label of its own."""
    try:
        return topics.parse(topic).kind
    except BadMessage:
        return "unknown"
