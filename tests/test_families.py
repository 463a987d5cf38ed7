"""Families of situations before the judge, some of them, small."""

import pytest

from benchmarks.families import FAMILIES, make
from infoscreen.judge.playing import play


async def failures(family: str, seed: int, size: int) -> list[str]:
    case = make(family, seed, size)
    await play(case.world, case.lasts, settings=case.settings)
    return case.failures()


def test_the_same_seed_makes_the_same_world() -> None:
    for name in FAMILIES:
        first, again = [make(name, 3, 20).world.lines(600) for _ in range(2)]
        assert first == again


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "family",
    [
        "single-faults",
        "hard-cases",
        "crash-loops",
        "update",
        "mass-crash-hopeless",
        "partial-outage",
        "commands-unanswered",
        "refusing-devices",
        "outlets",
        "pdu-down-with-its-site",
        "outlets-in-pairs",
    ],
)
async def test_a_family_keeps_the_promise(family: str) -> None:
    # With fewer, what goes silent in an hour is an outage by the rule of coincidence.
    size = {"outlets": 24, "outlets-in-pairs": 16}.get(family, 30)
    assert await failures(family, 1, size) == []
