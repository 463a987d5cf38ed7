"""A dozen people on one client with a long history: their pages come, and heartbeats do not wait for them."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.programs import find_free_port
from tests.screens import Screen, living
from tests.spine import uuid_of
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

WATCHED, OTHER = uuid_of(1), uuid_of(2)
READERS = 12
LINES = 600_000
PATHS = (
    f"/api/clients/{WATCHED}/timeline?limit=500",
    f"/api/clients/{WATCHED}/timeline?kind=operator",
    f"/api/clients/{WATCHED}",
    f"/api/clients?q={WATCHED}",
)

FILL = f"""
INSERT INTO timeline (client_uuid, at, kind, level, data)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {LINES})
SELECT '{WATCHED}', strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || (i / 10) || ' seconds'), 'log', 'info',
    '{{"message": "line"}}' FROM n
"""
ENDLESS = """
CREATE VIEW rejected_messages AS
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)
SELECT i AS id, '' AS at, '' AS topic, '' AS reason, 'text' AS code, '{}' AS arguments, 0 AS size, '' AS head
FROM n WHERE i < 0
"""


def beats(daemon: Daemon) -> int:
    found: int = daemon.rows("SELECT heartbeats FROM clients WHERE uuid = ?", OTHER)[0][0]
    return found


async def read_on(api: ClientSession, path: str, statuses: Counter[int], enough: asyncio.Event) -> None:
    while not enough.is_set():
        async with api.get(path) as answer:
            await answer.read()
            statuses[answer.status] += 1


@pytest.mark.parametrize("endless", [False, True], ids=["long", "endless"])
async def test_heartbeats_do_not_wait_for_readers(tmp_path: Path, endless: bool) -> None:
    broker = Broker(tmp_path / "broker", find_free_port(), save_every_change=False)
    await broker.add_devices([WATCHED, OTHER])
    screens = [Screen(broker, uuid) for uuid in (WATCHED, OTHER)]
    try:
        await broker.start()
        async with installed(tmp_path / "daemon", broker) as daemon, daemon.program() as api:
            await daemon.start()
            async with living(screens):
                for screen in screens:
                    screen.beat()
                await ask_until(api, "/api/clients", lambda page: page["total"] == 2)
            await daemon.stop()
            if endless:  # whatever makes a history dear: here nobody ever gets to its end
                daemon.change("DROP TABLE rejected_messages")
                daemon.change(ENDLESS)
            else:
                daemon.change(FILL)
            await daemon.start()
            statuses: Counter[int] = Counter()
            enough = asyncio.Event()
            async with living(screens), asyncio.TaskGroup() as tasks:
                for number in range(READERS):
                    path = "/api/monitoring/rejected" if endless else PATHS[number % len(PATHS)]
                    tasks.create_task(read_on(api, path, statuses, enough))
                await until(lambda: statuses.total() >= READERS, within=60)
                for _ in range(10):
                    answered, before = statuses.total(), beats(daemon)
                    screens[1].beat()
                    # Readers are at it all the time, and yet each heartbeat is stored.
                    await until(lambda before=before: beats(daemon) > before, within=60)
                    await until(lambda answered=answered: statuses.total() > answered, within=60)
                enough.set()
            assert set(statuses) <= {200, 503}
            assert statuses[503 if endless else 200] > READERS
            assert not endless or statuses[200] == 0
            assert "Traceback" not in daemon.log
            assert await daemon.stop() == 0
    finally:
        await broker.stop()
