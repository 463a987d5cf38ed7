"""A measured figure, and the table of them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


class Wanted(StrEnum):
    """On which side of the wanted value a figure shall be."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, what is wanted of it, and what it was made from.

    A ``value`` of None was not measured; ``detail`` then says why. It never counts as reached.
    """

    name: str
    value: float | None
    direction: Wanted
    wanted: float | None
    unit: str = ""
    detail: str = ""

    @property
    def reached(self) -> bool:
        """Tell whether the figure was measured and is as wanted."""
        if self.value is None or self.wanted is None or not math.isfinite(self.value):
            return False
        if self.direction is Wanted.AT_LEAST:
            return self.value >= self.wanted
        return self.value <= self.wanted

    def as_json(self) -> dict[str, Any]:
        """Return what stands in ``results.json``."""
        return asdict(self)

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> "Figure":
        """Return the figure again."""
        return cls(**{**told, "direction": Wanted(told["direction"])})


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure of several runs: the median, the least and the most of those that measured it.

    ``runs`` is how many were made; a figure that any of them did not measure is not measured.
    """

    figure: Figure
    least: float | None
    most: float | None
    runs: int

    @property
    def is_proven(self) -> bool:
        """Tell whether there were enough runs for the median to count."""
        return self.runs >= ENOUGH_RUNS and self.figure.value is not None


ENOUGH_RUNS = 3


def summed_up(runs: Sequence[Sequence[Figure]]) -> list[Summary]:
    """Return the median and the spread of each figure of the newest run, with the details of that run."""
    summaries = []
    for newest in runs[-1]:
        values = [one.value for run in runs for one in run if one.name == newest.name]
        known = [value for value in values if value is not None]
        whole = len(known) == len(runs)
        median = statistics.median(known) if whole else None
        least, most = (min(known), max(known)) if known else (None, None)
        summaries.append(Summary(replace(newest, value=median), least, most, len(runs)))
    return summaries


def unmeasured(name: str, why: str) -> Figure:
    """Return the place of a figure that there is not."""
    return Figure(name, None, Wanted.AT_MOST, None, "", f"{name}: not measured, {why}")


class NotMeasured(Exception):
    """What was to be measured did not take place, in words: the load was not there, the daemon ended."""


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that ``percent`` of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def table(summaries: Sequence[Summary]) -> str:
    """Return the figures as a table for people, with what each was made from below."""
    width = max(len(one.figure.name) for one in summaries)
    lines = [f"{'figure':{width}}  {'median':>10}  {'least':>10}  {'most':>10}  wanted"]
    for one in summaries:
        figure = one.figure
        measured, least, most = (
            "-" if value is None else f"{value:,.2f}" for value in (figure.value, one.least, one.most)
        )
        wanted = "" if figure.wanted is None else f"{figure.direction} {figure.wanted:,g} {figure.unit}"
        line = (
            f"{figure.name:{width}}  {measured:>10}  {least:>10}  {most:>10}  {wanted:28}  {_verdict(figure)}"
        )
        lines.append(line.rstrip())
    lines += ["", *dict.fromkeys(one.figure.detail for one in summaries if one.figure.detail)]
    return "\n".join(lines)


def _verdict(figure: Figure) -> str:
    if figure.value is None:
        return "NOT MEASURED"
    return "" if figure.reached or figure.wanted is None else "NOT REACHED"
