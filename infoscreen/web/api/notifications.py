"""Notifications: channels, rules, and what was sent."""

from datetime import datetime
from typing import Annotated, Self

from aiohttp import web
from pydantic import Field, SecretStr, StringConstraints

from infoscreen.domain.accounts import Role
from infoscreen.domain.alerts import Severity
from infoscreen.domain.errors import Conflict, InvalidInput, NotFound
from infoscreen.domain.notifying import ChannelKind, DeliveryFault, NoticeStep
from infoscreen.domain.recovery import IncidentKind
from infoscreen.services.notify.channels import Notifying
from infoscreen.storage.notify.channels import StoredChannel
from infoscreen.storage.notify.rules import StoredRule
from infoscreen.web.api.requests import Label, Tag
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, actor_of, no_content, path_number, read_body, read_query, reply
from infoscreen.web.shapes import Answer, Body, Listing, Paging
from infoscreen.words.language import LANGUAGES
from infoscreen.words.speaking import say

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Lang = Annotated[str, Field(pattern=f"^({'|'.join(LANGUAGES)})$")]
Address = Annotated[SecretStr, Field(min_length=1, max_length=2_000)]
Numbers = Annotated[list[Annotated[int, Field(ge=1, lt=2**31)]], Field(max_length=50)]
Duration = Annotated[float, Field(ge=0, le=30 * 86_400, allow_inf_nan=False)]
Reminding = Annotated[float, Field(ge=60, le=30 * 86_400, allow_inf_nan=False)]


class NewChannel(Body):
    """A channel to be added. ``url`` and ``secret`` are never shown again."""

    name: Name
    kind: ChannelKind = Field(strict=False)
    url: Address = Field(description="An Apprise URL, or where the webhook is posted to.")
    secret: Address | None = Field(
        default=None, description="Signs the webhook; without it a random one is made and shown once."
    )
    language: Lang = "de"


class ChannelChange(Body):
    """What to change of a channel; what is left out stays as it is."""

    name: Name | None = None
    url: Address | None = None
    secret: Address | None = None
    language: Lang | None = None
    enabled: bool | None = None


class Channel(Answer):
    """A channel without its secrets."""

    id: int
    name: str
    kind: ChannelKind
    target: str = Field(description="As much of the URL as may be shown.")
    language: str
    enabled: bool
    created_at: datetime
    last_ok_at: datetime | None
    failing_since: datetime | None = Field(description="Null: the last message arrived.")
    last_error: str | None
    trouble: str | None = Field(description="Why its URL cannot be read, in the language asked for.")

    @classmethod
    def of(cls, channel: StoredChannel, notifying: Notifying) -> Self:
        """Return a channel as it is shown."""
        plain = {name: getattr(channel, name) for name in cls.model_fields if name != "trouble"}
        trouble = notifying.trouble_of(channel)
        return cls(**plain, trouble=None if trouble is None else say(trouble.fact))


class ChannelWithSecret(Channel):
    """A channel just added; the webhook's secret is shown this once."""

    secret: str | None


class Tested(Answer):
    """How a test message went; ``detail`` is what the receiver or Apprise said."""

    ok: bool
    fault: DeliveryFault | None
    status: int | None = Field(description="Of HTTP, where the channel uses it.")
    detail: str


class SendText(Body):
    """A text to be sent through the outbox."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]


class NotificationsQuery(Paging):
    """Which messages."""

    channel_id: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    incident_id: Annotated[int | None, Field(ge=1, lt=2**31)] = None


class Notification(Answer):
    """A message to one channel: waiting, sent, given up, or replaced by a summary."""

    id: int
    message_id: str
    channel_id: int
    incident_id: int | None
    step: NoticeStep
    severity: Severity
    created_at: datetime
    attempts: int
    next_at: datetime | None = Field(description="When it is tried next; null when nothing is left to do.")
    sent_at: datetime | None
    given_up_at: datetime | None
    summary_id: int | None = Field(description="The message that took its place.")
    last_error: str | None


class _RuleSettings(Body):
    kinds: list[IncidentKind] | None = Field(default=None, description="Empty or null: all.")
    critical_only: bool | None = None
    sites: Annotated[list[Label] | None, Field(max_length=500)] = None
    tags: Annotated[list[Tag] | None, Field(max_length=500)] = None
    channels: Numbers | None = Field(default=None, description="Empty or null: all.")
    delay_seconds: Duration | None = Field(default=None, description="Null: the default of each kind.")
    hours: Annotated[str | None, Field(max_length=500)] = Field(
        default=None, description="Opening hours; what is not critical waits for them."
    )
    time_zone: Annotated[str | None, Field(max_length=60)] = None
    reminder_seconds: Reminding | None = None
    resolved: bool | None = Field(default=None, description="Tell when it is over; null: yes.")
    escalate_to: Numbers | None = None
    escalate_after_seconds: Reminding | None = None


class NewRule(_RuleSettings):
    """A rule to be added."""

    name: Name
    enabled: bool = True


class RuleChange(_RuleSettings):
    """What to change of a rule; what is left out stays as it is, null is the default."""

    name: Name | None = None
    enabled: bool | None = None


class NotificationRule(Answer):
    """Which incidents are told where, and when."""

    id: int
    name: str
    enabled: bool
    created_at: datetime
    kinds: list[IncidentKind]
    critical_only: bool
    sites: list[str]
    tags: list[str]
    channels: list[int]
    delay_seconds: float | None
    hours: str | None
    time_zone: str | None
    reminder_seconds: float | None
    resolved: bool
    escalate_to: list[int]
    escalate_after_seconds: float | None

    @classmethod
    def of(cls, rule: StoredRule) -> Self:
        """Return a rule with its defaults filled in."""
        given = {name: value for name, value in rule.settings.items() if value is not None}
        plain: dict[str, list[str]] = {
            "kinds": [],
            "sites": [],
            "tags": [],
            "channels": [],
            "escalate_to": [],
        }
        rest = dict.fromkeys(
            ("delay_seconds", "hours", "time_zone", "reminder_seconds", "escalate_after_seconds")
        )
        return cls(
            id=rule.id,
            name=rule.name,
            enabled=rule.enabled,
            created_at=rule.created_at,
            **{**plain, **rest, "critical_only": False, "resolved": True, **given},
        )


async def list_channels(request: web.Request) -> web.StreamResponse:
    """List the channels."""
    asked = read_query(request, Paging)
    notifying = parts_of(request).notifying
    page = await notifying.channels(asked.limit, asked.cursor)
    items = [Channel.of(one, notifying) for one in page.items]
    return reply(Listing[Channel](items=items, next_cursor=page.next_cursor, total=page.total))


async def add_channel(request: web.Request) -> web.StreamResponse:
    """Add a channel."""
    given = await read_body(request, NewChannel)
    notifying = parts_of(request).notifying
    made = await notifying.add_channel(
        given.name,
        given.kind,
        given.url.get_secret_value(),
        given.language,
        actor_of(request),
        None if given.secret is None else given.secret.get_secret_value(),
    )
    shown = Channel.of(made.channel, notifying).model_dump()
    return reply(ChannelWithSecret(**shown, secret=made.secret if given.secret is None else None), 201)


async def change_channel(request: web.Request) -> web.StreamResponse:
    """Change a channel."""
    given = await read_body(request, ChannelChange)
    changes = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name in given.model_fields_set
        if (value := getattr(given, name)) is not None
    }
    notifying = parts_of(request).notifying
    changed = await notifying.change_channel(path_number(request, "id"), actor_of(request), changes)
    return reply(Channel.of(changed, notifying))


async def remove_channel(request: web.Request) -> web.StreamResponse:
    """Remove a channel and its messages."""
    await parts_of(request).notifying.remove_channel(path_number(request, "id"), actor_of(request))
    return no_content()


async def test_channel(request: web.Request) -> web.StreamResponse:
    """Send a test message now and answer with what came of it."""
    outcome = await parts_of(request).notifying.test(path_number(request, "id"), actor_of(request))
    return reply(Tested.model_validate(outcome))


async def send_text(request: web.Request) -> web.StreamResponse:
    """Put a text into the outbox of a channel."""
    given = await read_body(request, SendText)
    sent = await parts_of(request).notifying.send(path_number(request, "id"), given.text, actor_of(request))
    return reply(Notification.model_validate(sent), 202)


async def list_notifications(request: web.Request) -> web.StreamResponse:
    """List what was sent, tried and failed."""
    asked = read_query(request, NotificationsQuery)
    page = await parts_of(request).notifying.messages(
        asked.limit, asked.cursor, asked.channel_id, asked.incident_id
    )
    return reply(Listing[Notification].model_validate(page))


async def list_rules(request: web.Request) -> web.StreamResponse:
    """List the rules."""
    asked = read_query(request, Paging)
    page = await parts_of(request).notifying.rules(asked.limit, asked.cursor)
    items = [NotificationRule.of(one) for one in page.items]
    return reply(Listing[NotificationRule](items=items, next_cursor=page.next_cursor, total=page.total))


async def add_rule(request: web.Request) -> web.StreamResponse:
    """Add a rule."""
    given = await read_body(request, NewRule)
    settings = given.model_dump(mode="json", exclude={"name", "enabled"}, exclude_none=True)
    rule = await parts_of(request).notifying.add_rule(
        given.name, settings, actor_of(request), enabled=given.enabled
    )
    return reply(NotificationRule.of(rule), 201)


async def change_rule(request: web.Request) -> web.StreamResponse:
    """Change a rule."""
    given = await read_body(request, RuleChange)
    changes = given.model_dump(mode="json", exclude_unset=True)
    for name in ("name", "enabled"):
        if changes.get(name, "") is None:
            del changes[name]
    rule = await parts_of(request).notifying.change_rule(
        path_number(request, "id"), actor_of(request), changes
    )
    return reply(NotificationRule.of(rule))


async def remove_rule(request: web.Request) -> web.StreamResponse:
    """Remove a rule."""
    await parts_of(request).notifying.remove_rule(path_number(request, "id"), actor_of(request))
    return no_content()


ROUTES = (
    Route(
        "GET",
        "/api/channels",
        list_channels,
        Role.ADMIN,
        "List notification channels",
        query=Paging,
        response=Listing[Channel],
        problems=(InvalidInput,),
    ),
    Route(
        "POST",
        "/api/channels",
        add_channel,
        Role.ADMIN,
        "Add a notification channel",
        request=NewChannel,
        response=ChannelWithSecret,
        status=201,
        problems=(InvalidInput, Conflict),
    ),
    Route(
        "PATCH",
        "/api/channels/{id}",
        change_channel,
        Role.ADMIN,
        "Change a notification channel",
        request=ChannelChange,
        response=Channel,
        problems=(InvalidInput, NotFound, Conflict),
    ),
    Route(
        "DELETE",
        "/api/channels/{id}",
        remove_channel,
        Role.ADMIN,
        "Remove a notification channel and its messages",
        status=204,
        problems=(NotFound,),
    ),
    Route(
        "POST",
        "/api/channels/{id}/test",
        test_channel,
        Role.ADMIN,
        "Send a test message and show what came of it",
        response=Tested,
        problems=(NotFound, Conflict),
    ),
    Route(
        "POST",
        "/api/channels/{id}/send",
        send_text,
        Role.ADMIN,
        "Send a text to a channel",
        request=SendText,
        response=Notification,
        status=202,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "GET",
        "/api/notifications",
        list_notifications,
        Role.ADMIN,
        "List what was sent, tried and failed",
        query=NotificationsQuery,
        response=Listing[Notification],
        problems=(InvalidInput,),
    ),
    Route(
        "GET",
        "/api/notification-rules",
        list_rules,
        Role.ADMIN,
        "List notification rules",
        query=Paging,
        response=Listing[NotificationRule],
        problems=(InvalidInput,),
    ),
    Route(
        "POST",
        "/api/notification-rules",
        add_rule,
        Role.ADMIN,
        "Add a notification rule",
        request=NewRule,
        response=NotificationRule,
        status=201,
        problems=(InvalidInput, Conflict),
    ),
    Route(
        "PATCH",
        "/api/notification-rules/{id}",
        change_rule,
        Role.ADMIN,
        "Change a notification rule",
        request=RuleChange,
        response=NotificationRule,
        problems=(InvalidInput, NotFound, Conflict),
    ),
    Route(
        "DELETE",
        "/api/notification-rules/{id}",
        remove_rule,
        Role.ADMIN,
        "Remove a notification rule",
        status=204,
        problems=(NotFound,),
    ),
)
