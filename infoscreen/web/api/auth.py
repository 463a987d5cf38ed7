"""Signing in and out, and who one is."""

from typing import Literal

from aiohttp import web
from pydantic import Field, SecretStr

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import (
    Busy,
    CrossSite,
    InvalidInput,
    SecondFactorNeeded,
    SecretUnreadable,
    TooManyAttempts,
    Unauthenticated,
)
from infoscreen.services.accounts import PASSWORD_LENGTHS
from infoscreen.web.auth import clear_session_cookie, knock_of, session_token, set_cookies
from infoscreen.web.keys import parts_of
from infoscreen.web.origin import client_address
from infoscreen.web.registry import Route, actor_of, no_content, read_body, reply
from infoscreen.web.shapes import Answer, Body


class Login(Body):
    """Credentials."""

    username: str = Field(min_length=1, max_length=100)
    password: SecretStr = Field(min_length=1, max_length=1000)
    code: SecretStr | None = Field(
        default=None,
        max_length=100,
        description="Of the second factor, or a recovery code; 401 `second-factor-needed` asks for it.",
    )


class NewPassword(Body):
    """A new password for the caller."""

    current: SecretStr = Field(min_length=1, max_length=1000)
    new: SecretStr = Field(
        json_schema_extra={"minLength": PASSWORD_LENGTHS[0], "maxLength": PASSWORD_LENGTHS[-1]}
    )
    revoke_tokens: bool = Field(default=False, description="Revoke all of one's own API tokens as well.")


class Me(Answer):
    """Who asks, and what they may."""

    user_id: int | None
    name: str
    role: Role
    via: Literal["session", "token"]


async def login(request: web.Request) -> web.StreamResponse:
    """Start a session and hand out its cookie."""
    given = await read_body(request, Login)
    signed_in = await parts_of(request).accounts.login(
        given.username,
        given.password.get_secret_value(),
        knock_of(request),
        user_agent=request.headers.get("User-Agent"),
        code=None if given.code is None else given.code.get_secret_value(),
    )
    user = signed_in.user
    response = reply(Me(user_id=user.id, name=user.username, role=user.role, via="session"))
    set_cookies(request, response, signed_in)
    return response


async def logout(request: web.Request) -> web.StreamResponse:
    """End the session, if there is one."""
    token = session_token(request)
    if token is not None:
        await parts_of(request).accounts.logout(token, client_address(request))
    response = no_content()
    clear_session_cookie(request, response)
    return response


async def change_password(request: web.Request) -> web.StreamResponse:
    """Change the password of the caller; all other sessions end."""
    given = await read_body(request, NewPassword)
    await parts_of(request).accounts.change_password(
        actor_of(request),
        given.current.get_secret_value(),
        given.new.get_secret_value(),
        knock_of(request),
        revoke_tokens=given.revoke_tokens,
    )
    return no_content()


async def me(request: web.Request) -> web.StreamResponse:
    """Tell who asks."""
    return reply(Me.model_validate(actor_of(request)))


ROUTES = (
    Route(
        "POST",
        "/api/auth/login",
        login,
        None,
        "Sign in and get a session cookie",
        request=Login,
        response=Me,
        problems=(Unauthenticated, SecondFactorNeeded, CrossSite, TooManyAttempts, Busy, SecretUnreadable),
    ),
    Route(
        "POST",
        "/api/auth/password",
        change_password,
        Role.VIEWER,
        "Change one's own password; all other sessions end",
        request=NewPassword,
        status=204,
        problems=(InvalidInput, TooManyAttempts, Busy),
        manages_accounts=True,
    ),
    Route("POST", "/api/auth/logout", logout, None, "Sign out", status=204, problems=(CrossSite,)),
    Route("GET", "/api/auth/me", me, Role.VIEWER, "Who am I", response=Me),
)
