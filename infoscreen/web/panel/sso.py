"""Signing in at an OpenID Connect provider: away and back again.

What must be the same on the way back (state, nonce, verifier) is in a cookie of the browser that went away.
"""

import base64
import json
from datetime import timedelta
from hmac import compare_digest
from typing import Annotated

from aiohttp import web
from pydantic import Field

from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import IdentityRefused, NotFound, Refused
from infoscreen.services.single_sign_on import SingleSignOn
from infoscreen.web.auth import clear_cookie, cookie_name, knock_of, set_cookie, set_cookies
from infoscreen.web.keys import parts_of
from infoscreen.web.panel.forms import Address, NextAddress, own_path, see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import bare_page
from infoscreen.web.panel.session import refusal_text
from infoscreen.web.registry import Route, read_query

COOKIE = "infoscreen_sso"
CALLBACK = "/login/sso/callback"
LASTS = timedelta(minutes=10)
"""How long somebody may take at the provider."""


class Callback(Address):
    """What the provider sends along."""

    code: Annotated[str, Field(max_length=4_000)] = ""
    state: Annotated[str, Field(max_length=200)] = ""
    iss: Annotated[str, Field(max_length=500)] = ""
    error: Annotated[str, Field(max_length=200)] = ""


async def get_sso(request: web.Request) -> web.StreamResponse:
    """Send the browser to the provider."""
    following, sso = read_query(request, NextAddress).next, _sso(request)
    try:
        asked = await sso.provider.begin(_redirect_uri(request))
    except Refused as refusal:
        return _failed(request, following, refusal)
    # Not quoted again: it is the provider's own address.
    response = web.Response(status=303, headers={"Location": asked.url})
    kept = json.dumps([asked.state, asked.nonce, asked.verifier, following])
    set_cookie(request, response, COOKIE, base64.urlsafe_b64encode(kept.encode()).decode(), LASTS)
    return response


async def get_callback(request: web.Request) -> web.StreamResponse:
    """Begin the session of who comes back."""
    given, sso = read_query(request, Callback), _sso(request)
    state, nonce, verifier, following = _kept(request)
    try:
        is_ours = bool(state) and compare_digest(given.state.encode(), state.encode())
        if not is_ours or given.iss not in ("", sso.provider.issuer) or given.error or not given.code:
            raise IdentityRefused(ErrorCode.IDENTITY_REFUSED)
        identity = await sso.provider.finish(given.code, _redirect_uri(request), nonce, verifier)
        signed_in = await sso.sign_in(identity, knock_of(request), request.headers.get("User-Agent"))
    except Refused as refusal:
        return _failed(request, following, refusal)
    response = see_other(following)
    set_cookies(request, response, signed_in)
    clear_cookie(request, response, COOKIE)
    return response


def _sso(request: web.Request) -> SingleSignOn:
    found = parts_of(request).single_sign_on
    if found is None:
        raise NotFound(ErrorCode.NO_SUCH_PAGE)
    return found


def _redirect_uri(request: web.Request) -> str:
    return f"{parts_of(request).config.public_origin or ''}{CALLBACK}"


def _kept(request: web.Request) -> tuple[str, str, str, str]:
    """Return state, nonce, verifier and where to go afterwards; empty ones if the cookie is none of ours."""
    try:
        kept = json.loads(base64.urlsafe_b64decode(request.cookies.get(cookie_name(request, COOKIE), "")))
        state, nonce, verifier, following = (str(one) for one in kept)
    except (ValueError, TypeError, RecursionError):
        return "", "", "", "/"
    return state, nonce, verifier, own_path(following)


def _failed(request: web.Request, following: str, refusal: Refused) -> web.Response:
    """Show the form to sign in with a local account, and why the provider did not sign in."""
    response = bare_page(
        request,
        "login.html",
        status=refusal.status,
        following=following,
        username="",
        error=refusal_text(refusal, language_of(request), ""),
        sso=True,
    )
    clear_cookie(request, response, COOKIE)
    return response


ROUTES = (
    Route("GET", "/login/sso", get_sso, None, "Sign in at the provider", query=NextAddress, html=True),
    Route("GET", CALLBACK, get_callback, None, "Come back from the provider", query=Callback, html=True),
)
