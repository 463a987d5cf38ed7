"""Faults of devices' own, and mass faults that devices report themselves."""

from collections.abc import Callable, Mapping
from random import Random

from benchmarks.families.case import Case, Wanted, fleet_world, own, shared, singles
from infoscreen.simulator.worlds import Device
from infoscreen.simulator.worlds.world import some

HOUR = 3_600.0


def single_faults(random: Random, size: int) -> Case:
    """Crashes, failed services and hangs, each for itself."""
    world = fleet_world(random, size)
    singles(world, random, 1_200, 2 * HOUR, 6, 3, 4)
    return Case("", 0, world, 3 * HOUR, Wanted(causes=0))


def any_rhythm(random: Random, size: int) -> Case:
    """The same with every rhythm, jitter, keepalive and some loss."""
    world = fleet_world(
        random,
        size,
        intervals=(5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
        keepalives=(15.0, 60.0, 300.0, 600.0),
    )
    for device in world.devices:
        device.jitter, device.lost = random.uniform(0, 0.3), random.choice((0, 0, 0.005))
        device.announces = random.random() < 0.7
    singles(world, random, 1.2 * HOUR, 2.5 * HOUR, 5, 2, 3)
    return Case("", 0, world, 4 * HOUR, Wanted(late=60.0))


def slow_and_lossy(random: Random, size: int) -> Case:
    """Beats every 120 s or slower with 30 % jitter and 1 % loss; nothing is wrong with anybody."""
    world = fleet_world(random, size, intervals=(120.0, 180.0, 300.0), jitter=0.3, lost=0.01)
    return Case("", 0, world, 6 * HOUR, Wanted(causes=0, actions=0))


def lossy(random: Random, size: int) -> Case:
    """Fast beats, a twentieth of them lost."""
    world = fleet_world(random, size, intervals=(10.0, 30.0, 60.0), jitter=0.2, lost=0.05)
    return Case("", 0, world, 3 * HOUR, Wanted(actions=0))


def hard_cases(random: Random, size: int) -> Case:
    """Crashes that a reboot cures, that nobody cures, and hosts that hear nothing."""
    world = fleet_world(random, size)
    chosen = iter(some(random, world.devices, 9))
    for cure, kind in (
        [("reboot_host", "crash")] * 4 + [("human", "crash")] * 2 + [("power_cycle", "deaf")] * 2
    ):
        more = {"again_after": random.uniform(2, 50)}
        world.at(
            random.uniform(1_200, 3_000),
            lambda d, k, c, m: own(world, d, k, c, **m),
            next(chosen),
            kind,
            cure,
            more,
        )
    return Case("", 0, world, 2.7 * HOUR, Wanted(late=30.0, causes=4, actions=4 * 3 + 2 * 3 + 2 * 2))


def loopers(random: Random, size: int) -> Case:
    """A share of the fleet crashes every few minutes and starts again by itself; single crashes beside."""
    world = fleet_world(random, size, intervals=(10.0, 30.0))
    looping = some(random, world.devices, max(3, int(size * random.choice((0.01, 0.05, 0.2, 0.5)))))
    every, crashed = random.choice((60.0, 300.0, 900.0, 3_600.0)), random.uniform(5, 40)

    def crash(device: Device) -> None:
        shared(world, device, "crash", "loop", crashed, "human")
        world.later(every * random.uniform(0.9, 1.1) + crashed, crash, device)

    for device in looping:
        world.at(1_200 + random.uniform(0, every), crash, device)
    rest = [device for device in world.devices if device not in looping]
    singles(world, random, 1_800, 2 * HOUR, 5, 2, 2, rest)
    return Case("", 0, world, 3 * HOUR, Wanted())


def update(random: Random, size: int) -> Case:
    """An update: each client says crashed or stopped for some seconds, once within an hour."""
    world = fleet_world(random, size, intervals=(10.0, 30.0, 60.0, 120.0))
    for device in world.devices:
        begin = 1_500 + random.uniform(0, random.choice((60.0, 600.0, HOUR)))
        kind = random.choice(("crash", "stopped"))
        world.at(begin, shared, world, device, kind, "update", random.uniform(10, 55), "human")
    return Case("", 0, world, 2 * HOUR, Wanted(actions=0))


def mass_cured(random: Random, size: int) -> Case:
    """Much of the fleet crashes within a minute; a restart cures."""
    world = fleet_world(random, size, site_size=random.choice((0, 20)))
    ill = some(random, world.devices, int(size * random.choice((0.05, 0.3, 0.9, 1.0))))
    within = random.choice((5.0, 60.0))
    for device in ill:
        world.at(
            1_500 + random.uniform(0, within), shared, world, device, "crash", "mass", None, "restart_app"
        )
    return Case("", 0, world, 2 * HOUR, Wanted(over_within=960))


def mass_hopeless(random: Random, size: int) -> Case:
    """Much of the fleet crashes and nothing helps; singles of other kinds beside."""
    world = fleet_world(random, size)
    ill = some(random, world.devices, int(size * random.choice((0.1, 0.5, 0.9))))
    for device in ill:
        world.at(1_500 + random.uniform(0, 120), shared, world, device, "crash", "mass", None, "human")
    rest = [device for device in world.devices if device not in ill]
    singles(world, random, HOUR, 2 * HOUR, 0, 0, 3, rest)
    # Too few for a wave to be stopped climb the ladder to its end, each for itself.
    hours, few = 3, len(ill) <= 10
    most = 3 * len(ill) if few else 10 + hours
    return Case("", 0, world, hours * HOUR, Wanted(actions=most + 3, causes=len(ill) if few else 1))


def mass_cured_outside(random: Random, size: int) -> Case:
    """Much of the fleet crashes, nothing helps, and an hour later it is put right from outside."""
    world = fleet_world(random, size)
    ill = some(random, world.devices, int(size * 0.6))
    for device in ill:
        at = 1_500 + random.uniform(0, 120)
        world.at(at, shared, world, device, "crash", "mass", HOUR + random.uniform(0, 300), "human")
    # What passes by itself an hour later is not called needless: nobody can know.
    return Case("", 0, world, 2.5 * HOUR, Wanted(needless=13, actions=13, causes=1))


def dead_beside(random: Random, size: int) -> Case:
    """Some hosts die for good, one after the other; single crashes at the same time are cured as usual."""
    world = fleet_world(random, size)
    dead = some(random, world.devices, max(2, size // 50))
    for device in dead:
        world.at(random.uniform(900, 1.2 * HOUR), own, world, device, "dead", "human")
    rest = [device for device in world.devices if device not in dead]
    singles(world, random, 1_800, 1.3 * HOUR, 5, 2, 2, rest)
    return Case("", 0, world, 2.5 * HOUR, Wanted(causes=len(dead)))


def slow_boots(random: Random, size: int) -> Case:
    """Hangs whose reboot takes up to fourteen minutes."""
    world = fleet_world(random, size)
    for device in world.devices:
        device.boot_seconds = random.uniform(60, 840)
    singles(world, random, 1_200, HOUR, 1, 1, 5)
    return Case("", 0, world, 3 * HOUR, Wanted(causes=0))


FAMILIES: Mapping[str, Callable[[Random, int], Case]] = {
    "single-faults": single_faults,
    "any-rhythm": any_rhythm,
    "slow-and-lossy": slow_and_lossy,
    "lossy": lossy,
    "hard-cases": hard_cases,
    "crash-loops": loopers,
    "update": update,
    "mass-crash-cured": mass_cured,
    "mass-crash-hopeless": mass_hopeless,
    "mass-crash-cured-outside": mass_cured_outside,
    "dead-hosts": dead_beside,
    "slow-boots": slow_boots,
}
