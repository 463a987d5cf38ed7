"""Families of situations, each a maker of worlds, with what is wanted of the recovery in them.

Written from ``docs/recovery.md`` alone, never from the rules' code. Every seed makes another world.
"""

from benchmarks.families.case import Case, Wanted
from benchmarks.families.registry import FAMILIES, make

__all__ = ["FAMILIES", "Case", "Wanted", "make"]
