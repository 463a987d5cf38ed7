"""Plays the ten situations of docs/operating-recovery.md to the judge; writes the answers there."""

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.families.case import fleet, outage, own, shared
from infoscreen.judge.lines import Line
from infoscreen.judge.playing import play
from infoscreen.simulator.worlds import Device, World

DOCUMENT = Path(__file__).parents[1] / "docs" / "operating-recovery.md"
FIRST = 900.0
LASTS = 3_300.0
SHOWN = 9
"""Lines of an example at most."""


def _world() -> tuple[World, dict[str, Device]]:
    """Return a world in which each situation happens to a device of its own."""
    world = World(fleet(Random(8), 60, site_size=15), "why")
    free = iter(world.devices[20:])
    cast = {name: next(free) for name in ("crash", "boots", "hang", "dead", "beside", "expired", "reboot")}
    cast |= {"site": world.devices[0], "mass": world.devices[45]}
    cast["boots"].says_crashed_at_boot = 200.0
    cast["hang"].announces = False
    cast["expired"].refuses = "expired"
    begin: dict[str, tuple[float, str, str]] = {
        "crash": (0, "crash", "restart_app"),
        "hang": (100, "hang", "reboot_host"),
        "dead": (200, "dead", "human"),
        "beside": (460, "crash", "restart_app"),
        "expired": (1_150, "crash", "human"),
        "reboot": (1_500, "crash", "reboot_host"),
    }
    for name, (at, kind, cure) in begin.items():
        world.at(FIRST + at, own, world, cast[name], kind, cure)
    world.at(FIRST + 50, shared, world, cast["boots"], "off", "power", 60.0, "human")
    outage(world, world.devices[:14], FIRST + 400, 1_000, 20, Random(1), "cut")
    for number, device in enumerate(world.devices[45:]):
        world.at(FIRST + 700 + number, shared, world, device, "crash", "mass", None, "human")
    return world, cast


def _mute() -> tuple[World, dict[str, Device]]:
    """Return a world in which commands reach nobody."""
    world = World(fleet(Random(9), 8), "mute")
    world.mute_commands = True
    for number, device in enumerate(world.devices[:6]):
        world.at(FIRST + 60 * number, own, world, device, "crash", "restart_app")
    return world, {"mute": world.devices[5]}


EXAMPLES = ("crash", "boots", "hang", "dead", "site", "mass", "beside", "expired", "mute", "reboot")
"""In the order of the document."""


async def answers() -> dict[str, str]:
    """Return what was decided about the device of each example, as text."""
    told: dict[str, list[str]] = {}
    for make, lasts in ((_world, LASTS), (_mute, FIRST + 1_500)):
        world, cast = make()
        await play(world, lasts, told=_noting(told, {device.uuid: name for name, device in cast.items()}))
    return {name: "\n".join(told[name][:SHOWN]) for name in EXAMPLES}


def _noting(told: dict[str, list[str]], names: dict[str, str]) -> Callable[[Line], None]:
    def note(answer: Line) -> None:
        for one in answer["decisions"]:
            name = names.get(one["client_uuid"])
            if name is None or answer["at"] < FIRST:
                continue
            until = "" if one["until"] is None else f"  until {one['until']:.0f}"
            human = "  calls a human" if one["rung"] == "human" else ""
            before = told.setdefault(name, [])
            if before and before[-1].split()[1:3] == [one["verb"], one["reason"]]:
                continue
            line = f"{answer['at']:6.0f}  {one['verb']:4}  {one['reason']}{until}{human}"
            before.append(line)

    return note


def blocks(text: str) -> list[str]:
    """Return the answers that the document shows, in its order."""
    return re.findall(r"```text\n(.*?)\n```", text, re.DOTALL)


def main() -> int:
    """Write the answers into the document."""
    found = iter(asyncio.run(answers()).values())
    text = DOCUMENT.read_text(encoding="utf-8")
    text = re.sub(r"```text\n.*?\n```", lambda _: f"```text\n{next(found)}\n```", text, flags=re.DOTALL)
    DOCUMENT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
