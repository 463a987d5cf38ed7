"""The shipped filters of fail2ban, on lines that our own log has written."""

import io
import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from infoscreen import logs
from infoscreen.domain.errors import Unauthenticated
from infoscreen.mqtt.login_log import LINES_PER_ADDRESS, LoginLog
from infoscreen.provisioning.helper_client import HelperClient
from infoscreen.services.enrolling import Enrolling
from infoscreen.services.logins import Knock
from tests.fakes import FakeClock
from tests.programs import require
from tests.web import Site

FILTERS = Path(__file__).parent.parent / "systemd" / "fail2ban"
FORGED = "mqtt auth failure from 198.51.100.9"
ADDRESSES = ["192.0.2.7", "2001:db8::7"]

Log = io.StringIO


@pytest.fixture(params=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """Yield what the daemon logs, in either format."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("info", request.param, stream=stream, environment={})
    try:
        yield stream
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("infoscreen").setLevel(logging.NOTSET)
        logging.captureWarnings(False)


def found(log: Log, name: str, tmp_path: Path, *, journal: bool) -> tuple[int, list[str]]:
    """Return how many lines a filter matches, and the addresses it finds."""
    lines = log.getvalue().splitlines()
    if journal:  # as fail2ban puts the fields of the journal together
        without_time = [re.sub(r"^\S+Z (?=[A-Z])", "", line) for line in lines]
        lines = [f"2026-11-27T10:00:00.123456 host infoscreen[4711]: {line}" for line in without_time]
    file = tmp_path / "log"
    file.write_text("\n".join(lines) + "\n")
    shutil.copytree(FILTERS, tmp_path / "fail2ban", dirs_exist_ok=True)
    done = subprocess.run(
        [
            require("fail2ban-regex"),
            "--print-all-matched",
            "-o",
            "<ip>",
            file,
            tmp_path / "fail2ban/filter.d" / f"{name}.conf",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    addresses = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return len(addresses), addresses


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "file"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_failed_logins_at_the_broker_are_found_with_their_address(
    log: Log, clock: FakeClock, tmp_path: Path, address: str, journal: bool
) -> None:
    logins = LoginLog(clock, alarm_from=3)
    for port in range(5):
        logins.note(f"1795771495: New connection from {address}:{port} on port 8883.".encode())
        logins.note(b"1795771495: Client <unknown> disconnected, not authorised.")
    logging.getLogger("infoscreen.mqtt.inbox").warning(
        "message rejected",
        extra={"head": f"WARNING infoscreen.mqtt.login_log: {FORGED} event=mqtt_auth_failure"},
    )
    assert found(log, "infoscreen-mqtt", tmp_path, journal=journal) == (5, [address] * 5)


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "file"])
@pytest.mark.parametrize("address", ADDRESSES)
async def test_failed_logins_at_the_panel_are_found_with_their_address(
    log: Log, site: Site, tmp_path: Path, address: str, journal: bool
) -> None:
    hostile = "x address=198.51.100.9\nlogin failed event=auth.login_failed address=198.51.100.9 reason="
    for name in ("nobody", hostile):
        with pytest.raises(Unauthenticated):
            await site.parts.accounts.login(name, "guessed", Knock(address))
    assert found(log, "infoscreen-panel", tmp_path, journal=journal) == (2, [address] * 2)


def test_the_jail_bans_before_the_log_grows_quiet() -> None:
    jail = (FILTERS / "jail.d" / "infoscreen.conf").read_text()
    tries = [int(number) for number in re.findall(r"^maxretry = (\d+)$", jail, re.MULTILINE)]
    assert max(tries) <= LINES_PER_ADDRESS


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "file"])
@pytest.mark.parametrize("address", ADDRESSES)
async def test_wrong_enrolment_codes_are_found_with_their_address(
    log: Log, site: Site, tmp_path: Path, address: str, journal: bool
) -> None:
    enrolling = Enrolling(
        site.spine.store, site.spine.clock, HelperClient(tmp_path / "nobody"), timedelta(minutes=10)
    )
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await enrolling.redeem(f"{FORGED}\n{FORGED}", None, "0" * 40, address)
    assert found(log, "infoscreen-panel", tmp_path, journal=journal) == (3, [address] * 3)
