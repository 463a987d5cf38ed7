"""Reading the panel's pages without a browser, and a small fleet that has something of everything."""

import re
from dataclasses import dataclass
from html import unescape

from aiohttp import ClientResponse, ClientSession

from infoscreen.domain.commands import Action
from tests.spine import ADMIN, Spine, uuid_of, zulu

ONLINE, CRASHED, HUNG, FAILED, RESTING, OFF, GONE = (uuid_of(number) for number in range(1, 8))
NAMES = {
    ONLINE: "Foyer",
    CRASHED: "Galerie",
    HUNG: "Kasse",
    FAILED: "Halle",
    RESTING: "Ratssaal",
    OFF: "Umkleide",
    GONE: "Parkhaus",
}
UNIT = "infoscreen-app.service"


@dataclass(frozen=True)
class Shown:
    """A page as it was answered."""

    status: int
    text: str
    location: str | None
    path: str

    @property
    def words(self) -> str:
        """Return what can be read on it, without tags."""
        return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", self.text)))

    @property
    def title(self) -> str:
        """Return the page's title."""
        found = re.search(r"<title>(.*?)</title>", self.text, re.DOTALL)
        assert found is not None
        return unescape(found[1]).strip()


async def look(browser: ClientSession, path: str, language: str = "de", *, follow: bool = True) -> Shown:
    """Get a page."""
    headers = {"Accept-Language": language}
    async with browser.get(path, headers=headers, allow_redirects=follow) as response:
        return await _shown(response)


async def send(browser: ClientSession, path: str, *, follow: bool = True, **fields: str) -> Shown:
    """Send a form, and by default go where it leads."""
    async with browser.post(path, data=fields, allow_redirects=follow) as response:
        return await _shown(response)


async def _shown(response: ClientResponse) -> Shown:
    return Shown(
        response.status, await response.text(), response.headers.get("Location"), response.url.path_qs
    )


async def settle_fleet(spine: Spine) -> None:
    """Let seven clients live for ten minutes: one of them well, each other with a trouble of its own."""
    everybody = list(NAMES)
    await spine.hear(*((f"{uuid}/presence", "online") for uuid in everybody))
    for uuid, name in NAMES.items():
        await spine.fleet.edit(uuid, {"name": name, "site": "Rathaus", "tags": ["außen"]}, ADMIN)
    for minute in range(10):
        silent = {HUNG, GONE, OFF} if minute >= 5 else set()
        await _beat(spine, [uuid for uuid in everybody if uuid not in silent])
        if minute == 4:
            shutdown = await spine.request(OFF, Action.SHUTDOWN_HOST, actor=ADMIN)
            await spine.outbox.step()
            await spine.ack(shutdown, "execution_started")
        if minute == 5:
            await spine.hear((f"{OFF}/presence", "offline"), (f"{GONE}/presence", "offline"))
        await spine.watch.look()
        await spine.watch.sweep()
        spine.clock.advance(60)
    await fail_service(spine, FAILED)
    await spine.fleet.edit(RESTING, {"maintenance_until": spine.clock.now().replace(hour=23)}, ADMIN)
    await _beat(spine, [ONLINE, CRASHED, FAILED, RESTING])
    await spine.watch.look()


async def fail_service(spine: Spine, uuid: str, unit: str = UNIT) -> None:
    """Let systemd on the device give up on a unit."""
    report = {"unit": unit, "failed_at": zulu(spine.clock.now()), "result": "start-limit-hit"}
    await spine.hear((f"{uuid}/service_failed", report), retain=True)


async def crash(spine: Spine, uuid: str) -> None:
    """Let the application of a client crash."""
    await spine.beat(uuid, process_status="crashed", current_process="player")


async def _beat(spine: Spine, uuids: list[str]) -> None:
    crashed = {"process_status": "crashed", "current_process": "player"}
    running = {"process_status": "running", "current_process": "player"}
    at = zulu(spine.clock.now())
    await spine.hear(
        *(
            (f"{uuid}/heartbeat", {"timestamp": at, **(crashed if uuid == CRASHED else running)})
            for uuid in uuids
        )
    )
