"""Every page of the panel, by the registry of routes: accessible, as wide as the screen, without an error."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from infoscreen.domain.accounts import Role
from tests.browser import DESKTOP, PHONE, Window, chromium, window
from tests.page_examples import CODED, ERRORS, EXAMPLES, FILES, SIGNED_OUT, furnish, pages
from tests.web import Site, serving

__all__ = ["chromium"]

SIZES: tuple[Any, ...] = (DESKTOP, PHONE)


def test_every_page_has_an_example() -> None:
    patterns = [route.path for route in pages()]
    missing = [path for path in patterns if path not in EXAMPLES]
    assert not missing, f"add an address of {missing} to tests/page_examples.py"
    assert set(EXAMPLES) == set(patterns), "examples of routes that are gone"


async def test_what_is_left_out_of_the_pages_is_no_page(site: Site) -> None:
    await furnish(site)
    browser = await site.browser(Role.ADMIN)
    for path in FILES.values():
        async with browser.get(path, headers={"Accept": "*/*"}) as response:
            assert response.content_type != "text/html" or response.status == 404, path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.browser
async def test_every_page_is_accessible_and_fits_in_both_themes_and_widths(
    chromium: Browser, tmp_path: Path
) -> None:
    async with serving(tmp_path, required=(Role.OPERATOR,)) as site:
        faults = await _walk(chromium, site)
    assert faults == []


async def _walk(chromium: Browser, site: Site) -> list[str]:
    known = await furnish(site)
    faults: list[str] = []
    inside = [
        path.format_map(known)
        for pattern, paths in EXAMPLES.items()
        for path in paths
        if pattern not in SIGNED_OUT
    ]
    async with window(chromium, site, None, reduced_motion="reduce") as opened:
        faults += await _faults(opened, "/login")
        for username in (CODED, Role.OPERATOR.value):
            await opened.sign_in(username)
            faults += await _faults(opened, "/login/factor")
        assert opened.complaints == []
    async with window(chromium, site, Role.ADMIN, reduced_motion="reduce") as opened:
        for path in inside:
            faults += await _faults(opened, path)
        assert opened.complaints == []
        for path in ERRORS:
            faults += await _faults(opened, path)
    async with window(chromium, site, Role.ADMIN, locale="en-GB", viewport=PHONE) as opened:
        for path in inside:
            await opened.open(path)
            if await opened.width() > PHONE["width"]:
                faults.append(f"{path} in English: wider than a phone")
        assert opened.complaints == []
    return faults


async def _faults(opened: Window, path: str) -> list[str]:
    """Return what is wrong with a page, in each of four looks. It is loaded once."""
    await opened.open(path)
    await opened.prepare_axe()
    found = []
    for size in SIZES:
        await opened.page.set_viewport_size(size)
        width = await opened.width()
        if width > size["width"]:
            found.append(f"{path} is {width} px wide at {size['width']}")
        for theme in ("light", "dark"):
            await opened.page.emulate_media(color_scheme=theme)
            found += [f"{path} {theme} {size['width']}: {one}" for one in await opened.axe()]
    return found
