"""Dark and frozen screens: what of a device's health makes it ``not_showing``, and what never does."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from infoscreen.domain.clients import Client, Condition, ProcessStatus, Sign, SignKind
from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Source
from infoscreen.domain.presence import conditions_of
from infoscreen.domain.recovery import Rung
from infoscreen.domain.recovery.ladder import Trouble, entry
from infoscreen.domain.showing import (
    LASTS,
    NEEDED,
    Picture,
    Sight,
    after_command,
    counting,
    is_moving,
    is_prompt,
    looks_well,
    not_showing_until,
    seen,
)
from infoscreen.storage import client_lists, client_totals
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.tables import clients
from infoscreen.words.clients import signs as signs_in_words
from infoscreen.words.language import language
from tests.spine import MORNING, Spine, open_spine, sqlite_url, uuid_of, zulu

U = uuid_of(1)
AFTER = timedelta(seconds=300)
MINUTE = timedelta(minutes=1)
GOOD = Sight(
    MORNING,
    screen_on=True,
    last_frame=MORNING,
    expects=True,
    moves=True,
    status=ProcessStatus.RUNNING,
    picture=Picture(MORNING, 0.4, MORNING),
)


def kinds(signs: list[Sign]) -> set[SignKind]:
    return {one.kind for one in counting(signs)}


def told(*sights: Sight) -> list[Sign]:
    """Return the signs after messages that come a minute apart, each by its own clock."""
    signs: list[Sign] = []
    for number, sight in enumerate(sights):
        signs = seen(signs, sight, MORNING + number * MINUTE, AFTER)
    return signs


def picture(number: int, **told_: Any) -> Sight:
    at = MORNING + number * MINUTE
    return Sight(at, moves=True, picture=Picture(at, **{"luminance": 0.5, "changed_at": at, **told_}))


# --- the table of the design, row by row


def test_an_old_frame_counts_at_once_and_against_the_time_of_the_same_message() -> None:
    assert kinds(told(GOOD._replace(last_frame=MORNING - AFTER - timedelta(seconds=1)))) == {SignKind.STUCK}
    assert told(GOOD._replace(last_frame=MORNING - AFTER)) == []
    # The clock of the device is a year off; both times are.
    off = timedelta(days=365)
    wrong = GOOD._replace(at=MORNING - off, last_frame=MORNING - off - timedelta(seconds=200), picture=None)
    assert told(wrong) == []
    assert kinds(told(wrong._replace(last_frame=MORNING - off - timedelta(seconds=400)))) == {SignKind.STUCK}


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (Sight(MORNING, screen_on=False), SignKind.SCREEN_OFF),
        (Sight(MORNING, expects=True, status=ProcessStatus.STOPPED), SignKind.NOT_RUNNING),
    ],
)
def test_two_messages_in_a_row_are_needed_and_a_good_one_between_begins_again(
    bad: Sight, kind: SignKind
) -> None:
    assert kinds(told(bad)) == set()
    assert kinds(told(bad, bad)) == {kind}
    assert kinds(told(bad, GOOD, bad)) == set()
    assert told(bad, bad, GOOD) == []
    # Unknown is neither good nor bad.
    assert kinds(told(bad, Sight(MORNING), bad)) == {kind}


@pytest.mark.parametrize("status", [None, "running", "starting", "crashed", "other"])
def test_an_application_that_is_not_stopped_is_no_sign_here(status: str | None) -> None:
    sight = Sight(MORNING, expects=True, status=None if status is None else ProcessStatus(status))
    assert told(sight, sight, sight) == []
    assert told(*[Sight(MORNING, expects=False, status=ProcessStatus.STOPPED)] * 3) == []


def test_three_black_captures_in_a_row_and_each_capture_once() -> None:
    dark = [picture(number, luminance=0.01) for number in range(4)]
    assert kinds(told(*dark[:2])) == set()
    assert kinds(told(*dark[:3])) == {SignKind.BLACK}
    assert kinds(told(dark[0], dark[0], dark[0])) == set()
    assert told(*dark, picture(4, luminance=0.02)) == []
    # A black slide of twenty seconds meets one capture.
    assert kinds(told(picture(0), dark[1], picture(2), dark[3])) == set()


def test_an_unchanged_picture_counts_only_if_it_should_move() -> None:
    still = picture(0, changed_at=MORNING - AFTER - timedelta(seconds=1))
    assert kinds(told(still)) == {SignKind.UNCHANGED}
    assert told(still._replace(moves=False)) == []
    assert told(still._replace(moves=None)) == []
    assert is_moving("Video ")
    assert not is_moving("image")
    assert is_moving(None) is None


# --- devices that lie, send nonsense, or nothing

times = st.datetimes(
    min_value=MORNING.replace(year=1970, tzinfo=None),
    max_value=MORNING.replace(year=2100, tzinfo=None),
    timezones=st.just(UTC),
)
pictures = st.builds(Picture, times, st.none() | st.floats(0, 1, allow_nan=False), st.none() | times)
sights = st.builds(
    Sight,
    times,
    st.none() | st.booleans(),
    st.none() | times,
    st.none() | st.booleans(),
    st.none() | st.booleans(),
    st.none() | st.sampled_from(ProcessStatus),
    st.none() | pictures,
)


@given(st.lists(st.tuples(sights, times), max_size=8))
def test_whatever_is_told_whenever_it_can_be_judged_and_a_good_message_ends_it(
    messages: list[tuple[Sight, datetime]],
) -> None:
    signs: list[Sign] = []
    for sight, now in messages:
        before, signs = signs, seen(signs, sight, now, AFTER)
        assert all(1 <= one.times <= NEEDED[one.kind] for one in signs)
        assert len({one.kind for one in signs}) == len(signs)
        until = not_showing_until(signs)
        assert (until is not None) == bool(counting(signs))
        if not before and looks_well(sight, AFTER):
            assert signs == []  # what ingest relies on to skip it
        is_prompt(sight, now, 0.0, sight.at)
    assert seen(signs, GOOD, MORNING, AFTER) == []


@given(st.lists(times, max_size=6))
def test_a_device_that_tells_nothing_of_its_screen_never_has_a_sign(at: list[datetime]) -> None:
    signs: list[Sign] = []
    for one in at:
        signs = seen(signs, Sight(one, status=ProcessStatus.STOPPED, moves=True), one, AFTER)
    assert signs == []


def test_times_that_are_no_times_say_nothing() -> None:
    year_1970 = datetime(1970, 1, 1, tzinfo=UTC)
    assert told(Sight(MORNING, last_frame=year_1970)) == []
    assert told(Sight(MORNING, last_frame=MORNING + timedelta(days=400))) == []
    ahead, long_ago = MORNING + timedelta(hours=1), MORNING - timedelta(hours=1)
    for captured in (ahead, long_ago, year_1970):
        assert told(*[Sight(MORNING, picture=Picture(captured, 0.0, captured))] * 4) == []


def test_a_sign_ends_when_nothing_confirms_it_and_goes_on_when_something_does() -> None:
    off = Sight(MORNING, screen_on=False)
    signs = told(off, off)
    until = not_showing_until(signs)
    assert until == MORNING + MINUTE + LASTS
    assert seen(signs, Sight(MORNING), MORNING + LASTS + 2 * MINUTE, AFTER) == []
    # Told every minute, it is written every ten only.
    assert seen(signs, off, MORNING + 10 * MINUTE, AFTER) == signs
    later = seen(signs, off, MORNING + 11 * MINUTE, AFTER)
    assert later == [signs[0]._replace(seen_at=MORNING + 11 * MINUTE)]
    # Receipts from the future are of a clock that was set back.
    assert kinds(seen(later, Sight(MORNING), MORNING - timedelta(days=1), AFTER)) == set()


def test_repeated_late_and_waiting_messages_are_no_news() -> None:
    now = MORNING
    assert is_prompt(Sight(now), now, 0.0, None)
    assert is_prompt(Sight(now - timedelta(days=400)), now, -400 * 86400.0, None)
    assert not is_prompt(Sight(now), now, 0.0, now)  # the same once more
    assert not is_prompt(Sight(now), now, 0.0, now + 5 * MINUTE)  # overtaken
    assert is_prompt(Sight(now), now, 0.0, now + timedelta(days=1))  # its clock was set back
    assert not is_prompt(Sight(now - 10 * MINUTE), now, 0.0, None)  # has waited at the broker
    assert not is_prompt(Sight(now), now, None, None)


def test_only_within_hours_and_never_of_a_silent_client() -> None:
    client = Client(
        uuid=U,
        created_at=MORNING,
        status_since=MORNING,
        last_alive=MORNING,
        stale_at=MORNING + MINUTE,
        stale_after_seconds=60.0,
        not_showing_until=MORNING + LASTS,
    )
    since = MORNING - timedelta(hours=1)
    assert conditions_of(client, MORNING, since) == (Condition.NOT_SHOWING,)
    assert conditions_of(client, MORNING, since, within_hours=False) == (Condition.ONLINE,)
    assert conditions_of(replace(client, within_hours=False), MORNING, since) == (Condition.ONLINE,)
    assert conditions_of(client, MORNING + 2 * MINUTE, since) == (Condition.UNREACHABLE,)
    crashed = replace(client, process_status=ProcessStatus.CRASHED)
    assert conditions_of(crashed, MORNING, since) == (Condition.CRASHED, Condition.NOT_SHOWING)
    failed = replace(client, service_failed_at=MORNING)
    assert conditions_of(failed, MORNING, since) == (Condition.SERVICE_FAILED, Condition.NOT_SHOWING)


def test_the_ladder_begins_with_a_restart() -> None:
    assert entry(Trouble.NOT_SHOWING) is Rung.RESTART_APP


# --- switched off by our own command


def command_of(
    action: Action, status: CommandStatus = CommandStatus.COMPLETED, minute: int = 0
) -> ClientCommand:
    at = MORNING + minute * MINUTE
    return ClientCommand(
        command_id=f"{action}{minute}",
        client_uuid=U,
        action=action,
        status=status,
        source=Source.OPERATOR,
        requested_by=1,
        reason=None,
        created_at=at,
        expires_at=at + MINUTE,
        deadline_at=at + MINUTE,
        last_publish_at=at,
    )


STOPPED = Sight(MORNING, screen_on=False, expects=True, status=ProcessStatus.STOPPED)


def seen_after(signs: list[Sign]) -> set[SignKind]:
    """Return what counts after three messages of a dark screen without an application."""
    for number in range(3):
        signs = seen(signs, STOPPED, MORNING + (number + 60) * MINUTE, AFTER)
    return kinds(signs)


def test_what_we_switched_off_is_no_sign_until_a_newer_command_wants_it_on() -> None:
    off = after_command(told(STOPPED, STOPPED), command_of(Action.DISPLAY_OFF), None)
    # The application is still meant to run.
    assert kinds(off) == seen_after(off) == {SignKind.NOT_RUNNING}
    # A message from before it went off does not end it.
    assert seen_after(seen(off, GOOD, MORNING + MINUTE, AFTER)) == {SignKind.NOT_RUNNING}
    for action in (Action.DISPLAY_ON, Action.REBOOT_HOST):
        on = after_command(off, command_of(action, minute=1), None)
        assert seen_after(on) == {SignKind.SCREEN_OFF, SignKind.NOT_RUNNING}
    for command in (
        command_of(Action.DISPLAY_ON, minute=-1),  # an older one, told of late
        command_of(Action.DISPLAY_ON, CommandStatus.FAILED, minute=1),
        command_of(Action.RESTART_APP, minute=1),
        command_of(Action.SCREENSHOT, minute=1),
    ):
        assert seen_after(after_command(off, command, None)) == {SignKind.NOT_RUNNING}
    for status in set(CommandStatus) - {CommandStatus.COMPLETED}:
        assert after_command([], command_of(Action.DISPLAY_OFF, status), None) == []


def test_after_a_shutdown_nothing_is_a_sign_unless_it_failed_or_the_host_is_back() -> None:
    for status in (CommandStatus.EXECUTION_STARTED, CommandStatus.COMPLETED):
        assert seen_after(after_command([], command_of(Action.SHUTDOWN_HOST, status), None)) == set()
    # Told of after the host was started again.
    late = after_command([], command_of(Action.SHUTDOWN_HOST), MORNING + MINUTE)
    assert late == []
    off = after_command([], command_of(Action.DISPLAY_OFF), None)
    going = after_command(off, command_of(Action.SHUTDOWN_HOST, CommandStatus.EXECUTION_STARTED, 1), None)
    assert seen_after(going) == set()
    failed = after_command(going, command_of(Action.SHUTDOWN_HOST, CommandStatus.FAILED, 1), None)
    assert failed == off


# --- through ingest, on both databases


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def spine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spine]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with open_spine(url) as parts:
        yield parts


async def minute(spine: Spine, **metrics: Any) -> Condition:
    """Let a minute pass in which the device sends a heartbeat and health; return its status."""
    spine.clock.advance(60)
    now = spine.clock.now()
    told_ = {
        name: zulu(now + value) if isinstance(value, timedelta) else value for name, value in metrics.items()
    }
    await spine.beat(U, process_status="running", boot_id="b", process_pid=7)
    await spine.hear((f"{U}/health", {"timestamp": zulu(now), "health_metrics": told_}))
    return (await spine.client(U)).status


async def test_a_dark_screen_shows_is_counted_listed_and_well_again(spine: Spine) -> None:
    assert await minute(spine, screen_on=False) == "online"
    assert await minute(spine, screen_on=False) == "not_showing"
    async with spine.store.read() as connection:
        asked = ClientQuery(status=frozenset({Condition.NOT_SHOWING}))
        found = await client_lists.search(connection, asked, 9)
        totals = await client_totals.totals(connection)
    assert [one.uuid for one in found.items] == [U]
    assert totals[Condition.NOT_SHOWING] == 1
    client = await spine.client(U)
    assert client.status_since == spine.clock.now()
    since = f"{client.signs[0].since:%H:%M:%S}"
    english = language("en").at(UTC, spine.clock.now())
    assert signs_in_words(client, english) == [f"The screen is reported off since {since}."]
    assert await minute(spine, screen_on=False) == "not_showing"  # told again, written as readings only
    assert await minute(spine, screen_on=True) == "online"
    assert (await spine.client(U)).signs == []


async def test_a_frozen_frame_and_a_black_picture_of_an_agent(spine: Spine) -> None:
    assert await minute(spine, last_frame_update=timedelta(seconds=-299)) == "online"
    assert await minute(spine, last_frame_update=timedelta(seconds=-301)) == "not_showing"
    assert await minute(spine, last_frame_update=timedelta()) == "online"
    for expected in ("online", "online", "not_showing"):
        spine.clock.advance(60)
        now = zulu(spine.clock.now())
        dark = {"captured_at": now, "luminance": 0.001, "changed_at": now}
        await spine.beat(U, process_status="running", boot_id="b", process_pid=7)
        await spine.hear((f"{U}/health", {"timestamp": now, "health_metrics": {"picture": dark}}))
        assert (await spine.client(U)).status == expected


async def test_a_restart_and_a_reboot_begin_without_old_signs(spine: Spine) -> None:
    for begun in ({"process_pid": 8, "boot_id": "b"}, {"process_pid": 8, "boot_id": "c"}):
        await minute(spine, screen_on=False)
        assert await minute(spine, screen_on=False) == "not_showing"
        spine.clock.advance(10)
        await spine.beat(U, process_status="running", **begun)
        assert (await spine.client(U)).status == "online"
        assert (await spine.client(U)).signs == []


async def test_without_more_health_it_ends_by_itself(spine: Spine) -> None:
    await minute(spine, screen_on=False)
    await minute(spine, screen_on=False)
    for _ in range(32):
        spine.clock.advance(60)
        await spine.beat(U, process_status="running", boot_id="b", process_pid=7)
        await spine.watch.look()
    assert (await spine.client(U)).status == "online"


async def test_with_its_closing_it_ends(spine: Spine) -> None:
    await minute(spine, screen_on=False)
    assert await minute(spine, screen_on=False) == "not_showing"
    async with spine.store.write() as connection:
        values = {"own_hours": "Mo-Su 20:00-21:00", "within_hours": False}
        await connection.execute(update(clients).values(**values))
    await spine.watch.look()
    assert (await spine.client(U)).status == "online"


async def test_a_dark_client_that_falls_silent_is_silent(spine: Spine) -> None:
    for _ in range(6):
        await minute(spine, screen_on=False)
    spine.clock.advance(600)
    await spine.watch.look()
    assert (await spine.client(U)).status == "unreachable"


async def told_to(spine: Spine, action: Action, *answers: str) -> Condition:
    """Let an operator request a command, and the device answer; return its status."""
    command = await spine.request(U, action)
    await spine.outbox.step()
    for answer in answers:
        await spine.ack(command, answer)
    return (await spine.client(U)).status


async def test_a_screen_that_was_switched_off_on_command_is_not_dark(spine: Spine) -> None:
    await minute(spine, screen_on=False)
    assert await minute(spine, screen_on=False) == "not_showing"
    await spine.hear((f"{U}/discovery", {"uuid": U, "capabilities": ["cec"]}))
    assert await told_to(spine, Action.DISPLAY_OFF, "accepted") == "not_showing"
    assert await told_to(spine, Action.DISPLAY_OFF, "completed") == "online"
    assert {await minute(spine, screen_on=on) for on in (True, *[False] * 40)} == {"online"}
    # A restart of the application does not switch it on.
    await spine.beat(U, process_status="running", boot_id="b", process_pid=8)
    for _ in range(3):
        spine.clock.advance(60)
        body = {"timestamp": zulu(spine.clock.now()), "health_metrics": {"screen_on": False}}
        await spine.beat(U, process_status="running", boot_id="b", process_pid=8)
        await spine.hear((f"{U}/health", body))
        assert (await spine.client(U)).status == "online"
    assert await told_to(spine, Action.DISPLAY_ON, "accepted", "completed") == "online"
    await minute(spine, screen_on=False)
    assert await minute(spine, screen_on=False) == "not_showing"


async def test_a_host_that_starts_again_shows_again_what_was_switched_off(spine: Spine) -> None:
    await minute(spine)
    await spine.hear((f"{U}/discovery", {"uuid": U, "capabilities": ["display_off"]}))
    assert await told_to(spine, Action.DISPLAY_OFF, "completed") == "online"
    assert {await minute(spine, screen_on=False) for _ in range(3)} == {"online"}
    for boot in ("c", "b"):  # and back, as ``minute`` has it
        spine.clock.advance(60)
        await spine.beat(U, process_status="running", boot_id=boot, process_pid=7)
    assert (await spine.client(U)).signs == []
    await minute(spine, screen_on=False)
    assert await minute(spine, screen_on=False) == "not_showing"


async def test_a_host_that_is_shut_down_is_not_dark_while_it_goes(spine: Spine) -> None:
    await minute(spine)
    assert await told_to(spine, Action.SHUTDOWN_HOST, "accepted", "execution_started") == "online"
    assert {await minute(spine, screen_on=False) for _ in range(3)} == {"online"}


@pytest.mark.parametrize(
    "metrics",
    [
        {"screen_on": "dark"},
        {"screen_on": 2},
        {"screen_on": None},
        {"last_frame_update": -1},
        {"last_frame_update": "yesterday"},
        {"last_frame_update": "9999-12-31T23:59:59Z"},
        {"last_frame_update": "0001-01-01T00:00:00Z"},
        {"picture": []},
        {"picture": {"luminance": 0.0}},
        {"picture": {"captured_at": "2026-03-02T07:00:00Z", "luminance": -1}},
        {"picture": {"captured_at": "2026-03-02T07:00:00Z", "luminance": 1e400}},
        {"picture": {"captured_at": {}, "luminance": 0, "changed_at": 5}},
    ],
    ids=json.dumps,
)
async def test_nonsense_is_no_sign_and_loses_nothing_else(metrics: dict[str, Any], tmp_path: Path) -> None:
    async with open_spine(sqlite_url(tmp_path)) as spine:
        for _ in range(4):
            assert await minute(spine, cpu_percent=3.0, **metrics) == "online"
        health = (await spine.client(U)).health
        assert health is not None
        assert health["health_metrics"]["cpu_percent"] == 3.0


async def test_a_message_delivered_twice_counts_once(spine: Spine) -> None:
    await minute(spine)
    spine.clock.advance(60)
    body = {"timestamp": zulu(spine.clock.now()), "health_metrics": {"screen_on": False}}
    for _ in range(3):
        await spine.hear((f"{U}/health", body))
    assert (await spine.client(U)).status == "online"
