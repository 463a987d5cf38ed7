"""Bulk actions in the panel: the question with what would be refused, the progress, and the stop."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.domain.bulk import BulkOutcome
from infoscreen.domain.commands import Source
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import InvalidInput, NotFound
from infoscreen.services.bulk import MOST_IN_A_BATCH
from infoscreen.storage import bulk, client_lists
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.clients import ClientTable
from infoscreen.web.panel.forms import BulkAddress, BulkForm, PageAddress, see_other
from infoscreen.web.panel.questions import MOST_UNTYPED, WAITS
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import BULK_BODY_LIMIT, Route, actor_of, path_uuid, read_form, read_query

ROWS = 100
NAMED = 200
"""So many clients a question names of each kind."""

AWAY = (BulkOutcome.UNREACHABLE, BulkOutcome.SWITCHED_OFF, BulkOutcome.NEVER_CONNECTED)


@dataclass(frozen=True, slots=True)
class Group:
    """Clients with the same prospect, as a question shows them; ``names`` are the first of them."""

    outcome: BulkOutcome
    count: int
    names: list[str]


async def get_question(request: web.Request) -> web.StreamResponse:
    """Ask whether the action is really meant for these clients, and show what would be refused."""
    asked = read_query(request, BulkAddress)
    parts = parts_of(request)
    targets = _targets(request, asked)
    back = ClientTable(asked, parts.clock.now()).link()
    if not targets:
        return flash.put(request, see_other(back), "none_chosen")
    when_back = asked.when_back == "1"
    try:
        outcomes = await parts.bulk.preview(targets, asked.action, when_back=when_back)
    except InvalidInput:
        return flash.put(request, see_other(back), "bulk_too_many", most=str(MOST_IN_A_BATCH))
    if not outcomes:
        return flash.put(request, see_other(back), "none_chosen")
    groups = await _groups(request, outcomes)
    fit = [uuid for uuid, outcome in outcomes.items() if outcome is BulkOutcome.QUEUED]
    return await page(
        request,
        "bulk_question.html",
        here="clients",
        asked=asked,
        fit=next((group for group in groups if group.outcome is BulkOutcome.QUEUED), None),
        refused=[group for group in groups if group.outcome is not BulkOutcome.QUEUED],
        away=any(group.outcome in AWAY for group in groups),
        uuids=",".join(fit),
        typed=str(len(fit)) if len(fit) > MOST_UNTYPED else None,
        when_back=when_back,
        waits=WAITS,
        also="/bulk/new?" + urlencode([*request.query.items(), ("when_back", "1")]),
        back=back,
    )


def _targets(request: web.Request, asked: BulkAddress) -> list[str] | ClientQuery:
    if asked.scope == "all":
        return ClientTable(asked, parts_of(request).clock.now()).query()
    return asked.client


async def _groups(request: web.Request, outcomes: Mapping[str, BulkOutcome]) -> list[Group]:
    by_outcome: dict[BulkOutcome, list[str]] = {}
    for uuid, outcome in outcomes.items():
        by_outcome.setdefault(outcome, []).append(uuid)
    named = [uuid for uuids in by_outcome.values() for uuid in uuids[:NAMED]]
    async with parts_of(request).store.read() as connection:
        labels = await client_lists.labels(connection, named)
    return [
        Group(outcome, len(uuids), [labels.get(uuid, uuid) for uuid in uuids[:NAMED]])
        for outcome, uuids in sorted(by_outcome.items(), key=lambda one: -len(one[1]))
    ]


async def post_bulk(request: web.Request) -> web.StreamResponse:
    """Begin with the clients that the question named as fit, each on its own merits."""
    form = await read_form(request, BulkForm)
    uuids = form.uuids
    if len(uuids) > MOST_UNTYPED and form.typed != str(len(uuids)):
        return flash.put(request, see_other("/clients"), "miscounted")
    if not uuids:
        return flash.put(request, see_other("/clients"), "none_chosen")
    batch = await parts_of(request).bulk.request(
        uuids,
        form.action,
        source=Source.OPERATOR,
        actor=actor_of(request),
        reason=form.reason,
        when_back=form.lasts != "",
        expires_in=WAITS[form.lasts][0] if form.lasts else None,
    )
    return see_other(f"/bulk/{batch.batch_id}")


async def get_bulk_actions(request: web.Request) -> web.StreamResponse:
    """List bulk actions, newest first."""
    asked = read_query(request, PageAddress)
    async with parts_of(request).store.read() as connection:
        shown = await bulk.newest(connection, ROWS, asked.cursor or None)
        progress = await bulk.progress(connection, [one.batch_id for one in shown.items])
    return await page(request, "bulk_actions.html", here="bulk", shown=shown, progress=progress, asked=asked)


async def get_bulk_action(request: web.Request) -> web.StreamResponse:
    """Show how far a bulk action is, and what became of each client."""
    batch_id = path_uuid(request, "batch_id")
    asked = read_query(request, PageAddress)
    async with parts_of(request).store.read() as connection:
        one = await bulk.get(connection, batch_id)
        if one is None:
            raise NotFound(ErrorCode.NO_BULK_ACTION, id=batch_id)
        progress = (await bulk.progress(connection, [batch_id]))[batch_id]
        lines = await bulk.lines(connection, batch_id, ROWS, asked.cursor or None)
    return await page(
        request, "bulk_action.html", here="bulk", one=one, progress=progress, lines=lines, asked=asked
    )


async def post_stop(request: web.Request) -> web.StreamResponse:
    """Withdraw what was not sent yet."""
    batch_id = path_uuid(request, "batch_id")
    stopped = await parts_of(request).bulk.stop(batch_id, actor_of(request))
    return flash.put(request, see_other(f"/bulk/{batch_id}"), "bulk_stopped", count=str(stopped))


ROUTES = (
    Route(
        "GET",
        "/bulk/new",
        get_question,
        Role.OPERATOR,
        "Ask whether an action is meant for these clients",
        query=BulkAddress,
        html=True,
    ),
    Route("GET", "/bulk", get_bulk_actions, Role.VIEWER, "Bulk actions", query=PageAddress, html=True),
    Route(
        "POST",
        "/bulk",
        post_bulk,
        Role.OPERATOR,
        "Begin a bulk action",
        request=BulkForm,
        body_limit=BULK_BODY_LIMIT,
        html=True,
    ),
    Route(
        "GET",
        "/bulk/{batch_id}",
        get_bulk_action,
        Role.VIEWER,
        "A bulk action",
        query=PageAddress,
        html=True,
    ),
    Route("POST", "/bulk/{batch_id}/stop", post_stop, Role.OPERATOR, "Stop a bulk action", html=True),
)
