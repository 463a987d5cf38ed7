"""What operators tell the recovery in the panel: to pause, to go on, and that somebody is on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from urllib.parse import urlencode

from aiohttp import web

from infoscreen.domain.errors import Conflict, InvalidInput
from infoscreen.storage.recovery.pauses import PauseScope
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.client import client_of
from infoscreen.web.panel.faults import faults_of
from infoscreen.web.panel.forms import Onward, PauseAddress, PauseForm, TakenOver, see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page
from infoscreen.web.panel.undo import Undoable, note
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
"""What can be chosen instead of typing an end."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """What is to be left alone, how the question names it, and the addresses of its form and of its page."""

    scope: PauseScope
    what: str | None
    action: str
    back: str
    site: str | None = None
    client_uuid: str | None = None


async def get_client_pause(request: web.Request) -> web.StreamResponse:
    """Ask for how long and why a client is to be left alone."""
    return await _question(request, await _client_scope(request))


async def post_client_pause(request: web.Request) -> web.StreamResponse:
    """Leave a client alone."""
    return await _pause(request, await _client_scope(request))


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
    return await _question(request, _wide_scope(request))


async def post_pause(request: web.Request) -> web.StreamResponse:
    """Leave a site or the fleet alone."""
    return await _pause(request, _wide_scope(request))


async def post_resume(request: web.Request) -> web.StreamResponse:
    """Let the recovery take care of a site or the fleet again."""
    site = read_query(request, PauseAddress).site or None
    await read_form(request, Onward)
    scope = PauseScope.SITE if site else PauseScope.FLEET
    await parts_of(request).pausing.resume(scope, actor_of(request), site=site)
    return flash.put(request, see_other("/"), "resumed")


async def _client_scope(request: web.Request) -> _Scope:
    client = await client_of(request)
    back = f"/clients/{client.uuid}"
    action = f"{back}/recovery/pause"
    return _Scope(PauseScope.CLIENT, client.label, action, back, client_uuid=client.uuid)


def _wide_scope(request: web.Request) -> _Scope:
    site = read_query(request, PauseAddress).site or None
    if site is None:
        return _Scope(PauseScope.FLEET, None, "/recovery/pause", "/")
    return _Scope(PauseScope.SITE, site, f"/recovery/pause?{urlencode({'site': site})}", "/", site=site)


async def _pause(request: web.Request, scope: _Scope) -> web.StreamResponse:
    parts, actor = parts_of(request), actor_of(request)
    try:
        form = await read_form(request, PauseForm)
        pause = await parts.pausing.pause(
            scope.scope,
            form.reason,
            form.end or parts.clock.now() + LENGTHS[form.lasts][0],
            actor,
            site=scope.site,
            client_uuid=scope.client_uuid,
        )
    except InvalidInput as refusal:
        return await _question(request, scope, refusal)
    undo = note(request, Undoable(by=actor, at=pause.created_at, pause=pause))
    return flash.put(request, see_other(scope.back), "paused", **undo)


async def _question(
    request: web.Request, scope: _Scope, refusal: InvalidInput | None = None
) -> web.StreamResponse:
    tongue = language_of(request)
    values = {"lasts": "1h", "until": "", "reason": "", "zone": str(tongue.zone)}
    if refusal is not None:
        typed = await request.post()
        values |= {name: str(typed[name]) for name in values if name in typed}
    return await page(
        request,
        "pause.html",
        status=200 if refusal is None else refusal.status,
        here="clients" if scope.client_uuid else "overview",
        scope=scope,
        values=values,
        lengths=LENGTHS,
        faults=[] if refusal is None else faults_of(refusal.errors, tongue),
    )
