"""Devices that are odd: two under one name, unreadable messages, bursts, people at work, the removed."""

from collections.abc import Callable, Mapping
from random import Random

from benchmarks.families.case import Case, Wanted, fleet_world, singles
from infoscreen.simulator.worlds import Device
from infoscreen.simulator.worlds.world import some

HOUR = 3_600.0


def duplicates(random: Random, size: int) -> Case:
    """Cloned cards: two devices beat under one identity, one of them says crashed now and then."""
    world = fleet_world(random, size)

    def clone_beats(device: Device, ill: bool) -> None:
        said = {
            "timestamp": world.stamp(world.now),
            "process_status": "crashed" if ill else "running",
            "process_pid": 77,
            "boot_id": f"clone-of-{device.uuid[:8]}",
            "booted_at": world.stamp(100.0),
            "hostname": "clone",
            "ip": "10.99.0.1",
        }
        world.say(device, "heartbeat", said)
        world.later(device.interval * random.uniform(0.98, 1.02), clone_beats, device, ill)

    twins = some(random, world.devices, 4)
    for device in twins:
        world.at(random.uniform(1_200, 1_800), clone_beats, device, random.random() < 0.5)
    rest = [device for device in world.devices if device not in twins]
    singles(world, random, 1_500, 5_000, 4, 2, 2, rest)
    return Case("", 0, world, 2.5 * HOUR, Wanted())


def unreadable(random: Random, size: int) -> Case:
    """After an update some devices send what cannot be read; they are there all the same."""
    world = fleet_world(random, size)
    many = random.choice((3, size // 10, size // 2))
    broken = some(random, world.devices, many)

    def breaks(device: Device) -> None:
        device.removed = True  # says nothing readable any more
        garbles(device)

    def garbles(device: Device) -> None:
        body = random.choice(("{", '{"timestamp": 7}', '{"process_status":"running"}', "\x00\x01", "[]"))
        device.removed = False
        world.say(device, "heartbeat", body)
        device.removed = True
        world.later(device.interval, garbles, device)

    for device in broken:
        world.at(random.uniform(1_500, 1_800), breaks, device)
    rest = [device for device in world.devices if device not in broken]
    singles(world, random, 1_500, 5_000, 4, 2, 0, rest)
    return Case("", 0, world, 2.5 * HOUR, Wanted())


def odd_fields(random: Random, size: int) -> Case:
    """Heartbeats with one odd optional field; nothing is wrong with the devices."""
    world = fleet_world(random, size)
    odd = ('"process_status":"idle"', '"process_pid":1284.0', '"app_started_at":""', '"ip":["10.0.0.1"]')

    def beat(device: Device, what: str) -> None:
        device.said = what + "}"
        world.later(1.0, beat, device, what)

    for device in some(random, world.devices, size // 3):
        world.at(random.uniform(900, 1_800), beat, device, random.choice(odd))
    return Case("", 0, world, 1.5 * HOUR, Wanted(actions=0, causes=0))


def bursts(random: Random, size: int) -> Case:
    """Some devices hold their heartbeats back and send them in bursts."""
    world = fleet_world(random, size, intervals=(10.0, 30.0))
    world.bursting = {
        device.number: random.uniform(60, 150) for device in some(random, world.devices, size // 5)
    }
    return Case("", 0, world, 3 * HOUR, Wanted(actions=0))


def people(random: Random, size: int) -> Case:
    """Operators reboot whole sites and shut devices down; that is no outage and no fault."""
    world = fleet_world(random, size, site_size=20)
    members = [device for device in world.devices if device.site == "site-0"]
    for device in members:
        at = 1_800 + random.uniform(0, 30)
        world.at(at, lambda uuid: world.tell("request", uuid=uuid, action="reboot_host"), device.uuid)
    off = some(random, [device for device in world.devices if device not in members], 4)
    for device in off:
        world.at(2_400, lambda uuid: world.tell("request", uuid=uuid, action="shutdown_host"), device.uuid)
    rest = [device for device in world.devices if device not in members and device not in off]
    singles(world, random, 1_500, 5_000, 4, 2, 2, rest)
    return Case("", 0, world, 3 * HOUR, Wanted(causes=0))


def removed_for_good(random: Random, size: int) -> Case:
    """A site is given up: its devices never come back; nobody tells us."""
    world = fleet_world(random, size, site_size=15)
    gone = [device for device in world.devices if device.site == "site-1"]
    for device in gone:
        world.at(1_800 + random.uniform(0, 600), world.go_down, device)
    rest = [device for device in world.devices if device not in gone]
    singles(world, random, 1_500, 5_500, 4, 2, 2, rest)
    return Case("", 0, world, 2.7 * HOUR, Wanted(causes=2))


FAMILIES: Mapping[str, Callable[[Random, int], Case]] = {
    "duplicates": duplicates,
    "unreadable": unreadable,
    "odd-fields": odd_fields,
    "bursts": bursts,
    "people-at-work": people,
    "removed-for-good": removed_for_good,
}
