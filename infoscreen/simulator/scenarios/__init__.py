"""Scenarios as data: what befalls a fleet, and when. Read, checked and explained in here; played elsewhere.

The shipped ones lie next to this module as TOML; ``docs/recovery.md`` describes the format for writing more.
"""

from infoscreen.simulator.scenarios.reading import load, names
from infoscreen.simulator.scenarios.scenario import Event, Fleet, Kind, Rhythm, Scenario

__all__ = ["Event", "Fleet", "Kind", "Rhythm", "Scenario", "load", "names"]
