"""The shipped units, without starting them: confined, and never given up. And how settings are added."""

import subprocess
from pathlib import Path

import pytest

from tests.programs import require

SYSTEMD = Path(__file__).parent.parent / "systemd"
HARDENED = (
    *("infoscreen.service", "infoscreen-backup.service", "client/infoscreen-agent.service"),
    "client/infoscreen-service-failed@.service",
)


@pytest.mark.parametrize("unit", HARDENED)
def test_a_unit_is_exposed_by_at_most_one_and_a_half(unit: str) -> None:
    analyze = (require("systemd-analyze"), "security", "--offline=true", "--threshold=15", "--no-pager")
    done = subprocess.run([*analyze, SYSTEMD / unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1:] + done.stderr.splitlines()


def test_the_broker_helper_is_confined_as_far_as_root_can_be() -> None:
    """It is root, sees who is connected to the broker, and signals it."""
    analyze = (require("systemd-analyze"), "security", "--offline=true", "--threshold=20", "--no-pager")
    unit = SYSTEMD / "infoscreen-broker-helper.service"
    done = subprocess.run([*analyze, unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1:] + done.stderr.splitlines()


@pytest.mark.parametrize("unit", ["infoscreen.service", "client/infoscreen-agent.service"])
def test_systemd_never_gives_up_on_daemon_and_agent(unit: str) -> None:
    lines = (SYSTEMD / unit).read_text(encoding="utf-8").splitlines()
    assert {"StartLimitIntervalSec=0", "Restart=always", "Type=notify", "SyslogLevel=err"} <= set(lines)
    assert not any(line.startswith("EnvironmentFile=") for line in lines)


@pytest.mark.parametrize("before", ["", "MQTT_PASSWORD=secret", "MQTT_PASSWORD=secret\n"])
def test_a_setting_is_added_on_a_line_of_its_own(tmp_path: Path, before: str) -> None:
    """Editors and other tools leave files behind that do not end their last line."""
    env = tmp_path / "infoscreen.env"
    env.write_text(before)
    script = (SYSTEMD.parent / "install.sh").read_text(encoding="utf-8")
    (function,) = [line for line in script.splitlines() if line.startswith("append() ")]
    command = f'{function}; append "$1" SECRETS_KEY=new'
    subprocess.run(["bash", "-euc", command, "-", str(env)], check=True)
    assert env.read_text().splitlines() == [*before.splitlines(), "SECRETS_KEY=new"]
