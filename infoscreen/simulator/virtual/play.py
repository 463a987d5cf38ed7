"""Plays a scenario: makes the fleet, plans what befalls it, lets the time pass, and returns the figures."""

import math
from collections.abc import Callable, Iterable
from random import Random
from uuid import UUID

from infoscreen.domain.recovery import Rung
from infoscreen.simulator.scenarios import Event, Fleet, Kind, Scenario
from infoscreen.simulator.scenarios.scenario import CURES
from infoscreen.simulator.virtual.figures import Figures
from infoscreen.simulator.virtual.screen import Fault, Screen
from infoscreen.simulator.virtual.terms import Mode, Policies
from infoscreen.simulator.virtual.timeline import Timeline
from infoscreen.simulator.virtual.world import World

YEAR = 365 * 86_400.0
SLICES = 100
"""So often progress is told."""


def play(
    scenario: Scenario,
    *,
    clients: int | None = None,
    seed: str = "infoscreen",
    mode: Mode = Mode.RECOVERY,
    policies: Policies | None = None,
    progress: Callable[[float], None] | None = None,
) -> Figures:
    """Play the scenario and return its figures; the same arguments make the same figures.

    Args:
        scenario: what befalls whom.
        clients: the size of the fleet, the scenario's own by default.
        seed: of everything random.
        mode: who decides.
        policies: the settings, the daemon's defaults unless given.
        progress: is told the share that is done, 0 to 1.
    """
    size = clients or scenario.clients
    figures = Figures(scenario.name, mode.value, size, scenario.lasts)
    # The fleet and its fate do not depend on who decides, else nothing could be compared.
    screens = make_fleet(scenario.fleet, size, Random(f"{seed} fleet"))
    timeline = Timeline()
    world = World(
        scenario.fleet, screens, timeline, mode, policies or Policies(), figures, Random(f"{seed} course")
    )
    fate = Random(f"{seed} fate")
    for event in scenario.events:
        _plan(event, world, scenario.lasts, fate)
    for part in range(1, SLICES + 1):
        timeline.run(scenario.lasts * part / SLICES)
        if progress is not None:
            progress(part / SLICES)
    world.end()
    return figures


def make_fleet(fleet: Fleet, size: int, random: Random) -> list[Screen]:
    """Return the devices, the kinds of them in no order."""
    rhythms = [one.seconds for one in fleet.rhythms]
    shares = [one.share for one in fleet.rhythms]
    screens = []
    for number in range(size):
        interval = random.choices(rhythms, shares)[0]
        screens.append(
            Screen(
                number=number,
                uuid=str(UUID(int=random.getrandbits(128), version=4)),
                site=f"site {random.randrange(fleet.sites) + 1}" if fleet.sites else None,
                interval=interval,
                phase=random.uniform(0, interval),
                persistent=random.random() < fleet.persistent_sessions,
                skew=random.uniform(-fleet.skew, fleet.skew),
                boot=random.uniform(*fleet.boot),
                app_start=random.uniform(*fleet.app_start),
            )
        )
    return screens


def _plan(event: Event, world: World, lasts: float, random: Random) -> None:
    plan = world.timeline.plan
    if event.what is Kind.BROKER_OUTAGE or event.what is Kind.DAEMON_OUTAGE:
        broker = event.what is Kind.BROKER_OUTAGE
        for number in range(event.times):
            at = event.at + number * event.every
            plan(at, world.stop_broker if broker else world.stop_daemon)
            plan(at + _draw(event, random), world.start_broker if broker else world.start_daemon)
        return
    if event.what is Kind.SITE_OUTAGE:
        _plan_sites(event, world, random)
        return
    for begins, screens in _beginnings(event, world.screens, lasts, random):
        for screen in screens:
            at = begins + random.uniform(0, event.within)
            if event.what is Kind.CLOCK_STEP:
                plan(at, _step_clock, world, screen, event.seconds)
                continue
            length = None if event.lasts is None else random.uniform(*event.lasts)
            plan(at, _befall, world, screen, event, length)


def _plan_sites(event: Event, world: World, random: Random) -> None:
    for number in range(event.times):
        names = sorted(world.sites)
        for name in random.sample(names, min(event.sites or 0, len(names))):
            at = event.at + number * event.every + random.uniform(0, event.within)
            until = at + _draw(event, random)
            for screen in world.sites[name]:
                world.timeline.plan(at, world.cut, screen)
                world.timeline.plan(until, world.mend, screen)


def _beginnings(
    event: Event, screens: list[Screen], lasts: float, random: Random
) -> Iterable[tuple[float, list[Screen]]]:
    """Return when the event begins and for whom."""
    if event.per_year is not None:
        # How often it befalls the whole fleet is a Poisson process; whom, is all the same.
        rate = event.per_year * len(screens) / YEAR
        at = event.at + random.expovariate(rate)
        while at < lasts:
            yield at, [random.choice(screens)]
            at += random.expovariate(rate)
        return
    if event.share is not None:
        number = max(1, round(event.share * len(screens))) if event.share else 0
    else:
        number = min(event.clients or 0, len(screens))
    chosen = random.sample(screens, number)
    for time in range(event.times):
        if time and not event.same:
            chosen = random.sample(screens, number)
        yield event.at + time * event.every, chosen


def _draw(event: Event, random: Random) -> float:
    return math.inf if event.lasts is None else random.uniform(*event.lasts)


def _step_clock(world: World, screen: Screen, seconds: float) -> None:
    world.watch(screen)
    screen.skew += seconds


def _befall(world: World, screen: Screen, event: Event, length: float | None) -> None:
    began = world.timeline.now
    fault = Fault(
        kind=event.what,
        began=began,
        heals_at=None if length is None else began + length,
        cured_by=event.cured_by or CURES.get(event.what, Rung.HUMAN),
        again_after=event.again_after,
    )
    world.befall(screen, fault)
