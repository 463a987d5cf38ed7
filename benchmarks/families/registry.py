"""All families by name."""

from collections.abc import Callable, Mapping
from random import Random

from benchmarks.families import blindness, faults, oddities, outages, power
from benchmarks.families.case import Case

Maker = Callable[[Random, int], Case]

FAMILIES: Mapping[str, Maker] = {
    **faults.FAMILIES,
    **outages.FAMILIES,
    **blindness.FAMILIES,
    **oddities.FAMILIES,
    **power.FAMILIES,
}


def make(name: str, seed: int, size: int) -> Case:
    """Return one world of a family; the same arguments make the same world."""
    case = FAMILIES[name](Random(f"{name} {seed} {size}"), size)
    case.family, case.seed = name, seed
    return case
