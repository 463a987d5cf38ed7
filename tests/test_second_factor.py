"""The second factor: set up, asked for, guessed, replayed, lost, required, and taken away."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyotp
import pytest
from aiohttp import ClientSession
from click.testing import CliRunner
from sqlalchemy import text

from infoscreen.cli import cli
from infoscreen.domain.accounts import Role, User
from infoscreen.domain.second_factor import PENDING_LASTS, RECOVERY_CODES, plain
from infoscreen.services.secrets import Secrets
from tests.panel import Shown, look, send
from tests.spine import sqlite_url
from tests.web import PASSWORD, SAME_ORIGIN, SECRETS, Site, serving

STEP = 30
OTHER = "another horse battery"


class Phone:
    """An authenticator app with the clock of the site."""

    def __init__(self, site: Site, secret: str) -> None:
        self._site = site
        self._totp = pyotp.TOTP(secret)

    def code(self, seconds: float = 0) -> str:
        """Return the code that is shown so many seconds from now."""
        return self._totp.at(self._site.spine.clock.now().timestamp() + seconds)

    def next_code(self) -> str:
        """Return the first code after the one that may have been used."""
        self._site.spine.clock.advance(STEP)
        return self.code()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """The site on each kind of database."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else sqlite_url(tmp_path)
    async with serving(tmp_path, url=url) as running:
        yield running


def key_in(shown: Shown) -> str:
    """Return the secret that a page shows as text."""
    found = re.search(r'factor-key"><code>(.*?)</code>', shown.text, re.DOTALL)
    assert found is not None
    return re.sub(r"\s", "", found[1])


async def post(browser: ClientSession, path: str, **fields: Any) -> tuple[int, Any]:
    async with browser.post(path, json=fields) as response:
        return response.status, await response.json() if response.content_length else None


async def login(site: Site, user: User, **more: str) -> tuple[int, Any, ClientSession]:
    visitor = await site.visitor(SAME_ORIGIN)
    status, answer = await post(visitor, "/api/auth/login", username=user.username, password=PASSWORD, **more)
    return status, answer, visitor


async def is_in(browser: ClientSession) -> bool:
    async with browser.get("/api/auth/me") as response:
        return response.status == 200


async def set_up(site: Site, browser: ClientSession) -> tuple[Phone, list[str]]:
    """Let the user of a browser have a second factor; return phone and recovery codes."""
    status, offer = await post(browser, "/api/auth/second_factor", password=PASSWORD)
    assert status == 200
    phone = Phone(site, offer["secret"])
    assert pyotp.parse_uri(offer["uri"]).secret == offer["secret"]
    status, answer = await post(browser, "/api/auth/second_factor/confirm", code=phone.code())
    assert status == 200, answer
    return phone, answer["codes"]


async def test_a_code_is_asked_for_once_it_is_set_up(anywhere: Site) -> None:
    site = anywhere
    user = await site.user(Role.OPERATOR)
    browser, other = await site.browser(Role.OPERATOR), await site.browser(Role.OPERATOR)
    phone, _ = await set_up(site, browser)
    assert await is_in(browser)
    assert not await is_in(other), "other sessions end when the factor changes"
    status, answer, _ = await login(site, user)
    assert (status, answer["type"], answer["code"]) == (401, "second-factor-needed", "code_needed")
    status, answer, _ = await login(site, user, code="000000")
    assert (status, answer["code"]) == (401, "wrong_code")
    status, _, visitor = await login(site, user, code=phone.next_code())
    assert status == 200
    assert await is_in(visitor)
    async with site.spine.store.read() as connection:
        ways = await connection.scalars(text("SELECT way FROM sessions ORDER BY created_at"))
        assert "code" in list(ways)


@pytest.mark.parametrize("seconds", [-30, 0, 30])
async def test_a_phone_may_be_a_step_off_but_a_code_counts_once(site: Site, seconds: int) -> None:
    user = await site.user(Role.OPERATOR)
    phone, _ = await set_up(site, await site.browser(Role.OPERATOR))
    site.spine.clock.advance(10 * STEP)
    code = phone.code(seconds)
    assert (await login(site, user, code=f"{code[:3]} {code[3:]}"))[0] == 200
    status, answer, _ = await login(site, user, code=code)
    assert (status, answer["code"]) == (401, "wrong_code")
    site.spine.clock.advance(120)
    assert (await login(site, user, code=phone.code()))[0] == 200


async def test_earlier_codes_end_with_a_later_one_and_far_ones_never_count(site: Site) -> None:
    user = await site.user(Role.OPERATOR)
    phone, _ = await set_up(site, await site.browser(Role.OPERATOR))
    site.spine.clock.advance(10 * STEP)
    early = phone.code(-30)
    assert (await login(site, user, code=phone.code()))[0] == 200
    assert (await login(site, user, code=early))[0] == 401
    assert (await login(site, user, code=phone.code(61)))[0] == 401
    assert (await login(site, user, code=phone.code(-61)))[0] == 401


async def test_of_many_with_one_code_at_once_one_signs_in(anywhere: Site) -> None:
    site = anywhere
    user = await site.user(Role.OPERATOR)
    phone, codes = await set_up(site, await site.browser(Role.OPERATOR))
    for code in (phone.next_code(), codes[0]):
        done = await asyncio.gather(*(login(site, user, code=code) for _ in range(3)))
        assert sorted(status for status, _, _ in done) == [200, 401, 401]
        site.spine.clock.advance(3600)


async def test_a_clock_that_is_set_back_locks_nobody_out(site: Site) -> None:
    user = await site.user(Role.OPERATOR)
    phone, _ = await set_up(site, await site.browser(Role.OPERATOR))
    site.spine.clock.set_wall_time(site.spine.clock.now().replace(year=site.spine.clock.now().year - 1))
    assert (await login(site, user, code=phone.code()))[0] == 200


async def test_a_recovery_code_counts_once_and_only_its_hash_is_stored(anywhere: Site) -> None:
    site = anywhere
    user = await site.user(Role.OPERATOR)
    browser = await site.browser(Role.OPERATOR)
    phone, codes = await set_up(site, browser)
    assert len(set(codes)) == RECOVERY_CODES
    assert (await login(site, user, code=codes[0].upper()))[0] == 200
    assert (await login(site, user, code=codes[0]))[0] == 401
    async with browser.get("/api/auth/second_factor") as response:
        state = await response.json()
    assert (state["codes_left"], state["required"]) == (RECOVERY_CODES - 1, False)
    async with site.spine.store.read() as connection:
        rows = await connection.execute(text("SELECT code_hash FROM recovery_codes"))
        stored = " ".join(row[0] for row in rows)
        sealed = await connection.scalar(text("SELECT sealed FROM second_factors"))
    assert not any(plain(code) in stored for code in codes)
    assert sealed.startswith("v1:")
    assert phone._totp.secret not in sealed
    _, fresh = await post(browser, "/api/auth/second_factor/recovery_codes", code=phone.next_code())
    assert (await login(site, user, code=codes[1]))[0] == 401
    assert (await login(site, user, code=fresh["codes"][0]))[0] == 200


async def test_guessing_codes_slows_down_and_the_right_password_forgives_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    user = await site.user(Role.OPERATOR)
    mine = await site.browser(Role.OPERATOR)
    phone, _ = await set_up(site, mine)
    site.spine.clock.advance(10 * STEP)
    statuses = []
    with caplog.at_level(logging.WARNING):
        for number in range(8):  # each attempt begins with the right password
            status, _, _ = await login(site, user, code=f"{number:06}")
            statuses.append(status)
    assert statuses == [401, 401, 401, 429, 429, 429, 429, 429]
    reasons = [
        vars(one)["reason"] for one in caplog.records if getattr(one, "event", "") == "auth.login_failed"
    ]
    assert reasons == ["code"] * 3 + ["throttled"] * 5
    assert (await login(site, user, code=phone.code()))[0] == 429, "the right code waits as well"
    status, _ = await post(
        mine, "/api/auth/login", username=user.username, password=PASSWORD, code=phone.code()
    )
    assert status == 200, "the owner's own browser is not held up"


async def test_a_half_done_sign_in_ends_with_time_password_and_lock(site: Site) -> None:
    user = await site.user(Role.OPERATOR)
    phone, _ = await set_up(site, await site.browser(Role.OPERATOR))
    admin = await site.browser(Role.ADMIN)

    async def wait() -> None:
        site.spine.clock.advance(PENDING_LASTS.total_seconds())

    async def change_password() -> None:
        await admin.patch(f"/api/users/{user.id}", json={"password": PASSWORD + "!"})
        await admin.patch(f"/api/users/{user.id}", json={"password": PASSWORD})

    async def change_role() -> None:
        await admin.patch(f"/api/users/{user.id}", json={"role": "viewer"})
        await admin.patch(f"/api/users/{user.id}", json={"role": "operator"})

    async def disable() -> None:
        await admin.patch(f"/api/users/{user.id}", json={"disabled": True})
        await admin.patch(f"/api/users/{user.id}", json={"disabled": False})

    for end in (wait, change_password, change_role, disable):
        visitor = await site.visitor(SAME_ORIGIN)
        asked = await send(visitor, "/login", username=user.username, password=PASSWORD)
        assert asked.path.startswith("/login/factor"), end
        await end()
        shown = await send(visitor, "/login/factor", code=phone.next_code(), follow=False)
        assert (shown.status, shown.location) == (303, "/login?next=%2F"), end
        assert not await is_in(visitor)


async def test_a_password_alone_opens_nothing(site: Site) -> None:
    user = await site.user(Role.ADMIN)
    await set_up(site, await site.browser(Role.ADMIN))
    visitor = await site.visitor(SAME_ORIGIN)
    shown = await send(visitor, "/login", username=user.username, password=PASSWORD, next="/clients")
    assert shown.path == "/login/factor?next=/clients"
    assert "infoscreen_device" not in {cookie.key for cookie in visitor.cookie_jar}
    for path in ("/", "/clients", "/account/factor"):
        assert (await look(visitor, path)).path.startswith("/login")
    async with visitor.get("/api/users") as response:
        assert response.status == 401
    wrong = await send(visitor, "/login/factor", code="123", next="/clients")
    assert wrong.status == 401
    assert "falsch" in wrong.words


@asynccontextmanager
async def strict(tmp_path: Path, **more: Any) -> AsyncIterator[Site]:
    async with serving(tmp_path, required=(Role.OPERATOR, Role.ADMIN), **more) as site:
        yield site


async def test_a_role_that_needs_a_factor_sets_it_up_while_signing_in(tmp_path: Path) -> None:
    async with strict(tmp_path) as site:
        user = await site.user(Role.OPERATOR)
        status, answer, _ = await login(site, user)
        assert (status, answer["code"]) == (401, "factor_not_set_up")
        await site.browser(Role.VIEWER)
        visitor = await site.visitor(SAME_ORIGIN)
        shown = await send(visitor, "/login", username=user.username, password=PASSWORD)
        assert "<svg" in shown.text
        secret = key_in(shown)
        phone = Phone(site, secret)
        again = await look(visitor, "/login/factor")
        assert secret in re.sub(r"\s", "", again.text), "reloading shows the same secret"
        wrong = await send(visitor, "/login/factor", code="1")
        assert wrong.status == 401
        done = await send(visitor, "/login/factor", code=phone.code())
        assert done.status == 200
        assert len(re.findall(r"<li><code>([a-z2-7-]{19})</code>", done.text)) == RECOVERY_CODES
        assert await is_in(visitor)
        status, answer = await post(visitor, "/api/auth/second_factor/remove", code=phone.next_code())
        assert (status, answer["code"]) == (403, "factor_required")


async def test_sessions_of_before_the_requirement_end_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        await site.user(Role.OPERATOR)
        browser = await site.browser(Role.OPERATOR)
        cookie = next(one.value for one in browser.cookie_jar if one.key == "infoscreen_session")
        site.parts.accounts.factors._required = frozenset({Role.OPERATOR})
        assert not await is_in(browser)
        site.parts.accounts.factors._required = frozenset({Role.ADMIN})
        assert await is_in(browser)
        assert cookie


async def test_a_factor_is_replaced_and_the_old_one_counts_until_then(site: Site) -> None:
    user = await site.user(Role.OPERATOR)
    browser = await site.browser(Role.OPERATOR)
    old, _ = await set_up(site, browser)
    _, offer = await post(browser, "/api/auth/second_factor", password=PASSWORD)
    new = Phone(site, offer["secret"])
    assert (await login(site, user, code=old.next_code()))[0] == 200
    assert (await login(site, user, code=new.code()))[0] == 401
    assert (await post(browser, "/api/auth/second_factor/confirm", code=new.next_code()))[0] == 200
    assert (await login(site, user, code=old.next_code()))[0] == 401
    assert (await login(site, user, code=new.code()))[0] == 200


async def test_beginning_needs_the_password_and_takes_no_longer_than_a_quarter_of_an_hour(site: Site) -> None:
    browser = await site.browser(Role.OPERATOR)
    status, answer = await post(browser, "/api/auth/second_factor", password=OTHER)
    assert (status, answer["code"]) == (401, "wrong_credentials")
    _, offer = await post(browser, "/api/auth/second_factor", password=PASSWORD)
    site.spine.clock.advance(15 * 60)
    status, answer = await post(
        browser, "/api/auth/second_factor/confirm", code=Phone(site, offer["secret"]).code()
    )
    assert (status, answer["code"]) == (409, "no_factor_offered")


async def test_an_admin_takes_a_lost_factor_away(site: Site) -> None:
    user = await site.user(Role.OPERATOR)
    browser = await site.browser(Role.OPERATOR)
    await set_up(site, browser)
    admin = await site.browser(Role.ADMIN)
    async with admin.get("/api/users") as response:
        listed = {one["username"]: one["second_factor"] for one in (await response.json())["items"]}
    assert listed == {"operator": True, "admin": False}
    async with browser.delete(f"/api/users/{user.id}/second_factor") as response:
        assert response.status == 403
    async with admin.delete(f"/api/users/{user.id}/second_factor") as response:
        assert response.status == 204
    async with admin.delete(f"/api/users/{user.id}/second_factor") as response:
        assert (await response.json())["code"] == "no_factor"
    assert not await is_in(browser)
    assert (await login(site, user))[0] == 200
    async with admin.get("/api/audit") as response:
        acts = [one["action"] for one in (await response.json())["items"]]
    assert {"factor.set", "factor.remove"} <= set(acts)


async def test_a_lost_key_is_told_and_recovery_codes_and_the_command_line_still_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqlite_url(tmp_path)
    monkeypatch.setenv("DATABASE_URL", url)
    await asyncio.to_thread(CliRunner().invoke, cli, ["db", "upgrade"])
    async with serving(tmp_path, url=url, secrets=SECRETS) as site:
        user = await site.user(Role.OPERATOR)
        phone, codes = await set_up(site, await site.browser(Role.OPERATOR))
        for lost in (Secrets(), Secrets([bytes(32)])):
            site.parts.accounts.factors._secrets = lost
            for _ in range(5):  # none of them counts as a guess
                status, answer, _ = await login(site, user, code=phone.next_code())
                assert (status, answer["type"]) == (409, "secret-unreadable")
            assert "SECRETS_KEY" in answer["detail"]
            status, _, browser = await login(site, user, code=codes.pop())
            assert status == 200
            assert "SECRETS_KEY" in (await look(browser, "/account/factor")).words
    done = await asyncio.to_thread(CliRunner().invoke, cli, ["user", "reset-factor", "operator"])
    assert done.exit_code == 0, done.output
    async with serving(tmp_path, url=url) as site:
        assert (await login(site, user))[0] == 200


async def test_the_pages_set_a_factor_up_and_remove_it(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    wrong = await send(browser, "/account/factor/begin", password=OTHER)
    assert "Das aktuelle Passwort ist falsch." in wrong.words
    begun = await send(browser, "/account/factor/begin", password=PASSWORD)
    assert begun.path == "/account/factor"
    phone = Phone(site, key_in(begun))
    assert (await send(browser, "/account/factor/confirm", code="000")).status == 422
    done = await send(browser, "/account/factor/confirm", code=phone.code())
    assert "Wiederherstellungscodes" in done.title
    fresh = await send(browser, "/account/factor/codes", code=phone.next_code())
    assert "Wiederherstellungscodes" in fresh.title
    gone = await send(browser, "/account/factor/remove", code=phone.next_code())
    assert gone.path == "/account"
    assert "Der zweite Faktor wurde entfernt." in gone.words
