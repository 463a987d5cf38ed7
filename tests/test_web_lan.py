"""Signing in by plain http at a LAN address, where browsers name no site and scripts may be off."""

import pytest
from playwright.async_api import async_playwright

from infoscreen.domain.accounts import Role
from tests.web import PASSWORD, Site

HOST = "screens.lan"
"""Resolved to loopback by the browser alone: to it the address is not one it would trust without TLS."""


@pytest.mark.browser
async def test_a_form_is_taken_from_our_own_page_by_its_origin_alone(site: Site) -> None:
    await site.user(Role.VIEWER)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", f"--host-resolver-rules=MAP {HOST} 127.0.0.1"],
        )
        context = await browser.new_context(java_script_enabled=False)
        page = await context.new_page()
        await page.goto(f"http://{HOST}:{site.url.port}/login")
        await page.fill("input[name=username]", Role.VIEWER.value)
        await page.fill("input[name=password]", PASSWORD)
        async with page.expect_request(lambda request: request.method == "POST") as posted:
            await page.press("input[name=password]", "Enter")
        sent = await (await posted.value).all_headers()
        assert "sec-fetch-site" not in sent, "the browser names the site, so this proves nothing"
        await page.wait_for_url(f"http://{HOST}:{site.url.port}/")
        await browser.close()
