"""The table of clients: searched, filtered, sorted and paged by its address alone."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from types import MappingProxyType
from urllib.parse import urlencode

from aiohttp import web

from infoscreen.domain.clients import Client
from infoscreen.domain.commands import Action
from infoscreen.domain.errors import InvalidInput
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.visible import visible
from infoscreen.storage import client_lists, clients, commands
from infoscreen.storage.acknowledged import care_of
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import Page
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import csv_files
from infoscreen.web.panel.forms import ClientsAddress
from infoscreen.web.panel.groups import CARED_FOR, GROUPS, LEFT_TO_PEOPLE, TITLES
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page, wants
from infoscreen.web.registry import read_query
from infoscreen.words.language import N_

ROWS = 100

ROWS_HEADER = "X-Rows"
"""The clients whose rows a page shows when it asks for newer ones."""

ORDERS: Mapping[str, str] = MappingProxyType(
    {"name": N_("name"), "status_since": N_("status since"), "last_alive": N_("last heartbeat")}
)


@dataclass(frozen=True, slots=True)
class ClientTable:
    """The table as its address asks for it, and the addresses that lead on from there."""

    address: ClientsAddress
    now: datetime

    @property
    def narrowed(self) -> bool:
        """Tell whether anything is filtered out."""
        return any((self.address.q, self.address.status, self.address.site, self.address.tag))

    def matches(self, client: Client, *, cared_for: bool) -> bool:
        """Tell whether a client that was listed still has the status, the site and the tag asked for."""
        asked = self.address
        return (
            (not asked.status or client.status in GROUPS[asked.status])
            and CARED_FOR.get(asked.status, cared_for) is cared_for
            and (not asked.site or client.site == asked.site)
            and (not asked.tag or asked.tag in client.tags)
        )

    @property
    def order(self) -> str:
        """Return the word for the order, to be translated."""
        return ORDERS[self.address.sort.removeprefix("-")]

    def query(self) -> ClientQuery:
        """Return the search; raise ``InvalidInput`` for a status that does not exist."""
        asked = self.address
        if asked.status and asked.status not in GROUPS:
            raise InvalidInput.of(
                "status", FieldFault.NO_SUCH_STATUS, given=visible(asked.status, one_line=True)
            )
        return ClientQuery(
            status=GROUPS[asked.status] if asked.status else frozenset(),
            site=asked.site or None,
            tag=asked.tag or None,
            q=asked.q or None,
            sort=asked.sort,
            cared_for=CARED_FOR.get(asked.status, False),
            cared_at=self.now if asked.status in CARED_FOR else None,
            left_to_people=LEFT_TO_PEOPLE.get(asked.status),
        )

    def link(self, **changes: str) -> str:
        """Return the address of the first page with other filters or another order."""
        wanted = self.address.model_dump(include={"q", "status", "site", "tag", "sort"}) | changes
        if wanted["sort"] == "name":
            wanted["sort"] = ""
        return _address({name: value for name, value in wanted.items() if value})

    @property
    def csv(self) -> str:
        """Return the address of the same list as CSV."""
        return "/clients.csv" + self.link().removeprefix("/clients")

    def following(self, shown: Page[Client]) -> str:
        """Return the address of the page after ``shown``."""
        first = str(self.address.first + len(shown.items))
        return self.link(cursor=shown.next_cursor or "", first=first)


def _address(query: Mapping[str, str]) -> str:
    return f"/clients?{urlencode(query)}" if query else "/clients"


async def get_clients(request: web.Request) -> web.StreamResponse:
    """Show a page of clients."""
    parts = parts_of(request)
    view = ClientTable(read_query(request, ClientsAddress), parts.clock.now())
    async with parts.store.read() as connection:
        shown = await client_lists.search(connection, view.query(), ROWS, view.address.cursor or None)
        left = await _left(connection, request, shown)
        listed = [client.uuid for client in (*shown.items, *left)]
        in_flight = await commands.in_flight(connection, listed)
        care = await care_of(connection, listed, view.now)
        sites = await client_lists.sites(connection) if wants(request, "filters") else []
    return await page(
        request,
        "clients.html",
        here="clients",
        view=view,
        asked=view.address,
        listed=shown,
        left=left,
        in_flight=in_flight,
        care=care,
        sites=sites,
        groups=TITLES,
        actions=list(Action),
    )


CSV_AT_ONCE = 500

CSV_HEADER = (
    *("uuid", "name", "hostname", "site", "tags", "ip", "mac", "status", "status_since_local"),
    *("status_since_utc", "last_heartbeat_local", "last_heartbeat_utc", "software_version", "agent_version"),
    *("process_status", "failed_services", "mqtt_reconnect_count", "description"),
)


async def get_clients_csv(request: web.Request) -> web.StreamResponse:
    """Answer with all clients that the filter matches as CSV."""
    parts = parts_of(request)
    query = ClientTable(read_query(request, ClientsAddress), parts.clock.now()).query()
    zone = language_of(request).zone

    async def rows() -> AsyncIterator[Sequence[Sequence[object]]]:
        cursor = None
        while True:
            async with parts.store.read() as connection:
                found = await client_lists.search(connection, query, CSV_AT_ONCE, cursor)
            yield [_csv_row(client, zone) for client in found.items]
            cursor = found.next_cursor
            if cursor is None:
                return

    return await csv_files.answer(request, "clients.csv", CSV_HEADER, rows())


def _csv_row(client: Client, zone: tzinfo | None) -> Sequence[object]:
    c, local, utc = client, csv_files.local, csv_files.utc
    return (
        *(c.uuid, c.name, c.hostname, c.site, ", ".join(c.tags), c.ip, c.mac, c.status.value),
        *(local(c.status_since, zone), utc(c.status_since), local(c.last_alive, zone), utc(c.last_alive)),
        *(c.software_version, c.agent_version, c.process_status and c.process_status.value),
        *(", ".join(one.unit for one in c.failed_services), c.mqtt_reconnect_count, c.description),
    )


async def _left(connection: Connection, request: web.Request, shown: Page[Client]) -> list[Client]:
    """Return the clients that a reader's page still shows but that are no longer on it."""
    rows = request.headers.get(ROWS_HEADER, "").split(",", ROWS)[:ROWS]
    gone = {uuid for uuid in rows if uuid} - {client.uuid for client in shown.items}
    return list((await clients.get_many(connection, gone)).values()) if gone else []
