"""Every input of every route, filled with what nobody should send: always a 4xx, told our way.

The requests are written to the socket by hand, so that no HTTP client makes them valid first.
"""

import asyncio
import base64
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from pydantic import BaseModel

from infoscreen.domain.accounts import Role
from infoscreen.services.accounts import CLI
from infoscreen.web.auth import SAFE_METHODS
from infoscreen.web.middleware import SECURITY_HEADERS
from infoscreen.web.registry import BODY_TIMEOUT_SECONDS, Route
from infoscreen.web.routes import ROUTES
from tests.malformed import ANSWERED
from tests.spine import sqlite_url, uuid_of
from tests.waiting import DEADLINE_SECONDS
from tests.web import PASSWORD, Site, serving

U = uuid_of(1)
NOT_ENDLESS = [route for route in ROUTES if route.content != "text/event-stream"]
KEEPS_US_SIGNED_IN = [route for route in NOT_ENDLESS if not route.path.endswith(("/logout", "/login"))]

TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\x1b[31m",
    "\u202e",
    "ü",
    "\U0001f4a9" * 50,
    "x" * 5_000,
    "'; DROP TABLE users; --",
    "%",
    "_%\\",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "-1",
    "0",
    "1e400",
    "9" * 400,
    "NaN",
    "0x10",
    "null",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-02-30T00:00:00Z",
    "9999999999",
    "9999999999999",
    "0001-01-01",
    "9999-12-31",
]
RAW = ["%00", "%ff%fe", "%ed%a0%80", "%", "%zz", "%2e%2e%2f", "%c0%af"]
VALUES: list[Any] = [
    *TEXTS,
    None,
    True,
    0,
    -1,
    2**63,
    10**300,
    1.5,
    [],
    {},
    [[]],
    {"a": 1},
    ["x"] * 6_000,
    [None],
    [U, U],
]
KEYS: list[Any] = [None, True, -1, 2**63 - 1, 2**70, 1.5, "", "x", "\0", "\ud800", U, *TEXTS[-4:], [], {}]


def cursors() -> Iterator[str]:
    """Return cursors of our own form around keys that we never gave out, and some of no form."""
    for length in (1, 2, 3):
        for key in KEYS:
            yield base64.urlsafe_b64encode(json.dumps([key] * length).encode()).decode().rstrip("=")
    yield from ("x", "====", "\u00fc", "W" * 9_000, base64.urlsafe_b64encode(b"[" * 3_000).decode())


@dataclass(frozen=True)
class Request:
    """A request, nearly as it goes over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | None = None

    def encode(self, credentials: str) -> bytes:
        given = {name.lower() for name, _ in self.headers}
        lines = [
            f"{self.method} {self.target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        if "host" not in given:
            lines.append("Host: screens.example")
        if "authorization" not in given and "cookie" not in given:
            lines.append(f"Authorization: Bearer {credentials}")
        if self.body is not None and not given & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(self.body)}")
        head = "\r\n".join([*lines, "Connection: close", "", ""])
        return head.encode("utf-8", "surrogateescape") + (self.body or b"")


BOMB = gzip.compress(b" " * 30_000_000)
JSON = ("Content-Type", "application/json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
BODIES: list[tuple[list[tuple[str, str]], bytes]] = [
    *(
        ([JSON], body)
        for body in (b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"[" * 9_000)
    ),
    ([JSON], b'{"a":' * 5_000),
    ([JSON], b'{"role":"admin","role":"viewer"}'),
    ([JSON], b" " * 400_000),
    ([("Content-Type", "application/json; charset=utf-16")], '{"reason": "x"}'.encode("utf-16")),
    ([("Content-Type", "application/json; charset=nonsense")], b"{}"),
    ([("Content-Type", "application/json; charset=")], b"{}"),
    ([("Content-Type", ";;;")], b"{}"),
    ([("Content-Type", "\u00fc")], b"{}"),
    ([("Content-Type", "multipart/form-data; boundary=x")], b"--x\r\n\r\nfield\r\n--x--\r\n"),
    ([("Content-Type", "multipart/form-data")], b"x"),
    ([FORM], b"reason=%00&reason=%ff"),
    ([FORM], b"&" * 50_000),
    ([("Content-Type", "application/x-www-form-urlencoded; charset=utf-7")], b"reason=+AGE-"),
    ([("Content-Type", "application/x-www-form-urlencoded; charset=nonsense")], b"reason=x"),
    *(
        ([JSON, ("Content-Encoding", name)], body)
        for name, body in (
            ("gzip", b"no gzip"),
            ("gzip", gzip.compress(b"{}")[:-4]),
            ("gzip", BOMB),
            ("deflate", b"\xff\xff"),
            ("deflate", zlib.compress(b"{}")),
            ("br", b"\x00"),
            ("nonsense", b"{}"),
            ("gzip, gzip", gzip.compress(gzip.compress(b"{}"))),
        )
    ),
    ([FORM, ("Content-Encoding", "gzip")], BOMB),
    ([FORM, ("Content-Encoding", "deflate")], b"nope"),
    ([JSON, ("Transfer-Encoding", "chunked")], b"2\r\n{}\r\n0\r\n\r\n"),
    ([JSON, ("Transfer-Encoding", "chunked")], b"zz\r\n"),
    ([JSON, ("Transfer-Encoding", "chunked"), ("Content-Length", "2")], b"2\r\n{}\r\n0\r\n\r\n"),
    ([JSON, ("Expect", "100-continue")], b"{}"),
    ([JSON, ("Expect", "nonsense")], b"{}"),
]
HEADERS = [
    ("Authorization", "Bearer \u00fc\udcff"),
    ("Authorization", "Bearer " + "x" * 7_000),
    ("Authorization", "Basic \u00fc"),
    ("Authorization", "Bearer isc_\u202e"),
    ("Cookie", "infoscreen_session=\u00fc\udcff; infoscreen_device=\u00fc"),
    ("Cookie", '=;;==; infoscreen_session="\\"; infoscreen_language=x'),
    ("Cookie", "infoscreen_session=" + "a" * 7_000),
    ("Cookie", "infoscreen_flash=\u00fc; infoscreen_language=../../x"),
    ("Accept-Language", "de;q=x, ,;;=, en;q=1e400, " + "xx," * 2_000),
    ("Accept-Language", "\u00fc;q=\u00fc"),
    ("If-None-Match", '"\u00fc", W/"x", *, '),
    ("If-Modified-Since", "Mon, 99 Xxx 9999 99:99:99 GMT"),
    ("Last-Event-ID", "9" * 5_000),
    ("Range", "bytes=9999999999999999999-,-1,x"),
    ("Accept", "text/html;q=\u00fc, */*;q=-1"),
    ("Accept-Encoding", "gzip;q=x, nonsense, identity;q=0"),
    ("X-Forwarded-For", "\u00fc, 999.1.1.1, [::1"),
    ("X-Forwarded-Proto", "\u00fc"),
    ("Forwarded", 'for="[x";proto=;;'),
    ("Sec-Fetch-Site", "\u00fc"),
    ("Origin", "http://[\u00fc"),
    ("Host", "[::1"),
    ("Host", "\u00fc:99999"),
    ("Host", ""),
    ("User-Agent", "\u202e" * 500),
    ("Upgrade", "websocket"),
    ("Content-Type", "application/json"),
]


def names_in(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def aimed(route: Route, command_id: str) -> str:
    """Return the route's path at something that exists."""
    return route.path.format_map(_Existing(command_id=command_id, id="2", key="x"))


class _Existing(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return U


def fields_of(model: type[BaseModel] | None) -> list[str]:
    return [] if model is None else [one.alias or name for name, one in model.model_fields.items()]


def requests_to(route: Route, command_id: str, random: Random) -> Iterator[Request]:
    """Return requests to a route in which one input is wrong, and some with several."""
    path = aimed(route, command_id)
    yield from (Request(route.method, path, [header]) for header in HEADERS)
    for name in names_in(route.path):
        before, _, after = route.path.partition("{" + name + "}")
        around = aimed(route, command_id)
        start, end = around[: len(before)], after.replace("{id}", "2").replace("{key}", "x")
        for value in [*(quote(text, safe="") for text in TEXTS if text), *RAW]:
            yield Request(route.method, f"{start}{value[:3_000]}{end}")
    for name in fields_of(route.query):
        for value in cursors() if name == "cursor" else TEXTS:
            yield Request(route.method, f"{path}?{urlencode({name: value[:6_000]}, errors='surrogatepass')}")
        for raw in RAW:
            yield Request(route.method, f"{path}?{name}={raw}")
        yield Request(route.method, f"{path}?{name}=1&{name}=2")
    yield Request(route.method, f"{path}?nonsense=1&=&&%00=%00")
    if route.method in SAFE_METHODS:
        return
    yield from (Request(route.method, path, headers, body) for headers, body in BODIES)
    fields = fields_of(route.request)
    for name in fields:
        for value in VALUES:
            yield from filled(route, path, {name: value})
    for _ in range(20 if fields else 0):
        yield from filled(route, path, {name: random.choice(VALUES) for name in fields})


def filled(route: Route, path: str, fields: dict[str, Any]) -> Iterator[Request]:
    if not route.html:
        yield Request(route.method, path, [JSON], json.dumps(fields).encode())
    else:
        texts = {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()
        }
        yield Request(route.method, path, [FORM], urlencode(texts, errors="surrogatepass").encode())


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def ask(site: Site, sent: bytes, within: float = DEADLINE_SECONDS) -> Answer | None:
    """Send bytes and return the answer, None when the server hung up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.url.port)
    try:
        async with asyncio.timeout(within):
            writer.write(sent)
            raw = await reader.read()
    except ConnectionError:
        return None
    finally:
        writer.close()
    while raw.startswith(b"HTTP/1.1 100"):
        raw = raw.partition(b"\r\n\r\n")[2]
    if not raw:
        return None
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split(" ")[1]), headers, body)


LEAKS = [b"Traceback", b"sqlalchemy", b"asyncpg", b"sqlite3", b'File "', b"aiohttp", b"SELECT "]


def faults_in(answer: Answer, route: Route) -> Iterator[str]:
    if answer.status >= 500:
        yield f"status {answer.status}"
    for leak in LEAKS:
        if leak in answer.body:
            yield f"tells {leak!r}"
    for name, value in SECURITY_HEADERS.items():
        if name != "Referrer-Policy" and answer.headers.get(name.lower()) != value:
            yield f"{name} is {answer.headers.get(name.lower())}"
    kind = answer.headers.get("content-type", "")
    if answer.status >= 400 and not route.html and not kind.startswith("application/problem+json"):
        yield f"an error as {kind}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with serving(tmp_path, url=url) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_whatever_is_sent_to_a_route_is_answered_our_way_and_never_with_5xx(site: Site) -> None:
    spine, random = site.spine, Random(7)
    await spine.beat(U, process_status="running", hostname="screen", boot_id="b")
    command_id = (await spine.request(U)).command_id
    for number in range(30):  # some of them are deleted on the way
        await site.parts.accounts.add_user(f"decoy-{number}", PASSWORD, Role.VIEWER, CLI)
    faults, asked, hung_up = [], 0, 0
    for route in KEEPS_US_SIGNED_IN:
        admin = await site.user(Role.ADMIN)
        made = await site.parts.accounts.create_token(admin.id, "t", Role.ADMIN, CLI, manages_accounts=True)
        wrong = list(requests_to(route, command_id, random))
        some = random.sample(wrong, min(len(wrong), MOST_PER_ROUTE))
        for request in [*some, *(one for one in wrong if "?cursor=" in one.target and one not in some)]:
            answer = await ask(site, request.encode(made.secret))
            asked += 1
            hung_up += answer is None
            if answer is not None:
                said = list(faults_in(answer, route))
                what = f"{request.method} {request.target:.120} {request.headers} {request.body!r:.80}"
                faults += [f"{what}: {one}" for one in said]
    assert not faults, "\n".join(faults[:40]) + f"\n{len(faults)} faults in {asked} requests"
    assert asked > 1_500
    assert hung_up < asked / 20, "an answer is the rule"


MOST_PER_ROUTE = 45
"""Of some 60 to 600 wrong requests to a route: half a minute in all."""


@pytest.mark.parametrize("sent", ANSWERED, ids=lambda sent: repr(sent[:40]))
async def test_what_is_no_http_is_answered_with_our_headers_and_without_a_version(
    tmp_path: Path, sent: bytes
) -> None:
    async with serving(tmp_path) as site:
        answer = await ask(site, sent)
    assert answer is not None
    assert 400 <= answer.status < 500
    assert json.loads(answer.body)["status"] == answer.status
    assert not list(faults_in(answer, ROUTES[0]))


@pytest.mark.slow
async def test_a_body_that_never_comes_is_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        await site.user(Role.ADMIN)
        head = b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += b"Sec-Fetch-Site: same-origin\r\n"
        slow = head + b"Content-Length: 50\r\n\r\n{"
        answer = await ask(site, slow, within=6 * BODY_TIMEOUT_SECONDS)
    assert answer is not None
    assert answer.status == 408
    assert json.loads(answer.body)["type"] == "request-timeout"
