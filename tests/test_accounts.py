"""Users, sessions and tokens as the command line and the panel use them, on a real database."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import text

from infoscreen.domain.accounts import (
    FREE_FAILURES,
    FREE_FAILURES_PER_DEVICE,
    Actor,
    Role,
    User,
    login_blocked_until,
)
from infoscreen.domain.errors import (
    Busy,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    TooManyAttempts,
    Unauthenticated,
)
from infoscreen.services.accounts import CLI, Accounts
from infoscreen.services.logins import Knock
from infoscreen.services.passwords import HASHER, MOST_WAITING, Passwords
from infoscreen.storage import accounts as rows
from infoscreen.storage import audit, logins
from infoscreen.storage.engine import Store
from tests.fakes import FakeClock
from tests.spine import open_spine, sqlite_url
from tests.waiting import until
from tests.web import PASSWORD, QUICK_HASHER


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with open_spine(url) as spine:
        yield spine.store


async def one_value(store: Store, query: str) -> Any:
    async with store.read() as connection:
        return await connection.scalar(text(query))


@pytest.fixture
async def accounts(store: Store, clock: FakeClock) -> AsyncIterator[Accounts]:
    passwords = Passwords(QUICK_HASHER)
    yield Accounts(store, clock, passwords)
    passwords.close()


@pytest.fixture
async def anna(accounts: Accounts) -> User:
    return await accounts.add_user("anna", PASSWORD, Role.ADMIN, CLI)


def acting(user: User, role: Role | None = None) -> Actor:
    return Actor(user.id, user.username, role or user.role, "session")


# Users.


async def test_a_user_is_found_whatever_the_case_of_the_name(accounts: Accounts, anna: User) -> None:
    assert await accounts.user_named("ANNA") == anna
    with pytest.raises(Conflict, match=r"user_exists \(username=Anna\)"):
        await accounts.add_user("Anna", PASSWORD, Role.VIEWER, CLI)


@pytest.mark.parametrize("username", ["", "a b", "ä", "a" * 101, "a\n", "a/b", '"'])
async def test_a_name_that_could_be_mistaken_is_refused(accounts: Accounts, username: str) -> None:
    with pytest.raises(InvalidInput, match="not_a_user_name"):
        await accounts.add_user(username, PASSWORD, Role.VIEWER, CLI)


@pytest.mark.parametrize(("password", "length"), [("short", 5), ("", 0), ("x" * 1001, 1001)])
async def test_a_password_of_the_wrong_length_is_told_its_length(
    accounts: Accounts, anna: User, password: str, length: int
) -> None:
    with pytest.raises(InvalidInput, match=f"length={length}, least=10, most=1000"):
        await accounts.set_password(anna.id, password, CLI)


async def test_users_are_listed_page_by_page_in_order(accounts: Accounts) -> None:
    for number in range(5):
        await accounts.add_user(f"user{number}", PASSWORD, Role.VIEWER, CLI)
    seen, cursor = [], None
    while True:
        page = await accounts.users(2, cursor)
        assert page.total == 5
        seen += [user.username for user in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == [f"user{number}" for number in range(5)]


async def test_the_last_admin_can_be_neither_removed_nor_disabled(accounts: Accounts, anna: User) -> None:
    await accounts.add_user("olga", PASSWORD, Role.OPERATOR, CLI)
    berta = await accounts.add_user("berta", PASSWORD, Role.ADMIN, CLI)
    await accounts.change_user(berta.id, CLI, disabled=True)
    for attempt in (accounts.remove_user(anna.id, CLI), accounts.change_user(anna.id, CLI, disabled=True)):
        with pytest.raises(Conflict, match="last_admin"):
            await attempt
    await accounts.change_user(berta.id, CLI, disabled=False)
    await accounts.remove_user(anna.id, CLI)
    with pytest.raises(NotFound):
        await accounts.user(anna.id)


async def test_two_admins_who_remove_each_other_at_once_do_not_both_succeed(accounts: Accounts) -> None:
    one, other = [await accounts.add_user(name, PASSWORD, Role.ADMIN, CLI) for name in ("one", "other")]
    results = await asyncio.gather(
        accounts.remove_user(one.id, acting(other)),
        accounts.remove_user(other.id, acting(one)),
        return_exceptions=True,
    )
    assert sorted(type(result) for result in results if result is not None) == [Conflict]


async def test_a_removed_user_leaves_neither_sessions_nor_tokens(accounts: Accounts, anna: User) -> None:
    olga = await accounts.add_user("olga", PASSWORD, Role.OPERATOR, CLI)
    signed_in = await accounts.login("olga", PASSWORD, Knock(None))
    made = await accounts.create_token(olga.id, "t", Role.VIEWER, CLI)
    await accounts.remove_user(olga.id, CLI)
    assert await accounts.actor_of_session(signed_in.token, None) is None
    assert await accounts.actor_of_token(made.secret, None) is None


@pytest.mark.parametrize("missing", [2, 2**31 - 1])
async def test_nobody_cannot_be_changed(accounts: Accounts, anna: User, missing: int) -> None:
    for attempt in (
        accounts.set_password(missing, PASSWORD, CLI),
        accounts.change_user(missing, CLI, disabled=True),
        accounts.remove_user(missing, CLI),
        accounts.create_token(missing, "t", Role.VIEWER, CLI),
    ):
        with pytest.raises(NotFound):
            await attempt


# Passwords.


def test_passwords_are_hashed_with_argon2id_over_64_mib() -> None:
    assert HASHER.hash("x" * 10).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


async def test_a_hash_with_old_parameters_is_replaced_at_the_next_login(
    anna: User, store: Store, clock: FakeClock
) -> None:
    stronger = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    later = Accounts(store, clock, stronger)
    for _ in range(2):
        await later.login("anna", PASSWORD, Knock(None))
        assert "m=16,t=2" in await one_value(store, "SELECT password_hash FROM users")
    stronger.close()


class SlowHasher(PasswordHasher):
    """A real hasher that counts how many threads are in it, and waits until it is let go."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.free = threading.Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            assert self.free.wait(60)
            return super().verify(hash, password)
        finally:
            with self.lock:
                self.now -= 1


async def test_guesses_fill_one_lane_and_people_who_are_known_have_another() -> None:
    hasher = SlowHasher()
    passwords = Passwords(hasher)
    right = QUICK_HASHER.hash(PASSWORD)
    guesses = [asyncio.create_task(passwords.check(None, f"guess {n}")) for n in range(MOST_WAITING)]
    await until(lambda: hasher.now == 1)
    owner = asyncio.create_task(passwords.check(right, PASSWORD, known=True))
    await until(lambda: hasher.now == 2)
    with pytest.raises(Busy) as busy:
        await passwords.check(None, "one more")
    assert busy.value.retry_after
    hasher.free.set()
    assert await owner
    assert not any(await asyncio.gather(*guesses))
    passwords.close()
    assert hasher.most == 2


async def test_short_memory_is_no_wrong_password() -> None:
    class Poor(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            raise VerificationError("Memory allocation error")

    passwords = Passwords(Poor(time_cost=1, memory_cost=8, parallelism=1))
    for stored in (QUICK_HASHER.hash(PASSWORD), None):
        with pytest.raises(Busy):
            await passwords.check(stored, PASSWORD)
    passwords.close()


async def test_a_try_that_could_not_be_checked_is_not_counted(
    store: Store, anna: User, clock: FakeClock
) -> None:
    class Poor(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            raise VerificationError("Memory allocation error")

    poor, rich = Passwords(Poor(time_cost=1, memory_cost=8, parallelism=1)), Passwords(QUICK_HASHER)
    for _ in range(12):
        with pytest.raises(Busy):
            await Accounts(store, clock, poor).login("anna", PASSWORD, Knock("192.0.2.1"))
    await Accounts(store, clock, rich).login("anna", PASSWORD, Knock("192.0.2.1"))
    poor.close()
    rich.close()


async def test_a_wrong_current_password_changes_nothing_and_is_throttled(
    accounts: Accounts, anna: User
) -> None:
    signed_in = await accounts.login("anna", PASSWORD, Knock(None))
    knock = Knock(None, session=signed_in.token)
    for _ in range(FREE_FAILURES_PER_DEVICE + FREE_FAILURES):
        with pytest.raises(Unauthenticated):
            await accounts.change_password(acting(anna), "wrong", "a new password", knock)
    with pytest.raises(TooManyAttempts):
        await accounts.change_password(acting(anna), PASSWORD, "a new password", knock)
    assert await accounts.actor_of_session(signed_in.token, None) is not None


async def test_one_who_knows_the_current_password_can_change_it(accounts: Accounts, anna: User) -> None:
    here, there = [await accounts.login("anna", PASSWORD, Knock(None)) for _ in range(2)]
    await accounts.change_password(acting(anna), PASSWORD, "a new password", Knock(None, session=here.token))
    assert await accounts.actor_of_session(here.token, None) is not None
    assert await accounts.actor_of_session(there.token, None) is None
    await accounts.login("anna", "a new password", Knock(None))


# How failed logins are slowed down.


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (2, 0), (3, 1), (4, 2), (9, 64), (12, 512), (13, 900), (10**6, 900)]
)
def test_the_delay_doubles_up_to_a_quarter_of_an_hour(failures: int, seconds: int) -> None:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    until = login_blocked_until(failures, at, at)
    assert (until - at if until else timedelta(0)) == timedelta(seconds=seconds)
    assert login_blocked_until(failures, at, at + timedelta(seconds=seconds)) is None


async def test_guesses_at_the_same_time_are_counted_one_by_one(accounts: Accounts, anna: User) -> None:
    results = await asyncio.gather(
        *(accounts.login("anna", f"guess {n}", Knock("192.0.2.1")) for n in range(12)),
        return_exceptions=True,
    )
    assert Counter(type(result) for result in results) == {Unauthenticated: 3, TooManyAttempts: 9}


async def test_a_name_is_given_once_even_to_two_who_ask_at_once(accounts: Accounts) -> None:
    results = await asyncio.gather(
        *(accounts.add_user("anna", PASSWORD, Role.VIEWER, CLI) for _ in range(6)), return_exceptions=True
    )
    assert Counter(type(result) for result in results) == {User: 1, Conflict: 5}


async def test_guesses_from_everywhere_never_lock_the_owner_out(accounts: Accounts, anna: User) -> None:
    hers = await accounts.login("anna", PASSWORD, Knock("192.0.2.1"))
    assert hers.device is not None
    for number in range(200):
        with pytest.raises(Unauthenticated):
            await accounts.login("anna", "guess", Knock(f"198.51.{number}.7"))
    # Elsewhere, even on a new device: the account as such is never locked.
    await accounts.login("anna", PASSWORD, Knock("203.0.113.9"))
    # At home, where somebody else has guessed as well: the device is known.
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await accounts.login("anna", "guess", Knock("192.0.2.1"))
    with pytest.raises(TooManyAttempts):
        await accounts.login("anna", PASSWORD, Knock("192.0.2.1"))
    again = await accounts.login("anna", PASSWORD, Knock("192.0.2.1", device=hers.device))
    assert again.device is None, "the device is marked already"


async def test_a_device_is_known_for_its_user_alone_and_not_after_a_new_password(
    accounts: Accounts, anna: User
) -> None:
    olga = await accounts.add_user("olga", PASSWORD, Role.OPERATOR, CLI)
    olgas = await accounts.login("olga", PASSWORD, Knock("192.0.2.1"))
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await accounts.login("anna", "guess", Knock("192.0.2.1", device=olgas.device))
    with pytest.raises(TooManyAttempts):
        await accounts.login("anna", PASSWORD, Knock("192.0.2.1", device=olgas.device))
    await accounts.set_password(olga.id, PASSWORD + "2", CLI)
    assert (await accounts.login("olga", PASSWORD + "2", Knock("192.0.2.2", device=olgas.device))).device


async def test_a_stolen_device_cookie_does_not_guess_for_ever(accounts: Accounts, anna: User) -> None:
    device = (await accounts.login("anna", PASSWORD, Knock("192.0.2.1"))).device
    for _ in range(FREE_FAILURES_PER_DEVICE + FREE_FAILURES):
        with pytest.raises(Unauthenticated):
            await accounts.login("anna", "guess", Knock("198.51.100.1", device=device))
    with pytest.raises(TooManyAttempts):
        await accounts.login("anna", "guess", Knock("198.51.100.1", device=device))


async def test_the_devices_of_a_user_are_bounded(accounts: Accounts, anna: User, store: Store) -> None:
    for _ in range(logins.MOST_DEVICES + 3):
        await accounts.login("anna", PASSWORD, Knock(None))
    assert await one_value(store, "SELECT count(*) FROM login_devices") == logins.MOST_DEVICES


# Sessions.


async def test_sessions_are_listed_and_ended_one_by_one(
    accounts: Accounts, anna: User, clock: FakeClock
) -> None:
    first = await accounts.login("anna", PASSWORD, Knock("192.0.2.7"), user_agent="Old\x1b[31mBrowser")
    clock.advance(1)
    second = await accounts.login("anna", PASSWORD, Knock("192.0.2.8"), user_agent="x" * 1000)
    newest, oldest = await accounts.sessions(anna.id)
    assert (oldest.address, oldest.user_agent) == ("192.0.2.7", "Old?[31mBrowser")
    assert newest.user_agent == "x" * 300
    assert accounts.is_session(newest, second.token)
    assert not accounts.is_session(newest, first.token)
    await accounts.end_session(anna.id, oldest.id, acting(anna))
    assert await accounts.sessions(anna.id) == [newest]
    assert await accounts.actor_of_session(first.token, None) is None
    with pytest.raises(NotFound):
        await accounts.end_session(anna.id, oldest.id, acting(anna))


async def test_a_session_of_somebody_else_cannot_be_ended_by_its_name(accounts: Accounts, anna: User) -> None:
    olga = await accounts.add_user("olga", PASSWORD, Role.OPERATOR, CLI)
    hers = await accounts.login("anna", PASSWORD, Knock(None))
    with pytest.raises(NotFound):
        await accounts.end_session(olga.id, hers.session.id, acting(olga))
    assert await accounts.actor_of_session(hers.token, None) is not None


async def test_dead_sessions_are_swept_and_not_listed(
    accounts: Accounts, anna: User, clock: FakeClock, store: Store
) -> None:
    await accounts.login("anna", PASSWORD, Knock(None))
    clock.advance(12 * 3600)
    assert await accounts.sessions(anna.id) == []
    await accounts.login("anna", PASSWORD, Knock(None))
    assert await one_value(store, "SELECT count(*) FROM sessions") == 1


# API tokens.


@pytest.mark.parametrize("of_token", Role)
@pytest.mark.parametrize("of_user", Role)
async def test_a_token_never_does_more_than_its_user_may_by_now(
    accounts: Accounts, anna: User, store: Store, of_token: Role, of_user: Role
) -> None:
    user = await accounts.add_user("program", PASSWORD, Role.ADMIN, CLI)
    made = await accounts.create_token(user.id, "t", of_token, CLI)
    async with store.write() as connection:
        await rows.change_user(connection, user.id, role=of_user)
    actor = await accounts.actor_of_token(made.secret, "192.0.2.1")
    assert actor is not None
    assert actor.role == min(of_token, of_user, key=list(Role).index)
    assert (actor.via, actor.name, actor.address) == ("token", "program/t", "192.0.2.1")


async def test_nobody_makes_a_token_above_their_own_role_or_for_somebody_else(
    accounts: Accounts, anna: User
) -> None:
    olga = await accounts.add_user("olga", PASSWORD, Role.OPERATOR, CLI)
    with pytest.raises(Forbidden, match="highest=operator"):
        await accounts.create_token(olga.id, "t", Role.ADMIN, acting(olga))
    with pytest.raises(Forbidden, match="highest=viewer"):
        await accounts.create_token(olga.id, "t", Role.OPERATOR, acting(olga, Role.VIEWER))
    with pytest.raises(Forbidden, match="highest=operator"):
        await accounts.create_token(olga.id, "t", Role.ADMIN, acting(anna))
    with pytest.raises(Forbidden, match="tokens_for_others"):
        await accounts.create_token(anna.id, "t", Role.VIEWER, acting(olga))


async def test_a_token_makes_none_that_does_more_or_lives_longer(
    accounts: Accounts, anna: User, clock: FakeClock
) -> None:
    end = clock.now() + timedelta(days=1)
    made = await accounts.create_token(anna.id, "t", Role.OPERATOR, CLI, end, manages_accounts=True)
    actor = await accounts.actor_of_token(made.secret, None)
    assert actor is not None
    assert actor.manages_accounts
    for role, expires_at in (
        (Role.ADMIN, end),
        (Role.VIEWER, None),
        (Role.VIEWER, end + timedelta(seconds=1)),
    ):
        with pytest.raises(Forbidden):
            await accounts.create_token(anna.id, "u", role, actor, expires_at)
    child = await accounts.create_token(anna.id, "u", Role.VIEWER, actor, end)
    grandchild = await accounts.actor_of_token(child.secret, None)
    assert grandchild is not None
    assert not grandchild.manages_accounts


async def test_a_new_password_revokes_tokens_only_if_asked(accounts: Accounts, anna: User) -> None:
    made = await accounts.create_token(anna.id, "t", Role.VIEWER, CLI)
    await accounts.set_password(anna.id, PASSWORD + "2", CLI)
    assert await accounts.count_tokens(anna.id) == 1
    await accounts.set_password(anna.id, PASSWORD + "3", CLI, revoke_tokens=True)
    assert await accounts.actor_of_token(made.secret, None) is None


async def test_the_last_admin_keeps_the_role(accounts: Accounts, anna: User) -> None:
    with pytest.raises(Conflict, match="last_admin"):
        await accounts.change_user(anna.id, CLI, role=Role.OPERATOR)
    await accounts.add_user("berta", PASSWORD, Role.ADMIN, CLI)
    assert (await accounts.change_user(anna.id, CLI, role=Role.OPERATOR)).role is Role.OPERATOR


async def test_tokens_of_others_do_not_exist_but_for_admins(accounts: Accounts, anna: User) -> None:
    olga = await accounts.add_user("olga", PASSWORD, Role.OPERATOR, CLI)
    annas = await accounts.create_token(anna.id, "annas", Role.VIEWER, acting(anna))
    olgas = await accounts.create_token(olga.id, "olgas", Role.VIEWER, acting(olga))
    assert (await accounts.tokens(acting(olga), 10)).items == [olgas.token]
    assert (await accounts.tokens(acting(anna), 10)).items == [annas.token, olgas.token]
    with pytest.raises(NotFound):
        await accounts.revoke_token(annas.token.id, acting(olga))
    await accounts.revoke_token(olgas.token.id, acting(anna))
    assert await accounts.actor_of_token(olgas.secret, None) is None


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[31m"])
async def test_a_token_has_a_name_that_can_be_printed(accounts: Accounts, anna: User, name: str) -> None:
    with pytest.raises(InvalidInput, match="not_a_token_name"):
        await accounts.create_token(anna.id, name, Role.VIEWER, CLI)


async def test_a_token_that_has_expired_already_is_refused(
    accounts: Accounts, anna: User, clock: FakeClock
) -> None:
    with pytest.raises(InvalidInput, match="passed"):
        await accounts.create_token(anna.id, "t", Role.VIEWER, CLI, clock.now())


# The audit trail.


async def test_every_act_is_in_the_audit_trail_and_no_secret_is(
    accounts: Accounts, anna: User, store: Store
) -> None:
    actor = Actor(anna.id, "anna", Role.ADMIN, "session", "192.0.2.1")
    signed_in = await accounts.login("anna", PASSWORD, Knock("192.0.2.1"))
    olga = await accounts.add_user("olga", PASSWORD + "!", Role.OPERATOR, actor)
    made = await accounts.create_token(olga.id, "backup", Role.VIEWER, actor)
    await accounts.revoke_token(made.token.id, actor)
    await accounts.set_password(olga.id, PASSWORD + "?", actor)
    await accounts.change_user(olga.id, actor, disabled=True)
    await accounts.change_user(olga.id, actor, disabled=False)
    await accounts.remove_user(olga.id, actor)
    await accounts.logout(signed_in.token, "192.0.2.1")
    async with store.read() as connection:
        page = await audit.page(connection, 100)
        mine = await audit.page(connection, 100, query=audit.AuditQuery(actor="cli"))
    assert [(entry.action, entry.target) for entry in reversed(page.items)] == [
        ("user.add", "user/anna"),
        ("auth.login", "user/anna"),
        ("user.add", "user/olga"),
        ("token.create", "token/1"),
        ("token.revoke", "token/1"),
        ("user.password", "user/olga"),
        ("user.disable", "user/olga"),
        ("user.enable", "user/olga"),
        ("user.remove", "user/olga"),
        ("auth.logout", "user/anna"),
    ]
    assert [entry.action for entry in mine.items] == ["user.add"]
    assert page.items[0].address == "192.0.2.1"
    assert not any(
        secret in str(entry) for entry in page.items for secret in (made.secret, signed_in.token, PASSWORD)
    )
