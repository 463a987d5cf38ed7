"""The demo's own visits to its daemon: the administrator's account, signing in, names for the clients."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import aiohttp

from infoscreen.clock import SystemClock
from infoscreen.demo.plan import ADMIN
from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import NotFound
from infoscreen.services.accounts import CLI, Accounts
from infoscreen.services.passwords import Passwords
from infoscreen.simulator.identity import Identity
from infoscreen.storage import schema
from infoscreen.storage.engine import Store

NAMING_SECONDS = 120.0
PAUSE_SECONDS = 0.5

MAILBOX = "Mailbox"
DELAY_SECONDS = 15
"""Nobody watches a demo for the ten minutes that pass before people are told of a client."""


async def prepare_database(url: str, password: str) -> None:
    """Bring the database up to date, and give the administrator this password."""
    await schema.upgrade(url)
    store, passwords = Store(url), Passwords()
    accounts = Accounts(store, SystemClock(), passwords)
    try:
        try:
            user = await accounts.user_named(ADMIN)
        except NotFound:
            await accounts.add_user(ADMIN, password, Role.ADMIN, CLI)
        else:
            await accounts.set_password(user.id, password, CLI)
    finally:
        passwords.close()
        await store.close()


def visitor(url: str) -> aiohttp.ClientSession:
    """Return a browser of our own: it keeps the session cookie, and says that our own page sends it."""
    return aiohttp.ClientSession(
        url,
        cookie_jar=aiohttp.CookieJar(unsafe=True),  # cookies of a host without a name
        headers={"Sec-Fetch-Site": "same-origin"},
        timeout=aiohttp.ClientTimeout(total=10),
    )


async def is_ready(session: aiohttp.ClientSession) -> bool:
    """Tell whether the daemon can do its job."""
    try:
        async with session.get("/readyz") as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def sign_in(session: aiohttp.ClientSession, password: str) -> None:
    """Sign in with the password that people are told."""
    async with session.post("/api/auth/login", json={"username": ADMIN, "password": password}) as response:
        response.raise_for_status()


async def use_mailbox(session: aiohttp.ClientSession, address: str) -> None:
    """Let notifications go to the mailbox, soon after what they are about."""
    channel = {"name": MAILBOX, "kind": "webhook", "url": f"{address}/take", "language": "en"}
    known = await _listed(session, "/api/channels")
    number = next((one["id"] for one in known if one["name"] == MAILBOX), None)
    if number is None:
        await _send(session, "POST", "/api/channels", channel)
    else:
        # Of a demo whose directory was kept; the mailbox has another port now.
        await _send(session, "PATCH", f"/api/channels/{number}", {"url": channel["url"]})
    for rule in await _listed(session, "/api/notification-rules"):
        await _send(
            session, "PATCH", f"/api/notification-rules/{rule['id']}", {"delay_seconds": DELAY_SECONDS}
        )


async def _listed(session: aiohttp.ClientSession, path: str) -> list[dict[str, Any]]:
    async with session.get(path) as response:
        response.raise_for_status()
        items: list[dict[str, Any]] = (await response.json())["items"]
        return items


async def _send(session: aiohttp.ClientSession, method: str, path: str, body: dict[str, Any]) -> None:
    async with session.request(method, path, json=body) as response:
        response.raise_for_status()


async def name_clients(session: aiohttp.ClientSession, devices: Sequence[Identity]) -> None:
    """Give each client its name and site as soon as it has registered itself, then sign out."""
    nameless = list(devices)
    # Should the daemon end meanwhile, others say so.
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(NAMING_SECONDS):
            while nameless:
                nameless = [device for device in nameless if not await _name(session, device)]
                await asyncio.sleep(PAUSE_SECONDS)
        async with session.post("/api/auth/logout"):
            pass


async def _name(session: aiohttp.ClientSession, device: Identity) -> bool:
    changes = {"name": device.name, "site": device.site}
    async with session.patch(f"/api/clients/{device.uuid}", json=changes) as response:
        if response.status == 404:
            return False
        response.raise_for_status()
        return True
