"""A single command while heartbeats flow: from sending the HTTP request to the device having it."""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from benchmarks.daemon import running
from benchmarks.figures import Figure, NotMeasured, Wanted, percentile
from benchmarks.fleet import uuid_of
from benchmarks.rig import devices, running_broker
from benchmarks.sizes import Sizes
from benchmarks.traffic import beating
from infoscreen.wire.topics import COMMAND_FILTERS

PAUSE_SECONDS = 0.05
"""Between two commands, so that each falls at a different point between heartbeats."""

PATIENCE_SECONDS = 10.0


class Ears:
    """The devices' side: when the command for a client arrived."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self._awaited: dict[str, asyncio.Future[float]] = {}

    def on_command(self, topic: str, payload: bytes) -> None:
        """Note the arrival of a command."""
        waiting = self._awaited.get(json.loads(payload)["client_uuid"])
        if waiting is not None and not waiting.done():
            waiting.set_result(time.perf_counter())

    async def delay(self, api: aiohttp.ClientSession, uuid: str) -> float:
        """Ask for a command and return how many milliseconds later its device has it."""
        arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._awaited[uuid] = arrived
        asked = time.perf_counter()
        async with api.post(f"/api/clients/{uuid}/commands", json={"action": "restart_app"}) as answer:
            if answer.status != 202:
                raise NotMeasured(f"a command was answered with {answer.status}: {await answer.text()}")
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await arrived
        except TimeoutError:
            raise NotMeasured(f"a command did not arrive within {PATIENCE_SECONDS:g} s") from None
        return (arrived.result() - asked) * 1000


async def delays(api: aiohttp.ClientSession, ears: Ears, uuids: Sequence[str]) -> list[float]:
    """Command one client after the other."""
    taken: list[float] = []
    for uuid in uuids:
        taken.append(await ears.delay(api, uuid))
        await asyncio.sleep(PAUSE_SECONDS)
    return taken


async def measure(sizes: Sizes) -> list[Figure]:
    """Command clients of the middle fleet, first in silence, then under load."""
    clients, samples = sizes.fleets[1], min(sizes.commands, sizes.fleets[1] // 2)
    uuids = [uuid_of(number) for number in range(2 * samples)]
    ears = Ears()
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        async with (
            running_broker(folder / "broker") as rig,
            running(rig, folder / "daemon", clients) as daemon,
            devices(rig, "ears", ears.on_command) as line,
            daemon.program() as api,
        ):
            await line.subscribe(COMMAND_FILTERS[0])
            quiet = await delays(api, ears, uuids[:samples])
            async with beating(rig, daemon, clients, sizes.load) as traffic, traffic.watched():
                loaded = await delays(api, ears, uuids[samples:])
    detail = (
        f"command, ms: under {traffic.stored_per_second:,.0f} heartbeats/s p50 {percentile(loaded, 50):.1f}, "
        f"p99 {percentile(loaded, 99):.1f}; in silence p50 {percentile(quiet, 50):.1f}, "
        f"p99 {percentile(quiet, 99):.1f}; {samples} commands each"
    )
    what = f"command, request to device, p99 under {sizes.load:,} heartbeats/s"
    return [Figure(what, percentile(loaded, 99), Wanted.AT_MOST, 250, "ms", detail)]
