"""What people see when something was refused or went wrong, in the panel's look and in their language."""

from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web

from infoscreen.domain.errors import Unauthenticated
from infoscreen.web.panel.faults import faults_of
from infoscreen.web.panel.forms import see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import bare_page
from infoscreen.web.panel.session import login_path
from infoscreen.web.problems import Problem
from infoscreen.words.errors import title
from infoscreen.words.language import N_
from infoscreen.words.speaking import say

SENTENCES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "not-found": (
            N_("Page not found"),
            N_("The address is wrong, or what was here has been removed."),
        ),
        "cross-site": (
            N_("The request came from another site"),
            N_(
                "For your protection, forms are only accepted from pages of this panel. Go back and "
                "reload the page."
            ),
        ),
        "invalid-input": (N_("Invalid input"), N_("Some of the values are not valid.")),
        "store-unavailable": (
            N_("The database is not responding"),
            N_("Nothing is lost. Try again in a few seconds."),
        ),
        "query-too-expensive": (
            N_("This takes the database too long"),
            N_("The page was cut off so that others need not wait. Narrow it down, for example by a filter."),
        ),
        "internal-error": (
            N_("Something went wrong"),
            N_("The fault is on the server. Its log has the details under the request id."),
        ),
        "method-not-allowed": (
            N_("Not possible this way"),
            N_("This address does not accept this method. Go back and use the button."),
        ),
    }
)
"""Where people are told something else than programs, by the slug of the problem: title and sentence."""


async def error_page(request: web.Request, problem: Problem) -> web.StreamResponse:
    """Answer with a page for the problem; redirects to the sign-in page if nobody is signed in."""
    if problem.slug == Unauthenticated.slug:
        return see_other(login_path(request))
    language = language_of(request)
    if problem.slug in SENTENCES:
        heading, sentence = map(language.gettext, SENTENCES[problem.slug])
    else:
        heading, sentence = title(problem.slug, problem.status, language), say(problem.fact, language)
    response = bare_page(
        request,
        "error.html",
        status=problem.status,
        problem=problem,
        title=heading,
        sentence=sentence,
        faults=faults_of(problem.errors or (), language),
        request_id=problem.members.get("request_id"),
        plain_path=request.path if request.method == "GET" and request.query_string else None,
    )
    response.headers.update(problem.headers)
    return response
