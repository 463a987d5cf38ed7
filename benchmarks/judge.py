"""How many messages of devices the judge takes a second, by processor time: in a dense and in sparse worlds.

A world is dense when there are many messages to a poll. What the worlds are like does not change with the
sizes; ``rounds`` repeats them. The last figure is a ratio within one run: what sparseness costs.
"""

import gc
import statistics
import time
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

from benchmarks.figures import Figure, Wanted
from benchmarks.sizes import Sizes
from infoscreen.judge import Judge

WANTED = 5_000
"""Messages a second on one core, as the design has it."""


class JudgedWorld(NamedTuple):
    """So many clients, of which a share crashes for good after a third of the time; times in seconds."""

    clients: int
    beats_every: float
    polls_every: int
    lasts: int
    crashing: float = 0.0

    def lines(self) -> list[dict[str, Any]]:
        """Return what is told, in order of time; the same in every run."""
        drawn = Random(1)
        lines: list[dict[str, Any]] = [
            {"at": at, "kind": "poll"} for at in range(0, self.lasts, self.polls_every)
        ]
        for number in range(self.clients):
            crashes_at = self.lasts / 3 if drawn.random() < self.crashing else self.lasts
            for at in self._beats(drawn):
                status = "running" if at < crashes_at else "crashed"
                told = {"timestamp": "2026-01-01T00:00:00Z", "process_status": status, "boot_id": "b"}
                topic = f"infoscreen/{UUID(int=number, version=4)}/heartbeat"
                lines.append({"at": at, "kind": "message", "topic": topic, "payload": told})
        return sorted(lines, key=lambda line: float(line["at"]))

    def _beats(self, drawn: Random) -> Iterator[float]:
        at = drawn.random() * self.beats_every
        while at < self.lasts:
            yield round(at, 2)
            at += self.beats_every * drawn.uniform(0.9, 1.1)


DENSE = JudgedWorld(1_000, 30, 15, 300)
SPARSE = JudgedWorld(10, 30, 5, 900)
SLOW = JudgedWorld(300, 120, 15, 900)
TROUBLED = JudgedWorld(200, 30, 15, 600, crashing=0.5)


async def messages_a_second(world: JudgedWorld) -> float:
    """Play a world and return the messages taken in a second of processor time."""
    lines = world.lines()
    messages: int = sum(line["kind"] == "message" for line in lines)
    judge = Judge()
    gc.collect()
    began = time.process_time()
    try:
        for line in lines:
            await judge.take(line)
        took = time.process_time() - began
    finally:
        await judge.close()
    return messages / took


async def measure(sizes: Sizes) -> list[Figure]:
    """Measure all worlds, and compare the sparsest with the dense one."""
    speeds: dict[JudgedWorld, list[float]] = {world: [] for world in (DENSE, SLOW, TROUBLED, SPARSE)}
    for _ in range(sizes.rounds):
        for world, taken in speeds.items():
            taken.append(await messages_a_second(world))
    dense, slow, troubled, sparse = (statistics.median(taken) for taken in speeds.values())
    detail = (
        f"judge, messages/s of processor time: {DENSE.clients:,} clients that beat every "
        f"{DENSE.beats_every:g} s {dense:,.0f}; {SLOW.clients} every {SLOW.beats_every:g} s {slow:,.0f}; "
        f"{TROUBLED.clients}, half of them crashed, {troubled:,.0f}; {SPARSE.clients} clients with a poll "
        f"every {SPARSE.polls_every} s {sparse:,.0f}"
    )
    return [
        Figure("judge, many clients", dense, Wanted.AT_LEAST, WANTED, "/s", detail),
        Figure("judge, clients that beat rarely", slow, Wanted.AT_LEAST, WANTED, "/s", detail),
        Figure("judge, half of the clients crashed", troubled, Wanted.AT_LEAST, WANTED, "/s", detail),
        Figure("judge, few clients / many clients", sparse / dense, Wanted.AT_LEAST, None, "", detail),
    ]
