"""What people see when something was refused or went wrong, in the panel's look and in their language."""

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlencode

from aiohttp import web

from infoscreen.domain.errors import Unauthenticated
from infoscreen.web.panel import flash
from infoscreen.web.panel.faults import faults_of
from infoscreen.web.panel.forms import see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import asked_parts, bare_page
from infoscreen.web.panel.session import login_path
from infoscreen.web.problems import Problem
from infoscreen.web.registry import route_of
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

LISTS = frozenset(
    {
        *("/audit", "/bulk", "/bulk/{batch_id}", "/clients", "/clients/{uuid}"),
        *("/incidents", "/notifications", "/sites"),
    }
)
"""Pages that show something useful also without the parts of their address that are not valid.

Not the ones that ask before something is done: without a filter they would ask about more clients.
"""


async def error_page(request: web.Request, problem: Problem) -> web.StreamResponse:
    """Answer with a page for the problem; redirects to the sign-in page if nobody is signed in."""
    if problem.slug == Unauthenticated.slug:
        return see_other(login_path(request))
    language = language_of(request)
    faults = faults_of(problem.errors or (), language)
    valid = _valid_address(request, problem)
    if valid is not None:
        parts = ", ".join(dict.fromkeys(fault.label for fault in faults))
        return flash.put(request, see_other(valid), "stale_link", parts=parts)
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
        faults=faults,
        request_id=problem.members.get("request_id"),
        plain_path=request.path if request.method == "GET" and request.query_string else None,
    )
    response.headers.update(problem.headers)
    return response


def _valid_address(request: web.Request, problem: Problem) -> str | None:
    """Return the address of a list without what is not valid in it, None where that cannot be told."""
    route = route_of(request)
    wrong = {error.field for error in problem.errors or ()}
    if (
        route is None
        or request.method != "GET"
        or route.path not in LISTS
        or asked_parts(request) is not None
    ):
        return None
    if not wrong or not wrong <= request.query.keys():
        return None
    if "cursor" in wrong:
        wrong.add("first")
    kept = [(name, value) for name, value in request.query.items() if name not in wrong]
    return f"{request.path}?{urlencode(kept)}" if kept else request.path
