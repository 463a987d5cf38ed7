"""``scripts/picture``: start the demo, let it live for two minutes, and take the README's picture of it.

With a directory as argument it takes every page instead, in both languages, for a desktop and a phone.
"""

import asyncio
import re
import sys
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

PICTURE = Path(__file__).parent.parent / "docs" / "img" / "overview.png"
LIVES_SECONDS = 120
CHROMIUM = "/usr/bin/chromium"
SIZES = {"desktop": (1440, 900), "phone": (360, 780)}
PAGES = ("/", "/clients", "/clients?status=problems", "/account", "/recovery/pause")


async def main(directory: Path | None) -> None:
    """Take the pictures."""
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infoscreen", "demo"), stdout=asyncio.subprocess.PIPE
    )
    try:
        url, password = await _invitation(demo)
        await asyncio.sleep(LIVES_SECONDS)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            if directory is None:
                page = await _signed_in(browser, url, password, "en", SIZES["desktop"])
                await page.screenshot(path=PICTURE)
            else:
                for language in ("de", "en"):
                    for name, size in SIZES.items():
                        page = await _signed_in(browser, url, password, language, size)
                        await _take_all(page, url, directory / f"{language}-{name}")
            await browser.close()
    finally:
        demo.terminate()
        await demo.wait()


async def _invitation(demo: asyncio.subprocess.Process) -> tuple[str, str]:
    """Return the URL and the password that the demo prints."""
    said = ""
    while not (found := re.search(r"(http://\S+?)/\n.*password\s+(\S+)\n", said, re.DOTALL)):
        line = b"" if demo.stdout is None else await demo.stdout.readline()
        if not line:
            raise RuntimeError("the demo ended before it said where it is")
        said += line.decode()
    return found[1], found[2]


async def _signed_in(browser: Browser, url: str, password: str, language: str, size: tuple[int, int]) -> Page:
    context = await browser.new_context(locale=language, viewport={"width": size[0], "height": size[1]})
    page = await context.new_page()
    await page.goto(f"{url}/login")
    await page.fill("input[name=username]", "admin")
    await page.fill("input[name=password]", password)
    await page.press("input[name=password]", "Enter")
    await page.wait_for_selector(".tiles")
    return page


async def _take_all(page: Page, url: str, directory: Path) -> None:
    """Take every page, and that of one client of each condition with its newest command."""
    paths = list(PAGES)
    await page.goto(f"{url}/clients")
    rows = await page.eval_on_selector_all(
        "[data-status]", "all => all.map(e => [e.dataset.status, e.dataset.client])"
    )
    clients = {status: client for status, client in rows if client}
    for client in clients.values():
        paths.append(f"/clients/{client}")
        await page.goto(f"{url}/clients/{client}")
        commands = await page.eval_on_selector_all("a[href^='/commands/']", "all => all.map(e => e.pathname)")
        paths += commands[:1]
    first = next(iter(clients.values()))
    paths += [f"/clients/{first}/edit", f"/clients/{first}/commands/shutdown_host", "/clients?status=nothing"]
    for number, path in enumerate(dict.fromkeys(paths)):
        await page.goto(url + path)
        name = re.sub(r"[^a-z_]+", "-", re.sub(r"[0-9a-f-]{36}", "", path)).strip("-") or "overview"
        await page.screenshot(path=directory / f"{number:02}-{name}.png", full_page=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
