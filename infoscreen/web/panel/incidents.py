"""Incidents: the list, and one with its clients, its history and what was told of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

from aiohttp import web
from pydantic import Field

from infoscreen.domain.accounts import Role
from infoscreen.domain.alerts import Severity
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import NotFound
from infoscreen.domain.notifying import severity_of
from infoscreen.domain.recovery import OF_RECOVERY, IncidentKind
from infoscreen.storage import audit, clients
from infoscreen.storage.audit import AuditEntry, AuditQuery
from infoscreen.storage.notify import channels, messages
from infoscreen.storage.notify.messages import StoredMessage
from infoscreen.storage.paging import Page
from infoscreen.storage.recovery import incidents
from infoscreen.storage.recovery.incidents import StoredIncident
from infoscreen.web.keys import parts_of
from infoscreen.web.panel.forms import Address
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page, wants
from infoscreen.web.registry import Route, actor_of, path_number, read_query
from infoscreen.words import recovery
from infoscreen.words.language import N_, Language

ROWS, MOST_MEMBERS, MOST_MESSAGES, MOST_ACTS = 50, 200, 50, 50

DISMISSIBLE = OF_RECOVERY - {IncidentKind.OBSERVER}
"""Kinds that hold clients back, so that dismissing one changes something."""


class IncidentsAddress(Address):
    """Which incidents, and from where on."""

    show: Literal["", "open"] = ""
    cursor: Annotated[str, Field(max_length=1_000)] = ""


@dataclass(frozen=True, slots=True)
class IncidentMoment:
    """One line of an incident's history."""

    at: datetime
    text: str


async def get_incidents(request: web.Request) -> web.StreamResponse:
    """List the incidents, newest first."""
    address = read_query(request, IncidentsAddress)
    async with parts_of(request).store.read() as connection:
        found = await incidents.page(
            connection, ROWS, address.cursor or None, open_only=address.show == "open"
        )
    following = None
    if found.next_cursor is not None:
        asked = {"show": address.show, "cursor": found.next_cursor}
        following = f"/incidents?{urlencode({name: value for name, value in asked.items() if value})}"
    return await page(
        request,
        "incidents.html",
        here="incidents",
        found=found,
        show=address.show,
        first=not address.cursor,
        following=following,
        is_critical=_is_critical,
    )


async def get_incident(request: web.Request) -> web.StreamResponse:
    """Show an incident."""
    number = path_number(request, "id")
    language = language_of(request)
    told: Page[StoredMessage] = Page([], None)
    names: dict[int, str] = {}
    async with parts_of(request).store.read() as connection:
        incident = await incidents.get(connection, number)
        if incident is None:
            raise NotFound(ErrorCode.NO_INCIDENT, id=str(number))
        uuids = (await incidents.members(connection, [number], MOST_MEMBERS))[number]
        members = await clients.get_many(connection, uuids)
        acts = await audit.page(connection, MOST_ACTS, query=AuditQuery(target=f"incident/{number}"))
        if wants(request, "told") and actor_of(request).role.may(Role.OPERATOR):
            told = await messages.page(connection, MOST_MESSAGES, incident_id=number)
            names = {one.id: one.name for one in await channels.every(connection)}
    return await page(
        request,
        "incident.html",
        here="incidents",
        incident=incident,
        critical=_is_critical(incident),
        clients=sorted(members.values(), key=lambda client: client.label.casefold()),
        history=history_of(incident, acts.items, language),
        told=told,
        channel_names=names,
        can_dismiss=incident.kind in DISMISSIBLE,
    )


def history_of(
    incident: StoredIncident, acts: Sequence[AuditEntry], language: Language
) -> list[IncidentMoment]:
    """Return what has happened, oldest first."""
    _ = language.gettext
    moments = [IncidentMoment(incident.began_at, _(BEGAN))]
    for at, text in ((incident.calm_since, recovery.CALM), (incident.stopped_at, recovery.STOPPED)):
        if at is not None:
            moments.append(IncidentMoment(at, _(text)))
    for act in acts:
        if act.action not in ACTS:
            continue
        comment = (act.detail or {}).get("comment") or ""
        text = _(ACTS[act.action]) % {"by": act.actor}
        moments.append(IncidentMoment(act.at, f"{text} {comment}".rstrip()))
    noted = any(act.action == "incident.acknowledge" for act in acts)
    if incident.acknowledged_at is not None and not noted:
        moments.append(IncidentMoment(incident.acknowledged_at, _(ACKNOWLEDGED)))
    if incident.ended_at is not None and incident.closing is not None:
        ended = _(ENDED) % {"how": _(recovery.CLOSINGS[incident.closing])}
        moments.append(IncidentMoment(incident.ended_at, ended))
    return sorted(moments, key=lambda moment: moment.at)


def _is_critical(incident: StoredIncident) -> bool:
    stored = incident.facts.get("severity")
    return severity_of(incident.kind, None if stored is None else str(stored)) is Severity.CRITICAL


BEGAN = N_("The incident began.")
ENDED = N_("The incident ended: %(how)s.")
ACKNOWLEDGED = N_("Somebody takes care of its clients.")
ACTS = {
    "incident.acknowledge": N_("Acknowledged by %(by)s."),
    "incident.dismiss": N_("Dismissed by %(by)s."),
}

ROUTES = (
    Route("GET", "/incidents", get_incidents, Role.VIEWER, "Incidents", query=IncidentsAddress, html=True),
    Route("GET", "/incidents/{id}", get_incident, Role.VIEWER, "An incident", html=True),
)
