"""One message that survives a redirect: a cookie with the name of a text and its values, never the text.

A forged cookie can at most show one of our own sentences.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

from aiohttp import web

from infoscreen.domain.commands import Action, CommandStatus
from infoscreen.web.origin import is_https
from infoscreen.words.language import N_, Language
from infoscreen.words.names import ACTION_NOUNS, word

COOKIE = "infoscreen_flash"
LONGEST_VALUE = 120
SECONDS = 60

MESSAGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "requested": ("good", N_("%(action)s requested: %(client)s.")),
        "restarts": ("good", N_("App restarts: %(queued)s requested, %(others)s skipped.")),
        "bulk_too_many": (
            "bad",
            N_("Nothing was done: more than %(most)s clients match."),
        ),
        "bulk_stopped": ("good", N_("Stopped. Withdrawn: %(count)s.")),
        "waits": ("good", N_("%(action)s: %(client)s gets the command when it is back.")),
        "miscounted": ("bad", N_("Nothing was done: that was not the number of clients.")),
        "in_flight": (
            "bad",
            N_("Nothing was sent: %(client)s still has a command under way (%(action)s, %(status)s)."),
        ),
        "locked": (
            "bad",
            N_("Nothing was sent: %(client)s is locked after too many disruptive commands in a short time."),
        ),
        "mistyped": ("bad", N_("Nothing was done: that was not the name of %(client)s.")),
        "withdrawn": ("good", N_("The command was withdrawn before it was sent.")),
        "too_late": ("bad", N_("The command can no longer be withdrawn; it is: %(status)s.")),
        "acknowledged": ("good", N_("%(unit)s on %(client)s was acknowledged.")),
        "acknowledged_before": (
            "good",
            N_("The failed service on %(client)s had already been acknowledged."),
        ),
        "failed_again": (
            "bad",
            N_(
                "Not acknowledged: a service on %(client)s has failed again in the meantime. Please "
                "check again."
            ),
        ),
        "power_saved": ("good", N_("The outlet was saved. Test it now.")),
        "power_forgotten": ("good", N_("The outlet was forgotten.")),
        "no-outlet": ("bad", N_("Nothing was switched: no outlet is configured.")),
        "outlet-protected": ("bad", N_("Nothing was switched: the outlet is protected.")),
        "outlet-in-use": ("bad", N_("Nothing was switched: the outlet is already being cycled.")),
        "outlet-shared": (
            "bad",
            N_("Nothing was switched: the outlet also feeds clients that are not silent."),
        ),
        "client-starting": ("bad", N_("Nothing was switched: the client is starting or updating.")),
        "power-cycle-limit": ("bad", N_("Nothing was switched: the limit of power cycles a day is reached.")),
        "undone": ("good", N_("Undone.")),
        "not_undone": ("bad", N_("Too late to undo, or changed by somebody in the meantime.")),
        "site_saved": ("good", N_("%(site)s was saved.")),
        "saved": ("good", N_("%(client)s was saved.")),
        "paused": ("good", N_("Automatic recovery was paused.")),
        "resumed": ("good", N_("Automatic recovery was resumed.")),
        "taken_over": ("good", N_("Noted: %(client)s is being taken care of.")),
        "nothing_wrong": ("bad", N_("Nothing was done: nothing is wrong with %(client)s any more.")),
        "none_chosen": ("bad", N_("Nothing was done: no client was chosen.")),
        "several_taken_over": ("good", N_("Acknowledged: %(count)s, skipped: %(others)s.")),
        "given_back": ("good", N_("Nobody takes care of %(client)s any more.")),
        "tries_again": ("good", N_("Automatic recovery tries again from the first rung: %(client)s.")),
        "not_given_up": ("bad", N_("Nothing was done: %(client)s no longer needs someone on site.")),
        "incident_taken_over": ("good", N_("Noted: the incident is being taken care of.")),
        "incident_dismissed": (
            "good",
            N_("The incident was dismissed: each of its clients is treated singly from now on."),
        ),
        "incident_over": ("bad", N_("Nothing was done: the incident is over already.")),
        "removed": ("good", N_("%(client)s was removed with all its history.")),
        "channel_saved": ("good", N_("The channel %(channel)s was saved.")),
        "channel_removed": ("good", N_("The channel %(channel)s was removed with its messages.")),
        "rule_saved": ("good", N_("The rule %(rule)s was saved.")),
        "rule_removed": ("good", N_("The rule %(rule)s was removed.")),
        "password_changed": ("good", N_("The password was changed. All other browsers were signed out.")),
        "factor_removed": ("good", N_("The second factor was removed. All other browsers were signed out.")),
        "session_ended": ("good", N_("The browser was signed out.")),
        "stale_link": ("bad", N_("This link is out of date or wrong. Left out: %(parts)s.")),
        "signed_out": ("good", N_("You are signed out.")),
    }
)


@dataclass(frozen=True, slots=True)
class Flash:
    """A message as it is shown; ``tone`` is ``good`` or ``bad``, ``undo`` a token that takes the act back."""

    tone: str
    text: str
    link: str | None
    undo: str | None = None


def put(request: web.Request, response: web.Response, name: str, **values: str) -> web.Response:
    """Let the next page show a message, and return the answer."""
    packed = json.dumps([name, {key: value[:LONGEST_VALUE] for key, value in values.items()}])
    response.set_cookie(
        COOKIE,
        base64.urlsafe_b64encode(packed.encode()).decode(),
        max_age=SECONDS,
        httponly=True,
        samesite="Lax",
        secure=is_https(request),
    )
    return response


def read(request: web.Request, language: Language) -> Flash | None:
    """Return the message that the page before has left; None when there is none that makes sense."""
    try:
        name, values = json.loads(base64.urlsafe_b64decode(request.cookies.get(COOKIE, "")))
        tone, text = MESSAGES[name]
        shown = {key: _shown(key, value, language) for key, value in values.items()}
        command = shown.get("command_id")
        link = None if command is None else f"/commands/{UUID(command)}"
        return Flash(tone, language.gettext(text) % shown, link, shown.get("undo"))
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error, RecursionError):
        return None


def forget(response: web.Response) -> None:
    """Show it only once."""
    response.del_cookie(COOKIE, httponly=True, samesite="Lax")


def _shown(key: str, value: str, language: Language) -> str:
    match key:
        case "action":
            return language.gettext(ACTION_NOUNS[Action(value)])
        case "status":
            return word(CommandStatus(value), language)
        case _:
            return str(value)
