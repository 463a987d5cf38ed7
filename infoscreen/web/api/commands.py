"""Commands: asking for them, one or many, following them, and withdrawing them."""

from aiohttp import web

from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.commands import Action, Source
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import (
    ClientStarting,
    CommandInFlight,
    Conflict,
    Forbidden,
    InvalidInput,
    LockedOut,
    NoOutlet,
    NotFound,
    OutletInUse,
    OutletProtected,
    OutletShared,
    TooManyCycles,
)
from infoscreen.storage import command_history, commands
from infoscreen.storage.commands import CommandQuery
from infoscreen.web.api import models
from infoscreen.web.api.bulk_models import BatchModel
from infoscreen.web.api.clients import known_client
from infoscreen.web.api.identifiers import path_identifier
from infoscreen.web.api.requests import BulkRequest, CommandOptions, CommandRequest, CommandsQuery
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import BULK_BODY_LIMIT, Route, actor_of, read_body, read_query, reply
from infoscreen.web.shapes import Paging


async def request_command(request: web.Request) -> web.StreamResponse:
    """Queue a command for a client."""
    body = await read_body(request, CommandRequest)
    return await _queue(request, body.action, body)


async def restart_client(request: web.Request) -> web.StreamResponse:
    """Queue a reboot, by its older name."""
    return await _queue(request, Action.REBOOT_HOST, await read_body(request, CommandOptions))


async def shut_client_down(request: web.Request) -> web.StreamResponse:
    """Queue a shutdown, by its older name."""
    return await _queue(request, Action.SHUTDOWN_HOST, await read_body(request, CommandOptions))


async def _queue(request: web.Request, action: Action, options: CommandOptions) -> web.StreamResponse:
    actor = actor_of(request)
    command = await parts_of(request).commanding.request(
        path_identifier(request, "uuid"),
        action,
        source=_source(actor),
        actor=actor,
        reason=options.reason,
        expires_in=options.lifetime,
        force=options.force,
        when_back=options.when_back,
    )
    return reply(models.QueuedCommand(command=models.CommandModel.of(command)), status=202)


async def request_commands(request: web.Request) -> web.StreamResponse:
    """Queue the same command for many clients."""
    body = await read_body(request, BulkRequest)
    actor = actor_of(request)
    batch = await parts_of(request).bulk.request(
        body.targets(),
        body.action,
        source=_source(actor),
        actor=actor,
        reason=body.reason,
        when_back=body.when_back,
        expires_in=body.lifetime,
    )
    return reply(BatchModel.model_validate(batch), status=202)


async def list_commands(request: web.Request) -> web.StreamResponse:
    """Answer with the commands that match."""
    query = read_query(request, CommandsQuery)
    async with parts_of(request).store.read() as connection:
        page = await commands.search(connection, query.query(), query.limit, query.cursor)
    return reply(models.CommandList.of(page))


async def list_commands_of_client(request: web.Request) -> web.StreamResponse:
    """Answer with the commands of one client."""
    uuid = path_identifier(request, "uuid")
    query = read_query(request, Paging)
    async with parts_of(request).store.read() as connection:
        await known_client(connection, uuid)
        page = await commands.search(connection, CommandQuery(client_uuid=uuid), query.limit, query.cursor)
    return reply(models.CommandList.of(page))


async def show_command(request: web.Request) -> web.StreamResponse:
    """Answer with one command and its history."""
    command_id = path_identifier(request, "command_id")
    async with parts_of(request).store.read() as connection:
        command = await commands.get(connection, command_id)
        if command is None:
            raise NotFound(ErrorCode.NO_COMMAND, id=command_id)
        events = await command_history.events(connection, command_id)
    return reply(models.CommandWithEvents.told(command, events))


async def cancel_command(request: web.Request) -> web.StreamResponse:
    """Withdraw a command that is still queued."""
    command_id = path_identifier(request, "command_id")
    command = await parts_of(request).commanding.cancel(command_id, actor_of(request))
    return reply(models.CommandModel.of(command))


def _source(actor: Actor) -> Source:
    return Source.API if actor.via == "token" else Source.OPERATOR


_REFUSALS = (
    *(InvalidInput, NotFound, Forbidden, CommandInFlight, LockedOut),
    *(NoOutlet, OutletProtected, OutletShared, OutletInUse, ClientStarting, TooManyCycles),
)

ROUTES = (
    Route(
        "POST",
        "/api/clients/{uuid}/commands",
        request_command,
        Role.OPERATOR,
        "Request a command for a client",
        request=CommandRequest,
        response=models.QueuedCommand,
        status=202,
        problems=_REFUSALS,
    ),
    Route(
        "POST",
        "/api/clients/{uuid}/restart",
        restart_client,
        Role.OPERATOR,
        "Request reboot_host (older name)",
        request=CommandOptions,
        response=models.QueuedCommand,
        status=202,
        problems=_REFUSALS,
    ),
    Route(
        "POST",
        "/api/clients/{uuid}/shutdown",
        shut_client_down,
        Role.OPERATOR,
        "Request shutdown_host (older name)",
        request=CommandOptions,
        response=models.QueuedCommand,
        status=202,
        problems=_REFUSALS,
    ),
    Route(
        "POST",
        "/api/commands",
        request_commands,
        Role.OPERATOR,
        "Request a command for many clients",
        request=BulkRequest,
        response=BatchModel,
        status=202,
        problems=(InvalidInput, Conflict),
        body_limit=BULK_BODY_LIMIT,
    ),
    Route(
        "GET",
        "/api/clients/{uuid}/commands",
        list_commands_of_client,
        Role.VIEWER,
        "List the commands of a client",
        query=Paging,
        response=models.CommandList,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "GET",
        "/api/commands",
        list_commands,
        Role.VIEWER,
        "List commands",
        query=CommandsQuery,
        response=models.CommandList,
        problems=(InvalidInput,),
    ),
    Route(
        "GET",
        "/api/commands/{command_id}",
        show_command,
        Role.VIEWER,
        "Show a command with its history",
        response=models.CommandWithEvents,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "GET",
        "/api/clients/commands/{command_id}",
        show_command,
        Role.VIEWER,
        "Show a command with its history (older path)",
        response=models.CommandWithEvents,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "POST",
        "/api/commands/{command_id}/cancel",
        cancel_command,
        Role.OPERATOR,
        "Withdraw a command that is still queued",
        response=models.CommandModel,
        problems=(InvalidInput, NotFound, Conflict),
    ),
)
