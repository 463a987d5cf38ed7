"""What the agent asks systemd, through ``systemctl``.

Without root: a polkit rule (``systemd/client``) lets the agent's user do exactly this.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime

from infoscreen.agent.children import NotStarted, child
from infoscreen.domain.clients import ProcessStatus

ANSWER_SECONDS = 10.0
"""How long ``systemctl show`` may take."""

_LONGEST_NUMBER = 19
_PROPERTIES = "ActiveState,SubState,NRestarts,MainPID,ExecMainStartTimestamp,Result"


class SystemdRefused(Exception):
    """systemctl failed; the text is its own."""


class NoSystemctl(SystemdRefused):
    """systemctl could not be started at all."""


@dataclass(frozen=True, slots=True)
class UnitState:
    """How systemd sees a unit; ``started_at`` is of its main process, None while there is none."""

    active: str
    sub: str
    result: str
    restarts: int | None
    pid: int | None
    started_at: datetime | None

    @property
    def process_status(self) -> ProcessStatus | None:
        """Return the same in the contract's words; None if there are none."""
        if self.sub == "auto-restart" and self.result != "success":
            return ProcessStatus.CRASHED
        return _STATUS.get(self.active)

    @property
    def is_up(self) -> bool:
        """Tell whether the unit is active with a main process."""
        return self.active == "active" and self.pid is not None

    def __str__(self) -> str:
        return f"{self.active} ({self.sub}), result {self.result}"


_STATUS = {
    "active": ProcessStatus.RUNNING,
    "reloading": ProcessStatus.RUNNING,
    "activating": ProcessStatus.STARTING,
    "deactivating": ProcessStatus.STOPPED,
    "inactive": ProcessStatus.STOPPED,
    "failed": ProcessStatus.CRASHED,
}


class Systemd:
    """systemctl, as a subprocess; raises ``SystemdRefused``."""

    async def show(self, unit: str) -> UnitState:
        """Return the state of a unit."""
        output = await _systemctl(
            "show", "--timestamp=us+utc", f"--property={_PROPERTIES}", "--", unit, within=ANSWER_SECONDS
        )
        return parse_unit_state(output)

    async def restart(self, unit: str, within: float) -> None:
        """Restart a unit, also one that was restarted too often; wait for its start to be over."""
        with contextlib.suppress(SystemdRefused):  # it fails for a unit that is not loaded
            await _systemctl("reset-failed", "--", unit, within=within)
        await _systemctl("restart", "--", unit, within=within)

    async def reboot(self) -> None:
        """Ask for a reboot; the host goes down some time after the return."""
        await _systemctl("reboot", within=ANSWER_SECONDS)

    async def power_off(self) -> None:
        """Ask for a halt with the power off."""
        await _systemctl("poweroff", within=ANSWER_SECONDS)

    async def may_be_going_down(self) -> bool:
        """Tell whether the host is going down, or nobody can be asked any more, which looks the same."""
        try:
            manager = await _systemctl("show", "--property=SystemState", "--value", within=ANSWER_SECONDS)
        except NoSystemctl:
            return False
        except SystemdRefused:
            return True
        return manager.strip() == "stopping"


def parse_unit_state(output: str) -> UnitState:
    """Read what ``systemctl show`` wrote."""
    values = dict(line.partition("=")[::2] for line in output.splitlines())
    pid = _number(values.get("MainPID"))
    return UnitState(
        active=values.get("ActiveState", "unknown"),
        sub=values.get("SubState", "unknown"),
        result=values.get("Result", "unknown"),
        restarts=_number(values.get("NRestarts")),
        pid=pid or None,
        started_at=_time(values.get("ExecMainStartTimestamp")) if pid else None,
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < _LONGEST_NUMBER else None


def _time(text: str | None) -> datetime | None:
    """``Tue 2026-11-24 21:21:13.123456 UTC``; empty or ``n/a`` for never."""
    try:
        return datetime.strptime(text or "", "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC)
    except ValueError:
        return None


async def _systemctl(*arguments: str, within: float) -> str:
    command = ("systemctl", "--no-ask-password", "--no-pager", *arguments)
    try:
        async with child(command, errors=asyncio.subprocess.PIPE, LC_ALL="C") as process:
            async with asyncio.timeout(within):
                output, errors = await process.communicate()
    except NotStarted as error:
        raise NoSystemctl(str(error)) from None
    except TimeoutError:
        raise SystemdRefused(f"systemctl {arguments[0]} took longer than {within:g} s") from None
    if process.returncode != 0:
        said = " ".join(errors.decode(errors="replace").split())
        raise SystemdRefused(said or f"systemctl {arguments[0]} ended with {process.returncode}")
    return output.decode(errors="replace")
