"""Scenarios as data: what happens to a fleet, and when. Read, checked and explained here; played elsewhere.

The shipped ones lie next to this module as TOML; ``docs/simulator.md`` describes the format for writing more.
"""

from infoscreen.simulator.scenarios.reading import load, names
from infoscreen.simulator.scenarios.scenario import (
    Event,
    FleetTable,
    RhythmTable,
    Scenario,
    ScenarioEventKind,
)

__all__ = ["Event", "FleetTable", "RhythmTable", "Scenario", "ScenarioEventKind", "load", "names"]
