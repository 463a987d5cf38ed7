"""What a device says is text on every page, and pages do not jump when it speaks."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from playwright.async_api import Browser, expect
from pydantic import BaseModel

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import BadMessage
from infoscreen.wire import examples, topics
from infoscreen.wire.messages import decode
from tests.browser import DESKTOP, PHONE, chromium, window
from tests.panel import ONLINE, settle_fleet
from tests.spine import Spine, uuid_of
from tests.waiting import DEADLINE_SECONDS
from tests.web import Site

__all__ = ["chromium"]

pytestmark = pytest.mark.browser
expect.set_options(timeout=DEADLINE_SECONDS * 1000)

TEXTS = {
    "markup": "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">'\"</p>",
    "formula": "=cmd|' /C calc'!A0",
    "control": "a\x1b[31m\x07\x7f\r\n\u202eb\u2066c\u200b",
    "long": "W" * 500,
    "too long": "W" * 4_000,
    "template": "{{ 7 * 7 }}{% raw %}%(name)s${7*7}",
}
MESSAGES: dict[str, Any] = {
    "discovery": examples.DISCOVERY,
    "heartbeat": examples.HEARTBEAT,
    "health": examples.HEALTH,
    "service_failed": examples.SERVICE_FAILED,
    "logs/warn": examples.LOG_LINE,
    "commands/ack": examples.EXPIRED,
}
"""By the end of the topic: one full message of each kind that a device can send."""

UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u202a-\u202e\u2066-\u2069]")


def told(message: BaseModel | msgspec.Struct) -> dict[str, Any]:
    """Return what a device sends."""
    if isinstance(message, BaseModel):
        return json.loads(message.model_dump_json())
    return json.loads(msgspec.json.encode(message))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the paths of all values that are no containers."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    found = [leaf for key, child in children for leaf in leaves(child, (*path, key))]
    yield from found or [path]


def spoilt(whole: dict[str, Any], path: tuple[Any, ...], text: str) -> dict[str, Any]:
    copy = json.loads(json.dumps(whole))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = text
    return copy


def hostile(tail: str, uuid: str, text: str, **kept: str) -> tuple[dict[str, Any], int]:
    """Return a message with the text in every field that may hold any, and in how many."""
    message, count = told(MESSAGES[tail]), 0
    message = {
        key: uuid if key in ("uuid", "client_uuid") else value for key, value in message.items()
    } | kept
    topic = topics.parse(f"infoscreen/{uuid}/{tail}")
    for path in list(leaves(message)):
        if path[0] in kept or path[0] in ("uuid", "client_uuid"):
            continue
        trial = spoilt(message, path, text)
        try:
            decode(topic, json.dumps(trial).encode())
        except BadMessage:
            continue
        message, count = trial, count + 1
    return message, count


async def speak(spine: Spine, uuid: str, text: str) -> None:
    """Let a device say the text in every field."""
    await spine.beat(uuid)
    command = await spine.request(uuid)
    await spine.outbox.step()
    for tail in MESSAGES:
        kept = {"command_id": command.command_id, "status": "failed"} if tail == "commands/ack" else {}
        message, count = hostile(tail, uuid, text, **kept)
        assert count > 0, tail
        await spine.hear((f"{uuid}/{tail}", message))


def test_every_message_has_fields_for_text() -> None:
    text = TEXTS["formula"]
    counts = {tail: hostile(tail, uuid_of(1), text)[1] for tail in MESSAGES}
    assert counts["heartbeat"] >= 5
    assert counts["discovery"] >= 8
    assert all(counts.values()), counts


WIDE = """width => [...document.querySelectorAll("main *")]
    .filter(one => one.getBoundingClientRect().right > width && !one.children.length)
    .slice(0, 5).map(one => one.parentElement.outerHTML.slice(0, 200))"""


@pytest.mark.slow
async def test_what_a_device_says_is_text_everywhere(chromium: Browser, site: Site) -> None:
    clients = {name: uuid_of(number) for number, name in enumerate(TEXTS, 1)}
    for name, uuid in clients.items():
        await speak(site.spine, uuid, TEXTS[name])
        site.spine.clock.advance(1)
    paths = ["/", "/clients", *(f"/clients/{uuid}" for uuid in clients.values())]
    async with window(chromium, site, Role.ADMIN, viewport=PHONE) as opened:
        page = opened.page
        for path in paths:
            await opened.open(path)
            shown = await page.inner_text("body")
            assert not UNSEEN.search(shown), (path, UNSEEN.search(shown))
            assert await page.title() != "taken", path
            assert await page.locator("body script, body img[src=x], [onerror]").count() == 0, path
            for size in (DESKTOP, PHONE):
                await page.set_viewport_size(size)
                assert await opened.width() <= size["width"], await page.evaluate(WIDE, size["width"])
        await opened.open(f"/clients/{clients['markup']}")
        assert "<script>document.title='taken'</script>" in await page.inner_text("body")
        await opened.open(f"/clients/{clients['template']}")
        assert "{{ 7 * 7 }}" in await page.inner_text("body")
        assert opened.complaints == []


SHIFTS = """() => {
    window.shifts = [];
    new PerformanceObserver(list => window.shifts.push(...list.getEntries().filter(one => !one.hadRecentInput)
        .map(one => one.value))).observe({ type: "layout-shift", buffered: true });
}"""


@pytest.mark.parametrize("path", ["/clients", f"/clients/{ONLINE}"])
async def test_pages_do_not_jump_when_something_is_heard(chromium: Browser, site: Site, path: str) -> None:
    await settle_fleet(site.spine)
    async with window(chromium, site) as opened:
        page = opened.page
        await opened.open(path)
        await opened.wait_until_live()
        await page.evaluate(SHIFTS)
        for number in range(3):
            site.spine.clock.advance(30)
            health = {
                "timestamp": site.spine.clock.now().isoformat(),
                "health_metrics": {"cpu_percent": 7 * number},
            }
            await site.spine.hear((f"{ONLINE}/health", health))
            await site.spine.beat(ONLINE, hostname=f"name-{number}", current_process="player")
            await expect(page.locator("main")).to_contain_text(f"name-{number}")
        shifts = await page.evaluate("window.shifts")
        assert sum(shifts) < 0.02, shifts
