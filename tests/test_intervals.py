"""Intervals of clients: without gap or overlap, whatever happens, and named later without changing a time."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoscreen.domain.availability import (
    CAUSES,
    DARK,
    FIELDS,
    Cure,
    Gap,
    Help,
    IntervalCause,
    StatusInterval,
    closed,
    field,
    found,
    interval_begin,
    lived,
    measured,
    since,
)
from infoscreen.domain.clients import Client, Condition, ProcessStatus
from infoscreen.domain.recovery import Rung
from infoscreen.storage import availability
from tests.spine import MORNING, Spine, open_spine, sqlite_url, uuid_of, zulu

U = uuid_of(1)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def spine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spine]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with open_spine(url) as parts:
        yield parts


async def intervals(spine: Spine) -> list[StatusInterval]:
    """Return all intervals of the client, the present one included."""
    client = await spine.client(U)
    far = MORNING - timedelta(days=400), MORNING + timedelta(days=400)
    async with spine.store.read() as connection:
        ended = (await availability.of_clients(connection, [U], *far)).get(U, [])
    return [*ended, StatusInterval(U, lived(client), since(client), None)]


def partition(some: list[StatusInterval], created_at: datetime) -> bool:
    at = created_at
    for one in some:
        if one.began_at != at or (one.ended_at is not None and one.ended_at <= at):
            return False
        at = one.ended_at or at
    return some[-1].ended_at is None


async def test_every_change_ends_an_interval_in_the_same_transaction(spine: Spine) -> None:
    await spine.beat(U, process_status="running")
    created_at = (await spine.client(U)).created_at
    spine.clock.advance(60)
    await spine.beat(U, process_status="crashed")
    spine.clock.advance(30)
    await spine.beat(U, process_status="running")
    spine.clock.advance(600)
    await spine.watch.look()
    some = await intervals(spine)
    assert [(one.condition, one.ended_at and one.ended_at - one.began_at) for one in some] == [
        ("online", MINUTE),
        ("crashed", timedelta(seconds=30)),
        ("online", timedelta(seconds=600)),
        ("unreachable", None),
    ]
    assert [one.repaired_seconds for one in some] == [None, 30, None, None]
    assert partition(some, created_at)


async def test_a_failed_service_that_runs_again_is_dark_no_longer(spine: Spine) -> None:
    await spine.beat(U, process_status="running")
    spine.clock.advance(60)
    failed = {"event": "service_failed", "unit": "app.service", "failed_at": zulu(spine.clock.now())}
    await spine.hear((f"{U}/service_failed", failed))
    spine.clock.advance(60)
    await spine.beat(U, process_status="running")
    assert (await spine.client(U)).status == "service_failed"
    assert [one.condition for one in await intervals(spine)] == ["online", "service_failed", "online"]


steps = st.lists(
    st.tuples(
        st.sampled_from(["running", "crashed", "stopped", "silence", "back an hour", "day on", "failed"]),
        st.integers(0, 900),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(steps)
async def test_no_gap_and_no_overlap_whatever_happens(some: list[tuple[str, int]]) -> None:
    async with open_spine("sqlite+aiosqlite:///:memory:") as spine:
        await spine.beat(U, process_status="running")
        created_at = (await spine.client(U)).created_at
        for what, seconds in some:
            spine.clock.advance(seconds)
            match what:
                case "silence":
                    spine.clock.advance(900)
                    await spine.watch.look()
                case "back an hour":
                    spine.clock.set_wall_time(spine.clock.now() - HOUR)
                case "day on":
                    spine.clock.advance(86_400)
                case "failed":
                    at = zulu(spine.clock.now())
                    await spine.hear((f"{U}/service_failed", {"unit": "a.service", "failed_at": at}))
                case _:
                    await spine.beat(U, process_status=what)
            assert partition(await intervals(spine), created_at)


# --- the pure part: generated histories with clocks set back and restarts, of which nothing is kept in memory

moments = st.tuples(st.sampled_from(sorted(Condition)), st.integers(-7200, 7200))


@given(st.lists(moments, max_size=30))
def test_intervals_are_a_partition_also_across_steps_of_the_clock(some: list[tuple[Condition, int]]) -> None:
    client = Client(uuid=U, created_at=MORNING, status_since=MORNING)
    ended: list[StatusInterval] = []
    now = MORNING
    for condition, seconds in some:
        now += timedelta(seconds=seconds)
        after = Client(uuid=U, created_at=MORNING, status_since=now, status=condition)
        after = replace(after, interval_since=client.interval_since)
        after = replace(after, interval_since=interval_begin(client, after, now))
        one = closed(client, after)
        ended += [] if one is None else [one]
        client = after
    now = max(now, since(client))
    assert partition([*ended, StatusInterval(U, lived(client), since(client), None)], MORNING)
    sums = measured([*ended, StatusInterval(U, lived(client), since(client), None)], [], [], MORNING, now)
    whole = FIELDS[: FIELDS.index("unobserved") + 1]
    assert sum(field(sums, name) for name in whole) == round((now - MORNING).total_seconds())


spans = st.lists(st.integers(0, 1440), max_size=8, unique=True).map(
    lambda cuts: [
        (MORNING + a * MINUTE, MORNING + b * MINUTE)
        for a, b in zip(*[iter(sorted(cuts)[: len(cuts) // 2 * 2])] * 2, strict=False)
    ]
)


@given(spans, spans, st.lists(st.tuples(st.sampled_from(sorted(Condition)), st.integers(1, 300)), max_size=8))
def test_every_second_counts_once(
    gaps: list[tuple[datetime, datetime]],
    shut: list[tuple[datetime, datetime]],
    lengths: list[tuple[Condition, int]],
) -> None:
    some, at = [], MORNING
    for condition, minutes in lengths:
        some.append(StatusInterval(U, condition, at, at + minutes * MINUTE))
        at += minutes * MINUTE
    end = MORNING + 24 * HOUR
    some.append(StatusInterval(U, Condition.ONLINE, at, None))
    sums = measured(some, gaps, shut, MORNING, end)
    day = max(0, int((end - MORNING).total_seconds()))
    assert sum(sums[: FIELDS.index("unobserved") + 1]) == day

    def state(minute: int) -> str:
        now = MORNING + minute * MINUTE + timedelta(seconds=30)
        if any(a <= now < b for a, b in gaps):
            return "unobserved"
        if any(a <= now < b for a, b in shut):
            return "off_hours"
        one = next(
            one for one in some if one.began_at <= now and (one.ended_at is None or now < one.ended_at)
        )
        if one.condition == "online":
            return "shown"
        cause = CAUSES[one.condition]
        if one.condition in DARK:
            return f"dark_{cause}"
        return str(cause) if cause in {IntervalCause.MAINTENANCE, IntervalCause.OFF_HOURS} else "unobserved"

    by_minute = [state(minute) for minute in range(1440)]
    for name in FIELDS[: FIELDS.index("unobserved") + 1]:
        assert field(sums, name) == 60 * by_minute.count(name)


def dark(condition: Condition, minutes: int = 30) -> StatusInterval:
    return StatusInterval(U, condition, MORNING, MORNING + minutes * MINUTE, None, None, 60 * minutes)


def test_what_is_found_out_later() -> None:
    at = MORNING + 10 * MINUTE
    silent = dark(Condition.UNREACHABLE)
    assert found(silent, [], []) == (IntervalCause.UNKNOWN, Cure.ITSELF)
    assert found(silent, [at], []) == (IntervalCause.NETWORK_OR_SITE, Cure.ITSELF)
    assert found(silent, [MORNING - HOUR], []) == (IntervalCause.UNKNOWN, Cure.ITSELF)
    assert found(silent, [], [Help(at, Rung.POWER_CYCLE)]) == (IntervalCause.POWER, Cure.RECOVERY)
    assert found(dark(Condition.HUNG), [], [Help(at, Rung.REBOOT_HOST)]) == (
        IntervalCause.HOST,
        Cure.RECOVERY,
    )
    assert found(dark(Condition.CRASHED), [at], [Help(at)]) == (IntervalCause.APP, Cure.PERSON)
    assert found(dark(Condition.CRASHED), [], [Help(at, Rung.REBOOT_HOST)]) == (
        IntervalCause.HOST,
        Cure.RECOVERY,
    )
    assert found(silent._replace(repaired_seconds=None), [], []) == (IntervalCause.UNKNOWN, None)
    assert found(StatusInterval(U, Condition.MAINTENANCE, MORNING, at), [at], []) == (
        IntervalCause.MAINTENANCE,
        None,
    )


async def test_the_times_in_which_the_daemon_did_not_listen_are_unknown(spine: Spine) -> None:
    async with spine.store.write() as connection:
        # It listens for an hour, is killed, listens again an hour later, and loses the broker once.
        await availability.observe(connection, MORNING, MORNING, IntervalCause.UNKNOWN)
        await availability.observe(connection, MORNING, MORNING + HOUR, IntervalCause.UNKNOWN)
        await availability.observe(connection, MORNING + 2 * HOUR, MORNING + 2 * HOUR, IntervalCause.UNKNOWN)
        await availability.observe(connection, MORNING + 2 * HOUR, MORNING + 3 * HOUR, IntervalCause.UNKNOWN)
        again = MORNING + 3 * HOUR + MINUTE
        await availability.observe(connection, again, again, IntervalCause.BROKER_OR_SERVER)
        # The clock is set back by a day: nothing is counted twice.
        back = MORNING - 20 * HOUR
        await availability.observe(connection, back, back, IntervalCause.UNKNOWN)
        found_ = await availability.gaps(connection, MORNING - HOUR, MORNING + 5 * HOUR)
    assert found_ == [
        Gap(MORNING - HOUR, MORNING, IntervalCause.UNKNOWN),
        Gap(MORNING + HOUR, MORNING + 2 * HOUR, IntervalCause.UNKNOWN),
        Gap(MORNING + 3 * HOUR, again, IntervalCause.BROKER_OR_SERVER),
        Gap(again, MORNING + 5 * HOUR, IntervalCause.UNKNOWN),
    ]
    assert all(one.began_at.tzinfo is UTC for one in found_)


async def test_forgetting_leaves_what_is_younger(spine: Spine) -> None:
    for status in ("running", "crashed", "running", "crashed"):
        await spine.beat(U, process_status=status)
        spine.clock.advance(3600)
    async with spine.store.write() as connection:
        assert await availability.forget_before(connection, MORNING + 90 * MINUTE, 1000) == 1
    assert [one.condition for one in await intervals(spine)] == ["crashed", "online", "crashed"]


def test_a_client_that_runs_although_its_service_once_failed_counts_as_shown() -> None:
    client = Client(uuid=U, created_at=MORNING, status_since=MORNING, status=Condition.SERVICE_FAILED)
    assert lived(client) is Condition.SERVICE_FAILED
    running = replace(client, process_status=ProcessStatus.RUNNING)
    assert lived(running) is Condition.ONLINE
