"""Commands for many clients: what they would do, how far they are, and stopping them."""

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import InvalidInput, NotFound
from infoscreen.storage import bulk
from infoscreen.web.api import bulk_models as models
from infoscreen.web.api.identifiers import path_identifier
from infoscreen.web.api.requests import BulkRequest
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import BULK_BODY_LIMIT, Route, actor_of, read_body, read_query, reply
from infoscreen.web.shapes import Paging


async def preview_commands(request: web.Request) -> web.StreamResponse:
    """Answer with what a bulk request would do now."""
    body = await read_body(request, BulkRequest)
    outcomes = await parts_of(request).bulk.preview(body.targets(), body.action, when_back=body.when_back)
    return reply(models.BulkPreviewModel.of(outcomes))


async def list_bulk_actions(request: web.Request) -> web.StreamResponse:
    """Answer with bulk actions, newest first."""
    query = read_query(request, Paging)
    async with parts_of(request).store.read() as connection:
        page = await bulk.newest(connection, query.limit, query.cursor)
        progress = await bulk.progress(connection, [one.batch_id for one in page.items])
    items = [models.BulkActionModel.of(one, progress[one.batch_id]) for one in page.items]
    return reply(models.BulkActionList(items=items, next_cursor=page.next_cursor, total=page.total))


async def show_bulk_action(request: web.Request) -> web.StreamResponse:
    """Answer with a bulk action and how far it is."""
    one, progress = await parts_of(request).bulk.progress(path_identifier(request, "batch_id"))
    return reply(models.BulkActionModel.of(one, progress))


async def list_bulk_results(request: web.Request) -> web.StreamResponse:
    """Answer with what became of each client of a bulk action."""
    batch_id = path_identifier(request, "batch_id")
    query = read_query(request, Paging)
    await parts_of(request).bulk.progress(batch_id)
    async with parts_of(request).store.read() as connection:
        page = await bulk.lines(connection, batch_id, query.limit, query.cursor)
    items = [models.BulkLineModel.model_validate(line) for line in page.items]
    return reply(models.BulkLineList(items=items, next_cursor=page.next_cursor, total=page.total))


async def stop_bulk_action(request: web.Request) -> web.StreamResponse:
    """Withdraw what a bulk action has not sent yet."""
    batch_id = path_identifier(request, "batch_id")
    await parts_of(request).bulk.stop(batch_id, actor_of(request))
    one, progress = await parts_of(request).bulk.progress(batch_id)
    return reply(models.BulkActionModel.of(one, progress))


ROUTES = (
    Route(
        "POST",
        "/api/commands/preview",
        preview_commands,
        Role.OPERATOR,
        "Tell what a command for many clients would do now",
        request=BulkRequest,
        response=models.BulkPreviewModel,
        problems=(InvalidInput,),
        body_limit=BULK_BODY_LIMIT,
    ),
    Route(
        "GET",
        "/api/bulk",
        list_bulk_actions,
        Role.VIEWER,
        "List commands for many clients",
        query=Paging,
        response=models.BulkActionList,
        problems=(InvalidInput,),
    ),
    Route(
        "GET",
        "/api/bulk/{batch_id}",
        show_bulk_action,
        Role.VIEWER,
        "Show how far a command for many clients is",
        response=models.BulkActionModel,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "GET",
        "/api/bulk/{batch_id}/results",
        list_bulk_results,
        Role.VIEWER,
        "List what became of each client",
        query=Paging,
        response=models.BulkLineList,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "POST",
        "/api/bulk/{batch_id}/stop",
        stop_bulk_action,
        Role.OPERATOR,
        "Withdraw what was not sent yet",
        response=models.BulkActionModel,
        problems=(InvalidInput, NotFound),
    ),
)
