"""A bulk command to thousands of clients that acknowledge at once: whole life cycles per second.

In the same run the same messages go through the daemon's two connections with nothing stored: as many
publications, as many acks. That is what the life cycle, its history and its durability are compared with.
"""

import asyncio
import contextlib
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.daemon import Daemon, running
from benchmarks.figures import Figure, NotMeasured, Wanted
from benchmarks.fleet import uuid_of
from benchmarks.responder import ACKS
from benchmarks.rig import LOADER, Rig, running_broker
from benchmarks.sizes import Sizes
from infoscreen.clock import SystemClock
from infoscreen.domain.commands import Action
from infoscreen.mqtt.listener import Listener
from infoscreen.mqtt.publisher import BrokerPublisher
from infoscreen.services.ports import Incoming, LinkState, Outgoing
from infoscreen.wire import topics
from infoscreen.wire.messages import Command

DEADLINE_SECONDS = 120.0
POLL_SECONDS = 0.05
EXPIRY = timedelta(seconds=240)


@asynccontextmanager
async def responding(rig: Rig) -> AsyncIterator[None]:
    """Let devices answer commands, in a process of their own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.responder", stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
    try:
        process.stdin.write(f"{rig.port} {LOADER} {rig.loader_password}\n".encode())
        if not await process.stdout.readline():
            raise NotMeasured("the devices' process ended")
        yield
    finally:
        process.stdin.close()
        await process.wait()


async def life_cycles(daemon: Daemon, clients: int) -> float:
    """Ask for a command for every client, and return how many seconds pass until all are completed."""
    body = {"action": "restart_app", "client_uuids": [uuid_of(number) for number in range(clients)]}
    async with daemon.program() as api:
        started = time.perf_counter()
        async with api.post("/api/commands", json=body) as answer:
            counts = (await answer.json())["counts"]
        if counts != {"queued": clients}:
            raise NotMeasured(f"the bulk request was answered with {counts}")
        while (done := await asyncio.to_thread(_completed, daemon.database)) < clients:
            if time.perf_counter() - started > DEADLINE_SECONDS:
                raise NotMeasured(f"{done} of {clients} commands completed in {DEADLINE_SECONDS:g} s")
            await asyncio.sleep(POLL_SECONDS)
        return time.perf_counter() - started


def _completed(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        counted = connection.execute("SELECT count(*) FROM client_commands WHERE status = 'completed'")
        return int(counted.fetchone()[0])


async def bare(rig: Rig, clients: int) -> float:
    """Publish as many commands and take as many acks, with nothing stored; return the seconds it takes."""
    clock, done, left = SystemClock(), asyncio.Event(), clients * ACKS
    listening, connected = asyncio.Event(), asyncio.Event()

    async def handle(batch: Sequence[Incoming], received_at: datetime) -> None:
        nonlocal left
        left -= len(batch)
        if left <= 0:
            done.set()

    def on_state(state: LinkState) -> None:
        if state.connected:
            listening.set()

    listener = Listener(rig.address("bare"), clock, handle, topics.DEVICE_FILTERS, on_state=on_state)
    publisher = BrokerPublisher(rig.address("bare"), clock, on_connected=connected.set)
    tasks = [asyncio.create_task(listener.run()), asyncio.create_task(publisher.run())]
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await connected.wait()
            await listening.wait()
            started = time.perf_counter()
            await asyncio.gather(*(publisher.publish(_command(number)) for number in range(clients)))
            await done.wait()
            return time.perf_counter() - started
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _command(number: int) -> Outgoing:
    client_uuid, now = uuid.UUID(uuid_of(number)), datetime.now(UTC)
    command = Command(
        command_id=uuid.uuid4(),
        client_uuid=client_uuid,
        action=Action.RESTART_APP,
        issued_at=now,
        expires_at=now + EXPIRY,
        requested_by=1,
        reason=None,
    )
    return Outgoing(topics.commands(str(client_uuid)), command.encode(), expires_in=EXPIRY.total_seconds())


async def measure(sizes: Sizes) -> list[Figure]:
    """Return the medians of some rounds."""
    clients = sizes.bulk
    durable: list[float] = []
    unstored: list[float] = []
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        for number in range(sizes.rounds):
            folder = Path(name) / str(number)
            await asyncio.to_thread(folder.mkdir)
            # A broker for each: it would keep a copy of everything for a session that was left behind.
            async with (
                running_broker(folder / "broker") as rig,
                responding(rig),
                running(rig, folder / "daemon", clients) as daemon,
            ):
                durable.append(clients / await life_cycles(daemon, clients))
            async with running_broker(folder / "bare") as rig, responding(rig):
                unstored.append(clients / await bare(rig, clients))
    rate, ceiling = statistics.median(durable), statistics.median(unstored)
    detail = (
        f"bulk: {clients:,} clients, {rate:,.0f} life cycles/s (rounds {_listed(durable)}), "
        f"the same messages with nothing stored {ceiling:,.0f}/s"
    )
    return [
        Figure(f"bulk command to {clients:,} clients", rate, Wanted.AT_LEAST, 800, "life cycles/s", detail),
        Figure("bulk command / its bare messages", rate / ceiling, Wanted.AT_LEAST, 0.25, "", detail),
    ]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:,.0f}" for value in values)
