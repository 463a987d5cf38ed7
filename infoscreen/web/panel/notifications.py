"""Notifications at a glance: channels, rules, and what was sent, tried and given up. For administrators."""

from typing import Annotated, Literal
from urllib.parse import urlencode

from aiohttp import web
from pydantic import Field

from infoscreen.domain.accounts import Role
from infoscreen.domain.notifying import NoticeStep
from infoscreen.domain.recovery import IncidentKind
from infoscreen.services.notify.delivery import notice_of
from infoscreen.storage.notify.messages import StoredMessage
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import channels, rules
from infoscreen.web.panel.channels import HOME
from infoscreen.web.panel.forms import Address, Number, Optional
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import Route, read_query
from infoscreen.words import recovery
from infoscreen.words.language import Language
from infoscreen.words.notices import KIND_NAMES, counted

MOST, MESSAGES, LONGEST = 50, 50, 200


class NotificationsAddress(Address):
    """Which page of the messages, and of which channel."""

    channel: Annotated[Number | None, Optional] = None
    cursor: Annotated[str, Field(max_length=1_000)] = ""


class PreviewAddress(Address):
    """Which message is to be shown, in which language."""

    kind: IncidentKind = IncidentKind.SITE_OUTAGE
    step: NoticeStep = NoticeStep.OPENED
    language: Literal["", "de", "en"] = ""


async def get_notifications(request: web.Request) -> web.StreamResponse:
    """Show channels, rules and messages."""
    asked = read_query(request, NotificationsAddress)
    notifying, language = parts_of(request).notifying, language_of(request)
    listed = (await notifying.channels(MOST)).items
    sent = await notifying.messages(MESSAGES, asked.cursor or None, asked.channel)
    following = None
    if sent.next_cursor is not None:
        fields = {"cursor": sent.next_cursor} | ({"channel": str(asked.channel)} if asked.channel else {})
        following = f"{HOME}?{urlencode(fields)}#messages-title"
    return await page(
        request,
        "notifications.html",
        here="notifications",
        channels=listed,
        unreadable={one.id for one in listed if notifying.trouble_of(one) is not None},
        names={one.id: one.name for one in listed},
        rules=[(one, rules.filled(one.settings)) for one in (await notifying.rules(MOST)).items],
        sent=[(one, about(one, language)) for one in sent.items],
        chosen=asked.channel,
        first=not asked.cursor,
        following=following,
        has_key=notifying.has_key,
        kind_names=KIND_NAMES,
    )


async def get_preview(request: web.Request) -> web.StreamResponse:
    """Show what a message says."""
    asked = read_query(request, PreviewAddress)
    code = asked.language or language_of(request).code
    title, text = parts_of(request).notifying.preview(asked.kind, asked.step, code)
    return await page(
        request,
        "notification_preview.html",
        here="notifications",
        asked=asked,
        code=code,
        title=title,
        text=text,
        kind_names=KIND_NAMES,
        steps=list(NoticeStep),
    )


def about(message: StoredMessage, language: Language) -> str:
    """Say what a message is about."""
    notice = notice_of(message)
    if notice.incident is not None:
        return recovery.title(notice.incident, language)
    if notice.counts:
        return "; ".join(counted(notice.counts, language))
    text = notice.text or ""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


ROUTES = (
    Route(
        "GET",
        HOME,
        get_notifications,
        Role.ADMIN,
        "Notifications",
        query=NotificationsAddress,
        html=True,
    ),
    Route(
        "GET",
        f"{HOME}/preview",
        get_preview,
        Role.ADMIN,
        "What a message says",
        query=PreviewAddress,
        html=True,
    ),
    *channels.ROUTES,
    *rules.ROUTES,
)
