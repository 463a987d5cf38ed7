"""The machine behind a simulated screen: its boots, its application and its readings. Facts, no protocol."""

from dataclasses import dataclass
from datetime import datetime
from random import Random
from uuid import UUID

from infoscreen.domain.clients import ProcessStatus
from infoscreen.simulator.picture import Shown

APP_PROCESS = "infoscreen-player"
APP_UNIT = "infoscreen-app.service"
_FIRST_PID, _LARGEST_PID_STEP = 400, 300


@dataclass(frozen=True, slots=True)
class SimulatedReadings:
    """What the sensors say; percentages 0 to 100, degrees Celsius."""

    cpu_percent: float
    memory_percent: float
    disk_percent: float
    temperature_celsius: float
    undervoltage: bool


class SimulatedHost:
    """One machine; a new one is off.

    ``boot_id`` and ``booted_at`` change with every boot, ``pid`` and ``app_started_at`` with every start of
    the application; the last two are None while it does not run. A picture that is ``black``, or frozen,
    stays so until the application starts again.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._last_pid = _FIRST_PID
        self._warmth = random.uniform(0, 12)
        self.boot_id = ""
        self.booted_at: datetime | None = None
        self.process_status = ProcessStatus.STOPPED
        self.pid: int | None = None
        self.app_started_at: datetime | None = None
        self.screen_on = True
        self.slides_shown = 0
        self.black = False
        self.frozen_since: datetime | None = None

    def boot(self, now: datetime) -> None:
        """Come up afresh, with the application running and the screen on."""
        self.boot_id = str(UUID(int=self._random.getrandbits(128), version=4))
        self.booted_at = now
        self._last_pid = _FIRST_PID
        self.screen_on = True
        self.start_app(now)

    def start_app(self, now: datetime) -> None:
        """Run the application as a new process."""
        self._last_pid += self._random.randint(1, _LARGEST_PID_STEP)
        self.pid = self._last_pid
        self.app_started_at = now
        self.process_status = ProcessStatus.RUNNING
        self.black, self.frozen_since = False, None

    def lose_app(self, status: ProcessStatus) -> None:
        """Let the application be gone, for the reason that ``status`` tells."""
        self.pid = None
        self.app_started_at = None
        self.process_status = status

    @property
    def shown(self) -> Shown:
        """Return what can be seen on the screen."""
        if not self.screen_on or self.black:
            return Shown.NOTHING
        return Shown.SLIDE if self.process_status is ProcessStatus.RUNNING else Shown.DESKTOP

    def read(self) -> SimulatedReadings:
        """Read the sensors; each time a little different."""
        busy = self.process_status is ProcessStatus.RUNNING
        cpu = self._random.uniform(8, 35) if busy else self._random.uniform(1, 4)
        return SimulatedReadings(
            cpu_percent=round(cpu, 1),
            memory_percent=round(self._random.uniform(38, 46) if busy else self._random.uniform(18, 21), 1),
            disk_percent=round(31 + self._warmth, 1),
            temperature_celsius=round(41 + self._warmth + cpu / 4, 1),
            undervoltage=self._random.random() < 0.005,
        )
