"""Makes a world of a scenario: the fleet, and what happens to it when."""

import math
from collections.abc import Callable, Iterable
from random import Random
from uuid import UUID

from infoscreen.simulator.scenarios import Event, FleetTable, Scenario, ScenarioEventKind
from infoscreen.simulator.scenarios.scenario import CURES
from infoscreen.simulator.worlds.device import Device, Fault
from infoscreen.simulator.worlds.world import Terms, World

YEAR = 365 * 86_400.0
SHOWN_AS = {ScenarioEventKind.SELF_REBOOT: "off"}


def world_of(scenario: Scenario, clients: int | None, seed: str, terms: Terms | None = None) -> World:
    """Return the scenario's world; the same arguments make the same."""
    devices = make_fleet(scenario.fleet, clients or scenario.clients, Random(f"{seed} fleet"))
    world = World(devices, f"{seed} course", terms)
    world.reconnects_within = scenario.fleet.reconnects_within
    fate = Random(f"{seed} fate")
    for event in scenario.event:
        _plan(event, world, scenario.lasts, fate)
    return world


def make_fleet(fleet: FleetTable, size: int, random: Random) -> list[Device]:
    """Return the devices, the kinds of them in no order."""
    rhythms = [rhythm.every for rhythm in fleet.heartbeat]
    shares = [rhythm.share for rhythm in fleet.heartbeat]
    return [
        Device(
            number=number,
            uuid=str(UUID(int=random.getrandbits(128), version=4)),
            interval=random.choices(rhythms, shares)[0],
            jitter=fleet.jitter,
            lost=fleet.lost,
            keepalive=fleet.keepalive,
            skew=random.uniform(-fleet.skew, fleet.skew),
            site=f"site-{number % fleet.sites}" if fleet.sites else None,
            persistent=random.random() < fleet.persistent_sessions,
            start_seconds=random.uniform(*fleet.app_start),
            boot_seconds=random.uniform(*fleet.boot),
        )
        for number in range(size)
    ]


def _plan(event: Event, world: World, lasts: float, random: Random) -> None:
    if event.what in (ScenarioEventKind.BROKER_OUTAGE, ScenarioEventKind.DAEMON_OUTAGE):
        for begin in _begins(event):
            end = begin + _duration(event, random)
            if event.what is ScenarioEventKind.BROKER_OUTAGE:
                world.at(begin, world.stop_broker)
                world.at(end, world.start_broker)
            else:
                world.at(begin, _daemon, world, False)
                world.at(end, _daemon, world, True)
        return
    happen = _clock_step if event.what is ScenarioEventKind.CLOCK_STEP else _strike
    if event.per_year is not None:
        for device in world.devices:
            at = event.at + random.expovariate(event.per_year / YEAR)
            while at < lasts:
                world.at(at, happen, world, device, event, _duration(event, random))
                at += random.expovariate(event.per_year / YEAR)
        return
    chosen = _chosen(event, world, random)
    for number, begin in enumerate(_begins(event)):
        if number and not event.same:
            chosen = _chosen(event, world, random)
        _at_once(event, world, chosen, begin, random, happen)


def _at_once(
    event: Event,
    world: World,
    chosen: Iterable[list[Device]],
    begin: float,
    random: Random,
    happen: Callable[..., None],
) -> None:
    """Let it happen to each group at one time, and for as long."""
    for group in chosen:
        at, lasts = begin + random.uniform(0, event.within), _duration(event, random)
        for device in group:
            world.at(at, happen, world, device, event, lasts)


def _chosen(event: Event, world: World, random: Random) -> list[list[Device]]:
    """Return groups that share their fate: whole sites, or single devices."""
    if event.what is ScenarioEventKind.SITE_OUTAGE:
        sites = sorted({device.site for device in world.devices if device.site is not None})
        dark = random.sample(sites, min(event.sites or 0, len(sites)))
        return [[device for device in world.devices if device.site == site] for site in dark]
    size = len(world.devices)
    many = event.clients if event.clients is not None else math.ceil((event.share or 0) * size)
    return [[device] for device in random.sample(world.devices, min(many, size))]


def _begins(event: Event) -> list[float]:
    return [event.at + number * event.every for number in range(event.times)]


def _duration(event: Event, random: Random) -> float:
    return math.inf if event.lasts is None else random.uniform(*event.lasts)


def _daemon(world: World, up: bool) -> None:
    world.line("daemon", up=up)


def _clock_step(world: World, device: Device, event: Event, lasts: float) -> None:
    device.skew += event.seconds
    device.said = None


def _strike(world: World, device: Device, event: Event, lasts: float) -> None:
    cure = event.cured_by or CURES.get(event.what, "nothing")
    kind = (
        "network"
        if event.what is ScenarioEventKind.SITE_OUTAGE
        else SHOWN_AS.get(event.what, event.what.value)
    )
    world.strike(
        device,
        Fault(
            kind,
            world.now,
            "human" if cure == "nothing" else cure,
            None if math.isinf(lasts) else world.now + lasts,
            again_after=event.again_after,
            cause=event.what.value if event.what is ScenarioEventKind.SITE_OUTAGE else None,
        ),
    )
