"""A device in truth, whatever is believed of it: host, application, network, and what is wrong with it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from infoscreen.domain.clients import ProcessStatus
from infoscreen.domain.recovery import Rung
from infoscreen.simulator.scenarios import Kind
from infoscreen.simulator.virtual.timeline import START


class Host(Enum):
    """How the machine is."""

    UP = "up"
    HUNG = "hung"
    """Reports nothing; hears commands unless deaf."""
    DOWN = "down"


@dataclass(slots=True)
class Fault:
    """Something wrong with one device. ``heals_at`` None: never by itself. Times in seconds."""

    kind: Kind
    began: float
    heals_at: float | None
    cured_by: Rung
    again_after: float
    noticed: float | None = None
    best: float | None = None
    healed: float | None = None


@dataclass(slots=True)
class Screen:
    """One device.

    ``cut`` counts what keeps it from the broker at present (its own network, its site's). ``version`` moves
    with every change of the host, so that what was planned for the one before is recognised and dropped;
    ``link`` does so with every change of the connection.
    """

    number: int
    uuid: str
    site: str | None
    interval: float
    phase: float
    persistent: bool
    skew: float
    boot: float
    app_start: float
    host: Host = Host.UP
    app: ProcessStatus = ProcessStatus.RUNNING
    app_says_started: datetime = START - timedelta(days=1)
    boots: int = 0
    cut: int = 0
    connected: bool = True
    version: int = 0
    link: int = 0
    beat_plan: int = 0
    beating: bool = False
    fault: Fault | None = None
    rebooting: bool = False

    @property
    def is_well(self) -> bool:
        """Tell whether the screen shows what it should."""
        return self.host is Host.UP and self.app is ProcessStatus.RUNNING

    @property
    def hears(self) -> bool:
        """Tell whether a command that arrives is carried out."""
        deaf = self.fault is not None and self.fault.kind is Kind.DEAF
        return self.connected and self.host is not Host.DOWN and not deaf
