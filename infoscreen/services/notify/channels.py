"""What administrators do with channels and rules. Every act is audited; no secret is part of it."""

import asyncio
import secrets as randomness
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from infoscreen.clock import Clock, zone_named
from infoscreen.domain.accounts import Actor
from infoscreen.domain.alerts import Severity
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, InvalidInput, NotFound, SecretUnreadable
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.notifying import ChannelKind, DeliveryFault, NoticeStep
from infoscreen.domain.opening_hours import parsed
from infoscreen.domain.recovery import IncidentKind
from infoscreen.services.notify.delivery import SECRET, URL, Delivery
from infoscreen.services.notify.examples import example
from infoscreen.services.ports import Delivered, Notice, Sender
from infoscreen.services.secrets import Secrets
from infoscreen.storage import audit
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.notify import channels, messages, notices, rules
from infoscreen.storage.notify.channels import StoredChannel
from infoscreen.storage.notify.messages import StoredMessage
from infoscreen.storage.notify.rules import StoredRule
from infoscreen.storage.paging import Page

MOST_CHANNELS = 50
"""Channels and rules, each: people read them, and every rule is held against every incident."""


@dataclass(frozen=True, slots=True)
class ChannelKey:
    """A channel just made; the webhook's ``secret`` is shown once."""

    channel: StoredChannel
    secret: str | None


class Notifying:
    """Channels, rules and messages, as people manage them."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        sender: Sender,
        secrets: Secrets,
        delivery: Delivery,
        wake: asyncio.Event,
    ) -> None:
        """``wake`` is set when there is something to deliver."""
        self._store = store
        self._clock = clock
        self._sender = sender
        self._secrets = secrets
        self._delivery = delivery
        self._wake = wake

    @property
    def has_key(self) -> bool:
        """Tell whether addresses can be stored."""
        return self._secrets.available

    async def channel(self, channel_id: int) -> StoredChannel:
        """Return a channel; raise ``NotFound``."""
        async with self._store.read() as connection:
            return await _channel(connection, channel_id)

    async def rule(self, rule_id: int) -> StoredRule:
        """Return a rule; raise ``NotFound``."""
        async with self._store.read() as connection:
            return await _rule(connection, rule_id)

    def preview(self, kind: IncidentKind, step: NoticeStep, language: str) -> tuple[str, str]:
        """Return title and text of a message of that kind, about things that do not exist."""
        return self._sender.preview(example(kind, step, self._clock.now()), language)

    async def channels(self, limit: int, cursor: str | None = None) -> Page[StoredChannel]:
        """Return a page of the channels."""
        async with self._store.read() as connection:
            return await channels.page(connection, limit, cursor)

    def trouble_of(self, channel: StoredChannel) -> SecretUnreadable | None:
        """Return why the address of a channel cannot be read, None if it can."""
        try:
            self._delivery.receiver(channel)
        except SecretUnreadable as error:
            return error
        return None

    async def add_channel(
        self, name: str, kind: ChannelKind, url: str, language: str, actor: Actor, secret: str | None = None
    ) -> ChannelKey:
        """Add a channel; a webhook without a secret gets a random one.

        Raises:
            InvalidInput: the URL is not understood.
            Conflict: the name is taken, there are too many, Apprise is missing, or there is no key.
        """
        await self._check(kind, url)
        if kind is ChannelKind.WEBHOOK and secret is None:
            secret = randomness.token_urlsafe(32)
        # Nothing is stored when there is no key.
        self._secrets.seal(url, "")
        async with self._store.write() as connection:
            if await channels.named(connection, name) is not None:
                raise Conflict(ErrorCode.CHANNEL_EXISTS, name=name)
            if await channels.count(connection) >= MOST_CHANNELS:
                raise Conflict(ErrorCode.TOO_MANY_CHANNELS, most=MOST_CHANNELS)
            now = self._clock.now()
            channel = StoredChannel(
                name=name,
                kind=kind,
                target=shown(kind, url),
                sealed_url="",
                language=language,
                created_at=now,
            )
            number = await channels.add(connection, channel)
            await channels.change(connection, number, self._sealed(number, url, secret))
            detail = {"name": name, "kind": kind.value, "target": channel.target, "language": language}
            await audit.record(connection, now, actor, "channel.add", f"channel/{number}", detail)
            return ChannelKey(await _channel(connection, number), secret)

    async def change_channel(
        self, channel_id: int, actor: Actor, changes: Mapping[str, Any]
    ) -> StoredChannel:
        """Change ``name``, ``url``, ``secret``, ``language`` or ``enabled``; what is left out stays.

        Raises ``NotFound`` and what ``add_channel`` raises.
        """
        async with self._store.read() as connection:
            known = await _channel(connection, channel_id)
        url, secret = changes.get("url"), changes.get("secret")
        if url is not None:
            await self._check(known.kind, url)
        async with self._store.write() as connection:
            known = await _channel(connection, channel_id)
            named = await channels.named(connection, changes.get("name", known.name))
            if named is not None and named.id != channel_id:
                raise Conflict(ErrorCode.CHANNEL_EXISTS, name=named.name)
            values = {name: changes[name] for name in ("name", "language", "enabled") if name in changes}
            detail: dict[str, Any] = dict(values)
            if url is not None:
                values["target"] = detail["target"] = shown(known.kind, url)
                values |= {"failing_since": None, "last_error": None}
            values |= self._sealed(channel_id, url, secret)
            if secret is not None:
                detail["secret"] = "changed"  # noqa: S105 - says that it was
            await channels.change(connection, channel_id, values)
            now = self._clock.now()
            await audit.record(connection, now, actor, "channel.change", f"channel/{channel_id}", detail)
            changed = await _channel(connection, channel_id)
        self._wake.set()
        return changed

    async def remove_channel(self, channel_id: int, actor: Actor) -> None:
        """Remove a channel with its messages, also from the rules; raise ``NotFound``.

        A rule that is left without a channel is disabled: otherwise it would tell all of them.
        """
        async with self._store.write() as connection:
            known = await _channel(connection, channel_id)
            await channels.remove(connection, channel_id)
            disabled = []
            for rule in await rules.every(connection):
                if (changed := _without(rule, channel_id)) is not None:
                    await rules.change(connection, rule.id, changed)
                    if not changed.get("enabled", True):
                        disabled.append(rule.name)
            detail = {"name": known.name, "rules_disabled": disabled}
            await audit.record(
                connection, self._clock.now(), actor, "channel.remove", f"channel/{channel_id}", detail
            )

    async def test(self, channel_id: int, actor: Actor) -> Delivered:
        """Send a test message at once, past the outbox, and return the receiver's own answer.

        Raises ``NotFound`` and ``SecretUnreadable``.
        """
        async with self._store.read() as connection:
            channel = await _channel(connection, channel_id)
        receiver = self._delivery.receiver(channel)
        now = self._clock.now()
        notice = Notice(
            message_id=str(uuid4()), step=NoticeStep.TEST, number=0, severity=Severity.WARNING, created_at=now
        )
        outcome = await self._sender.send(receiver, notice)
        async with self._store.write() as connection:
            await audit.record(
                connection, now, actor, "channel.test", f"channel/{channel_id}", {"ok": outcome.ok}
            )
            if outcome.ok:
                await channels.note_result(connection, channel_id, now, None)
        return outcome

    async def send(self, channel_id: int, text: str, actor: Actor) -> StoredMessage:
        """Put a text of a person into the outbox; raise ``NotFound``."""
        now = self._clock.now()
        message = StoredMessage(
            message_id=str(uuid4()),
            channel_id=channel_id,
            step=NoticeStep.TEXT,
            severity=Severity.WARNING,
            facts={"text": text},
            created_at=now,
            next_at=now,
        )
        async with self._store.write() as connection:
            await _channel(connection, channel_id)
            number = await messages.add_one(connection, message)
            await audit.record(
                connection, now, actor, "channel.send", f"channel/{channel_id}", {"text": text}
            )
            stored = await messages.get(connection, number)
        self._wake.set()
        return stored or message

    async def messages(
        self,
        limit: int,
        cursor: str | None = None,
        channel_id: int | None = None,
        incident_id: int | None = None,
    ) -> Page[StoredMessage]:
        """Return a page of messages, newest first."""
        async with self._store.read() as connection:
            return await messages.page(
                connection, limit, cursor, channel_id=channel_id, incident_id=incident_id
            )

    async def rules(self, limit: int, cursor: str | None = None) -> Page[StoredRule]:
        """Return a page of the rules."""
        async with self._store.read() as connection:
            return await rules.page(connection, limit, cursor)

    async def add_rule(
        self, name: str, settings: Mapping[str, Any], actor: Actor, *, enabled: bool = True
    ) -> StoredRule:
        """Add a rule; raise ``InvalidInput`` or ``Conflict``."""
        async with self._store.write() as connection:
            if await rules.named(connection, name) is not None:
                raise Conflict(ErrorCode.RULE_EXISTS, name=name)
            if await rules.count(connection) >= MOST_CHANNELS:
                raise Conflict(ErrorCode.TOO_MANY_CHANNELS, most=MOST_CHANNELS)
            await _check_rule(connection, settings)
            now = self._clock.now()
            rule = StoredRule(name=name, enabled=enabled, settings=settings, created_at=now)
            number = await rules.add(connection, rule)
            detail = {"name": name, **settings}
            await audit.record(connection, now, actor, "rule.add", f"rule/{number}", detail)
            return await _rule(connection, number)

    async def change_rule(self, rule_id: int, actor: Actor, changes: Mapping[str, Any]) -> StoredRule:
        """Change a rule: ``name``, ``enabled`` and its settings; what is left out stays."""
        async with self._store.write() as connection:
            known = await _rule(connection, rule_id)
            named = await rules.named(connection, changes.get("name", known.name))
            if named is not None and named.id != rule_id:
                raise Conflict(ErrorCode.RULE_EXISTS, name=named.name)
            values = {name: changes[name] for name in ("name", "enabled") if name in changes}
            settings = {**known.settings, **{k: v for k, v in changes.items() if k not in values}}
            await _check_rule(connection, settings)
            await rules.change(connection, rule_id, {**values, "settings": settings})
            await notices.forget_untold(connection, rule_id)
            now = self._clock.now()
            await audit.record(connection, now, actor, "rule.change", f"rule/{rule_id}", dict(changes))
            return await _rule(connection, rule_id)

    async def remove_rule(self, rule_id: int, actor: Actor) -> None:
        """Remove a rule; raise ``NotFound``."""
        async with self._store.write() as connection:
            known = await _rule(connection, rule_id)
            await rules.remove(connection, rule_id)
            now = self._clock.now()
            await audit.record(connection, now, actor, "rule.remove", f"rule/{rule_id}", {"name": known.name})

    async def _check(self, kind: ChannelKind, url: str) -> None:
        if kind is ChannelKind.WEBHOOK:
            if not _is_webhook(url):
                raise InvalidInput.of("url", FieldFault.NOT_A_WEBHOOK_URL)
            return
        outcome = await self._sender.check(kind, url)
        if outcome.fault is DeliveryFault.EXTRA_MISSING:
            raise Conflict(ErrorCode.NOTIFY_EXTRA_MISSING)
        if not outcome.ok:
            raise InvalidInput.of("url", FieldFault.NOT_A_CHANNEL_URL)

    def _sealed(self, channel_id: int, url: str | None, secret: str | None) -> dict[str, Any]:
        values = {}
        if url is not None:
            values["sealed_url"] = self._secrets.seal(url, URL.format(id=channel_id))
        if secret is not None:
            values["sealed_secret"] = self._secrets.seal(secret, SECRET.format(id=channel_id))
        return values


def shown(kind: ChannelKind, url: str) -> str:
    """Return what may be shown of a URL: of Apprise's the scheme only, as any part may be secret."""
    if kind is ChannelKind.WEBHOOK:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}/..."[:300]
    scheme = url.partition("://")[0]
    return f"{scheme if scheme.isalnum() and len(scheme) <= 20 else '?'}://..."


def _is_webhook(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url and parts.username is None
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


async def _channel(connection: Connection, channel_id: int) -> StoredChannel:
    found = await channels.get(connection, channel_id)
    if found is None:
        raise NotFound(ErrorCode.NO_CHANNEL, id=str(channel_id))
    return found


async def _rule(connection: Connection, rule_id: int) -> StoredRule:
    found = await rules.get(connection, rule_id)
    if found is None:
        raise NotFound(ErrorCode.NO_RULE, id=str(rule_id))
    return found


def _without(rule: StoredRule, channel_id: int) -> dict[str, Any] | None:
    """Return what changes of a rule when a channel is gone; None if the rule does not name it."""
    settings = dict(rule.settings)
    named = [name for name in ("channels", "escalate_to") if channel_id in (settings.get(name) or ())]
    if not named:
        return None
    for name in named:
        settings[name] = [one for one in settings[name] if one != channel_id]
    if not settings.get("escalate_to"):
        settings["escalate_after_seconds"] = None
    changes: dict[str, Any] = {"settings": settings}
    if "channels" in named and not settings["channels"]:
        changes["enabled"] = False
    return changes


async def _check_rule(connection: Connection, settings: Mapping[str, Any]) -> None:
    known = {channel.id for channel in await channels.every(connection)}
    for name in ("channels", "escalate_to"):
        for number in settings.get(name) or ():
            if number not in known:
                raise InvalidInput.of(name, FieldFault.NO_SUCH_CHANNEL, id=number)
    if bool(settings.get("escalate_to")) != (settings.get("escalate_after_seconds") is not None):
        raise InvalidInput.of("escalate_after_seconds", FieldFault.NOT_BOTH, other="escalate_to")
    if (zone := settings.get("time_zone")) is not None and zone_named(zone) is None:
        raise InvalidInput.of("time_zone", FieldFault.NO_SUCH_TIME_ZONE)
    if (hours := settings.get("hours")) is not None:
        try:
            parsed(hours)
        except ValueError as error:
            part = str(error)[:60]
            column = max(hours.find(part), 0) + 1
            raise InvalidInput.of("hours", FieldFault.NOT_OPENING_HOURS, part=part, column=column) from None
