"""kill -9 at every step between an incident and the channel's answer: nothing lost, nothing made up.

``NOTIFY_KILLS=200`` in the environment makes more rounds than usual.
"""

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infoscreen.storage.engine import Store
from infoscreen.storage.notify import messages
from infoscreen.storage.recovery import incidents
from tests.receivers import http_receiver
from tests.spine import sqlite_url
from tests.template import with_tables
from tests.trees import ROOT

ROUNDS = int(os.environ.get("NOTIFY_KILLS", "12"))
DEADLINE_SECONDS = 120.0

CATCH_UP_EVERY = 5
"""After so many kills one lives, before so much waits that it becomes a summary."""


class Lives:
    """Lets victims live, one after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def live(self, number: int, at: int) -> int | None:
        """Let a victim live one round; return the points that it passed, None if it was killed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{number} {at}\n".encode())
        async with asyncio.timeout(DEADLINE_SECONDS):
            said = (await stdout.readline()).decode().strip()
        if said == "killed":
            return None
        assert said.isdigit(), said
        return int(said)


@asynccontextmanager
async def lives(url: str, receiver: str) -> AsyncIterator[Lives]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.notify_victim", url, receiver),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield Lives(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * ROUNDS)
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_every_message_arrives_whenever_the_daemon_is_killed(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    url = sqlite_url(tmp_path) if kind == "sqlite" else request.getfixturevalue("postgres")
    await with_tables(url)
    async with http_receiver() as receiver:
        async with lives(url, f"http://{receiver.host}/hook") as victims:
            await victims.live(0, -1)
            points = await victims.live(1, -1)
            assert points is not None
            assert points > 15
            number, killed = 1, 0
            for turn in range(ROUNDS):
                # All points come when there are rounds enough; with few, they are spread evenly.
                at = turn % points if points <= ROUNDS else turn * points // ROUNDS
                number += 1
                killed += await victims.live(number, at) is None
                if turn % CATCH_UP_EVERY == CATCH_UP_EVERY - 1:
                    number += 1
                    await victims.live(number, -1)
            assert killed == ROUNDS
            for _ in range(2):
                number += 1
                assert await victims.live(number, -1) is not None
        bodies = [one.json for one in receiver.got]
    store = Store(url)
    store.open()
    async with store.read() as connection:
        known = {one.id: one for one in (await incidents.page(connection, 2 * ROUNDS + 10)).items}
        rows = (await messages.page(connection, 4 * ROUNDS + 100)).items
    await store.close()
    assert {body["message_id"] for body in bodies} == {row.message_id for row in rows if row.sent_at}
    assert [row for row in rows if not row.sent_at] == []
    ids = defaultdict(set)
    for body in bodies:
        number = body["incident"]["id"]
        assert body["incident"]["site"] == known[number].site, "an incident that never was"
        ids[number, body["step"]].add(body["message_id"])
    # One that ended before it was told is no incident for anybody; none did here, as it was told at once.
    assert set(ids) == {(number, step) for number in known for step in ("opened", "resolved")}
    assert all(len(found) == 1 for found in ids.values()), "a repeat with another id"
    assert len(bodies) >= len(ids)
    told = f"{killed} kills at {points} points, {len(known)} incidents, {len(bodies)} deliveries"
    sys.stdout.write(f"{kind}: {told}\n")
