"""Somebody takes care of problems: of one client, of several, or of all of a kind; or no longer does."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from types import MappingProxyType
from uuid import UUID

from aiohttp import web

from infoscreen.domain.clients import Client
from infoscreen.domain.errors import Conflict, NotFound
from infoscreen.domain.recovery import Meanwhile
from infoscreen.storage import client_lists, clients
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.client import client_of
from infoscreen.web.panel.forms import CareAddress, CareForm, Onward, see_other
from infoscreen.web.panel.groups import GROUPS, LEFT_TO_PEOPLE
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page
from infoscreen.web.panel.undo import Undoable, note
from infoscreen.web.registry import actor_of, read_form, read_query
from infoscreen.words.language import N_, Language

MOST = 500
"""So many at once; the next click takes the rest."""

MORNING = time(8)

ENDS: Mapping[str, str] = MappingProxyType(
    {
        "well": N_("until it is back online"),
        "1h": N_("for 1 hour"),
        "morning": N_("until 8:00"),
    }
)

MEANWHILE: Mapping[Meanwhile, str] = MappingProxyType(
    {
        Meanwhile.HOLD: N_("hold: no automatic action"),
        Meanwhile.GO_ON: N_("go on; if it has given up, again from the first rung"),
    }
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The clients that are to be taken care of, and where the form goes."""

    clients: list[Client]
    action: str
    back: str

    @property
    def uuids(self) -> str:
        """Return them as the form sends them."""
        return ",".join(client.uuid for client in self.clients)


async def get_care_of_client(request: web.Request) -> web.StreamResponse:
    """Ask how somebody takes care of a client."""
    client = await client_of(request)
    back = read_query(request, CareAddress).next or f"/clients/{client.uuid}"
    return await _question(request, Chosen([client], f"/clients/{client.uuid}/recovery/acknowledge", back))


async def post_care_of_client(request: web.Request) -> web.StreamResponse:
    """Note that somebody takes care of a client."""
    client = await client_of(request)
    form = await read_form(request, CareForm)
    back = see_other(form.next or f"/clients/{client.uuid}")
    at = parts_of(request).clock.now()
    try:
        await _take(request, client.uuid, form)
    except Conflict:
        return flash.put(request, back, "nothing_wrong", client=client.label)
    return flash.put(
        request, back, "taken_over", client=client.label, **_undo(request, form, at, [client.uuid])
    )


async def get_care(request: web.Request) -> web.StreamResponse:
    """Ask how somebody takes care of the clients that were chosen, or of all of a kind outside of outages."""
    group = request.query.get("status", "")  # not read_query, which refuses a box beside another one
    parts = parts_of(request)
    async with parts.store.read() as connection:
        if group in GROUPS:
            query = ClientQuery(
                status=GROUPS[group],
                alone=True,
                cared_at=parts.clock.now(),
                left_to_people=LEFT_TO_PEOPLE.get(group),
            )
            asked = await client_lists.matching_uuids(connection, query, MOST)
        else:
            asked = [uuid for uuid in request.query.getall("client", [])[:MOST] if _is_uuid(uuid)]
        known = await clients.get_many(connection, asked)
    chosen = sorted(known.values(), key=lambda client: client.label.casefold())
    if not chosen:
        return flash.put(request, see_other("/"), "none_chosen")
    return await _question(request, Chosen(chosen, "/acknowledge", "/"))


async def post_care(request: web.Request) -> web.StreamResponse:
    """Note that somebody takes care of several clients, each by itself."""
    form = await read_form(request, CareForm)
    done: list[str] = []
    at = parts_of(request).clock.now()
    for uuid in form.uuids[:MOST]:
        try:
            await _take(request, uuid, form)
        except (Conflict, NotFound):
            continue
        done.append(uuid)
    counts = {"count": str(len(done)), "others": str(len(form.uuids) - len(done))}
    undo = _undo(request, form, at, done)
    return flash.put(request, see_other(form.next or "/"), "several_taken_over", **counts, **undo)


async def post_giving_back(request: web.Request) -> web.StreamResponse:
    """Note that nobody takes care of a client any more."""
    client = await client_of(request)
    form = await read_form(request, Onward)
    await parts_of(request).recovering.give_back(client.uuid, actor_of(request))
    back = see_other(form.next or f"/clients/{client.uuid}")
    return flash.put(request, back, "given_back", client=client.label)


async def post_another_try(request: web.Request) -> web.StreamResponse:
    """Let the recovery begin again on the first rung."""
    client = await client_of(request)
    form = await read_form(request, Onward)
    back = see_other(form.next or f"/clients/{client.uuid}")
    try:
        await parts_of(request).recovering.try_again(client.uuid, actor_of(request))
    except Conflict:
        return flash.put(request, back, "not_given_up", client=client.label)
    return flash.put(request, back, "tries_again", client=client.label)


def end_of(lasts: str, now: datetime, language: Language) -> datetime | None:
    """Return when it ends; None for not before the client is back online."""
    if lasts == "1h":
        return now + timedelta(hours=1)
    if lasts == "morning":
        there = now.astimezone(language.zone)
        day = there.date() if there.time() < MORNING else there.date() + timedelta(days=1)
        return datetime.combine(day, MORNING, tzinfo=there.tzinfo)
    return None


async def _take(request: web.Request, uuid: str, form: CareForm) -> None:
    parts = parts_of(request)
    until = end_of(form.lasts, parts.clock.now(), language_of(request))
    await parts.recovering.acknowledge(
        uuid, actor_of(request), form.comment, until=until, recovery=form.recovery
    )


def _undo(request: web.Request, form: CareForm, at: datetime, uuids: list[str]) -> dict[str, str]:
    """Offer to take it back where that restores all: what goes on may have begun again already."""
    if form.recovery is Meanwhile.GO_ON:
        return {}
    return note(request, Undoable(by=actor_of(request), at=at, clients=tuple(uuids)))


async def _question(request: web.Request, chosen: Chosen) -> web.StreamResponse:
    here = "clients" if chosen.back != "/" else "overview"
    return await page(request, "care.html", here=here, chosen=chosen, ends=ENDS, meanwhile=MEANWHILE)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
