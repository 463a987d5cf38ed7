"""A batch whose commit has an unknown outcome is stored once, and so is a message that the broker repeats."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import make_url

from infoscreen.services.ingest import RETRY_SECONDS
from tests.proxy import proxied
from tests.spine import Spine, open_spine, sqlite_url, uuid_of, zulu

U, V = uuid_of(1), uuid_of(2)


def everything(spine: Spine) -> list[tuple[str, Any]]:
    """Return one message of each kind that a repetition would count or write twice."""
    at = zulu(spine.clock.now())
    return [
        (f"{U}/heartbeat", {"timestamp": at, "boot_id": "one"}),
        (f"{V}/heartbeat", {"timestamp": at}),
        (f"{U}/service_failed", {"unit": "app.service", "failed_at": at}),
        (f"{U}/logs/info", {"timestamp": at, "message": "hello"}),
        (f"{U}/heartbeat", "not JSON"),
        (f"{U}/presence", "online"),
    ]


async def state(spine: Spine) -> dict[str, Any]:
    statements = {
        "heartbeats": f"SELECT heartbeats FROM clients WHERE uuid = '{U}'",
        "since boot": f"SELECT heartbeats_since_boot FROM clients WHERE uuid = '{U}'",
        "quiet": f"SELECT heartbeats FROM clients WHERE uuid = '{V}'",
        "refused": f"SELECT refused_count FROM clients WHERE uuid = '{U}'",
        "rejected": "SELECT count(*) FROM rejected_messages",
        "timeline": "SELECT count(*) FROM timeline",
        "failures": "SELECT count(*) FROM failed_services",
    }
    async with spine.store.read() as connection:
        told = {name: await connection.scalar(text(said)) for name, said in statements.items()}
    counts = spine.measures.counts
    told["counted"] = (counts["message", "heartbeat", "stored"], counts["rejected", "malformed"])
    return told


async def heard_through(spine: Spine, messages: Sequence[tuple[str, Any]]) -> None:
    """Hear a batch; the clock moves on whenever ingest waits to try again."""
    hearing = asyncio.ensure_future(spine.hear(*messages))
    async with asyncio.timeout(30):
        while not hearing.done():
            await asyncio.wait({hearing}, timeout=0.02)
            spine.clock.advance(0 if hearing.done() else RETRY_SECONDS / 100)
    await hearing


async def stored_undisturbed(url: str) -> list[dict[str, Any]]:
    async with open_spine(url) as spine:
        told = []
        for _ in range(2):
            await spine.hear(*everything(spine))
            spine.clock.advance(30)
            told.append(await state(spine))
    return told


@pytest.mark.postgres
@pytest.mark.parametrize("passes_after", [0.0, 0.3, None], ids=["committed", "committed late", "lost"])
async def test_a_connection_cut_in_the_commit_stores_a_batch_once(
    postgres: str, tmp_path: Path, passes_after: float | None
) -> None:
    expected = await stored_undisturbed(sqlite_url(tmp_path))
    port = make_url(postgres).port or 0
    async with proxied(port) as line:
        line.cut_passes_after = passes_after
        async with open_spine(postgres.replace(str(port), str(line.port))) as spine:
            for number in range(2):
                line.cut_at = b"COMMIT;"
                await heard_through(spine, everything(spine))
                spine.clock.advance(30)
                assert line.cuts == number + 1
                assert await state(spine) == expected[number]


@pytest.mark.parametrize("committed", [True, False])
async def test_the_same_on_sqlite(tmp_path: Path, committed: bool) -> None:
    expected = await stored_undisturbed(sqlite_url(tmp_path))
    fails = 0

    async with open_spine(f"sqlite+aiosqlite:///{tmp_path}/other.db") as spine:

        def broken(connection: Any) -> None:
            nonlocal fails
            if fails % 3 == 2:
                fails += 1
                return
            fails += 1
            if committed:
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("BEGIN")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

        event.listen(spine.store.writers.sync_engine, "commit", broken)
        for number in range(2):
            await heard_through(spine, everything(spine))
            spine.clock.advance(30)
            assert fails == 3 * (number + 1)
            assert await state(spine) == expected[number]


async def test_another_writer_does_not_disturb(tmp_path: Path) -> None:
    """Each session of the broker has its own row."""
    async with open_spine(sqlite_url(tmp_path)) as spine:
        await spine.beat(U)
        await spine.beat(U)
        assert (await spine.client(U)).heartbeats == 2
        async with spine.store.read() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM ingest_batches")) == 1
