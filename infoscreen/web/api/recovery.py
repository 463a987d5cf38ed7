"""The recovery: what it does and why, what holds it back, and pausing it."""

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import InvalidInput, NotFound
from infoscreen.storage import incidents
from infoscreen.web.api import recovery_models as models
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, actor_of, read_body, read_query, reply


async def list_incidents(request: web.Request) -> web.StreamResponse:
    """Answer with the incidents, also those that are over."""
    query = read_query(request, models.IncidentsQuery)
    async with parts_of(request).store.read() as connection:
        page = await incidents.page(connection, query.limit, query.cursor)
    return reply(models.IncidentList.model_validate(page))


async def pause(request: web.Request) -> web.StreamResponse:
    """Leave a client, a site or the fleet alone until a time."""
    body = await read_body(request, models.PauseRequest)
    paused = await parts_of(request).pausing.pause(
        body.scope,
        body.reason,
        body.until,
        actor_of(request),
        site=body.site,
        client_uuid=body.client_uuid,
    )
    return reply(models.RecoveryPause.model_validate(paused))


async def resume(request: web.Request) -> web.StreamResponse:
    """End a pause."""
    body = await read_body(request, models.ResumeRequest)
    ended = await parts_of(request).pausing.resume(
        body.scope, actor_of(request), site=body.site, client_uuid=body.client_uuid
    )
    return reply(models.EndedPauses(ended=[models.RecoveryPause.model_validate(one) for one in ended]))


ROUTES = (
    Route(
        "GET",
        "/api/recovery/incidents",
        list_incidents,
        Role.VIEWER,
        "List incidents",
        query=models.IncidentsQuery,
        response=models.IncidentList,
        problems=(InvalidInput,),
    ),
    Route(
        "POST",
        "/api/recovery/pause",
        pause,
        Role.OPERATOR,
        "Pause the recovery of a client, a site or the fleet",
        request=models.PauseRequest,
        response=models.RecoveryPause,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "POST",
        "/api/recovery/resume",
        resume,
        Role.OPERATOR,
        "End the pause of a client, a site or the fleet",
        request=models.ResumeRequest,
        response=models.EndedPauses,
        problems=(InvalidInput, NotFound),
    ),
)
