"""Is it chance? What happens to clients independently of each other follows a Poisson law.

Three or more within a window, and less likely than one in ten thousand: they have a cause in common. The
windows are tried from the shortest; what one of them explains is out of the longer ones, so that a large
outage does not explain what happens half an hour later.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import exp

WINDOWS = (60.0, 300.0, 900.0, 3_600.0)
"""Seconds."""

LEAST = 3
UNLIKELY = 1e-4

NEAR_MOST = 900.0
RARELY = 0.05
"""Expected number of events of chance in a time in which another one is called rare."""

DAY = 86_400.0
RATE_UNLEARNED, RATE_LEAST, RATE_MOST = 0.05, 0.01, 0.5
"""Silences per client and day: assumed until learned, and the bounds of what is learned."""


def usual_rate(silences: int, client_days: float) -> float:
    """Return the silences per client and day to reckon with, after so many in so many days of clients."""
    if client_days <= 0:
        return RATE_UNLEARNED
    return min(max(silences / client_days, RATE_LEAST), RATE_MOST)


def chance(count: int, expected: float) -> float:
    """Return the probability of ``count`` or more events where ``expected`` are usual."""
    if expected > 700:  # beyond what exp() can do; such fleets have no coincidences within an hour
        return 1.0
    term = exp(-expected)
    below = 0.0
    for number in range(count):
        below += term
        term *= expected / (number + 1)
    if below < 1 - 1e-9:
        return 1 - below
    # The sum has used up the precision of a float; the tail is less than twice its first terms.
    tail = 0.0
    for number in range(count, count + 50):
        tail += term
        term *= expected / (number + 1)
    return tail


def rarely_within(population: int, rate: float) -> float:
    """Return within how many seconds of an event another one is rare, and taken to belong to it."""
    return min(NEAR_MOST, RARELY * DAY / (max(1, population) * rate))


def least_unlikely(population: int, window: float, rate: float, least: int = LEAST) -> int:
    """Return how many events within ``window`` seconds are too many for chance, at least ``least``."""
    return _least_unlikely(round(population * window / DAY * rate, 4), least)


@lru_cache(maxsize=4_096)
def _least_unlikely(expected: float, least: int) -> int:
    count = max(least, int(expected))
    while chance(count, expected) >= UNLIKELY:
        count += 1
    return count


def clusters(
    times: Sequence[float],
    population: int,
    rate: float,
    windows: Sequence[float] = WINDOWS,
    at_least: int = LEAST,
) -> list[list[int]]:
    """Return the positions of those that are no chance, one list for each cause in common.

    Args:
        times: in seconds, ascending.
        population: how many it could have happened to.
        rate: events per client and day.
        windows: within how many seconds, ascending.
        at_least: fewer are never a cause in common.
    """
    found: list[list[int]] = []
    left = list(range(len(times)))
    for window in windows:
        least = least_unlikely(population, window, rate, at_least)
        if len(left) < least:
            continue
        taken: list[list[int]] = []
        end = 0
        for start in range(len(left)):
            end = max(end, start)
            while end + 1 < len(left) and times[left[end + 1]] - times[left[start]] <= window:
                end += 1
            if end - start + 1 < least:
                continue
            if taken and taken[-1][1] >= start:
                taken[-1][1] = end
            else:
                taken.append([start, end])
        for first, last in taken:
            found.append(left[first : last + 1])
        for first, last in reversed(taken):
            del left[first : last + 1]
    return found
