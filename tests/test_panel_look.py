"""The frame of every page: navigation by role, the menu, themes, and colours that a system forces."""

import pytest
from playwright.async_api import Browser, expect

from infoscreen.domain.accounts import Role
from infoscreen.web.panel import ROUTES
from infoscreen.web.panel.navigation import ENTRIES, MenuGroup, entries_for
from tests.browser import DESKTOP, PHONE, chromium, window
from tests.panel import look, send, settle_fleet
from tests.waiting import DEADLINE_SECONDS
from tests.web import Site

__all__ = ["chromium"]

expect.set_options(timeout=DEADLINE_SECONDS * 1000)

BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor"


def test_every_entry_of_the_navigation_leads_to_a_page_that_its_reader_may_see() -> None:
    pages = {route.path: route for route in ROUTES if route.method == "GET"}
    for entry in ENTRIES:
        required = pages[entry.path.partition("?")[0]].role
        assert required is None or entry.role.may(required), entry
    assert len({entry.key for entry in ENTRIES}) == len(ENTRIES)


def test_nobody_sees_entries_before_signing_in_and_roles_see_more_in_turn() -> None:
    for group in MenuGroup:
        assert entries_for(None, group) == []
        viewer, operator, admin = (
            set(entries_for(role, group)) for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
        )
        assert viewer <= operator <= admin


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ADMIN])
async def test_a_page_shows_the_entries_of_its_reader_and_marks_its_own(site: Site, role: Role) -> None:
    await settle_fleet(site.spine)
    page = await look(await site.browser(role), "/clients")
    assert '<a href="/clients" aria-current="page">' in page.text
    assert ('href="/devices/new"' in page.text) == (role is Role.ADMIN)


@pytest.mark.parametrize(
    ("theme", "scheme", "dark_sheet"),
    [
        ("light", 'content="light"', None),
        ("dark", 'content="dark"', ""),
        ("system", 'content="light dark"', ' media="(prefers-color-scheme: dark)"'),
    ],
)
async def test_a_theme_is_remembered_by_the_browser(
    site: Site, theme: str, scheme: str, dark_sheet: str | None
) -> None:
    browser = await site.browser()
    page = await send(browser, "/theme", theme=theme, next="/login?next=/clients")
    assert page.path == "/login?next=/clients"
    assert f'<meta name="color-scheme" {scheme}>' in page.text
    assert ("/dark.css" in page.text) == (dark_sheet is not None)
    if dark_sheet is not None:
        assert f'/dark.css"{dark_sheet}>' in page.text


@pytest.mark.parametrize("forged", ["", "x" * 4000, "light-dark", '"><script>'])
async def test_a_forged_theme_is_that_of_the_system(site: Site, forged: str) -> None:
    browser = await site.visitor({"Cookie": f"infoscreen_theme={forged}"})
    page = await look(browser, "/login")
    assert page.status == 200
    assert '<meta name="color-scheme" content="light dark">' in page.text


@pytest.mark.browser
async def test_the_theme_is_chosen_without_javascript_on_a_phone(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)
    settings = {"viewport": PHONE, "color_scheme": "light", "java_script_enabled": False}
    async with window(chromium, site, **settings) as opened:
        page = opened.page
        bar = await page.locator(".bar").bounding_box()
        assert bar is not None
        assert bar["height"] <= 56, "the bar of a phone is one row"
        light = await page.evaluate(BACKGROUND)
        await page.locator("[data-menu] > summary").click()
        await page.get_by_role("button", name="Dunkel").click()
        dark = await page.evaluate(BACKGROUND)
        assert dark != light
        await page.locator("[data-menu] > summary").click()
        await page.locator(".menu-daily").get_by_role("link", name="Geräte").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Geräte")
        assert await page.evaluate(BACKGROUND) == dark
        await page.emulate_media(color_scheme="dark")
        await page.locator("[data-menu] > summary").click()
        await page.get_by_role("button", name="Hell").click()
        assert await page.evaluate(BACKGROUND) == light


@pytest.mark.browser
async def test_the_menu_closes_by_escape_and_by_a_click_elsewhere(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site, viewport=DESKTOP) as opened:
        page = opened.page
        # No row of buttons here that the open menu could cover half: axe would find those too small.
        await opened.open("/account")
        await opened.wait_until_live()
        summary, body = page.locator("[data-menu] > summary"), page.locator(".menu-body")
        await summary.click()
        await expect(body).to_be_visible()
        assert await opened.violations() == []
        await page.keyboard.press("Escape")
        await expect(body).to_be_hidden()
        await expect(summary).to_be_focused()
        await summary.click()
        await expect(body).to_be_visible()
        await page.locator("h1").click()
        await expect(body).to_be_hidden()


@pytest.mark.browser
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
async def test_what_can_be_clicked_is_24_pixels_high_and_wide(
    chromium: Browser, site: Site, viewport: dict[str, int]
) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site, Role.ADMIN, viewport=viewport) as opened:
        page = opened.page
        for path in ("/", "/clients", "/account"):
            await opened.open(path)
            await page.locator("[data-menu] > summary").click()
            small = await page.evaluate(SMALL_TARGETS)
            assert small == [], f"{path}: {small}"


SMALL_TARGETS = """
() => [...document.querySelectorAll("a, button, summary, input:not([type=hidden]), select")]
  .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest(".unseen, .skip"))
  .filter((one) => getComputedStyle(one).display !== "inline")
  .map((one) => [one, one.getBoundingClientRect()])
  .filter(([, box]) => box.width && (box.width < 24 || box.height < 24))
  .map(([one, box]) => `${one.outerHTML.slice(0, 120)} ${box.width} x ${box.height}`)
"""


@pytest.mark.browser
async def test_colours_that_the_system_forces_leave_every_state_visible(
    chromium: Browser, site: Site
) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site, forced_colors="active") as opened:
        page = opened.page
        await opened.wait_until_live()
        assert await page.evaluate("matchMedia('(forced-colors: active)').matches")
        lamp = await page.locator(".live-lamp").evaluate("one => getComputedStyle(one).backgroundColor")
        assert lamp not in ("rgba(0, 0, 0, 0)", await page.evaluate(BACKGROUND))
        for chosen in (".tile.lit", ".pill", ".count"):
            width = await page.locator(chosen).first.evaluate("one => getComputedStyle(one).borderTopWidth")
            assert width != "0px", chosen
