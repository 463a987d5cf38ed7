"""Bulk actions and commands that wait, in the panel: without JavaScript, and one flow in a real browser."""

import re
from html import unescape

import pytest
from playwright.async_api import Browser

from infoscreen.domain.accounts import Role
from infoscreen.domain.commands import Action, CommandStatus
from infoscreen.storage import commands
from infoscreen.storage.commands import CommandQuery
from tests.browser import DESKTOP, PHONE, chromium, window
from tests.panel import (
    CRASHED,
    FAILED,
    GONE,
    HUNG,
    NAMES,
    OFF,
    ONLINE,
    RESTING,
    Shown,
    look,
    send,
    settle_fleet,
)
from tests.spine import uuid_of, zulu
from tests.web import Site

__all__ = ["chromium"]


def hidden(shown: Shown) -> dict[str, str]:
    """Return what the question's form would send by itself."""
    found = re.findall(r'<input type="hidden" name="(action|client_uuids)" value="([^"]*)"', shown.text)
    return {name: unescape(value) for name, value in found}


async def sent_to(site: Site, action: Action) -> set[str]:
    async with site.spine.store.read() as connection:
        found = await commands.search(connection, CommandQuery(action=action), 500)
    return {one.client_uuid for one in found.items if one.status is CommandStatus.PUBLISHED}


async def turns(site: Site, count: int) -> None:
    for _ in range(count):
        await site.spine.releasing.step()
        await site.spine.outbox.step()
        site.spine.clock.advance(0.25)


async def test_everything_that_matches_is_restarted_and_what_is_refused_is_told_before(site: Site) -> None:
    await settle_fleet(site.spine)
    olga = await site.browser(Role.OPERATOR)
    asked = await look(olga, "/bulk/new?scope=all&site=Rathaus&action=restart_app", "en")
    assert asked.status == 200
    assert "App restart: 4 clients?" in asked.words
    for reason in ("In maintenance: 1", "Not connected: 1", "Switched off: 1"):
        assert reason in asked.words
    assert NAMES[RESTING] in asked.words
    begun = await send(olga, "/bulk", **hidden(asked))
    assert begun.path.startswith("/bulk/")
    assert begun.status == 200
    await turns(site, 8)
    assert await sent_to(site, Action.RESTART_APP) == {ONLINE, CRASHED, FAILED, HUNG}
    shown = await look(olga, begun.path, "en")
    assert "Sent: 4" in shown.words
    assert NAMES[CRASHED] in shown.words
    listed = await look(olga, "/bulk", "en")
    assert "App restart: 4 clients" in listed.words


async def test_the_chosen_ones_only_and_a_stop(site: Site) -> None:
    await settle_fleet(site.spine)
    olga = await site.browser(Role.OPERATOR)
    chosen = "&".join(f"client={uuid}" for uuid in (ONLINE, CRASHED, FAILED))
    asked = await look(olga, f"/bulk/new?scope=chosen&action=reboot_host&{chosen}", "de")
    assert "Neustart: 3 Geräte?" in asked.words
    begun = await send(olga, "/bulk", **hidden(asked))
    await turns(site, 1)
    stopped = await send(olga, f"{begun.path}/stop")
    assert "Zurückgezogen: 2." in stopped.words
    await turns(site, 8)
    assert len(await sent_to(site, Action.REBOOT_HOST)) == 1
    assert "/stop" not in stopped.text


async def test_many_want_their_number_typed(site: Site) -> None:
    spine = site.spine
    beats = [(f"{uuid_of(number)}/heartbeat", {"timestamp": zulu(spine.clock.now())}) for number in range(12)]
    await spine.hear(*beats)
    olga = await site.browser(Role.OPERATOR)
    asked = await look(olga, "/bulk/new?scope=all&action=reboot_host", "en")
    refused = await send(olga, "/bulk", **hidden(asked), typed="11")
    assert refused.path == "/clients"
    begun = await send(olga, "/bulk", **hidden(asked), typed="12")
    assert begun.path.startswith("/bulk/")


@pytest.mark.parametrize(
    "query",
    [
        "action=reboot_host",
        "action=reboot_host&scope=all&q=nobody",
        f"action=reboot_host&client={uuid_of(99)}",
    ],
)
async def test_nobody_is_no_reason_for_an_error(site: Site, query: str) -> None:
    await settle_fleet(site.spine)
    olga = await site.browser(Role.OPERATOR)
    shown = await look(olga, f"/bulk/new?{query}", "en")
    assert shown.status == 200
    assert "no client was chosen" in shown.words or "Nothing can be sent" in shown.words


async def test_viewers_look_on_and_change_nothing(site: Site) -> None:
    await settle_fleet(site.spine)
    olga, vera = await site.browser(Role.OPERATOR), await site.browser(Role.VIEWER)
    asked = await look(olga, "/bulk/new?scope=all&action=restart_app")
    begun = await send(olga, "/bulk", **hidden(asked))
    seen = await look(vera, begun.path)
    assert (seen.status, "/stop" in seen.text) == (200, False)
    assert (await send(vera, f"{begun.path}/stop")).status == 403
    assert 'form="bulk"' not in (await look(vera, "/clients")).text


async def test_a_command_waits_for_a_client_that_is_away(site: Site) -> None:
    await settle_fleet(site.spine)
    olga = await site.browser(Role.OPERATOR)
    page = await look(olga, f"/clients/{GONE}", "en")
    assert "Run when it comes back" in page.words
    asked = await look(olga, f"/clients/{GONE}/commands/reboot_host?when_back=1", "en")
    assert NAMES[GONE] in asked.words
    told = await send(olga, f"/clients/{GONE}/commands", action="reboot_host", lasts="7d")
    assert "wieder da" in told.words
    page = await look(olga, f"/clients/{GONE}", "en")
    assert "Waits until the client is back" in page.words
    site.spine.clock.advance(2 * 86_400)
    await site.spine.beat(GONE)
    await turns(site, 2)
    assert await sent_to(site, Action.REBOOT_HOST) == {GONE}


async def test_clients_that_are_away_are_included_on_demand(site: Site) -> None:
    await settle_fleet(site.spine)
    olga = await site.browser(Role.OPERATOR)
    asked = await look(olga, f"/bulk/new?action=reboot_host&client={GONE}&client={OFF}", "en")
    (also,) = re.findall(r'href="(/bulk/new[^"]*when_back=1)"', asked.text)
    again = await look(olga, unescape(also), "en")
    assert "Reboot: 2 clients?" in again.words
    begun = await send(olga, "/bulk", **hidden(again), lasts="3d")
    shown = await look(olga, begun.path, "en")
    assert "Wait until the client is back: 2" in shown.words


@pytest.mark.browser
async def test_a_bulk_action_is_followed_and_stopped_in_a_browser(site: Site, chromium: Browser) -> None:
    await settle_fleet(site.spine)
    for viewport in (DESKTOP, PHONE):
        async with window(chromium, site, locale="en-GB", viewport=viewport) as mine:
            page = mine.page
            await mine.open("/clients")
            for uuid in (ONLINE, FAILED):
                await page.check(f'input[name="client"][value="{uuid}"]')
            await page.select_option("#bulk-action", "screenshot" if viewport is PHONE else "restart_app")
            await page.click('button[name="scope"][value="chosen"]')
            await page.wait_for_selector(".bulk-question")
            assert await mine.violations() == []
            assert await mine.width() <= viewport["width"]
            if viewport is PHONE:
                continue
            await page.click(".bulk-question button.button-act")
            await page.wait_for_selector("#bulk-progress")
            await mine.wait_until_live()
            await turns(site, 1)
            await page.wait_for_selector("#bulk-lines >> text=Sent")
            assert await mine.violations() == []
            await page.click("text=Stop")
            await page.wait_for_selector(".flash >> text=Withdrawn: 1")
            assert mine.complaints == []
