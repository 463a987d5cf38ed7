"""Scenarios on a virtual clock: the daemon's very rules against a fleet of imagined devices.

No sockets, no database, no waiting: a day of 50,000 devices passes in minutes. What is real is what is
judged: presence, ladder, outages, budget, lockout and the life of a command.
"""

from infoscreen.simulator.virtual.figures import Figures
from infoscreen.simulator.virtual.play import play
from infoscreen.simulator.virtual.terms import Mode, Policies

__all__ = ["Figures", "Mode", "Policies", "play"]
