"""Sums of days: by the calendar of the site, corrected when a cause is found, and never by the retention."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update

from infoscreen.domain.accounts import Role
from infoscreen.domain.availability import DARK_CAUSES, FIELDS, Cure, IntervalCause, Sums, field
from infoscreen.domain.hours import HoursPolicy
from infoscreen.services.availability import Availability, Kept, Portions
from infoscreen.services.hours import Hours
from infoscreen.services.reporting import Grouping, Report, ReportQuery, ReportScope, report
from infoscreen.services.schedules import Schedules
from infoscreen.storage import availability, availability_days, sites
from infoscreen.storage.tables import clients
from tests.api import ask
from tests.spine import Spine, open_spine, sqlite_url, uuid_of
from tests.statements import statements_of
from tests.web import Site

U, V = uuid_of(1), uuid_of(2)
BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)
WHOLE = FIELDS[: FIELDS.index("unobserved") + 1]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def spine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spine]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with open_spine(url) as parts:
        yield parts


AT_ONCE = Portions(pause_seconds=0)


def availability_of(spine: Spine, portions: Portions = AT_ONCE, kept: timedelta = 400 * DAY) -> Availability:
    """Return a new one, as after a restart."""
    schedules = Schedules(spine.store, spine.clock, Hours(BERLIN), HoursPolicy())
    return Availability(spine.store, spine.clock, spine.link, schedules, Kept(7 * DAY, kept), portions)


async def at_site(spine: Spine, uuid: str, site: str, **told: str) -> None:
    async with spine.store.write() as connection:
        await sites.ensure(connection, [site], spine.clock.now())
        found = (await sites.by_names(connection, [site]))[site]
        await sites.save(connection, found.id, told)
        await connection.exec_driver_sql(f"UPDATE clients SET site = '{site}' WHERE uuid = '{uuid}'")


async def pass_time(spine: Spine, until: datetime, **uuids: str) -> None:
    """Let hours pass in which the clients beat every ten minutes, and the daemon notes that it listens."""
    observing = availability_of(spine)
    while spine.clock.now() < until:
        spine.clock.advance(min(600.0, (until - spine.clock.now()).total_seconds()))
        for uuid, status in uuids.items():
            await spine.beat(uuid.replace("_", "-").removeprefix("u"), process_status=status)
        await observing.observe()


async def asked_of(spine: Spine, first: date, last: date, grouping: Grouping) -> Report:
    return await asked(spine, first, last, grouping=grouping)


async def asked(spine: Spine, first: date, last: date, **more: object) -> Report:
    query: dict[str, object] = {"scope": ReportScope.FLEET, "name": None, **more}
    async with spine.store.read() as connection:
        return await report(connection, ReportQuery(first=first, last=last, **query))  # type: ignore[arg-type]


def key(uuid: str) -> str:
    return "u" + uuid.replace("-", "_")


def total(sums: Sums) -> int:
    return sum(field(sums, name) for name in WHOLE)


async def test_the_days_of_a_site_are_those_of_its_clocks_also_when_they_change(spine: Spine) -> None:
    # In Berlin 29 March 2026 has 23 hours.
    await _begin(spine, datetime(2026, 3, 28, 12, tzinfo=BERLIN))
    await at_site(spine, U, "Berlin", time_zone="Europe/Berlin")
    await pass_time(spine, datetime(2026, 3, 30, 1, tzinfo=BERLIN), **{key(U): "running"})
    await availability_of(spine).step()
    found = await asked(spine, date(2026, 3, 28), date(2026, 3, 29), grouping=Grouping.DAY)
    assert [(one.key, total(one.sums)) for one in found.groups] == [
        ("2026-03-28", 12 * 3600),
        ("2026-03-29", 23 * 3600),
    ]
    assert field(found.total, "shown") == 35 * 3600


async def _begin(spine: Spine, at: datetime) -> None:
    spine.clock.advance((at.astimezone(UTC) - spine.clock.now()).total_seconds())
    spine.link.listening_since = spine.clock.now()
    await spine.beat(U, process_status="running")
    await availability_of(spine).observe()


async def test_outside_its_hours_nothing_is_dark_and_a_healthy_screen_has_all(spine: Spine) -> None:
    await _begin(spine, datetime(2026, 3, 2, tzinfo=BERLIN))
    await at_site(spine, U, "Shop", time_zone="Europe/Berlin", hours="Mo-Su 08:00-20:00")
    await pass_time(spine, datetime(2026, 3, 3, 1, tzinfo=BERLIN), **{key(U): "running"})
    await availability_of(spine).step()
    found = await asked(spine, date(2026, 3, 2), date(2026, 3, 2))
    assert field(found.total, "shown") == 12 * 3600
    assert field(found.total, "off_hours") == 12 * 3600
    assert total(found.total) == 24 * 3600


async def test_a_cause_found_later_corrects_sums_without_changing_a_time(spine: Spine) -> None:
    await _begin(spine, datetime(2026, 3, 2, tzinfo=BERLIN))
    night = datetime(2026, 3, 2, 22, tzinfo=BERLIN)
    await pass_time(spine, night, **{key(U): "running"})
    await spine.beat(U, process_status="crashed")
    await pass_time(spine, datetime(2026, 3, 3, 1, tzinfo=BERLIN), **{key(U): "crashed"})
    await availability_of(spine).step()
    before = await asked(spine, date(2026, 3, 2), date(2026, 3, 2))
    assert field(before.total, "dark_app") == 2 * 3600
    # A reboot by the recovery cures it: so it was the host.
    async with spine.store.write() as connection:
        at = spine.clock.now() - timedelta(minutes=10)
        await connection.exec_driver_sql(
            "INSERT INTO recovery_attempts (command_id, client_uuid, rung, decided_at, ended_at, outcome)"
            f" VALUES ('c1', '{U}', 2, '{at:%Y-%m-%d %H:%M:%S.%f}', '{at:%Y-%m-%d %H:%M:%S.%f}', 'helped')"
        )
    await pass_time(spine, datetime(2026, 3, 3, 2, tzinfo=BERLIN), **{key(U): "running"})
    for _ in range(2):
        await availability_of(spine).step()  # the second time changes nothing
        after = await asked(spine, date(2026, 3, 2), date(2026, 3, 2), grouping=Grouping.CLIENT)
        assert (field(after.total, "dark_app"), field(after.total, "dark_host")) == (0, 2 * 3600)
        assert after.groups[0].sums[: len(WHOLE)] == after.total[: len(WHOLE)]
        assert total(after.total) == total(before.total)
    async with spine.store.read() as connection:
        (dark,) = [
            one
            for one in (await availability.of_clients(connection, [U], night - DAY, night + DAY))[U]
            if one.condition == "crashed"
        ]
    assert (dark.cause, dark.cure) == (IntervalCause.HOST, Cure.RECOVERY)
    assert dark.began_at == night


async def test_times_without_the_daemon_count_neither_way(spine: Spine) -> None:
    await _begin(spine, datetime(2026, 3, 2, tzinfo=BERLIN))
    await pass_time(spine, datetime(2026, 3, 2, 10, tzinfo=BERLIN), **{key(U): "running"})
    # Killed; back after four hours, and nobody tells the new process when that was.
    spine.clock.advance(4 * 3600)
    spine.link.listening_since = spine.clock.now()
    await pass_time(spine, datetime(2026, 3, 3, 1, tzinfo=BERLIN), **{key(U): "running"})
    await availability_of(spine).step()
    found = await asked(spine, date(2026, 3, 2), date(2026, 3, 2))
    assert field(found.total, "unobserved") == 4 * 3600
    assert field(found.total, "shown") == 20 * 3600
    assert sum(field(found.total, f"dark_{cause}") for cause in DARK_CAUSES) == 0


async def test_retention_changes_no_sum_and_missed_days_are_made_up_for(spine: Spine) -> None:
    await _begin(spine, datetime(2026, 3, 2, tzinfo=BERLIN))
    await spine.beat(V, process_status="crashed")
    for day in range(3, 6):
        await pass_time(
            spine, datetime(2026, 3, day, tzinfo=BERLIN), **{key(U): "running", key(V): "crashed"}
        )
    spine.clock.advance(3600)
    await availability_of(spine).step()
    first, last = date(2026, 3, 2), date(2026, 3, 4)
    before = [await asked(spine, first, last, grouping=one) for one in Grouping]
    assert field(before[0].total, "shown") == field(before[0].total, "dark_app") == 3 * 86_400
    spine.clock.advance(20 * 86_400)
    async with spine.store.write() as connection:
        assert await availability.forget_before(connection, spine.clock.now(), 1_000) >= 0
    assert [await asked(spine, first, last, grouping=one) for one in Grouping] == before
    worst = before[-1].groups
    assert [one.key for one in worst] == [V, U]
    assert [one.key for one in before[1].groups] == ["2026-W10"]
    by_client = await asked(spine, first, last, scope=ReportScope.CLIENT, name=V, grouping=Grouping.DAY)
    assert [field(one.sums, "dark_app") for one in by_client.groups] == [86_400] * 3


async def test_days_of_one_client_are_differences_of_totals(spine: Spine) -> None:
    await _begin(spine, datetime(2026, 3, 2, 12, tzinfo=BERLIN))
    await pass_time(spine, datetime(2026, 3, 4, 1, tzinfo=BERLIN), **{key(U): "running"})
    await availability_of(spine).step()
    async with spine.store.read() as connection:
        days = await availability_days.days_of_client(
            connection, U, ["2026-03-02", "2026-03-03"], "2026-03-01"
        )
    assert [(day, field(sums, "shown")) for day, sums in days] == [
        ("2026-03-02", 12 * 3600),
        ("2026-03-03", 24 * 3600),
    ]


async def test_of_an_old_fleet_only_the_days_are_summed_up_since_we_listen(spine: Spine) -> None:
    await _begin(spine, datetime(2026, 3, 2, 12, tzinfo=BERLIN))
    async with spine.store.write() as connection:
        await connection.exec_driver_sql("UPDATE clients SET created_at = '2025-03-02 00:00:00.000000'")
    summing = availability_of(spine)
    for day, rows in ((2, 0), (3, 1), (4, 2)):
        spine.clock.advance((datetime(2026, 3, day, 13, tzinfo=BERLIN) - spine.clock.now()).total_seconds())
        await summing.observe()
        await summing.step()
        async with spine.store.read() as connection:
            found = await availability_days.since(connection, [U], datetime(2025, 1, 1, tzinfo=UTC))
        assert [total(row.sums) for row in found.get(U, [])] == [12 * 3600, 36 * 3600][:rows]


async def test_the_sums_of_a_site_go_with_its_name(spine: Spine) -> None:
    await _begin(spine, datetime(2026, 3, 2, 12, tzinfo=BERLIN))
    await at_site(spine, U, "Berlin")
    await pass_time(spine, datetime(2026, 3, 3, 1, tzinfo=BERLIN), **{key(U): "running"})
    await availability_of(spine).step()
    for before, after in (("Berlin", "Mitte"), ("Mitte", "Berlin")):
        async with spine.store.write() as connection:
            await sites.rename(connection, before, after)
        day = date(2026, 3, 2)
        assert field((await asked(spine, day, day, scope=ReportScope.SITE, name=after)).total, "shown") > 0
        assert not any((await asked(spine, day, day, scope=ReportScope.SITE, name=before)).total)


@pytest.mark.parametrize(
    "asked_for", ["from=9999-12-31", "to=0001-01-01", "from=0001-01-01&to=0001-01-02&scope=tag:x&group=day"]
)
async def test_days_at_the_edges_of_the_calendar_are_refused(site: Site, asked_for: str) -> None:
    viewer = await site.program(Role.VIEWER)
    for path in ("/api/availability", "/availability", "/availability.csv"):
        async with viewer.get(f"{path}?{asked_for}") as response:
            assert response.status == 422, path
    refused = await ask(viewer, "GET", f"/api/availability?{asked_for}", status=422)
    assert refused["errors"][0]["code"] == "year_not_allowed"


async def test_the_page_writes_dates_as_the_panel_does(site: Site) -> None:
    sums = {("2024-12-30", ""): (60,) * len(FIELDS), ("2024-12-31", ""): (60,) * len(FIELDS)}
    async with site.spine.store.write() as connection:
        await availability_days.save(connection, [], sums)
    browser = await site.browser(Role.VIEWER)
    for code, said in (("en", "30 Dec 2024 to 31 Dec 2024."), ("de", "30. Dez. 2024 bis 31. Dez. 2024.")):
        told = {"Accept": "text/html", "Accept-Language": code}
        async with browser.get("/availability?from=2024-12-30&to=2025-01-05", headers=told) as response:
            assert said in await response.text()
    report = await ask(browser, "GET", "/api/availability?from=2024-12-30&to=2025-01-05")
    assert (report["from"], report["to"]) == ("2024-12-30", "2024-12-31")


# --- how much at a time


async def counted(spine: Spine, step: Coroutine[Any, Any, None], *asked: str) -> list[tuple[int, ...]]:
    """Return what the questions answer in each pause of a step, and after it."""

    async def answers() -> tuple[int, ...]:
        async with spine.store.read() as connection:
            return tuple([(await connection.exec_driver_sql(one)).scalar_one() for one in asked])

    found, task = [], asyncio.create_task(step)
    while not task.done():
        asleep = asyncio.create_task(spine.clock.wait_for_sleepers())
        await asyncio.wait({task, asleep}, return_when=asyncio.FIRST_COMPLETED)
        asleep.cancel()
        found.append(await answers())
        spine.clock.advance(0.1)
    await task
    return found


def most_at_once(counts: list[tuple[int, ...]], which: int) -> int:
    return max(abs(after[which] - before[which]) for before, after in pairwise(counts))


ROWS = "SELECT count(*) FROM availability_days"


async def test_nothing_is_done_for_the_time_before_the_daemon_listened_first(spine: Spine) -> None:
    await spine.beat(U, process_status="running")
    async with spine.store.write() as connection:
        await connection.execute(update(clients).values(created_at=spine.clock.now() - 300 * DAY))
    with statements_of(spine.store) as asked:
        await availability_of(spine).sum_up()
        await _begin(spine, datetime(2026, 3, 2, 12, tzinfo=BERLIN))
        before = len(asked)
        await availability_of(spine).sum_up()
    assert not [text for text, _ in asked if "availability_days" in text]
    assert not [text for text, _ in asked[before:] if "FROM clients" in text]
    await pass_time(spine, datetime(2026, 3, 3, 1, tzinfo=BERLIN), **{key(U): "running"})
    await availability_of(spine).step()
    found = await asked_of(spine, date(2026, 1, 1), date(2026, 3, 2), Grouping.DAY)
    assert [(one.key, total(one.sums)) for one in found.groups] == [("2026-03-02", 12 * 3600)]
    async with spine.store.read() as connection:
        assert (await connection.exec_driver_sql(ROWS)).scalar_one() == 1


async def test_after_a_long_absence_each_transaction_is_small_and_others_have_their_turn(
    spine: Spine,
) -> None:
    await _begin(spine, datetime(2026, 3, 2, tzinfo=BERLIN))
    everybody = {key(uuid_of(number)): "running" for number in range(1, 8)}
    for number in range(2, 8):
        await spine.beat(uuid_of(number), process_status="running")
    await pass_time(spine, datetime(2026, 3, 2, 2, tzinfo=BERLIN), **everybody)
    await pass_time(spine, datetime(2026, 3, 2, 4, tzinfo=BERLIN), **dict.fromkeys(everybody, "crashed"))
    spine.clock.advance(30 * 86_400)
    spine.link.listening_since = spine.clock.now()
    await pass_time(spine, spine.clock.now() + timedelta(hours=2), **everybody)
    bounded = availability_of(spine, Portions(rows=8))
    counts = await counted(spine, bounded.sum_up(), ROWS)
    assert most_at_once([(0,), *counts], 0) == 8
    assert counts[-1] == (7 * 30,)
    found = await asked_of(spine, date(2026, 3, 2), date(2026, 3, 31), Grouping.CLIENT)
    assert len(found.groups) == 7
    for one in found.groups:
        assert field(one.sums, "shown") == 130 * 60
        assert field(one.sums, "dark_app") == 110 * 60
        assert total(one.sums) == 30 * 86_400 - 3600  # of summer time
    # Nothing is missing any more, also after another start.
    with statements_of(spine.store) as asked:
        await availability_of(spine).sum_up()
    assert not [
        text for text, _ in asked if text.startswith(("INSERT", "UPDATE", "DELETE", "BEGIN IMMEDIATE"))
    ]
    # Causes are found a few at a time, and correct no more sums than that.
    unexplained = "SELECT count(*) FROM client_intervals WHERE cause IS NULL AND condition <> 'online'"
    async with spine.store.read() as connection:
        assert (before := (await connection.exec_driver_sql(unexplained)).scalar_one()) >= 7
    counts = await counted(spine, bounded.explain(), unexplained)
    assert 1 <= most_at_once([(before,), *counts], 0) <= 2
    assert counts[-1] == (0,)
    assert await asked_of(spine, date(2026, 3, 2), date(2026, 3, 31), Grouping.CLIENT) == found
    # What is too old is forgotten likewise.
    forgetting = availability_of(spine, Portions(rows=4), kept=10 * DAY)
    counts = await counted(spine, forgetting.step(), ROWS, "SELECT count(*) FROM client_intervals")
    assert (most_at_once([(7 * 30, 14), *counts], 0), most_at_once([(7 * 30, 14), *counts], 1)) == (4, 4)
    assert counts[-1][1] == 7
    assert 0 < counts[-1][0] < 7 * 12
