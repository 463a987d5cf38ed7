"""Silence in common: networks, sites, power; sudden, staggered, flapping, partial, planned."""

from collections.abc import Callable, Mapping
from random import Random

from benchmarks.families.case import Case, Wanted, fleet_world, outage, shared, singles
from infoscreen.simulator.worlds import Device, World
from infoscreen.simulator.worlds.world import some

HOUR = 3_600.0
RHYTHMS = ((30.0,), (10.0, 60.0), (10.0, 30.0, 60.0, 120.0))


def _rest(world: World, hit: list[Device]) -> list[Device]:
    numbers = {device.number for device in hit}
    return [device for device in world.devices if device.number not in numbers]


def partial(random: Random, size: int) -> Case:
    """A share of a fleet without sites is cut off, suddenly or staggered; single faults in the rest."""
    world = fleet_world(
        random, size, intervals=random.choice(RHYTHMS), keepalives=random.choice(((60.0,), (15.0, 300.0)))
    )
    share = random.choice((0.02, 0.05, 0.1, 0.25, 0.45, 0.54, 0.6, 0.9, 1.0))
    hit = some(random, world.devices, max(8, int(size * share)))
    begin, lasts = random.uniform(1_500, 2_500), random.choice((180.0, 900.0, HOUR))
    within = random.choice((0.0, 10.0, 60.0))
    outage(world, hit, begin, lasts, within, random, "cut")
    rest = _rest(world, hit)
    if len(rest) > 20:
        singles(world, random, begin - 300, begin + lasts + 600, 4, 2, 0, rest)
    return Case("", 0, world, begin + lasts + HOUR, Wanted(causes=1))


def staggered(random: Random, size: int) -> Case:
    """The network fails one client after the other, over many minutes."""
    world = fleet_world(random, size, intervals=random.choice(RHYTHMS))
    hit = some(random, world.devices, int(size * random.choice((0.3, 0.6, 0.9))))
    outage(world, hit, 1_500, random.choice((1_200.0, HOUR)), random.uniform(120, 1_200), random, "cut")
    singles(world, random, 1_500, 4_000, 4, 2, 0, _rest(world, hit))
    return Case("", 0, world, 1_500 + 1_200 + 2.2 * HOUR, Wanted(causes=2))


def flapping(random: Random, size: int) -> Case:
    """A share of the fleet is away for some minutes again and again."""
    world = fleet_world(random, size, intervals=(10.0, 30.0, 60.0))
    hit = some(random, world.devices, int(size * random.choice((0.1, 0.3, 0.5, 0.9))))
    every = random.uniform(420, 900)
    for round_ in range(8):
        lasts = random.uniform(100, every - 200)
        outage(world, hit, 1_500 + round_ * every, lasts, random.choice((5.0, 40.0)), random, "flap")
    singles(world, random, 2_000, 6_000, 4, 2, 0, _rest(world, hit))
    return Case("", 0, world, 1_500 + 8 * every + HOUR, Wanted())


def sites(random: Random, size: int) -> Case:
    """Some whole sites go dark, for minutes to hours; singles elsewhere and at the sites' own time."""
    world = fleet_world(
        random,
        size,
        intervals=(10.0, 30.0, 60.0),
        keepalives=(60.0, 300.0),
        site_size=random.choice((5, 10, 25)),
    )
    names = sorted({device.site or "" for device in world.devices})
    dark = random.sample(names, max(1, len(names) // random.choice((4, 8, 16))))
    hit: list[Device] = []
    for name in dark:
        members = [device for device in world.devices if device.site == name]
        begin, lasts = random.uniform(1_500, HOUR), random.choice((300.0, 1_800.0, HOUR))
        outage(world, members, begin, lasts, random.choice((0.0, 20.0)), random, name)
        hit += members
    singles(world, random, 1_500, 1.5 * HOUR, 5, 2, 0, _rest(world, hit))
    return Case("", 0, world, 3.2 * HOUR, Wanted(causes=len(dark)))


def partly_dark_site(random: Random, size: int) -> Case:
    """One switch of a site: some of its clients are cut off, others are not."""
    world = fleet_world(random, size, site_size=30)
    members = [device for device in world.devices if device.site == "site-1"]
    hit = some(random, members, random.randint(6, 24))
    outage(world, hit, 1_800, random.choice((600.0, HOUR)), 10, random, "switch")
    singles(world, random, 1_500, 1.2 * HOUR, 5, 2, 0, _rest(world, hit))
    return Case("", 0, world, 2.7 * HOUR, Wanted(causes=1))


def regional(random: Random, size: int) -> Case:
    """A regional power cut: a third of many sites with two clients each; they boot when it is back."""
    world = fleet_world(random, size, site_size=2)
    names = sorted({device.site or "" for device in world.devices})
    dark = set(random.sample(names, len(names) // 3))
    hit = [device for device in world.devices if device.site in dark]
    lasts = random.choice((600.0, HOUR))
    for device in hit:
        device.says_crashed_at_boot = random.choice((0.0, 25.0))
        world.at(
            1_800 + random.uniform(0, 5),
            shared,
            world,
            device,
            "dead",
            "power",
            lasts + random.uniform(0, 60),
            "human",
        )
    singles(world, random, 1_500, 1.2 * HOUR, 4, 2, 0, _rest(world, hit))
    return Case("", 0, world, 1_800 + lasts + 1.2 * HOUR, Wanted(causes=1))


def power_back(random: Random, size: int) -> Case:
    """All power goes and comes back; each client says crashed while it boots, for up to two minutes."""
    world = fleet_world(random, size, intervals=(10.0, 30.0))
    said = random.choice((25.0, 60.0, 120.0))
    for device in world.devices:
        device.says_crashed_at_boot = said * random.uniform(0.7, 1.2)
        device.boot_seconds = random.uniform(20, 200)
        world.at(1_800, shared, world, device, "dead", "power", random.uniform(580, 620), "human")
    return Case("", 0, world, 2 * HOUR, Wanted(causes=1, actions=0))


def networks_nobody_configured(random: Random, size: int) -> Case:
    """A /24 goes dark; no site says that its clients belong together."""
    world = fleet_world(random, size)
    dark = random.sample(range(max(1, size // 64)), max(1, size // 640))
    hit = [device for device in world.devices if device.number // 64 in dark]
    outage(world, hit, 1_800, random.choice((300.0, HOUR)), 15, random, "network")
    singles(world, random, 1_500, HOUR, 4, 2, 0, _rest(world, hit))
    return Case("", 0, world, 3 * HOUR, Wanted(causes=len(dark)))


def nightly(random: Random, size: int) -> Case:
    """Every client reboots of its own accord in the same minutes, and takes one to fifteen minutes."""
    world = fleet_world(random, size, intervals=(10.0, 30.0, 60.0))
    within = random.choice((5.0, 120.0, 600.0))
    for device in world.devices:
        kind = random.choice(("dead", "off"))
        at = 1_800 + random.uniform(0, within)
        world.at(at, shared, world, device, kind, "nightly", random.uniform(60, 840), "human")
    return Case("", 0, world, 2 * HOUR, Wanted(actions=0, causes=1))


def trickling_updates(random: Random, size: int) -> Case:
    """Clients reboot for updates one after the other, for hours; each is away for one to fourteen minutes."""
    world = fleet_world(random, size, intervals=(30.0, 60.0))
    for device in some(random, world.devices, size // 4):
        at = random.uniform(1_500, 2 * HOUR)
        world.at(at, shared, world, device, "off", "updates", random.uniform(60, 840), "human")
    return Case("", 0, world, 2.7 * HOUR, Wanted(actions=0))


def timers(random: Random, size: int) -> Case:
    """Timers switch whole sites off for a night of hours."""
    world = fleet_world(random, size, site_size=random.choice((4, 20)))
    for device in world.devices:
        if int((device.site or "0-0").split("-")[1]) % 3:
            continue
        at = 1_800 + random.uniform(0, 3)
        world.at(at, shared, world, device, "dead", "timer", 2 * HOUR + random.uniform(0, 30), "human")
    singles(
        world,
        random,
        2_400,
        2 * HOUR,
        4,
        2,
        0,
        [d for d in world.devices if int((d.site or "").split("-")[1]) % 3],
    )
    return Case("", 0, world, 3.2 * HOUR, Wanted())


def outage_with_the_dead(random: Random, size: int) -> Case:
    """A site comes back from an outage, but for one that died in it."""
    world = fleet_world(random, size, site_size=20)
    members = [device for device in world.devices if device.site == "site-0"]
    outage(world, members, 1_800, HOUR, 5, random, "cut")
    lost = random.choice(members)
    world.at(2_400, lambda: world.go_down(lost, orderly=False))
    return Case("", 0, world, 2.7 * HOUR, Wanted(causes=2))


FAMILIES: Mapping[str, Callable[[Random, int], Case]] = {
    "partial-outage": partial,
    "staggered-outage": staggered,
    "flapping-outage": flapping,
    "dark-sites": sites,
    "partly-dark-site": partly_dark_site,
    "regional-power-cut": regional,
    "power-back": power_back,
    "dark-network": networks_nobody_configured,
    "nightly-reboots": nightly,
    "trickling-updates": trickling_updates,
    "timers": timers,
    "outage-with-the-dead": outage_with_the_dead,
}
