"""Lists as CSV: the same clients as on the page, harmless in spreadsheets, also when there are many."""

import csv
import io
from collections.abc import AsyncIterator, Sequence

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import text

from infoscreen.domain.accounts import Role
from infoscreen.storage.budget import LEAST_SECONDS, limited
from infoscreen.web.keys import PARTS
from infoscreen.web.panel import csv_files
from infoscreen.web.panel.csv_files import FORMULA, cell
from tests.panel import CRASHED, HUNG, NAMES, look, settle_fleet
from tests.spine import ADMIN, uuid_of, zulu
from tests.web import Site


async def read(site: Site, path: str, role: Role = Role.ADMIN) -> list[dict[str, str]]:
    browser = await site.browser(role)
    async with browser.get(path, headers={"Cookie": "infoscreen_zone=Europe/Berlin"}) as response:
        assert response.status == 200
        assert response.content_type == "text/csv"
        assert "attachment" in response.headers["Content-Disposition"]
        text = (await response.read()).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("begin", FORMULA)
def test_no_cell_begins_a_formula(begin: str) -> None:
    assert cell(f"{begin}cmd|' /C calc'!A0")[0] not in "=+-@\t\r"
    assert cell("fine") == "fine"
    assert "\n" not in cell("two\nlines")


async def test_the_file_has_what_the_page_has(site: Site) -> None:
    await settle_fleet(site.spine)
    rows = await read(site, "/clients.csv?status=unwell&sort=-name", Role.VIEWER)
    assert {CRASHED, HUNG} <= {row["uuid"] for row in rows}
    assert [row["name"] for row in rows] == sorted((row["name"] for row in rows), reverse=True)
    (crashed,) = (row for row in rows if row["uuid"] == CRASHED)
    assert crashed["last_heartbeat_utc"] == "2026-03-02T07:10:00Z"
    assert crashed["site"] == "Rathaus"
    assert len(await read(site, "/clients.csv")) == len(NAMES)
    browser = await site.browser(Role.VIEWER)
    assert "/clients.csv?status=unwell" in (await look(browser, "/clients?status=unwell")).text
    async with browser.get("/clients.csv?status=nonsense") as response:
        assert response.status == 422


async def test_a_hostile_name_stays_text_and_many_clients_come_whole(site: Site) -> None:
    spine = site.spine
    at = zulu(spine.clock.now())
    await spine.hear(*((f"{uuid_of(number)}/heartbeat", {"timestamp": at}) for number in range(1_203)))
    await spine.fleet.edit(uuid_of(7), {"name": "=cmd|'/C calc'!A0", "description": 'a "b", c\nd'}, ADMIN)
    rows = await read(site, "/clients.csv")
    assert len({row["uuid"] for row in rows}) == len(rows) == 1_203
    (hostile,) = (row for row in rows if row["uuid"] == uuid_of(7))
    assert hostile["name"] == "'=cmd|'/C calc'!A0"


async def test_the_audit_trail_is_shown_filtered_and_written(site: Site) -> None:
    await settle_fleet(site.spine)
    await site.spine.fleet.edit(CRASHED, {"description": "=1+1"}, ADMIN)
    anton = await site.browser(Role.ADMIN)
    shown = await look(anton, f"/audit?action=client.edit&target=client/{CRASHED}", "en")
    assert (shown.status, "client.edit" in shown.words, "=1+1" in shown.words) == (200, True, True)
    rows = await read(site, f"/audit.csv?action=client.edit&target=client/{CRASHED}")
    assert {row["target"] for row in rows} == {f"client/{CRASHED}"}
    assert len(rows) == 2
    nothing = await look(anton, "/audit?actor=nobody", "en")
    assert "No entry matches." in nothing.words
    olga = await site.browser(Role.OPERATOR)
    for path in ("/audit", "/audit.csv"):
        assert (await look(olga, path)).status == 403


async def test_a_long_file_may_take_more_of_the_database_than_a_page(site: Site) -> None:
    """Each part has a budget of its own: a file of all clients of a large fleet once broke off."""
    store, clock, parts = site.spine.store, site.spine.clock, 20

    async def rows() -> AsyncIterator[Sequence[Sequence[object]]]:
        for part in range(parts):
            async with store.read() as connection:
                await connection.execute(text("SELECT 1"))
            yield [[part]]

    async def handler(request: web.Request) -> web.StreamResponse:
        with limited(LEAST_SECONDS / 1_000, clock.monotonic):
            return await csv_files.answer(request, "parts.csv", ["part"], rows())

    app = web.Application()
    app[PARTS] = site.parts
    app.router.add_get("/", handler)
    async with TestClient(TestServer(app)) as browser, browser.get("/") as response:
        assert len((await response.text()).splitlines()) == 1 + parts
