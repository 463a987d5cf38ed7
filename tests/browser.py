"""Debian's Chromium before the real panel, as people with different eyes, tongues and scripts have it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, Page, async_playwright
from yarl import URL

from infoscreen.domain.accounts import Role
from tests.web import PASSWORD

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 780}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """Yield a running browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


class Place(Protocol):
    """Where a panel is, and who may sign in there with ``PASSWORD``."""

    @property
    def url(self) -> URL: ...

    async def user(self, role: Role) -> object: ...


@dataclass
class Window:
    """A page of someone's browser, and what it complained about."""

    page: Page
    complaints: list[str]

    async def open(self, path: str) -> None:
        """Go to a page and wait until it and its modules are loaded."""
        await self.page.goto(path, wait_until="load")

    async def sign_in(self, username: str) -> None:
        """Send the form to sign in, with ``PASSWORD``, and wait for the next page."""
        await self.page.goto("/login")
        await self.page.fill("#username", username)
        await self.page.fill("#password", PASSWORD)
        async with self.page.expect_navigation():
            await self.page.press("#password", "Enter")

    async def wait_until_live(self) -> None:
        """Wait for the first event: from here on no change is missed."""
        await self.page.wait_for_selector("[data-live-lamp]:not([hidden])[data-greeted]")

    async def violations(self) -> list[str]:
        """Return what axe finds, one line per rule and element."""
        await self.prepare_axe()
        return await self.axe()

    async def prepare_axe(self) -> None:
        """Load axe into the page; once is enough until another page is opened."""
        await self.page.evaluate(AXE_SCRIPT)

    async def axe(self) -> list[str]:
        """Return what axe, which is loaded, finds as the page looks now."""
        options = {"runOnly": RULES, "resultTypes": ["violations"]}
        found = await self.page.evaluate("options => axe.run(options).then(one => one.violations)", options)
        return [
            f"{violation['id']}: {node['html'][:160]} {node['failureSummary']}"
            for violation in found
            for node in violation["nodes"]
        ]

    async def width(self) -> int:
        """Return how wide the page is, scrolled content and all."""
        measured: int = await self.page.evaluate("document.documentElement.scrollWidth")
        return measured


@asynccontextmanager
async def window(
    browser: Browser,
    site: Place,
    role: Role | None = Role.OPERATOR,
    *,
    locale: str = "de-DE",
    **settings: Any,
) -> AsyncIterator[Window]:
    """Open a window, signed in through the form unless ``role`` is None."""
    settings.setdefault("viewport", DESKTOP)
    context = await browser.new_context(base_url=str(site.url), locale=locale, **settings)
    try:
        page = await context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        opened = Window(page, complaints)
        if role is not None:
            await site.user(role)
            await opened.sign_in(role.value)
            await page.wait_for_url(str(site.url) + "/")
        yield opened
    finally:
        await context.close()
