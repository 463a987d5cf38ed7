"""A fleet: its clients in a database, as if they had been heard for long, and what its devices say."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid5

from sqlalchemy import insert

from infoscreen.domain.clients import Client, Condition, ProcessStatus, sort_key
from infoscreen.domain.presence import StalePolicy
from infoscreen.services.beats import Beats
from infoscreen.services.reports import Folding, fold_beats, settle
from infoscreen.storage import client_index, schema, tables
from infoscreen.storage.columns import utc_text
from infoscreen.storage.engine import Store
from infoscreen.wire import topics
from infoscreen.wire.messages import Heartbeat, encode

UNWELL = 50
"""So many have crashed in every fleet, whatever its size: as many as the panel's first page shows."""

SITE = 500
"""Clients at a site."""

AT_ONCE = 1_000

_NAMESPACE = UUID("6d5a3c1e-4f0b-4d6e-9b4a-0c6a4b8f7e21")
_POLICY = StalePolicy(45, 180)


def uuid_of(number: int) -> str:
    """Return the UUID of a client, counted from 0."""
    return str(uuid5(_NAMESPACE, str(number)))


def beat(number: int, uuid: str, at: datetime) -> Heartbeat:
    """Return a heartbeat as field devices send them: the client's facts repeat, the time goes on."""
    return Heartbeat(
        timestamp=at,
        process_status=ProcessStatus.CRASHED if number < UNWELL else ProcessStatus.RUNNING,
        process_pid=1000,
        boot_id=uuid[:13],
        ip="10.0.0.1",
    )


def heartbeats(clients: int) -> Iterator[tuple[str, bytes]]:
    """Yield topic and payload of heartbeats without end, of one client after the other."""
    uuids = [uuid_of(number) for number in range(clients)]
    while True:
        for number, uuid in enumerate(uuids):
            yield topics.heartbeat(uuid), encode(beat(number, uuid, datetime.now(UTC)))


_templates: dict[int, Path] = {}
_folder = TemporaryDirectory(prefix="infoscreen-fleets-")


async def fill(file: Path, clients: int) -> str:
    """Make an SQLite database in which so many clients are known and were all heard just now; return its URL.

    Made once for each size and copied from then on.
    """
    if clients not in _templates:
        template = Path(_folder.name) / f"{clients}.db"
        await _make(f"sqlite+aiosqlite:///{template}", clients)
        _templates[clients] = template
    await asyncio.to_thread(_copy, _templates[clients], file)
    return f"sqlite+aiosqlite:///{file}"


def _copy(template: Path, file: Path) -> None:
    shutil.copyfile(template, file)
    with closing(sqlite3.connect(file)) as database, database:
        now = datetime.now(UTC)
        (seconds,) = database.execute("SELECT stale_after_seconds FROM clients").fetchone()
        database.execute(
            "UPDATE clients SET last_heard_at = :now, last_alive = :now, last_device_time = :now,"
            " stale_at = :stale",
            {"now": utc_text(now), "stale": utc_text(now + timedelta(seconds=seconds))},
        )


async def _make(url: str, clients: int) -> None:
    await schema.upgrade(url)
    store, now = Store(url), datetime.now(UTC)
    try:
        for start in range(0, clients, AT_ONCE):
            rows = [_row(number, now) for number in range(start, min(start + AT_ONCE, clients))]
            async with store.write() as connection:
                await connection.execute(insert(tables.clients), rows)
        await client_index.repair(store)
    finally:
        await store.close()


def _row(number: int, now: datetime) -> dict[str, object]:
    uuid = uuid_of(number)
    before = now - timedelta(days=30)
    client = Client(
        uuid=uuid,
        created_at=before,
        status=Condition.ONLINE,
        status_since=before,
        name=f"Screen {number:05}",
        hostname=f"screen-{number:05}",
        site=f"Site {number // SITE:02}",
        tags=["bench"],
        hardware_model="Raspberry Pi 4 Model B Rev 1.4",
        os_release="Debian GNU/Linux 12 (bookworm)",
        software_version="4.2.0",
        capabilities=["restart_app", "reboot_host", "shutdown_host", "screenshot"],
    )
    folding = Folding(before=client, client=client)
    fold_beats(folding, Beats(beat(number, uuid, now)), now, before, None, _POLICY)
    settle(folding, now, before)
    client = replace(folding.client, heartbeats=1)
    return asdict(client) | {
        "sort_key": sort_key(client.name, client.hostname, uuid),
        "said": folding.said,
    }
