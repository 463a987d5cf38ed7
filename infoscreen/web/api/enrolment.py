"""Accounts at the broker for new devices, at once or by one-time codes."""

from datetime import datetime

from aiohttp import web
from pydantic import Field, SecretStr, field_validator

from infoscreen.domain.accounts import Role
from infoscreen.domain.enrolment import MOST_CODES, PASSWORD
from infoscreen.domain.errors import (
    Conflict,
    HelperMissing,
    HelperUnable,
    InvalidInput,
    NotPrivate,
    TooManyAttempts,
    Unauthenticated,
)
from infoscreen.domain.faults import BadValue, FieldFault
from infoscreen.web.api.identifiers import Identifier
from infoscreen.web.keys import parts_of
from infoscreen.web.origin import client_address, is_from_this_host, is_https
from infoscreen.web.registry import Route, actor_of, read_body, reply
from infoscreen.web.shapes import Answer, Body

HELPER_PROBLEMS = (Conflict, HelperMissing, HelperUnable)


class NewAccount(Body):
    """A device that is to have an account at the broker."""

    uuid: Identifier | None = Field(default=None, description="Null: a new one is made up.")
    replace: bool = Field(
        default=False, description="Give a device that has an account a new password; the old one ends."
    )


class DeviceAccountModel(Answer):
    """An account at the broker that was just made, and how devices reach the broker; shown this once."""

    uuid: str
    password: str
    host: str
    port: int
    ca: str | None = Field(description="CA certificates of the broker, PEM; null: the system's.")
    file: str = Field(description="What `infoscreen agent enroll FILE` reads.")


class NewCodes(Body):
    """One-time codes: one for each of the devices, and ``count`` for any that have no account yet."""

    uuids: list[Identifier] = Field(default=[], max_length=MOST_CODES)
    count: int = Field(default=0, ge=0, le=MOST_CODES)
    replace: bool = Field(
        default=False, description="Devices of ``uuids`` that have an account may get a new password."
    )


class OneTimeCode(Answer):
    """A one-time code; it is shown this once."""

    code: str
    uuid: str | None = Field(description="For this device only; null: for any that has no account yet.")
    expires_at: datetime


class OneTimeCodes(Answer):
    """The codes, in the order asked for."""

    items: list[OneTimeCode]


class Redemption(Body):
    """A device exchanges a code for an account. Repeat it as it is if the answer was lost."""

    code: str = Field(max_length=100)
    uuid: Identifier | None = Field(default=None, description="Null: the one of the code, or a new one.")
    password: SecretStr = Field(
        description="The password the device has made for itself: 40 hexadecimal digits.",
        json_schema_extra={"pattern": f"^{PASSWORD.pattern}$"},
    )

    @field_validator("password")
    @classmethod
    def _is_strong(cls, value: SecretStr) -> SecretStr:
        if not PASSWORD.fullmatch(value.get_secret_value()):
            raise BadValue(FieldFault.FORBIDDEN_CHARACTERS)
        return value


class EnrolledDevice(Answer):
    """The account that the device has now, with the password it has sent."""

    uuid: str
    host: str
    port: int
    ca: str | None = Field(description="CA certificates of the broker, PEM; null: the system's.")


def require_privacy(request: web.Request) -> None:
    """Raise ``Forbidden`` if a secret in the answer would cross a network in the clear."""
    if not is_https(request) and not is_from_this_host(request):
        raise NotPrivate


async def add_account(request: web.Request) -> web.StreamResponse:
    """Give a device an account."""
    require_privacy(request)
    given = await read_body(request, NewAccount)
    made = await parts_of(request).enrolling.add(given.uuid, actor_of(request), replace=given.replace)
    return reply(DeviceAccountModel.model_validate(made), 201)


async def issue_codes(request: web.Request) -> web.StreamResponse:
    """Make one-time codes."""
    require_privacy(request)
    given = await read_body(request, NewCodes)
    wanted = [*dict.fromkeys(given.uuids), *[None] * given.count]
    if not wanted:
        raise InvalidInput.of("count", FieldFault.TOO_SMALL, least="1")
    codes = await parts_of(request).enrolling.issue(wanted, actor_of(request), replace=given.replace)
    return reply(OneTimeCodes(items=[OneTimeCode.model_validate(code) for code in codes]), 201)


async def redeem_code(request: web.Request) -> web.StreamResponse:
    """Exchange a code for an account."""
    if not is_https(request):
        raise NotPrivate
    given = await read_body(request, Redemption)
    made = await parts_of(request).enrolling.redeem(
        given.code,
        given.uuid,
        given.password.get_secret_value(),
        client_address(request),
    )
    return reply(EnrolledDevice.model_validate(made))


ROUTES = (
    Route(
        "POST",
        "/api/devices",
        add_account,
        Role.ADMIN,
        "Give a device an account at the broker; over https or on the server only",
        request=NewAccount,
        response=DeviceAccountModel,
        status=201,
        problems=(NotPrivate, *HELPER_PROBLEMS),
        manages_accounts=True,
    ),
    Route(
        "POST",
        "/api/enrolments",
        issue_codes,
        Role.ADMIN,
        "Make one-time codes for new devices (ENROLMENT_CODES_ENABLED); over https or on the server only",
        request=NewCodes,
        response=OneTimeCodes,
        status=201,
        problems=(NotPrivate, Conflict),
        manages_accounts=True,
    ),
    Route(
        "POST",
        "/api/enrol",
        redeem_code,
        None,
        "Exchange a one-time code for an account at the broker; over https only",
        request=Redemption,
        response=EnrolledDevice,
        problems=(Unauthenticated, NotPrivate, TooManyAttempts, *HELPER_PROBLEMS),
    ),
)
