"""The host's clock is set by an hour, forward and back: nobody falls ill or gets well by it, nothing stalls.

The rules on a clock of the test's own, and a real daemon whose wall time is libfaketime's.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infoscreen.clock import STEP_SECONDS, ClockStep, SteadySince, SystemClock
from infoscreen.domain.accounts import FREE_FAILURES, Role, login_blocked_until
from infoscreen.domain.clients import Condition, Presence
from infoscreen.domain.commands import Action, CommandStatus, Verification
from infoscreen.services.watching import AT_ONCE
from infoscreen.storage import commands
from tests.api import ask
from tests.broker import Broker
from tests.daemon import Daemon, ask_until, installed
from tests.fakes import FakeClock
from tests.programs import require
from tests.screens import Screen, living
from tests.spine import Spine, open_spine, sqlite_url, uuid_of, zulu
from tests.waiting import until
from tests.web import PASSWORD, SAME_ORIGIN

U = uuid_of(1)
HOUR = timedelta(hours=1)
EITHER_WAY = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])


# The rules.


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with open_spine(sqlite_url(tmp_path)) as made:
        yield made


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Spine]:
    """Parts on each kind of database."""
    memory = request.param == "memory"
    url = "sqlite+aiosqlite:///:memory:" if memory else request.getfixturevalue("postgres")
    async with open_spine(url) as made:
        yield made


def set_clock(spine: Spine, step: timedelta) -> None:
    """Set the clock, which restarts listening."""
    spine.clock.set_wall_time(spine.clock.now() + step)


async def beat_for_a_while(spine: Spine) -> None:
    """Let the client beat every ten seconds until it is missed after 45."""
    for _ in range(20):
        await spine.beat(U)
        spine.clock.advance(10)
    assert (await spine.client(U)).stale_after_seconds == 45


async def status(spine: Spine) -> Condition:
    await spine.watch.look()
    return (await spine.client(U)).status


@EITHER_WAY
async def test_nobody_falls_silent_by_the_step_and_whoever_does_after_it_is_noticed(
    spine: Spine, step: timedelta
) -> None:
    await beat_for_a_while(spine)
    set_clock(spine, step)
    assert await status(spine) is Condition.ONLINE
    spine.clock.advance(44)
    assert await status(spine) is Condition.ONLINE
    spine.clock.advance(2)
    assert await status(spine) is Condition.UNREACHABLE


STEPS = [timedelta(seconds=6), timedelta(seconds=40), HOUR, timedelta(days=9_000)]


class Devices:
    """Two devices with a clock of their own, which runs on whatever is done to the host's."""

    def __init__(self, spine: Spine) -> None:
        self._spine = spine
        self._own = spine.clock.now()

    def pass_time(self, seconds: float) -> None:
        self._own += timedelta(seconds=seconds)
        self._spine.clock.advance(seconds)

    async def beat(self, uuid: str = U, *, ago: float = 0.0, **told: Any) -> None:
        await self._spine.beat(uuid, timestamp=zulu(self._own - timedelta(seconds=ago)), **told)


@pytest.mark.parametrize("sign", [1, -1], ids=["forward", "back"])
@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("listened", [5.0, 50.0, 70.0, 5_000.0], ids="listened {:g} s".format)
async def test_who_is_heard_after_a_step_was_alive_then_and_not_before(
    listened: float, step: timedelta, sign: int
) -> None:
    async with open_spine("sqlite+aiosqlite:///:memory:") as spine:
        devices = Devices(spine)
        await devices.beat()
        devices.pass_time(20)
        spine.link.listening_since = spine.clock.now()  # the daemon was away for a moment
        for _ in range(int(listened / 20)):
            await devices.beat()
            devices.pass_time(20)
        devices.pass_time(listened % 20)
        set_clock(spine, sign * step)
        for _ in range(4):
            await devices.beat()
            assert (await spine.client(U)).last_alive == spine.clock.now()
            devices.pass_time(20)


@pytest.mark.parametrize("first", [HOUR, -HOUR], ids=str)
@pytest.mark.parametrize("second", [HOUR, -HOUR, -HOUR / 2, timedelta(seconds=40)], ids=str)
@pytest.mark.parametrize("between", [False, True], ids=["heard before both", "heard between"])
async def test_who_is_heard_after_two_steps_was_alive_then(
    first: timedelta, second: timedelta, between: bool
) -> None:
    """As when a host starts with a wrong clock that is set roughly and then exactly."""
    async with open_spine("sqlite+aiosqlite:///:memory:") as spine:
        devices = Devices(spine)
        await devices.beat()
        devices.pass_time(20)
        spine.link.listening_since = spine.clock.now()
        devices.pass_time(5)
        set_clock(spine, first)
        if between:
            await devices.beat()
        devices.pass_time(15)
        set_clock(spine, second)
        await devices.beat()
        assert (await spine.client(U)).last_alive == spine.clock.now()


def test_a_start_knows_by_how_far_the_clock_was_set_since() -> None:
    clock = FakeClock()
    lasted = SteadySince(clock)
    assert lasted.set_by_seconds == ()
    clock.set_wall_time(clock.now() + HOUR)
    lasted.begin()
    clock.advance(7)
    assert lasted.set_by_seconds == ()
    clock.set_wall_time(clock.now() - HOUR)
    clock.advance(7)
    clock.set_wall_time(clock.now() + timedelta(seconds=40))
    assert lasted.set_by_seconds == (40, 40 - 3600)
    assert lasted.age_seconds == 14


@EITHER_WAY
async def test_a_restart_right_after_a_step_is_verified(either: Spine, step: timedelta) -> None:
    spine, devices = either, Devices(either)
    told = {"process_status": "running", "process_pid": 1, "app_started_at": "2026-03-01T00:00:00Z"}
    await devices.beat(**told)
    devices.pass_time(20)
    spine.link.listening_since = spine.clock.now()
    devices.pass_time(10)
    await devices.beat(**told)
    set_clock(spine, step)
    await devices.beat(**told)
    command = await spine.request(U, Action.RESTART_APP)
    await spine.outbox.step()
    await spine.ack(command, "accepted")
    devices.pass_time(5)
    await spine.ack(command, "completed")
    new = told | {"process_pid": 2, "app_started_at": "2026-03-02T09:00:00Z"}
    for _ in range(2):
        devices.pass_time(5)
        await devices.beat(**new)
        await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.VERIFIED


async def test_what_waited_for_a_daemon_on_a_host_without_a_clock_is_dated_back(either: Spine) -> None:
    """A Raspberry Pi goes on where its clock was at the last shutdown, until NTP answers."""
    spine, devices = either, Devices(either)
    await devices.beat()
    devices.pass_time(3600)
    off_by = timedelta(seconds=3590)
    spine.clock.set_wall_time(spine.clock.now() - off_by)
    spine.link.listening_since = spine.clock.now()
    devices.pass_time(5)
    set_clock(spine, off_by)
    await devices.beat(ago=1800)
    heard = spine.clock.now()
    assert (await spine.client(U)).last_alive == heard - timedelta(seconds=1800)
    devices.pass_time(20)
    await devices.beat()
    assert (await spine.client(U)).last_alive == spine.clock.now()


@EITHER_WAY
async def test_a_rhythm_is_learned_on_as_if_nothing_had_been(spine: Spine, step: timedelta) -> None:
    await beat_for_a_while(spine)
    set_clock(spine, step)
    await beat_for_a_while(spine)
    assert (await spine.client(U)).heartbeat_interval_seconds == pytest.approx(10, abs=0.5)


@EITHER_WAY
async def test_nobody_gets_well_by_the_step_and_whoever_is_heard_after_it_does(
    spine: Spine, step: timedelta
) -> None:
    await beat_for_a_while(spine)
    spine.clock.advance(60)
    assert await status(spine) is Condition.UNREACHABLE
    set_clock(spine, step)
    assert await status(spine) is Condition.UNREACHABLE
    await spine.hear((f"{U}/presence", Presence.ONLINE.value))  # no heartbeat, which alone is a proof
    assert await status(spine) is Condition.HUNG
    spine.clock.advance(1)
    await spine.beat(U)
    assert await status(spine) is Condition.ONLINE


@EITHER_WAY
async def test_a_command_under_way_has_as_much_time_as_it_was_given(spine: Spine, step: timedelta) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    await spine.outbox.step()
    spine.clock.advance(100)
    set_clock(spine, step)
    assert await spine.watch.sweep() == 0
    spine.clock.advance(139)
    assert await spine.watch.sweep() == 0
    spine.clock.advance(2)
    assert await spine.watch.sweep() == 1
    assert [line for line in await spine.history(command) if line[0] == line[1]] == [
        ("published", "published", 1)
    ]


@EITHER_WAY
async def test_the_deadlines_of_very_many_commands_are_moved_in_parts_and_each_once(
    either: Spine, step: timedelta
) -> None:
    spine = either
    await spine.beat(U)
    command = await spine.request(U)
    many = 2 * AT_ONCE + 3
    more = [replace(command, command_id=uuid_of(n), action=Action.SCREENSHOT) for n in range(many)]
    async with spine.store.write() as connection:
        await commands.create(connection, more)
    set_clock(spine, step)
    for _ in range(2):
        await spine.watch.sweep()
    async with spine.store.read() as connection:
        moved = (await commands.get_many(connection, [one.command_id for one in [command, *more]])).values()
    assert {one.deadline_at for one in moved} == {command.deadline_at + step}
    assert len(moved) == many + 1


@EITHER_WAY
async def test_a_command_that_waits_for_the_broker_is_still_sent_and_lives_no_longer(
    spine: Spine, step: timedelta
) -> None:
    await spine.beat(U)
    command = await spine.request(U)
    spine.clock.advance(40)
    set_clock(spine, step)
    await spine.watch.sweep()
    await spine.outbox.step()
    assert (await spine.command(command)).status is CommandStatus.PUBLISHED
    assert [message.expires_in for message in spine.publisher.sent] == [200]


async def test_a_command_that_is_sent_again_after_a_step_back_lives_no_longer_than_it_was_given(
    spine: Spine,
) -> None:
    await spine.beat(U)
    await spine.request(U)
    await spine.outbox.step()
    set_clock(spine, -HOUR)
    spine.clock.advance(11)
    await spine.beat(U)
    await spine.outbox.step()
    assert all(message.expires_in == 240 for message in spine.publisher.sent)


@EITHER_WAY
async def test_an_effect_that_is_still_to_be_seen_is_waited_for(spine: Spine, step: timedelta) -> None:
    await spine.beat(U, process_pid=1, process_status="running", app_started_at="2026-03-01T00:00:00Z")
    command = await spine.request(U, Action.RESTART_APP)
    await spine.outbox.step()
    await spine.ack(command, "completed")
    set_clock(spine, step)
    await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.PENDING
    await spine.beat(U, process_pid=2, process_status="running", app_started_at="2026-03-02T07:00:10Z")
    await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.VERIFIED


async def test_nothing_is_held_against_a_device_that_nobody_listened_to(spine: Spine) -> None:
    await spine.beat(U, process_pid=1)
    command = await spine.request(U, Action.RESTART_APP)
    await spine.outbox.step()
    await spine.ack(command, "completed")
    spine.link.listening_since = None
    spine.clock.advance(10_000)
    await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.PENDING
    spine.link.listening_since = spine.clock.now()
    spine.clock.advance(121)
    await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.UNVERIFIABLE


async def test_a_host_that_was_suspended_blames_nobody_and_keeps_no_command_alive(spine: Spine) -> None:
    await beat_for_a_while(spine)
    await spine.request(U)
    set_clock(spine, HOUR)
    spine.clock.last_step = ClockStep(spine.clock.now(), 0.0)
    assert await status(spine) is Condition.ONLINE
    assert await spine.watch.sweep() == 1


@EITHER_WAY
async def test_a_command_given_after_the_step_keeps_its_deadline(spine: Spine, step: timedelta) -> None:
    await spine.beat(U)
    set_clock(spine, step)
    command = await spine.request(U)
    await spine.watch.sweep()
    assert (await spine.command(command)).deadline_at == command.deadline_at


def test_failed_logins_of_the_future_lock_nobody_out() -> None:
    now = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)
    assert login_blocked_until(FREE_FAILURES + 5, now, now) is not None
    assert login_blocked_until(FREE_FAILURES + 5, now + HOUR, now) is None


async def test_rejections_are_logged_again_after_a_step_back(
    spine: Spine, caplog: pytest.LogCaptureFixture
) -> None:
    await spine.hear((f"{U}/heartbeat", b"{"))
    set_clock(spine, -HOUR)
    spine.clock.advance(61)
    await spine.hear((f"{U}/heartbeat", b"{"))
    assert [record.message for record in caplog.records].count("message rejected") == 2


async def test_the_real_clock_sees_no_step_where_there_is_none() -> None:
    clock = SystemClock()
    for _ in range(100):
        clock.now()
    assert clock.last_step is None


# The real daemon.


class WallTime:
    """The wall time of a process, which the test sets while it runs."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "faketime"
        self.set(timedelta())

    def set(self, ahead: timedelta) -> None:
        """Let the process be so far ahead of everybody else."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead.total_seconds():+.0f}\n")
        fresh.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """Return what makes a process ask us."""
        require("faketime")
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds; without, each look at the clock reads the file
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@asynccontextmanager
async def beating(screens: list[Screen]) -> AsyncIterator[None]:
    """Let devices beat beside the block."""

    async def beat() -> None:
        while True:
            for screen in screens:
                screen.beat()
            await asyncio.sleep(0.5)

    async with living(screens), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(beat())
        yield
        task.cancel()


async def sign_in(daemon: Daemon) -> str:
    """Return the cookie of an operator's browser."""
    credentials = {"username": Role.OPERATOR.value, "password": PASSWORD}
    async with (
        daemon.visitor(**SAME_ORIGIN) as visitor,
        visitor.post("/api/auth/login", json=credentials) as response,
    ):
        assert response.status == 200
        return "; ".join(f"{cookie.key}={cookie.value}" for cookie in response.cookies.values())


async def stepped(daemon: Daemon, seconds: float, times: int) -> None:
    """Wait until the daemon has said that its clock was set."""
    await until(lambda: len(daemon.logged("clock_step")) == times)
    assert daemon.logged("clock_step")[-1]["seconds"] == pytest.approx(seconds, abs=STEP_SECONDS)


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_daemon_whose_host_is_set_an_hour_ahead_and_back_goes_on(
    tmp_path: Path, broker: Broker
) -> None:
    wall = WallTime(tmp_path)
    uuids = [uuid_of(number) for number in range(4)]
    await broker.add_devices(uuids)
    screens = [Screen(broker, uuid) for uuid in uuids]
    settings = {"CRASH_RECOVERY_POLL_SECONDS": 1, **wall.environment}
    async with (
        installed(tmp_path / "daemon", broker, **settings) as daemon,
        beating(screens),
        daemon.program() as api,
    ):
        await daemon.start()
        browser = {**SAME_ORIGIN, "Cookie": await sign_in(daemon)}
        await ask_until(api, "/api/clients?status=online", lambda page: page["total"] == len(screens))

        async def order(screen: Screen) -> str:
            body = {"action": "restart_app"}
            path = f"/api/clients/{screen.uuid}/commands"
            async with daemon.visitor(**browser) as operator:
                answer = await ask(operator, "POST", path, json=body, status=202)
            return str(answer["command"]["command_id"])

        async def ends_well(command_id: str) -> dict[str, Any]:
            path = f"/api/commands/{command_id}"
            command = await ask_until(api, path, lambda command: command["verification"] == "verified")
            assert (command["status"], command["late"]) == ("completed", False)
            return dict(command)

        for times, (ahead, screen) in enumerate(zip([HOUR, timedelta()], screens, strict=False), start=1):
            screen.hold("completed")
            command_id = await order(screen)
            path = f"/api/commands/{command_id}"
            await ask_until(api, path, lambda command: command["status"] == "execution_started")
            wall.set(ahead)
            await stepped(daemon, 3600 if ahead else -3600, times)
            at = datetime.now(UTC) + ahead
            for one in screens:
                path = f"/api/clients/{one.uuid}"
                await ask_until(
                    api,
                    path,
                    lambda client, at=at: (
                        abs(datetime.fromisoformat(client["last_alive"]) - at) < HOUR / 2
                        and client["status"] == "online"
                    ),
                )
            await ask_until(
                api,
                f"/api/commands/{command_id}",
                lambda command: any(event["by"] == "clock" for event in command["events"]),
            )
            screen.release("completed")
            await ends_well(command_id)
            await ends_well(await order(screens[times + 1]))
            assert await daemon.wait_for("/readyz", 200)
        changes = daemon.rows(
            "SELECT json_extract(data, '$.from') || ' ' || json_extract(data, '$.to') FROM timeline"
            " WHERE kind = 'status'"
        )
        assert changes == [("never_seen online",)] * len(screens)
        assert await daemon.stop() == 0
        assert "Traceback" not in daemon.log
