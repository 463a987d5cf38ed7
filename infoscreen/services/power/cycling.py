"""Carries out one power cycle at one outlet: the waiting and storing. The rules are in ``domain.power``.

Knows no database: what is stored, and what to do when that fails, is in ``Journal``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from infoscreen.clock import Clock
from infoscreen.domain.errors import PowerError, StoreUnavailable
from infoscreen.domain.power import (
    Checked,
    Cycle,
    CyclePolicy,
    Do,
    Event,
    Failed,
    PowerFault,
    Read,
    SwitchSent,
    advance,
    next_step,
)
from infoscreen.services.ports import PowerDriver

log = logging.getLogger(__name__)

Journal = Callable[[Cycle], Awaitable[None]]
"""Stores the cycle as it is now; raises ``StoreUnavailable``."""

CALL_SECONDS = 15.0
"""How long one request to an outlet may take, whatever its driver allows itself."""

STORING_SECONDS = 5.0
"""How long a database may hold up a cycle whose outlet may be off."""

LAST_WORD_SECONDS = 2.0
"""How long a daemon that is stopped in the middle tries to switch on again."""

RESTORE_MARGIN_SECONDS = 20.0
"""An outlet that restores itself does so this much later than we switch it on ourselves."""


async def run_cycle(
    cycle: Cycle,
    driver: PowerDriver,
    clock: Clock,
    policy: CyclePolicy,
    journal: Journal,
    *,
    expected: str | None = None,
) -> Cycle:
    """Carry the cycle out to its end and return it.

    Before OFF has been sent, a journal that fails ends the cycle with ``StoreUnavailable``; nothing was
    switched then. Afterwards power comes first: the cycle goes on, and is stored when that works again.
    When cancelled in the middle it sends ON once, and leaves the rest to the next start.
    """
    steady = _Steady(clock)
    stored = cycle
    last_read: datetime | None = None
    try:
        while True:
            cycle, step = next_step(cycle, steady.now(), policy)
            if _worth_storing(stored, cycle):
                stored = await _store(cycle, stored, journal)
            if step.do is Do.END:
                if stored is not cycle:
                    await _store_at_last(cycle, clock, journal)
                return cycle
            pause = timedelta(seconds=driver.capabilities.pause_seconds)
            at = step.at if last_read is None else max(step.at, last_read + pause)
            if (wait := (at - steady.now()).total_seconds()) > 0:
                await clock.sleep(wait)
                continue
            event = await _carry_out(step.do, driver, policy, attempt=cycle.off_sends)
            last_read = steady.now()
            cycle = advance(cycle, event, last_read, policy, expected=expected)
    except asyncio.CancelledError:
        if cycle.may_be_off:
            await _last_word(driver)
        raise


def _worth_storing(stored: Cycle, cycle: Cycle) -> bool:
    """Tell whether the cycle differs by more than the time of its last reading."""
    return (
        (stored.stage, stored.off_sends, stored.off_sent_at, stored.off_seen_at, stored.fault)
        != (
            cycle.stage,
            cycle.off_sends,
            cycle.off_sent_at,
            cycle.off_seen_at,
            cycle.fault,
        )
        or stored.on_since != cycle.on_since
        or (stored.on_sends == 0) != (cycle.on_sends == 0)
    )


async def _store(cycle: Cycle, stored: Cycle, journal: Journal) -> Cycle:
    """Store the cycle; return what is stored now."""
    try:
        async with asyncio.timeout(STORING_SECONDS if stored.may_be_off else None):
            await journal(cycle)
    except (StoreUnavailable, TimeoutError) as error:
        if not stored.may_be_off:
            raise
        log.warning(
            "a power cycle goes on without being stored",
            extra={"event": "power_cycle_not_stored", "stage": cycle.stage, "error": str(error)},
        )
        return stored
    return cycle


async def _store_at_last(cycle: Cycle, clock: Clock, journal: Journal) -> None:
    while True:
        try:
            await journal(cycle)
        except StoreUnavailable:
            await clock.sleep(1.0)
        else:
            return


async def _carry_out(do: Do, driver: PowerDriver, policy: CyclePolicy, *, attempt: int) -> Event:
    try:
        async with asyncio.timeout(CALL_SECONDS):
            match do:
                case Do.CHECK:
                    return Checked(await driver.identify(), await driver.status())
                case Do.OFF:
                    # An outlet that misunderstood its own timer gets a plain OFF the second time.
                    restores = driver.capabilities.restores_itself and attempt <= 1
                    after = policy.min_off.total_seconds() + RESTORE_MARGIN_SECONDS
                    await driver.off(after if restores else None)
                    return SwitchSent()
                case Do.ON:
                    await driver.on()
                    return SwitchSent()
                case Do.READ:
                    return Read(await driver.status())
                case Do.END:
                    pass
    except PowerError as error:
        return Failed(do, error.fault, error.detail)
    except TimeoutError:
        return Failed(do, PowerFault.NO_ANSWER, f"no answer within {CALL_SECONDS:g} s")
    except Exception as error:
        log.exception("a power driver failed", extra={"event": "power_driver_failed", "step": do})
        return Failed(do, PowerFault.BAD_ANSWER, type(error).__name__)
    raise AssertionError("the end is nothing to carry out")


async def _last_word(driver: PowerDriver) -> None:
    """Switch on before the daemon ends; what it cannot do now is done after its next start."""
    try:
        async with asyncio.timeout(LAST_WORD_SECONDS):
            await driver.on()
    except (PowerError, TimeoutError) as error:
        log.warning(
            "stopped in the middle of a power cycle; it goes on after the next start",
            extra={"event": "power_cycle_interrupted", "error": str(error)},
        )


class _Steady:
    """The wall time of the start, going on as the monotonic clock does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start, self._monotonic = clock.now(), clock.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._clock.monotonic() - self._monotonic)
