"""Coming and going: signing in and out, the language and the theme. All work before anybody is signed in."""

from urllib.parse import urlencode

from aiohttp import web

from infoscreen.domain.errors import Busy, Refused, TooManyAttempts, Unauthenticated
from infoscreen.services.signing_in import Pending
from infoscreen.web.auth import (
    clear_session_cookie,
    knock_of,
    session_token,
    set_cookies,
    set_pending_cookie,
)
from infoscreen.web.keys import parts_of
from infoscreen.web.origin import client_address, is_https
from infoscreen.web.panel import flash, theme
from infoscreen.web.panel.forms import LanguageChoice, NextAddress, SignIn, ThemeChoice, see_other
from infoscreen.web.panel.language import COOKIE, language_of
from infoscreen.web.panel.rendering import bare_page
from infoscreen.web.registry import maybe_actor, read_form, read_query
from infoscreen.words.language import Language
from infoscreen.words.speaking import say

A_YEAR = 365 * 86400


async def get_login(request: web.Request) -> web.StreamResponse:
    """Show the form to sign in, or go on when that was done already."""
    address = read_query(request, NextAddress)
    if maybe_actor(request) is not None:
        return see_other(address.next)
    return bare_page(
        request, "login.html", following=address.next, username="", error=None, sso=_has_sso(request)
    )


async def post_login(request: web.Request) -> web.StreamResponse:
    """Start a session, or go on to the second factor."""
    form = await read_form(request, SignIn)
    try:
        begun = await parts_of(request).accounts.signing_in.with_password(
            form.username,
            form.password.get_secret_value(),
            knock_of(request),
            request.headers.get("User-Agent"),
        )
    except (Unauthenticated, TooManyAttempts, Busy) as refusal:
        return _refused(request, form, refusal)
    if isinstance(begun, Pending):
        response = see_other(f"/login/factor?{urlencode({'next': form.next})}")
        set_pending_cookie(request, response, begun)
        return response
    response = see_other(form.next)
    set_cookies(request, response, begun)
    return response


async def post_logout(request: web.Request) -> web.StreamResponse:
    """End the session, if there is one."""
    token = session_token(request)
    if token is not None:
        await parts_of(request).accounts.logout(token, client_address(request))
    response = flash.put(request, see_other("/login"), "signed_out")
    clear_session_cookie(request, response)
    return response


async def post_language(request: web.Request) -> web.StreamResponse:
    """Remember a language in this browser."""
    form = await read_form(request, LanguageChoice)
    return _remember(request, see_other(form.next), COOKIE, form.language)


async def post_theme(request: web.Request) -> web.StreamResponse:
    """Remember a theme in this browser."""
    form = await read_form(request, ThemeChoice)
    return _remember(request, see_other(form.next), theme.COOKIE, form.theme)


def login_path(request: web.Request) -> str:
    """Return the address of the form to sign in, from which one comes back to what was asked for."""
    wanted = request.path_qs if request.method == "GET" else "/"
    return "/login" if wanted == "/" else f"/login?{urlencode({'next': wanted})}"


def _remember(request: web.Request, response: web.Response, cookie: str, choice: str) -> web.Response:
    response.set_cookie(
        cookie, choice, max_age=A_YEAR, httponly=True, samesite="Lax", secure=is_https(request)
    )
    return response


def _has_sso(request: web.Request) -> bool:
    return parts_of(request).single_sign_on is not None


def refusal_text(refusal: Refused, language: Language, wrong: str) -> str:
    """Say why somebody is not signed in; ``wrong`` says it of what was typed."""
    _ = language.gettext
    match refusal:
        case TooManyAttempts(retry_after=seconds):
            return _("Too many failed attempts. Try again in %(seconds)s s.") % {"seconds": seconds}
        case Busy():
            return _("Too many people are signing in at the moment. Try again.")
        case Unauthenticated():
            return wrong
        case _:
            return say(refusal.fact, language)


def _refused(request: web.Request, form: SignIn, refusal: Refused) -> web.Response:
    language = language_of(request)
    wrong = language.gettext("The user name or the password is wrong.")
    response = bare_page(
        request,
        "login.html",
        status=refusal.status,
        following=form.next,
        username=form.username,
        sso=_has_sso(request),
        error=refusal_text(refusal, language, wrong),
    )
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response
