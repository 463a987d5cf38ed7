"""Where messages go: adding, changing, trying and removing channels. For administrators."""

from dataclasses import dataclass
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, SecretStr, StringConstraints

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import InvalidInput, Refused
from infoscreen.domain.notifying import ChannelKind
from infoscreen.services.ports import Delivered
from infoscreen.storage.notify.channels import StoredChannel
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.faults import ShownFault, faults_of
from infoscreen.web.panel.forms import Form, see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.questions import removal
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import Route, actor_of, path_number, read_form
from infoscreen.words.language import N_, Language
from infoscreen.words.notices import FAULTS
from infoscreen.words.speaking import say

HOME = "/notifications"

Url = Annotated[SecretStr, Field(max_length=2_000)]


class ChannelForm(Form):
    """A channel as the form sends it. An empty address or secret stays as it is stored."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    kind: ChannelKind = ChannelKind.APPRISE
    url: Url = SecretStr("")
    secret: Url = SecretStr("")
    language: Literal["de", "en"] = "de"
    enabled: Literal["", "yes"] = ""


@dataclass(frozen=True, slots=True)
class ShownChannel:
    """What the form shows: never an address or a secret."""

    name: str = ""
    kind: ChannelKind = ChannelKind.APPRISE
    language: str = "de"
    enabled: bool = True


async def get_new_channel(request: web.Request) -> web.StreamResponse:
    """Show the empty form."""
    return await _form(request, ShownChannel(language=language_of(request).code))


async def post_new_channel(request: web.Request) -> web.StreamResponse:
    """Add a channel; a secret that was made for it is shown this once."""
    shown = ShownChannel()
    try:
        form = await read_form(request, ChannelForm)
        shown = ShownChannel(form.name, form.kind, form.language)
        secret = form.secret.get_secret_value() or None
        made = await parts_of(request).notifying.add_channel(
            form.name, form.kind, form.url.get_secret_value(), form.language, actor_of(request), secret
        )
    except Refused as refusal:
        return await _refused(request, shown, refusal)
    if made.secret is not None and secret is None:
        return await page(
            request, "channel_added.html", here="notifications", channel=made.channel, secret=made.secret
        )
    return flash.put(request, see_other(HOME), "channel_saved", channel=made.channel.name)


async def get_channel(request: web.Request) -> web.StreamResponse:
    """Show the form of a channel."""
    known = await parts_of(request).notifying.channel(path_number(request, "id"))
    return await _form(request, _shown(known), known)


async def post_channel(request: web.Request) -> web.StreamResponse:
    """Change a channel."""
    notifying, number = parts_of(request).notifying, path_number(request, "id")
    known = await notifying.channel(number)
    shown = _shown(known)
    try:
        form = await read_form(request, ChannelForm)
        shown = ShownChannel(form.name, known.kind, form.language, form.enabled == "yes")
        changes = {"name": form.name, "language": form.language, "enabled": form.enabled == "yes"}
        for name, value in (("url", form.url), ("secret", form.secret)):
            if value.get_secret_value():
                changes[name] = value.get_secret_value()
        changed = await notifying.change_channel(number, actor_of(request), changes)
    except Refused as refusal:
        return await _refused(request, shown, refusal, known)
    return flash.put(request, see_other(HOME), "channel_saved", channel=changed.name)


async def get_removal(request: web.Request) -> web.StreamResponse:
    """Ask whether to remove a channel."""
    known = await parts_of(request).notifying.channel(path_number(request, "id"))
    language = language_of(request)
    question = removal(
        title=language.gettext(REMOVE) % {"channel": known.name},
        effect=language.gettext(REMOVED),
        path=f"{HOME}/channels/{known.id}",
        language=language,
    )
    return await page(request, "confirm.html", here="notifications", question=question)


async def post_removal(request: web.Request) -> web.StreamResponse:
    """Remove a channel."""
    notifying, number = parts_of(request).notifying, path_number(request, "id")
    known = await notifying.channel(number)
    await notifying.remove_channel(number, actor_of(request))
    return flash.put(request, see_other(HOME), "channel_removed", channel=known.name)


async def post_test(request: web.Request) -> web.StreamResponse:
    """Send a test message now and show what the receiver answered."""
    notifying, number = parts_of(request).notifying, path_number(request, "id")
    known = await notifying.channel(number)
    language = language_of(request)
    try:
        outcome: Delivered | None = await notifying.test(number, actor_of(request))
        sentence = _tested(outcome, language)
    except Refused as refusal:
        outcome, sentence = None, say(refusal.fact, language)
    return await page(
        request,
        "channel_test.html",
        here="notifications",
        channel=known,
        ok=outcome is not None and outcome.ok,
        outcome=outcome,
        sentence=sentence,
    )


def _tested(outcome: Delivered | None, language: Language) -> str:
    _ = language.gettext
    if outcome is None or outcome.ok:
        return _(TAKEN)
    return _(NOT_TAKEN) % {"why": _(FAULTS[outcome.fault])} if outcome.fault else _(FAILED)


def _shown(known: StoredChannel) -> ShownChannel:
    return ShownChannel(known.name, known.kind, known.language, known.enabled)


async def _form(
    request: web.Request,
    shown: ShownChannel,
    known: StoredChannel | None = None,
    faults: list[ShownFault] | None = None,
    fault: str = "",
    status: int = 200,
) -> web.StreamResponse:
    notifying = parts_of(request).notifying
    trouble = None if known is None else notifying.trouble_of(known)
    return await page(
        request,
        "channel.html",
        status=status,
        here="notifications",
        form=shown,
        known=known,
        kinds=list(ChannelKind),
        trouble=None if trouble is None else say(trouble.fact, language_of(request)),
        has_key=notifying.has_key,
        faults=faults or [],
        fault=fault,
    )


async def _refused(
    request: web.Request, shown: ShownChannel, refusal: Refused, known: StoredChannel | None = None
) -> web.StreamResponse:
    language = language_of(request)
    if isinstance(refusal, InvalidInput):
        return await _form(request, shown, known, faults_of(refusal.errors, language), status=422)
    return await _form(request, shown, known, fault=say(refusal.fact, language), status=refusal.status)


REMOVE = N_("Remove the channel %(channel)s?")
REMOVED = N_(
    "Its messages are removed with it, also those that wait. Rules that name no other channel are switched "
    "off."
)
TAKEN = N_("The receiver has taken the message.")
NOT_TAKEN, FAILED = N_("The message did not arrive: %(why)s."), N_("The message did not arrive.")

ROUTES = (
    Route("GET", f"{HOME}/channels/new", get_new_channel, Role.ADMIN, "Form to add a channel", html=True),
    Route(
        "POST",
        f"{HOME}/channels/new",
        post_new_channel,
        Role.ADMIN,
        "Add a channel",
        request=ChannelForm,
        html=True,
    ),
    Route("GET", f"{HOME}/channels/{{id}}", get_channel, Role.ADMIN, "A channel", html=True),
    Route(
        "POST",
        f"{HOME}/channels/{{id}}",
        post_channel,
        Role.ADMIN,
        "Change a channel",
        request=ChannelForm,
        html=True,
    ),
    Route(
        "GET", f"{HOME}/channels/{{id}}/remove", get_removal, Role.ADMIN, "Ask to remove a channel", html=True
    ),
    Route("POST", f"{HOME}/channels/{{id}}/remove", post_removal, Role.ADMIN, "Remove a channel", html=True),
    Route("POST", f"{HOME}/channels/{{id}}/test", post_test, Role.ADMIN, "Try a channel", html=True),
)
