"""Reloads and restarts systemd units whose files have changed. Does nothing where systemd does not run."""

import subprocess
from pathlib import Path

from infoscreen.domain.errors import CannotStart

SYSTEMD = Path("/run/systemd/system")
ANSWER_SECONDS = 60


def is_active(unit: str) -> bool:
    """Tell whether systemd runs here and the unit is active."""
    return SYSTEMD.is_dir() and _systemctl("is-active", "--quiet", unit).returncode == 0


def reload(unit: str) -> bool:
    """Reload the unit if it is active, and tell whether it was; raise ``CannotStart`` if that failed."""
    return _tell("reload", unit)


def restart(unit: str) -> bool:
    """Restart the unit if it is active, and tell whether it was; raise ``CannotStart`` if that failed."""
    return _tell("restart", unit)


def restart_later(unit: str) -> None:
    """Ask for a restart and do not wait; for use within a job of the unit, which the restart waits for."""
    if SYSTEMD.is_dir():
        _systemctl("restart", "--no-block", unit)


def _tell(verb: str, unit: str) -> bool:
    if not is_active(unit):
        return False
    done = _systemctl(verb, unit)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()
        raise CannotStart(f"systemctl {verb} {unit} failed: {reason[0] if reason else 'no reason was given'}")
    return True


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["systemctl", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(arguments, 1, "", str(error))
