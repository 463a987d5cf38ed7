"""Clients: finding them, describing them, acknowledging their failures, removing them."""

from dataclasses import replace
from functools import partial

from aiohttp import web

from infoscreen.domain import clients as domain
from infoscreen.domain.accounts import Role
from infoscreen.domain.clients import STALE, Condition
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Forbidden, InvalidInput, NotFound, OutletShared, SecretUnreadable
from infoscreen.domain.events import ClientChanged
from infoscreen.domain.faults import FieldFault
from infoscreen.storage import client_lists, clients, commands, screenshots, sites, waiting
from infoscreen.storage.engine import Connection
from infoscreen.web.api import models
from infoscreen.web.api.identifiers import path_identifier
from infoscreen.web.api.power import require_admin
from infoscreen.web.api.requests import Acknowledgement, ClientChanges, ClientsQuery, UnwellQuery
from infoscreen.web.keys import Parts, parts_of
from infoscreen.web.registry import Route, actor_of, no_content, read_body, read_query, reply


async def known_client(connection: Connection, uuid: str) -> domain.Client:
    """Return the client; raise ``NotFound``."""
    client = await clients.get(connection, uuid)
    if client is None:
        raise NotFound(ErrorCode.NO_CLIENT, uuid=uuid)
    return client


async def list_clients(request: web.Request) -> web.StreamResponse:
    """Answer with the clients that match."""
    query = read_query(request, ClientsQuery)
    parts = parts_of(request)
    async with parts.store.read() as connection:
        page = await client_lists.search(connection, query.query(), query.limit, query.cursor)
    return reply(models.client_list(page, parts.clock.now(), parts.link.state.listening_since))


async def list_crashed(request: web.Request) -> web.StreamResponse:
    """Answer with the clients whose application crashed or whose heartbeats have stopped."""
    query = read_query(request, UnwellQuery)
    parts = parts_of(request)
    async with parts.store.read() as connection:
        unwell = query.clients(STALE | {Condition.CRASHED})
        page = await client_lists.search(connection, unwell, query.limit, query.cursor)
    return reply(models.crashed_list(page, parts.clock.now(), parts.link.state.listening_since))


async def list_service_failed(request: web.Request) -> web.StreamResponse:
    """Answer with the clients on which systemd gave up on a service, until an operator acknowledges it."""
    query = read_query(request, UnwellQuery)
    parts = parts_of(request)
    # By the failure itself: one in maintenance or shut down shows that as its status and is to be listed all
    # the same.
    failed = replace(query.clients(frozenset()), unacknowledged=True)
    async with parts.store.read() as connection:
        page = await client_lists.search(connection, failed, query.limit, query.cursor)
    return reply(models.client_list(page, parts.clock.now(), parts.link.state.listening_since))


async def show_client(request: web.Request) -> web.StreamResponse:
    """Answer with one client, its unfinished command and its lockout."""
    uuid = path_identifier(request, "uuid")
    parts = parts_of(request)
    async with parts.store.read() as connection:
        client = await known_client(connection, uuid)
        in_flight = (await commands.in_flight(connection, [uuid])).get(uuid)
        queued = (await waiting.of_clients(connection, [uuid])).get(uuid, [])
    locked_until = await parts.commanding.lockout(uuid)
    answer = models.ClientWithCommand.of(
        client,
        parts.clock.now(),
        parts.link.state.listening_since,
        in_flight_command=None if in_flight is None else models.CommandModel.of(in_flight),
        waiting_commands=[models.CommandModel.of(command) for command in queued],
        lockout=models.Lockout(locked=locked_until is not None, locked_until=locked_until),
    )
    return reply(answer)


async def edit_client(request: web.Request) -> web.StreamResponse:
    """Change what people say of a client."""
    uuid = path_identifier(request, "uuid")
    changes = await read_body(request, ClientChanges)
    parts, actor = parts_of(request), actor_of(request)
    if with_power := "power" in changes.model_fields_set:
        require_admin(actor)
    edit = changes.given()
    if isinstance(changes.site, int):
        edit["site"] = await _site_name(parts, changes.site)
    if not with_power:
        return _answer(parts, await parts.fleet.edit(uuid, edit, actor))
    wanted = None if changes.power is None else changes.power.wanted()
    configure = partial(parts.outlets.configure_in, client_uuid=uuid, wanted=wanted, actor=actor)
    after = await parts.fleet.edit(uuid, edit, actor, within=configure)
    parts.bus.publish(ClientChanged(uuid))
    return _answer(parts, after)


async def _site_name(parts: Parts, number: int) -> str:
    async with parts.store.read() as connection:
        site = await sites.get(connection, number) if 0 < number < 2**31 else None
    if site is None:
        raise InvalidInput.of("site", FieldFault.NO_SUCH_SITE, id=str(number))
    return site.name


async def remove_client(request: web.Request) -> web.StreamResponse:
    """Remove a client and its history."""
    await parts_of(request).fleet.remove(path_identifier(request, "uuid"), actor_of(request))
    return no_content()


async def clear_service_failed(request: web.Request) -> web.StreamResponse:
    """Acknowledge a failed service."""
    uuid = path_identifier(request, "uuid")
    body = await read_body(request, Acknowledgement)
    parts = parts_of(request)
    after = await parts.fleet.clear_service_failed(uuid, actor_of(request), body.comment, body.unit)
    return _answer(parts, after)


async def show_screenshot(request: web.Request) -> web.StreamResponse:
    """Answer with the newest screenshot, as the device sent it."""
    uuid = path_identifier(request, "uuid")
    async with parts_of(request).store.read() as connection:
        await known_client(connection, uuid)
        shot = await screenshots.get(connection, uuid)
    if shot is None:
        raise NotFound(ErrorCode.NO_SCREENSHOT)
    response = web.Response(body=shot.image, content_type=shot.content_type)
    response.last_modified = shot.received_at
    return response


def _answer(parts: Parts, client: domain.Client) -> web.Response:
    return reply(models.ClientModel.of(client, parts.clock.now(), parts.link.state.listening_since))


ROUTES = (
    Route(
        "GET",
        "/api/clients",
        list_clients,
        Role.VIEWER,
        "List clients",
        query=ClientsQuery,
        response=models.ClientList,
        problems=(InvalidInput,),
    ),
    Route(
        "GET",
        "/api/clients/crashed",
        list_crashed,
        Role.VIEWER,
        "List clients that crashed or fell silent",
        query=UnwellQuery,
        response=models.CrashedList,
        problems=(InvalidInput,),
    ),
    Route(
        "GET",
        "/api/clients/service_failed",
        list_service_failed,
        Role.VIEWER,
        "List clients with a failed service",
        query=UnwellQuery,
        response=models.ClientList,
        problems=(InvalidInput,),
    ),
    Route(
        "GET",
        "/api/clients/{uuid}",
        show_client,
        Role.VIEWER,
        "Show a client",
        response=models.ClientWithCommand,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "PATCH",
        "/api/clients/{uuid}",
        edit_client,
        Role.OPERATOR,
        "Change what people say of a client",
        request=ClientChanges,
        response=models.ClientModel,
        problems=(InvalidInput, NotFound, Forbidden, OutletShared, SecretUnreadable),
    ),
    Route(
        "DELETE",
        "/api/clients/{uuid}",
        remove_client,
        Role.ADMIN,
        "Remove a client and its history",
        status=204,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "POST",
        "/api/clients/{uuid}/clear_service_failed",
        clear_service_failed,
        Role.OPERATOR,
        "Acknowledge a failed service",
        request=Acknowledgement,
        response=models.ClientModel,
        problems=(InvalidInput, NotFound),
    ),
    Route(
        "GET",
        "/api/clients/{uuid}/screenshot",
        show_screenshot,
        Role.VIEWER,
        "Show the newest screenshot",
        content="image/*",
        problems=(InvalidInput, NotFound),
    ),
)
