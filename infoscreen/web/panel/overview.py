"""The start page: problems first, and when there is none, that there is none."""

from datetime import datetime, timedelta
from uuid import uuid4

from aiohttp import web

from infoscreen.domain.clients import Client, Condition
from infoscreen.domain.commands import ClientCommand
from infoscreen.services.monitoring import Overview
from infoscreen.services.recovery.explain import holds_of, mode_of
from infoscreen.storage import client_lists, clients, commands
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page
from infoscreen.storage.recovery import decisions
from infoscreen.storage.recovery.pauses import PauseScope
from infoscreen.web.keys import parts_of
from infoscreen.web.panel.groups import GROUPS, tiles
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.offers import Offer, obstacles_of, remedy_of
from infoscreen.web.panel.recovery import outages_of
from infoscreen.web.panel.recovery_words import MODE_SENTENCES, MODES
from infoscreen.web.panel.rendering import bare_page, wants
from infoscreen.web.registry import actor_of

SHOWN = 50
"""So many rows a panel shows; the rest is one click away."""

LISTENED_ENOUGH = timedelta(minutes=3)
CONTRADICTIONS_FOR = timedelta(hours=24)

BY_REMEDY = [frozenset({one}) for one in (Condition.CRASHED, Condition.HUNG, Condition.UNREACHABLE)]


async def get_overview(request: web.Request) -> web.StreamResponse:
    """Show how the fleet is."""
    parts = parts_of(request)
    overview = await parts.monitoring.overview()
    if not any(overview.totals.values()):
        return bare_page(request, "first_run.html", overview, here="overview", example=str(uuid4()))
    async with parts.store.read() as connection:
        failed = await client_lists.search(
            connection,
            # By the failure itself: one in maintenance shows that as its status and still wants somebody.
            ClientQuery(unacknowledged=True, sort="-status_since"),
            SHOWN,
        )
        unclear = await _listed(connection, GROUPS["unclear"])
        alone = await _alone(connection, outages=bool(overview.held))
        outages = await outages_of(connection, overview, SHOWN)
        held = [client for outage in outages for client in outage.clients]
        listed = [client.uuid for client in (*alone.items, *unclear.items, *held)]
        in_flight = await commands.in_flight(connection, listed)
        standing = await decisions.standing(connection, listed)
        contradicted = []
        if wants(request, "contradicted"):
            contradicted = await _contradicted(connection, overview.generated_at)
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
        alone=alone,
        unclear=unclear,
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
    connection: Connection, status: frozenset[Condition], limit: int = SHOWN, *, alone: bool = False
) -> Page[Client]:
    query = ClientQuery(status=status, sort="-status_since", alone=alone)
    return await client_lists.search(connection, query, limit)


async def _alone(connection: Connection, *, outages: bool) -> Page[Client]:
    """Return the crashed and silent clients that no outage holds, those first that a command can help."""
    items: list[Client] = []
    total: int | None = 0
    for status in BY_REMEDY:
        found = await _listed(connection, status, max(1, SHOWN - len(items)), alone=outages)
        items += found.items
        total = None if total is None or found.total is None else total + found.total
    return Page(items[:SHOWN], None, total)


def _has_just_begun(overview: Overview) -> bool:
    """Tell whether the daemon has not listened for long enough to have missed anybody yet."""
    since = overview.broker.listening_since
    return since is not None and overview.generated_at - since < LISTENED_ENOUGH


async def _contradicted(connection: Connection, now: datetime) -> list[tuple[ClientCommand, Client]]:
    """Return the commands whose claimed effect did not show lately, with their clients."""
    found = await commands.contradicted_since(connection, now - CONTRADICTIONS_FOR, SHOWN)
    known = await clients.get_many(connection, {command.client_uuid for command in found})
    return [(command, known[command.client_uuid]) for command in found if command.client_uuid in known]
