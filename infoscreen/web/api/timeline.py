"""What happened to a client, merged from everything that is kept."""

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import InvalidInput, NotFound
from infoscreen.storage import timeline
from infoscreen.web.api import models
from infoscreen.web.api.clients import known_client
from infoscreen.web.api.identifiers import path_identifier
from infoscreen.web.api.requests import TimelineQuery
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, read_query, reply


async def show_timeline(request: web.Request) -> web.StreamResponse:
    """Answer with a page of the client's timeline."""
    uuid = path_identifier(request, "uuid")
    query = read_query(request, TimelineQuery)
    async with parts_of(request).store.read() as connection:
        await known_client(connection, uuid)
        page = await timeline.page(connection, uuid, query.limit, query.cursor, query.kind)
    return reply(models.Timeline.of(page))


ROUTES = (
    Route(
        "GET",
        "/api/clients/{uuid}/timeline",
        show_timeline,
        Role.VIEWER,
        "Show what happened to a client",
        query=TimelineQuery,
        response=models.Timeline,
        problems=(InvalidInput, NotFound),
    ),
)
