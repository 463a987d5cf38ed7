"""Users, and the API tokens of programs."""

from datetime import datetime

from aiohttp import web
from pydantic import AwareDatetime, Field, SecretStr

from infoscreen.domain.accounts import Role
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, Forbidden, NotFound
from infoscreen.services.accounts import PASSWORD_LENGTHS, TOKEN_NAME_LENGTH, USERNAME
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, actor_of, no_content, path_number, read_body, read_query, reply
from infoscreen.web.shapes import Answer, Body, Listing, Paging


class NewUser(Body):
    """Someone who shall be able to sign in."""

    # The service has the rules and the words for breaking them; programs are told them here.
    username: str = Field(json_schema_extra={"pattern": f"^{USERNAME.pattern}$"})
    password: SecretStr = Field(
        json_schema_extra={"minLength": PASSWORD_LENGTHS[0], "maxLength": PASSWORD_LENGTHS[-1]}
    )
    role: Role


class UserModel(Answer):
    """Someone who can sign in."""

    id: int
    username: str
    role: Role
    disabled: bool
    created_at: datetime
    last_login_at: datetime | None
    second_factor: bool = Field(description="Whether a second factor is set up.")


class UserChange(Body):
    """What to change of a user; what is left out stays as it is."""

    role: Role | None = None
    disabled: bool | None = Field(
        default=None,
        description="True: sessions and tokens stop working at once; false: tokens work again.",
    )
    password: SecretStr | None = Field(
        default=None,
        json_schema_extra={"minLength": PASSWORD_LENGTHS[0], "maxLength": PASSWORD_LENGTHS[-1]},
    )
    revoke_tokens: bool = Field(default=False, description="With password: revoke the API tokens as well.")


class NewToken(Body):
    """An API token to be made: for the caller, or for the user that an admin names."""

    name: str = Field(
        description="What it is for, printable.",
        json_schema_extra={"minLength": 1, "maxLength": TOKEN_NAME_LENGTH},
    )
    role: Role
    user_id: int | None = Field(default=None, ge=1, lt=2**31)
    expires_at: AwareDatetime | None = Field(default=None, description="Null: valid until revoked.")
    manages_accounts: bool = Field(
        default=False, description="Whether it may manage users, tokens, sessions and passwords."
    )


class Token(Answer):
    """An API token without its secret."""

    id: int
    name: str
    user_id: int
    role: Role
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    manages_accounts: bool


class TokenWithSecret(Token):
    """An API token just made; the secret is shown this once."""

    secret: str


async def list_users(request: web.Request) -> web.StreamResponse:
    """List users in the order in which they were added."""
    asked = read_query(request, Paging)
    page = await parts_of(request).accounts.users(asked.limit, asked.cursor)
    return reply(Listing[UserModel].model_validate(page))


async def add_user(request: web.Request) -> web.StreamResponse:
    """Add a user."""
    given = await read_body(request, NewUser)
    user = await parts_of(request).accounts.add_user(
        given.username, given.password.get_secret_value(), given.role, actor_of(request)
    )
    return reply(UserModel.model_validate(user), 201)


async def change_user(request: web.Request) -> web.StreamResponse:
    """Change a user's role or password, lock them out or let them in again."""
    given = await read_body(request, UserChange)
    accounts, user_id, actor = parts_of(request).accounts, path_number(request, "id"), actor_of(request)
    if given.password is not None:
        secret = given.password.get_secret_value()
        await accounts.set_password(user_id, secret, actor, revoke_tokens=given.revoke_tokens)
    changed = await accounts.change_user(user_id, actor, role=given.role, disabled=given.disabled)
    return reply(UserModel.model_validate(changed))


async def remove_user(request: web.Request) -> web.StreamResponse:
    """Remove a user with all sessions and tokens."""
    await parts_of(request).accounts.remove_user(path_number(request, "id"), actor_of(request))
    return no_content()


async def list_tokens(request: web.Request) -> web.StreamResponse:
    """List one's own tokens; an admin sees everybody's."""
    asked = read_query(request, Paging)
    page = await parts_of(request).accounts.tokens(actor_of(request), asked.limit, asked.cursor)
    return reply(Listing[Token].model_validate(page))


async def create_token(request: web.Request) -> web.StreamResponse:
    """Make an API token and show its secret."""
    given = await read_body(request, NewToken)
    actor = actor_of(request)
    owner = given.user_id or actor.user_id
    if owner is None:
        raise Forbidden(ErrorCode.PEOPLE_ONLY)
    made = await parts_of(request).accounts.create_token(
        owner, given.name, given.role, actor, given.expires_at, manages_accounts=given.manages_accounts
    )
    token = Token.model_validate(made.token)
    return reply(TokenWithSecret(**token.model_dump(), secret=made.secret), 201)


async def revoke_token(request: web.Request) -> web.StreamResponse:
    """End an API token at once."""
    await parts_of(request).accounts.revoke_token(path_number(request, "id"), actor_of(request))
    return no_content()


ROUTES = (
    Route(
        "GET", "/api/users", list_users, Role.ADMIN, "List users", query=Paging, response=Listing[UserModel]
    ),
    Route(
        "POST",
        "/api/users",
        add_user,
        Role.ADMIN,
        "Add a user",
        request=NewUser,
        response=UserModel,
        status=201,
        problems=(Conflict,),
        manages_accounts=True,
    ),
    Route(
        "PATCH",
        "/api/users/{id}",
        change_user,
        Role.ADMIN,
        "Change a user's role or password, disable or enable it; the last admin cannot be disabled",
        request=UserChange,
        response=UserModel,
        problems=(NotFound, Conflict),
        manages_accounts=True,
    ),
    Route(
        "DELETE",
        "/api/users/{id}",
        remove_user,
        Role.ADMIN,
        "Remove a user; never the last admin",
        status=204,
        problems=(NotFound, Conflict),
        manages_accounts=True,
    ),
    Route(
        "GET",
        "/api/tokens",
        list_tokens,
        Role.VIEWER,
        "List one's own API tokens; an admin sees everybody's",
        query=Paging,
        response=Listing[Token],
    ),
    Route(
        "POST",
        "/api/tokens",
        create_token,
        Role.VIEWER,
        "Make an API token; its secret is shown once",
        request=NewToken,
        response=TokenWithSecret,
        status=201,
        problems=(NotFound,),
        manages_accounts=True,
    ),
    Route(
        "DELETE",
        "/api/tokens/{id}",
        revoke_token,
        Role.VIEWER,
        "Revoke an API token of one's own; an admin anybody's",
        status=204,
        problems=(NotFound,),
        manages_accounts=True,
    ),
)
