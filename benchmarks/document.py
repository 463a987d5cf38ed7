"""The part of ``docs/performance.md`` that is made from ``results.json``, and so cannot tell otherwise."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.figures import ENOUGH_RUNS, Figure, Summary, summed_up

BEGIN = "<!-- made from benchmarks/results.json by scripts/bench -->"
END = "<!-- end -->"


def rewritten(text: str, results: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the document with the results in it between the two marks; ``names`` are all benchmarks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, "", *_lines(results, names), "", END + after])


def _lines(results: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    runs = {name: each["runs"] for name, each in results["benchmarks"].items()}
    yield from _in_short(runs, [name for name in names if name not in runs])
    yield "| figure | median | least to most | wanted | |"
    yield "|---|---|---|---|---|"
    for summary in _summaries(runs):
        yield _row(summary)
    yield ""
    yield "When each was measured, how many processes wanted a core just before (load average), and what the"
    yield "newest run was made from:"
    yield ""
    for name, of_one in runs.items():
        times = "; ".join(
            f"{run['at'][:16].replace('T', ' ')}, load {run['load_before']:.1f}" for run in of_one
        )
        yield f"- **{name}** ({times})"
        for detail in dict.fromkeys(figure.detail for figure in _figures(of_one[-1])):
            first = detail.partition("\n")[0]  # a daemon that ended brings its log along
            yield f"  - {first}"


def _summaries(runs: Mapping[str, Any]) -> list[Summary]:
    return [one for of_one in runs.values() for one in summed_up([_figures(run) for run in of_one])]


def _in_short(runs: Mapping[str, Any], without_runs: Sequence[str]) -> Iterator[str]:
    """Yield what was reached and what was not, before the reader has to look for it."""
    wanted = [one for one in _summaries(runs) if one.figure.wanted is not None]
    measured = [one for one in wanted if one.figure.value is not None]
    missed = [one for one in measured if not one.figure.reached]
    yield f"**{len(measured) - len(missed)} of {len(measured)} measured figures are as wanted.**"
    if missed:
        yield ""
        yield "Not reached:"
        yield ""
        for one in missed:
            yield f"- {one.figure.name}: {_measured(one.figure)}, wanted {_wanted(one.figure)}"
    absent = [*(one.figure.name for one in wanted if one.figure.value is None), *without_runs]
    if absent:
        yield ""
        yield f"Not measured: {', '.join(absent)}."
    if any(not one.is_proven for one in measured):
        yield ""
        yield f"Figures of fewer than {ENOUGH_RUNS} runs are provisional; the last column says which."
    yield ""


def _figures(run: Mapping[str, Any]) -> Sequence[Figure]:
    return [Figure.of_json(figure) for figure in run["figures"]]


def _row(summary: Summary) -> str:
    figure = summary.figure
    spread = "-" if summary.least is None else f"{_number(summary.least)} to {_number(summary.most)}"
    return f"| {figure.name} | {_measured(figure)} | {spread} | {_wanted(figure)} | {_verdict(summary)} |"


def _wanted(figure: Figure) -> str:
    return "-" if figure.wanted is None else f"{figure.direction} {figure.wanted:g} {figure.unit}".rstrip()


def _measured(figure: Figure) -> str:
    return "-" if figure.value is None else f"{_number(figure.value)} {figure.unit}".rstrip()


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _verdict(summary: Summary) -> str:
    figure = summary.figure
    if figure.value is None:
        return "not measured"
    said = "" if figure.wanted is None else "reached" if figure.reached else "**not reached**"
    if summary.is_proven:
        return said
    runs = f"{summary.runs} of {ENOUGH_RUNS} runs"
    return f"{said}, {runs}" if said else runs
