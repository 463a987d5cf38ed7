"""How much is measured: all of it in six minutes or so, or a part that takes two."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of fleets and loads. The figures name what they were measured with."""

    fleets: tuple[int, int, int] = (1_000, 10_000, 50_000)
    """A small fleet, the one that most figures are about, and the largest."""
    rounds: int = 1
    """So often a short measurement is repeated within a run."""
    starts: int = 5
    backlog: int = 60_000
    """Messages drained in one go."""
    backlog_one_by_one: int = 1_500
    bulk: int = 5_000
    """Clients that one bulk request is for."""
    commands: int = 120
    """Single commands, each in silence and under load."""
    visits: int = 40
    """Visits to each page, each in silence and under load."""
    load: int = 2_000
    """Heartbeats per second while something else is measured."""
    flood: int = 5_000
    """Heartbeats per second while the event loop is watched."""
    seconds: float = 15.0
    """How long a load is watched at a time."""
    viewers: int = 50
    history: int = 600_000
    """Lines of one client's timeline."""
    traffic_seconds: float = 30.0
    """How long the memory is watched, after each client has been heard."""


FULL = Sizes()
QUICK = Sizes(
    fleets=(1_000, 2_000, 10_000),
    rounds=1,
    starts=3,
    backlog=20_000,
    backlog_one_by_one=500,
    bulk=1_000,
    commands=60,
    visits=40,
    seconds=6.0,
    traffic_seconds=10.0,
)
