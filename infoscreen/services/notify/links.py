"""Links in messages, by which an incident is acknowledged without signing in.

A link names one message, and by it one incident. It is signed, ends after a day and works once. Looking at it
changes nothing, however often a scanner of mail does so.
"""

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.events import RecoveryChanged
from infoscreen.services.bus import Bus
from infoscreen.services.secrets import Secrets
from infoscreen.storage import audit
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.notify import channels, messages, notices
from infoscreen.storage.recovery import incidents
from infoscreen.storage.recovery.incidents import StoredIncident

LASTS = timedelta(hours=24)
PURPOSE = "acknowledge link"
ID_BYTES, TIME_BYTES, SIGNATURE_BYTES = 16, 5, 32
MOST_NAMED = 20
NAME_LENGTH = 80


class LinkOutcome(StrEnum):
    """What has become of a link."""

    OPEN = "open"
    DONE = "done"
    """It has just been used."""
    UNKNOWN = "unknown"
    """Forged, damaged, signed with a key that is gone, or its message is gone."""
    ENDED = "ended"
    """More than a day old."""
    USED = "used"
    ACKNOWLEDGED = "acknowledged"
    """The incident was acknowledged in another way."""
    OVER = "over"
    """The incident is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedLink:
    """A link and, as long as it is genuine and has not ended, what it leads to."""

    state: LinkOutcome
    incident: StoredIncident | None = None
    channel: str = ""
    clients: tuple[str, ...] = ()


def token_of(secrets: Secrets, message_id: str, now: datetime) -> str | None:
    """Return the token in the link of a message that is sent now; None without a key to sign it with."""
    ends = int((now + LASTS).timestamp())
    claim = UUID(message_id).bytes + ends.to_bytes(TIME_BYTES)
    signature = secrets.sign(claim, PURPOSE)
    return None if signature is None else _encoded(claim + signature)


class AcknowledgeLinks:
    """Looks at links and follows them."""

    def __init__(self, store: Store, clock: Clock, bus: Bus, secrets: Secrets) -> None:
        self._store = store
        self._clock = clock
        self._bus = bus
        self._secrets = secrets

    async def look(self, token: str) -> FollowedLink:
        """Tell what a link leads to. Changes nothing."""
        claim = self._claim(token)
        if isinstance(claim, LinkOutcome):
            return FollowedLink(state=claim)
        async with self._store.read() as connection:
            return (await _linked(connection, claim))[0]

    async def acknowledge(
        self,
        token: str,
        *,
        actor: Actor | None,
        address: str | None,
        name: str | None = None,
        comment: str | None = None,
    ) -> FollowedLink:
        """Acknowledge what a link names.

        ``actor`` is who is signed in; without one it is done in the name of the channel, to which ``name``,
        which nobody has checked, is added.
        """
        claim = self._claim(token)
        if isinstance(claim, LinkOutcome):
            return FollowedLink(state=claim)
        async with self._store.write() as connection:
            linked, number = await _linked(connection, claim)
            incident = linked.incident
            if linked.state is not LinkOutcome.OPEN or incident is None:
                return linked
            now = self._clock.now()
            if not await messages.use_link(connection, number, now):
                return FollowedLink(state=LinkOutcome.USED, incident=incident, channel=linked.channel)
            by = actor or _by_link(linked.channel, name, address)
            if not await incidents.acknowledge(
                connection, incident.id, now, by.name, comment, if_nobody=True
            ):
                return replace(linked, state=LinkOutcome.ACKNOWLEDGED)
            detail = {"comment": comment, "message_id": claim, "channel": linked.channel}
            target = f"incident/{incident.id}"
            await audit.record(connection, now, by, "incident.acknowledge", target, detail)
            changed = await incidents.get(connection, incident.id)
        self._bus.publish(RecoveryChanged())
        return replace(linked, state=LinkOutcome.DONE, incident=changed)

    def _claim(self, token: str) -> str | LinkOutcome:
        """Return the id of the message that a link names, else what is wrong with the link."""
        raw = _decoded(token)
        if raw is None or len(raw) != ID_BYTES + TIME_BYTES + SIGNATURE_BYTES:
            return LinkOutcome.UNKNOWN
        claim, signature = raw[:-SIGNATURE_BYTES], raw[-SIGNATURE_BYTES:]
        if not self._secrets.is_signed(claim, signature, PURPOSE):
            return LinkOutcome.UNKNOWN
        ends = datetime.fromtimestamp(int.from_bytes(claim[ID_BYTES:]), UTC)
        # Further ahead than it can be: the clock was set back since.
        if not self._clock.now() < ends <= self._clock.now() + LASTS + timedelta(minutes=5):
            return LinkOutcome.ENDED
        return str(UUID(bytes=claim[:ID_BYTES]))


async def _linked(connection: Connection, message_id: str) -> tuple[FollowedLink, int]:
    """Return what a genuine link leads to, and the number of its message."""
    message = await messages.named(connection, message_id)
    if message is None or message.incident_id is None:
        return FollowedLink(state=LinkOutcome.UNKNOWN), 0
    channel = await channels.get(connection, message.channel_id)
    incident = await incidents.get(connection, message.incident_id)
    if channel is None or incident is None:
        return FollowedLink(state=LinkOutcome.UNKNOWN), 0
    if message.link_used_at is not None:
        state = LinkOutcome.USED
    elif incident.ended_at is not None:
        state = LinkOutcome.OVER
    elif incident.acknowledged_at is not None:
        state = LinkOutcome.ACKNOWLEDGED
    else:
        state = LinkOutcome.OPEN
    named = tuple(await notices.names_of(connection, incident.id, MOST_NAMED))
    return FollowedLink(
        state=state, incident=incident, channel=channel.name, clients=tuple(named)
    ), message.id


def _by_link(channel: str, name: str | None, address: str | None) -> Actor:
    shown = channel if not name else f"{name[:NAME_LENGTH]} ({channel})"
    return Actor(None, shown, Role.OPERATOR, "link", address)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(token: str) -> bytes | None:
    """Return the bytes of a token; None if it is none, or not written as we write it."""
    if len(token) > 200 or not token.isascii():
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if _encoded(raw) == token else None
