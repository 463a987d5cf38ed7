"""What pages are asked for and what their forms send, and where people go afterwards."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import UUID

from aiohttp import web
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
)

from infoscreen.clock import zone_named
from infoscreen.domain.clients import Client, ClientEdit
from infoscreen.domain.commands import Action
from infoscreen.domain.faults import BadValue, FieldFault
from infoscreen.domain.recovery import Meanwhile
from infoscreen.web.api.requests import Sort, in_calendar


def _none_if_blank(given: Any) -> Any:
    return None if isinstance(given, str) and not given.strip() else given


def own_path(given: str) -> str:
    """Return the address if it is one of ours, else the overview: nobody is sent elsewhere from here."""
    harmless = given.startswith("/") and not given.startswith("//") and "\\" not in given
    return given if harmless and given.isprintable() else "/"


def see_other(location: str) -> web.Response:
    """Answer a form that was dealt with: go there and look."""
    return web.Response(status=303, headers={"Location": quote(location, safe="/?#&=%+:@,;~!$'()*")})


OwnPath = Annotated[str, StringConstraints(max_length=2_000), BeforeValidator(own_path)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]
Optional = BeforeValidator(_none_if_blank)
Number = Annotated[int, Field(ge=1, lt=2**31)]
Waits = Literal["", "1d", "3d", "7d"]


def is_canonical(text: str) -> bool:
    """Tell whether a text is a UUID as we write it."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def listed_uuids(text: str) -> list[str]:
    """Return the UUIDs that a form lists, each once; what is none is left out."""
    return list(dict.fromkeys(filter(is_canonical, text.split(","))))


def _canonical(text: str) -> str:
    if not is_canonical(text):
        raise BadValue(FieldFault.NOT_A_UUID)
    return text


CanonicalUuid = Annotated[str, AfterValidator(_canonical)]


class Form(BaseModel):
    """Fields as browsers send them: text, and empty where nothing was entered."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Address(BaseModel):
    """A query string that people edit and keep; what we do not know in it is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ClientsAddress(Address):
    """Which clients, in which order, from where on; ``first`` only numbers the rows."""

    q: Annotated[Line, Field(max_length=200)] = ""
    status: Annotated[str, Field(max_length=40)] = ""
    site: Annotated[str, Field(max_length=200)] = ""
    tag: Annotated[Line, Field(max_length=100)] = ""
    sort: Sort = "name"
    cursor: Annotated[str, Field(max_length=1_000)] = ""
    first: Annotated[int, Field(ge=1, lt=10**9)] = 1


class BulkAddress(ClientsAddress):
    """Which action, and for whom: the chosen clients, or all that the filter matches."""

    action: Action
    scope: Literal["chosen", "all"] = "chosen"
    client: Annotated[list[CanonicalUuid], Field(max_length=500)] = Field(default_factory=list)
    when_back: Literal["", "1"] = ""


class PageAddress(Address):
    """From where on a list is shown."""

    cursor: Annotated[str, Field(max_length=1_000)] = ""


class AuditAddress(Address):
    """Which entries of the audit trail."""

    actor: Annotated[Line, Field(max_length=100)] = ""
    action: Annotated[Line, Field(max_length=60)] = ""
    target: Annotated[Line, Field(max_length=200)] = ""
    cursor: Annotated[str, Field(max_length=1_000)] = ""


class ClientAddress(Address):
    """Which part of a client's history."""

    show: Literal["", "status", "commands", "recovery", "logs", "acts"] = ""
    cursor: Annotated[str, Field(max_length=1_000)] = ""


class NextAddress(Address):
    """Where to go afterwards."""

    next: OwnPath = "/"


class CommandAddress(NextAddress):
    """How a command is asked for; ``when_back`` lets it wait for its client."""

    when_back: Literal["", "1"] = ""


class SignIn(Form):
    """Credentials."""

    username: Annotated[str, Field(max_length=100)] = ""
    password: SecretStr = Field(default=SecretStr(""), max_length=1_000)
    next: OwnPath = "/"


class CodeForm(Form):
    """A code of the second factor, or a recovery code."""

    code: SecretStr = Field(default=SecretStr(""), max_length=100)
    next: OwnPath = "/"


class PasswordForm(Form):
    """One's password once more, before something that matters."""

    username: Annotated[str, Field(max_length=100)] = ""
    password: SecretStr = Field(default=SecretStr(""), max_length=1_000)


class LanguageChoice(Form):
    """Which language from now on."""

    language: Literal["de", "en"]
    next: OwnPath = "/"


class ThemeChoice(Form):
    """Which colours from now on."""

    theme: Literal["system", "light", "dark"]
    next: OwnPath = "/"


class UndoForm(Form):
    """What was done a moment ago is to be taken back."""

    token: Annotated[str, Field(max_length=100)]
    next: OwnPath = "/"


class Onward(Form):
    """A button without further questions."""

    next: OwnPath | None = None


class AcknowledgementForm(Form):
    """Someone takes care of a failed service: the one that failed at ``failed_at``, not a later one."""

    failed_at: datetime
    unit: Annotated[str, Field(max_length=500)] = ""
    comment: Annotated[Line | None, Optional] = None
    next: OwnPath = "/"


class FailuresForm(Form):
    """Someone takes care of the failed services of clients, as they were at ``listed_at``."""

    client_uuids: Annotated[str, Field(max_length=20_000)]
    listed_at: AwareDatetime
    comment: Annotated[Line | None, Optional] = None
    next: OwnPath = "/"

    @property
    def uuids(self) -> list[str]:
        """Return the clients, each once."""
        return listed_uuids(self.client_uuids)


class Order(Form):
    """A command for one client. ``typed`` is the client's name, where it is asked for.

    With ``lasts`` it waits so long for a client that is away.
    """

    action: Action
    reason: Annotated[Line | None, Optional] = None
    typed: Line = ""
    force: Literal["", "yes"] = ""
    lasts: Waits = ""
    next: OwnPath | None = None


class BulkForm(Form):
    """An action for many clients; ``typed`` is their number, where it is asked for.

    With ``lasts`` it waits so long for clients that are away.
    """

    action: Action
    client_uuids: Annotated[str, Field(max_length=200_000)] = ""
    reason: Annotated[Line | None, Optional] = None
    typed: Line = ""
    lasts: Waits = ""

    @property
    def uuids(self) -> list[str]:
        """Return the clients, each once."""
        return listed_uuids(self.client_uuids)


class Restarts(Form):
    """Apps to be restarted; ``typed`` is the number of clients, where it is asked for."""

    client_uuids: Annotated[str, Field(max_length=20_000)]
    typed: Line = ""

    @property
    def uuids(self) -> list[str]:
        """Return the clients, each once."""
        return listed_uuids(self.client_uuids)


class Removal(Form):
    """A client shall go; ``typed`` is its name."""

    typed: Line = ""
    reason: Line = ""


def _same_minute(local: datetime, at: datetime) -> bool:
    """Tell whether a time is written like a local one, which has no seconds and does not tell summer time."""
    return f"{local:%Y-%m-%dT%H:%M}" == f"{at.astimezone(local.tzinfo):%Y-%m-%dT%H:%M}"


def _in_zone(local: datetime, zone: str) -> datetime:
    return local.replace(tzinfo=local.tzinfo or zone_named(zone) or UTC)


class Description(Form):
    """What people say of a client. ``maintenance_until`` is local time in ``zone``, as the label says."""

    name: Annotated[
        Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] | None, Optional
    ] = None
    site: Annotated[
        Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] | None, Optional
    ] = None
    tags: Annotated[str, Field(max_length=2_000)] = ""
    description: Annotated[Annotated[str, StringConstraints(max_length=4_000)] | None, Optional] = None
    maintenance_until: Annotated[Annotated[datetime, AfterValidator(in_calendar)] | None, Optional] = None
    zone: Annotated[str, Field(max_length=100)] = ""
    auto_recovery: Literal["", "on", "off"] = ""
    hours: Annotated[
        Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] | None, Optional
    ] = None

    def changes(self, client: Client) -> ClientEdit:
        """Return what is to be changed; an end of maintenance that was left as the form showed it is not."""
        until = self.maintenance_until and _in_zone(self.maintenance_until, self.zone)
        changes: ClientEdit = {
            "name": self.name,
            "site": self.site,
            "tags": list(dict.fromkeys(tag for tag in map(str.strip, self.tags.split(",")) if tag)),
            "description": self.description,
        }
        if (
            until is None
            or client.maintenance_until is None
            or not _same_minute(until, client.maintenance_until)
        ):
            changes["maintenance_until"] = until
        if "hours" in self.model_fields_set:
            changes["own_hours"] = self.hours
        if self.auto_recovery:
            changes["auto_recovery"] = self.auto_recovery == "on"
        return changes


class PauseAddress(Address):
    """Which site is meant; without one the whole fleet."""

    site: Annotated[str, Field(max_length=200)] = ""


class PauseForm(Form):
    """The recovery is to leave something alone: why, and for how long or until when.

    ``until`` is local time in ``zone``, as the label says, and goes before ``lasts``.
    """

    reason: Annotated[Line, Field(min_length=1)]
    lasts: Literal["1h", "4h", "12h", "1d", "7d", "30d"]
    until: Annotated[Annotated[datetime, AfterValidator(in_calendar)] | None, Optional] = None
    zone: Annotated[str, Field(max_length=100)] = ""
    next: OwnPath | None = None

    @property
    def end(self) -> datetime | None:
        """Return when it ends; None if it is for a length of time."""
        return self.until and _in_zone(self.until, self.zone)


class CareAddress(Address):
    """Which kind of problems is meant, and where to go afterwards."""

    status: Annotated[str, Field(max_length=40)] = ""
    next: OwnPath | None = None


class CareForm(Form):
    """Somebody takes care of clients: until when, and whether the recovery holds meanwhile."""

    client_uuids: Annotated[str, Field(max_length=20_000)] = ""
    lasts: Literal["well", "1h", "morning"] = "well"
    recovery: Meanwhile = Meanwhile.HOLD
    comment: Annotated[Line | None, Optional] = None
    next: OwnPath | None = None

    @property
    def uuids(self) -> list[str]:
        """Return the clients, each once."""
        return listed_uuids(self.client_uuids)


class TakenOver(Form):
    """Somebody takes care of a client that the recovery has given up on, or of an incident."""

    comment: Annotated[Line | None, Optional] = None
    next: OwnPath = "/"


class NewPasswordForm(Form):
    """A new password for the signed-in user."""

    username: Annotated[str, Field(max_length=100)] = ""
    current: SecretStr = Field(max_length=1_000)
    new: SecretStr = Field(max_length=1_000)
    again: SecretStr = Field(max_length=1_000)
    revoke_tokens: Literal["1"] | None = None
