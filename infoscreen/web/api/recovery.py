"""The recovery: what it does and why, what holds it back, and pausing it."""

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, InvalidInput, NotFound
from infoscreen.domain.recovery import Verb
from infoscreen.services.monitoring import Overview
from infoscreen.services.recovery import explain as explaining
from infoscreen.services.recovery.explain import ClientRecovery
from infoscreen.storage.recovery import decisions, incidents
from infoscreen.storage.recovery.decisions import DecisionQuery
from infoscreen.web.api import recovery_models as models
from infoscreen.web.api.clients import known_client
from infoscreen.web.api.identifiers import path_identifier
from infoscreen.web.api.models import IncidentModel
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, actor_of, path_number, read_body, read_query, reply
from infoscreen.words.clients import status_reason
from infoscreen.words.language import spoken
from infoscreen.words.recovery import ENDINGS, NOTHING_NEXT, NOTHING_SENT


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
    return models.RecoveryState(
        mode=explaining.mode_of(overview),
        polled_at=None if poll is None else poll.at,
        holds=[models.HoldModel.of(one) for one in explaining.holds_of(overview)],
        pauses=[models.RecoveryPause.model_validate(one) for one in overview.pauses],
        incidents=[IncidentModel.model_validate(one) for one in overview.incidents],
        counts={} if poll is None else poll.counts,
    )


async def explain(request: web.Request) -> web.StreamResponse:
    """Answer with how a client is, what the recovery makes of it, and what happens next."""
    uuid = path_identifier(request, "uuid")
    return await _explanation(request, uuid)


async def acknowledge(request: web.Request) -> web.StreamResponse:
    """Note that somebody takes care of a client, and whether the recovery keeps out of it."""
    uuid = path_identifier(request, "uuid")
    body = await read_body(request, models.AcknowledgementRequest)
    await parts_of(request).recovering.acknowledge(
        uuid, actor_of(request), body.comment, until=body.until, recovery=body.recovery
    )
    return await _explanation(request, uuid)


async def give_back(request: web.Request) -> web.StreamResponse:
    """Note that nobody takes care of a client any more."""
    uuid = path_identifier(request, "uuid")
    await parts_of(request).recovering.give_back(uuid, actor_of(request))
    return await _explanation(request, uuid)


async def acknowledge_given_up(request: web.Request) -> web.StreamResponse:
    """Note that somebody takes care of a client that the recovery has given up on; it then tries again."""
    uuid = path_identifier(request, "uuid")
    body = await read_body(request, models.RecoveryAcknowledgement)
    await parts_of(request).recovering.acknowledge(uuid, actor_of(request), body.comment, given_up=True)
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
        status_reason=status_reason(client, since),
        mode=explaining.mode_of(overview),
        decision=None if known.decision is None else models.RecoveryDecision.of(known.decision),
        phase=known.phase,
        ladder=[models.RungState.model_validate(rung) for rung in known.rungs],
        attempts=[models.RecoveryAttempt.of(attempt) for attempt in known.attempts],
        pauses=[models.RecoveryPause.model_validate(pause) for pause in known.pauses],
        acknowledgement=(
            None
            if known.acknowledgement is None
            else models.AcknowledgementModel.model_validate(known.acknowledgement)
        ),
        next=_next_step(known),
        next_at=known.next_at,
    )
    return reply(answer)


def _next_step(known: ClientRecovery) -> str:
    """Return what happens next, in the language that is asked for."""
    return spoken().gettext(_next_words(known))


def _next_words(known: ClientRecovery) -> str:
    if known.decision is None:
        return NOTHING_NEXT
    if known.decision.would and known.decision.verb is Verb.ACT:
        return NOTHING_SENT
    return ENDINGS[known.decision.ending]


async def list_incidents(request: web.Request) -> web.StreamResponse:
    """Answer with the incidents, also those that are over."""
    query = read_query(request, models.IncidentsQuery)
    async with parts_of(request).store.read() as connection:
        page = await incidents.page(connection, query.limit, query.cursor, open_only=query.open)
    return reply(models.IncidentList.model_validate(page))


MOST_MEMBERS = 1_000


async def acknowledge_incident(request: web.Request) -> web.StreamResponse:
    """Note that somebody takes care of an incident."""
    number = path_number(request, "id")
    body = await read_body(request, models.IncidentAct)
    await parts_of(request).recovering.acknowledge_incident(number, actor_of(request), body.comment)
    return await _incident(request, number)


async def dismiss_incident(request: web.Request) -> web.StreamResponse:
    """End an incident: each of its members is treated singly from now on."""
    number = path_number(request, "id")
    body = await read_body(request, models.IncidentAct)
    await parts_of(request).recovering.dismiss(number, actor_of(request), body.comment)
    return await _incident(request, number)


async def show_incident(request: web.Request) -> web.StreamResponse:
    """Answer with one incident and its members."""
    return await _incident(request, path_number(request, "id"))


async def _incident(request: web.Request, number: int) -> web.StreamResponse:
    async with parts_of(request).store.read() as connection:
        known = await incidents.get(connection, number)
        if known is None:
            raise NotFound(ErrorCode.NO_INCIDENT, id=str(number))
        members = await incidents.members(connection, [number], MOST_MEMBERS)
    told = IncidentModel.model_validate(known).model_dump()
    return reply(models.IncidentAnswer(**told, client_uuids=members[number]))


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
        "/api/clients/{uuid}/acknowledge",
        acknowledge,
        Role.OPERATOR,
        "Take care of a client, with or without the recovery",
        request=models.AcknowledgementRequest,
        response=models.Explanation,
        problems=(InvalidInput, NotFound, Conflict),
    ),
    Route(
        "DELETE",
        "/api/clients/{uuid}/acknowledge",
        give_back,
        Role.OPERATOR,
        "Give a client back that somebody takes care of",
        response=models.Explanation,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "POST",
        "/api/clients/{uuid}/recovery/acknowledge",
        acknowledge_given_up,
        Role.OPERATOR,
        "Take care of a client that the recovery has given up on",
        request=models.RecoveryAcknowledgement,
        response=models.Explanation,
        problems=(InvalidInput, NotFound, Conflict),
    ),
    Route(
        "GET",
        "/api/incidents",
        list_incidents,
        Role.VIEWER,
        "List incidents",
        query=models.IncidentsQuery,
        response=models.IncidentList,
        problems=(InvalidInput,),
    ),
    Route(
        "GET",
        "/api/recovery/incidents",
        list_incidents,
        Role.VIEWER,
        "List incidents (older address)",
        query=models.IncidentsQuery,
        response=models.IncidentList,
        problems=(InvalidInput,),
    ),
    Route(
        "GET",
        "/api/incidents/{id}",
        show_incident,
        Role.VIEWER,
        "Show an incident with its members",
        response=models.IncidentAnswer,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "POST",
        "/api/incidents/{id}/acknowledge",
        acknowledge_incident,
        Role.OPERATOR,
        "Take care of an incident",
        request=models.IncidentAct,
        response=models.IncidentAnswer,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "POST",
        "/api/incidents/{id}/dismiss",
        dismiss_incident,
        Role.OPERATOR,
        "End an incident; its members are treated singly",
        request=models.IncidentAct,
        response=models.IncidentAnswer,
        problems=(InvalidInput, NotFound, Conflict),
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
