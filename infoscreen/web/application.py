"""The aiohttp application, made from the registry and the parts of the daemon."""

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from infoscreen.web.auth import authorize
from infoscreen.web.keys import ERROR_PAGE, PARTS, Parts
from infoscreen.web.middleware import SECURITY_HEADERS, observe, set_headers, tell_problems
from infoscreen.web.panel.errors import error_page
from infoscreen.web.panel.undo import UNDOS, Undos
from infoscreen.web.problems import problem_of_status
from infoscreen.web.registry import BULK_BODY_LIMIT, ROUTE_OF, Route
from infoscreen.web.routes import ROUTES

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 75
"""Also the time a new connection has for its first request head."""


DRAIN_SECONDS = 0.75
"""How long a stop waits for requests to be answered, and then as long again for them to give up."""


def create_app(parts: Parts) -> web.Application:
    """Return the application; nothing is opened and nothing runs before it is served."""
    app = web.Application(middlewares=(observe, tell_problems, authorize), client_max_size=BULK_BODY_LIMIT)
    app[PARTS] = parts
    app[ERROR_PAGE] = error_page
    app[UNDOS] = Undos()
    app[ROUTE_OF] = {declared: route for route in ROUTES for declared in _declare(app, route)}
    app.on_response_prepare.append(set_headers)
    return app


def create_runner(app: web.Application) -> web.AppRunner:
    """Return the server for the application with its limits: 8 KiB per header line, 128 of them."""
    return _Runner(
        app,
        keepalive_timeout=KEEPALIVE_SECONDS,
        handle_signals=False,
        shutdown_timeout=DRAIN_SECONDS,
        access_log=None,
        logger=_ServerLog(log),
    )


class _Protocol(web.RequestHandler):
    """Answers what is no HTTP, which never reaches the application, as everything else is answered."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return a problem document with our headers; aiohttp's own answer is text with its version."""
        super().handle_error(request, status, exc, message)  # logs, and raises if an answer has begun
        answer = problem_of_status(status).response()
        answer.headers.update({**SECURITY_HEADERS, "Cache-Control": "no-store"})
        answer.force_close()
        return answer


class _Server(web.Server):
    """Makes our protocol for each connection instead of aiohttp's."""

    def __init__(self, like: web.Server, **options: Any) -> None:
        super().__init__(like.request_handler, request_factory=like.request_factory, **options)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._options)


class _Runner(web.AppRunner):
    """aiohttp has no public way to another protocol; tests/test_withstand_requests.py fails when it moves."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), **self._kwargs)


class _ServerLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp has to say, but no traceback for everybody who sends no HTTP or leaves halfway."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log, at debug level what the sender is to blame for."""
        error = kwargs.get("exc_info")
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            self.logger.debug("bad HTTP was refused", extra={"event": "http.bad_request"})
        elif isinstance(error, ConnectionError):
            self.logger.debug("somebody left in the middle of a request", extra={"event": "http.left"})
        else:
            super().log(level, msg, *args, **kwargs)


def _declare(app: web.Application, route: Route) -> list[web.AbstractRoute]:
    methods = [route.method]
    if route.method == "GET" and route.content != "text/event-stream":
        methods.append("HEAD")
    return [
        app.router.add_route(method, route.path, route.handler, expect_handler=_expect) for method in methods
    ]


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Answer an Expect header: go on with the body, or a problem for any other expectation."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        return problem_of_status(417).response()
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # this was not yet the answer
    return None
