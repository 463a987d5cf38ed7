"""Signing in and out over HTTP: cookies, throttling, API tokens, and how all of it ends."""

import asyncio
import hashlib
import logging
import re
from datetime import timedelta
from http.cookies import Morsel
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from infoscreen.domain.accounts import Role
from infoscreen.logs import TextFormatter
from infoscreen.services.accounts import CLI, SEEN_EVERY
from infoscreen.services.signing_in import SESSION_IDLE, SESSION_LIFETIME
from infoscreen.storage import accounts, logins
from infoscreen.web.keys import WebConfig
from tests.web import PASSWORD, SAME_ORIGIN, Site, serving

BEHIND_A_PROXY = WebConfig(trusted_proxies=(ip_network("127.0.0.0/8"),))


async def login(visitor: ClientSession, username: str, password: str = PASSWORD, **headers: str) -> Any:
    """Return the answer, read."""
    credentials = {"username": username, "password": password}
    async with visitor.post("/api/auth/login", json=credentials, headers=headers) as response:
        await response.read()
        return response


async def is_signed_in(visitor: ClientSession) -> bool:
    async with visitor.get("/api/auth/me") as response:
        assert response.status in (200, 401)
        return response.status == 200


def token_of(browser: ClientSession) -> str:
    return next(cookie.value for cookie in browser.cookie_jar if cookie.key == "infoscreen_session")


async def test_a_browser_signs_in_and_is_known(site: Site) -> None:
    browser = await site.browser(Role.OPERATOR)
    async with browser.get("/api/auth/me") as response:
        assert await response.json() == {
            "user_id": 1,
            "name": "operator",
            "role": "operator",
            "via": "session",
        }


# Cookies.


async def cookie_from(site: Site, **headers: str) -> Morsel[str]:
    user = await site.user(Role.VIEWER)
    response = await login(await site.visitor(SAME_ORIGIN), user.username, **headers)
    assert response.status == 200
    cookie, device = response.cookies.values()
    assert device.key == cookie.key.replace("session", "device")
    assert (device["httponly"], device["samesite"], device["secure"]) == (True, "Lax", cookie["secure"])
    return cookie


async def test_over_http_the_cookie_is_hidden_from_scripts_and_other_sites(site: Site) -> None:
    cookie = await cookie_from(site)
    assert cookie.key == "infoscreen_session"
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert (cookie["secure"], cookie["domain"]) == ("", "")
    assert cookie["max-age"] == str(7 * 86400)


async def test_over_https_the_cookie_is_bound_to_this_host(tmp_path: Path) -> None:
    async with serving(tmp_path, WebConfig(public_origin="https://screens.example")) as site:
        cookie = await cookie_from(site)
    assert cookie.key == "__Host-infoscreen_session"
    assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")


async def test_a_trusted_proxy_may_say_that_the_browser_speaks_https(tmp_path: Path) -> None:
    async with serving(tmp_path, BEHIND_A_PROXY) as site:
        cookie = await cookie_from(site, **{"X-Forwarded-Proto": "https"})
    assert cookie.key == "__Host-infoscreen_session"


async def test_a_stranger_may_not_say_so(site: Site) -> None:
    cookie = await cookie_from(site, **{"X-Forwarded-Proto": "https"})
    assert cookie.key == "infoscreen_session"


async def test_the_token_has_256_bits_and_only_its_hash_is_stored(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    token = token_of(browser)
    assert len(token) == 43
    async with site.parts.store.read() as connection:
        found = await accounts.session_of(connection, hashlib.sha256(token.encode()).hexdigest())
    assert found is not None
    files = Path(site.parts.store.url.partition("///")[2]).parent.glob("*.db*")
    assert not any(token.encode() in path.read_bytes() for path in files)


# How sessions end.


async def test_signing_in_again_ends_the_session_the_browser_had(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    old = await site.visitor({"Cookie": f"infoscreen_session={token_of(browser)}"})
    assert await is_signed_in(old)
    await login(browser, "viewer")
    assert await is_signed_in(browser)
    assert not await is_signed_in(old)


async def test_signing_out_ends_the_session_and_not_only_the_cookie(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    kept = await site.visitor({"Cookie": f"infoscreen_session={token_of(browser)}"})
    async with browser.post("/api/auth/logout") as response:
        assert response.status == 204
    assert [cookie.key for cookie in browser.cookie_jar] == ["infoscreen_device"]
    assert not await is_signed_in(kept)


async def test_signing_out_twice_is_fine(site: Site) -> None:
    browser = await site.browser()
    for _ in range(2):
        async with browser.post("/api/auth/logout") as response:
            assert response.status == 204


async def test_an_idle_session_ends_after_twelve_hours(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    site.spine.clock.advance((SESSION_IDLE - timedelta(seconds=1)).total_seconds())
    assert await is_signed_in(browser)
    site.spine.clock.advance(SESSION_IDLE.total_seconds())
    assert not await is_signed_in(browser)


async def test_a_busy_session_ends_after_seven_days_all_the_same(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    hours = SESSION_LIFETIME // timedelta(hours=1)
    for hour in range(1, hours + 1):
        site.spine.clock.advance(3600)
        assert await is_signed_in(browser) == (hour < hours)


async def test_use_of_a_session_is_written_down_at_most_once_a_minute(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    began = site.spine.clock.now()

    async def last_seen() -> timedelta:
        (session,) = await site.parts.accounts.sessions(1)
        return session.last_seen_at - began

    site.spine.clock.advance(SEEN_EVERY.total_seconds() - 1)
    await is_signed_in(browser)
    assert await last_seen() == timedelta(0)
    site.spine.clock.advance(1)
    await asyncio.gather(*(is_signed_in(browser) for _ in range(5)))
    assert await last_seen() == SEEN_EVERY


async def test_a_disabled_user_is_out_at_once_in_browser_and_program(site: Site) -> None:
    browser, program = await site.browser(Role.OPERATOR), await site.program(Role.OPERATOR)
    user = await site.user(Role.OPERATOR)
    await site.parts.accounts.change_user(user.id, CLI, disabled=True)
    assert not await is_signed_in(browser)
    assert not await is_signed_in(program)
    assert (await login(browser, user.username)).status == 401
    await site.parts.accounts.change_user(user.id, CLI, disabled=False)
    assert not await is_signed_in(browser), "an ended session must not come back to life"
    assert await is_signed_in(program)


async def test_another_password_ends_all_sessions_but_the_one_kept(site: Site) -> None:
    here, elsewhere = await site.browser(Role.VIEWER), await site.browser(Role.VIEWER)
    user = await site.user(Role.VIEWER)
    await site.parts.accounts.set_password(user.id, "another password", CLI, keep_session=token_of(here))
    assert await is_signed_in(here)
    assert not await is_signed_in(elsewhere)
    assert (await login(elsewhere, user.username)).status == 401
    assert (await login(elsewhere, user.username, "another password")).status == 200


@pytest.mark.parametrize("cookie", ["", "x", "a" * 5000, "%00", "\u00fc"])
async def test_a_cookie_of_no_session_signs_nobody_in(site: Site, cookie: str) -> None:
    visitor = await site.visitor({"Cookie": f"infoscreen_session={cookie}"})
    assert not await is_signed_in(visitor)


# Failed logins.


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(site: Site) -> None:
    await site.user(Role.ADMIN)
    visitor = await site.visitor(SAME_ORIGIN)
    wrong = await login(visitor, "admin", "not the password")
    unknown = await login(visitor, "nobody", "not the password")
    assert wrong.status == unknown.status == 401
    assert await wrong.json() == await unknown.json()


async def test_failures_slow_an_account_down_ever_more_even_for_the_right_password(site: Site) -> None:
    await site.user(Role.ADMIN)
    visitor = await site.visitor(SAME_ORIGIN)
    for _ in range(3):
        assert (await login(visitor, "admin", "wrong")).status == 401
    for seconds in (1, 2, 4, 8):
        refused = await login(visitor, "ADMIN")
        assert refused.status == 429
        assert refused.headers["Retry-After"] == str(seconds)
        assert (await refused.json())["type"] == "too-many-attempts"
        site.spine.clock.advance(seconds)
        assert (await login(visitor, "admin", "wrong")).status == 401
    site.spine.clock.advance(16)
    assert (await login(visitor, "admin")).status == 200
    assert (await login(visitor, "admin", "wrong")).status == 401, "success resets the count"


async def test_many_guesses_at_the_same_time_are_as_few_as_one_after_another(site: Site) -> None:
    await site.user(Role.ADMIN)
    visitor = await site.visitor(SAME_ORIGIN)
    answers = await asyncio.gather(*(login(visitor, "admin", f"guess {n}") for n in range(30)))
    assert sorted(answer.status for answer in answers) == [401] * 3 + [429] * 27


async def test_an_address_that_fails_for_many_accounts_is_slowed_down_and_others_are_not(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, BEHIND_A_PROXY) as site:
        await site.user(Role.ADMIN)
        visitor = await site.visitor(SAME_ORIGIN)
        for number in range(10):
            failed = await login(visitor, f"user{number}", "x", **{"X-Forwarded-For": f"2001:db8::{number}"})
            assert failed.status == 401
        same_network = {"X-Forwarded-For": "10.0.0.9, 2001:db8::ffff"}
        assert (await login(visitor, "admin", **same_network)).status == 429
        assert (await login(visitor, "admin", **{"X-Forwarded-For": "2001:db8:0:1::1"})).status == 200


async def test_the_wait_is_kept_in_the_database(tmp_path: Path, site: Site) -> None:
    await site.user(Role.ADMIN)
    visitor = await site.visitor(SAME_ORIGIN)
    for _ in range(3):
        await login(visitor, "admin", "wrong")
    keys = [f"account {hashlib.sha256(b'admin').hexdigest()[:32]} from 127.0.0.1", "address 127.0.0.1"]
    async with site.parts.store.write() as connection:
        held = [await logins.hold_failures(connection, key, site.spine.clock.now()) for key in keys]
    assert [failures.failures for failures in held] == [3, 3]


async def test_failures_are_forgotten_after_a_day(site: Site) -> None:
    await site.user(Role.ADMIN)
    visitor = await site.visitor(SAME_ORIGIN)
    for _ in range(3):
        await login(visitor, "admin", "wrong")
    site.spine.clock.advance(86_400)
    assert (await login(visitor, "admin", "wrong")).status == 401
    assert (await login(visitor, "admin")).status == 200


async def test_every_failure_leaves_one_line_that_nobody_can_forge(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = await site.visitor(SAME_ORIGIN)
    with caplog.at_level(logging.WARNING):
        await login(visitor, 'x\nlogin failed address=192.0.2.1 username="root', "wrong")
    (record,) = caplog.records
    assert record.getMessage() == "login failed"
    assert vars(record)["address"] == "127.0.0.1"
    assert vars(record)["username"] == "x?login?failed?address?192.0.2.1?username??root"
    assert "wrong" not in str(vars(record))
    line = TextFormatter().format(record)
    as_fail2ban_would = re.compile(
        r"login failed event=auth\.login_failed address=(\S+) reason=\S+ username=\S*$"
    )
    assert as_fail2ban_would.findall(line) == ["127.0.0.1"], line


# Programs.


async def test_a_token_works_without_cookies_and_without_proof_of_origin(site: Site) -> None:
    program = await site.program(Role.VIEWER)
    async with program.get("/api/auth/me") as response:
        assert await response.json() == {
            "user_id": 1,
            "name": "viewer/program",
            "role": "viewer",
            "via": "token",
        }
    async with program.post("/api/tokens", json={"name": "next", "role": "viewer"}) as response:
        assert response.status == 403, "it was not made to manage accounts"


@pytest.mark.parametrize(
    "header",
    [
        "Bearer isc_unknown",
        "Bearer",
        "Bearer ",
        "bearer  isc_",
        "Basic YTpi",
        "isc_x",
        "Bearer \u00fc",
        "\u00fc",
    ],
)
async def test_a_token_that_is_none_gets_nobody_in(site: Site, header: str) -> None:
    visitor = await site.visitor({"Authorization": header})
    async with visitor.get("/api/auth/me") as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.content_type == "application/problem+json"


async def test_a_bad_token_is_not_healed_by_a_good_cookie(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    async with browser.get("/api/auth/me", headers={"Authorization": "Bearer isc_unknown"}) as response:
        assert response.status == 401


async def test_a_token_ends_when_it_expires(site: Site) -> None:
    user = await site.user(Role.VIEWER)
    end = site.spine.clock.now() + timedelta(hours=1)
    made = await site.parts.accounts.create_token(user.id, "short", Role.VIEWER, CLI, end)
    program = await site.visitor({"Authorization": f"Bearer {made.secret}"})
    assert await is_signed_in(program)
    site.spine.clock.advance(3600)
    assert not await is_signed_in(program)


async def test_use_of_a_token_is_written_down_at_most_once_a_minute(site: Site) -> None:
    program = await site.program(Role.VIEWER)
    began = site.spine.clock.now()

    async def last_used() -> timedelta | None:
        (token,) = (await site.parts.accounts.tokens(CLI, 10)).items
        return None if token.last_used_at is None else token.last_used_at - began

    assert await last_used() is None
    await is_signed_in(program)
    assert await last_used() == timedelta(0)
    site.spine.clock.advance(59)
    await is_signed_in(program)
    assert await last_used() == timedelta(0)
    site.spine.clock.advance(1)
    await is_signed_in(program)
    assert await last_used() == SEEN_EVERY
