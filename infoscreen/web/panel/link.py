"""The links in messages: one page that asks whether to acknowledge an incident, and its button."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from aiohttp import web
from pydantic import Field, StringConstraints

from infoscreen.domain.accounts import Role
from infoscreen.services.notify.links import NAME_LENGTH, FollowedLink, LinkOutcome
from infoscreen.web.keys import parts_of
from infoscreen.web.origin import client_address
from infoscreen.web.panel.forms import Address, Form, Line, Optional
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import bare_page
from infoscreen.web.registry import Route, maybe_actor, read_form, read_query
from infoscreen.words.language import N_

SENTENCES: Mapping[LinkOutcome, tuple[int, str]] = MappingProxyType(
    {
        LinkOutcome.OPEN: (200, ""),
        LinkOutcome.DONE: (200, N_("Thank you, it is noted.")),
        LinkOutcome.UNKNOWN: (404, N_("This link is not valid. Sign in to acknowledge the incident.")),
        LinkOutcome.ENDED: (410, N_("This link is older than a day. Sign in to acknowledge the incident.")),
        LinkOutcome.USED: (410, N_("This link has been used before.")),
        LinkOutcome.ACKNOWLEDGED: (409, N_("Somebody takes care of it already.")),
        LinkOutcome.OVER: (409, N_("The incident is over already.")),
    }
)
"""The status of the page, and what it says."""

Token = Annotated[str, Field(max_length=500)]


class LinkAddress(Address):
    """A link."""

    t: Token = ""


class LinkForm(Form):
    """Somebody takes care of the incident that a link names."""

    t: Token = ""
    name: Annotated[
        Annotated[str, StringConstraints(strip_whitespace=True, max_length=NAME_LENGTH)] | None, Optional
    ] = None
    comment: Annotated[Line | None, Optional] = None


async def get_link(request: web.Request) -> web.StreamResponse:
    """Ask. Changes nothing, also when a scanner opens the link."""
    token = read_query(request, LinkAddress).t
    return _page(request, await parts_of(request).links.look(token), token)


async def post_link(request: web.Request) -> web.StreamResponse:
    """Acknowledge the incident."""
    form = await read_form(request, LinkForm)
    actor, name = maybe_actor(request), form.name
    if actor is not None and not actor.role.may(Role.OPERATOR):
        # The link is what allows it, as for those who are not signed in.
        name, actor = actor.name, None
    linked = await parts_of(request).links.acknowledge(
        form.t, actor=actor, address=client_address(request), name=name, comment=form.comment
    )
    return _page(request, linked, form.t)


def _page(request: web.Request, linked: FollowedLink, token: str) -> web.Response:
    status, sentence = SENTENCES[linked.state]
    return bare_page(
        request,
        "link.html",
        status=status,
        state=linked.state,
        sentence=language_of(request).gettext(sentence) if sentence else "",
        incident=linked.incident,
        clients=linked.clients,
        token=token,
    )


ROUTES = (
    Route("GET", "/link", get_link, None, "Ask to acknowledge an incident", query=LinkAddress, html=True),
    Route("POST", "/link", post_link, None, "Acknowledge an incident by a link", request=LinkForm, html=True),
)
