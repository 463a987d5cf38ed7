"""A measured figure, and the table of them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
        return asdict(self) | {"reached": self.reached}


def unmeasured(name: str, why: str) -> Figure:
    """Return the place of a figure that there is not."""
    return Figure(name, None, Wanted.AT_MOST, None, "", f"{name}: not measured, {why}")


class NotMeasured(Exception):
    """What was to be measured did not take place, in words: the load was not there, the daemon ended."""


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that ``percent`` of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table for people, with what each was made from below."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'figure':{width}}  {'measured':>10}  wanted"]
    for figure in figures:
        measured = "-" if figure.value is None else f"{figure.value:,.2f}"
        wanted = "" if figure.wanted is None else f"{figure.direction} {figure.wanted:,g} {figure.unit}"
        lines.append(f"{figure.name:{width}}  {measured:>10}  {wanted:28}  {_verdict(figure)}".rstrip())
    lines += ["", *dict.fromkeys(figure.detail for figure in figures if figure.detail)]
    return "\n".join(lines)


def _verdict(figure: Figure) -> str:
    if figure.value is None:
        return "NOT MEASURED"
    return "" if figure.reached else "NOT REACHED"
