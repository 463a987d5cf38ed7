"""Failed services: news and repetitions, several units, and what empties the broker's copy."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoscreen.domain.clients import Client, Condition, ProcessStatus
from infoscreen.domain.failures import (
    MOST_KNOWN,
    MOST_UNITS,
    Services,
    acknowledged,
    emptied,
    reported,
    shown,
)
from infoscreen.storage.acknowledged import counts
from tests.spine import OPERATOR, Spine, open_spine, sqlite_url, uuid_of, zulu

U = uuid_of(1)
NOW = datetime(2026, 3, 2, 7, tzinfo=UTC)
STAMPS = st.one_of(
    st.sampled_from([NOW, datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)]),
    st.integers(-5, 5).map(lambda hours: NOW + timedelta(hours=hours)),
    st.datetimes(timezones=st.just(UTC)),
)


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with open_spine(sqlite_url(tmp_path)) as opened:
        yield opened


async def fail(spine: Spine, unit: str, at: str | datetime, *, retain: bool = False) -> None:
    stamp = at if isinstance(at, str) else zulu(at)
    await spine.hear((f"{U}/service_failed", {"unit": unit, "failed_at": stamp}), retain=retain)


def units(client: Client) -> list[str]:
    return [one.unit for one in client.failed_services]


@settings(deadline=None)
@given(st.lists(st.tuples(STAMPS, st.booleans()), max_size=MOST_KNOWN))
def test_a_live_report_is_news_unless_it_repeats_a_known_stamp(story: list[tuple[datetime, bool]]) -> None:
    services: Services = {}
    seen: set[datetime] = set()
    now = NOW
    for stamp, acknowledge in story:
        now += timedelta(seconds=30)
        services, news = reported(services, "app.service", stamp, None, now)
        assert news is (stamp not in seen)
        seen.add(stamp)
        if news:
            assert [(one.failed_at, one.raised_at) for one in shown(services)] == [(stamp, now)]
        if acknowledge:
            services, _, _ = acknowledged(services, {"app.service"}, now, "olga")
            assert shown(services) == []


@pytest.mark.parametrize(
    "later", ["2026-03-02T05:00:00Z", "1970-01-01T00:00:07Z", "2026-03-02T07:00:01Z", "9000-01-01T00:00:00Z"]
)
@pytest.mark.parametrize("first", ["9998-01-01T00:00:00Z", "2026-03-02T06:00:00Z", "1969-12-31T23:00:00Z"])
async def test_no_stamp_swallows_a_later_failure(spine: Spine, first: str, later: str) -> None:
    await spine.beat(U)
    await fail(spine, "app.service", first)
    await spine.fleet.clear_service_failed(U, OPERATOR)
    spine.clock.advance(60)
    await fail(spine, "app.service", later)
    assert (await spine.client(U)).status is Condition.SERVICE_FAILED


async def test_repetitions_raise_nothing_again_live_or_retained(spine: Spine) -> None:
    await spine.beat(U)
    for stamp in ("2026-03-02T06:00:00Z", "2026-03-02T06:30:00Z"):
        await fail(spine, "app.service", stamp)
    await spine.fleet.clear_service_failed(U, OPERATOR)
    for retain in (False, True):
        for stamp in ("2026-03-02T06:00:00Z", "2026-03-02T06:30:00Z"):
            await fail(spine, "app.service", stamp, retain=retain)
            assert (await spine.client(U)).service_failed_at is None


async def test_a_retained_report_that_we_have_missed_is_raised(spine: Spine) -> None:
    await spine.beat(U)
    await fail(spine, "app.service", "2026-03-02T06:00:00Z")
    await spine.fleet.clear_service_failed(U, OPERATOR)
    await fail(spine, "app.service", "2026-03-02T05:00:00Z", retain=True)
    client = await spine.client(U)
    assert (client.status, client.last_heard_at) == (Condition.SERVICE_FAILED, client.last_alive)


async def test_acknowledging_one_unit_does_not_hide_the_other(spine: Spine) -> None:
    await spine.beat(U)
    await fail(spine, "app.service", "2026-03-02T06:00:00Z")
    spine.clock.advance(1)
    await fail(spine, "player.service", "2026-03-02T06:00:00Z")
    client = await spine.client(U)
    assert units(client) == ["player.service", "app.service"]
    assert client.service_failed_unit == "player.service"
    after = await spine.fleet.clear_service_failed(U, OPERATOR, None, "player.service")
    assert (units(after), after.service_failed_unit) == (["app.service"], "app.service")
    assert (await spine.client(U)).status is Condition.SERVICE_FAILED
    # The broker held the acknowledged one, so its topic is emptied; the echo withdraws nothing.
    await spine.outbox.step()
    assert [message.payload for message in spine.publisher.sent] == [b""]
    spine.clock.advance(1)
    await spine.hear((f"{U}/service_failed", b""))
    assert units(await spine.client(U)) == ["app.service"]
    assert (await spine.fleet.clear_service_failed(U, OPERATOR)).status is Condition.ONLINE


async def test_the_broker_keeps_the_report_that_is_not_acknowledged(spine: Spine) -> None:
    await spine.beat(U)
    await fail(spine, "app.service", "2026-03-02T06:00:00Z")
    await fail(spine, "player.service", "2026-03-02T06:00:00Z")
    await spine.fleet.clear_service_failed(U, OPERATOR, None, "app.service")
    assert await spine.outbox.step() == 0
    await spine.fleet.clear_service_failed(U, OPERATOR)
    assert await spine.outbox.step() == 1


async def test_a_device_withdraws_what_its_topic_held(spine: Spine) -> None:
    await spine.beat(U)
    await fail(spine, "app.service", "2026-03-02T06:00:00Z")
    await fail(spine, "player.service", "2026-03-02T06:00:00Z")
    await spine.hear((f"{U}/service_failed", b""))
    assert units(await spine.client(U)) == ["app.service"]
    await spine.hear((f"{U}/service_failed", b""))
    assert units(await spine.client(U)) == ["app.service"]


async def test_what_ran_before_the_failure_is_no_evidence_after_it(spine: Spine) -> None:
    await spine.beat(U, process_status="running")
    await fail(spine, "app.service", "9000-01-01T00:00:00Z")
    assert (await spine.client(U)).process_status is None
    spine.clock.advance(30)
    await spine.beat(U, process_status="running")
    assert (await spine.client(U)).process_status is ProcessStatus.RUNNING


def test_an_endless_number_of_units_is_bounded_and_what_is_shown_is_kept_longest() -> None:
    services: Services = {}
    for number in range(MOST_UNITS * 2):
        services, _ = reported(services, f"{number}.service", NOW, None, NOW + timedelta(seconds=number))
        if number % 2:
            services, _, _ = acknowledged(
                services, {f"{number}.service"}, NOW + timedelta(seconds=number), "olga"
            )
    assert len(services) == MOST_UNITS
    assert len(shown(services)) == MOST_UNITS - 1  # the newest is acknowledged, and held by the broker


def client(**more: Any) -> Client:
    return Client(uuid=U, created_at=NOW, status_since=NOW, **more)


def test_an_empty_report_between_our_clearing_and_its_echo_withdraws_nothing() -> None:
    services, _ = reported({}, "app.service", NOW, None, NOW)
    asked = client(service_failed_clear_requested_at=NOW - timedelta(seconds=5))
    assert emptied(services, asked, NOW)[1] is None
    echoed = client(
        service_failed_clear_requested_at=NOW - timedelta(seconds=5),
        service_failed_echo_at=NOW - timedelta(seconds=1),
    )
    assert emptied(services, echoed, NOW)[1] == "app.service"


async def test_a_failure_acknowledged_long_ago_does_not_hide_that_the_client_is_gone(spine: Spine) -> None:
    """The unit is not the application, which runs on, so that nothing ever tells that the unit runs again."""
    started = zulu(spine.clock.now() - timedelta(days=1))
    await fail(spine, "helper.service", spine.clock.now())
    await spine.fleet.clear_service_failed(U, OPERATOR)
    for _ in range(10):
        spine.clock.advance(30)
        await spine.beat(U, process_status="running", app_started_at=started)
    assert await cared_for(spine) == {Condition.ONLINE: 1}
    spine.clock.advance(3_600)
    await spine.watch.look()
    assert (await spine.client(U)).status is Condition.UNREACHABLE
    assert await cared_for(spine) == {}


async def cared_for(spine: Spine) -> dict[Condition, int]:
    async with spine.store.read() as connection:
        return await counts(connection, spine.clock.now())
