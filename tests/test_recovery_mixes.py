"""Whatever happens at the same time: mixes of all that the families have, drawn at random, before the judge.

``MIXES=500 pytest tests/test_recovery_mixes.py`` draws more of them. What fails is shrunk and printed as a
``Mix``.
"""

import asyncio
import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.families.mixed import INGREDIENTS, Ingredient, Mix, mixed
from infoscreen.judge.playing import play

ingredients = st.builds(
    Ingredient,
    what=st.sampled_from(sorted(INGREDIENTS)),
    at=st.sampled_from((0.0, 100.0, 400.0, 900.0, 1_500.0)),
    share=st.sampled_from((0.0, 0.1, 0.3, 0.6)),
    lasts=st.sampled_from((40.0, 200.0, 600.0, 1_800.0)),
    within=st.sampled_from((0.0, 20.0, 300.0)),
    variant=st.integers(0, 5),
)
mixes = st.builds(
    Mix,
    size=st.sampled_from((3, 5, 8, 14, 24)),
    ingredients=st.lists(ingredients, min_size=1, max_size=4).map(tuple),
    intervals=st.sampled_from(((30.0,), (10.0,), (20.0, 60.0), (120.0,), (300.0,), (10.0, 30.0, 300.0))),
    keepalive=st.sampled_from((60.0, 15.0, 300.0)),
    jitter=st.sampled_from((0.02, 0.2, 0.3)),
    lost=st.sampled_from((0.0, 0.01)),
    site_size=st.sampled_from((0, 1, 4)),
    without_site=st.sampled_from((0.0, 0.3)),
    seed=st.integers(0, 3),
)


FOUND = {
    "one of four that nothing helps is beside the group": Mix(
        size=40,
        ingredients=(
            Ingredient("mass", at=1_500.0, share=0.1, within=300.0, variant=3),
            Ingredient("join", at=0),
        ),
        intervals=(20.0, 60.0),
        keepalive=15.0,
        lost=0.01,
        seed=39,
    ),
    "the host's clock is set while somebody is called for": Mix(
        size=3,
        ingredients=(Ingredient("refuse", at=0.0, variant=4), Ingredient("clock", at=900.0, variant=5)),
        jitter=0.3,
        lost=0.01,
        seed=66,
    ),
}
"""Mixes that failed once."""


def failures(mix: Mix) -> list[str]:
    case = mixed(mix)
    asyncio.run(play(case.world, case.lasts, settings=case.settings))
    return case.failures()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", FOUND)
def test_what_failed_once_does_so_no_more(what: str) -> None:
    assert failures(FOUND[what]) == []


@pytest.mark.slow
@pytest.mark.timeout(0 if "MIXES" in os.environ else 900)
@settings(
    max_examples=int(os.environ.get("MIXES", "4")),
    deadline=None,
    derandomize="MIXES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if "MIXES" in os.environ else [Phase.generate],
)
@given(mixes)
def test_whatever_happens_at_the_same_time(mix: Mix) -> None:
    assert failures(mix) == []
