"""What people do to clients from the panel: forms in, one act, and back to where they were with a message."""

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.domain.clients import Client
from infoscreen.domain.commands import DISRUPTIVE, Action, ClientCommand, Source
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import (
    ClientStarting,
    CommandInFlight,
    Conflict,
    InvalidInput,
    LockedOut,
    NoOutlet,
    NotFound,
    OutletInUse,
    OutletProtected,
    OutletShared,
    TooManyCycles,
)
from infoscreen.storage import client_lists, clients, commands
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash, questions
from infoscreen.web.panel.client import found
from infoscreen.web.panel.faults import faults_of
from infoscreen.web.panel.forms import (
    CommandAddress,
    Description,
    Onward,
    Order,
    Removal,
    Restarts,
    see_other,
)
from infoscreen.web.panel.groups import GROUPS
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import actor_of, path_uuid, read_form, read_query

POWER_REFUSALS = (NoOutlet, OutletProtected, OutletInUse, OutletShared, ClientStarting, TooManyCycles)
"""Why a power cycle is refused; ``flash`` has a message for each, by its slug."""

MOST_RESTARTS = 500
"""So many at once; the next click takes the rest."""


async def get_command_question(request: web.Request) -> web.StreamResponse:
    """Ask whether the command is really meant."""
    client = await _client_of(request)
    try:
        action = Action(request.match_info["action"])
    except ValueError:
        raise NotFound(ErrorCode.NO_SUCH_PAGE) from None
    asked = read_query(request, CommandAddress)
    back = asked.next if "next" in request.query else None
    if asked.when_back:
        question = questions.about_waiting(client, action, back, language_of(request))
        return await page(request, "confirm.html", here="clients", question=question)
    locked_until = await parts_of(request).commanding.lockout(client.uuid) if action in DISRUPTIVE else None
    refused = await parts_of(request).commanding.why_not(client.uuid, action, actor_of(request))
    question = questions.about_command(client, action, locked_until, back, refused, language_of(request))
    return await page(request, "confirm.html", here="clients", question=question)


async def post_command(request: web.Request) -> web.StreamResponse:
    """Request a command. A second click finds the first one's command under way and changes nothing."""
    client = await _client_of(request)
    order = await read_form(request, Order)
    back = see_other(order.next or f"/clients/{client.uuid}")
    if order.action in questions.TYPED and not questions.is_typed(client, order.typed):
        return flash.put(request, back, "mistyped", client=client.label)
    try:
        command = await parts_of(request).commanding.request(
            client.uuid,
            order.action,
            source=Source.OPERATOR,
            actor=actor_of(request),
            reason=order.reason,
            force=order.force == "yes",
            when_back=order.lasts != "",
            expires_in=questions.WAITS[order.lasts][0] if order.lasts else None,
        )
    except CommandInFlight as refusal:
        under_way = refusal.command
        return flash.put(
            request,
            back,
            "in_flight",
            client=client.label,
            action=under_way.action,
            status=under_way.status,
            command_id=under_way.command_id,
        )
    except LockedOut:
        return flash.put(request, back, "locked", client=client.label)
    except POWER_REFUSALS as refusal:
        return flash.put(request, back, refusal.slug)
    said = "requested" if command.waits_for is None else "waits"
    return flash.put(
        request, back, said, client=client.label, action=command.action, command_id=command.command_id
    )


async def get_restarts_question(request: web.Request) -> web.StreamResponse:
    """Ask whether the app of every crashed client shall be restarted."""
    async with parts_of(request).store.read() as connection:
        crashed = await client_lists.search(connection, ClientQuery(status=GROUPS["crashed"]), MOST_RESTARTS)
    if not crashed.items:
        return see_other("/")
    question = questions.about_restarts(crashed.items, language_of(request))
    return await page(request, "confirm.html", here="overview", question=question)


async def post_restarts(request: web.Request) -> web.StreamResponse:
    """Restart the app of the clients that were listed, each on its own merits."""
    form = await read_form(request, Restarts)
    uuids = form.uuids
    if len(uuids) > questions.MOST_UNTYPED and form.typed != str(len(uuids)):
        return flash.put(request, see_other("/"), "miscounted")
    if not uuids:
        return flash.put(request, see_other("/"), "none_chosen")
    batch = await parts_of(request).bulk.request(
        uuids, Action.RESTART_APP, source=Source.OPERATOR, actor=actor_of(request)
    )
    queued = batch.counts.get("queued", 0)
    others = len(batch.results) - queued
    return flash.put(request, see_other("/"), "restarts", queued=str(queued), others=str(others))


async def post_cancel(request: web.Request) -> web.StreamResponse:
    """Withdraw a command that has not been sent yet."""
    command_id = path_uuid(request, "command_id")
    form = await read_form(request, Onward)
    back = see_other(form.next or f"/commands/{command_id}")
    try:
        await parts_of(request).commanding.cancel(command_id, actor_of(request))
    except Conflict:
        command = await _command(request, command_id)
        return flash.put(request, back, "too_late", status=command.status, command_id=command_id)
    return flash.put(request, back, "withdrawn", command_id=command_id)


async def get_description(request: web.Request) -> web.StreamResponse:
    """Show the form for what people say of a client."""
    return await _edit_page(request, await _client_of(request))


async def post_description(request: web.Request) -> web.StreamResponse:
    """Save what people say of a client."""
    client = await _client_of(request)
    try:
        form = await read_form(request, Description)
        saved = await parts_of(request).fleet.edit(client.uuid, form.changes(client), actor_of(request))
    except InvalidInput as refusal:
        return await _edit_page(request, client, refusal)
    return flash.put(request, see_other(f"/clients/{client.uuid}"), "saved", client=saved.label)


async def get_removal_question(request: web.Request) -> web.StreamResponse:
    """Ask whether the client shall really go."""
    question = questions.about_removal(await _client_of(request), language_of(request))
    return await page(request, "confirm.html", here="clients", question=question)


async def post_removal(request: web.Request) -> web.StreamResponse:
    """Remove a client."""
    client = await _client_of(request)
    form = await read_form(request, Removal)
    if not questions.is_typed(client, form.typed):
        return flash.put(request, see_other(f"/clients/{client.uuid}"), "mistyped", client=client.label)
    await parts_of(request).fleet.remove(client.uuid, actor_of(request))
    return flash.put(request, see_other("/clients"), "removed", client=client.label)


async def _edit_page(
    request: web.Request, client: Client, refusal: InvalidInput | None = None
) -> web.StreamResponse:
    zone = language_of(request).zone
    until = client.maintenance_until
    values = {
        "name": client.name or "",
        "site": client.site or "",
        "tags": ", ".join(client.tags),
        "hours": client.own_hours or "",
        "description": client.description or "",
        "maintenance_until": f"{until.astimezone(zone):%Y-%m-%dT%H:%M}" if until else "",
        "auto_recovery": "on" if client.auto_recovery else "off",
        "zone": str(zone),
    }
    if refusal is not None:
        typed = await request.post()
        values |= {name: str(typed[name]) for name in values if name in typed}
    return await page(
        request,
        "edit.html",
        status=200 if refusal is None else refusal.status,
        here="clients",
        client=client,
        values=values,
        faults=[] if refusal is None else faults_of(refusal.errors, language_of(request)),
        may_remove=actor_of(request).role.may(Role.ADMIN),
    )


async def _client_of(request: web.Request) -> Client:
    async with parts_of(request).store.read() as connection:
        return found(await clients.get(connection, path_uuid(request, "uuid")))


async def _command(request: web.Request, command_id: str) -> ClientCommand:
    async with parts_of(request).store.read() as connection:
        command = await commands.get(connection, command_id)
    if command is None:
        raise NotFound(ErrorCode.NO_COMMAND, id=command_id)
    return command
