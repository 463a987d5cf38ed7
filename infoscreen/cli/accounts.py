"""``infoscreen user`` and ``infoscreen token``: accounts, straight in the database of this host."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from infoscreen.cli.output import as_json_option, write_json, write_table
from infoscreen.domain.accounts import ApiToken, Role, User

if TYPE_CHECKING:
    from infoscreen.services.accounts import Accounts, IssuedToken

T = TypeVar("T")
PAGE = 500

role_option = click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.VIEWER.value,
    show_default=True,
    help="Role; each one includes the permissions of those before it.",
)


@click.group()
def user() -> None:
    """Add, change, list and remove people who can sign in."""


@user.command()
@click.argument("name")
@role_option
def add(name: str, role: str) -> None:
    """Add a user.

    The password is asked for; without a terminal it is the first line of standard input.
    """
    password = _read_password()
    from infoscreen.services.accounts import CLI

    added = _use(lambda accounts: accounts.add_user(name, password, Role(role), CLI))
    click.echo(f"Added {added.username} as {added.role}.")


@user.command("list")
@as_json_option
def list_users(as_json: bool) -> None:
    """List the users."""
    users = _use(_all_users)
    if as_json:
        write_json(users)
        return
    write_table(
        ("NAME", "ROLE", "STATE", "FACTOR", "LAST LOGIN"),
        [
            (
                user.username,
                user.role,
                "disabled" if user.disabled else "active",
                "set up" if user.second_factor else "-",
                user.last_login_at,
            )
            for user in users
        ],
    )


@user.command()
@click.argument("name")
@click.option("--revoke-tokens", is_flag=True, help="Revoke the API tokens of the user as well.")
def passwd(name: str, revoke_tokens: bool) -> None:
    """Change a user's password and end their sessions."""
    password = _read_password()
    from infoscreen.services.accounts import CLI

    async def change(accounts: "Accounts") -> None:
        user = await accounts.user_named(name)
        await accounts.set_password(user.id, password, CLI, revoke_tokens=revoke_tokens)

    _use(change)
    revoked = " and API tokens are revoked" if revoke_tokens else ""
    click.echo(f"{name} has another password; open sessions have ended{revoked}.")


@user.command()
@click.argument("name")
def disable(name: str) -> None:
    """Disable a user: sessions and API tokens stop working at once."""
    click.echo(f"{_change(name, disabled=True).username} is disabled.")


@user.command()
@click.argument("name")
def enable(name: str) -> None:
    """Enable a disabled user; API tokens work again, sessions stay ended."""
    click.echo(f"{_change(name, disabled=False).username} is enabled.")


@user.command("reset-factor")
@click.argument("name")
def reset_factor(name: str) -> None:
    """Remove the second factor of a user who lost it, and end their sessions.

    Works without SECRETS_KEY. If the role needs a second factor, the next sign-in sets one up.
    """
    from infoscreen.services.accounts import CLI

    async def reset(accounts: "Accounts") -> None:
        await accounts.factors.reset(await accounts.user_named(name), CLI)

    _use(reset)
    click.echo(f"{name} has no second factor any more; open sessions have ended.")


@user.command("role")
@click.argument("name")
@click.argument("role", type=click.Choice([role.value for role in Role]))
def change_role(name: str, role: str) -> None:
    """Change a user's role."""
    click.echo(f"{_change(name, role=Role(role)).username} is {role} now.")


@user.command()
@click.argument("name")
@click.confirmation_option("--yes", prompt="Remove the user with all sessions and API tokens?")
def remove(name: str) -> None:
    """Remove a user with all sessions and API tokens."""
    from infoscreen.services.accounts import CLI

    async def take_away(accounts: "Accounts") -> None:
        await accounts.remove_user((await accounts.user_named(name)).id, CLI)

    _use(take_away)
    click.echo(f"{name} is removed.")


def _change(name: str, **changes: Any) -> User:
    from infoscreen.services.accounts import CLI

    async def change(accounts: "Accounts") -> User:
        return await accounts.change_user((await accounts.user_named(name)).id, CLI, **changes)

    return _use(change)


@click.group()
def token() -> None:
    """Create, list and revoke API tokens for programs."""


@token.command()
@click.argument("name")
@click.option("--user", "username", required=True, help="Whose token it is.")
@role_option
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    help="Days until the token expires; by default it does not expire.",
)
@click.option("--manages-accounts", is_flag=True, help="It may manage users, tokens, sessions and passwords.")
@as_json_option
def create(
    name: str, username: str, role: str, days: float | None, manages_accounts: bool, as_json: bool
) -> None:
    """Create a token for a user.

    It is shown once, alone on standard output.
    """
    from infoscreen.clock import SystemClock
    from infoscreen.services.accounts import CLI

    expires_at = None if days is None else SystemClock().now() + timedelta(days=days)

    async def make(accounts: "Accounts") -> "IssuedToken":
        owner = await accounts.user_named(username)
        return await accounts.create_token(
            owner.id, name, Role(role), CLI, expires_at, manages_accounts=manages_accounts
        )

    made = _use(make)
    if as_json:
        write_json({"secret": made.secret, "token": made.token})
    else:
        click.echo(f"Token {made.token.id} of {username}, {role}. It is not shown again:", err=True)
        click.echo(made.secret)


@token.command("list")
@as_json_option
def list_tokens(as_json: bool) -> None:
    """List the tokens of all users."""
    tokens, names = _use(_all_tokens)
    if as_json:
        write_json(tokens)
        return
    write_table(
        ("ID", "NAME", "USER", "ROLE", "ACCOUNTS", "EXPIRES", "LAST USED"),
        [
            (
                token.id,
                token.name,
                names.get(token.user_id),
                token.role,
                "manages" if token.manages_accounts else "-",
                token.expires_at,
                token.last_used_at,
            )
            for token in tokens
        ],
    )


@token.command()
@click.argument("token_id", metavar="ID", type=int)
def revoke(token_id: int) -> None:
    """Revoke a token at once."""
    from infoscreen.services.accounts import CLI

    _use(lambda accounts: accounts.revoke_token(token_id, CLI))
    click.echo(f"Token {token_id} is revoked.")


async def _all_users(accounts: "Accounts") -> list[User]:
    page = await accounts.users(PAGE)
    users = list(page.items)
    while page.next_cursor is not None:
        page = await accounts.users(PAGE, page.next_cursor)
        users += page.items
    return users


async def _all_tokens(accounts: "Accounts") -> tuple[list[ApiToken], dict[int, str]]:
    from infoscreen.services.accounts import CLI

    page = await accounts.tokens(CLI, PAGE)
    tokens = list(page.items)
    while page.next_cursor is not None:
        page = await accounts.tokens(CLI, PAGE, page.next_cursor)
        tokens += page.items
    return tokens, {user.id: user.username for user in await _all_users(accounts)}


def _use(step: Callable[["Accounts"], Awaitable[T]]) -> T:
    async def run() -> T:
        async with _accounts() as accounts:
            return await step(accounts)

    return asyncio.run(run())


@asynccontextmanager
async def _accounts() -> AsyncIterator["Accounts"]:
    from infoscreen.clock import SystemClock
    from infoscreen.services.accounts import Accounts
    from infoscreen.services.passwords import Passwords
    from infoscreen.settings import load
    from infoscreen.storage import schema
    from infoscreen.storage.engine import Store

    store = Store(load().database_url)
    try:
        await schema.check(store)
        passwords = Passwords()
        try:
            yield Accounts(store, SystemClock(), passwords)
        finally:
            passwords.close()
    finally:
        await store.close()


def _read_password() -> str:
    """Ask twice on a terminal, else take the first line of standard input."""
    if sys.stdin.isatty():
        asked: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return asked
    return sys.stdin.readline().removesuffix("\n").removesuffix("\r")
