"""What is odd about a client, in JSON: failed services, unreadable messages, two devices in one."""

from datetime import datetime
from typing import Self

from pydantic import Field

from infoscreen.domain.clients import Client, SignKind
from infoscreen.domain.duplicates import devices_of
from infoscreen.domain.error_codes import stored_defect
from infoscreen.domain.showing import counting
from infoscreen.web.shapes import Answer
from infoscreen.words.clients import sign
from infoscreen.words.speaking import say


class FailedServiceModel(Answer):
    """A unit that systemd on the device gave up on, and that nobody has acknowledged."""

    unit: str
    failed_at: datetime = Field(description="By the device's clock.")
    result: str | None
    raised_at: datetime = Field(description="When the report arrived.")


class SignModel(Answer):
    """Something that tells that the screen is dark or stuck although its device is heard."""

    kind: SignKind
    since: datetime = Field(description="Receipt of the first message that said so.")
    told_at: datetime | None = Field(
        description="The last frame, change or capture of the picture, by the device's clock."
    )
    text: str = Field(description="The same in one sentence.")

    @classmethod
    def all_of(cls, client: Client) -> list[Self]:
        """Return the signs that were seen often enough."""
        return [
            cls(kind=one.kind, since=one.since, told_at=one.told_at, text=sign(one))
            for one in counting(client.signs)
        ]


class DeviceModel(Answer):
    """One of the devices that use the same identity."""

    hostname: str | None
    ip: str | None
    boot_id: str | None
    mac: str | None
    heard_at: datetime


class Duplicate(Answer):
    """Two devices, or more, use this identity; the one that spoke last is the first."""

    since: datetime
    devices: list[DeviceModel]

    @classmethod
    def of(cls, client: Client) -> Self | None:
        """Return the devices, None while there is one."""
        if client.duplicate_since is None:
            return None
        devices = [DeviceModel.model_validate(one) for one in devices_of(client)]
        return cls(since=client.duplicate_since, devices=devices)


class PastDuplicateModel(Answer):
    """The last time in which several devices used this identity."""

    since: datetime
    until: datetime
    devices: list[DeviceModel]

    @classmethod
    def of(cls, client: Client) -> Self | None:
        """Return it, None if there was none."""
        past = client.identity and client.identity.last_duplicate
        return None if past is None else cls.model_validate(past)


class UnreadField(Answer):
    """An optional field that cannot be read; the rest of its message counts."""

    message: str = Field(description="heartbeat, health or discovery.")
    field: str = Field(description="Its name, dotted inside of blocks.")
    said: str = Field(description="The JSON that stood there, cut, invisible characters escaped.")

    @classmethod
    def of(cls, key: str, said: str) -> Self:
        """Return one entry of ``Client.unread_fields``."""
        message, _, field = key.partition(".")
        return cls(message=message, field=field, said=said)


class RefusedModel(Answer):
    """The last message of a client that could not be read at all, and how many there have been."""

    at: datetime
    reason: str
    detail: str | None
    count: int

    @classmethod
    def of(cls, client: Client) -> Self | None:
        """Return what is remembered, None while everything could be read."""
        if client.refused_at is None or client.refused_reason is None:
            return None
        defect = stored_defect(client.refused_defect)
        return cls(
            at=client.refused_at,
            reason=client.refused_reason,
            detail=None if defect is None else say(defect),
            count=client.refused_count,
        )
