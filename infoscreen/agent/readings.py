"""What the machine says of itself: sensors, addresses, model. Facts, no protocol; each may be missing.

Blocks for milliseconds; call it in a thread.
"""

import contextlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

ROOT = Path("/")
_CPU_SENSORS = ("cpu_thermal", "coretemp", "k10temp", "soc_thermal", "cpu-thermal", "acpitz")
_UNDERVOLTAGE_NOW = 0x1
_SAME_BOOT = timedelta(seconds=30)
"""The kernel computes the boot time from a clock that is being set; smaller moves are not news."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Percentages 0 to 100, degrees Celsius; None for what this machine does not tell."""

    cpu_percent: float | None
    memory_percent: float | None
    disk_percent: float | None
    temperature_celsius: float | None
    undervoltage: bool | None


NOTHING = Readings(None, None, None, None, None)


def read_sensors(disk: Path, root: Path = ROOT) -> Readings:
    """Read everything; the CPU's use is since the call before."""
    return Readings(
        cpu_percent=_read(lambda: psutil.cpu_percent(interval=None)),
        memory_percent=_read(lambda: float(psutil.virtual_memory().percent)),
        disk_percent=_read(lambda: float(psutil.disk_usage(str(disk)).percent)),
        temperature_celsius=temperature(root),
        undervoltage=undervoltage(root),
    )


def _read(reading: Callable[[], float]) -> float | None:
    """Return a reading; None where the kernel does not show what psutil reads, as in a sandbox."""
    try:
        return reading()
    except (OSError, psutil.Error, ArithmeticError, LookupError, ValueError, RuntimeError):
        return None


def temperature(root: Path = ROOT) -> float | None:
    """Return the CPU's temperature: of a sensor that is known for it, else of the first thermal zone."""
    for name in _CPU_SENSORS:
        for monitor in sorted(root.glob("sys/class/hwmon/hwmon*")):
            if _text(monitor / "name") == name and (value := _number(monitor / "temp1_input")) is not None:
                return value / 1000
    zone = _number(root / "sys/class/thermal/thermal_zone0/temp")
    return None if zone is None else zone / 1000


def undervoltage(root: Path = ROOT) -> bool | None:
    """Tell whether a Raspberry Pi has too little voltage just now; None on other machines."""
    flags = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if flags is not None:
        with contextlib.suppress(ValueError):
            return bool(int(flags, 16) & _UNDERVOLTAGE_NOW)
    for monitor in root.glob("sys/class/hwmon/hwmon*"):
        if _text(monitor / "name") == "rpi_volt":
            alarm = _number(monitor / "in0_lcrit_alarm")
            return None if alarm is None else bool(alarm)
    return None


def boot_id(root: Path = ROOT) -> str:
    """Return the kernel's id of this boot."""
    return _text(root / "proc/sys/kernel/random/boot_id") or "unknown"


class BootTime:
    """When the machine was booted, by a clock that may be set while it runs."""

    def __init__(self) -> None:
        self._known: datetime | None = None

    def read(self) -> datetime | None:
        """Return the boot time; the same one until it moves by more than the kernel's rounding."""
        seconds = _read(psutil.boot_time)
        if seconds is not None:
            with contextlib.suppress(ValueError, OverflowError, OSError):
                now = datetime.fromtimestamp(seconds, UTC)
                if self._known is None or abs(now - self._known) > _SAME_BOOT:
                    self._known = now
        return self._known


def process_name(pid: int, root: Path = ROOT) -> str | None:
    """Return the name of a process."""
    return _text(root / f"proc/{pid}/comm")


def mac_of(address: str | None) -> str | None:
    """Return the hardware address of the interface that has ``address``."""
    try:
        interfaces = psutil.net_if_addrs()
    except (OSError, psutil.Error):
        return None
    for addresses in interfaces.values():
        if any(one.address == address for one in addresses):
            return next((one.address for one in addresses if one.family == psutil.AF_LINK), None)
    return None


def hardware_model(root: Path = ROOT) -> str | None:
    """Return what the board or the firmware calls the machine."""
    board = _text(root / "proc/device-tree/model")
    if board is not None:
        return board.rstrip("\0")
    firmware = (_text(root / f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    return " ".join(filter(None, firmware)) or None


def os_release() -> str | None:
    """Return the system's name for people."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except (OSError, ValueError):  # not UTF-8
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
