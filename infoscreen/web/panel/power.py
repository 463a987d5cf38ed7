"""The outlet of a client in the panel: what it is and says, the form for administrators, and its test."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field, SecretStr

from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.clients import Client
from infoscreen.domain.commands import Action
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import InvalidInput, NotFound, Refused
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.power import CyclePolicy
from infoscreen.domain.power.configuration import LONGEST_OFF_SECONDS, SHORTEST_OFF_SECONDS
from infoscreen.services.power.outlets import ShownPower, TestedOutlet, WantedPower
from infoscreen.storage import clients, power_cycles
from infoscreen.storage.engine import Connection
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.forms import Form, Line, see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.offers import Obstacles, Offer
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import Route, actor_of, path_uuid, read_form
from infoscreen.words.language import N_, Language
from infoscreen.words.power import DRIVERS, POWER_STATES
from infoscreen.words.speaking import field_error, say

LONGEST_TEXT = 2_000
LONGEST_NAME = 40
SECRETS = ("password", "privacy_secret")

PROTECTED = N_("Protected: it also feeds what must not be switched off. It is never switched.")


@dataclass(frozen=True, slots=True)
class PowerBlock:
    """What a client's page shows of its outlet; ``offer`` is the power cycle, for administrators."""

    shown: ShownPower | None
    driver: str | None
    shared_with: list[str]
    offer: Offer | None
    under_way: bool
    left_off_since: datetime | None
    may_configure: bool


async def block_of(
    request: web.Request, connection: Connection, client: Client, obstacles: Obstacles
) -> PowerBlock:
    """Return the block for a client's page."""
    parts, actor, language = parts_of(request), actor_of(request), language_of(request)
    shown = await parts.outlets.shown_in(connection, client.uuid)
    cycle = await power_cycles.of_client(connection, client.uuid)
    now = parts.clock.now()
    left_off = cycle is not None and cycle.cycle.is_left_off(now, CyclePolicy())
    names: list[str] = []
    if shown is not None:
        known = await clients.get_many(connection, shown.shared_with)
        names = [known[one].label for one in shown.shared_with if one in known]
    return PowerBlock(
        shown=shown,
        driver=None
        if shown is None
        else language.gettext(DRIVERS.get(shown.power.driver, shown.power.driver)),
        shared_with=names,
        offer=_offer(shown, actor, obstacles, language),
        under_way=cycle is not None,
        left_off_since=cycle.cycle.on_since if cycle is not None and left_off else None,
        may_configure=actor.role.may(Role.ADMIN),
    )


def _offer(shown: ShownPower | None, actor: Actor, obstacles: Obstacles, language: Language) -> Offer | None:
    if shown is None or not actor.role.may(Role.ADMIN):
        return None
    if shown.power.protected:
        return Offer(Action.POWER_CYCLE, language.gettext(PROTECTED))
    # An unreachable client is what an outlet is for: only another command is in the way.
    return Offer(Action.POWER_CYCLE, obstacles.disruptive)


class PowerForm(Form):
    """An outlet as it is entered. Secrets that are left empty stay as they are."""

    driver: Annotated[Line, Field(min_length=1, max_length=40)]
    address: Annotated[Line, Field(min_length=1, max_length=500)]
    outlet: Annotated[Line, Field(max_length=200)] = ""
    username: Annotated[Line, Field(max_length=200)] = ""
    password: SecretStr = Field(default=SecretStr(""), max_length=500)
    privacy_password: SecretStr = Field(default=SecretStr(""), max_length=500)
    forget: Literal["", "yes"] = ""
    identity: Annotated[Line, Field(max_length=200)] = ""
    options: Annotated[str, Field(max_length=LONGEST_TEXT)] = ""
    min_off_seconds: Annotated[
        float, Field(ge=SHORTEST_OFF_SECONDS, le=LONGEST_OFF_SECONDS, allow_inf_nan=False)
    ] = 10.0
    protected: Literal["", "yes"] = ""
    shared: Literal["", "yes"] = ""
    also_feeds: Annotated[str, Field(max_length=LONGEST_TEXT)] = ""

    def wanted(self) -> WantedPower:
        """Return the outlet; raise ``InvalidInput``."""
        secrets: dict[str, str | None] = dict.fromkeys(SECRETS) if self.forget else {}
        given = (self.password.get_secret_value(), self.privacy_password.get_secret_value())
        secrets |= {name: value for name, value in zip(SECRETS, given, strict=True) if value}
        return WantedPower(
            driver=self.driver,
            address=self.address,
            outlet=self.outlet or "1",
            username=self.username or None,
            secrets=secrets,
            identity=self.identity or None,
            options=_options(self.options),
            min_off_seconds=self.min_off_seconds,
            protected=bool(self.protected),
            shared=bool(self.shared),
            also_feeds=tuple(_uuids(self.also_feeds)),
        )


def _options(text: str) -> dict[str, str]:
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier() or len(name) > LONGEST_NAME:
            raise InvalidInput.of("options", FieldFault.OTHER, rule="name=value")
        found[name] = value.strip()
    return found


def _uuids(text: str) -> list[str]:
    found = []
    for word in text.replace(",", " ").replace(";", " ").split():
        try:
            found.append(str(UUID(word)))
        except ValueError:
            raise InvalidInput.of("also_feeds", FieldFault.OTHER, rule="UUID") from None
    return list(dict.fromkeys(found))


async def get_power(request: web.Request) -> web.StreamResponse:
    """Show the form for a client's outlet."""
    return await _form(request)


async def post_power(request: web.Request) -> web.StreamResponse:
    """Save a client's outlet."""
    uuid = path_uuid(request, "uuid")
    try:
        wanted = (await read_form(request, PowerForm)).wanted()
        await parts_of(request).outlets.configure(uuid, wanted, actor_of(request))
    except Refused as refusal:
        return await _form(request, refusal=refusal)
    return flash.put(request, see_other(f"/clients/{uuid}/power"), "power_saved")


async def post_forget(request: web.Request) -> web.StreamResponse:
    """Forget a client's outlet."""
    uuid = path_uuid(request, "uuid")
    await parts_of(request).outlets.configure(uuid, None, actor_of(request))
    return flash.put(request, see_other(f"/clients/{uuid}"), "power_forgotten")


async def post_test(request: web.Request) -> web.StreamResponse:
    """Ask a client's outlet what it is and says, and show that beside the form."""
    try:
        tested = await parts_of(request).outlets.test(path_uuid(request, "uuid"))
    except Refused as refusal:
        return await _form(request, refusal=refusal, asked=True)
    return await _form(request, tested=tested)


async def _form(
    request: web.Request,
    *,
    refusal: Refused | None = None,
    tested: TestedOutlet | None = None,
    asked: bool = False,
) -> web.StreamResponse:
    uuid, language = path_uuid(request, "uuid"), language_of(request)
    async with parts_of(request).store.read() as connection:
        client = await clients.get(connection, uuid)
        shown = await parts_of(request).outlets.shown_in(connection, uuid)
    if client is None:
        raise NotFound(ErrorCode.NO_SUCH_PAGE)
    values = _values(shown)
    if refusal is not None and not asked:
        typed = await request.post()
        values |= {name: str(typed.get(name, "")) for name in values}
    said = None
    if isinstance(refusal, InvalidInput):
        said = "; ".join(f"{one.field}: {field_error(one, language)}" for one in refusal.errors)
    elif refusal is not None:
        said = say(refusal.fact, language)
    return await page(
        request,
        "power.html",
        status=200 if refusal is None else refusal.status,
        here="clients",
        client=client,
        shown=shown,
        values=values,
        drivers=DRIVERS,
        refused=said,
        tested=tested,
        state=None if tested is None else language.gettext(POWER_STATES[tested.reading.state]),
        shortest=SHORTEST_OFF_SECONDS,
        longest=LONGEST_OFF_SECONDS,
    )


def _values(shown: ShownPower | None) -> dict[str, Any]:
    if shown is None:
        return dict.fromkeys(
            ("driver", "address", "outlet", "username", "identity", "options", "also_feeds"), ""
        ) | {"min_off_seconds": "10", "protected": "", "shared": ""}
    outlet = shown.power
    return {
        "driver": outlet.driver,
        "address": outlet.address,
        "outlet": outlet.outlet,
        "username": outlet.username or "",
        "identity": outlet.identity or "",
        "options": "\n".join(f"{name}={value}" for name, value in outlet.options.items()),
        "also_feeds": "\n".join(outlet.also_feeds),
        "min_off_seconds": f"{outlet.min_off_seconds:g}",
        "protected": "yes" if outlet.protected else "",
        "shared": "yes" if shown.shared_with else "",
    }


ROUTES = (
    Route("GET", "/clients/{uuid}/power", get_power, Role.ADMIN, "Form for the outlet", html=True),
    Route(
        "POST",
        "/clients/{uuid}/power",
        post_power,
        Role.ADMIN,
        "Configure the outlet",
        request=PowerForm,
        html=True,
    ),
    Route("POST", "/clients/{uuid}/power/test", post_test, Role.ADMIN, "Test the outlet", html=True),
    Route("POST", "/clients/{uuid}/power/forget", post_forget, Role.ADMIN, "Forget the outlet", html=True),
)
