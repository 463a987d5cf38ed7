"""Worlds of imagined devices on a virtual clock: they say what real ones say, and answer commands.

A world knows the truth and keeps the score by it. It knows nothing of the daemon but the lines of
``docs/judge.md``; the caller passes its lines to a judge and the answers back.
"""

from infoscreen.simulator.worlds.device import Device, Fault, Host
from infoscreen.simulator.worlds.score import Score
from infoscreen.simulator.worlds.world import Terms, World

__all__ = ["Device", "Fault", "Host", "Score", "Terms", "World"]
