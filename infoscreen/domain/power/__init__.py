"""Switching a device off and on at its outlet: readings, faults, and the one algorithm for every driver."""

from infoscreen.domain.power.cycle import (
    Checked,
    Cycle,
    CyclePolicy,
    CycleStage,
    CycleStep,
    Do,
    Event,
    Failed,
    Read,
    SwitchSent,
    advance,
    begun,
    next_step,
    resumed,
)
from infoscreen.domain.power.outlet import (
    Capabilities,
    Outlet,
    OutletIdentity,
    PowerFault,
    PowerState,
    Reading,
)

__all__ = [
    "Capabilities",
    "Checked",
    "Cycle",
    "CyclePolicy",
    "CycleStage",
    "CycleStep",
    "Do",
    "Event",
    "Failed",
    "Outlet",
    "OutletIdentity",
    "PowerFault",
    "PowerState",
    "Read",
    "Reading",
    "SwitchSent",
    "advance",
    "begun",
    "next_step",
    "resumed",
]
