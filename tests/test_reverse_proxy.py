"""The documented proxies before the panel: TLS, addresses, event streams, metrics; real nginx and Caddy."""

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar, TCPConnector

from infoscreen.domain.accounts import Role
from infoscreen.pki.authority import Authority, Pair
from infoscreen.web.keys import WebConfig
from tests.programs import find_free_port, require
from tests.waiting import until
from tests.web import PASSWORD, SAME_ORIGIN, Site, serving

DOCUMENT = Path(__file__).parents[1] / "docs" / "reverse-proxy.md"
NOW = datetime.now(UTC)
NAME = "localhost"


def documented(language: str) -> str:
    """Return the configuration as the documentation shows it."""
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def filled(text: str, pair: Pair, port: int, upstream: int) -> str:
    for before, after in (
        ("/etc/infoscreen/pki/server/panel.crt", str(pair.certificate)),
        ("/etc/infoscreen/pki/server/panel.key", str(pair.key)),
        ("panel.example.org {", f"{NAME}:{port} {{"),
        ("panel.example.org", NAME),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("127.0.0.1:8080", f"127.0.0.1:{upstream}"),
    ):
        text = text.replace(before, after)
    return text


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@asynccontextmanager
async def process(port: int, *command: str | Path) -> AsyncIterator[None]:
    started = await asyncio.to_thread(
        subprocess.Popen, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await until(lambda: answers(port))
        yield
    finally:
        started.kill()  # in order, Caddy would wait for connections that a browser keeps
        await asyncio.to_thread(started.wait)


@asynccontextmanager
async def nginx(directory: Path, server: str, port: int) -> AsyncIterator[None]:
    temporary = directory / "temporary"
    temporary.mkdir()
    temporary.chmod(0o777)
    paths = "".join(
        f"{kind}_temp_path {temporary}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{paths}{server}\n}}\n"
    )
    async with process(port, require("nginx"), "-c", config, "-e", directory / "early.log"):
        yield


@asynccontextmanager
async def caddy(directory: Path, server: str, port: int) -> AsyncIterator[None]:
    config = directory / "Caddyfile"
    options = f"{{\n admin off\n auto_https disable_redirects\n storage file_system {directory}/caddy\n}}\n"
    config.write_text(options + server)
    async with process(port, require("caddy"), "run", "--adapter", "caddyfile", "--config", config):
        yield


@asynccontextmanager
async def behind(kind: str, directory: Path) -> AsyncIterator[tuple[Site, str, ssl.SSLContext]]:
    """Yield a site behind the documented proxy, its public origin, and the trust in its certificate."""
    authority = Authority.create(directory / "pki", NOW)
    pair = authority.issue_server([NAME], NOW, label="panel")
    port = find_free_port()
    origin = f"https://{NAME}:{port}"
    config = WebConfig(public_origin=origin, trusted_proxies=(ip_network("127.0.0.1"),))
    async with serving(directory, config) as site:
        assert site.url.port is not None
        run, language = {"nginx": (nginx, "nginx"), "caddy": (caddy, "caddyfile")}[kind]
        server = filled(documented(language), pair, port, site.url.port)
        async with run(directory, server, port):
            yield site, origin, ssl.create_default_context(cafile=authority.bundle)


@asynccontextmanager
async def browsing(
    origin: str, trust: ssl.SSLContext, address: str = "127.0.0.1"
) -> AsyncIterator[ClientSession]:
    connector = TCPConnector(ssl=trust, local_addr=(address, 0))
    jar = CookieJar(unsafe=True)
    async with ClientSession(origin, headers=SAME_ORIGIN, connector=connector, cookie_jar=jar) as session:
        yield session


async def sign_in(session: ClientSession, site: Site, role: Role, **headers: str) -> None:
    user = await site.user(role)
    credentials = {"username": user.username, "password": PASSWORD}
    async with session.post("/api/auth/login", json=credentials, headers=headers) as response:
        assert response.status == 200, await response.text()


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_behind_the_documented_proxy_everything_works(tmp_path: Path, kind: str) -> None:
    async with (
        behind(kind, tmp_path) as (site, origin, trust),
        browsing(origin, trust, "127.0.0.2") as browser,
    ):
        # The address is that of the browser, and what the browser claims about it is not believed.
        await sign_in(browser, site, Role.ADMIN, **{"X-Forwarded-For": "203.0.113.9"})
        async with browser.get("/api/audit") as response:
            entries = (await response.json())["items"]
        assert entries[0]["address"] == "127.0.0.2"
        cookies = {cookie.key: cookie for cookie in browser.cookie_jar}
        assert cookies["__Host-infoscreen_session"]["secure"]
        async with browser.get("/") as response:
            assert response.status == 200
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        # Event streams are not held back.
        async with browser.get("/api/events") as stream:
            assert (await stream.content.readline()).startswith(b"event: ")
            await site.spine.beat("3f2b8c1e-0000-4000-8000-000000000001", hostname="lobby")
            seen = b""
            while b"lobby" not in seen:
                seen += await asyncio.wait_for(stream.content.readline(), 20)
        for address in ("/metrics", "/metrics/", "/%6detrics"):
            async with browser.get(address) as response:
                assert response.status in (403, 404)
        # A page of another site cannot act with the browser's cookie.
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
            async with browser.post("/api/auth/logout", headers=headers) as response:
                assert response.status == 403


BARE = {
    "nothing": "proxy_pass http://127.0.0.1:UPSTREAM;",
    "newer version": "proxy_http_version 1.1; proxy_pass http://127.0.0.1:UPSTREAM;",
    "with the host": "proxy_set_header Host $http_host; proxy_pass http://127.0.0.1:UPSTREAM;",
    "real address only": "proxy_set_header X-Real-IP $remote_addr; proxy_http_version 1.1; "
    'proxy_set_header Connection ""; proxy_pass http://127.0.0.1:UPSTREAM;',
}


@pytest.mark.parametrize("directive", BARE.values(), ids=BARE.keys())
async def test_a_proxy_without_headers_does_not_make_metrics_public(tmp_path: Path, directive: str) -> None:
    port = find_free_port()
    async with serving(tmp_path) as site:
        rule = directive.replace("UPSTREAM", str(site.url.port))
        async with nginx(tmp_path, f"server {{ listen 127.0.0.1:{port}; location / {{ {rule} }} }}", port):
            async with ClientSession(f"http://127.0.0.1:{port}") as stranger:
                for headers in ({}, {"Connection": "keep-alive", "X-Forwarded-For": "127.0.0.1"}):
                    async with stranger.get("/metrics", headers=headers) as response:
                        assert response.status == 403
                async with stranger.get("/healthz") as response:
                    assert response.status == 200
            visitor = await site.visitor()
            async with visitor.get("/metrics") as response:
                assert response.status == 200
            async with visitor.get("/metrics", headers={"Host": "panel.example.org"}) as response:
                assert response.status == 403


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:50123", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:50123", "2001:db8::1"),
        ('"[2001:db8::1]:50123"', "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("203.0.113.5, 192.0.2.1:50123", "192.0.2.1"),
        ("203.0.113.5:1, 127.0.0.1:2", "203.0.113.5"),
        ("unknown", "127.0.0.1"),
        ("_hidden:80", "127.0.0.1"),
        ("192.0.2.1:50123:1", "127.0.0.1"),
        ("[192.0.2.1", "192.0.2.1"),
        ("", "127.0.0.1"),
    ],
)
async def test_addresses_are_read_as_proxies_write_them(tmp_path: Path, hop: str, address: str) -> None:
    async with serving(tmp_path, WebConfig(trusted_proxies=(ip_network("127.0.0.1"),))) as site:
        browser = await site.visitor(SAME_ORIGIN)
        await sign_in(browser, site, Role.ADMIN, **({"X-Forwarded-For": hop} if hop else {}))
        async with browser.get("/api/audit") as response:
            assert (await response.json())["items"][0]["address"] == address
