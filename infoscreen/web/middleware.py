"""What happens around every request: an id, a count, the security headers, and errors told as problems."""

import logging
import secrets

from aiohttp import web
from aiohttp.typedefs import Handler

from infoscreen.domain.errors import Refused, StoreUnavailable
from infoscreen.web.keys import ERROR_PAGE, REQUEST_ID, STARTED, parts_of
from infoscreen.web.problems import Problem, asked_language, our_fault, problem_of
from infoscreen.web.registry import route_of
from infoscreen.words.language import speaking

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

CLIENT_LEFT = 499
"""Counted, as nginx does, for a request whose sender went away before it was answered: no fault of ours."""

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "infoscreen",
}


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id and count it when it is answered."""
    request[REQUEST_ID] = secrets.token_hex(8)
    parts = parts_of(request)
    began = parts.clock.monotonic()
    status = 500
    try:
        response = await handler(request)
        status = response.status
    except web.HTTPException as redirect:
        status = redirect.status
        raise
    except ConnectionError:
        status = CLIENT_LEFT
        raise
    finally:
        route = route_of(request)
        # What strangers make up must not become a label: there is no end to methods and paths.
        method, pattern = ("none", "none") if route is None else (route.method, route.path)
        parts.metrics.http_request(method, pattern, status, parts.clock.monotonic() - began)
    return response


@web.middleware
async def tell_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into a problem document, or into a page for people."""
    try:
        if wants_page(request):
            return await handler(request)
        with speaking(asked_language(request)):
            return await handler(request)
    except ConnectionError:
        # The client went away while it was being answered; aiohttp closes the connection.
        raise
    except Exception as error:
        redirects = isinstance(error, web.HTTPException) and error.status < 400
        if redirects or request.get(STARTED):
            raise
        problem = _problem(request, error)
    return await _answer(request, problem)


def _problem(request: web.Request, error: Exception) -> Problem:
    if isinstance(error, Refused | StoreUnavailable | web.HTTPException):
        return problem_of(error)
    log.error(
        "request failed",
        exc_info=error,
        extra={
            "event": "http.request_failed",
            "request_id": request[REQUEST_ID],
            "method": request.method,
            "path": request.path,
        },
    )
    return our_fault(request[REQUEST_ID])


async def _answer(request: web.Request, problem: Problem) -> web.StreamResponse:
    page = request.app.get(ERROR_PAGE)
    if page is not None and wants_page(request):
        return await page(request, problem)
    return problem.response(asked_language(request))


def wants_page(request: web.Request) -> bool:
    """Tell whether people, not programs, read the answer."""
    route = route_of(request)
    if route is not None:
        return route.html
    return not request.path.startswith("/api/") and "text/html" in request.headers.get("Accept", "")


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put the security headers on an answer whose head is about to be sent."""
    request[STARTED] = True
    response.headers.update(SECURITY_HEADERS)
    if "Sec-Fetch-Site" not in request.headers and wants_page(request):
        # Such a browser proves by Origin where a form came from, and with no-referrer it sends "null" there.
        response.headers["Referrer-Policy"] = "same-origin"
    if REQUEST_ID in request:
        response.headers["X-Request-Id"] = request[REQUEST_ID]
    response.headers.setdefault("Cache-Control", "no-store")
    if request.path.startswith("/api/") and response.content_type == "application/json":
        response.headers["Content-Language"] = asked_language(request).code
        response.headers["Vary"] = "Accept-Language"
