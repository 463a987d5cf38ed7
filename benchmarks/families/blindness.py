"""Our own blindness: broker, publisher, daemon, the host's clock; and voices that do not carry."""

from collections.abc import Callable, Mapping
from random import Random

from benchmarks.families.case import Case, Wanted, fleet_world, shared, singles
from infoscreen.simulator.worlds.world import some

HOUR = 3_600.0


def broker_away(random: Random, size: int) -> Case:
    """The broker is gone for seconds to an hour; everybody reconnects in their own time."""
    world = fleet_world(random, size, intervals=(10.0, 30.0, 60.0))
    world.reconnects_within = random.choice((10.0, 120.0, 300.0))
    for at in random.sample(range(1_500, 6_500, 1_500), random.randint(1, 3)):
        world.at(at, world.stop_broker)
        world.at(at + random.choice((5.0, 40.0, 600.0)), world.start_broker)
    singles(world, random, 1_500, 6_500, 5, 2, 0)
    return Case("", 0, world, 2.8 * HOUR, Wanted())


def connection_lost(random: Random, size: int) -> Case:
    """Only our own connections are lost, or the daemon is restarted, at any moment of a recovery."""
    world = fleet_world(random, size)
    for _ in range(4):
        at = random.uniform(1_500, 6_000)
        kind = random.choice(("broker", "publisher", "daemon"))
        world.at(at, lambda kind: world.line(kind, up=False), kind)
        world.at(at + random.choice((2.0, 60.0, 400.0)), lambda kind: world.line(kind, up=True), kind)
    singles(world, random, 1_500, 6_000, 5, 2, 2)
    # How long a blindness holds back is the rules' own business; that all are cured in the end is not.
    return Case("", 0, world, 2.7 * HOUR, Wanted(late=900.0))


def host_clock(random: Random, size: int) -> Case:
    """The host's clock is set, back or forward, by seconds to a day, at any moment."""
    world = fleet_world(random, size)
    for _ in range(random.randint(1, 3)):
        step = random.choice((-86_400, -21_600, -3_600, -60, 60, 3_600, 86_400))
        world.at(random.uniform(30, 5_000), lambda step: world.tell("clock", step_seconds=step), step)
    singles(world, random, 1_500, 5_500, 5, 2, 3)
    return Case("", 0, world, 2.7 * HOUR, Wanted(late=420.0))


def device_clocks(random: Random, size: int) -> Case:
    """Devices' clocks are wrong by anything."""
    world = fleet_world(random, size)
    for device in world.devices:
        device.skew = random.choice(
            (0.0, 3_600.0, -3_600.0, 86_400.0 * 400, -86_400.0 * 400, random.uniform(-9e4, 9e4))
        )
    singles(world, random, 1_500, 6_000, 5, 3, 3)
    return Case("", 0, world, 3 * HOUR, Wanted(causes=0))


def unanswered(random: Random, size: int) -> Case:
    """Commands reach nobody (an ACL, a wrong topic): many crash, no command is ever answered."""
    world = fleet_world(random, size)
    world.mute_commands = True
    for device in some(random, world.devices, size // 10):
        world.at(random.uniform(1_500, 2_400), shared, world, device, "crash", "mute", None, "restart_app")
    return Case("", 0, world, 3 * HOUR, Wanted(cured=False, actions=16, causes=1))


def refusing(random: Random, size: int) -> Case:
    """Some devices refuse every command: a wrong clock, a dry run, not able to."""
    world = fleet_world(random, size)
    refusers = some(random, world.devices, 4)
    for device in refusers:
        device.refuses = random.choice(("expired", "busy", "unsupported", "dry_run"))
        world.at(random.uniform(1_500, 3_000), shared, world, device, "crash", "refuses", None, "restart_app")
    rest = [device for device in world.devices if device not in refusers]
    singles(world, random, 1_500, 6_000, 5, 2, 2, rest)
    return Case("", 0, world, 3 * HOUR, Wanted(cured=False, causes=4))


FAMILIES: Mapping[str, Callable[[Random, int], Case]] = {
    "broker-away": broker_away,
    "connection-lost": connection_lost,
    "host-clock": host_clock,
    "device-clocks": device_clocks,
    "commands-unanswered": unanswered,
    "refusing-devices": refusing,
}
