"""The command ``power_cycle`` on a real database: what is refused, what is recorded, and that it ends ON."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infoscreen.domain.accounts import Role
from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Source, Verification
from infoscreen.domain.errors import (
    ClientStarting,
    CommandInFlight,
    Conflict,
    Forbidden,
    NoOutlet,
    OutletInUse,
    OutletProtected,
    OutletShared,
    PowerError,
    Refused,
    StoreUnavailable,
    TooManyCycles,
)
from infoscreen.domain.history import Note
from infoscreen.domain.power import Outlet, PowerFault, PowerState
from infoscreen.domain.power.outlet import OutletObstacle
from infoscreen.services.power.cycles import PowerCycles, PowerPolicy
from infoscreen.services.power.outlets import Outlets, WantedPower
from infoscreen.services.power.permission import CycleLimits
from infoscreen.services.recovery.loop import DAEMON
from infoscreen.services.resealing import Resealing
from infoscreen.services.secrets import Secrets
from infoscreen.storage import command_history, commands, power_cycles
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.recovery import outlets
from infoscreen.storage.recovery.pauses import PauseScope
from tests.api import ask
from tests.fakes import FakeClock
from tests.outlets import MAC, MemoryOutlet
from tests.spine import ADMIN, MORNING, OPERATOR, POLICY, TIMEOUTS, Spine, open_spine, sqlite_url, uuid_of
from tests.web import SECRETS_KEY, Site

U, V, W = uuid_of(1), uuid_of(2), uuid_of(3)


class Killed(BaseException):
    """Kill -9: nothing runs any more."""


class OwnTime(FakeClock):
    """A clock on which sleeping takes no time; at the n-th sleep the daemon can be killed."""

    kill_at: int | None = None
    sleeps = 0
    until = float("inf")

    @property
    def seconds(self) -> float:
        return self.monotonic()

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        if self.kill_at is not None and self.sleeps >= self.kill_at:
            raise Killed
        self.advance(max(0.0, seconds))
        if self.monotonic() > self.until:
            raise TimeoutError("the test's time is over")
        await asyncio.sleep(0)


@dataclass
class Rig:
    spine: Spine
    clock: OwnTime
    cycles: PowerCycles
    outlets: Outlets
    plugs: dict[str, MemoryOutlet]
    secrets: list[bytes] = field(default_factory=lambda: [SECRETS_KEY])
    opened: list[Outlet] = field(default_factory=list)

    def open(self, outlet: Outlet) -> MemoryOutlet:
        self.opened.append(outlet)
        if outlet.driver == "broken":
            raise PowerError(PowerFault.BAD_CONFIGURATION, "broken")
        key = outlet.address + "/" + outlet.outlet
        return self.plugs.setdefault(key, MemoryOutlet(self.clock))  # type: ignore[arg-type]

    def restart(self, store: Any = None) -> None:
        """Begin with empty memory, as a new process does."""
        self.clock.kill_at, self.clock.sleeps = None, 0
        secrets = Secrets(self.secrets)
        self.outlets = Outlets(self.spine.store, self.clock, self.spine.bus, secrets, self.open)
        policy = PowerPolicy(TIMEOUTS)
        self.cycles = PowerCycles(
            store or self.spine.store,
            self.clock,
            self.spine.bus,
            self.outlets,
            self.open,
            self.spine.measures,
            policy,
        )

    async def plug(self, uuid: str, address: str = "plug", outlet: str = "1", **more: Any) -> MemoryOutlet:
        given = {"identity": MAC, "secrets": {"password": "s3cret"}, **more}
        wanted = WantedPower(driver="memory", address=address, outlet=outlet, **given)
        await self.outlets.configure(uuid, wanted, ADMIN)
        return self.open(Outlet(driver="memory", address=address, outlet=outlet))

    async def request(self, uuid: str = U, **more: Any) -> ClientCommand:
        return await self.spine.request(uuid, Action.POWER_CYCLE, **{"actor": ADMIN, **more})

    async def turn(self) -> None:
        """Take up what is there and carry it out to its end."""
        async with asyncio.TaskGroup() as group:
            await self.cycles.turn(group)

    async def ended(self, command: ClientCommand) -> ClientCommand:
        self.clock.advance(2)  # the stagger
        await self.turn()
        return await self.spine.command(command)

    async def notes(self, command: ClientCommand) -> list[str]:
        async with self.spine.store.read() as connection:
            lines = await command_history.events(connection, command.command_id)
        return [line.note.code.value for line in lines if line.note is not None]

    async def open_cycles(self) -> int:
        async with self.spine.store.read() as connection:
            return len(await power_cycles.unfinished(connection))


@asynccontextmanager
async def rigged(url: str) -> AsyncIterator[Rig]:
    clock = OwnTime(MORNING)
    async with open_spine(url, clock=clock) as spine:
        rig = Rig(spine, clock, None, None, {})  # type: ignore[arg-type]
        rig.restart()
        for _ in range(12):  # until nobody is starting
            for uuid in (U, V, W):
                await spine.beat(uuid, boot_id="old")
            clock.advance(30)
        yield rig


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    url = request.getfixturevalue("postgres") if request.param == "postgres" else sqlite_url(tmp_path)
    async with rigged(url) as ready:
        yield ready


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Rig]:
    """The same on SQLite alone, where the database makes no difference."""
    async with rigged(sqlite_url(tmp_path)) as ready:
        yield ready


async def silence(rig: Rig, *lit: str) -> None:
    """Let everybody but those fall silent for long enough."""
    for _ in range(12):
        rig.clock.advance(30)
        for uuid in lit:
            await rig.spine.beat(uuid, boot_id="old")
    await rig.spine.watch.look()


# --- the life of the command


async def test_a_power_cycle_goes_from_request_to_a_verified_boot_and_is_never_published(rig: Rig) -> None:
    plug = await rig.plug(U)
    command = await rig.request(reason="black screen")
    await rig.spine.outbox.step()
    done = await rig.ended(command)
    await rig.spine.outbox.step()
    assert rig.spine.publisher.sent == []
    assert plug.switched() == ["off", "on"]
    assert plug.longest_off >= 10
    assert (done.status, done.verification) == (CommandStatus.COMPLETED, Verification.PENDING)
    assert [(before, after) for before, after, _ in await rig.spine.history(command) if before != after] == [
        (None, "queued"),
        ("queued", "publish_in_progress"),
        ("publish_in_progress", "execution_started"),
        ("execution_started", "completed"),
    ]
    steps = [Note.OUTLET_CHECKED, Note.OUTLET_OFF_SENT, Note.OUTLET_OFF_SEEN, Note.OUTLET_ON_SENT]
    assert await rig.notes(command) == [*steps, Note.OUTLET_ON_SEEN]
    for boot_id in ("old", "new", "new"):
        rig.clock.advance(30)
        await rig.spine.beat(U, boot_id=boot_id)
        await rig.spine.watch.look()
    assert (await rig.spine.command(command)).verification is Verification.VERIFIED
    assert await rig.open_cycles() == 0


async def test_a_client_that_booted_by_itself_before_it_was_switched_off_proves_nothing(one: Rig) -> None:
    """The boot is told between the request and OFF."""
    plug = await one.plug(U)
    command = await one.request()
    one.clock.advance(1)
    real = plug.status

    async def slow_status() -> Any:
        if not plug.switched():
            await one.spine.beat(U, boot_id="by itself")
        return await real()

    plug.status = slow_status  # type: ignore[method-assign]
    await one.ended(command)
    for _ in range(3):
        one.clock.advance(30)
        await one.spine.beat(U, boot_id="by itself")
        await one.spine.watch.look()
    assert (await one.spine.command(command)).verification is Verification.PENDING
    one.clock.advance(900)
    await one.spine.beat(U, boot_id="by itself")
    await one.spine.watch.look()
    assert (await one.spine.command(command)).verification is Verification.CONTRADICTED


async def test_a_device_cannot_answer_for_the_outlet(one: Rig) -> None:
    await one.plug(U)
    command = await one.request()
    for status in ("accepted", "completed"):
        await one.spine.ack(command, status)
    assert (await one.spine.command(command)).status is CommandStatus.QUEUED


async def test_a_fault_before_off_fails_the_command_and_counts_for_no_limit(rig: Rig) -> None:
    plug = await rig.plug(U)
    for _ in range(4):
        plug.faults = {"identify": [PowerFault.BAD_CREDENTIALS]}
        done = await rig.ended(await rig.request())
        assert (done.status, done.error_code) == (CommandStatus.FAILED, "bad_credentials")
        assert done.published_at is None
    assert plug.switched() == []
    assert await rig.spine.commanding.lockout(U) is None
    assert (await rig.ended(await rig.request())).status is CommandStatus.COMPLETED


async def test_an_outlet_that_lies_fails_the_command_and_ends_on(one: Rig) -> None:
    plug = await one.plug(U)
    plug.ignores_off = 10
    command = await one.request()
    done = await one.ended(command)
    assert (done.status, done.error_code, done.verification) == (
        CommandStatus.FAILED,
        "off_not_seen",
        None,
    )
    assert plug.switched()[-1] == "on"
    assert (await one.notes(command))[-1] == Note.OUTLET_FAULT


async def test_another_outlet_than_the_configured_one_is_not_switched(one: Rig) -> None:
    plug = await one.plug(U, identity="DEADBEEF0000")
    assert (await one.ended(await one.request())).error_code == "wrong_identity"
    assert plug.switched() == []


async def test_an_outlet_that_was_off_is_switched_on(one: Rig) -> None:
    plug = await one.plug(U)
    plug.power = PowerState.OFF
    command = await one.request()
    assert (await one.ended(command)).status is CommandStatus.COMPLETED
    assert plug.switched() == ["on"]
    assert Note.OUTLET_FOUND_OFF in await one.notes(command)


# --- refusals


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_only_administrators_and_the_recovery_may(one: Rig, role: Role) -> None:
    await one.plug(U)
    with pytest.raises(Forbidden):
        await one.request(actor=replace(OPERATOR, role=role))
    await one.spine.commanding.request(U, Action.POWER_CYCLE, source=Source.RECOVERY, actor=DAEMON)


async def test_without_an_outlet_or_with_a_protected_one_nothing_helps(rig: Rig) -> None:
    with pytest.raises(NoOutlet):
        await rig.request(force=True, reason="now")
    await rig.plug(U, protected=True)
    with pytest.raises(OutletProtected):
        await rig.request(force=True, reason="now")
    with pytest.raises(OutletProtected):
        await rig.spine.commanding.request(U, Action.POWER_CYCLE, source=Source.RECOVERY, actor=DAEMON)


@pytest.mark.parametrize("declared", ["same outlet", "also feeds", "fed by"])
async def test_a_shared_outlet_is_switched_only_when_nobody_else_would_go_dark(
    rig: Rig, declared: str
) -> None:
    match declared:
        case "same outlet":
            await rig.plug(U)
            await rig.plug(V, shared=True)
        case "also feeds":
            await rig.plug(U, also_feeds=(V,))
        case _:
            await rig.plug(U)
            await rig.plug(W, shared=True, also_feeds=(V,))
            await silence(rig, V)
    with pytest.raises(OutletShared):
        await rig.request()
    with pytest.raises(OutletShared):
        await rig.spine.commanding.request(U, Action.POWER_CYCLE, source=Source.RECOVERY, actor=DAEMON)
    await silence(rig)
    command = await rig.request()
    await rig.spine.beat(V, boot_id="old")  # back just in time
    done = await rig.ended(command)
    assert (done.status, done.error_code) == (CommandStatus.FAILED, "not_allowed")
    assert all(plug.switched() == [] for plug in rig.plugs.values())
    forced = await rig.request(force=True, reason="both hang")
    assert (await rig.ended(forced)).status is CommandStatus.COMPLETED
    assert Note.SAFETY_OVERRIDDEN in await rig.notes(forced)


async def test_an_outlet_is_protected_for_all_that_have_it_if_one_says_so(rig: Rig) -> None:
    await rig.plug(U)
    await rig.plug(V, shared=True)
    await silence(rig)
    command = await rig.request()
    plug = await rig.plug(V, shared=True, protected=True)
    done = await rig.ended(command)
    assert (done.status, done.error_code) == (CommandStatus.FAILED, "not_allowed")
    with pytest.raises(OutletProtected):
        await rig.request(force=True, reason="hangs")
    async with rig.spine.store.read() as connection:
        seen = await outlets.of_unwell(connection, rig.clock.now(), 3, timedelta(minutes=15))
    assert {seen[one].obstacle for one in (U, V)} == {OutletObstacle.PROTECTED}
    assert plug.switched() == []


async def test_at_most_three_a_day_for_the_outlet_whoever_asks(rig: Rig) -> None:
    await rig.plug(U)
    await rig.plug(V, shared=True)
    for uuid in (U, V, U):
        await silence(rig)
        rig.clock.advance(1_000)  # beyond the lockout
        assert (await rig.ended(await rig.request(uuid))).status is CommandStatus.COMPLETED
    rig.clock.advance(1_000)
    for uuid in (U, V):
        with pytest.raises(TooManyCycles) as refusal:
            await rig.request(uuid)
        assert 0 < (refusal.value.retry_after or 0) <= 86_400
    forced = await rig.request(force=True, reason="the last one")
    assert (await rig.ended(forced)).status is CommandStatus.COMPLETED
    rig.clock.advance(86_400)
    await rig.request(V)


@pytest.mark.parametrize("word", ["starting", "updating"])
async def test_a_client_that_starts_or_updates_is_left_alone(one: Rig, word: str) -> None:
    await one.plug(U)
    one.clock.advance(30)
    await one.spine.beat(U, boot_id="old", process_status=word)
    with pytest.raises(ClientStarting):
        await one.request()
    await one.spine.beat(U, boot_id="old", process_status="running")
    await one.request()


async def test_a_client_that_booted_just_now_is_left_alone(one: Rig) -> None:
    await one.plug(U)
    one.clock.advance(30)
    await one.spine.beat(U, boot_id="new", process_status="running")
    with pytest.raises(ClientStarting):
        await one.request()
    for _ in range(11):
        one.clock.advance(30)
        await one.spine.beat(U, boot_id="new", process_status="running")
    await one.request()


async def test_one_disruptive_command_at_a_time_and_never_for_many(rig: Rig) -> None:
    await rig.plug(U)
    reboot = await rig.spine.request(U)
    with pytest.raises(CommandInFlight):
        await rig.request()
    await rig.spine.commanding.cancel(reboot.command_id, OPERATOR)
    await rig.request()
    with pytest.raises(CommandInFlight):
        await rig.spine.request(U)
    with pytest.raises(Conflict):
        await rig.spine.bulk.request([U, V], Action.POWER_CYCLE, source=Source.OPERATOR, actor=ADMIN)


async def test_an_outlet_is_not_switched_a_second_time_for_its_other_client(rig: Rig) -> None:
    """Both ask at the same time: on PostgreSQL both may be queued, but only one is carried out."""
    plug = await rig.plug(U)
    await rig.plug(V, shared=True)
    await silence(rig)
    asked = await asyncio.gather(rig.request(U), rig.request(V), return_exceptions=True)
    assert all(isinstance(one, ClientCommand | OutletInUse) for one in asked)
    for _ in range(3):
        await rig.turn()
    assert plug.switched() == ["off", "on"]


async def test_the_lockout_counts_power_cycles(one: Rig) -> None:
    one.cycles._policy = replace(one.cycles._policy, limits=CycleLimits(per_day=99))
    one.spine.commanding._policy = replace(POLICY, cycles=CycleLimits(per_day=99))
    await one.plug(U)
    for _ in range(3):
        await silence(one)
        await one.ended(await one.request())
        if await one.spine.commanding.lockout(U):
            break
    with pytest.raises(Refused):
        await one.request()


# --- time, order and places


async def test_a_command_that_expired_while_the_outlet_did_not_answer_switches_nothing(one: Rig) -> None:
    plug = await one.plug(U)
    real = plug.identify

    async def slow() -> Any:
        one.clock.advance(300)
        await one.spine.watch.sweep()
        return await real()

    plug.identify = slow  # type: ignore[method-assign]
    done = await one.ended(await one.request())
    assert done.status is CommandStatus.EXPIRED
    assert plug.switched() == []
    assert await one.open_cycles() == 0


async def test_the_recovery_does_not_switch_a_client_that_was_heard_again(one: Rig) -> None:
    plug = await one.plug(U)
    await silence(one)
    command = await one.spine.commanding.request(U, Action.POWER_CYCLE, source=Source.RECOVERY, actor=DAEMON)
    await one.spine.beat(U, boot_id="old")
    done = await one.ended(command)
    assert (done.status, done.error_code) == (CommandStatus.FAILED, "client_is_back")
    assert plug.switched() == []


@pytest.mark.parametrize("hold", ["maintenance", "pause"])
async def test_the_recovery_does_not_switch_what_people_have_taken_over_since(one: Rig, hold: str) -> None:
    plug = await one.plug(U)
    await silence(one)
    command = await one.spine.commanding.request(U, Action.POWER_CYCLE, source=Source.RECOVERY, actor=DAEMON)
    until = one.clock.now() + timedelta(hours=1)
    if hold == "maintenance":
        await one.spine.fleet.edit(U, {"maintenance_until": until}, ADMIN)
    else:
        await one.spine.pausing.pause(PauseScope.CLIENT, "somebody is there", until, ADMIN, client_uuid=U)
    done = await one.ended(command)
    assert (done.status, done.error_code) == (CommandStatus.FAILED, "not_allowed")
    assert plug.switched() == []


class SlowStore:
    """The database, which can be gone, and whose next answer can be held back until something has ended."""

    def __init__(self, store: Store) -> None:
        self.real = store
        self.gone = False
        self.after: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        async with self.real.read() as connection:
            yield connection
        if self.after is not None and self.after is not asyncio.current_task():
            await self.after

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Connection]:
        if self.gone:
            raise StoreUnavailable("gone")
        async with self.real.write() as connection:
            yield connection


async def test_a_cycle_that_ends_during_a_look_is_not_begun_again(one: Rig) -> None:
    plug = await one.plug(U)
    command = await one.request()
    store = SlowStore(one.spine.store)
    one.restart(store)
    async with asyncio.TaskGroup() as group:
        (stored,) = await one.cycles.take_up()
        store.after = asyncio.ensure_future(one.cycles.carry_out(stored))
        await asyncio.sleep(0)
        await one.cycles.turn(group)
    assert Note.OUTLET_RESUMED not in await one.notes(command)
    assert plug.switched() == ["off", "on"]


async def test_an_outlet_that_stays_off_is_an_alert_also_without_a_database(one: Rig) -> None:
    plug = await killed_while_off(one)
    plug.ignores_on = 10**6
    store = SlowStore(one.spine.store)
    one.restart(store)
    seen: list[Any] = []
    real = plug.on

    async def on() -> None:
        seen.extend(one.cycles.alerts())
        if seen or one.clock.monotonic() > deadline:
            plug.ignores_on, store.gone = 0, False
        await real()

    plug.on = on  # type: ignore[method-assign]
    store.gone, deadline = True, one.clock.monotonic() + 300
    await one.turn()
    assert seen
    assert list(one.cycles.alerts()) == []


async def test_outlets_of_one_device_take_turns_and_a_site_is_staggered(one: Rig) -> None:
    first, second = await one.plug(U, "pdu", "1"), await one.plug(V, "pdu", "2")
    third = await one.plug(W, "elsewhere")
    for uuid in (U, V, W):
        await one.request(uuid)
        one.clock.advance(0.1)
    # All have no site: they begin two seconds apart, whatever their device.
    assert [stored.client_uuid for stored in await one.cycles.take_up()] == [U]
    one.clock.advance(1.9)
    assert await one.cycles.take_up() == []
    one.restart()
    await one.turn()
    one.clock.advance(2)
    await one.turn()
    one.clock.advance(2)
    await one.turn()
    offs = [next(at for at, verb in plug.log if verb == "off") for plug in (first, second, third)]
    back = next(at for at, verb in first.log if verb == "on")
    assert offs[1] > back
    assert abs(offs[2] - offs[1]) >= 2
    assert all(plug.power is PowerState.ON for plug in (first, second, third))


# --- never left dark


@pytest.mark.parametrize("away", [1, 300, 200_000])
async def test_killed_at_any_moment_every_screen_ends_on(one: Rig, away: int) -> None:
    """At each wait of a cycle the process is gone, and a new one finds the database as it is."""
    plug = await one.plug(U)
    one.spine.commanding._policy = replace(POLICY, cycles=CycleLimits(per_day=999))
    survived = 0
    for moment in range(1, 40):
        one.clock.advance(1_000)
        command = await one.request()
        one.clock.kill_at = one.clock.sleeps + moment
        try:
            await one.turn()
            survived += 1
        except BaseExceptionGroup as group:
            if group.split(Killed)[1] is not None:
                raise
        offs = plug.switched().count("off")
        one.restart()
        one.clock.advance(away)
        await one.spine.watch.sweep()
        one.plugs["plug/1"]._settle()
        await one.turn()
        plug._settle()
        assert plug.power is PowerState.ON, moment
        assert await one.open_cycles() == 0, moment
        if away > 120:
            assert plug.switched().count("off") == offs, "a late surprise"
        after = await one.spine.command(command)
        assert after.status in {CommandStatus.COMPLETED, CommandStatus.FAILED, CommandStatus.EXPIRED}
        if survived:
            assert moment > 10
            break
    assert survived, "every moment of a cycle was tried"


async def test_an_outlet_that_stays_off_is_an_alert_until_it_is_on(one: Rig) -> None:
    plug = await one.plug(U)
    plug.ignores_on = 10**6
    command = await one.request()
    one.clock.until = one.clock.monotonic() + 40
    with pytest.raises(BaseExceptionGroup):
        await one.turn()
    one.restart()
    one.clock.until = one.clock.monotonic() + 600
    seen: list[Any] = []
    real = plug.on

    async def on() -> None:
        seen.extend(one.cycles.alerts())
        if seen:
            await one.cycles._tell_left_off()
            plug.ignores_on = 0
        await real()

    plug.on = on  # type: ignore[method-assign]
    await one.turn()
    (alert,) = seen
    assert alert.severity.value == "critical"
    assert list(one.cycles.alerts()) == []
    assert (await one.spine.command(command)).status in {CommandStatus.COMPLETED, CommandStatus.EXPIRED}
    assert Note.OUTLET_LEFT_OFF in await one.notes(command)
    assert Note.OUTLET_RESUMED in await one.notes(command)


async def killed_while_off(rig: Rig) -> MemoryOutlet:
    plug = await rig.plug(U)
    await rig.request()
    rig.clock.kill_at = 4
    with pytest.raises(BaseExceptionGroup):
        await rig.turn()
    plug._settle()
    assert plug.power is PowerState.OFF
    return plug


async def test_a_client_that_is_removed_in_the_middle_is_switched_on(rig: Rig) -> None:
    plug = await killed_while_off(rig)
    await rig.spine.fleet.remove(U, ADMIN)
    rig.restart()
    await rig.turn()
    assert plug.power is PowerState.ON
    assert await rig.open_cycles() == 0


async def test_an_outlet_that_is_forgotten_or_changed_in_the_middle_is_switched_on(one: Rig) -> None:
    plug = await killed_while_off(one)
    await one.outlets.configure(U, None, ADMIN)
    await one.plug(U, "another", identity="another")
    one.restart()
    await one.turn()
    assert plug.power is PowerState.ON
    assert one.plugs["another/1"].switched() == []


async def test_a_password_that_is_lost_in_the_middle_can_be_entered_again(one: Rig) -> None:
    plug = await killed_while_off(one)
    one.secrets = [bytes(reversed(range(32)))]
    one.restart()
    one.clock.until = one.clock.monotonic() + 100
    with pytest.raises(BaseExceptionGroup):
        await one.turn()
    assert plug.power is PowerState.OFF
    one.restart()
    await one.plug(U, secrets={"password": "new"})
    one.opened.clear()
    one.clock.until = float("inf")
    await one.turn()
    assert plug.power is PowerState.ON
    assert {outlet.secret for outlet in one.opened} == {"new"}


async def test_a_key_that_is_replaced_in_the_middle_leaves_no_screen_dark(one: Rig) -> None:
    plug = await killed_while_off(one)
    new = bytes(reversed(range(32)))
    assert await Resealing(one.spine.store, one.clock, Secrets([new, *one.secrets])).step() == 1
    one.secrets = [new]
    one.restart()
    one.clock.until = one.clock.monotonic() + 300
    await one.turn()
    assert plug.power is PowerState.ON
    assert one.opened[-1].secret == "s3cret"


async def test_a_stop_in_the_middle_sends_on_and_the_next_start_makes_sure(one: Rig) -> None:
    plug = await one.plug(U)
    command = await one.request()
    (stored,) = await one.cycles.take_up()
    task = asyncio.create_task(one.cycles.carry_out(stored))
    while plug.power is PowerState.ON:
        plug._settle()
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    plug._settle()
    assert plug.power is PowerState.ON
    one.restart()
    await one.turn()
    assert plug.power is PowerState.ON
    assert (await one.spine.command(command)).status is not CommandStatus.EXECUTION_STARTED


async def test_a_defect_in_a_driver_leaves_no_screen_dark(one: Rig) -> None:
    plug = await one.plug(U)
    real, defects = plug.status, [2]

    async def defect() -> Any:
        if plug.switched() and defects[0]:
            defects[0] -= 1
            raise KeyError("apower")
        return await real()

    plug.status = defect  # type: ignore[method-assign]
    assert (await one.ended(await one.request())).status is CommandStatus.COMPLETED
    assert plug.power is PowerState.ON


# --- over HTTP


async def test_the_api_takes_power_cycles_of_administrators_and_says_why_not(site: Site) -> None:
    await site.spine.beat(U)
    admin, operator = await site.program(Role.ADMIN), await site.program(Role.OPERATOR)
    path, body = f"/api/clients/{U}/commands", {"action": "power_cycle"}
    assert (await ask(admin, "POST", path, json=body, status=409))["type"].endswith("no-outlet")
    plug = {"driver": "shelly", "address": "10.0.0.5", "protected": True}
    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug})
    assert (await ask(admin, "POST", path, json=body, status=409))["type"].endswith("outlet-protected")
    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug | {"protected": False}})
    assert (await ask(operator, "POST", path, json=body, status=403))["type"].endswith("forbidden")
    many = {"action": "power_cycle", "client_uuids": [U]}
    assert (await ask(admin, "POST", "/api/commands", json=many, status=409))["code"] == "one_client_only"
    assert (await ask(admin, "POST", path, json=body, status=202))["command"]["action"] == "power_cycle"
    async with site.spine.store.read() as connection:
        assert len(await commands.in_flight(connection, [U])) == 1


def test_the_limits_fit_together() -> None:
    assert CycleLimits().per_day == 3
    assert PowerPolicy(TIMEOUTS).stagger == timedelta(seconds=2)
