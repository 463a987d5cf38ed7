"""Heartbeats at a steady rate, and the proof that they were really sent and really stored."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from benchmarks.daemon import Daemon
from benchmarks.figures import NotMeasured
from benchmarks.fleet import heartbeats
from benchmarks.line import Line
from benchmarks.rig import Rig, devices

TICK_SECONDS = 0.01
LATEST_SECONDS = 1.0
"""A load counts if no more of it than this is missing at the end; the rest may be on its way."""


@dataclass(slots=True)
class Traffic:
    """Heartbeats under way; ``watched`` wraps what is measured under them."""

    daemon: Daemon
    visitor: aiohttp.ClientSession
    per_second: float
    stored_per_second: float = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Raise ``NotMeasured`` unless the daemon stored the heartbeats as fast as they were to come."""
        before, started = await self.daemon.stored_heartbeats(self.visitor), time.perf_counter()
        yield
        stored = await self.daemon.stored_heartbeats(self.visitor) - before
        seconds = time.perf_counter() - started
        self.stored_per_second = stored / seconds
        if stored < self.per_second * (seconds - LATEST_SECONDS):
            raise NotMeasured(
                f"{self.stored_per_second:,.0f} heartbeats/s were stored, not {self.per_second:,.0f}"
            )


@asynccontextmanager
async def beating(rig: Rig, daemon: Daemon, clients: int, per_second: float) -> AsyncIterator[Traffic]:
    """Let the clients beat in turn, so many heartbeats a second, for as long as the block lasts."""
    async with devices(rig, "beating") as sender, daemon.visitor() as visitor:
        sending = asyncio.create_task(_send(sender, clients, per_second))
        try:
            await _first_are_stored(daemon, visitor, sending)
            yield Traffic(daemon, visitor, per_second)
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending


async def _send(sender: Line, clients: int, per_second: float) -> None:
    messages, started, sent = heartbeats(clients), time.perf_counter(), 0
    while True:
        due = int((time.perf_counter() - started) * per_second)
        for _ in range(due - sent):
            sender.publish(*next(messages))
        sent = due
        await asyncio.sleep(TICK_SECONDS)


async def _first_are_stored(
    daemon: Daemon, visitor: aiohttp.ClientSession, sending: asyncio.Task[None]
) -> None:
    before = await daemon.stored_heartbeats(visitor)
    while await daemon.stored_heartbeats(visitor) == before:
        if sending.done():
            await sending  # raises what went wrong
        await asyncio.sleep(0.1)
