"""Signing in at an OpenID Connect provider: a certified one that we did not write, and one that lies."""

import asyncio
import hmac
import json
import re
import shutil
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientSession, CookieJar, web
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from infoscreen.clock import SystemClock
from infoscreen.domain.accounts import Role
from infoscreen.openid.provider import MOST_BYTES, OpenIdConfig, OpenIdProvider
from infoscreen.services.accounts import CLI
from infoscreen.web.keys import WebConfig
from tests.panel import Shown, look, send
from tests.programs import cannot_run, find_free_port, require, wait_until_open
from tests.spine import sqlite_url
from tests.web import PASSWORD, Site, serving

pytestmark = pytest.mark.xdist_group("openid")

WORKSHOP = Path(__file__).parent / "oidc"
CALLBACK = "/login/sso/callback"
SECRET = "secret of the client"  # noqa: S105 - of a provider that lives as long as a test


def config_of(issuer: str) -> OpenIdConfig:
    return OpenIdConfig(
        issuer=issuer,
        client_id="infoscreen",
        client_secret=SECRET,
        scopes="openid profile groups",
        username_claim="preferred_username",
        groups_claim="groups",
    )


@asynccontextmanager
async def site_at(directory: Path, issuer: str, port: int, url: str | None = None) -> AsyncIterator[Site]:
    """Serve the panel at a port that the provider knows, at the time of the provider's clock."""
    clock = SystemClock()
    provider = OpenIdProvider(config_of(issuer), clock)
    config = WebConfig(public_origin=f"http://127.0.0.1:{port}")
    async with serving(directory, config, url, provider=provider, port=port) as site:
        site.spine.clock.set_wall_time(clock.now())
        provider._clock = site.spine.clock
        yield site


# A provider that we did not write.


@pytest.fixture(scope="module")
def installed() -> str:
    """Return node, after installing what the lock file names, if need be."""
    node, npm = require("node"), require("npm")
    mark, locked = WORKSHOP / "node_modules" / ".package-lock.json", WORKSHOP / "package-lock.json"
    if not mark.exists() or mark.stat().st_mtime < locked.stat().st_mtime:
        done = subprocess.run([npm, "ci"], cwd=WORKSHOP, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(WORKSHOP / "node_modules", ignore_errors=True)
            cannot_run(f"npm ci in {WORKSHOP} failed: {done.stderr[-2000:]}")
    return node


@contextmanager
def provider_at(node: str, port: int, panel_port: int) -> Iterator[None]:
    """Run the provider; each run has keys of its own."""
    redirect = f"http://127.0.0.1:{panel_port}{CALLBACK}"
    process = subprocess.Popen(
        [node, str(WORKSHOP / "provider.mjs"), str(port), redirect],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_open(port, 60)
        yield
    finally:
        process.kill()
        process.wait()


async def go(browser: ClientSession, where: str, **form: str) -> tuple[int, str, str]:
    """Follow redirects from page to page until there is one; return status, address and text."""
    method = "POST" if form else "GET"
    for _ in range(10):
        async with browser.request(method, where, data=form or None, allow_redirects=False) as response:
            text = await response.text()
            if response.status not in (302, 303):
                return response.status, str(response.url), text
            where = str(response.url.join(type(response.url)(response.headers["Location"], encoded=True)))
        method, form = "GET", {}
    raise AssertionError("too many redirects")


async def sign_in(browser: ClientSession, site: Site, account: str, following: str = "/clients") -> Shown:
    """Sign in at the provider as somebody does in a browser, and come back."""
    status, where, text = await go(browser, f"{site.url}/login/sso?next={following}")
    while "/interaction/" in where:
        form = {"prompt": re.search(r'name="prompt" value="(\w+)"', text)[1]}  # type: ignore[index]
        if form["prompt"] == "login":
            form |= {"login": account, "password": "any"}
        status, where, text = await go(browser, where, **form)
    return Shown(status, text, None, urlsplit(where).path)


@asynccontextmanager
async def someone() -> AsyncIterator[ClientSession]:
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as browser:
        yield browser


async def me(browser: ClientSession, site: Site) -> dict[str, Any] | None:
    async with browser.get(f"{site.url}/api/auth/me") as response:
        return await response.json() if response.status == 200 else None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_people_sign_in_at_a_real_provider_and_their_groups_decide(
    installed: str, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = sqlite_url(tmp_path) if kind == "sqlite" else request.getfixturevalue("postgres")
    port, panel_port = find_free_port(), find_free_port()
    issuer = f"http://127.0.0.1:{port}"
    async with site_at(tmp_path, issuer, panel_port, url) as site:
        with provider_at(installed, port, panel_port):
            async with someone() as anna, someone() as other:
                assert "/login/sso?next=" in (await go(anna, f"{site.url}/login"))[2]
                shown = await sign_in(anna, site, "anna:ops,staff")
                assert (shown.status, shown.path) == (200, "/clients")
                assert (await me(anna, site) or {})["role"] == "operator"
                await sign_in(other, site, "anna:ops")
                assert (await me(other, site) or {})["name"] == "anna"
                async with someone() as promoted, someone() as dismissed:
                    await sign_in(promoted, site, "anna:it")
                    assert (await me(promoted, site) or {})["role"] == "admin"
                    assert await me(other, site) is None, "sessions end when the role changes"
                    token = await site.parts.accounts.create_token(1, "t", Role.VIEWER, CLI)
                    shown = await sign_in(dismissed, site, "anna:nothing")
                    assert (shown.status, await me(dismissed, site)) == (403, None)
                    assert "Gruppe" in shown.words
                    assert await me(promoted, site) is None
                    assert await site.parts.accounts.actor_of_token(token.secret, None) is None
                async with someone() as stranger:
                    shown = await sign_in(stranger, site, "eve:nothing")
                    assert shown.status == 403
                names = [user.username for user in (await site.parts.accounts.users(10)).items]
                assert names == ["anna"], "who has no role gets no account"
        # The provider comes back with other keys, and nobody has to restart anything.
        site.spine.clock.advance(20)
        with provider_at(installed, port, panel_port):
            async with someone() as anna:
                await sign_in(anna, site, "anna:staff")
                assert (await me(anna, site) or {})["role"] == "viewer"
        # It is gone: local accounts are the way in.
        site.spine.clock.advance(2 * 3600)
        async with someone() as anna:
            status, _, text = await go(anna, f"{site.url}/login/sso")
            assert status == 502
            assert 'name="password"' in text
            assert "/login/sso" in text
        await site.browser(Role.ADMIN)


# A provider that lies.


class Liar:
    """A provider whose every answer can be spoilt."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.claims: Callable[[dict[str, Any]], dict[str, Any]] = dict
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "one"}
        self.discovery: Callable[[dict[str, Any]], Any] = dict
        self.sign_with: Any = self.key
        self.userinfo: Any = {}
        self.strange_keys: list[Any] = []
        self.forge: str | None = None
        self.nonce = ""
        self.hang = asyncio.Event()
        self.hangs = False
        self.asked = 0

    async def configuration(self, _: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.hangs:
            await self.hang.wait()
        told = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/auth",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/me",
        }
        said = self.discovery(told)
        return said if isinstance(said, web.StreamResponse) else web.json_response(said)

    async def jwks(self, _: web.Request) -> web.StreamResponse:
        keys = KeySet([self.key]).as_dict(private=False)["keys"]
        return web.json_response({"keys": [*self.strange_keys, *keys]})

    async def token(self, request: web.Request) -> web.StreamResponse:
        now = int(SystemClock().now().timestamp())
        claims = {
            "iss": self.issuer,
            "aud": "infoscreen",
            "sub": "1",
            "iat": now,
            "exp": now + 300,
            "nonce": self.nonce,
            "preferred_username": "anna",
            "groups": ["ops"],
        }
        if self.forge is None:
            token = jwt.encode(self.header, self.claims(claims), self.sign_with, algorithms=["RS256"])
        else:
            token = forged(self.forge, claims, self.key.as_pem(private=False))
        return web.json_response({"id_token": token, "access_token": "x", "token_type": "Bearer"})

    async def me(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(self.userinfo)

    @asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self.configuration)
        app.router.add_get("/jwks", self.jwks)
        app.router.add_post("/token", self.token)
        app.router.add_get("/me", self.me)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield
        finally:
            self.hang.set()
            await runner.cleanup()


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    port = find_free_port()
    lying = Liar(port)
    async with lying.running(port):
        yield lying


@pytest.fixture
async def trusting(liar: Liar, tmp_path: Path) -> AsyncIterator[Site]:
    """The panel of somebody who believes the liar."""
    async with site_at(tmp_path, liar.issuer, find_free_port()) as site:
        yield site


async def begin(browser: ClientSession, site: Site, liar: Liar) -> str:
    """Go to the provider; return the state."""
    async with browser.get(f"{site.url}/login/sso?next=/clients", allow_redirects=False) as response:
        assert response.status == 303, await response.text()
        asked = parse_qs(urlsplit(response.headers["Location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    liar.nonce = asked["nonce"][0]
    return asked["state"][0]


async def come_back(browser: ClientSession, site: Site, query: str) -> int:
    async with browser.get(f"{site.url}{CALLBACK}?{query}", allow_redirects=False) as response:
        if response.status == 303:
            assert response.headers["Location"] == "/clients"
        return response.status


async def attempt(site: Site, liar: Liar) -> int:
    async with someone() as browser:
        state = await begin(browser, site, liar)
        status = await come_back(browser, site, f"code=c&state={state}")
        assert (await me(browser, site) is not None) == (status == 303)
        return status


NOW = int(time.time())
LIES: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "for another client": {"aud": "other"},
    "for several, acting for another": {"aud": ["infoscreen", "other"], "azp": "other"},
    "for several, acting for nobody": {"aud": ["infoscreen", "other"]},
    "another nonce": {"nonce": "other"},
    "no nonce": {"nonce": None},
    "expired": {"exp": NOW - 3600},
    "expiry is no number": {"exp": "tomorrow"},
    "from the future": {"iat": NOW + 3600},
    "not yet valid": {"nbf": NOW + 3600},
    "subject is empty": {"sub": ""},
    "subject is a list": {"sub": ["1"]},
    "subject is too long": {"sub": "x" * 256},
    "name is a number": {"preferred_username": 7},
    "name is no name": {"preferred_username": "<script>"},
    "name is too long": {"preferred_username": "x" * 101},
    "groups is a number": {"groups": 7},
    "groups are too many": {"groups": ["ops"] * 1001},
    "groups hold no text": {"groups": [["ops"], None, {"ops": 1}]},
}


def merged(claims: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {**claims, **more}


async def test_a_token_with_any_lie_signs_nobody_in(trusting: Site, liar: Liar) -> None:
    assert await attempt(trusting, liar) == 303
    for name, lie in LIES.items():
        stranger = {"sub": f"2-{name}", "preferred_username": "eve", **lie}
        liar.claims = partial(merged, more=stranger)
        assert await attempt(trusting, liar) == 403, name
    liar.claims = lambda claims: {**claims, "exp": claims["iat"] - 30, "iat": claims["iat"] + 30}
    assert await attempt(trusting, liar) == 303, "clocks may differ by a little"
    assert [user.username for user in (await trusting.parts.accounts.users(9)).items] == ["anna"]


async def test_only_the_providers_own_signature_counts(trusting: Site, liar: Liar) -> None:
    assert await attempt(trusting, liar) == 303
    liar.sign_with = RSAKey.generate_key(2048, {"kid": "one"})
    assert await attempt(trusting, liar) == 403, "another key of the same name"
    for algorithm in ("none", "HS256"):
        liar.forge = algorithm
        assert await attempt(trusting, liar) == 403, algorithm


def forged(algorithm: str, claims: dict[str, Any], public_key: bytes) -> str:
    """Return a token that anybody can make from what is public."""
    parts = [
        urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": algorithm, "kid": "one"}, claims)
    ]
    signature = b"" if algorithm == "none" else hmac.digest(public_key, ".".join(parts).encode(), "sha256")
    return ".".join([*parts, urlsafe_b64encode(signature).decode().rstrip("=")])


async def test_new_keys_are_fetched_when_a_token_names_one_but_not_all_the_time(
    trusting: Site, liar: Liar
) -> None:
    assert await attempt(trusting, liar) == 303
    asked = liar.asked
    for _ in range(5):
        assert await attempt(trusting, liar) == 303
    assert liar.asked == asked, "what is known is used"
    liar.key = liar.sign_with = RSAKey.generate_key(2048, {"kid": "two"})
    liar.header = {"alg": "RS256", "kid": "two"}
    trusting.spine.clock.advance(11)
    assert await attempt(trusting, liar) == 303
    liar.sign_with = RSAKey.generate_key(2048, {"kid": "two"})
    asked = liar.asked
    for _ in range(5):
        assert await attempt(trusting, liar) == 403
    assert liar.asked == asked, "forged tokens make nobody ask again and again"


@pytest.mark.parametrize(
    "query",
    [
        "code=c",
        "code=c&state=other",
        "state={state}",
        "error=access_denied&state={state}",
        "code=c&state={state}&iss=https://evil.example",
    ],
)
async def test_only_what_belongs_to_this_browsers_sign_in_counts(
    trusting: Site, liar: Liar, query: str
) -> None:
    async with someone() as browser, someone() as victim:
        state = await begin(browser, trusting, liar)
        assert await come_back(victim, trusting, f"code=c&state={state}") == 403, "another browser"
        assert await come_back(browser, trusting, query.replace("{state}", state)) == 403
        assert await come_back(browser, trusting, f"code=c&state={state}") == 403, "one try each"


async def test_nobody_takes_an_account_that_was_there(trusting: Site, liar: Liar) -> None:
    await trusting.parts.accounts.add_user("anna", PASSWORD, Role.ADMIN, CLI)
    async with someone() as browser:
        state = await begin(browser, trusting, liar)
        status, _, text = await go(browser, f"{trusting.url}{CALLBACK}?code=c&state={state}")
    assert status == 403
    assert "anna" in text
    assert (await trusting.parts.accounts.user_named("anna")).role is Role.ADMIN


async def test_who_signs_in_there_has_no_password_here(trusting: Site, liar: Liar) -> None:
    assert await attempt(trusting, liar) == 303
    for guess in ("!", "", PASSWORD):
        shown = await send(
            await trusting.visitor({"Sec-Fetch-Site": "same-origin"}),
            "/login",
            username="anna",
            password=guess,
        )
        assert shown.status in (401, 422), guess


DISCOVERIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another issuer": lambda told: {**told, "issuer": "https://evil.example"},
    "no addresses": lambda told: {"issuer": told["issuer"]},
    "a script": lambda told: {**told, "authorization_endpoint": "javascript:alert(1)"},
    "a broken address": lambda told: {**told, "token_endpoint": "http://["},
    "a list": lambda _: ["x"],
    "no JSON": lambda _: web.Response(text="<html>"),
    "deep JSON": lambda _: web.Response(text="[" * 100_000),
    "too much": lambda _: web.Response(text=json.dumps("x" * MOST_BYTES)),
    "an error": lambda _: web.Response(status=500),
    "elsewhere": lambda told: web.Response(status=302, headers={"Location": f"{told['issuer']}/jwks"}),
}


async def test_keys_and_methods_that_nobody_knows_yet_are_passed_over(trusting: Site, liar: Liar) -> None:
    liar.strange_keys = [{"kty": "EC", "crv": "P-999", "x": "a", "y": "b"}, {"kty": "RSA"}, "x", None]
    liar.discovery = lambda told: {**told, "token_endpoint_auth_methods_supported": None}
    assert await attempt(trusting, liar) == 303


@pytest.mark.parametrize("lie", DISCOVERIES)
async def test_a_provider_that_makes_no_sense_is_not_available(trusting: Site, liar: Liar, lie: str) -> None:
    liar.discovery = DISCOVERIES[lie]
    shown = await look(await trusting.visitor(), "/login/sso")
    assert (shown.status, 'name="password"' in shown.text) == (502, True)
    asked = liar.asked
    assert (await look(await trusting.visitor(), "/login/sso")).status == 502
    assert liar.asked == asked, "not asked again at once"
    liar.discovery = dict
    trusting.spine.clock.advance(11)
    assert await attempt(trusting, liar) == 303


async def test_a_provider_that_hangs_holds_up_nobody(trusting: Site, liar: Liar) -> None:
    liar.hangs = True
    visitor = await trusting.visitor()
    waiting = [asyncio.create_task(look(visitor, "/login/sso")) for _ in range(30)]
    browser = await trusting.browser(Role.ADMIN)
    assert (await look(browser, "/clients")).status == 200
    assert (await look(await trusting.visitor(), "/login")).status == 200
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result().status for task in done} == {503}, "more than a few do not wait"
    liar.hangs = False
    liar.hang.set()
    finished = await asyncio.gather(*pending)
    assert {shown.status for shown in finished} <= {200, 404, 502, 503}


async def test_without_a_provider_there_is_no_way_there(site: Site) -> None:
    visitor = await site.visitor()
    assert "/login/sso" not in (await look(visitor, "/login")).text
    assert (await look(visitor, "/login/sso")).status == 404
    assert (await look(visitor, CALLBACK)).status == 404


async def test_claims_that_are_not_in_the_token_come_from_userinfo_of_the_same_person(
    trusting: Site, liar: Liar
) -> None:
    liar.claims = lambda claims: {
        key: claims[key] for key in claims if key not in ("groups", "preferred_username")
    }
    liar.userinfo = {"sub": "2", "preferred_username": "eve", "groups": ["it"]}
    assert await attempt(trusting, liar) == 403
    liar.userinfo = {"sub": "1", "preferred_username": "bert", "groups": ["it"]}
    assert await attempt(trusting, liar) == 303
    assert (await trusting.parts.accounts.user_named("bert")).role is Role.ADMIN
