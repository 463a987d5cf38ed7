"""What operators tell the recovery in the panel: to pause, to go on, and that somebody is on it."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from urllib.parse import urlencode

from aiohttp import web

from infoscreen.domain.errors import Conflict, InvalidInput
from infoscreen.storage import clients
from infoscreen.storage.recovery.pauses import PauseScope
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.client import found
from infoscreen.web.panel.forms import Onward, PauseAddress, PauseForm, TakenOver, see_other
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import actor_of, path_number, path_uuid, read_form, read_query
from infoscreen.words.language import N_

LENGTHS: Mapping[str, tuple[timedelta, str]] = MappingProxyType(
    {
        "1h": (timedelta(hours=1), N_("1 hour")),
        "4h": (timedelta(hours=4), N_("4 hours")),
        "12h": (timedelta(hours=12), N_("12 hours")),
        "1d": (timedelta(days=1), N_("1 day")),
        "7d": (timedelta(days=7), N_("7 days")),
        "30d": (timedelta(days=30), N_("30 days")),
    }
)
"""What can be chosen; without JavaScript a length is easier to say than a time in UTC."""


async def get_client_pause(request: web.Request) -> web.StreamResponse:
    """Ask for how long and why a client is to be left alone."""
    async with parts_of(request).store.read() as connection:
        client = found(await clients.get(connection, path_uuid(request, "uuid")))
    back = f"/clients/{client.uuid}"
    return await _question(request, what=client.label, action=f"{back}/recovery/pause", back=back)


async def post_client_pause(request: web.Request) -> web.StreamResponse:
    """Leave a client alone."""
    uuid = path_uuid(request, "uuid")
    return await _pause(request, PauseScope.CLIENT, f"/clients/{uuid}", client_uuid=uuid)


async def post_client_resume(request: web.Request) -> web.StreamResponse:
    """Let the recovery take care of a client again."""
    uuid = path_uuid(request, "uuid")
    await parts_of(request).pausing.resume(PauseScope.CLIENT, actor_of(request), client_uuid=uuid)
    return flash.put(request, see_other(f"/clients/{uuid}"), "resumed")


async def post_incident_acknowledgement(request: web.Request) -> web.StreamResponse:
    """Note that somebody takes care of an incident."""
    number = path_number(request, "id")
    form = await read_form(request, TakenOver)
    await parts_of(request).recovering.acknowledge_incident(number, actor_of(request), form.comment)
    return flash.put(request, see_other(form.next), "incident_taken_over")


async def post_incident_dismissal(request: web.Request) -> web.StreamResponse:
    """End an incident: each of its clients is treated singly from now on."""
    number = path_number(request, "id")
    form = await read_form(request, TakenOver)
    try:
        await parts_of(request).recovering.dismiss(number, actor_of(request), form.comment)
    except Conflict:
        return flash.put(request, see_other(form.next), "incident_over")
    return flash.put(request, see_other(form.next), "incident_dismissed")


async def get_pause(request: web.Request) -> web.StreamResponse:
    """Ask for how long and why a site or the fleet is to be left alone."""
    site = read_query(request, PauseAddress).site or None
    action = "/recovery/pause" + (f"?{urlencode({'site': site})}" if site else "")
    return await _question(request, what=site, action=action, back="/")


async def post_pause(request: web.Request) -> web.StreamResponse:
    """Leave a site or the fleet alone."""
    site = read_query(request, PauseAddress).site or None
    return await _pause(request, PauseScope.SITE if site else PauseScope.FLEET, "/", site=site)


async def post_resume(request: web.Request) -> web.StreamResponse:
    """Let the recovery take care of a site or the fleet again."""
    site = read_query(request, PauseAddress).site or None
    await read_form(request, Onward)
    scope = PauseScope.SITE if site else PauseScope.FLEET
    await parts_of(request).pausing.resume(scope, actor_of(request), site=site)
    return flash.put(request, see_other("/"), "resumed")


async def _pause(
    request: web.Request,
    scope: PauseScope,
    back: str,
    *,
    site: str | None = None,
    client_uuid: str | None = None,
) -> web.StreamResponse:
    try:
        form = await read_form(request, PauseForm)
        until = parts_of(request).clock.now() + LENGTHS[form.lasts][0]
        await parts_of(request).pausing.pause(
            scope, form.reason, until, actor_of(request), site=site, client_uuid=client_uuid
        )
    except InvalidInput:
        return flash.put(request, see_other(back), "not_paused")
    return flash.put(request, see_other(back), "paused")


async def _question(request: web.Request, *, what: str | None, action: str, back: str) -> web.StreamResponse:
    here = "clients" if back != "/" else "overview"
    return await page(request, "pause.html", here=here, what=what, action=action, back=back, lengths=LENGTHS)
