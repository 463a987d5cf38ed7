"""A measured figure, and the table of them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio, what is wanted of it (at least), and what it was made from."""

    name: str
    value: float
    wanted: float
    detail: str

    @property
    def reached(self) -> bool:
        """Tell whether the figure is as wanted."""
        return self.value >= self.wanted


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table for people."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'figure':{width}}  measured  wanted"]
    for figure in figures:
        verdict = "" if figure.reached else "  NOT REACHED"
        lines.append(f"{figure.name:{width}}  {figure.value:8.2f}  {figure.wanted:6.2f}{verdict}")
    lines += ["", *dict.fromkeys(figure.detail for figure in figures)]
    return "\n".join(lines)
