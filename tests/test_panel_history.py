"""A client's history: days, commands as one line, repeats folded, ordinary log lines only when asked for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, expect

from infoscreen.domain.accounts import Role
from infoscreen.domain.commands import Action
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.timeline import TimelineEntry
from infoscreen.web.panel.history import days_of
from infoscreen.words.language import language
from tests.browser import chromium, window
from tests.panel import ONLINE, look, settle_fleet
from tests.spine import Spine, zulu
from tests.waiting import DEADLINE_SECONDS
from tests.web import Site

__all__ = ["chromium"]

expect.set_options(timeout=DEADLINE_SECONDS * 1000)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
GERMAN = language("de").at(UTC, NOON)


def logged(minutes: int, text: str = "no network", level: str = "warn") -> TimelineEntry:
    return TimelineEntry(at=NOON - timedelta(minutes=minutes), kind=TimelineKind.LOG, text=text, level=level)


async def log(spine: Spine, level: str, message: str) -> None:
    told = {"timestamp": zulu(spine.clock.now()), "message": message}
    await spine.hear((f"{ONLINE}/logs/{level}", told))


def test_what_is_said_again_and_again_is_one_line_with_a_count() -> None:
    entries = [logged(1), logged(2), logged(3), logged(4, "other"), logged(5), logged(6, level="error")]
    [day] = days_of(entries, GERMAN, UTC)
    assert [(line.times, line.since) for line in day.lines] == [
        (3, NOON - timedelta(minutes=3)),
        (1, NOON - timedelta(minutes=4)),
        (1, NOON - timedelta(minutes=5)),
        (1, NOON - timedelta(minutes=6)),
    ]
    grown = days_of([logged(0), *entries], GERMAN, UTC)[0].lines[0]
    assert (grown.times, grown.key) == (4, day.lines[0].key)


def test_days_are_those_of_the_reader() -> None:
    entries = [logged(minutes * 60, str(minutes)) for minutes in range(48)]
    days = days_of(entries, GERMAN, UTC)
    assert [len(day.lines) for day in days] == [13, 24, 11]
    assert [GERMAN.day(day.noon) for day in days] == ["Heute, Mo., 2. März", "So., 1. März", "Sa., 28. Feb."]
    keys = [line.key for day in days for line in day.lines]
    assert len(set(keys)) == len(keys)
    old = replace(logged(0), at=NOON - timedelta(days=400))
    assert GERMAN.day(old.at).endswith("2025")


async def test_ordinary_log_lines_are_shown_only_when_asked_for(site: Site) -> None:
    await settle_fleet(site.spine)
    for level in ("debug", "info", "warn", "error"):
        await log(site.spine, level, f"line-{level}")
    browser = await site.browser(Role.VIEWER)
    shown = {
        show: {level for level in ("debug", "info", "warn", "error") if f"line-{level}" in page.text}
        for show in ("", "logs", "commands")
        for page in [await look(browser, f"/clients/{ONLINE}?show={show}")]
    }
    assert shown == {"": {"warn", "error"}, "logs": {"debug", "info", "warn", "error"}, "commands": set()}


async def test_a_command_is_one_line_with_its_steps_inside(site: Site) -> None:
    await settle_fleet(site.spine)
    spine = site.spine
    command = await spine.request(ONLINE, Action.RESTART_APP)
    await spine.outbox.step()
    for status in ("accepted", "execution_started", "completed", "completed"):
        spine.clock.advance(1)
        await spine.ack(command, status)
    page = await look(await site.browser(Role.VIEWER), f"/clients/{ONLINE}")
    history = page.text[page.text.index('id="history"') :]
    assert history.count(f'href="/commands/{command.command_id}"') == 1
    steps = history[history.index('<details id="steps-') :].partition("</details>")[0]
    assert steps.count("<li>") >= 4
    assert steps.count("Ausgeführt") == 2, "once in the line and once among its steps"


@pytest.mark.browser
async def test_new_entries_do_not_push_what_is_being_read(chromium: Browser, site: Site) -> None:
    await settle_fleet(site.spine)
    for number in range(30):
        await log(site.spine, "warn", f"line {number}")
        site.spine.clock.advance(1)
    async with window(chromium, site, viewport={"width": 1440, "height": 500}) as opened:
        page = opened.page
        await opened.open(f"/clients/{ONLINE}")
        await opened.wait_until_live()
        line = page.locator("#history li", has_text="line 20").first
        await line.evaluate("one => scrollTo(0, one.getBoundingClientRect().top + scrollY - 250)")
        before = await line.bounding_box()
        await log(site.spine, "error", "the newest")
        site.spine.clock.advance(1)
        await site.spine.beat(ONLINE, process_status="running")
        button = page.locator("[data-newer]")
        await expect(button).to_have_text("1 neuen Eintrag anzeigen")
        after = await line.bounding_box()
        assert before is not None
        assert after is not None
        assert abs(after["y"] - before["y"]) < 60, "the button itself, not the entries"
        newest = page.locator("#history li", has_text="the newest")
        await expect(newest).to_be_hidden()
        await button.evaluate("one => one.click()")
        await expect(newest).to_be_visible()
