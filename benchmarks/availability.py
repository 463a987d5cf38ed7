"""How long a month of the whole fleet takes from the sums of days: ``python -m benchmarks.availability``.

Every client changed its condition ten times a day, so that no sum is empty.
"""

import asyncio
import random
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from infoscreen.domain.availability import FIELDS
from infoscreen.services.reporting import Grouping, ReportQuery, ReportScope, report
from infoscreen.storage.availability_days import DayRow, save
from infoscreen.storage.engine import Store
from infoscreen.storage.tables import clients, metadata

CLIENTS, SITES, FIRST, DAYS = 50_000, 500, date(2026, 3, 1), 31
AT_ONCE = 500


async def fill(store: Store) -> None:
    """Write a fleet and the sums of its month."""
    rng = random.Random(1)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for begin in range(0, CLIENTS, AT_ONCE):
        rows: list[DayRow] = []
        changes: dict[tuple[str, str], tuple[int, ...]] = {}
        known = []
        for number in range(begin, begin + AT_ONCE):
            uuid, site = f"00000000-0000-4000-8000-{number:012d}", f"Site {number % SITES:03d}"
            known.append(
                {"uuid": uuid, "created_at": start, "status_since": start, "sort_key": uuid, "site": site}
            )
            total = [0] * len(FIELDS)
            for day in range(DAYS):
                dark = [rng.randrange(600) for _ in range(6)]
                sums = [86_400 - sum(dark), *dark, 0, 0, 0, 3, sum(dark) // 2, 2, sum(dark) // 2, 0, 0]
                total = [a + b for a, b in zip(total, sums, strict=True)]
                name = (FIRST + timedelta(days=day)).isoformat()
                rows.append(DayRow(uuid, name, start + timedelta(days=day + 1), tuple(total)))
                key = name, site
                before = changes.get(key, (0,) * len(FIELDS))
                changes[key] = tuple(a + b for a, b in zip(before, sums, strict=True))
        async with store.write() as connection:
            await connection.execute(clients.insert(), known)
            await save(connection, rows, changes)


async def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench.db").touch()
        store = Store(f"sqlite+aiosqlite:///{Path(folder) / 'bench.db'}")
        async with store.write() as connection:
            await connection.run_sync(metadata.create_all)
        await fill(store)
        last = FIRST + timedelta(days=DAYS - 1)
        for grouping in (None, *Grouping):
            asked = ReportQuery(
                scope=ReportScope.FLEET, name=None, first=FIRST, last=last, grouping=grouping, limit=10
            )
            took = []
            for _ in range(3):
                began = time.perf_counter()
                async with store.read() as connection:
                    await report(connection, asked)
                took.append(time.perf_counter() - began)
            print(f"fleet by {grouping}: {min(took):.3f} s")  # noqa: T201 - a benchmark tells its figures
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
