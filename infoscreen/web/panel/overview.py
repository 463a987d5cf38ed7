"""The start page: problems first, and when there is none, that there is none."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import uuid4

from aiohttp import web

from infoscreen.domain.clients import STALE, Client, Condition
from infoscreen.domain.commands import Action, ClientCommand
from infoscreen.services.monitoring import Overview
from infoscreen.storage import clients, commands
from infoscreen.storage.clients import ClientQuery
from infoscreen.storage.engine import Connection
from infoscreen.web.keys import parts_of
from infoscreen.web.panel.groups import GROUPS, tiles
from infoscreen.web.panel.rendering import bare_page

SHOWN = 50
"""So many rows a panel shows; the rest is one click away."""

DARK_SITE = 3
"""So many silent clients of one site, and most of it, rather mean the site than the clients."""

LISTENED_ENOUGH = timedelta(minutes=3)
CONTRADICTIONS_FOR = timedelta(hours=24)

REMEDIES: Mapping[Condition, Action] = MappingProxyType(
    {Condition.CRASHED: Action.RESTART_APP, Condition.HUNG: Action.REBOOT_HOST}
)
"""The one command that is offered beside a problem; an unreachable client would not get any."""


@dataclass(frozen=True, slots=True)
class DarkSite:
    """A site most of whose clients are silent; ``clients`` are those of them that are shown."""

    name: str
    silent: int
    total: int
    clients: list[Client]


async def get_overview(request: web.Request) -> web.StreamResponse:
    """Show how the fleet is."""
    parts = parts_of(request)
    overview = await parts.monitoring.overview()
    if not any(overview.totals.values()):
        return bare_page(request, "first_run.html", overview, here="overview", example=str(uuid4()))
    async with parts.store.read() as connection:
        failed = await clients.search(
            connection,
            # By the failure itself: one in maintenance shows that as its status and still wants somebody.
            ClientQuery(unacknowledged=True, sort="-status_since"),
            SHOWN,
        )
        unwell = await clients.search(
            connection, ClientQuery(status=GROUPS["unwell"], sort="-status_since"), SHOWN
        )
        in_flight = await commands.in_flight(connection, [client.uuid for client in unwell.items])
        dark_sites = await _dark_sites(connection, unwell.items)
        contradicted = await _contradicted(connection, overview.generated_at)
    grouped = {client.uuid for site in dark_sites for client in site.clients}
    return bare_page(
        request,
        "overview.html",
        overview,
        here="overview",
        tiles=tiles(overview.totals),
        failed=failed,
        unwell=unwell,
        in_flight=in_flight,
        dark_sites=dark_sites,
        singles=[client for client in unwell.items if client.uuid not in grouped],
        contradicted=contradicted,
        remedies=REMEDIES,
        just_begun=_has_just_begun(overview),
    )


def _has_just_begun(overview: Overview) -> bool:
    """Tell whether the daemon has not listened for long enough to have missed anybody yet."""
    since = overview.broker.listening_since
    return since is not None and overview.generated_at - since < LISTENED_ENOUGH


async def _dark_sites(connection: Connection, unwell: Sequence[Client]) -> list[DarkSite]:
    """Return the sites of which more than half is silent, worst first."""
    seen = Counter(client.site for client in unwell if client.status in STALE and client.site)
    found: list[DarkSite] = []
    for name, count in seen.items():
        if name is None or count < DARK_SITE:
            continue
        silent = await clients.search(connection, ClientQuery(status=STALE, site=name), 1)
        total = await clients.search(connection, ClientQuery(site=name), 1)
        if silent.total * 2 > total.total:
            shown = [client for client in unwell if client.site == name and client.status in STALE]
            found.append(DarkSite(name, silent.total, total.total, shown))
    return sorted(found, key=lambda site: -site.silent)


async def _contradicted(connection: Connection, now: datetime) -> list[tuple[ClientCommand, Client]]:
    """Return the commands whose claimed effect did not show lately, with their clients."""
    found = await commands.contradicted_since(connection, now - CONTRADICTIONS_FOR, SHOWN)
    known = await clients.get_many(connection, {command.client_uuid for command in found})
    return [(command, known[command.client_uuid]) for command in found if command.client_uuid in known]
