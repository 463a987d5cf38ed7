"""What attackers try over HTTP: smuggled requests, paths, fixed sessions, other sites, floods of bytes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infoscreen.domain.accounts import Role
from infoscreen.web.registry import BULK_BODY_LIMIT
from tests.web import PASSWORD, SAME_ORIGIN, Site, serving

U = "3f2b8c1e-0000-4000-8000-000000000001"
SECOND = b"GET /api/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"


async def exchange(site: Site, sent: bytes) -> bytes:
    """Send bytes on one connection, and return what comes back until it is closed or quiet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.url.port)
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        writer.write(sent)
        while piece := await asyncio.wait_for(reader.read(65_536), 0.3 if received else 20):
            received += piece
    writer.close()
    return received


def status_of(received: bytes) -> int:
    return int(received.split(b" ", 2)[1])


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /api/auth/login HTTP/1.1", "Host: a", *lines, "", ""]).encode()


SMUGGLED = {
    "both lengths": head("Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + SECOND,
    "two lengths": head("Content-Length: 0", "Content-Length: 44") + SECOND,
    "a list of lengths": head("Content-Length: 0, 44") + SECOND,
    "a signed length": head("Content-Length: +0") + SECOND,
    "a negative length": head("Content-Length: -1") + SECOND,
    "a length in hex": head("Content-Length: 0x0") + SECOND,
    "an unknown coding": head("Transfer-Encoding: cow") + SECOND,
    "chunked twice": head("Transfer-Encoding: chunked", "Transfer-Encoding: identity")
    + b"0\r\n\r\n"
    + SECOND,
    "chunked before another": head("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n" + SECOND,
    "a blank before the colon": head("Content-Length : 44") + SECOND,
    "a folded header": head("X-A: b", " Content-Length: 44") + SECOND,
    "a bad size of a chunk": head("Transfer-Encoding: chunked") + b"0x0\r\n\r\n" + SECOND,
    "a chunk without its end": head("Transfer-Encoding: chunked") + b"1\r\nab0\r\n\r\n" + SECOND,
    "a null byte": head("X-A: a\0b") + SECOND,
}


@pytest.mark.parametrize("sent", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_what_two_parsers_read_differently_is_refused_and_ends_the_connection(
    site: Site, sent: bytes
) -> None:
    received = await exchange(site, sent)
    assert 400 <= status_of(received) < 500
    assert received.count(b"HTTP/1.") == 1
    assert b'"openapi"' not in received


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as running:
        yield running


PATHS = [
    "/static/../settings.py",
    "/static/..%2fsettings.py",
    "/static/%2e%2e/%2e%2e/settings.py",
    "/static/..%5c..%5csettings.py",
    "/static/....//settings.py",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/panel.js%00.css",
    "/static/",
    "/static/../../../../../../etc/passwd",
    "/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/static/panel.js/../../web/auth.py",
]


@pytest.mark.parametrize("path", PATHS)
async def test_no_path_leads_out_of_the_assets(site: Site, path: str) -> None:
    received = await exchange(site, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert status_of(received) in (400, 403, 404)
    assert b"root:" not in received
    assert b"import " not in received


async def test_a_session_that_somebody_else_chose_is_not_used(site: Site) -> None:
    chosen = "A" * 43
    browser = await site.visitor(SAME_ORIGIN | {"Cookie": f"infoscreen_session={chosen}"})
    user = await site.user(Role.OPERATOR)
    credentials = {"username": user.username, "password": PASSWORD}
    async with browser.post("/api/auth/login", json=credentials) as response:
        assert response.status == 200
        assert response.cookies["infoscreen_session"].value != chosen
    stranger = await site.visitor({"Cookie": f"infoscreen_session={chosen}"})
    async with stranger.get("/api/auth/me") as response:
        assert response.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Referer": "http://127.0.0.1/"},
        {},
    ],
)
async def test_a_page_of_another_site_cannot_act(site: Site, headers: dict[str, str]) -> None:
    await site.spine.beat(U)
    browser = await site.browser(Role.OPERATOR)
    cookie = next(cookie for cookie in browser.cookie_jar if cookie.key == "infoscreen_session")
    victim = await site.visitor({"Cookie": f"{cookie.key}={cookie.value}"})
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        body = json.dumps({"action": "reboot_host"})
        async with victim.post(
            f"/api/clients/{U}/commands", data=body, headers=headers | {"Content-Type": kind}
        ) as response:
            assert response.status == 403
            assert (await response.json())["type"].endswith("cross-site")
    async with browser.get(f"/api/clients/{U}/commands") as response:
        assert (await response.json())["items"] == []


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(site: Site) -> None:
    size = 50 * BULK_BODY_LIMIT
    announced = head(
        "Sec-Fetch-Site: same-origin", "Content-Type: application/json", f"Content-Length: {size}"
    )
    received = await exchange(site, announced + b"x" * (2 * BULK_BODY_LIMIT))
    assert status_of(received) == 413
    chunk = b"%x\r\n" % 65_536 + b"x" * 65_536 + b"\r\n"
    endless = head(
        "Sec-Fetch-Site: same-origin", "Content-Type: application/json", "Transfer-Encoding: chunked"
    )
    received = await exchange(site, endless + chunk * (2 * BULK_BODY_LIMIT // 65_536 + 1))
    assert status_of(received) == 413


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(500)) + b"\r\n",
    ],
    ids=["path", "header", "many headers"],
)
async def test_heads_have_limits(site: Site, sent: bytes) -> None:
    assert 400 <= status_of(await exchange(site, sent)) < 500


async def test_slow_clients_hold_up_nobody(site: Site) -> None:
    slow = [await asyncio.open_connection("127.0.0.1", site.url.port) for _ in range(200)]
    try:
        for _, writer in slow:
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        visitor = await site.visitor()
        async with visitor.get("/healthz") as response:
            assert response.status == 200
    finally:
        for _, writer in slow:
            writer.close()
