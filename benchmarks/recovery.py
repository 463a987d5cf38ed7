"""What a poll of the recovery costs: with as many unwell in fleets of two sizes, and with half of a fleet.

The poll is driven by hand, so that each stretch between two of its waits is timed by itself: that is how long
everything else in the daemon has to wait. The first poll, which finds everything new and writes it all down,
and the ones after it, which find it as it was, are told apart. ``decide()`` runs in a thread; its
processor time is measured by itself, on the snapshots of a first poll and of a later one.
"""

import asyncio
import gc
import itertools
import statistics
import tempfile
import time
import types
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid5

from sqlalchemy import insert

from benchmarks.figures import Figure, Wanted
from benchmarks.sizes import Sizes
from infoscreen.clock import SystemClock
from infoscreen.domain.clients import Condition, Presence
from infoscreen.domain.commands import Timeouts
from infoscreen.domain.lockout import LockoutPolicy
from infoscreen.domain.recovery import Observer, RecoveryPolicy, decide
from infoscreen.metrics import Metrics
from infoscreen.services.bus import Bus
from infoscreen.services.commanding import Commanding, CommandPolicy
from infoscreen.services.recovery.loop import Recovering
from infoscreen.services.recovery.snapshot import SnapshotBuilder
from infoscreen.storage import schema
from infoscreen.storage.engine import Store
from infoscreen.storage.tables import clients

UNWELL = 500
POLLS = 7
DECISIONS = 3
SITES = UNWELL
ROWS_AT_ONCE = 2_000

_NAMESPACE = UUID("1d0e6f34-6a5b-4b62-9c58-5c1f0d8e7a11")
_SECONDS = timedelta(seconds=1)
_POLICY, _LOCKOUT = RecoveryPolicy(enabled=True), LockoutPolicy(3, 900 * _SECONDS)
_TROUBLES = (Condition.CRASHED, Condition.HUNG, Condition.UNREACHABLE, Condition.CRASHED)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """A fleet of so many, of which so many are unwell: each at its own time, or all silent ``together``."""

    clients: int
    unwell: int
    together: bool = False

    def row(self, number: int, now: datetime) -> dict[str, Any]:
        """Return the row of a client; the unwell are spread over all sites."""
        nth, left = divmod(number * self.unwell, self.clients)
        return _row(self, number, nth if left < self.unwell else None, now)


@dataclass(frozen=True, slots=True)
class Measured:
    """The first poll, the ones after, what those took in all, and ``decide()`` alone; in seconds."""

    first: "Stretches"
    later: list["Stretches"]
    took: float
    deciding_first: float
    deciding: float

    @property
    def loop(self) -> float:
        """Return how much of the loop a poll takes that finds everything as it was."""
        return statistics.median(sum(poll.seconds) for poll in self.later)

    @property
    def longest(self) -> float:
        """Return the longest stretch of such a poll."""
        return statistics.median(max(poll.seconds) for poll in self.later)


class Stretches:
    """How long the loop was held up, each time, in seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @types.coroutine
    def time(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Do the work, and note how long each stretch of it took."""
        step, value = work.send, None
        while True:
            began = time.perf_counter()
            try:
                awaited = step(value)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.seconds.append(time.perf_counter() - began)
            try:
                value = yield awaited
                step = work.send
            except BaseException as error:  # noqa: BLE001 - handed on to the work, which decides
                step, value = work.throw, error


async def seed(store: Store, world: World, now: datetime) -> None:
    """Fill a fleet whose unwell have been so for a while."""
    rows = (world.row(number, now) for number in range(world.clients))
    while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
        async with store.write() as connection:
            await connection.execute(insert(clients), chunk)


def _row(world: World, number: int, nth: int | None, now: datetime) -> dict[str, Any]:
    uuid = str(uuid5(_NAMESPACE, str(number)))
    is_unwell = nth is not None
    status = Condition.ONLINE
    if nth is not None:
        status = Condition.UNREACHABLE if world.together else _TROUBLES[nth % len(_TROUBLES)]
    silent = status in {Condition.HUNG, Condition.UNREACHABLE}
    # Spread over hours: five hundred at once would be an outage, and held.
    spread = (number % 60) if world.together else 60 * (number % 300)
    since = now - timedelta(seconds=600 + spread) if is_unwell else now - timedelta(hours=5)
    heard = since - timedelta(seconds=90) if silent else now - timedelta(seconds=number % 20)
    return {
        "uuid": uuid,
        "created_at": now - timedelta(days=30),
        "sort_key": f"client {number}",
        "name": f"client {number}",
        "hostname": f"host-{number}",
        "site": f"site {number * SITES // world.clients}",
        "status": status,
        "status_since": since,
        "well_until": since if is_unwell else None,
        "last_alive": heard,
        "last_heard_at": heard,
        "last_device_time": heard,
        "heartbeats": 5_000,
        "heartbeats_at_change": 4_000,
        "heartbeat_interval_seconds": 20.0,
        "heartbeat_deviation_seconds": 1.0,
        "stale_after_seconds": 62.0,
        "stale_at": heard + timedelta(seconds=62),
        "process_status": "crashed" if status is Condition.CRASHED else "running",
        "presence": Presence.OFFLINE if status is Condition.UNREACHABLE else Presence.ONLINE,
        "persistent_session": True,
        "boot_id": uuid[:13],
        "health": {"cpu_percent": 12.5, "memory_percent": 40.0, "temperature_celsius": 51.0},
    }


async def polls_of(folder: Path, world: World) -> Measured:
    """Poll a fleet, and tell what that took."""
    url = f"sqlite+aiosqlite:///{folder / f'{world.clients}-{world.unwell}-{world.together}.db'}"
    await schema.upgrade(url)
    store, clock = Store(url), SystemClock()
    now = clock.now()
    await seed(store, world, now)
    recovering = _recovering(store, clock, now)
    try:
        deciding_first = await _deciding(store, clock.now())
        first = Stretches()
        await first.time(recovering.step())
        later, took = [Stretches() for _ in range(POLLS)], []
        for stretches in later:
            began = time.perf_counter()
            await stretches.time(recovering.step())
            took.append(time.perf_counter() - began)
        deciding = await _deciding(store, clock.now())
    finally:
        await store.close()
    return Measured(first, later, statistics.median(took), deciding_first, deciding)


async def _deciding(store: Store, now: datetime) -> float:
    """Return the processor time of ``decide()``, the median of a few, on what is stored."""
    builder = SnapshotBuilder(_POLICY, _LOCKOUT)
    async with store.read() as connection:
        world = await builder.look(connection, _seeing(now), now)
    took = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(DECISIONS):
            began = time.thread_time()
            decide(world.snapshot, _POLICY, now)
            took.append(time.thread_time() - began)
    finally:
        gc.enable()
    return statistics.median(took)


def _seeing(now: datetime) -> Observer:
    long_ago = now - timedelta(days=1)
    return Observer(listening_since=long_ago, started_at=long_ago)


def _recovering(store: Store, clock: SystemClock, now: datetime) -> Recovering:
    timeouts = Timeouts(120 * _SECONDS, 600 * _SECONDS, 120 * _SECONDS)
    commands = CommandPolicy(240 * _SECONDS, timeouts, _LOCKOUT)
    bus, metrics = Bus(), Metrics()
    commanding = Commanding(store, clock, bus, commands, metrics, asyncio.Event())
    observer = partial(_seeing, now)
    return Recovering(store, clock, bus, commanding, metrics, _POLICY, _LOCKOUT, observer)


async def measure(sizes: Sizes) -> list[Figure]:
    """Measure polls of the largest fleet, of the middle one, and with half of the largest unwell."""
    middle, largest = sizes.fleets[1], sizes.fleets[2]
    few = min(UNWELL, middle // 4)
    half = largest // 2
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        of_many = await polls_of(folder, World(largest, few))
        of_middle = await polls_of(folder, World(middle, few))
        mixed = await polls_of(folder, World(largest, half))
        outage = await polls_of(folder, World(largest, half, together=True))
    detail = f"recovery poll with {few} unwell of {largest:,}: {_told(of_many)}"
    grown = f"as many unwell of {middle:,}: {_told(of_middle)}"
    of_half = f"{half:,} unwell of {largest:,}, each at its own time: {_told(mixed)}"
    of_outage = f"{half:,} of {largest:,} silent within a minute: {_told(outage)}"
    slowest = max(one for half in (mixed, outage) for one in (half.deciding_first, half.deciding))
    return [
        _milliseconds(f"recovery poll with {largest:,} clients", of_many.loop, 250, detail),
        _milliseconds("recovery poll, longest stretch", of_many.longest, 20, detail),
        Figure(
            f"recovery poll, loop time with {largest:,} clients / with {middle:,}",
            of_many.loop / of_middle.loop,
            Wanted.AT_MOST,
            1.2,
            "",
            grown,
        ),
        _milliseconds("decide() with half of them unwell, processor time", slowest, 300, of_half),
        _milliseconds(
            "recovery poll with half of them unwell, longest stretch",
            max(mixed.longest, outage.longest),
            20,
            of_half,
        ),
        _milliseconds(
            "first recovery poll of an outage of half, longest stretch",
            max(outage.first.seconds),
            20,
            of_outage,
        ),
    ]


def _milliseconds(name: str, seconds: float, wanted: float, detail: str) -> Figure:
    return Figure(name, 1000 * seconds, Wanted.AT_MOST, wanted, "ms", detail)


def _told(one: Measured) -> str:
    return (
        f"{1000 * one.loop:.0f} ms of the loop in {one.took:.2f} s, longest stretch "
        f"{1000 * one.longest:.1f} ms; the first, which writes everything, "
        f"{1000 * sum(one.first.seconds):.0f} ms and {1000 * max(one.first.seconds):.1f} ms; "
        f"decide() {1000 * one.deciding:.0f} ms of processor time, "
        f"{1000 * one.deciding_first:.0f} at the first"
    )
