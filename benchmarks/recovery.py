"""The recovery's decision with the largest fleet and 500 unwell: its place, until there is a recovery."""

from benchmarks.figures import Figure, unmeasured
from benchmarks.sizes import Sizes


async def measure(sizes: Sizes) -> list[Figure]:
    """Say that there is nothing to measure yet."""
    return [unmeasured(f"recovery poll with {sizes.fleets[2]:,} clients", "the daemon has no recovery yet")]
