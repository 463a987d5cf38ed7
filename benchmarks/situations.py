"""Plays the situations that this edition of the recovery was made for, and says what happened.

``python -m benchmarks.situations [NAME...] [--write]`` puts the lines into docs/recovery.md.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from random import Random

from benchmarks.families.case import fleet_world, outage, own, shared
from benchmarks.scenarios import DOCUMENT
from infoscreen.judge.playing import play
from infoscreen.simulator.worlds import Device, World
from infoscreen.simulator.worlds.world import some

HOUR = 3_600.0
HEADINGS = ("situation", "wanted", "measured")
BEGIN, END = "<!-- situations -->\n", "<!-- end of situations -->"

Made = tuple[World, float]


def _crashes(world: World, random: Random, begin: float, end: float, among: Sequence[Device]) -> None:
    for device in some(random, among, 10):
        world.at(random.uniform(begin, end), own, world, device, "crash", "restart_app")


def _outage(share: float) -> Callable[[Random], Made]:
    def make(random: Random) -> Made:
        world = fleet_world(random, 1_000)
        hit = some(random, world.devices, int(share * 1_000))
        outage(world, hit, 1_800, 2 * HOUR, 20, random, "cut")
        rest = [device for device in world.devices if device not in hit]
        _crashes(world, random, 1_800, 2.2 * HOUR, rest)
        return world, 3.2 * HOUR

    return make


def _regional(random: Random) -> Made:
    world = fleet_world(random, 200, site_size=2)
    dark = set(random.sample(sorted({device.site or "" for device in world.devices}), 33))
    for device in world.devices:
        if device.site in dark:
            at = 1_800 + random.uniform(0, 5)
            world.at(at, shared, world, device, "dead", "power", 2 * HOUR + random.uniform(0, 60), "human")
    rest = [device for device in world.devices if device.site not in dark]
    _crashes(world, random, 1_800, 2.2 * HOUR, rest)
    return world, 3.2 * HOUR


def _slow(random: Random) -> Made:
    return fleet_world(random, 300, intervals=(120.0,), jitter=0.3, lost=0.01), 12 * HOUR


def _update(random: Random) -> Made:
    world = fleet_world(random, 300, intervals=(10.0, 30.0, 60.0, 120.0))
    for device in world.devices:
        world.at(1_800 + random.uniform(0, HOUR), shared, world, device, "crash", "update", 40.0, "human")
    return world, 2 * HOUR


def _power_back(random: Random) -> Made:
    world = fleet_world(random, 1_000, says_crashed_at_boot=25.0)
    for device in world.devices:
        world.at(1_800, shared, world, device, "dead", "power", 600 + random.uniform(0, 20), "human")
    return world, 1.5 * HOUR


def _loopers(random: Random) -> Made:
    world = fleet_world(random, 300)
    looping = some(random, world.devices, 15)

    def crash(device: Device) -> None:
        shared(world, device, "crash", "loop", 20.0, "human")
        world.later(300 * random.uniform(0.9, 1.1), crash, device)

    for device in looping:
        world.at(900 + random.uniform(0, 300), crash, device)
    numbers = {device.number for device in looping}
    _crashes(world, random, 1_800, 1.4 * HOUR, [one for one in world.devices if one.number not in numbers])
    return world, 1.6 * HOUR


def _hopeless(random: Random) -> Made:
    world = fleet_world(random, 100, intervals=(60.0,))
    ill = some(random, world.devices, 90)
    for device in ill:
        world.at(1_800 + random.uniform(0, 60), shared, world, device, "crash", "mass", None, "human")
    numbers = {device.number for device in ill}
    rest = [device for device in world.devices if device.number not in numbers]
    _crashes(world, random, 1.5 * HOUR, 11 * HOUR, rest)
    return world, 12.5 * HOUR


def _mass(random: Random) -> Made:
    world = fleet_world(random, 1_000)
    for device in world.devices:
        at = 1_800 + random.uniform(0, 60)
        world.at(at, shared, world, device, "crash", "mass", None, "restart_app")
    return world, 1.2 * HOUR


def _dead(random: Random) -> Made:
    world = fleet_world(random, 1_000)
    dead = some(random, world.devices, 20)
    for device in dead:
        world.at(1_200 + random.uniform(0, HOUR), own, world, device, "dead", "human")
    _crashes(world, random, 1_800, 1.3 * HOUR, [one for one in world.devices if one not in dead])
    return world, 1.6 * HOUR


def _clock(step: float, at: float) -> Callable[[Random], Made]:
    def make(random: Random) -> Made:
        world = fleet_world(random, 300)
        world.at(at, lambda: world.tell("clock", step_seconds=step))
        _crashes(world, random, 1_800, 1.2 * HOUR, world.devices)
        return world, 1.5 * HOUR

    return make


SITUATIONS: Mapping[str, tuple[str, str, Callable[[Random], Made]]] = {
    "outage-25": ("25 % of 1,000 clients without sites silent for 2 h", "1 alarm", _outage(0.25)),
    "outage-45": ("45 %", "1 alarm", _outage(0.45)),
    "outage-54": ("54 %", "1 alarm", _outage(0.54)),
    "outage-60": ("60 %; crashes beside", "crashes cured in 85 to 100 s", _outage(0.6)),
    "regional": (
        "power cut: a third of 100 sites (found with 1,000) with 2 clients each, 2 h",
        "1 alarm",
        _regional,
    ),
    "slow-beats": ("300 clients, beats of 120 s with 30 % jitter, 1 % lost, 12 h", "no action", _slow),
    "update": (
        "300 clients (found with 2,000) say `crashed` for 40 s within an hour, beats of 10 to 120 s",
        "no action",
        _update,
    ),
    "power-back": (
        "1,000 clients say `crashed` for 25 s while they boot after a cut",
        "no action",
        _power_back,
    ),
    "crash-loops": (
        "15 of 300 (found with 250 of 5,000) crash every 5 min, single crashes beside",
        "85 to 100 s",
        _loopers,
    ),
    "hopeless": (
        "90 of 100 (found with 900 of 1,000) crash, nothing helps, 12 h, beats of 60 s",
        "10 actions and one an hour; singles as ever",
        _hopeless,
    ),
    "mass-crash": ("1,000 crash, a restart cures", "15 min", _mass),
    "dead-hosts": ("20 dead hosts of 1,000, single crashes beside", "85 to 100 s", _dead),
    "clock-day": ("300 clients, the host's clock is set back by a day", "all cured", _clock(-86_400, 2_400)),
    "clock-start": ("the same by 6 h just after the start", "all cured", _clock(-21_600, 60)),
}


def measured(world: World) -> str:
    """Say what happened."""
    score = world.score
    needless = sum(act.needless is not None for act in score.acts)
    said = [f"{len(score.acts)} actions, {needless} needless", f"{len(score.incidents)} incidents"]
    said.append(f"{len(score.human_calls)} calls for a human")
    for name, common in (("single", False), ("common", True)):
        faults = [fault for _, fault in score.recoverable() if (fault.cause is not None) is common]
        times = [fault.healed - fault.began for fault in faults if fault.healed is not None]
        if times:
            first, last = min(times), max(times)
            said.append(f"{len(times)} of {len(faults)} {name} faults cured in {first:.0f} to {last:.0f} s")
    return ", ".join(said)


def main(arguments: Sequence[str]) -> int:
    """Play, print, and write what was played into the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *SITUATIONS])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(arguments)
    for name in given.names or SITUATIONS:
        situation, wanted, make = SITUATIONS[name]
        world, lasts = make(Random(name))
        asyncio.run(play(world, lasts))
        row = f"| {situation} | {wanted} | {measured(world)} |"
        sys.stdout.write(row + "\n")
        sys.stdout.flush()
        if given.write:
            write(situation, row)
    return 0


def write(situation: str, row: str) -> None:
    """Put one row into the document's table, in place of the one that it has of the same situation."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    table, after = rest.split(END)
    known = {found[1]: line for line in table.splitlines() if (found := re.match(r"\| (.+?) \|", line))}
    known[situation] = row
    rows = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    rows += [known[one] for one, _, _ in SITUATIONS.values() if one in known]
    DOCUMENT.write_text(before + BEGIN + "\n".join(rows) + "\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
