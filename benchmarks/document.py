"""The part of ``docs/performance.md`` that is made from ``results.json``, and so cannot tell otherwise."""

from collections.abc import Iterator, Mapping
from typing import Any

BEGIN = "<!-- made from benchmarks/results.json by scripts/bench -->"
END = "<!-- end -->"


def rewritten(text: str, results: Mapping[str, Any]) -> str:
    """Return the document with the results in it between the two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, "", *_lines(results), "", END + after])


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    yield "| figure | measured | wanted | |"
    yield "|---|---|---|---|"
    for benchmark in results["benchmarks"].values():
        for figure in benchmark["figures"]:
            yield f"| {figure['name']} | {_measured(figure)} | {_wanted(figure)} | {_verdict(figure)} |"
    yield ""
    yield "What they were made from, when, and how many processes wanted a core just before (load average):"
    yield ""
    for benchmark in results["benchmarks"].values():
        at = f"{benchmark['at'][:16].replace('T', ' ')}, load {benchmark['load_before']:.1f}"
        for detail in dict.fromkeys(figure["detail"] for figure in benchmark["figures"]):
            first = detail.partition("\n")[0]  # a daemon that ended brings its log along
            yield f"- {first} ({at})"
            at = "same run"


def _measured(figure: Mapping[str, Any]) -> str:
    value = figure["value"]
    if value is None:
        return "-"
    shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{shown} {figure['unit']}".rstrip()


def _wanted(figure: Mapping[str, Any]) -> str:
    if figure["wanted"] is None:
        return "-"
    return f"{figure['direction']} {figure['wanted']:g} {figure['unit']}".rstrip()


def _verdict(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "not measured"
    return "reached" if figure["reached"] else "**not reached**"
