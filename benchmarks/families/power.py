"""Outlets: hosts that only a power cycle brings back, and outlets that cannot or must not be switched."""

from collections.abc import Callable, Mapping
from random import Random

from benchmarks.families.case import Case, Wanted, fleet_world, own, shared, singles
from infoscreen.simulator.worlds import Device, World
from infoscreen.simulator.worlds.world import some

HOUR = 3_600.0


def _die(world: World, random: Random, devices: list[Device], begin: float, end: float) -> None:
    """Plan that devices fall silent, each for itself: gone, or connected and deaf."""
    for device in devices:
        kind = random.choice(("dead", "dead", "deaf"))
        world.at(random.uniform(begin, end), own, world, device, kind, "power_cycle")


def outlets(random: Random, size: int) -> Case:
    """Every client has an outlet of its own; some hang beyond what a command can reach, others crash."""
    world = fleet_world(random, size, power=True)
    dead = some(random, world.devices, 4)
    _die(world, random, dead, 1_200, 1.5 * HOUR)
    singles(world, random, 1_200, HOUR, 3, 2, 2, [one for one in world.devices if one not in dead])
    return Case("", 0, world, 3.5 * HOUR, Wanted(causes=0, late=60.0))


def lying(random: Random, size: int) -> Case:
    """The outlets of those that hang say ON whatever they are told."""
    world = fleet_world(random, size, power={"answers": "lies"})
    dead = some(random, world.devices, 3)
    _die(world, random, dead, 1_200, HOUR)
    return Case("", 0, world, 3 * HOUR, Wanted(causes=3, cured=False))


def pdu_down(random: Random, size: int) -> Case:
    """A site loses its power and its PDU with it; single clients elsewhere hang."""
    world = fleet_world(random, size, site_size=max(8, size // 4), power=True)
    lasts = random.choice((900.0, HOUR))
    for device in world.devices:
        if device.site == "site-0":
            device.power = {"answers": "no"}
            world.at(1_800 + random.uniform(0, 5), shared, world, device, "dead", "power", lasts, "human")
    others = [device for device in world.devices if device.site != "site-0"]
    _die(world, random, some(random, others, 2), 1_200, HOUR)
    return Case("", 0, world, 3.5 * HOUR, Wanted(causes=1))


def back_by_themselves(random: Random, size: int) -> Case:
    """Clients with outlets are cut off for a while, each for itself, and come back."""
    world = fleet_world(random, size, power=True)
    for device in some(random, world.devices, 6):
        lasts = random.uniform(100, 800)
        world.at(random.uniform(1_200, 2 * HOUR), shared, world, device, "network", "blip", lasts, "human")
    return Case("", 0, world, 3 * HOUR, Wanted(causes=0, actions=0))


def in_pairs(random: Random, size: int) -> Case:
    """Two clients at each outlet: it is switched only when both of them are silent."""
    world = fleet_world(random, size)
    for device in world.devices:
        device.power = {"outlet": f"pair-{device.number // 2}"}
    one, both = random.sample(range(size // 2), 2)
    _die(world, random, [world.devices[2 * one]], 1_200, 1_800)
    at = random.uniform(6_000, 7_000)  # more of them in an hour would be an outage
    for device in world.devices[2 * both : 2 * both + 2]:
        world.at(at + random.uniform(0, 400), own, world, device, "dead", "power_cycle")
    # Protected, so that the score asks nothing of it.
    world.devices[2 * one].power = {"outlet": f"pair-{one}", "protected": True}
    return Case("", 0, world, 4 * HOUR, Wanted(causes=1, actions=3))


def power_cut(random: Random, size: int) -> Case:
    """The power of half the fleet fails for a while; the outlets would answer, and are left alone."""
    world = fleet_world(random, size, power=True)
    lasts = random.choice((1_200.0, HOUR))
    for device in some(random, world.devices, size // 2):
        world.at(1_800 + random.uniform(0, 10), shared, world, device, "dead", "power", lasts, "human")
    return Case("", 0, world, 3 * HOUR, Wanted(causes=1, actions=0))


FAMILIES: Mapping[str, Callable[[Random, int], Case]] = {
    "outlets": outlets,
    "outlets-that-lie": lying,
    "pdu-down-with-its-site": pdu_down,
    "outlets-not-needed": back_by_themselves,
    "outlets-in-pairs": in_pairs,
    "outlets-in-a-power-cut": power_cut,
}
