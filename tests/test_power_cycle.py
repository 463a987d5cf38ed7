"""The algorithm of a power cycle against outlets that lie, hang, refuse and fail, on a virtual clock."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoscreen.domain.errors import StoreUnavailable
from infoscreen.domain.power import (
    Capabilities,
    Cycle,
    CyclePolicy,
    CycleStage,
    PowerFault,
    PowerState,
    begun,
    resumed,
)
from infoscreen.services.power.cycling import CALL_SECONDS, run_cycle
from tests.outlets import MAC, MemoryOutlet, VirtualClock

POLICY = CyclePolicy()


class Ledger:
    """A journal in memory; its writes can fail, and it can end the daemon after the n-th write."""

    def __init__(self) -> None:
        self.kept: list[Cycle] = []
        self.down: set[CycleStage] = set()
        self.dies_after: int | None = None

    async def __call__(self, cycle: Cycle) -> None:
        if cycle.stage in self.down:
            raise StoreUnavailable("gone")
        self.kept.append(cycle)
        if self.dies_after is not None and len(self.kept) >= self.dies_after:
            raise _KilledError


class _KilledError(Exception):
    """Kill -9: nothing runs any more."""


async def cycle_of(
    outlet: MemoryOutlet, ledger: Ledger | None = None, cycle: Cycle | None = None, expected: str | None = MAC
) -> Cycle:
    clock = outlet.clock
    start = cycle or begun(clock.now())
    return await run_cycle(start, outlet, clock, POLICY, ledger or Ledger(), expected=expected)


@pytest.fixture
def outlet() -> MemoryOutlet:
    return MemoryOutlet(VirtualClock())


async def test_a_cycle_checks_switches_off_holds_and_switches_on(outlet: MemoryOutlet) -> None:
    ledger = Ledger()
    cycle = await cycle_of(outlet, ledger)
    assert cycle.fault is None
    assert cycle.stage is CycleStage.ENDED
    assert outlet.switched() == ["off", "on"]
    assert outlet.longest_off >= 10
    assert [verb for _, verb in outlet.log][:3] == ["identify", "status", "off"]
    assert list(dict.fromkeys(kept.stage for kept in ledger.kept)) == [
        CycleStage.TURNING_OFF,
        CycleStage.HOLDING,
        CycleStage.TURNING_ON,
        CycleStage.ENDED,
    ]
    assert ledger.kept[0].off_sent_at is None  # the intent, before anything was sent


@pytest.mark.parametrize("found", ["DEADBEEF0000", None])
async def test_an_outlet_that_is_another_one_is_not_touched(outlet: MemoryOutlet, found: str | None) -> None:
    outlet.identity = found
    cycle = await cycle_of(outlet)
    assert cycle.fault is PowerFault.WRONG_IDENTITY
    assert outlet.switched() == []


async def test_identities_are_compared_as_people_write_them(outlet: MemoryOutlet) -> None:
    assert (await cycle_of(outlet, expected="a8:03:2a:be:54:dc")).fault is None


async def test_an_outlet_without_a_clear_state_is_not_touched(outlet: MemoryOutlet) -> None:
    outlet.power = PowerState.UNKNOWN
    assert (await cycle_of(outlet)).fault is PowerFault.STATE_UNKNOWN
    assert outlet.switched() == []


async def test_an_outlet_that_is_off_already_is_switched_on(outlet: MemoryOutlet) -> None:
    outlet.power = PowerState.OFF
    cycle = await cycle_of(outlet)
    assert (cycle.fault, outlet.switched()) == (None, ["on"])


async def test_an_outlet_that_takes_off_and_ignores_it_is_asked_twice_then_switched_on(
    outlet: MemoryOutlet,
) -> None:
    outlet.ignores_off = 100
    cycle = await cycle_of(outlet)
    assert cycle.fault is PowerFault.OFF_NOT_SEEN
    assert outlet.switched() == ["off", "off", "on"]


async def test_an_outlet_that_says_off_and_draws_power_is_not_off(outlet: MemoryOutlet) -> None:
    outlet.watts = 60.0
    cycle = await cycle_of(outlet)
    assert cycle.fault is PowerFault.STILL_DRAWING
    assert outlet.switched() == ["off", "off", "on"]


async def test_an_outlet_that_comes_back_too_early_has_failed(outlet: MemoryOutlet) -> None:
    outlet.capabilities = Capabilities(restores_itself=True)
    real_off = outlet.off

    async def hasty(restore_after: float | None = None) -> None:
        await real_off(3.0)

    outlet.off = hasty  # type: ignore[method-assign]
    cycle = await cycle_of(outlet)
    assert cycle.fault is PowerFault.OFF_TOO_SHORT
    assert outlet.power is PowerState.ON


async def test_on_is_sent_again_until_it_is_seen(outlet: MemoryOutlet) -> None:
    outlet.ignores_on = 7
    cycle = await cycle_of(outlet)
    assert cycle.fault is None
    assert outlet.switched() == ["off", *["on"] * 8]


async def test_on_is_tried_for_hours_and_counts_as_left_off_after_a_minute(outlet: MemoryOutlet) -> None:
    outlet.ignores_on = 10**6
    outlet.clock.stop_at = 7_200
    ledger = Ledger()
    with pytest.raises(TimeoutError):
        await cycle_of(outlet, ledger)
    assert outlet.switched().count("on") > 200
    left = ledger.kept[-1]
    assert left.stage is CycleStage.TURNING_ON
    assert left.on_since is not None
    assert not left.is_left_off(left.on_since, POLICY)
    assert left.is_left_off(left.on_since + POLICY.left_off_after, POLICY)


@pytest.mark.parametrize("executes", [True, False])
@pytest.mark.parametrize("fault", [PowerFault.NO_ANSWER, PowerFault.BAD_ANSWER])
@pytest.mark.parametrize("verb", ["off", "on", "status"])
async def test_a_request_that_fails_is_settled_by_reading(
    outlet: MemoryOutlet, verb: str, fault: PowerFault, executes: bool
) -> None:
    outlet.faults = {verb: [fault, fault] if verb != "off" else [fault]}
    outlet.executes_failed = executes
    cycle = await cycle_of(outlet)
    assert cycle.fault is None
    assert outlet.longest_off >= 10
    assert outlet.power is PowerState.ON


async def test_refused_credentials_end_at_once_without_a_switch(outlet: MemoryOutlet) -> None:
    outlet.faults = {"identify": [PowerFault.BAD_CREDENTIALS]}
    assert (await cycle_of(outlet)).fault is PowerFault.BAD_CREDENTIALS
    assert outlet.switched() == []


async def test_silence_is_given_three_chances_before_anything_is_switched(outlet: MemoryOutlet) -> None:
    outlet.faults = {"identify": [PowerFault.NO_ANSWER] * 2}
    assert (await cycle_of(outlet)).fault is None
    outlet.faults = {"identify": [PowerFault.NO_ANSWER] * 3}
    switched = len(outlet.switched())
    assert (await cycle_of(outlet)).fault is PowerFault.NO_ANSWER
    assert len(outlet.switched()) == switched


async def test_an_outlet_that_locks_itself_before_off_ends_on(outlet: MemoryOutlet) -> None:
    outlet.faults = {"off": [PowerFault.REFUSED]}
    assert (await cycle_of(outlet)).fault is PowerFault.REFUSED
    assert outlet.switched() == ["off", "on"]
    assert outlet.longest_off == 0


async def test_a_request_that_hangs_is_cut_off(outlet: MemoryOutlet, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CALL_SECONDS <= 20
    monkeypatch.setattr("infoscreen.services.power.cycling.CALL_SECONDS", 0.02)
    hangs = 2
    real = outlet.on

    async def slow() -> None:
        nonlocal hangs
        if hangs:
            hangs -= 1
            await asyncio.Event().wait()
        await real()

    outlet.on = slow  # type: ignore[method-assign]
    assert (await cycle_of(outlet)).fault is None
    assert outlet.power is PowerState.ON


async def test_without_a_journal_nothing_is_switched(outlet: MemoryOutlet) -> None:
    ledger = Ledger()
    ledger.down = {CycleStage.TURNING_OFF}
    with pytest.raises(StoreUnavailable):
        await cycle_of(outlet, ledger)
    assert outlet.switched() == []


async def test_a_database_that_goes_away_between_off_and_on_does_not_keep_the_screen_dark(
    outlet: MemoryOutlet,
) -> None:
    ledger = Ledger()
    ledger.down = {CycleStage.HOLDING, CycleStage.TURNING_ON, CycleStage.ENDED}
    outlet.clock.stop_at = 300
    with pytest.raises(TimeoutError):  # only the end of the cycle still waits to be stored
        await cycle_of(outlet, ledger)
    assert outlet.switched() == ["off", "on"]
    assert outlet.power is PowerState.ON
    assert 10 <= outlet.longest_off < 15


async def test_a_daemon_that_is_stopped_in_the_middle_sends_on_once(outlet: MemoryOutlet) -> None:
    class Stopping(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if outlet.power is PowerState.OFF:
                raise asyncio.CancelledError

    outlet.clock = Stopping()
    with pytest.raises(asyncio.CancelledError):
        await cycle_of(outlet)
    assert outlet.switched() == ["off", "on"]


@pytest.mark.parametrize("writes", range(1, 8))
@pytest.mark.parametrize("away", [1, 30, 3_600, 100_000])
async def test_a_daemon_killed_at_any_write_ends_with_the_power_on(
    outlet: MemoryOutlet, writes: int, away: int
) -> None:
    ledger = Ledger()
    ledger.dies_after = writes
    try:
        await cycle_of(outlet, ledger)
    except _KilledError:
        outlet.clock.seconds += away
        stored = resumed(ledger.kept[-1], outlet.clock.now(), POLICY)
        if stored.stage is not CycleStage.ENDED:
            await cycle_of(outlet, Ledger(), stored)
    outlet._settle()
    assert outlet.power is PowerState.ON
    offs = [at for at, verb in outlet.log if verb == "off"]
    assert all(at < POLICY.resume_within.total_seconds() for at in offs)  # never a late surprise


faults = st.lists(st.sampled_from([None, None, *PowerFault]), max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    off=faults,
    on=faults,
    status=faults,
    identify=faults,
    executes=st.booleans(),
    ignores_off=st.integers(0, 3),
    ignores_on=st.integers(0, 6),
    delay=st.floats(0, 25),
    watts=st.sampled_from([None, 0.0, 55.0]),
    restores=st.booleans(),
    kill_after=st.none() | st.integers(1, 8),
    away=st.floats(0, 10_000),
)
async def test_whatever_happens_the_power_ends_on_and_success_means_off_for_ten_seconds(
    off: list[PowerFault | None],
    on: list[PowerFault | None],
    status: list[PowerFault | None],
    identify: list[PowerFault | None],
    executes: bool,
    ignores_off: int,
    ignores_on: int,
    delay: float,
    watts: float | None,
    restores: bool,
    kill_after: int | None,
    away: float,
) -> None:
    outlet = MemoryOutlet(VirtualClock())
    outlet.faults = {"off": off, "on": on, "status": status, "identify": identify}
    outlet.executes_failed, outlet.delay, outlet.watts = executes, delay, watts
    outlet.ignores_off, outlet.ignores_on = ignores_off, ignores_on
    outlet.capabilities = Capabilities(restores_itself=restores)
    outlet.clock.stop_at = 100_000
    ledger = Ledger()
    ledger.dies_after = kill_after
    try:
        cycle = await cycle_of(outlet, ledger)
    except _KilledError:
        outlet.clock.seconds += away
        stored = resumed(ledger.kept[-1], outlet.clock.now(), POLICY)
        cycle = stored if stored.stage is CycleStage.ENDED else await cycle_of(outlet, Ledger(), stored)
    assert cycle.stage is CycleStage.ENDED
    outlet.clock.seconds += 60
    outlet._settle()
    assert outlet.power is PowerState.ON
    if cycle.fault is None and "off" in outlet.switched():
        assert outlet.longest_off >= 10 - 1e-6


def test_a_stored_cycle_survives_a_clock_that_is_set_back() -> None:
    clock = VirtualClock()
    clock.seconds = 86_400.0
    holding = replace(begun(clock.now()), stage=CycleStage.HOLDING, off_seen_at=clock.now())
    clock.seconds = 0.0
    stored = resumed(holding, clock.now(), POLICY)
    assert stored.off_seen_at == clock.now()  # and not in a day
