"""One client: how it is and why, what can be done about it, what has happened to it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, timedelta
from functools import partial
from types import MappingProxyType

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.domain.clients import PROBLEMS, Client
from infoscreen.domain.commands import ClientCommand
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import NotFound
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.presence import is_alive
from infoscreen.domain.recovery import Phase
from infoscreen.domain.timeline import TimelineEntry
from infoscreen.services.recovery.explain import explain
from infoscreen.storage import accounts, clients, commands, screenshots, sites, timeline, waiting
from infoscreen.storage.acknowledged import care_of
from infoscreen.storage.commands import CommandQuery
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page
from infoscreen.storage.recovery.pauses import PauseScope
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import power
from infoscreen.web.panel.availability import client_bars
from infoscreen.web.panel.forms import ClientAddress
from infoscreen.web.panel.health import health_of
from infoscreen.web.panel.history import days_of
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.offers import OUT_OF_REACH, obstacles_of, offers_of
from infoscreen.web.panel.recovery import steps_of
from infoscreen.web.panel.rendering import page, wants
from infoscreen.web.registry import actor_of, path_uuid, read_query
from infoscreen.words.language import N_
from infoscreen.words.telling import asked_by

LATEST_COMMANDS = 5
ENTRIES = 30

HEALTH_LASTS = timedelta(minutes=15)
"""Older readings are shown as old also when the device still beats; agents report every minute."""

AT_REST = frozenset({Phase.REST, Phase.WELL})

HISTORIES: Mapping[str, tuple[str, frozenset[TimelineKind]]] = MappingProxyType(
    {
        "": (N_("Everything"), frozenset()),
        "status": (
            N_("Status"),
            frozenset(
                {
                    TimelineKind.STATUS,
                    TimelineKind.PRESENCE,
                    TimelineKind.REBOOT,
                    TimelineKind.SERVICE_FAILED,
                    TimelineKind.SERVICE_CLEARED,
                }
            ),
        ),
        "commands": (N_("Commands"), frozenset({TimelineKind.COMMAND})),
        "recovery": (N_("Recovery"), frozenset({TimelineKind.RECOVERY})),
        "logs": (N_("Logs"), frozenset({TimelineKind.LOG})),
        "acts": (N_("Manual changes"), frozenset({TimelineKind.OPERATOR, TimelineKind.SERVICE_CLEARED})),
    }
)


async def get_client(request: web.Request) -> web.StreamResponse:
    """Show a client."""
    uuid = path_uuid(request, "uuid")
    address = read_query(request, ClientAddress)
    parts, actor, language = parts_of(request), actor_of(request), language_of(request)
    kinds = HISTORIES[address.show][1]
    async with parts.store.read() as connection:
        client = found(await clients.get(connection, uuid))
        in_flight = (await commands.in_flight(connection, [uuid])).get(uuid)
        queued = (await waiting.of_clients(connection, [uuid])).get(uuid, [])
        latest: Page[ClientCommand] = Page([], None)
        if wants(request, "commands"):
            latest = await commands.search(connection, CommandQuery(client_uuid=uuid), LATEST_COMMANDS)
        entries: Page[TimelineEntry] = Page([], None)
        if wants(request, "history"):
            entries = await timeline.page(
                connection, uuid, ENTRIES, address.cursor or None, kinds, all_logs=address.show == "logs"
            )
        shot_at = await screenshots.received_at(connection, uuid)
        asked = [*latest.items, *queued, *([in_flight] if in_flight else [])]
        names = await names_of(connection, (command.requested_by for command in asked))
        care = await care_of(connection, [uuid], parts.clock.now())
        places = {} if client.site is None else await sites.by_names(connection, [client.site])
        place = places.get(client.site or "")
        bars = await client_bars(request, connection, client) if wants(request, "bars") else None
        known = await explain(connection, client, parts.recovering.policy, parts.clock.now())
    locked_until = await parts.commanding.lockout(uuid)
    now = parts.clock.now()
    obstacles = obstacles_of(client, actor, in_flight, locked_until, language)
    async with parts.store.read() as connection:
        outlet = await power.block_of(request, connection, client, obstacles)
    listening = parts.link.state.connected
    return await page(
        request,
        "client.html",
        here="clients",
        client=client,
        site=place,
        in_flight=in_flight,
        queued=queued,
        may_wait=actor.role.may(Role.OPERATOR) and client.status in OUT_OF_REACH,
        commands=latest,
        timeline=entries,
        days=days_of(entries.items, language, language.zone or UTC),
        show=address.show,
        histories={key: title for key, (title, _) in HISTORIES.items()},
        shot_at=shot_at,
        locked_until=locked_until,
        overridable=locked_until is not None and actor.role.may(Role.ADMIN),
        offers=offers_of(client, obstacles),
        why_not=obstacles.any or obstacles.disruptive,
        power=outlet,
        health=health_of(client.health, language),
        health_until=None if client.health_at is None else client.health_at + HEALTH_LASTS,
        outdated=client.last_alive is not None
        and not (listening and is_alive(client, now, parts.link.state.listening_since)),
        known=known,
        bars=bars,
        steps=steps_of(known),
        care=care.get(uuid),
        problem_states=PROBLEMS,
        may_acknowledge=client.status in PROBLEMS or known.phase is Phase.NEEDS_HUMAN,
        given_up=known.phase is Phase.NEEDS_HUMAN,
        paused_itself=any(pause.scope is PauseScope.CLIENT for pause in known.pauses),
        todo=client.status in PROBLEMS or known.phase not in AT_REST or in_flight is not None,
        asked_by=partial(asked_by, names=names, language=language),
    )


async def get_screenshot(request: web.Request) -> web.StreamResponse:
    """Answer the picture that the device has sent last."""
    async with parts_of(request).store.read() as connection:
        shot = await screenshots.get(connection, path_uuid(request, "uuid"))
    if shot is None:
        raise NotFound(ErrorCode.NO_SCREENSHOT)
    return web.Response(body=shot.image, content_type=shot.content_type)


async def client_of(request: web.Request) -> Client:
    """Return the client of the address; raise ``NotFound`` when there is none."""
    async with parts_of(request).store.read() as connection:
        return found(await clients.get(connection, path_uuid(request, "uuid")))


def found(client: Client | None) -> Client:
    """Return the client; raise ``NotFound`` when there is none."""
    if client is None:
        raise NotFound(ErrorCode.NO_SUCH_PAGE)
    return client


async def names_of(connection: Connection, user_ids: Iterable[int | None]) -> dict[int, str]:
    """Return the names of those users that still exist."""
    names: dict[int, str] = {}
    for user_id in {one for one in user_ids if one is not None}:
        user = await accounts.user_by_id(connection, user_id)
        if user is not None:
            names[user_id] = user.username
    return names
