"""Accounts changed from two sides at once on PostgreSQL, in generated interleavings.

Whatever the order, the result is one that some order one after the other would have, too.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial

import pytest
from argon2 import PasswordHasher
from sqlalchemy import text

from infoscreen.domain.accounts import Actor, Role, User
from infoscreen.domain.errors import Conflict, NotFound, Refused, Unauthenticated
from infoscreen.services.accounts import CLI, Accounts, IssuedToken
from infoscreen.services.logins import Knock
from infoscreen.services.passwords import Passwords
from infoscreen.services.signing_in import SignedIn
from tests.spine import Spine, open_spine
from tests.test_postgres_races import SEEDS, Act, interleaved
from tests.web import PASSWORD, QUICK_HASHER

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

OTHER = "another correct horse"
KNOCK = Knock("192.0.2.1")


@pytest.fixture
async def spine(postgres: str) -> AsyncIterator[Spine]:
    async with open_spine(postgres) as parts:
        yield parts


@pytest.fixture
def accounts(spine: Spine) -> Iterator[Accounts]:
    passwords = Passwords(QUICK_HASHER)
    yield Accounts(spine.store, spine.clock, passwords)
    passwords.close()


async def added(accounts: Accounts, name: str, role: Role = Role.OPERATOR) -> User:
    return await accounts.add_user(name, PASSWORD, role, CLI)


async def one(spine: Spine, statement: str) -> int:
    async with spine.store.read() as connection:
        return int(await connection.scalar(text(statement)) or 0)


async def at_once(spine: Spine, seed: int, *acts: Act) -> list[object]:
    return await interleaved(spine, seed, *acts)


async def test_no_session_outlives_the_password_it_was_opened_with(spine: Spine, accounts: Accounts) -> None:
    for seed in range(40):
        user = await added(accounts, f"anna{seed}")
        later = seed * 0.002  # a login has a transaction and a hash before the one that matters

        async def login(_: Spine, name: str = user.username) -> SignedIn:
            return await accounts.login(name, PASSWORD, KNOCK)

        async def change(_: Spine, user_id: int = user.id, later: float = later) -> None:
            await asyncio.sleep(later)
            await accounts.set_password(user_id, OTHER, CLI)

        signed_in, changed = await at_once(spine, seed, login, change)
        assert changed is None
        assert isinstance(signed_in, SignedIn | Unauthenticated)
        assert await one(spine, f"SELECT count(*) FROM sessions WHERE user_id = {user.id}") == 0


async def test_no_session_outlives_a_lock_out(spine: Spine, accounts: Accounts) -> None:
    for seed in SEEDS:
        user = await added(accounts, f"anna{seed}")

        async def login(_: Spine, name: str = user.username) -> SignedIn:
            return await accounts.login(name, PASSWORD, KNOCK)

        async def disable(_: Spine, user_id: int = user.id) -> User:
            return await accounts.change_user(user_id, CLI, disabled=True)

        _, disabled = await at_once(spine, seed, login, disable)
        assert isinstance(disabled, User)
        assert await one(spine, f"SELECT count(*) FROM sessions WHERE user_id = {user.id}") == 0


@pytest.mark.parametrize("what", ["login", "token"])
async def test_a_user_who_is_removed_meanwhile_is_refused(
    spine: Spine, accounts: Accounts, what: str
) -> None:
    for seed in SEEDS:
        user = await added(accounts, f"anna{seed}")

        async def login(_: Spine, name: str = user.username) -> object:
            return await accounts.login(name, PASSWORD, KNOCK)

        async def make(_: Spine, user_id: int = user.id) -> object:
            return await accounts.create_token(user_id, "program", Role.VIEWER, CLI)

        async def remove(_: Spine, user_id: int = user.id) -> None:
            await accounts.remove_user(user_id, CLI)

        done, removed = await at_once(spine, seed, {"login": login, "token": make}[what], remove)
        assert removed is None
        assert isinstance(done, SignedIn | IssuedToken | NotFound | Unauthenticated)


async def test_no_token_made_with_the_old_password_outlives_its_revocation(
    spine: Spine, accounts: Accounts
) -> None:
    for seed in SEEDS:
        user = await added(accounts, f"anna{seed}")
        signed_in = await accounts.login(user.username, PASSWORD, KNOCK)
        actor = await accounts.actor_of_session(signed_in.token, None)
        assert actor is not None

        async def make(_: Spine, actor: Actor = actor, user_id: int = user.id) -> IssuedToken:
            return await accounts.create_token(user_id, "program", Role.VIEWER, actor)

        async def change(_: Spine, user_id: int = user.id) -> None:
            await accounts.set_password(user_id, OTHER, CLI, revoke_tokens=True)

        made, changed = await at_once(spine, seed, make, change)
        assert changed is None
        assert isinstance(made, IssuedToken | Unauthenticated)
        assert await accounts.count_tokens(user.id) == 0


async def test_an_old_hash_renewed_at_login_never_undoes_a_change(spine: Spine) -> None:
    hasher = PasswordHasher(time_cost=1, memory_cost=16, parallelism=1)
    old, new = Passwords(QUICK_HASHER), Passwords(hasher)
    before, accounts = (Accounts(spine.store, spine.clock, one) for one in (old, new))
    for seed in range(40):
        user = await added(before, f"anna{seed}")

        async def login(_: Spine, name: str = user.username) -> SignedIn:
            return await accounts.login(name, PASSWORD, KNOCK)

        async def change(_: Spine, user_id: int = user.id) -> None:
            await accounts.set_password(user_id, OTHER, CLI)

        await at_once(spine, seed, login, change)
        await accounts.login(user.username, OTHER, KNOCK)
    old.close()
    new.close()


async def test_two_logins_that_renew_the_hash_both_succeed(spine: Spine) -> None:
    hasher = PasswordHasher(time_cost=1, memory_cost=16, parallelism=1)
    old, new = Passwords(QUICK_HASHER), Passwords(hasher)
    before, accounts = (Accounts(spine.store, spine.clock, one) for one in (old, new))
    for seed in SEEDS:
        user = await added(before, f"anna{seed}")

        async def login(_: Spine, name: str = user.username) -> SignedIn:
            return await accounts.login(name, PASSWORD, KNOCK)

        done = await at_once(spine, seed, login, login)
        assert all(isinstance(one, SignedIn) for one in done), done
    old.close()
    new.close()


async def test_of_two_changes_with_one_old_password_one_is_made(spine: Spine, accounts: Accounts) -> None:
    for seed in SEEDS:
        user = await added(accounts, f"anna{seed}")
        actor = replace(CLI, user_id=user.id)

        async def change(_: Spine, new: str, actor: Actor = actor) -> str:
            await accounts.change_password(actor, PASSWORD, new, KNOCK)
            return new

        done = await at_once(spine, seed, partial(change, new="a" * 12), partial(change, new="b" * 12))
        (made,) = [one for one in done if isinstance(one, str)]
        await accounts.login(user.username, made, KNOCK)


async def test_a_name_is_given_once_whatever_its_case(spine: Spine, accounts: Accounts) -> None:
    for seed in SEEDS:

        async def add(_: Spine, name: str) -> User:
            return await added(accounts, name)

        done = await at_once(spine, seed, partial(add, name=f"Anna{seed}"), partial(add, name=f"anna{seed}"))
        assert sum(isinstance(one, Conflict) for one in done) == 1
        await accounts.login(f"ANNA{seed}", PASSWORD, KNOCK)


async def test_one_admin_is_left_and_nobody_waits_for_ever(spine: Spine, accounts: Accounts) -> None:
    for seed in SEEDS:
        admins = [await added(accounts, f"admin{seed}-{number}", Role.ADMIN) for number in range(3)]

        async def remove(_: Spine, user_id: int) -> None:
            await accounts.remove_user(user_id, CLI)

        async def demote(_: Spine, user_id: int) -> User:
            return await accounts.change_user(user_id, CLI, role=Role.VIEWER)

        acts = [
            partial(act, user_id=user.id)
            for act, user in zip((remove, demote, remove), reversed(admins), strict=True)
        ]
        done = await at_once(spine, seed, *acts)
        assert sum(isinstance(one, Conflict) for one in done) == 1, done
        left = "SELECT count(*) FROM users WHERE role = 'admin'"
        assert await one(spine, left) == 1
        async with spine.store.write() as connection:
            await connection.execute(text("DELETE FROM users"))


async def test_guesses_and_a_success_at_once_are_no_error(spine: Spine, accounts: Accounts) -> None:
    user = await added(accounts, "anna")
    for seed in SEEDS:

        async def login(_: Spine, password: str) -> object:
            return await accounts.login(user.username, password, KNOCK)

        acts = [partial(login, password=password) for password in (PASSWORD, "a wrong one", PASSWORD)]
        done = await at_once(spine, seed, *acts)
        assert all(isinstance(one, SignedIn | Refused) for one in done)
        spine.clock.advance(3_600)


@pytest.mark.parametrize("what", ["session", "token"])
async def test_what_ends_twice_at_once_is_told_once(spine: Spine, accounts: Accounts, what: str) -> None:
    user = await added(accounts, "anna")
    for seed in SEEDS:
        signed_in = await accounts.login(user.username, PASSWORD, KNOCK)
        made = await accounts.create_token(user.id, "program", Role.VIEWER, CLI)

        async def end(_: Spine, made: IssuedToken = made, signed_in: SignedIn = signed_in) -> None:
            if what == "token":
                await accounts.revoke_token(made.token.id, CLI)
            else:
                await accounts.logout(signed_in.token, None)

        done = await at_once(spine, seed, end, end)
        assert sum(isinstance(one, NotFound) for one in done) == (1 if what == "token" else 0)
        action = "token.revoke" if what == "token" else "auth.logout"
        assert await one(spine, f"SELECT count(*) FROM audit WHERE action = '{action}'") == seed + 1
