"""Acts that stay on the page: shown in place, with a toast that undoes them, and the same by plain forms."""

import re

import pytest
from aiohttp import ClientSession
from playwright.async_api import Browser, Page, expect

from infoscreen.domain.accounts import Role
from infoscreen.storage.recovery import pauses
from tests.browser import chromium, window
from tests.panel import (
    CRASHED,
    FAILED,
    GONE,
    HUNG,
    ONLINE,
    UNIT,
    Shown,
    fail_service,
    look,
    send,
    settle_fleet,
)
from tests.spine import uuid_of, zulu
from tests.waiting import DEADLINE_SECONDS
from tests.web import Site

__all__ = ["chromium"]

expect.set_options(timeout=DEADLINE_SECONDS * 1000)


def undo_of(page: Shown) -> dict[str, str]:
    """Return the fields of the form that takes back what was just done."""
    found = re.search(r'action="/undo">(.*?)</form>', page.text, re.DOTALL)
    assert found is not None, "nothing to undo"
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', found[1]))


async def paused(site: Site) -> int:
    async with site.spine.store.read() as connection:
        return len(await pauses.in_force(connection, site.spine.clock.now()))


async def acknowledge_failure(site: Site, browser: ClientSession) -> Shown:
    failed = (await site.spine.client(FAILED)).failed_services[0]
    address = f"/clients/{FAILED}/clear_service_failed"
    return await send(browser, address, failed_at=zulu(failed.failed_at), unit=failed.unit)


ACTS = {
    "one": lambda browser: send(browser, f"/clients/{CRASHED}/recovery/acknowledge", next="/"),
    "several": lambda browser: send(browser, "/acknowledge", client_uuids=f"{CRASHED},{GONE}"),
}


@pytest.mark.parametrize("act", ACTS)
async def test_taking_over_is_taken_back(site: Site, act: str) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    done = await ACTS[act](browser)
    assert "tag-cared" in done.text
    undone = await send(browser, "/undo", **undo_of(done))
    assert "Rückgängig gemacht." in undone.words
    assert undone.title.startswith("(4) ")
    assert "tag-cared" not in undone.text
    again = await send(browser, "/undo", **undo_of(done))
    assert "nicht mehr rückgängig" in again.words


async def test_an_acknowledged_failure_is_shown_again_and_no_echo_of_ours_hides_it(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    done = await acknowledge_failure(site, browser)
    assert (await site.spine.client(FAILED)).failed_services == []
    await site.spine.outbox.step()
    undone = await send(browser, "/undo", **undo_of(done))
    assert UNIT in undone.words
    assert undone.title.startswith("(4) ")
    await site.spine.hear((f"{FAILED}/service_failed", b""))
    assert [one.unit for one in (await site.spine.client(FAILED)).failed_services] == [UNIT]
    page = await look(browser, f"/clients/{FAILED}")
    assert "operator hat die Quittierung von infoscreen-app.service zurückgenommen." in page.words
    await acknowledge_failure(site, browser)
    assert (await site.spine.client(FAILED)).failed_services == []


async def test_a_pause_is_taken_back(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    done = await send(browser, "/recovery/pause", reason="Messe", lasts="1h", next="/")
    assert await paused(site) == 1
    await send(browser, "/undo", **undo_of(done))
    assert await paused(site) == 0


async def test_only_who_did_it_may_take_it_back_and_only_for_a_minute(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    done = undo_of(await ACTS["one"](browser))
    for stranger, status in ((Role.ADMIN, 200), (Role.VIEWER, 403)):
        refused = await send(await site.browser(stranger), "/undo", **done)
        assert refused.status == status
    assert "tag-cared" in (await look(browser, "/")).text
    site.spine.clock.advance(61)
    assert "nicht mehr rückgängig" in (await send(browser, "/undo", **done)).words
    assert "tag-cared" in (await look(browser, "/")).text


async def test_what_somebody_else_has_done_since_is_left_alone(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    done = undo_of(await ACTS["one"](browser))
    await send(await site.browser(Role.ADMIN), f"/clients/{CRASHED}/recovery/acknowledge", next="/")
    assert "nicht mehr rückgängig" in (await send(browser, "/undo", **done)).words
    assert "quittiert · admin" in (await look(browser, "/")).words


async def test_what_goes_on_is_not_said_to_be_taken_back(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    page = await send(browser, f"/clients/{CRASHED}/recovery/acknowledge", recovery="go_on", next="/")
    assert 'action="/undo"' not in page.text


async def test_a_pause_has_an_end_in_local_time_and_keeps_what_was_typed_when_refused(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    browser.headers["Cookie"] = "infoscreen_zone=Asia/Kolkata"
    fields = {"lasts": "1h", "zone": "Asia/Kolkata", "reason": "Umbau"}
    refused = await send(browser, f"/clients/{HUNG}/recovery/pause", until="2026-03-02T11:00", **fields)
    assert refused.status == 422
    assert 'value="2026-03-02T11:00"' in refused.text
    assert 'value="Umbau"' in refused.text
    assert await paused(site) == 0
    await send(browser, f"/clients/{HUNG}/recovery/pause", until="2026-03-02T18:30", **fields)
    async with site.spine.store.read() as connection:
        [pause] = await pauses.in_force(connection, site.spine.clock.now())
    assert zulu(pause.until) == "2026-03-02T13:00:00Z"


async def mark(page: Page) -> None:
    await page.evaluate("window.untouched = true")


@pytest.mark.browser
async def test_an_act_leaves_page_scroll_and_focus_where_the_work_is(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)
    await fail_service(site.spine, ONLINE)
    async with window(chromium, site, viewport={"width": 1440, "height": 400}) as opened:
        page = opened.page
        await opened.wait_until_live()
        await mark(page)
        first, second = page.locator(f"#failed-{FAILED}"), page.locator(f"#failed-{ONLINE}")
        await second.scroll_into_view_if_needed()
        before = await page.evaluate("scrollY")
        assert before > 0
        order = await page.eval_on_selector_all("[id^=failed-]", "all => all.map(one => one.id)")
        acted, neighbour = (first, second) if order[0] == f"failed-{FAILED}" else (second, first)
        await acted.get_by_role("button").click()
        await expect(acted).to_have_count(0)
        await expect(page.locator(".toast")).to_contain_text("wurde quittiert")
        await expect(neighbour.locator("a.row-name")).to_be_focused()
        assert abs(await page.evaluate("scrollY") - before) < 60
        assert await page.evaluate("window.untouched") is True
        await page.locator(".toast").get_by_role("button", name="Rückgängig machen").click()
        await expect(acted).to_be_visible()
        await expect(page.locator(".toast")).to_contain_text("Rückgängig gemacht.")
        assert await page.evaluate("window.untouched") is True
        assert opened.complaints == []


@pytest.mark.browser
async def test_a_question_in_a_dialog_is_answered_in_place_and_says_why_it_is_refused(
    chromium: Browser, site: Site
) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site) as opened:
        page = opened.page
        await opened.wait_until_live()
        await mark(page)
        await page.locator("#recovery a[data-confirm]").click()
        await page.locator("dialog #until").fill("2020-01-01T10:00")
        await page.locator("dialog #reason").fill("Umbau")
        await page.locator("dialog button.button-act").click()
        await expect(page.locator("dialog .flash-bad")).to_be_focused()
        await expect(page.locator("dialog #reason")).to_have_value("Umbau")
        await page.locator("dialog #until").fill("")
        await page.locator("dialog button.button-act").click()
        await expect(page.locator("dialog")).to_be_hidden()
        await expect(page.locator("#recovery .pill")).to_contain_text("Angehalten")
        await page.locator(f"#unwell-{GONE}").get_by_role("link", name="Quittieren").click()
        await page.locator("dialog button.button-act").click()
        await expect(page.locator("#cared")).to_contain_text("Parkhaus")
        assert await page.evaluate("window.untouched") is True
        # The refusal is a status of its own, which browsers log.
        assert all("422" in one for one in opened.complaints)


@pytest.mark.browser
async def test_a_toast_can_be_used_without_javascript(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site, java_script_enabled=False) as opened:
        page = opened.page
        await page.locator(f"#failed-{FAILED} button").click()
        await page.get_by_role("button", name="Rückgängig machen").click()
        await expect(page.locator(f"#failed-{FAILED}")).to_be_visible()


@pytest.mark.browser
async def test_what_happens_together_is_announced_once(chromium: Browser, site: Site) -> None:
    everybody = [uuid_of(number) for number in range(1, 8)]
    for uuid in everybody:
        await site.spine.beat(uuid, hostname=f"screen-{uuid[-1]}")
    async with window(chromium, site) as opened:
        await opened.wait_until_live()
        told = {"timestamp": zulu(site.spine.clock.now()), "process_status": "crashed"}
        await site.spine.hear(*((f"{uuid}/heartbeat", told) for uuid in everybody[:5]))
        announcer = opened.page.locator("[data-announcer]")
        await expect(announcer).to_contain_text("und 2 weitere")
        await expect(announcer).to_contain_text(": Gestört; ")
