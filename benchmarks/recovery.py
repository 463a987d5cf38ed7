"""How much of the event loop a poll of the recovery takes, with as many unwell in fleets of two sizes.

The poll is driven by hand, so that each stretch between two of its waits is timed by itself: that is how long
everything else in the daemon has to wait. The first poll, which finds everything new and writes it all down,
and the ones after it, which find it as it was, are told apart.
"""

import asyncio
import itertools
import statistics
import tempfile
import time
import types
from collections.abc import Coroutine, Generator
from datetime import datetime, timedelta
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
from infoscreen.domain.recovery import Observer, RecoveryPolicy
from infoscreen.metrics import Metrics
from infoscreen.services.bus import Bus
from infoscreen.services.commanding import Commanding, CommandPolicy
from infoscreen.services.recovery.loop import Recovering
from infoscreen.storage import schema
from infoscreen.storage.engine import Store
from infoscreen.storage.tables import clients

UNWELL = 500
POLLS = 7
SITES = UNWELL
ROWS_AT_ONCE = 2_000

_NAMESPACE = UUID("1d0e6f34-6a5b-4b62-9c58-5c1f0d8e7a11")
_SECONDS = timedelta(seconds=1)
_TROUBLES = (Condition.CRASHED, Condition.HUNG, Condition.UNREACHABLE, Condition.CRASHED)

T = TypeVar("T")


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


async def seed(store: Store, count: int, now: datetime) -> None:
    """Fill a fleet of so many clients, of which ``UNWELL``, one at each site, are unwell for a while."""
    rows = (_row(number, count, now) for number in range(count))
    while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
        async with store.write() as connection:
            await connection.execute(insert(clients), chunk)


def _row(number: int, count: int, now: datetime) -> dict[str, Any]:
    uuid = str(uuid5(_NAMESPACE, str(number)))
    is_unwell = number % (count // UNWELL) == 0
    status = _TROUBLES[number // (count // UNWELL) % len(_TROUBLES)] if is_unwell else Condition.ONLINE
    silent = status in {Condition.HUNG, Condition.UNREACHABLE}
    # Spread over hours: five hundred at once would be an outage, and held.
    since = now - timedelta(seconds=600 + 60 * (number % 300)) if is_unwell else now - timedelta(hours=5)
    heard = since - timedelta(seconds=90) if silent else now - timedelta(seconds=number % 20)
    return {
        "uuid": uuid,
        "created_at": now - timedelta(days=30),
        "sort_key": f"client {number}",
        "name": f"client {number}",
        "hostname": f"host-{number}",
        "site": f"site {number * SITES // count}",
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


async def polls_of(folder: Path, count: int) -> tuple[Stretches, list[Stretches], float]:
    """Poll a fleet of so many, and return the first poll, the ones after, and their median duration."""
    url = f"sqlite+aiosqlite:///{folder / f'{count}.db'}"
    await schema.upgrade(url)
    store, clock = Store(url), SystemClock()
    now = clock.now()
    await seed(store, count, now)
    recovering = _recovering(store, clock, now)
    try:
        first = Stretches()
        await first.time(recovering.poll())
        later, took = [Stretches() for _ in range(POLLS)], []
        for stretches in later:
            began = time.perf_counter()
            await stretches.time(recovering.poll())
            took.append(time.perf_counter() - began)
    finally:
        await store.close()
    return first, later, statistics.median(took)


def _recovering(store: Store, clock: SystemClock, now: datetime) -> Recovering:
    policy, lockout = RecoveryPolicy(enabled=True), LockoutPolicy(3, 900 * _SECONDS)
    timeouts = Timeouts(120 * _SECONDS, 600 * _SECONDS, 120 * _SECONDS)
    commands = CommandPolicy(240 * _SECONDS, timeouts, lockout)
    bus, metrics = Bus(), Metrics()
    commanding = Commanding(store, clock, bus, commands, metrics, asyncio.Event())
    long_ago = now - timedelta(days=1)

    def observer() -> Observer:
        return Observer(listening_since=long_ago, started_at=long_ago)

    return Recovering(store, clock, bus, commanding, metrics, policy, lockout, observer)


async def measure(sizes: Sizes) -> list[Figure]:
    """Measure a poll of the largest fleet, and how it grows from the middle one."""
    middle, largest = sizes.fleets[1], sizes.fleets[2]
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        first, many, duration = await polls_of(Path(name), largest)
        _, few, _ = await polls_of(Path(name), middle)
    of_many = 1000 * statistics.median(sum(poll.seconds) for poll in many)
    of_few = 1000 * statistics.median(sum(poll.seconds) for poll in few)
    longest = 1000 * statistics.median(max(poll.seconds) for poll in many)
    detail = (
        f"recovery poll with {UNWELL} unwell of {largest:,}: {of_many:.0f} ms of the loop "
        f"in {duration:.2f} s, longest stretch {longest:.1f} ms; the first, which writes everything, "
        f"{1000 * sum(first.seconds):.0f} ms and {1000 * max(first.seconds):.1f} ms; "
        f"as many unwell of {middle:,}: {of_few:.0f} ms"
    )
    growth = f"recovery poll, loop time with {largest:,} clients / with {middle:,}"
    return [
        Figure(f"recovery poll with {largest:,} clients", of_many, Wanted.AT_MOST, 250, "ms", detail),
        Figure("recovery poll, longest stretch", longest, Wanted.AT_MOST, 20, "ms", detail),
        Figure(growth, of_many / of_few, Wanted.AT_MOST, 1.2, "", detail),
    ]
