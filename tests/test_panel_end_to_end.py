"""The panel of the daemon's own process, with real Mosquitto, strangers' devices and a browser before it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect
from yarl import URL

from infoscreen.domain.accounts import Role
from tests.broker import Broker
from tests.browser import chromium, window
from tests.daemon import installed
from tests.spine import uuid_of, zulu
from tests.waiting import DEADLINE_SECONDS

__all__ = ["chromium"]

pytestmark = [pytest.mark.broker, pytest.mark.browser, pytest.mark.slow]
expect.set_options(timeout=DEADLINE_SECONDS * 1000)

DEVICE = uuid_of(1)


@dataclass(frozen=True)
class Address:
    """Where the daemon's panel is. Its database has a user for each role already."""

    url: URL

    async def user(self, role: Role) -> None:
        """Do nothing: there is one."""


async def say(broker: Broker, tail: str, *, retain: bool = False, **told: Any) -> None:
    """Publish JSON as the device does."""
    await broker.pub(f"infoscreen/{DEVICE}/{tail}", json.dumps(told), retain=retain)


@asynccontextmanager
async def beating(broker: Broker) -> AsyncIterator[None]:
    """Let the device send heartbeats, as a shell script would."""

    async def beat() -> None:
        while True:
            await say(broker, "heartbeat", timestamp=zulu(datetime.now(UTC)), hostname="foyer")
            await asyncio.sleep(1)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_operator_sees_a_failure_acknowledges_it_and_reboots_the_device(
    tmp_path: Path, broker: Broker, chromium: Browser
) -> None:
    await broker.add_device(DEVICE)
    async with installed(tmp_path / "daemon", broker) as daemon:
        await daemon.start()
        async with (
            window(chromium, Address(URL(f"http://127.0.0.1:{daemon.port}"))) as opened,
            beating(broker),
        ):
            page = opened.page
            await expect(page.locator(".tile-online .tile-count")).to_have_text("1")
            await opened.wait_until_live()
            failed_at = zulu(datetime.now(UTC))
            await say(
                broker,
                "service_failed",
                retain=True,
                unit="app.service",
                failed_at=failed_at,
                client_uuid=DEVICE,
            )
            panel = page.locator(".panel-failed")
            await expect(panel).to_contain_text("foyer")
            await expect(page).to_have_title("(1) Übersicht · infoscreen")
            await page.get_by_role("button", name="Quittieren").click()
            await expect(page.locator(".flash")).to_contain_text("app.service auf foyer wurde quittiert.")
            await expect(panel).to_have_count(0)
            await page.goto(f"/clients/{DEVICE}")
            async with broker.sub(f"infoscreen/{DEVICE}/commands") as hearer:
                await page.get_by_role("link", name="Neustart", exact=True).click()
                await page.get_by_role("dialog").get_by_role("button", name="Neustart").click()
                command = json.loads((await hearer.next()).payload)
            for status in ("accepted", "execution_started", "completed"):
                ack = {"command_id": command["command_id"], "status": status}
                await say(broker, "commands/ack", **ack, error_code=None, error_message=None)
            await expect(page.locator("#commands")).to_contain_text("Ausgeführt")
            await broker.kill()
            await expect(page.locator("#broker")).to_contain_text("Keine Verbindung zum MQTT-Broker.")
            assert opened.complaints == []
