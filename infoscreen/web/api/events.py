"""The event stream of the live view."""

import asyncio
from contextlib import suppress

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import InvalidInput, StoreUnavailable, TooManyStreams
from infoscreen.web.api.requests import StreamQuery
from infoscreen.web.auth import identify
from infoscreen.web.keys import parts_of
from infoscreen.web.live import Viewer, frame
from infoscreen.web.registry import Route, actor_of, read_query

SEND_SECONDS = 30
"""A viewer whose connection takes nothing for so long is gone."""

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would keep events back until there are many
}

ALIVE = b": heartbeat\n" + frame("alive", b"{}")
"""Tells a quiet stream from a dead one: a comment for programs, an event for pages, which see no comments."""


async def stream_events(request: web.Request) -> web.StreamResponse:
    """Send events until the viewer leaves, is signed out, or the daemon stops."""
    query = read_query(request, StreamQuery)
    live = parts_of(request).live
    with live.join(actor_of(request), query.client_uuid) as viewer:
        hello = await live.hello()
        if request.transport is None:
            return web.Response(status=204)  # the viewer has left already; nobody reads this
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        with suppress(ConnectionError, TimeoutError):
            async with viewer.until_end():
                await response.write(hello)
                await _relay(request, response, viewer)
        _drop_unsent(request)
    return response


async def _relay(request: web.Request, response: web.StreamResponse, viewer: Viewer) -> None:
    parts = parts_of(request)
    clock, interval = parts.clock, parts.live.keepalive_seconds
    check_at = clock.monotonic() + interval
    while True:
        frames = await viewer.take(parts.live.heartbeat_seconds) or ALIVE
        if viewer.is_doubted or clock.monotonic() >= check_at:
            viewer.is_doubted = False
            if request.transport is None or not await _may_still(request):
                return
            check_at = clock.monotonic() + interval
        async with asyncio.timeout(SEND_SECONDS):
            await response.write(frames)


async def _may_still(request: web.Request) -> bool:
    try:
        actor = await identify(request)
    except StoreUnavailable:
        # A locked database signs nobody out; the next keepalive asks again.
        return True
    return actor is not None and actor.role.may(Role.VIEWER)


def _drop_unsent(request: web.Request) -> None:
    """Cut a connection that does not take what was sent, or ending it properly would wait for it."""
    transport = request.transport
    if transport is not None and transport.get_write_buffer_size() > 0:
        transport.abort()


ROUTES = (
    Route(
        "GET",
        "/api/events",
        stream_events,
        Role.VIEWER,
        "Follow changes as server-sent events",
        query=StreamQuery,
        problems=(InvalidInput, TooManyStreams),
        content="text/event-stream",
    ),
)
