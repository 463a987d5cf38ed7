"""What a refused or broken request is answered, that nothing internal leaves, and what all answers carry."""

import asyncio
import base64
import gzip
import json
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from infoscreen.domain.accounts import Role
from infoscreen.storage.engine import Store
from infoscreen.web.application import create_app
from infoscreen.web.keys import ERROR_PAGE, PARTS
from infoscreen.web.problems import Problem
from infoscreen.web.registry import BODY_LIMIT, BODY_TIMEOUT_SECONDS
from tests.api import ask
from tests.spine import uuid_of
from tests.web import PASSWORD, Site

PROBLEM = "application/problem+json"
CLIENT = f"/api/clients/{uuid_of(1)}"
LOGIN = {"username": "a", "password": "x"}
OUTLET = {"driver": "shelly", "address": "10.0.0.9"}


@pytest.fixture
async def admin(site: Site) -> ClientSession:
    return await site.program(Role.ADMIN, manages_accounts=True)


async def problem(response: Any, status: int, slug: str) -> dict[str, Any]:
    document = await response.json(content_type=None)
    assert (response.status, response.content_type) == (status, PROBLEM), document
    assert document["type"] == slug
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return dict(document)


# Requests that are wrong.


async def test_an_unknown_address_is_a_problem(site: Site) -> None:
    visitor = await site.visitor()
    async with visitor.get("/api/nothing?%00") as response:
        await problem(response, 404, "not-found")


async def test_a_wrong_method_is_told_which_are_right(site: Site) -> None:
    visitor = await site.visitor()
    async with visitor.put("/api/tokens") as response:
        await problem(response, 405, "method-not-allowed")
        assert response.headers["Allow"] == "GET,HEAD,POST"


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "username", "is required"),
        (
            {"username": "u", "password": "x" * 10, "role": "king"},
            "role",
            'must be one of: viewer, operator, admin; given "king"',
        ),
        (
            {"username": 7, "password": "x" * 10, "role": "viewer"},
            "username",
            "must be text; given 7",
        ),
        (
            {"username": "u", "password": "x" * 10, "role": "viewer", "rolle": 1},
            "rolle",
            "is not known here; allowed: username, password, role",
        ),
        (
            {"username": "u", "password": "secret", "role": "viewer"},
            "password",
            "has 6 characters; 10 to 1,000 are allowed",
        ),
        (
            {"username": "a b", "password": "x" * 10, "role": "viewer"},
            "username",
            "must be 1 to 100 letters, digits or any of . _ @ -",
        ),
        (
            {"username": "u\0", "password": "x" * 10, "role": "viewer"},
            "username",
            "holds NUL or an unpaired surrogate; allowed is Unicode text",
        ),
        (
            {"username": "u" * 500, "password": "x" * 10, "role": ["u" * 500]},
            "role",
            'must be one of: viewer, operator, admin; given ["' + "u" * 75 + "...",
        ),
        ([], "", "must be an object"),
    ],
    ids=str,
)
async def test_wrong_input_is_told_what_was_given_and_what_is_allowed(
    admin: ClientSession, body: Any, field: str, message: str
) -> None:
    async with admin.post("/api/users", json=body) as response:
        errors = (await problem(response, 422, "invalid-input"))["errors"]
    assert (field, message) in [(error["field"], error["message"]) for error in errors]


async def test_a_password_of_the_wrong_type_is_not_repeated(admin: ClientSession) -> None:
    async with admin.post(
        "/api/users", json={"username": "u", "password": 123456789012, "role": "viewer"}
    ) as it:
        document = await problem(it, 422, "invalid-input")
    assert "123456789012" not in json.dumps(document)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'{"username": "\\ud800"}',
        b"[" * 60_000,
        b'{"a": 1e999999}',
        b"null",
        b"NaN",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_body_that_is_no_json_object_is_invalid_input(admin: ClientSession, body: bytes) -> None:
    async with admin.post("/api/users", data=body, headers={"Content-Type": "application/json"}) as response:
        await problem(response, 422, "invalid-input")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"]
)
async def test_a_body_that_says_it_is_no_json_is_unsupported(admin: ClientSession, content_type: str) -> None:
    async with admin.post("/api/users", data=b"{}", headers={"Content-Type": content_type}) as response:
        await problem(response, 415, "unsupported-media-type")


async def test_a_long_body_is_refused(admin: ClientSession) -> None:
    async with admin.post("/api/users", json={"username": "u" * BODY_LIMIT}) as response:
        await problem(response, 413, "body-too-large")


async def test_a_body_that_grows_when_unpacked_is_refused(admin: ClientSession) -> None:
    packed = gzip.compress(b"[" * 10_000_000)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with admin.post("/api/users", data=packed, headers=headers) as response:
        await problem(response, 413, "body-too-large")


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "code"),
    [
        ("POST", "/api/auth/login", {**LOGIN, "code": 31415}, "code", "not_text"),
        (
            "POST",
            "/api/auth/login",
            {**LOGIN, "code": "31415" * 30},
            "code",
            "too_long",
        ),
        ("PATCH", "/api/users/1", {"password": 31415}, "password", "not_text"),
        ("PATCH", CLIENT, {"power": {**OUTLET, "password": 31415}}, "power.password", "not_text"),
        ("PATCH", CLIENT, {"power": {**OUTLET, "password": "31415" * 200}}, "power.password", "too_long"),
        ("PATCH", CLIENT, {"power": [{"password": "31415"}]}, "power", "not_an_object"),
    ],
)
async def test_a_wrong_secret_is_not_repeated(
    site: Site, method: str, path: str, body: dict[str, Any], field: str, code: str
) -> None:
    await site.spine.beat(uuid_of(1), process_status="running")
    admin = await site.program(Role.ADMIN, manages_accounts=True)
    refused = await ask(admin, method, path, status=422, json=body)
    assert [(one["field"], one["code"]) for one in refused["errors"]] == [(field, code)]
    assert "31415" not in json.dumps(refused)


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("limit=0", "limit", 'must be at least 1; given "0"'),
        ("limit=501", "limit", 'must be at most 500; given "501"'),
        (
            "limit=many",
            "limit",
            'must be a whole number; given "many"',
        ),
        ("limit=1&limit=2", "limit", "is given 2 times; allowed once"),
        ("page=2", "page", "is not known here; allowed: limit, cursor"),
        ("cursor=x", "cursor", "must be next_cursor of the page before, unchanged"),
        ("cursor=%00", "cursor", "holds NUL or an unpaired surrogate; allowed is Unicode text"),
    ],
)
async def test_a_wrong_query_is_told_what_was_given_and_what_is_allowed(
    admin: ClientSession, query: str, field: str, message: str
) -> None:
    async with admin.get(f"/api/users?{query}") as response:
        errors = (await problem(response, 422, "invalid-input"))["errors"]
    assert [(error["field"], error["message"]) for error in errors] == [(field, message)]


FORGED = [
    base64.urlsafe_b64encode(key).decode().rstrip("=")
    for key in (
        b'["x"]',
        b"[null]",
        b"[true]",
        b"[1e999]",
        b"[99999999999999999999]",
        b'["\\ud800"]',
        b"{}",
        b"[",
    )
]


@pytest.mark.parametrize("cursor", [*FORGED, "%C3%BC"])
async def test_a_forged_cursor_is_invalid_input(admin: ClientSession, cursor: str) -> None:
    for path in ("/api/users", "/api/tokens", "/api/audit"):
        async with admin.get(f"{path}?cursor={cursor}") as response:
            await problem(response, 422, "invalid-input")


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "%00", "9" * 30, "2147483648", "\u0661"])
async def test_a_path_that_names_no_row_is_not_found(admin: ClientSession, number: str) -> None:
    async with admin.delete(f"/api/users/{number}") as response:
        await problem(response, 404, "not-found")


async def raw(site: Site, *lines: bytes) -> bytes:
    """Send lines as they are and return the head of the answer."""
    reader, writer = await asyncio.open_connection(site.url.host, site.url.port)
    try:
        writer.write(b"\r\n".join((*lines, b"", b"")))
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS + 10):
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


@pytest.mark.parametrize(
    "lines",
    [
        (b"GET / HTTP/1.1", b"Host: x", b"X: " + b"a" * 9000),
        (b"GET / HTTP/1.1", b"Host: x", *(b"X-%d: 1" % n for n in range(200))),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1", b"Host: x"),
        (b"NONSENSE",),
    ],
    ids=["long header", "many headers", "long address", "no HTTP"],
)
async def test_a_head_beyond_the_limits_is_a_bad_request(
    site: Site, lines: tuple[bytes, ...], caplog: pytest.LogCaptureFixture
) -> None:
    assert (await raw(site, *lines)).startswith(b"HTTP/1.0 400 ")
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG], "log kept clean"


async def test_header_bytes_that_are_no_text_are_no_trouble(site: Site) -> None:
    await site.user(Role.ADMIN)
    body = json.dumps({"username": "admin", "password": PASSWORD}).encode()
    head = await raw(
        site,
        b"POST /api/auth/login HTTP/1.1",
        b"Host: x",
        b"Sec-Fetch-Site: none",
        b"User-Agent: \xff\xfe",
        b"Cookie: infoscreen_session=\xff",
        b"X-Forwarded-For: \xff",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        b"",
        body,
    )
    assert head.startswith(b"HTTP/1.1 200 "), head


@pytest.mark.slow
async def test_a_body_that_never_arrives_is_not_waited_for(site: Site) -> None:
    head = await raw(
        site,
        b"POST /api/auth/login HTTP/1.1",
        b"Host: x",
        b"Sec-Fetch-Site: none",
        b"Content-Type: application/json",
        b"Content-Length: 100",
    )
    assert head.startswith(b"HTTP/1.1 408 "), head


# Trouble on our side.


def with_a_route(site: Site, handler: Any) -> web.Application:
    """Return the application with one more, undeclared route that does what the test wants."""
    app = create_app(site.parts)
    app.router.add_get("/api/test", handler)
    return app


async def get(app: web.Application, path: str, **headers: str) -> Any:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        tcp = web.TCPSite(runner, "127.0.0.1", 0)
        await tcp.start()
        host, port = runner.addresses[0][:2]
        async with (
            ClientSession() as session,
            session.get(f"http://{host}:{port}{path}", headers=headers) as response,
        ):
            await response.read()
            return response
    finally:
        await runner.cleanup()


async def break_down(request: web.Request) -> web.StreamResponse:
    raise RuntimeError("SELECT secret FROM users")


async def test_what_nobody_foresaw_is_logged_once_and_tells_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    response = await get(with_a_route(site, break_down), "/api/test")
    document = await problem(response, 500, "internal-error")
    assert "SELECT" not in await response.text()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert vars(record)["request_id"] == document["request_id"] == response.headers["X-Request-Id"]


async def test_a_database_that_is_locked_is_told_to_be_tried_again(site: Site, tmp_path: Path) -> None:
    impatient = Store(f"sqlite+aiosqlite:///{tmp_path / 'locked.db'}", create=True)

    async def write(request: web.Request) -> web.StreamResponse:
        async with impatient.write(at_once=True):
            return web.Response()

    async with impatient.write() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (x)")
    other = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        response = await get(with_a_route(site, write), "/api/test")
        await problem(response, 503, "store-unavailable")
        assert response.headers["Retry-After"] == "5"
    finally:
        other.close()
        await impatient.close()


async def test_a_page_for_people_is_rendered_by_the_panel_and_not_for_programs(site: Site) -> None:
    async def page(request: web.Request, problem: Problem) -> web.StreamResponse:
        return web.Response(text=f"<h1>{problem.slug}</h1>", status=problem.status, content_type="text/html")

    for path, accept, content_type in (
        ("/nowhere", "text/html,*/*", "text/html"),
        ("/nowhere", "*/*", PROBLEM),
        ("/api/nowhere", "text/html", PROBLEM),
    ):
        app = create_app(site.parts)
        app[ERROR_PAGE] = page
        response = await get(app, path, Accept=accept)
        assert (response.status, response.content_type) == (404, content_type)


# Every answer.


@pytest.mark.parametrize("path", ["/healthz", "/api/auth/me", "/api/openapi.json", "/metrics", "/nowhere"])
async def test_every_answer_carries_the_security_headers(site: Site, path: str) -> None:
    visitor = await site.visitor()
    async with visitor.get(path) as response:
        headers = response.headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "infoscreen"
    assert headers["X-Request-Id"]


async def test_requests_are_counted_by_pattern_and_never_by_path(site: Site) -> None:
    admin = await site.program(Role.ADMIN, manages_accounts=True)
    for path in ("/api/users/17", "/api/users/18", "/secret-path"):
        async with admin.delete(path):
            pass
    async with admin.request("MADEUP", "/api/users"):
        pass
    text = site.parts.metrics.exposition().decode()
    assert 'infoscreen_http_requests_total{method="DELETE",route="/api/users/{id}",status="404"} 2.0' in text
    assert 'infoscreen_http_requests_total{method="none",route="none",status="404"} 1.0' in text
    assert "secret-path" not in text
    assert "MADEUP" not in text


def test_the_parts_are_reached_through_a_typed_key(site: Site) -> None:
    assert create_app(site.parts)[PARTS] is site.parts
