"""A batch whose commit has an unknown outcome is stored once, and so is a message that the broker repeats."""

import asyncio
import itertools
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text
from sqlalchemy.engine import make_url

from infoscreen.services.ingest import RETRY_SECONDS
from infoscreen.services.ports import Incoming
from infoscreen.storage.engine import Store
from tests.broker import Broker
from tests.daemon import installed
from tests.postgres import own_server
from tests.proxy import proxied
from tests.spine import Spine, open_spine, sqlite_url, uuid_of, zulu
from tests.waiting import until_told

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
    async with asyncio.timeout(60):
        while not hearing.done():
            await asyncio.wait({hearing}, timeout=0.02)
            spine.clock.advance(0 if hearing.done() else RETRY_SECONDS / 100)
    await hearing


@asynccontextmanager
async def closing_store(url: str) -> AsyncIterator[Store]:
    store = Store(url)
    try:
        yield store
    finally:
        await store.close()


async def stored_undisturbed(url: str, times: int = 2) -> list[dict[str, Any]]:
    async with open_spine(url) as spine:
        told = []
        for _ in range(times):
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


@pytest.mark.slow
@pytest.mark.postgres
async def test_a_server_killed_in_the_commit_stores_a_batch_once(tmp_path: Path) -> None:
    """Each commit takes a tenth of a second, so that most of the moments are within one."""
    moments = [0.02, 0.08, 0.14]
    expected = await stored_undisturbed(sqlite_url(tmp_path), len(moments))
    with own_server("-c fsync=on -c commit_delay=100000 -c commit_siblings=0") as server:
        server.run("createdb", "fleet")
        async with open_spine(server.url("fleet")) as spine:
            for number, moment in enumerate(moments):
                hearing = asyncio.ensure_future(heard_through(spine, everything(spine)))
                await asyncio.sleep(moment)
                await asyncio.to_thread(server.stop, "immediate")
                await asyncio.to_thread(server.start)
                await hearing
                spine.clock.advance(30)
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


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Spine]:
    memory = request.param == "memory"
    url = "sqlite+aiosqlite:///:memory:" if memory else request.getfixturevalue("postgres")
    async with open_spine(url) as made:
        yield made


Act = tuple[str, str]
ACTS = st.tuples(st.sampled_from([U, V]), st.sampled_from(["quiet", "new pid", "clock back"]))


async def test_heartbeats_that_the_broker_repeats_are_counted_once(either: Spine) -> None:
    """Any history in batches; then the last of them, not acknowledged, once more, with what waited behind."""
    number = itertools.count(1)

    async def check(batches: list[list[Act]], unacknowledged: int, waiting: list[Act]) -> None:
        us = {name: uuid_of(next(number)) for name in (U, V)}
        device_time = dict.fromkeys(us, either.clock.now())
        pids = dict.fromkeys(us, 1)

        def said(name: str, what: str) -> Incoming:
            device_time[name] += timedelta(seconds=-5_000 if what == "clock back" else 30)
            pids[name] += what == "new pid"
            told = {"timestamp": zulu(device_time[name]), "process_pid": pids[name]}
            return Incoming(f"infoscreen/{us[name]}/heartbeat", json.dumps(told).encode())

        sent = [[said(*act) for act in batch] for batch in batches]
        for batch in sent:
            await either.ingest.handle(batch, either.clock.now())
            either.clock.advance(30)
        again = [one._replace(repeated=True) for batch in sent for one in batch][-unacknowledged:]
        fresh = [said(*act) for act in waiting]
        # Some of what waited was under way, too, when the daemon ended, and stored by nobody.
        under_way = [one._replace(repeated=True) for one in fresh[: len(fresh) // 2]]
        await either.ingest.handle([*again, *under_way, *fresh[len(fresh) // 2 :]], either.clock.now())
        for name, uuid in us.items():
            count = [act[0] for batch in [*batches, waiting] for act in batch].count(name)
            if count:
                client = await either.client(uuid)
                assert (client.heartbeats, client.process_pid) == (count, pids[name])
                assert client.last_device_time == device_time[name]

    loop = asyncio.get_running_loop()
    batches = st.lists(st.lists(ACTS, min_size=1, max_size=4), min_size=1, max_size=3)

    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(batches, st.integers(1, 12), st.lists(ACTS, max_size=4))
    def histories(batches: list[list[Act]], unacknowledged: int, waiting: list[Act]) -> None:
        asyncio.run_coroutine_threadsafe(check(batches, unacknowledged, waiting), loop).result()

    await asyncio.to_thread(histories)


async def test_heartbeats_that_are_repeated_in_several_batches_are_counted_once(either: Spine) -> None:
    """A backlog of a client is repeated, cut into batches anywhere."""
    began = either.clock.now()
    sent = [
        Incoming(
            f"infoscreen/{U}/heartbeat",
            json.dumps({"timestamp": zulu(began + timedelta(seconds=30 * number))}).encode(),
        )
        for number in range(8)
    ]
    await either.ingest.handle(sent[:7], either.clock.now())
    for one in sent:
        await either.ingest.handle([one._replace(repeated=True)], either.clock.now())
        assert (await either.client(U)).last_device_time >= began + timedelta(seconds=180)
    assert (await either.client(U)).heartbeats == 8


async def rejected_and_refused(spine: Spine, uuid: str) -> tuple[int, int]:
    async with spine.store.read() as connection:
        rejected = await connection.scalar(
            text("SELECT count(*) FROM rejected_messages WHERE topic LIKE :topic"), {"topic": f"%{uuid}%"}
        )
    return rejected, (await spine.client(uuid)).refused_count


async def test_rejected_messages_that_the_broker_repeats_are_counted_once(either: Spine) -> None:
    """Also those that look alike; those that no client or command is known of are kept once, too."""
    packet = itertools.count(1)

    def said(topic: str, payload: bytes) -> Incoming:
        return Incoming(f"infoscreen/{topic}", payload, packet_id=next(packet).to_bytes(2))

    await either.beat(U)
    await either.beat(V)
    unknown = {"command_id": uuid_of(99), "status": "completed", "timestamp": zulu(either.clock.now())}
    odd = [
        (f"{U}/heartbeat", b"not JSON"),
        (f"{V}/health", b"\x00" * 300),
        (f"{U}/heartbeat", b"not JSON"),
        (f"{U}/commands/ack", json.dumps(unknown).encode()),
        (f"{U}/nonsense", b"{}"),
    ]
    sent = [said(*one) for one in odd * 3]
    await either.ingest.handle(sent[:6], either.clock.now())
    await either.ingest.handle(sent[6:10], either.clock.now())
    after = await rejected_and_refused(either, U), await rejected_and_refused(either, V)
    assert after == ((8, 6), (2, 2))
    refused_at = (await either.client(V)).refused_at
    either.clock.advance(30)
    # None of these was acknowledged, and the last five were stored by nobody.
    again = [one._replace(repeated=True) for one in sent]
    for start in range(0, 15, 4):
        await either.ingest.handle(again[start : start + 4], either.clock.now())
    after = await rejected_and_refused(either, U), await rejected_and_refused(either, V)
    assert after == ((12, 9), (3, 3))
    assert (await either.client(V)).refused_at != refused_at
    counts = either.measures.counts
    assert sum(number for key, number in counts.items() if key[0] == "rejected") == 15


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_what_was_heard_is_counted_once_when_the_daemon_is_killed_between_commit_and_puback(
    tmp_path: Path, broker: Broker, request: pytest.FixtureRequest, kind: str
) -> None:
    """A real mosquitto repeats it to the daemon that is started next."""
    await broker.add_device(U)
    settings = {"DATABASE_URL": request.getfixturevalue("postgres")} if kind == "postgres" else {}
    sent = 0
    async with (
        proxied(broker.port) as line,
        installed(tmp_path / "daemon", broker, MQTT_PORT=line.port, **settings) as daemon,
        closing_store(daemon.url) as store,
    ):

        async def say() -> None:
            """Send a heartbeat, and one that cannot be read and looks like all others."""
            nonlocal sent
            sent += 1
            told = json.dumps({"timestamp": zulu(datetime.now(UTC))})
            await broker.pub(f"infoscreen/{U}/heartbeat", told)
            await broker.pub(f"infoscreen/{U}/heartbeat", "not JSON")

        async def all_counted() -> bool:
            return min(await counted()) >= sent

        async def counted() -> tuple[int, int, int]:
            async with store.read() as connection:
                row = await connection.execute(text("SELECT heartbeats, refused_count FROM clients"))
                heard = row.first()
                kept = await connection.scalar(text("SELECT count(*) FROM rejected_messages"))
            return (*heard, kept) if heard else (0, 0, kept)

        for _ in range(2):
            await daemon.start()
            await say()
            await until_told(all_counted)
            line.loses_what_is_sent = True  # the PUBACKs, which is as if they had not been sent
            for _ in range(3):
                await say()
            await until_told(all_counted)
            await daemon.kill()
            line.loses_what_is_sent = False
            await say()  # waits behind what is repeated
        await daemon.start()
        await until_told(all_counted)
        assert await counted() == (sent, sent, sent)
