"""Who may do what, tried on every declared route; and that there are no others."""

import pytest
from aiohttp import ClientSession

from infoscreen.domain.accounts import Role
from infoscreen.services.accounts import CLI
from infoscreen.web.application import create_app
from infoscreen.web.auth import SAFE_METHODS
from infoscreen.web.registry import Route
from infoscreen.web.routes import ROUTES
from tests.web import SAME_ORIGIN, Site

NOBODYS = {
    "id": "999999",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "command_id": "00000000-0000-4000-8000-000000000001",
}
SIGN_IN_PAGE = "/login"
"""It answers 401 itself, to a form without name and password."""

CHANGING = [route for route in ROUTES if route.method not in SAFE_METHODS]
BEHIND_A_ROLE = [route for route in CHANGING if route.role is not None]


def path_of(route: Route) -> str:
    return route.path.format_map(_Names())


class _Names(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return NOBODYS.get(name, NOBODYS["uuid"])


async def answer(visitor: ClientSession, route: Route) -> tuple[int, str]:
    """Return status and problem type; of an event stream only the head is read."""
    async with visitor.request(route.method, path_of(route), allow_redirects=False) as response:
        problem = await response.json() if response.content_type == "application/problem+json" else {}
        return response.status, problem.get("type", "")


async def test_nobody_gets_past_a_route_with_a_role_without_signing_in(site: Site) -> None:
    visitor = await site.visitor(SAME_ORIGIN)
    for route in ROUTES:
        status, _ = await answer(visitor, route)
        if route.role is None:
            assert status not in (401, 403) or route.path == SIGN_IN_PAGE, (route.path, status)
        elif route.html:
            assert status in (303, 401), (route.method, route.path, status)
        else:
            assert status == 401, (route.method, route.path, status)


@pytest.mark.parametrize("kind", ["session", "token", "managing token"])
@pytest.mark.parametrize("role", Role)
async def test_each_role_reaches_its_routes_and_no_others(site: Site, role: Role, kind: str) -> None:
    visitor = await caller(site, role, kind)
    for route in ROUTES:
        if ends_the_session(route):
            continue
        status, slug = await answer(visitor, route)
        may = route.role is None or (role.may(route.role) and (kind != "token" or not route.manages_accounts))
        if not may:
            assert status == 403, (route.method, route.path, status)
        elif route.path != SIGN_IN_PAGE:
            assert status not in (401, 403), (route.method, route.path, status, slug)


async def caller(site: Site, role: Role, kind: str) -> ClientSession:
    if kind == "session":
        return await site.browser(role)
    user, manages = await site.user(role), kind == "managing token"
    made = await site.parts.accounts.create_token(user.id, "t", role, CLI, manages_accounts=manages)
    return await site.visitor({"Authorization": f"Bearer {made.secret}"})


def ends_the_session(route: Route) -> bool:
    return route.path.endswith(("/logout", "/login", "/login/factor"))


def test_whatever_changes_users_tokens_sessions_or_passwords_needs_more_than_any_token() -> None:
    words = ("user", "token", "session", "password", "account", "device", "enrolment", "factor")
    assert {(route.method, route.path) for route in CHANGING if route.manages_accounts} == {
        (route.method, route.path)
        for route in CHANGING
        if any(word in route.path for word in words) and not ends_the_session(route)
    }


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "{self}"},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://[broken"},
        {"Origin": "{self}.evil.example"},
        {"Referer": "{self}/"},
    ],
    ids=str,
)
async def test_no_changing_route_takes_a_cookie_request_from_elsewhere(
    site: Site, headers: dict[str, str]
) -> None:
    browser = await site.browser(Role.ADMIN)
    del browser.headers["Sec-Fetch-Site"]
    sent = {name: value.replace("{self}", str(site.url).rstrip("/")) for name, value in headers.items()}
    for route in CHANGING:
        async with browser.request(
            route.method, path_of(route), headers=sent, allow_redirects=False
        ) as response:
            assert response.status == 403, (route.path, sent)
            if not route.html:
                assert (await response.json())["type"] == "cross-site"


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "{self}"}], ids=str
)
async def test_every_changing_route_takes_a_cookie_request_from_our_own_pages(
    site: Site, headers: dict[str, str]
) -> None:
    browser = await site.browser(Role.ADMIN)
    del browser.headers["Sec-Fetch-Site"]
    sent = {name: value.replace("{self}", str(site.url).rstrip("/")) for name, value in headers.items()}
    for route in BEHIND_A_ROLE:
        async with browser.request(
            route.method, path_of(route), headers=sent, allow_redirects=False
        ) as response:
            assert response.status not in (401, 403), (route.path, response.status)


async def test_reading_needs_no_proof_of_origin(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    async with browser.get("/api/auth/me", headers={"Sec-Fetch-Site": "cross-site"}) as response:
        assert response.status == 200


async def test_every_route_of_the_application_is_declared_and_the_other_way_round(site: Site) -> None:
    app = create_app(site.parts)
    reachable = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }
    declared = {(route.method, route.path) for route in ROUTES}
    heads = {("HEAD", path) for method, path in declared if method == "GET"}
    assert declared <= reachable
    assert reachable - heads == declared
    assert len(declared) == len(ROUTES), "declared twice"


def test_no_page_is_declared_below_api_and_no_json_outside_it() -> None:
    open_to_monitoring = {"/healthz", "/readyz", "/metrics"}
    for route in ROUTES:
        assert route.html != (route.path.startswith("/api/") or route.path in open_to_monitoring), route.path


def test_only_the_routes_meant_to_be_open_are_open() -> None:
    assert {(route.method, route.path) for route in ROUTES if route.role is None and not route.html} == {
        ("POST", "/api/auth/login"),
        ("POST", "/api/auth/logout"),
        ("POST", "/api/enrol"),
        ("GET", "/api/openapi.json"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
    }
    assert all(route.role is not None for route in ROUTES if route.method in ("DELETE", "PATCH", "PUT"))
