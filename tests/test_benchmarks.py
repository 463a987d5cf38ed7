"""The benchmarks still run, and tell the truth about what they measured. No figure is judged here."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import __main__ as suite
from benchmarks.document import BEGIN, END, rewritten
from benchmarks.figures import Figure, NotMeasured, Wanted, percentile, summed_up, table, unmeasured
from benchmarks.sizes import Sizes

TINY = Sizes(
    fleets=(60, 80, 120),
    rounds=1,
    backlog=300,
    backlog_one_by_one=20,
    bulk=10,
    commands=3,
    visits=3,
    load=100,
    flood=100,
    seconds=1.0,
    viewers=2,
    history=1_000,
    traffic_seconds=0.5,
)

CHEAP = (
    "bulk",
    "command",
    "flood",
    "ingest",
    "judge",
    "lag",
    "mix",
    "pages",
    "readers",
    "recovery",
    "viewers",
)
"""The others start daemons and watch them, with nothing that these do not use as well."""


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP)
async def test_a_benchmark_measures_all_its_figures(name: str) -> None:
    figures = await suite.BENCHMARKS[name](TINY)
    assert figures
    for figure in figures:
        assert figure.value is not None, figure.detail
        assert math.isfinite(figure.value)
        assert figure.detail


def test_the_document_tells_the_results_that_were_measured() -> None:
    text = suite.DOCUMENT.read_text(encoding="utf-8")
    results = json.loads(suite.RESULTS.read_text(encoding="utf-8"))
    assert rewritten(text, results, list(suite.BENCHMARKS)) == text


@pytest.mark.parametrize(
    ("value", "direction", "reached"),
    [
        (10.0, Wanted.AT_LEAST, True),
        (9.9, Wanted.AT_LEAST, False),
        (10.0, Wanted.AT_MOST, True),
        (10.1, Wanted.AT_MOST, False),
        (None, Wanted.AT_MOST, False),
        (None, Wanted.AT_LEAST, False),
        (math.nan, Wanted.AT_MOST, False),
        (math.inf, Wanted.AT_LEAST, False),
    ],
)
def test_a_figure_is_reached_on_its_side_and_only_if_measured(
    value: float | None, direction: Wanted, reached: bool
) -> None:
    assert Figure("f", value, direction, 10).reached is reached


def test_what_was_not_measured_is_said_with_its_reason() -> None:
    figure = unmeasured("poll", "there is none yet")
    assert not figure.reached
    assert "NOT MEASURED" in table(summed_up([[figure]]))
    assert "there is none yet" in table(summed_up([[figure]]))


def run_of(*values: float | None) -> list[Figure]:
    return [Figure(f"f{number}", value, Wanted.AT_LEAST, 10) for number, value in enumerate(values)]


def test_a_figure_is_the_median_of_its_runs_with_the_spread_beside_it() -> None:
    first, second = summed_up([run_of(12, 1), run_of(9, 2), run_of(11, None)])
    assert (first.figure.value, first.least, first.most) == (11, 9, 12)
    assert first.is_proven
    assert first.figure.reached
    # One that a run failed to measure does not count.
    assert (second.figure.value, second.least, second.most) == (None, 1, 2)
    assert not second.is_proven


def test_fewer_than_three_runs_prove_nothing_and_the_document_says_so() -> None:
    record = {"at": "2026-01-01T00:00:00", "load_before": 0.1}
    runs = [record | {"figures": [one.as_json() for one in run_of(value)]} for value in (10.0, 30.0, 20.0)]
    row = "| f0 | 20.0 | 10.0 to 30.0 | at least 10 | reached"
    for count, end in ((2, ", 2 of 3 runs |"), (3, " |")):
        told = rewritten(f"{BEGIN}{END}", {"benchmarks": {"one": {"runs": runs[:count]}}}, ["one", "two"])
        assert row + end in told
        assert ("provisional" in told) is (count < 3)
        assert "Not measured: two." in told


def test_the_document_says_first_what_was_not_reached() -> None:
    figures = [*run_of(9.0, 12.0), Figure("f2", None, Wanted.AT_MOST, 1)]
    record = {"at": "2026-01-01T00:00:00", "load_before": 0.1, "figures": [one.as_json() for one in figures]}
    told = rewritten(f"{BEGIN}{END}", {"benchmarks": {"one": {"runs": [record] * 3}}}, ["one"])
    assert "**1 of 2 measured figures are as wanted.**" in told
    assert "- f0: 9.00, wanted at least 10" in told
    assert "Not measured: f2." in told


def test_a_percentile_is_one_of_the_samples() -> None:
    samples = [float(number) for number in range(1, 101)]
    assert [percentile(samples, one) for one in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 1) == 7.0


async def test_a_benchmark_that_fails_to_measure_does_not_count_as_reached() -> None:
    async def measure(sizes: Sizes) -> list[Figure]:
        raise NotMeasured("the load was not there")

    (figure,) = await suite.run("lag", measure, TINY)
    assert figure.value is None
    assert not figure.reached
    assert "the load was not there" in figure.detail


def test_the_newest_three_runs_of_each_benchmark_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    suite.save("start", {"figures": ["kept"]}, path)
    for number in range(4):
        results = suite.save("lag", {"figures": [number]}, path)
    assert results["benchmarks"] == {
        "lag": {"runs": [{"figures": [number]} for number in (1, 2, 3)]},
        "start": {"runs": [{"figures": ["kept"]}]},
    }
    assert json.loads(path.read_text(encoding="utf-8")) == results
