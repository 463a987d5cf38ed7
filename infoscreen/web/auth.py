"""Who asks, and may they: bearer tokens for programs, a session cookie for browsers, one role per route."""

from datetime import timedelta

from aiohttp import web
from aiohttp.typedefs import Handler

from infoscreen.domain.accounts import Actor
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Forbidden, Unauthenticated
from infoscreen.domain.second_factor import PENDING_LASTS
from infoscreen.services.logins import Knock
from infoscreen.services.signing_in import DEVICE_LIFETIME, SESSION_LIFETIME, Pending, SignedIn
from infoscreen.storage.budget import limited
from infoscreen.web.keys import ACTOR, parts_of
from infoscreen.web.origin import client_address, is_https, refuse_cross_site
from infoscreen.web.registry import route_of

COOKIE = "infoscreen_session"
DEVICE_COOKIE = "infoscreen_device"
PENDING_COOKIE = "infoscreen_pending"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

DATABASE_SECONDS = 0.25
"""So much time of the database a request that only reads may take, and each part of a list as CSV.

Event streams last, and take little.
"""


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through if its sender has the permission of the route."""
    route = route_of(request)
    if route is None:
        return await handler(request)
    actor = await identify(request) if route.role is not None or route.html else None
    request[ACTOR] = actor
    if route.role is not None and actor is None:
        raise Unauthenticated(ErrorCode.SIGN_IN)
    if request.method not in SAFE_METHODS and bearer_token(request) is None:
        refuse_cross_site(request)
    if route.role is not None and actor is not None and not actor.role.may(route.role):
        raise Forbidden(ErrorCode.ROLE_TOO_LOW, needed=route.role, role=actor.role)
    if route.manages_accounts and actor is not None and not actor.manages_accounts:
        raise Forbidden(ErrorCode.TOKEN_MANAGES_NO_ACCOUNTS)
    if route.role is None or request.method not in SAFE_METHODS or route.content == "text/event-stream":
        return await handler(request)
    with limited(DATABASE_SECONDS, parts_of(request).clock.monotonic):
        return await handler(request)


async def identify(request: web.Request) -> Actor | None:
    """Return who sends the request, None when nobody known does. A bearer token hides the cookie."""
    accounts = parts_of(request).accounts
    address = client_address(request)
    secret = bearer_token(request)
    if secret is not None:
        return await accounts.actor_of_token(secret, address)
    session = session_token(request)
    return None if session is None else await accounts.actor_of_session(session, address)


def bearer_token(request: web.Request) -> str | None:
    """Return the bearer token that was sent; other schemes are the business of a proxy."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def session_token(request: web.Request) -> str | None:
    """Return the session token in the cookie of this scheme."""
    return request.cookies.get(cookie_name(request, COOKIE))


def knock_of(request: web.Request) -> Knock:
    """Return from where somebody wants to sign in, and what proves that they have done so before."""
    device = request.cookies.get(cookie_name(request, DEVICE_COOKIE))
    return Knock(client_address(request), device or None, session_token(request))


def set_cookies(request: web.Request, response: web.StreamResponse, signed_in: SignedIn) -> None:
    """Hand the browser its session, and mark it as known; scripts cannot read it, other sites not send it."""
    set_cookie(request, response, COOKIE, signed_in.token, SESSION_LIFETIME)
    if signed_in.device is not None:
        set_cookie(request, response, DEVICE_COOKIE, signed_in.device, DEVICE_LIFETIME)


def pending_token(request: web.Request) -> str | None:
    """Return the token of a sign-in that waits for its code."""
    return request.cookies.get(cookie_name(request, PENDING_COOKIE))


def set_pending_cookie(request: web.Request, response: web.StreamResponse, pending: Pending) -> None:
    """Let the browser remember that its password was right."""
    set_cookie(request, response, PENDING_COOKIE, pending.token, PENDING_LASTS)


def clear_pending_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Make the browser forget it."""
    clear_cookie(request, response, PENDING_COOKIE)


def clear_session_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Make the browser forget its session token."""
    clear_cookie(request, response, COOKIE)


def set_cookie(
    request: web.Request, response: web.StreamResponse, name: str, value: str, lifetime: timedelta
) -> None:
    """Set a cookie that scripts cannot read and other sites not send."""
    response.set_cookie(
        cookie_name(request, name),
        value,
        max_age=int(lifetime.total_seconds()),
        httponly=True,
        samesite="Lax",
        secure=is_https(request),
    )


def clear_cookie(request: web.Request, response: web.StreamResponse, name: str) -> None:
    """Make the browser forget a cookie."""
    response.del_cookie(cookie_name(request, name), httponly=True, samesite="Lax", secure=is_https(request))


def cookie_name(request: web.Request, name: str) -> str:
    """Return what a cookie is called."""
    # With this prefix browsers take the cookie only over https and only from this very host.
    return f"__Host-{name}" if is_https(request) else name
