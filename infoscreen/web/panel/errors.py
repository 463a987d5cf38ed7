"""What people see when something was refused or went wrong, in the panel's look and in their language."""

from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web

from infoscreen.domain.errors import Unauthenticated
from infoscreen.web.panel.forms import see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import bare_page
from infoscreen.web.panel.session import login_path
from infoscreen.web.problems import Problem
from infoscreen.words.language import N_

SENTENCES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "not-found": (
            N_("There is nothing here"),
            N_("The address is wrong, or what was here has been removed."),
        ),
        "forbidden": (
            N_("You may not do that"),
            N_("It needs a higher role than yours. Ask an administrator."),
        ),
        "cross-site": (
            N_("The request came from elsewhere"),
            N_(
                "For your protection, forms are only taken from pages of this panel. Go back and load "
                "it again."
            ),
        ),
        "invalid-input": (N_("That cannot be right"), N_("Some of what was sent is not valid.")),
        "store-unavailable": (
            N_("The database does not answer just now"),
            N_("Nothing is lost. Try again in a few seconds."),
        ),
        "internal-error": (
            N_("Something went wrong here"),
            N_("The fault is on the server. Its log has the reason under the number of the request."),
        ),
        "conflict": (
            N_("That is not possible just now"),
            N_("Somebody was faster. Look again how things are."),
        ),
        "method-not-allowed": (
            N_("That does not work this way"),
            N_("This address cannot be called like that. Go back and use the button again."),
        ),
    }
)

OTHER = (N_("The request was refused"), N_("Go back and try again."))


async def error_page(request: web.Request, problem: Problem) -> web.StreamResponse:
    """Answer with a page for the problem; whoever is not signed in is asked to do so first."""
    if problem.slug == Unauthenticated.slug:
        return see_other(login_path(request))
    _ = language_of(request).gettext
    title, sentence = SENTENCES.get(problem.slug, OTHER)
    response = bare_page(
        request,
        "error.html",
        status=problem.status,
        problem=problem,
        title=_(title),
        sentence=_(sentence),
        faults=problem.extra.get("errors", []),
        request_id=problem.extra.get("request_id"),
    )
    response.headers.update(problem.headers)
    return response
