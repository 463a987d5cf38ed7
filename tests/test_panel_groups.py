"""How the overview groups problems: who needs a person, who is being recovered, which services failed."""

import re

import pytest
from playwright.async_api import Browser, expect

from infoscreen.domain.accounts import Role
from tests.browser import DESKTOP, PHONE, chromium, window
from tests.panel import (
    CRASHED,
    FAILED,
    GONE,
    HUNG,
    RESTING,
    UNIT,
    Shown,
    crash,
    fail_service,
    look,
    send,
    settle_fleet,
)
from tests.spine import OPERATOR, Spine, uuid_of, zulu
from tests.test_panel import make_unclear
from tests.test_panel_recovery import crash_on, switch_on
from tests.waiting import DEADLINE_SECONDS
from tests.web import Site

__all__ = ["chromium"]

expect.set_options(timeout=DEADLINE_SECONDS * 1000)

LONG = {
    uuid_of(1): "X" * 80,
    uuid_of(2): "لوحة العرض الرئيسية في الردهة",
    uuid_of(3): "会议室大屏幕显示器" * 4,
    uuid_of(4): "📺🍽️" * 20,
}


def rows_below(page: Shown, title: str) -> list[str]:
    """Return the clients of a group, by the id of its heading."""
    found = re.search(rf'id="{title}".*?<ul class="rows">(.*?)</ul>', page.text, re.DOTALL)
    return [] if found is None else re.findall(r'id="(?:unwell|failed)-([0-9a-f-]{36})"', found[1])


async def many_crashed(spine: Spine, count: int) -> None:
    """Let so many clients be crashed, before any poll of the recovery."""
    told = {"timestamp": zulu(spine.clock.now()), "process_status": "crashed", "current_process": "player"}
    await spine.hear(*((f"{uuid_of(number)}/heartbeat", told) for number in range(1, count + 1)))
    await spine.watch.look()


async def test_whom_the_recovery_treats_is_folded_and_whom_it_leaves_comes_first(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    undecided = await look(browser, "/")
    assert set(rows_below(undecided, "needs-person-title")) == {CRASHED, HUNG, GONE}
    switch_on(site)
    await crash_on(site, 2)
    treated = await look(browser, "/")
    assert CRASHED in rows_below(treated, "recovering-title")
    assert CRASHED not in rows_below(treated, "needs-person-title")
    assert '<details class="panel panel-fold"' in treated.text
    await site.spine.fleet.edit(CRASHED, {"auto_recovery": False}, OPERATOR)
    await crash_on(site, 1)
    left = await look(browser, "/")
    assert CRASHED in rows_below(left, "needs-person-title")
    assert left.text.index("needs-person-title") < left.text.index("failures-title")
    for group, count in (("needs_person", 1), ("recovering", 0)):
        listed = await look(browser, f"/clients?status={group}&q=Galerie")
        assert len(re.findall(r'id="client-[0-9a-f-]{36}"', listed.text)) == count, group


async def test_a_dry_run_recovers_nobody(site: Site) -> None:
    await settle_fleet(site.spine)
    await crash_on(site, 2)
    page = await look(await site.browser(Role.VIEWER), "/")
    assert rows_below(page, "recovering-title") == []
    assert CRASHED in rows_below(page, "needs-person-title")


async def test_all_failed_services_are_acknowledged_but_none_that_failed_since(site: Site) -> None:
    await settle_fleet(site.spine)
    await fail_service(site.spine, RESTING)
    browser = await site.browser(Role.OPERATOR)
    overview = await look(browser, "/")
    assert 'href="/failures/acknowledge' in overview.text
    asked = await look(browser, "/failures/acknowledge")
    assert "Ausgefallene Dienste von 2 Geräten quittieren?" in asked.words
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', asked.text))
    site.spine.clock.advance(5)
    await fail_service(site.spine, FAILED, unit="later.service")
    done = await send(browser, "/failures/acknowledge", comment="unterwegs", **hidden)
    assert "Quittiert: 2, nicht möglich: 0." in done.words
    assert [one.unit for one in (await site.spine.client(FAILED)).failed_services] == ["later.service"]
    assert (await site.spine.client(RESTING)).failed_services == []
    again = await send(browser, "/failures/acknowledge", **hidden)
    assert "Quittiert: 0, nicht möglich: 2." in again.words
    viewer = await site.browser(Role.VIEWER)
    assert (await send(viewer, "/failures/acknowledge", follow=False, **hidden)).status == 403


async def test_all_unclear_clients_are_among_those_that_need_a_person(site: Site) -> None:
    await crash(site.spine, uuid_of(1))
    await make_unclear(site.spine, uuid_of(2), uuid_of(3))
    page = await look(await site.browser(Role.OPERATOR), "/")
    assert set(rows_below(page, "needs-person-title")) == {uuid_of(1), uuid_of(2), uuid_of(3)}
    assert "/acknowledge?status=needs_person" in page.text
    asked = await look(await site.browser(Role.OPERATOR), "/acknowledge?status=needs_person")
    assert "Um 3 Geräte kümmern?" in asked.words


@pytest.mark.browser
async def test_46_problems_fit_two_screens_in_rows_of_one_height(chromium: Browser, site: Site) -> None:
    await many_crashed(site.spine, 46)
    for uuid, name in LONG.items():
        await site.spine.fleet.edit(uuid, {"name": name, "site": "Messe " * 20}, OPERATOR)
    async with window(chromium, site, viewport=DESKTOP) as opened:
        page = opened.page
        rows = page.locator("#needs_person li.row-problem")
        await expect(rows).to_have_count(46)
        last = await rows.last.bounding_box()
        assert last is not None
        assert last["y"] + last["height"] <= 2 * DESKTOP["height"]
        heights = await rows.evaluate_all("all => [...new Set(all.map(one => one.offsetHeight))]")
        assert len(heights) == 1, heights
        for width in (1024, PHONE["width"]):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await opened.width() <= width
        await page.set_viewport_size(DESKTOP)
        why = page.locator(f"#why-{uuid_of(5)}")
        await why.locator("summary").click()
        await expect(why).to_have_attribute("open", "")


@pytest.mark.browser
async def test_the_comment_of_a_failed_service_opens_on_demand_without_javascript(
    chromium: Browser, site: Site
) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site, java_script_enabled=False) as opened:
        page = opened.page
        field = page.locator(f"#comment-{FAILED}")
        await expect(field).to_be_hidden()
        await page.locator(f"#failed-{FAILED} summary").click()
        await field.fill("Techniker kommt")
        await page.locator(f"#failed-{FAILED} button").click()
        await expect(page.locator(".flash")).to_contain_text(f"{UNIT} auf Halle wurde quittiert.")
