"""The second factor: asked for after the password, and set up, replaced or removed on one's account."""

from urllib.parse import urlencode

from aiohttp import web
from markupsafe import Markup

from infoscreen.domain.accounts import Role, User
from infoscreen.domain.errors import Conflict, Forbidden, Refused, Unauthenticated
from infoscreen.services.second_factors import OfferedSecret
from infoscreen.web.api.second_factor import own_user
from infoscreen.web.auth import (
    clear_pending_cookie,
    knock_of,
    pending_token,
    session_token,
    set_cookies,
)
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.forms import CodeForm, NextAddress, PasswordForm, see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.qr import qr_code
from infoscreen.web.panel.rendering import bare_page, page
from infoscreen.web.panel.session import refusal_text
from infoscreen.web.registry import Route, actor_of, read_form, read_query
from infoscreen.words.language import N_

WRONG_CODE = N_("The code is wrong, or was used before.")
QR_TITLE = N_("QR code for an authenticator app")


async def get_login_code(request: web.Request) -> web.StreamResponse:
    """Ask for the code, or show the secret to who must set a factor up first."""
    following = read_query(request, NextAddress).next
    try:
        user = await parts_of(request).accounts.signing_in.user_of(pending_token(request))
    except Unauthenticated:
        return _begin_again(request, following)
    return await _code_page(request, user, following)


async def post_login_code(request: web.Request) -> web.StreamResponse:
    """Finish signing in."""
    form = await read_form(request, CodeForm)
    signing_in, token = parts_of(request).accounts.signing_in, pending_token(request)
    code, knock, agent = form.code.get_secret_value(), knock_of(request), request.headers.get("User-Agent")
    try:
        user = await signing_in.user_of(token)
    except Unauthenticated:
        return _begin_again(request, form.next)
    try:
        if user.second_factor:
            signed_in, codes = await signing_in.with_code(token or "", code, knock, agent), None
        else:
            signed_in, codes = await signing_in.with_new_factor(token or "", code, knock, agent)
    except Refused as refusal:
        return await _code_page(request, user, form.next, refusal)
    response = see_other(form.next)
    if codes is not None:
        response = bare_page(request, "factor_codes.html", codes=codes, following=form.next)
    set_cookies(request, response, signed_in)
    clear_pending_cookie(request, response)
    return response


async def get_factor(request: web.Request) -> web.StreamResponse:
    """Show one's second factor."""
    return await _factor_page(request)


async def post_begin(request: web.Request) -> web.StreamResponse:
    """Make a secret to be confirmed."""
    form = await read_form(request, PasswordForm)
    accounts, user = parts_of(request).accounts, await own_user(request)
    try:
        await accounts.check_password(user, form.password.get_secret_value(), knock_of(request))
        await accounts.factors.offer(user)
    except Refused as refusal:
        return await _factor_page(request, refusal, N_("The current password is wrong."))
    return see_other("/account/factor")


async def post_confirm(request: web.Request) -> web.StreamResponse:
    """Let the new secret count, and show the recovery codes."""
    form = await read_form(request, CodeForm)
    factors, user = parts_of(request).accounts.factors, await own_user(request)
    try:
        codes = await factors.confirm(
            user, form.code.get_secret_value(), actor_of(request), session_token(request)
        )
    except (Unauthenticated, Conflict) as refusal:
        return await _factor_page(request, refusal)
    return await page(request, "factor_codes.html", here="account", codes=codes, following="/account/factor")


async def post_codes(request: web.Request) -> web.StreamResponse:
    """Replace the recovery codes, and show them."""
    form = await read_form(request, CodeForm)
    factors, user = parts_of(request).accounts.factors, await own_user(request)
    try:
        codes = await factors.renew_codes(
            user, form.code.get_secret_value(), actor_of(request), knock_of(request)
        )
    except Refused as refusal:
        return await _factor_page(request, refusal)
    return await page(request, "factor_codes.html", here="account", codes=codes, following="/account/factor")


async def post_remove(request: web.Request) -> web.StreamResponse:
    """Do without a second factor from now on."""
    form = await read_form(request, CodeForm)
    factors, user = parts_of(request).accounts.factors, await own_user(request)
    try:
        await factors.remove(user, form.code.get_secret_value(), actor_of(request), knock_of(request))
    except Refused as refusal:
        return await _factor_page(request, refusal)
    return flash.put(request, see_other("/account"), "factor_removed")


def _begin_again(request: web.Request, following: str) -> web.Response:
    response = see_other(f"/login?{urlencode({'next': following})}")
    clear_pending_cookie(request, response)
    return response


async def _code_page(
    request: web.Request, user: User, following: str, refusal: Refused | None = None
) -> web.Response:
    offer = None
    if not user.second_factor:
        try:
            offer = await parts_of(request).accounts.signing_in.offer(pending_token(request) or "")
        except Refused as trouble:
            refusal = trouble
    return bare_page(
        request,
        "login_factor.html",
        status=200 if refusal is None else refusal.status,
        following=following,
        name=user.username,
        set_up=not user.second_factor,
        offer=offer,
        qr=_qr(request, offer),
        error=_error(request, refusal),
    )


async def _factor_page(
    request: web.Request, refusal: Refused | None = None, wrong: str = WRONG_CODE
) -> web.Response:
    factors, user = parts_of(request).accounts.factors, await own_user(request)
    offer = None
    try:
        offer = await factors.offered(user)
    except Refused as trouble:
        refusal = refusal or trouble
    return await page(
        request,
        "factor.html",
        status=_status(refusal),
        here="account",
        state=await factors.state(user),
        offer=offer,
        qr=_qr(request, offer),
        error=_error(request, refusal, wrong),
    )


def _status(refusal: Refused | None) -> int:
    """Return the status of a page for who is signed in: a wrong code does not change that."""
    if refusal is None:
        return 200
    return 422 if isinstance(refusal, Unauthenticated | Forbidden) else refusal.status


def _qr(request: web.Request, offer: OfferedSecret | None) -> Markup | None:
    return None if offer is None else qr_code(offer.uri, language_of(request).gettext(QR_TITLE))


def _error(request: web.Request, refusal: Refused | None, wrong: str = WRONG_CODE) -> str | None:
    language = language_of(request)
    return None if refusal is None else refusal_text(refusal, language, language.gettext(wrong))


ROUTES = (
    Route("GET", "/login/factor", get_login_code, None, "Second factor", query=NextAddress, html=True),
    Route(
        "POST", "/login/factor", post_login_code, None, "Give the second factor", request=CodeForm, html=True
    ),
    Route("GET", "/account/factor", get_factor, Role.VIEWER, "One's second factor", html=True),
    *(
        Route(
            "POST",
            f"/account/factor/{act}",
            handler,
            Role.VIEWER,
            summary,
            request=form,
            html=True,
            manages_accounts=True,
        )
        for act, handler, form, summary in (
            ("begin", post_begin, PasswordForm, "Begin to set up a second factor"),
            ("confirm", post_confirm, CodeForm, "Confirm a second factor"),
            ("codes", post_codes, CodeForm, "Replace the recovery codes"),
            ("remove", post_remove, CodeForm, "Remove one's second factor"),
        )
    ),
)
