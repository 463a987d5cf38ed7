"""One's own account: another password, and the browsers one is signed in with."""

import re
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from infoscreen.domain.accounts import Session
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Busy, Forbidden, InvalidInput, TooManyAttempts, Unauthenticated
from infoscreen.services.accounts import PASSWORD_LENGTHS
from infoscreen.web.auth import knock_of, session_token
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.forms import NewPasswordForm, see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import actor_of, read_form
from infoscreen.words.language import Language

_BROWSERS = (
    ("Edge", "Edg/"),
    ("Opera", "OPR/"),
    ("Firefox", "Firefox/"),
    ("Chromium", "Chromium/"),
    ("Chrome", "Chrome/"),
    ("Safari", "Safari/"),
    ("curl", "curl/"),
)
"""Names and what gives them away, the more specific first: nearly all say Chrome and Safari too."""

_SYSTEMS = (
    ("Android", "Android"),
    ("iOS", "iPhone"),
    ("iPadOS", "iPad"),
    ("Windows", "Windows"),
    ("macOS", "Mac OS X"),
    ("Linux", "Linux"),
)


@dataclass(frozen=True, slots=True)
class SignedInDevice:
    """A session as its owner sees it."""

    key: str
    browser: str
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    current: bool


async def get_account(request: web.Request) -> web.StreamResponse:
    """Show one's account."""
    return await _account_page(request)


async def post_password(request: web.Request) -> web.StreamResponse:
    """Change one's password; all other browsers are signed out."""
    form = await read_form(request, NewPasswordForm)
    _ = language_of(request).gettext
    new = form.new.get_secret_value()
    if new != form.again.get_secret_value():
        return await _account_page(request, 422, _("The two new passwords are not the same."))
    try:
        await parts_of(request).accounts.change_password(
            actor_of(request),
            form.current.get_secret_value(),
            new,
            knock_of(request),
            revoke_tokens=form.revoke_tokens is not None,
        )
    except Unauthenticated:
        return await _account_page(request, 422, _("The current password is wrong."))
    except TooManyAttempts as refusal:
        seconds = refusal.retry_after
        sentence = _("Too many failed attempts. Try again in %(seconds)s s.") % {"seconds": seconds}
        return await _account_page(request, 429, sentence)
    except Busy:
        return await _account_page(
            request, 503, _("Too many people are signing in at the moment. Try again.")
        )
    except InvalidInput:
        sentence = _("The new password must have %(least)s to %(most)s characters.") % {
            "least": PASSWORD_LENGTHS[0],
            "most": PASSWORD_LENGTHS[-1],
        }
        return await _account_page(request, 422, sentence)
    return flash.put(request, see_other("/account"), "password_changed")


async def post_session_end(request: web.Request) -> web.StreamResponse:
    """Sign one of one's browsers out."""
    actor = actor_of(request)
    await parts_of(request).accounts.end_session(_user_id(request), request.match_info["key"], actor)
    return flash.put(request, see_other("/account"), "session_ended")


def device_of(user_agent: str | None, language: Language) -> str:
    """Name a browser and its system as far as they can be told."""
    _ = language.gettext
    said = user_agent or ""
    browser = next((name for name, sign in _BROWSERS if sign in said), None)
    system = next((name for name, sign in _SYSTEMS if sign in said), None)
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or re.sub(r"\s+", " ", said)[:60] or _("Unknown browser")


async def _account_page(request: web.Request, status: int = 200, error: str | None = None) -> web.Response:
    language = language_of(request)
    accounts = parts_of(request).accounts
    token = session_token(request)
    sessions = [
        _shown(session, accounts.is_session(session, token), language)
        for session in await accounts.sessions(_user_id(request))
    ]
    return await page(
        request,
        "account.html",
        status=status,
        here="account",
        error=error,
        sessions=sessions,
        user_account=await accounts.user(_user_id(request)),
        tokens=await accounts.count_tokens(_user_id(request)),
        shortest=PASSWORD_LENGTHS[0],
    )


def _shown(session: Session, current: bool, language: Language) -> SignedInDevice:
    return SignedInDevice(
        key=session.id,
        browser=device_of(session.user_agent, language),
        address=session.address,
        created_at=session.created_at,
        last_seen_at=session.last_seen_at,
        current=current,
    )


def _user_id(request: web.Request) -> int:
    user_id = actor_of(request).user_id
    if user_id is None:
        raise Forbidden(ErrorCode.PEOPLE_ONLY)
    return user_id
