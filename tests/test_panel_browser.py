"""The panel in a real browser: live without reloading, whole without scripts, usable by everyone."""

import asyncio
import itertools
import time

import pytest
from playwright.async_api import Browser, Page, Request, Route, expect

from infoscreen.domain.accounts import Role
from infoscreen.storage import commands
from tests.browser import chromium, window
from tests.panel import CRASHED, FAILED, ONLINE, UNIT, crash, fail_service, settle_fleet
from tests.spine import OPERATOR, zulu
from tests.waiting import DEADLINE_SECONDS
from tests.web import PASSWORD, Site

__all__ = ["chromium"]

pytestmark = pytest.mark.browser
expect.set_options(timeout=DEADLINE_SECONDS * 1000)


async def mark(page: Page) -> None:
    """Leave something in the page that only a reload takes away."""
    await page.evaluate("window.untouched = true")


async def is_marked(page: Page) -> bool:
    return await page.evaluate("window.untouched === true")


async def test_the_first_run_page_gives_way_to_the_overview_when_a_client_speaks(
    chromium: Browser, site: Site
) -> None:
    async with window(chromium, site) as opened:
        await opened.wait_until_live()
        assert await opened.violations() == []
        await site.spine.beat(ONLINE)
        await expect(opened.page.locator(".tiles")).to_be_visible()


async def test_a_failed_service_appears_by_itself_and_goes_when_it_is_acknowledged_elsewhere(
    chromium: Browser, site: Site
) -> None:
    for uuid in (ONLINE, FAILED):
        await site.spine.beat(uuid, hostname=f"screen-{uuid[-1]}")
    async with window(chromium, site) as opened:
        page = opened.page
        await opened.wait_until_live()
        await mark(page)
        panel = page.locator(".panel-failed")
        await expect(panel).to_have_count(0)
        await fail_service(site.spine, FAILED)
        await expect(panel).to_be_visible()
        await expect(panel).to_contain_text(UNIT)
        await expect(page).to_have_title("(1) Übersicht · infoscreen")
        await expect(page.locator("[data-announcer]")).to_have_text("screen-4: Dienst ausgefallen")
        await site.spine.fleet.clear_service_failed(FAILED, OPERATOR)
        await expect(panel).to_have_count(0)
        await expect(page).to_have_title("Übersicht · infoscreen")
        assert await is_marked(page)
        assert opened.complaints == []


async def test_a_half_typed_comment_survives_what_happens_around_it(chromium: Browser, site: Site) -> None:
    await site.spine.beat(ONLINE)
    await fail_service(site.spine, ONLINE)
    async with window(chromium, site) as opened:
        page = opened.page
        await opened.wait_until_live()
        await page.locator(f"#failed-{ONLINE} summary").click()
        comment = page.locator(f"#comment-{ONLINE}")
        await comment.press_sequentially("Techniker ist ")
        site.spine.clock.advance(1)
        await site.spine.beat(FAILED)
        await fail_service(site.spine, FAILED)
        await expect(page.locator(f"#failed-{FAILED}")).to_be_visible()
        await page.keyboard.type("unterwegs")
        await expect(comment).to_have_value("Techniker ist unterwegs")
        await page.keyboard.press("Enter")
        await expect(page.locator(".flash")).to_contain_text("wurde quittiert")


async def test_rows_change_in_place_and_new_matches_only_announce_themselves(
    chromium: Browser, site: Site
) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site) as opened:
        page = opened.page
        await opened.open("/clients?status=crashed")
        await opened.wait_until_live()
        await mark(page)
        rows = page.locator("[data-live-rows] > tr")
        await expect(rows).to_have_count(1)
        await crash(site.spine, ONLINE)
        await expect(page.locator("[data-newcomers] a")).to_have_text("1 neuen Treffer anzeigen")
        await expect(rows).to_have_count(1)
        await site.spine.beat(CRASHED, process_status="running")
        row = page.locator(f"#client-{CRASHED}")
        await expect(row).to_have_class("row-of-online left")
        await expect(row).to_contain_text("passt nicht mehr")
        await site.spine.fleet.remove(CRASHED, OPERATOR)
        await expect(row).to_contain_text("entfernt")
        assert await is_marked(page)
        await page.click("[data-newcomers] a")
        await expect(page.locator(f"#client-{ONLINE}")).to_be_visible()
        await expect(rows).to_have_count(1)
        await opened.open("/clients")
        await opened.wait_until_live()
        await mark(page)
        await crash(site.spine, FAILED)
        await site.spine.fleet.clear_service_failed(FAILED, OPERATOR)
        await expect(page.locator(f"#client-{FAILED} .pill")).to_have_text("Gestört")
        assert await is_marked(page)


async def test_the_first_match_of_an_empty_table_is_announced_too(chromium: Browser, site: Site) -> None:
    await site.spine.beat(ONLINE)
    async with window(chromium, site) as opened:
        await opened.open("/clients?status=crashed")
        await opened.wait_until_live()
        await crash(site.spine, ONLINE)
        await opened.page.get_by_role("link", name="1 neuen Treffer anzeigen").click()
        await expect(opened.page.locator(f"#client-{ONLINE}")).to_be_visible()


async def test_the_last_heartbeat_is_kept_fresh(chromium: Browser, site: Site) -> None:
    await site.spine.beat(ONLINE)
    async with window(chromium, site) as opened:
        await opened.open("/clients")
        await opened.wait_until_live()
        site.spine.clock.advance(30)
        await site.spine.beat(ONLINE)
        shown = opened.page.locator(f'[data-alive="{ONLINE}"] time')
        await expect(shown).to_have_attribute("datetime", zulu(site.spine.clock.now()))


async def test_a_dialog_names_the_device_and_the_life_of_the_command_is_seen_as_it_happens(
    chromium: Browser, site: Site
) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site) as opened:
        page = opened.page
        await opened.open(f"/clients/{CRASHED}")
        await opened.wait_until_live()
        await page.get_by_role("link", name="Neustart", exact=True).click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_have_accessible_name("Galerie neu starten?")
        await expect(dialog.get_by_role("link", name="Abbrechen")).to_be_focused()
        await expect(dialog).to_contain_text("Das ganze Gerät startet neu.")
        assert await opened.violations() == []
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        await page.get_by_role("link", name="Neustart", exact=True).click()
        await dialog.get_by_role("button", name="Neustart").click()
        await expect(page.locator(".flash")).to_contain_text("Neustart angefordert: Galerie.")
        await expect(page.locator("#act [aria-current=step]")).to_contain_text("Gesendet")
        await opened.wait_until_live()
        await mark(page)
        await site.spine.outbox.step()
        await expect(page.locator("#act [aria-current=step]")).to_contain_text("Angenommen")
        async with site.spine.store.read() as connection:
            command = (await commands.in_flight(connection, [CRASHED]))[CRASHED]
        await site.spine.ack(command, "execution_started")
        await expect(page.locator("#act [aria-current=step]")).to_contain_text("Ausgeführt")
        await site.spine.ack(command, "failed", error_code="busy", error_message="try later")
        await expect(page.locator("#commands")).to_contain_text("Fehlgeschlagen")
        assert await is_marked(page)
        assert opened.complaints == []


async def test_a_lost_connection_is_told_with_the_time_of_what_is_seen(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)

    async def refuse(route: Route) -> None:
        await route.abort()

    async with window(chromium, site) as opened:
        page = opened.page
        await opened.wait_until_live()
        banner = page.locator("[data-lost]")
        await expect(banner).to_be_hidden()
        await page.route("**/api/events*", refuse)
        for viewer in tuple(site.parts.live._viewers):
            viewer.end()
        await expect(banner).to_be_visible()
        await expect(banner).to_contain_text("Stand")
        await expect(page.locator("[data-live-lamp]")).to_be_hidden()
        assert await opened.violations() == []
        await crash(site.spine, ONLINE)
        await page.unroute("**/api/events*", refuse)
        await expect(banner).to_be_hidden()
        await expect(page.locator(f"#unwell-{ONLINE}")).to_be_visible()


async def test_the_lamp_turns_within_five_seconds_of_a_silence(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)
    site.parts.live.heartbeat_seconds = 3_600
    async with window(chromium, site) as opened:
        page = opened.page
        await page.clock.install()
        await opened.open("/clients")
        await opened.wait_until_live()
        await page.route("**/api/events*", lambda route: route.abort())
        await page.clock.run_for(3_000)
        await expect(page.locator("[data-live-lamp]")).to_be_visible()
        await page.clock.run_for(2_000)
        await expect(page.locator("[data-live-lamp]")).to_be_hidden()


async def test_a_line_that_has_gone_silent_is_not_taken_for_a_quiet_one(
    chromium: Browser, site: Site
) -> None:
    await settle_fleet(site.spine)

    async def swallow(route: Route) -> None:
        await route.abort()

    async with window(chromium, site) as opened:
        page = opened.page
        await page.clock.install()
        await opened.open("/clients")
        await opened.wait_until_live()
        await page.route("**/api/events*", swallow)
        await page.clock.fast_forward(40_000)
        await page.clock.run_for(4_000)
        await expect(page.locator("[data-lost]")).to_be_visible()


async def test_a_tab_that_nobody_looks_at_gives_its_line_back_and_takes_it_up_again(
    chromium: Browser, site: Site
) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site) as opened:
        page = opened.page
        await page.clock.install()
        await opened.open("/clients")
        await opened.wait_until_live()
        await turn(page, "hidden")
        async with page.expect_event("requestfailed", is_stream):
            await page.clock.run_for(25_000)
        await crash(site.spine, ONLINE)
        await page.clock.run_for(65_000)
        await expect(page).to_have_title("(5) Geräte · infoscreen")
        await expect(page.locator("[data-live-lamp]")).to_be_hidden()
        async with page.expect_event("request", is_stream):
            await turn(page, "visible")
        await expect(page.locator("[data-live-lamp]")).to_be_visible()


def is_stream(request: Request) -> bool:
    return "/api/events" in request.url


async def turn(page: Page, visibility: str) -> None:
    """Let the page believe that its tab was hidden or shown."""
    await page.evaluate(
        """visibility => {
            Object.defineProperty(document, "visibilityState", { value: visibility, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        visibility,
    )


async def test_everything_can_be_done_without_javascript(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site, java_script_enabled=False) as opened:
        page = opened.page
        await expect(page.locator(".foot")).to_contain_text("Ohne JavaScript")
        await page.locator(f"#failed-{FAILED} summary").click()
        await page.fill(f"#comment-{FAILED}", "Techniker kommt")
        await page.get_by_role("button", name="Quittieren: Halle").click()
        await expect(page.locator(".flash")).to_contain_text(f"{UNIT} auf Halle wurde quittiert.")
        await page.get_by_role("link", name="App neu starten: Galerie").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("App auf Galerie neu starten?")
        await page.get_by_role("button", name="App neu starten").click()
        await expect(page.locator(".flash")).to_contain_text("App-Neustart angefordert: Galerie.")
        await page.get_by_role("link", name="Geräte", exact=True).click()
        await page.fill("#q", "foyer")
        await page.get_by_role("button", name="Filtern").click()
        await expect(page.locator("[data-live-rows] > tr")).to_have_count(1)
        await page.locator("[data-menu] > summary").click()
        await page.get_by_role("button", name="English").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Clients")
        await page.locator("[data-menu] > summary").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_url(str(site.url) + "/login")


async def test_the_keyboard_reaches_the_content_past_the_bar(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site) as opened:
        page = opened.page
        await opened.open("/clients")
        await page.keyboard.press("Tab")
        await expect(page.locator(".skip")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()


async def test_a_double_click_on_a_form_is_sent_once(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site) as opened:
        page = opened.page
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        await opened.open(f"/clients/{ONLINE}/commands/reboot_host")
        await page.get_by_role("button", name="Neustart").dblclick()
        await expect(page.locator(".flash")).to_contain_text("Neustart angefordert: Foyer.")
        assert len(sent) == 1


async def test_two_people_see_each_others_acts(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site) as one, window(chromium, site, Role.ADMIN) as other:
        await asyncio.gather(one.wait_until_live(), other.wait_until_live())
        await one.page.get_by_role("button", name="Quittieren: Halle").click()
        await expect(one.page.locator(".flash")).to_be_visible()
        await expect(other.page.locator(".panel-failed")).to_have_count(0)


async def test_signing_in_keeps_the_name_after_a_wrong_password(chromium: Browser, site: Site) -> None:
    await site.user(Role.OPERATOR)
    async with window(chromium, site, None) as opened:
        page = opened.page
        await opened.open("/login")
        await page.fill("#username", "operator")
        await page.fill("#password", "wrong")
        await page.press("#password", "Enter")
        await expect(page.get_by_role("alert")).to_contain_text("Benutzername oder Passwort ist falsch.")
        await expect(page.locator("#password")).to_be_focused()
        await page.fill("#password", PASSWORD)
        await page.press("#password", "Enter")
        await expect(page).to_have_url(str(site.url) + "/")


async def test_the_recovery_is_paused_in_a_dialog_and_others_see_it_at_once(
    chromium: Browser, site: Site
) -> None:
    await settle_fleet(site.spine)
    await site.spine.recovering.poll()
    async with window(chromium, site) as watcher, window(chromium, site) as opened:
        await watcher.wait_until_live()
        page = opened.page
        await opened.open(f"/clients/{CRASHED}")
        await opened.wait_until_live()
        await page.click("#recovery .panel-head a[data-confirm]")
        await page.fill("dialog #reason", "Umbau im Foyer")
        await page.select_option("dialog #lasts", "4h")
        await page.click("dialog .button-act")
        await expect(page.locator("#recovery")).to_contain_text("Umbau im Foyer")
        await site.spine.recovering.poll()
        await expect(watcher.page.locator(f"#unwell-{CRASHED}")).to_contain_text("Umbau im Foyer")
        await page.click("#recovery .panel-head form button")
        await expect(page.locator("#recovery .panel-head a[data-confirm]")).to_be_visible()
        assert opened.complaints == []


async def test_the_live_view_never_asks_for_a_whole_page_again(chromium: Browser, site: Site) -> None:
    await site.spine.beat(ONLINE)
    async with window(chromium, site) as opened:
        await opened.open(f"/clients/{ONLINE}")
        await opened.wait_until_live()
        asked: list[tuple[str | None, float]] = []

        def note(request: Request) -> None:
            if request.url.endswith(f"/clients/{ONLINE}"):
                asked.append((request.headers.get("x-live"), time.monotonic()))

        opened.page.on("request", note)
        for number in range(4):
            site.spine.clock.advance(30)
            await site.spine.beat(ONLINE, current_process=f"app {number}")
            await expect(opened.page.locator("#device")).to_contain_text(f"app {number}", timeout=30_000)
        assert asked
        assert all(parts and "head" in parts.split(",") for parts, _ in asked)
        # Timers of a browser may fire a little early, never half.
        gaps = [later - earlier for (_, earlier), (_, later) in itertools.pairwise(asked)]
        assert all(gap > 1.5 for gap in gaps), gaps
