"""Families of situations before the judge. Two worlds in every run, the others are slow."""

import pytest

from benchmarks.families import FAMILIES, make
from infoscreen.judge.playing import play


async def failures(family: str, seed: int, size: int) -> list[str]:
    case = make(family, seed, size)
    await play(case.world, case.lasts, settings=case.settings)
    return case.failures()


def test_the_same_seed_makes_the_same_world() -> None:
    for name in FAMILIES:
        first, again = [make(name, 3, 30).world.lines(900) for _ in range(2)]
        assert first == again


@pytest.mark.timeout(600)
async def test_power_that_comes_back_draws_no_action() -> None:
    assert await failures("power-back", 1, 30) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "family", ["partial-outage", "crash-loops", "update", "dark-sites", "regional-power-cut", "dead-hosts"]
)
async def test_a_family_keeps_the_promise(family: str) -> None:
    assert await failures(family, 1, 100) == []
