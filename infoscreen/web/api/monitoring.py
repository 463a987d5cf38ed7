"""The whole at a glance, and what devices sent that could not be stored."""

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import InvalidInput
from infoscreen.services.monitoring import Overview
from infoscreen.services.recovery.explain import mode_of
from infoscreen.storage import client_lists, rejected
from infoscreen.web.api import models
from infoscreen.web.api.alert_models import AlertModel
from infoscreen.web.api.rejected_models import RejectedList, RejectedMessageModel
from infoscreen.web.api.requests import ClientsQuery, RejectedQuery
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, read_query, reply


async def show_overview(request: web.Request) -> web.StreamResponse:
    """Answer with totals of the whole fleet, the broker, and the clients that match."""
    query = read_query(request, ClientsQuery)
    parts = parts_of(request)
    overview = await parts.monitoring.overview()
    async with parts.store.read() as connection:
        page = await client_lists.search(connection, query.query(), query.limit, query.cursor)
    answer = models.OverviewModel(
        generated_at=overview.generated_at,
        totals=dict(overview.totals),
        problems=overview.problems,
        acknowledged=sum(overview.acknowledged.values()),
        broker=models.BrokerModel.model_validate(overview.broker),
        database=models.Database(
            ok=overview.database is None,
            trouble=None if overview.database is None else overview.database.trouble,
        ),
        recovery=_recovery(overview),
        alerts=[AlertModel.of(alert) for alert in overview.alerts],
        clients=models.client_list(page, overview.generated_at, overview.broker.listening_since),
    )
    return reply(answer)


def _recovery(overview: Overview) -> models.Recovery:
    return models.Recovery(
        mode=mode_of(overview),
        polled_at=None if overview.poll is None else overview.poll.at,
        counts={} if overview.poll is None else overview.poll.counts,
        incidents=[models.IncidentModel.model_validate(one) for one in overview.incidents],
        folded=overview.folded,
    )


async def list_rejected(request: web.Request) -> web.StreamResponse:
    """Answer with the newest rejected messages."""
    query = read_query(request, RejectedQuery)
    async with parts_of(request).store.read() as connection:
        page = await rejected.page(connection, query.limit, query.cursor)
    items = [RejectedMessageModel.of(message) for message in page.items]
    return reply(RejectedList(items=items, next_cursor=page.next_cursor, total=None))


ROUTES = (
    Route(
        "GET",
        "/api/monitoring/overview",
        show_overview,
        Role.VIEWER,
        "Show the whole at a glance",
        query=ClientsQuery,
        response=models.OverviewModel,
        problems=(InvalidInput,),
    ),
    Route(
        "GET",
        "/api/monitoring/rejected",
        list_rejected,
        Role.OPERATOR,
        "List the newest rejected messages",
        query=RejectedQuery,
        response=RejectedList,
        problems=(InvalidInput,),
    ),
)
