"""The recovery: what it does and why, what holds it back, and pausing it."""

from aiohttp import web

from infoscreen.domain import presence
from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import Conflict, InvalidInput, NotFound
from infoscreen.services.monitoring import Overview
from infoscreen.services.recovery import explain as explaining
from infoscreen.storage.recovery import decisions, incidents
from infoscreen.storage.recovery.decisions import DecisionQuery
from infoscreen.web.api import recovery_models as models
from infoscreen.web.api.clients import known_client
from infoscreen.web.api.identifiers import path_identifier
from infoscreen.web.api.models import Incident
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, actor_of, read_body, read_query, reply


async def show_recovery(request: web.Request) -> web.StreamResponse:
    """Answer with what the recovery does and why, and the decisions that match."""
    query = read_query(request, models.RecoveryQuery)
    parts = parts_of(request)
    overview = await parts.monitoring.overview()
    wanted = DecisionQuery(**query.model_dump(exclude={"limit", "cursor"}))
    async with parts.store.read() as connection:
        page = await decisions.page(connection, wanted, query.limit, query.cursor)
    listed = models.RecoveryDecisionList(
        items=[models.RecoveryDecision.of(one) for one in page.items],
        next_cursor=page.next_cursor,
        total=page.total,
    )
    return reply(models.RecoveryReport(**state_of(overview).__dict__, decisions=listed))


def state_of(overview: Overview) -> models.RecoveryState:
    """Return how the recovery is, from the newest of its polls and what has been written since."""
    poll = overview.poll
    summary = {} if poll is None else poll.summary
    budget = None
    if poll is not None:
        budget = models.RecoveryBudget(
            in_flight=summary["in_flight"],
            most_in_flight=summary["concurrent"],
            per_poll=summary["per_poll"],
        )
    return models.RecoveryState(
        mode=explaining.mode_of(overview),
        polled_at=None if poll is None else poll.at,
        holds=[models.Hold.model_validate(one) for one in explaining.holds_of(overview)],
        budget=budget,
        pauses=[models.RecoveryPause.model_validate(one) for one in overview.pauses],
        incidents=[Incident.model_validate(one) for one in overview.incidents],
        counts=summary.get("counts", {}),
    )


async def explain(request: web.Request) -> web.StreamResponse:
    """Answer with how a client is, what the recovery makes of it, and what happens next."""
    uuid = path_identifier(request, "uuid")
    return await _explanation(request, uuid)


async def acknowledge(request: web.Request) -> web.StreamResponse:
    """Note that somebody takes care of a client that the recovery has given up on."""
    uuid = path_identifier(request, "uuid")
    body = await read_body(request, models.RecoveryAcknowledgement)
    await parts_of(request).recovering.acknowledge(uuid, actor_of(request), body.comment)
    return await _explanation(request, uuid)


async def _explanation(request: web.Request, uuid: str) -> web.StreamResponse:
    parts = parts_of(request)
    overview = await parts.monitoring.overview()
    now, since = overview.generated_at, overview.broker.listening_since
    async with parts.store.read() as connection:
        client = await known_client(connection, uuid)
        known = await explaining.explain(connection, client, parts.recovering.policy, now)
    answer = models.Explanation(
        client_uuid=uuid,
        status=client.status,
        status_since=client.status_since,
        status_reason=presence.status_reason(client, since),
        mode=explaining.mode_of(overview),
        decision=None if known.decision is None else models.RecoveryDecision.of(known.decision),
        phase=known.phase,
        ladder=[models.RungState.model_validate(rung) for rung in known.rungs],
        attempts=[models.RecoveryAttempt.of(attempt) for attempt in known.attempts],
        pauses=[models.RecoveryPause.model_validate(pause) for pause in known.pauses],
        next=known.next_step,
        next_at=known.next_at,
    )
    return reply(answer)


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
        "/api/recovery",
        show_recovery,
        Role.VIEWER,
        "Show what the recovery does and why",
        query=models.RecoveryQuery,
        response=models.RecoveryReport,
        problems=(InvalidInput,),
    ),
    Route(
        "GET",
        "/api/clients/{uuid}/explain",
        explain,
        Role.VIEWER,
        "Explain what the recovery makes of a client",
        response=models.Explanation,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "POST",
        "/api/clients/{uuid}/recovery/acknowledge",
        acknowledge,
        Role.OPERATOR,
        "Take care of a client that the recovery has given up on",
        request=models.RecoveryAcknowledgement,
        response=models.Explanation,
        problems=(InvalidInput, NotFound, Conflict),
    ),
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
