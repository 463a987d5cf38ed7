"""Simulated devices: the device's side of the wire contract, one or thousands in a process.

``run`` is ``infoscreen simulate``; ``device_uuids`` names the devices it makes from a seed, for giving them
credentials; ``DeviceFault`` is what can happen to them; ``lines`` says in text what ``run`` returned.
"""

from infoscreen.simulator.device import DeviceFault
from infoscreen.simulator.figures import Figures, lines
from infoscreen.simulator.identity import device_uuids
from infoscreen.simulator.program import DEFAULT_SEED, allow_open_files, run

__all__ = ["DEFAULT_SEED", "DeviceFault", "Figures", "allow_open_files", "device_uuids", "lines", "run"]
