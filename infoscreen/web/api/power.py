"""Outlets of clients: what they look like in JSON, and asking one what it is and says."""

from datetime import datetime
from typing import Annotated

from aiohttp import web
from pydantic import Field, SecretStr, StringConstraints

from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Busy, Forbidden, InvalidInput, NoOutlet, NotFound, OutletFault
from infoscreen.domain.power import PowerState
from infoscreen.domain.power.configuration import LONGEST_OFF_SECONDS, SHORTEST_OFF_SECONDS
from infoscreen.services.power.outlets import ShownPower, TestedOutlet, WantedPower
from infoscreen.web.api.identifiers import Identifier, path_identifier
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, actor_of, reply
from infoscreen.web.shapes import Answer, Body

MOST_SHARING = 50

Short = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Address = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=500)]
OptionName = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
OptionValue = Annotated[str, StringConstraints(max_length=500)]


class PowerChange(Body):
    """Where a client's power is switched. Secrets that are left out stay as they are; null deletes one.

    A stored secret is forgotten when the driver or the address changes.
    """

    driver: Short
    address: Address = Field(description="Host or URL of the device that switches.")
    outlet: Short = "1"
    username: Short | None = None
    password: Password | None = None
    privacy_password: Password | None = Field(default=None, description="SNMP v3: the secret for privacy.")
    identity: Short | None = Field(
        default=None,
        description="What the outlet must say of itself before it is switched: a MAC address, UUID or name.",
    )
    options: dict[OptionName, OptionValue] = Field(default_factory=dict, max_length=20)
    min_off_seconds: float = Field(
        default=10.0, ge=SHORTEST_OFF_SECONDS, le=LONGEST_OFF_SECONDS, allow_inf_nan=False
    )
    protected: bool = Field(default=False, description="It also feeds what must never be switched off.")
    shared: bool = Field(default=False, description="Other clients may be configured with the same outlet.")
    also_feeds: list[Identifier] = Field(default_factory=list, max_length=MOST_SHARING)

    def wanted(self) -> WantedPower:
        """Return the outlet as it is to be configured."""
        given = (
            ("password", "password", self.password),
            ("privacy_password", "privacy_secret", self.privacy_password),
        )
        secrets = {
            name: None if secret is None else secret.get_secret_value()
            for field, name, secret in given
            if field in self.model_fields_set
        }
        return WantedPower(
            driver=self.driver,
            address=self.address,
            outlet=self.outlet,
            username=self.username,
            secrets=secrets,
            identity=self.identity,
            options=self.options,
            min_off_seconds=self.min_off_seconds,
            protected=self.protected,
            shared=self.shared,
            also_feeds=tuple(self.also_feeds),
        )


class PowerModel(Answer):
    """Where a client's power is switched; secrets are never shown, only which are stored."""

    driver: str
    address: str
    outlet: str
    username: str | None
    identity: str | None
    options: dict[str, str]
    min_off_seconds: float
    protected: bool
    also_feeds: list[str]
    shared_with: list[str] = Field(description="All other clients whose power goes with this outlet.")
    secrets: list[str] = Field(description="password, privacy_secret; or unreadable: the key is another one.")
    updated_at: datetime

    @classmethod
    def told(cls, shown: ShownPower) -> "PowerModel":
        """Return the JSON of an outlet."""
        power = shown.power
        return cls(
            driver=power.driver,
            address=power.address,
            outlet=power.outlet,
            username=power.username,
            identity=power.identity,
            options=dict(power.options),
            min_off_seconds=power.min_off_seconds,
            protected=power.protected,
            also_feeds=list(power.also_feeds),
            shared_with=list(shown.shared_with),
            secrets=list(shown.secrets),
            updated_at=power.updated_at,
        )


class PowerTestModel(Answer):
    """What an outlet said of itself; nothing was switched."""

    state: PowerState
    watts: float | None = Field(description="Power draw, null where it is not measured.")
    pending: bool
    identity: str | None
    label: str
    expected_identity: str | None
    is_expected: bool

    @classmethod
    def told(cls, tested: TestedOutlet) -> "PowerTestModel":
        """Return the JSON of a test."""
        return cls(
            state=tested.reading.state,
            watts=tested.reading.watts,
            pending=tested.reading.pending,
            identity=tested.found.id,
            label=tested.found.label,
            expected_identity=tested.expected,
            is_expected=tested.is_expected,
        )


def require_admin(actor: Actor) -> None:
    """Raise ``Forbidden`` for anybody who is no administrator."""
    if not actor.role.may(Role.ADMIN):
        raise Forbidden(ErrorCode.ROLE_TOO_LOW, needed=Role.ADMIN, role=actor.role)


async def show_power(request: web.Request) -> web.StreamResponse:
    """Answer with a client's outlet."""
    uuid = path_identifier(request, "uuid")
    shown = await parts_of(request).outlets.shown(uuid)
    if shown is None:
        raise NoOutlet(ErrorCode.NO_OUTLET, uuid=uuid)
    return reply(PowerModel.told(shown))


async def test_power(request: web.Request) -> web.StreamResponse:
    """Ask a client's outlet what it is and says; nothing is switched."""
    actor_of(request)
    return reply(PowerTestModel.told(await parts_of(request).outlets.test(path_identifier(request, "uuid"))))


ROUTES = (
    Route(
        "GET",
        "/api/clients/{uuid}/power",
        show_power,
        Role.OPERATOR,
        "Show a client's outlet",
        response=PowerModel,
        problems=(InvalidInput, NotFound, NoOutlet),
    ),
    Route(
        "POST",
        "/api/clients/{uuid}/power/test",
        test_power,
        Role.ADMIN,
        "Ask a client's outlet what it is and says, without switching it",
        response=PowerTestModel,
        problems=(InvalidInput, NotFound, NoOutlet, OutletFault, Busy),
    ),
)
