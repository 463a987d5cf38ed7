"""One's own second factor, and taking away that of somebody who lost it."""

from datetime import datetime

from aiohttp import web
from pydantic import Field, SecretStr

from infoscreen.domain.accounts import Role, User
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import (
    Busy,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    SecretUnreadable,
    TooManyAttempts,
)
from infoscreen.web.auth import knock_of, session_token
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, actor_of, no_content, path_number, read_body, reply
from infoscreen.web.shapes import Answer, Body

Code = Field(min_length=1, max_length=100)


class FactorCode(Body):
    """A code of the app, or a recovery code."""

    code: SecretStr = Code


class FactorBegin(Body):
    """The caller's password."""

    password: SecretStr = Field(min_length=1, max_length=1000)


class FactorStateModel(Answer):
    """The caller's second factor."""

    since: datetime | None = Field(description="Null: none is set up.")
    codes_left: int = Field(description="Unused recovery codes.")
    required: bool = Field(description="Whether the role needs one.")


class FactorOffer(Answer):
    """A secret for an app, which counts once it is confirmed with a code; it is shown this once."""

    secret: str = Field(description="Base32.")
    uri: str = Field(description="For a QR code.")


class RecoveryCodes(Answer):
    """Each replaces a code of the app once. They are shown this once."""

    codes: list[str]


async def show_factor(request: web.Request) -> web.StreamResponse:
    """Tell whether a second factor is set up."""
    state = await parts_of(request).accounts.factors.state(await own_user(request))
    return reply(FactorStateModel.model_validate(state))


async def begin_factor(request: web.Request) -> web.StreamResponse:
    """Make a secret."""
    given = await read_body(request, FactorBegin)
    user = await own_user(request)
    accounts = parts_of(request).accounts
    await accounts.check_password(user, given.password.get_secret_value(), knock_of(request))
    return reply(FactorOffer.model_validate(await accounts.factors.offer(user)))


async def confirm_factor(request: web.Request) -> web.StreamResponse:
    """Let the secret count."""
    given = await read_body(request, FactorCode)
    user = await own_user(request)
    codes = await parts_of(request).accounts.factors.confirm(
        user, given.code.get_secret_value(), actor_of(request), session_token(request)
    )
    return reply(RecoveryCodes(codes=codes))


async def renew_codes(request: web.Request) -> web.StreamResponse:
    """Replace the recovery codes."""
    given = await read_body(request, FactorCode)
    user = await own_user(request)
    codes = await parts_of(request).accounts.factors.renew_codes(
        user, given.code.get_secret_value(), actor_of(request), knock_of(request)
    )
    return reply(RecoveryCodes(codes=codes))


async def remove_factor(request: web.Request) -> web.StreamResponse:
    """Do without from now on."""
    given = await read_body(request, FactorCode)
    user = await own_user(request)
    await parts_of(request).accounts.factors.remove(
        user, given.code.get_secret_value(), actor_of(request), knock_of(request)
    )
    return no_content()


async def reset_factor(request: web.Request) -> web.StreamResponse:
    """Take away the factor of somebody who lost it."""
    accounts = parts_of(request).accounts
    await accounts.factors.reset(await accounts.user(path_number(request, "id")), actor_of(request))
    return no_content()


async def own_user(request: web.Request) -> User:
    """Return the user who asks; raise ``Forbidden`` when it is nobody's account."""
    user_id = actor_of(request).user_id
    if user_id is None:
        raise Forbidden(ErrorCode.PEOPLE_ONLY)
    return await parts_of(request).accounts.user(user_id)


ROUTES = (
    Route(
        "GET",
        "/api/auth/second_factor",
        show_factor,
        Role.VIEWER,
        "Show one's own second factor",
        response=FactorStateModel,
    ),
    Route(
        "POST",
        "/api/auth/second_factor",
        begin_factor,
        Role.VIEWER,
        "Begin to set up a second factor, or another one; it counts once it is confirmed",
        request=FactorBegin,
        response=FactorOffer,
        problems=(InvalidInput, SecretUnreadable, TooManyAttempts, Busy),
        manages_accounts=True,
    ),
    Route(
        "POST",
        "/api/auth/second_factor/confirm",
        confirm_factor,
        Role.VIEWER,
        "Confirm it with its first code; all other sessions end, and recovery codes are shown once",
        request=FactorCode,
        response=RecoveryCodes,
        problems=(InvalidInput, Conflict, SecretUnreadable),
        manages_accounts=True,
    ),
    Route(
        "POST",
        "/api/auth/second_factor/recovery_codes",
        renew_codes,
        Role.VIEWER,
        "Replace the recovery codes",
        request=FactorCode,
        response=RecoveryCodes,
        problems=(InvalidInput, Conflict, SecretUnreadable, TooManyAttempts),
        manages_accounts=True,
    ),
    Route(
        "POST",
        "/api/auth/second_factor/remove",
        remove_factor,
        Role.VIEWER,
        "Remove one's own second factor, if the role does without",
        request=FactorCode,
        status=204,
        problems=(InvalidInput, Conflict, SecretUnreadable, TooManyAttempts),
        manages_accounts=True,
    ),
    Route(
        "DELETE",
        "/api/users/{id}/second_factor",
        reset_factor,
        Role.ADMIN,
        "Remove the second factor of a user who lost it; their sessions end",
        status=204,
        problems=(NotFound, Conflict),
        manages_accounts=True,
    ),
)
