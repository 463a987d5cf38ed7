"""Incidents and messages, made by hand."""

from itertools import count
from typing import Any
from uuid import uuid4

from infoscreen.domain.alerts import Severity
from infoscreen.domain.notifying import ChannelKind, NoticeStep
from infoscreen.domain.recovery import Incident, IncidentKind
from infoscreen.services.notify.links import token_of
from infoscreen.storage.notify import messages
from infoscreen.storage.notify.messages import StoredMessage
from infoscreen.storage.recovery import incidents
from tests.spine import ADMIN, Spine
from tests.web import SECRETS, Site

_REMINDERS = count(1)


async def make_channel(site: Site, name: str = "Bereitschaft") -> int:
    """Add a webhook that nobody listens to."""
    url = "https://hooks.example/x"
    made = await site.parts.notifying.add_channel(name, ChannelKind.WEBHOOK, url, "de", ADMIN)
    return made.channel.id


async def make_incident(
    spine: Spine,
    key: str = "one",
    kind: IncidentKind = IncidentKind.SITE_OUTAGE,
    uuids: tuple[str, ...] = (),
    **more: Any,
) -> int:
    """Let an incident begin."""
    values = {"began_at": spine.clock.now(), "site": "Messe", "members": 40} | more
    async with spine.store.write() as connection:
        number = await incidents.save(connection, Incident(key=key, kind=kind, **values))
        await incidents.join(connection, number, uuids, spine.clock.now())
    return number


async def make_message(spine: Spine, incident: int | None, channel: int = 1, **more: Any) -> str:
    """Put a message into the outbox; return its id."""
    message_id = str(uuid4())
    values = {"created_at": spine.clock.now(), "step": NoticeStep.REMINDER, "number": next(_REMINDERS)} | more
    stored = StoredMessage(
        message_id=message_id,
        channel_id=channel,
        incident_id=incident,
        severity=Severity.WARNING,
        **values,
    )
    async with spine.store.write() as connection:
        await messages.add(connection, [stored])
    return message_id


async def make_link(site: Site, incident: int | None) -> str:
    """Return the token in the link of a message about an incident."""
    return token_of(SECRETS, await make_message(site.spine, incident), site.spine.clock.now()) or ""
