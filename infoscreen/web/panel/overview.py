"""The start page: problems first, and when there is none, that there is none."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

from aiohttp import web

from infoscreen.domain.clients import Client, Condition
from infoscreen.domain.commands import ClientCommand
from infoscreen.services.monitoring import Overview
from infoscreen.services.recovery.caring import CONTRADICTIONS_FOR
from infoscreen.services.recovery.explain import holds_of, mode_of
from infoscreen.storage import client_lists, clients, commands
from infoscreen.storage.acknowledged import Care, care_of
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page
from infoscreen.storage.recovery import decisions
from infoscreen.storage.recovery.pauses import PauseScope
from infoscreen.web.keys import parts_of
from infoscreen.web.panel.groups import GROUPS, RESTING, tiles
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.offers import Offer, obstacles_of, remedy_of
from infoscreen.web.panel.recovery import outages_of
from infoscreen.web.panel.recovery_words import MODE_SENTENCES, MODES
from infoscreen.web.panel.rendering import bare_page, wants
from infoscreen.web.registry import actor_of

SHOWN = 50
"""So many rows a panel shows; the rest is one click away."""

LISTENED_ENOUGH = timedelta(minutes=3)

BY_REMEDY = [
    *(
        frozenset({one})
        for one in (Condition.CRASHED, Condition.NOT_SHOWING, Condition.HUNG, Condition.UNREACHABLE)
    ),
    GROUPS["unclear"],
]


async def get_overview(request: web.Request) -> web.StreamResponse:
    """Show how the fleet is."""
    parts = parts_of(request)
    overview = await parts.monitoring.overview()
    if not any(overview.totals.values()):
        return bare_page(request, "first_run.html", overview, here="overview", example=str(uuid4()))
    now = overview.generated_at
    async with parts.store.read() as connection:
        failed = await _listed(connection, overview, GROUPS["service_failed"])
        resting = await client_lists.search(
            connection, ClientQuery(unacknowledged=True, status=RESTING, sort="-status_since"), SHOWN
        )
        stuck = await _alone(connection, overview, left_to_people=True)
        recovering = await _alone(connection, overview, left_to_people=False)
        cared = await _listed(connection, overview, GROUPS["acknowledged"], cared_for=True)
        outages = await outages_of(connection, overview, SHOWN)
        held = [client for one in outages for client in one.clients]
        unwell = (*stuck.items, *recovering.items, *cared.items, *held)
        listed = [client.uuid for client in unwell]
        care = await care_of(connection, [*listed, *(client.uuid for client in failed.items)], now)
        in_flight = await commands.in_flight(connection, listed)
        standing = await decisions.standing(connection, listed)
        contradicted = []
        if wants(request, "contradicted"):
            contradicted = await _contradicted(connection, now)
    locked = await parts.commanding.lockouts(listed)
    actor, language = actor_of(request), language_of(request)

    def remedy(client: Client) -> Offer | None:
        uuid = client.uuid
        obstacles = obstacles_of(client, actor, in_flight.get(uuid), locked.get(uuid), language)
        return remedy_of(client, obstacles)

    mode = mode_of(overview)
    return bare_page(
        request,
        "overview.html",
        overview,
        here="overview",
        tiles=tiles(overview.totals),
        failed=failed,
        resting=resting,
        cared=cared,
        care=care,
        stuck=stuck,
        recovering=recovering,
        in_flight=in_flight,
        standing=standing,
        outages=outages,
        mode=mode,
        mode_word=MODES[mode],
        mode_sentence=MODE_SENTENCES[mode],
        holds=holds_of(overview),
        fleet_pause=any(pause.scope is PauseScope.FLEET for pause in overview.pauses),
        contradicted=contradicted,
        remedy=remedy,
        just_begun=_has_just_begun(overview),
    )


async def _listed(
    connection: Connection,
    overview: Overview,
    status: frozenset[Condition],
    limit: int = SHOWN,
    *,
    cared_for: bool = False,
    left_to_people: bool | None = None,
) -> Page[Client]:
    """Return clients of no outage that nobody takes care of, or somebody; the store is not asked for none."""
    counted = overview.acknowledged if cared_for else overview.totals
    if not any(counted.get(one) for one in status):
        return Page([], None, 0)
    query = ClientQuery(
        status=status,
        sort="-status_since",
        alone=bool(overview.incidents),
        cared_for=cared_for,
        cared_at=overview.generated_at,
        left_to_people=left_to_people,
    )
    return await client_lists.search(connection, query, limit)


async def _alone(connection: Connection, overview: Overview, *, left_to_people: bool) -> Page[Client]:
    """Return the crashed, silent and unclear clients of no outage, those first that a command can help."""
    if overview.poll is None and not left_to_people:
        return Page([], None, 0)
    everything = frozenset[Condition]().union(*BY_REMEDY)
    if sum(overview.totals.get(one, 0) for one in everything) <= SHOWN:
        few = await _listed(connection, overview, everything, left_to_people=left_to_people)
        return replace(few, items=sorted(few.items, key=_remedy_first))
    items: list[Client] = []
    total: int | None = 0
    for status in BY_REMEDY:
        limit = max(1, SHOWN - len(items))
        found = await _listed(connection, overview, status, limit, left_to_people=left_to_people)
        items += found.items
        total = None if total is None or found.total is None else total + found.total
    return Page(items[:SHOWN], None, total)


def _remedy_first(client: Client) -> int:
    return next(number for number, status in enumerate(BY_REMEDY) if client.status in status)


def _has_just_begun(overview: Overview) -> bool:
    """Tell whether the daemon has not listened for long enough to have missed anybody yet."""
    since = overview.broker.listening_since
    return since is not None and overview.generated_at - since < LISTENED_ENOUGH


async def _contradicted(connection: Connection, now: datetime) -> list[tuple[ClientCommand, Client]]:
    """Return the commands whose claimed effect did not show lately, with their clients."""
    found = await commands.contradicted_since(connection, now - CONTRADICTIONS_FOR, SHOWN)
    known = await clients.get_many(connection, {command.client_uuid for command in found})
    care = await care_of(connection, known, now)
    found = [one for one in found if not _is_taken(care.get(one.client_uuid), one)]
    return [(command, known[command.client_uuid]) for command in found if command.client_uuid in known]


def _is_taken(care: Care | None, command: ClientCommand) -> bool:
    """Tell whether somebody has taken over after the command was found to be without effect."""
    taken = None if care is None else care.acknowledgement
    return taken is not None and command.verified_at is not None and taken.at >= command.verified_at
