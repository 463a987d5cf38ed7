"""Failed services are acknowledged: that of one client, or all that the overview lists."""

from datetime import datetime

from aiohttp import web

from infoscreen.domain.clients import Client, Condition, FailedUnit
from infoscreen.domain.errors import NotFound
from infoscreen.storage import client_lists, clients
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.client import client_of
from infoscreen.web.panel.forms import AcknowledgementForm, FailuresForm, NextAddress, see_other
from infoscreen.web.panel.groups import RESTING
from infoscreen.web.panel.rendering import page
from infoscreen.web.panel.undo import Undoable, note
from infoscreen.web.registry import actor_of, read_form, read_query

MOST = 500
"""So many clients at once; the next click takes the rest."""


async def post_acknowledgement(request: web.Request) -> web.StreamResponse:
    """Acknowledge the failed service that was on the screen, and no later one that nobody has read yet."""
    client = await client_of(request)
    form = await read_form(request, AcknowledgementForm)
    back = see_other(form.next)
    wanted = form.unit or client.service_failed_unit
    failed = next((one for one in client.failed_services if one.unit == wanted), None)
    if failed is None:
        return flash.put(request, back, "acknowledged_before", client=client.label)
    if form.failed_at.tzinfo is None or abs((failed.failed_at - form.failed_at).total_seconds()) >= 0.001:
        return flash.put(request, back, "failed_again", client=client.label)
    parts, actor = parts_of(request), actor_of(request)
    at = parts.clock.now()
    await parts.fleet.clear_service_failed(client.uuid, actor, form.comment, failed.unit)
    undo = note(request, Undoable(by=actor, at=at, units=((client.uuid, failed.unit),)))
    return flash.put(request, back, "acknowledged", client=client.label, unit=failed.unit, **undo)


async def get_failures(request: web.Request) -> web.StreamResponse:
    """Ask whether all failed services that the overview lists are to be acknowledged."""
    back = read_query(request, NextAddress).next
    parts = parts_of(request)
    now = parts.clock.now()
    async with parts.store.read() as connection:
        query = ClientQuery(status=RESTING | {Condition.SERVICE_FAILED}, unacknowledged=True)
        listed = (await client_lists.search(connection, query, MOST)).items
    if not listed:
        return flash.put(request, see_other(back), "none_chosen")
    return await page(request, "failures.html", here="overview", listed=listed, listed_at=now, back=back)


async def post_failures(request: web.Request) -> web.StreamResponse:
    """Acknowledge the failed services that were listed, and none that has failed since."""
    form = await read_form(request, FailuresForm)
    parts, actor = parts_of(request), actor_of(request)
    done: list[tuple[str, str]] = []
    others, at = 0, parts.clock.now()
    async with parts.store.read() as connection:
        known = await clients.get_many(connection, form.uuids[:MOST])
    for uuid in form.uuids:
        units = _listed_then(known.get(uuid), form.listed_at)
        others += not units
        for failed in units:
            try:
                await parts.fleet.clear_service_failed(uuid, actor, form.comment, failed.unit)
            except NotFound:
                others += 1
            else:
                done.append((uuid, failed.unit))
    undo = note(request, Undoable(by=actor, at=at, units=tuple(done)))
    counts = {"count": str(len(done)), "others": str(others)}
    return flash.put(request, see_other(form.next), "several_taken_over", **counts, **undo)


def _listed_then(client: Client | None, listed_at: datetime) -> list[FailedUnit]:
    return [] if client is None else [one for one in client.failed_services if one.raised_at <= listed_at]
