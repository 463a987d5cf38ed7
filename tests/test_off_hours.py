"""Outside their hours clients may be dark: no alarm, no outage, no command, at an opening and a closing."""

from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from benchmarks.nights import ZONES, Outcome, Plan, fleet, played
from infoscreen.domain.accounts import Role
from infoscreen.domain.clients import Condition
from infoscreen.domain.hours import Schedule, is_expected
from infoscreen.domain.recovery import Reason, RecoveryPolicy
from infoscreen.domain.sites import Site
from infoscreen.services.hours import BadHours, Hours
from infoscreen.services.recovery.explain import explain
from infoscreen.storage import client_totals, sites
from infoscreen.storage.recovery import decisions, incidents, ladders, unwell
from infoscreen.storage.recovery.incidents import StoredIncident
from tests.api import ask
from tests.spine import ADMIN, MORNING, Spine, sqlite_url
from tests.test_recovery_loop import DARK, EVERYBODY, U, asked_for, pass_time, scene
from tests.web import serving

POLICY = RecoveryPolicy(enabled=True)
HOURS = "Mo-Su 06:00-07:30,08:30-20:00"
"""In UTC. The scene begins at 7:00 and is at 7:10 when it is handed over."""

CLOSES, OPENS = MORNING + timedelta(minutes=30), MORNING + timedelta(minutes=90)
EXPECTED = OPENS + timedelta(minutes=15)


BOTH = pytest.mark.parametrize(
    "spine", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture(params=["sqlite"])
async def spine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spine]:
    """A dozen clients with hours, which have beaten for ten minutes; the dark ones to be are of one site."""
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with scene(url) as parts:
        site = await parts.sites.create("Depot", {"hours": HOURS}, ADMIN)
        for uuid in EVERYBODY:
            at = {"site": site.name} if uuid in DARK else {"own_hours": HOURS}
            await parts.fleet.edit(uuid, at, ADMIN)  # type: ignore[arg-type]
        yield parts


async def until(spine: Spine, at: datetime, *crashed: str, silent: Collection[str] = ()) -> None:
    minutes = (at - spine.clock.now()).total_seconds() / 60
    await pass_time(spine, minutes, *crashed, silent=silent)


async def status(spine: Spine, uuid: str = DARK[0]) -> Condition:
    return (await spine.client(uuid)).status


async def reason(spine: Spine, uuid: str = DARK[0]) -> Reason | None:
    client = await spine.client(uuid)
    async with spine.store.read() as connection:
        found = await explain(connection, client, POLICY, spine.clock.now())
    return None if found.decision is None else found.decision.reason


async def outages(spine: Spine) -> list[StoredIncident]:
    async with spine.store.read() as connection:
        return await incidents.under_way(connection)


async def all_incidents(spine: Spine) -> int:
    async with spine.store.read() as connection:
        return int(await connection.scalar(text("SELECT count(*) FROM incidents")) or 0)


@BOTH
async def test_a_closing_makes_clients_grey_and_nothing_else(spine: Spine) -> None:
    await until(spine, CLOSES + timedelta(seconds=30))
    await until(spine, CLOSES + timedelta(minutes=20), silent=DARK)
    for uuid in DARK:
        client = await spine.client(uuid)
        assert (client.status, client.within_hours) == (Condition.OFF_HOURS, False)
        assert client.next_change_at == OPENS
    assert await status(spine, U) is Condition.ONLINE  # heard outside its hours it is simply online
    assert (await all_incidents(spine), await asked_for(spine)) == (0, [])
    assert await reason(spine) is Reason.OFF_HOURS
    async with spine.store.read() as connection:
        totals = await client_totals.totals(connection)
        assert await decisions.standing(connection, DARK) == {}
    assert (totals[Condition.OFF_HOURS], totals[Condition.UNREACHABLE]) == (5, 0)
    await until(spine, OPENS + timedelta(minutes=10), silent=DARK)
    assert await status(spine) is Condition.OFF_HOURS
    await until(spine, EXPECTED + timedelta(minutes=30))
    assert {await status(spine, uuid) for uuid in EVERYBODY} == {Condition.ONLINE}
    assert (await all_incidents(spine), await asked_for(spine)) == (0, [])


async def test_silence_shortly_before_the_closing_is_held_and_then_off(spine: Spine) -> None:
    await until(spine, CLOSES - timedelta(minutes=10))
    await until(spine, CLOSES - timedelta(minutes=2), silent=DARK)
    assert await status(spine) is Condition.UNREACHABLE
    assert {await reason(spine, uuid) for uuid in DARK} == {Reason.CLOSING_SOON}
    await until(spine, CLOSES + timedelta(minutes=2), silent=DARK)
    assert {await status(spine, uuid) for uuid in DARK} == {Condition.OFF_HOURS}
    assert (await all_incidents(spine), await asked_for(spine)) == (0, [])
    async with spine.store.read() as connection:
        assert await ladders.all_of_them(connection) == {}


async def test_one_that_does_not_come_back_with_the_opening_is_missed_since_the_grace(spine: Spine) -> None:
    await until(spine, CLOSES)
    await until(spine, OPENS + timedelta(minutes=2), silent=DARK)
    await until(spine, EXPECTED + timedelta(seconds=30), silent=DARK[:1])
    client = await spine.client(DARK[0])
    assert (client.status, client.status_since) == (Condition.UNREACHABLE, EXPECTED)
    await until(spine, EXPECTED + timedelta(minutes=3), silent=DARK[:1])
    assert await reason(spine) is Reason.NO_OUTLET
    assert await all_incidents(spine) == 0


async def test_a_site_that_does_not_come_back_is_one_outage_and_no_five_calls(spine: Spine) -> None:
    await until(spine, CLOSES)
    await until(spine, EXPECTED + timedelta(minutes=20), silent=DARK)
    (outage,) = await outages(spine)
    assert (outage.site, outage.members) == ("Depot", 5)
    assert outage.began_at == EXPECTED
    assert {await reason(spine, uuid) for uuid in DARK} == {Reason.SITE_OUTAGE}
    async with spine.store.read() as connection:
        by_chance = await unwell.silences(connection, "2000-01-01")
    assert by_chance.silences == 0
    await until(spine, EXPECTED + timedelta(minutes=40))
    assert await outages(spine) == []


async def test_a_crash_outside_hours_is_shown_and_repaired_before_the_opening(spine: Spine) -> None:
    await until(spine, CLOSES)
    await until(spine, OPENS - timedelta(minutes=31), U)
    assert await status(spine, U) is Condition.CRASHED
    assert (await reason(spine, U), await asked_for(spine)) == (Reason.OFF_HOURS, [])
    await until(spine, OPENS - timedelta(minutes=28), U)
    assert {one.client_uuid for one in await asked_for(spine)} == {U}


async def test_hours_that_are_set_in_an_outage_explain_it_at_the_next_poll(spine: Spine) -> None:
    (depot,) = [one.id for one in await _sites(spine)]
    await spine.sites.edit(depot, {"hours": None}, ADMIN)
    await until(spine, CLOSES + timedelta(minutes=30), silent=DARK)
    assert [one.site for one in await outages(spine)] == ["Depot"]
    began = (await spine.client(DARK[0])).last_alive
    assert began is not None
    await spine.sites.edit(depot, {"hours": f"Mo-Su 06:00-{began + timedelta(minutes=5):%H:%M}"}, ADMIN)
    await pass_time(spine, 0.5, silent=DARK)
    assert {await status(spine, uuid) for uuid in DARK} == {Condition.OFF_HOURS}
    assert {await reason(spine, uuid) for uuid in DARK} == {Reason.OFF_HOURS}
    async with spine.store.read() as connection:
        assert not set(DARK) & (await ladders.all_of_them(connection)).keys()
    await spine.sites.edit(depot, {"hours": None}, ADMIN)
    await pass_time(spine, 1, silent=DARK)
    assert {await status(spine, uuid) for uuid in DARK} == {Condition.UNREACHABLE}
    assert await asked_for(spine) == []


async def test_an_outage_from_before_the_closing_does_not_end_with_it(spine: Spine) -> None:
    hours = "Mo-Su 06:00-08:00,09:00-20:00"
    for site in await _sites(spine):
        await spine.sites.edit(site.id, {"hours": hours}, ADMIN)
    await pass_time(spine, 20, silent=DARK)
    (outage,) = await outages(spine)
    await until(spine, MORNING + timedelta(minutes=115), silent=DARK)
    assert await status(spine) is Condition.OFF_HOURS
    assert [one.id for one in await outages(spine)] == [outage.id]
    await until(spine, MORNING + timedelta(minutes=140))
    assert await outages(spine) == []


async def test_a_daemon_that_was_off_over_the_opening_judges_as_if_it_had_been_there(spine: Spine) -> None:
    await until(spine, CLOSES)
    await until(spine, CLOSES + timedelta(minutes=5), silent=DARK)
    spine.clock.advance(3 * 3_600)
    spine.link.listening_since = spine.clock.now()
    await spine.watch.look()
    assert await status(spine) is Condition.OFF_HOURS  # we have only begun to listen
    await pass_time(spine, 5, silent=DARK[:1])
    client = await spine.client(DARK[0])
    assert (client.status, client.status_since) == (Condition.UNREACHABLE, EXPECTED)
    assert await status(spine, DARK[1]) is Condition.ONLINE


async def test_hours_that_cannot_be_read_count_as_always_and_are_told(spine: Spine) -> None:
    async with spine.store.write() as connection:
        await connection.execute(text("UPDATE sites SET hours = 'whenever we like'"))
    spine.clock.advance(61)
    await spine.watch.look()
    client = await spine.client(DARK[0])
    assert (client.hours, client.hours_fault) == ("24/7", "not_opening_hours")
    assert (client.within_hours, client.next_change_at) == (True, None)
    await pass_time(spine, 60, silent=DARK[:1])
    assert await status(spine) is Condition.UNREACHABLE


async def test_a_site_with_hours_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        operator = await site.program(Role.OPERATOR)
        made = await ask(operator, "POST", "/api/sites", status=201, json={"name": "Messe", "hours": "24/7"})
        async with site.spine.store.write() as connection:
            await connection.execute(text("UPDATE sites SET time_zone = 'Mars/Base'"))
        shown = await ask(operator, "GET", f"/api/sites/{made['id']}")
        assert "Europe/Berlin" in shown["hours_warning"]
        assert shown["within_hours"] is True


async def _sites(spine: Spine) -> list[Site]:
    async with spine.store.read() as connection:
        return await sites.all_of_them(connection)


# --- nights, before the judge


async def nights(plan: Plan) -> tuple[Outcome, set[str]]:
    devices = fleet(plan)
    return await played(plan, devices), {one.uuid for one in devices if one.dies_at is not None}


@pytest.mark.slow
@pytest.mark.parametrize("begin", ["2026-03-28T12:00:00+00:00", "2026-10-24T12:00:00+00:00"])
async def test_a_night_with_a_change_of_clocks_is_quiet_and_who_died_is_found(begin: str) -> None:
    plan = Plan(begin=datetime.fromisoformat(begin), clients=30, dead=2, interval=300, poll=300, dark=0.9)
    outcome, dead = await nights(plan)
    assert (outcome.published, outcome.incidents) == ([], {})
    known = plan.begin + timedelta(hours=2)
    assert outcome.ever("unreachable", "hung", after=known) == dead
    assert outcome.called.keys() <= dead
    assert outcome.ever("off_hours", after=known)
    for uuid in dead:
        found = next(at for at, told in outcome.statuses[uuid] if told == "unreachable" and at > known)
        local = found.astimezone(Hours().zone_of(Schedule(time_zone=_zone_of(plan, uuid))))
        assert (local.hour, local.minute) in {(6, 25), (6, 30)}


def _zone_of(plan: Plan, uuid: str) -> str:
    return next(one.zone for one in fleet(plan) if one.uuid == uuid)


# --- spans

BERLIN = Hours()
EXPRESSIONS = (
    "24/7",
    "off",
    HOURS,
    "Mo-Fr 22:00-02:00; PH off",
    "Mo-Su 02:30-03:30",
    "Mo-Fr 07:00-20:00 unknown; Sa 09:00-14:00",
    "Dec 24-Dec 26 off; Mo-Su 00:00-24:00",
    "easter +1 day off; Mo-Su 08:00-18:00",
)
moments = st.integers(0, 3 * 366 * 1_440).map(
    lambda minute: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minute, seconds=7)
)


@given(
    st.sampled_from(EXPRESSIONS),
    st.sampled_from(ZONES),
    moments,
)
def test_a_span_is_the_part_of_the_calendar_that_a_moment_lies_in(
    expression: str, zone: str, at: datetime
) -> None:
    schedule = Schedule(expression, zone, "DE")
    span = BERLIN.span_at(schedule, at)
    assert span.within is BERLIN.is_open(schedule, at)
    if span.until is not None:
        assert at < span.until
        assert BERLIN.is_open(schedule, span.until) is not span.within
        assert BERLIN.is_open(schedule, span.until - timedelta(microseconds=1)) is span.within
    if span.since is not None:
        assert span.since <= at
        assert BERLIN.is_open(schedule, span.since) is span.within
        assert BERLIN.is_open(schedule, span.since - timedelta(microseconds=1)) is not span.within
    parts = BERLIN.intervals(schedule, at - timedelta(days=3), at + timedelta(days=3))
    assert parts[0].start == at - timedelta(days=3)
    assert parts[-1].end == at + timedelta(days=3)
    for one, following in pairwise(parts):
        assert one.end == following.start
        assert one.within is not following.within


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_its_column(given_text: str) -> None:
    try:
        BERLIN.check(Schedule(given_text))
    except BadHours as error:
        refused = error.field, error.fault.arguments["column"]
    else:
        return
    assert refused[0] == "hours"
    assert 1 <= int(str(refused[1])) <= len(given_text) + 1


def test_between_a_change_and_its_being_looked_up_nobody_is_expected() -> None:
    class Client:
        within_hours, hours_since, expected_by = True, None, None
        next_change_at: datetime | None = MORNING
        last_alive: datetime | None = MORNING - timedelta(hours=3)

    assert not is_expected(Client(), MORNING)
    assert is_expected(Client(), MORNING - timedelta(seconds=1))
