"""A device without a battery for its clock: it starts in 1970 and is set right later.

The agent as a process whose wall time is libfaketime's, with a real broker and a real daemon that recovers.
"""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infoscreen.clock import SystemClock
from tests.agents import Device
from tests.api import ask
from tests.broker import Broker
from tests.daemon import ask_until, installed
from tests.programs import find_free_port
from tests.test_withstand_clock import WallTime
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

UUID = "0b3c2f0e-5a64-4a4e-9d4d-6a3c2f1e0d9b"
STARTED = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Systemd:
    """Where an agent with a watchdog reports to."""

    def __init__(self, directory: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(directory / "notify"))
        self.environment = {"NOTIFY_SOCKET": str(directory / "notify"), "WATCHDOG_USEC": "3000000"}

    def __enter__(self) -> "Systemd":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def told(self) -> list[str]:
        """Return what was told since the last asking."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    async def until_patted(self) -> None:
        """Wait for three more answers to the watchdog."""
        seen: list[str] = []
        self.told()

        def enough() -> bool:
            seen.extend(self.told())
            return sum("WATCHDOG=1" in message for message in seen) >= 3

        await until(enough, every=0.1, within=60)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with Systemd(tmp_path) as listening:
        yield listening


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
async def test_a_device_that_starts_in_1970_is_well_once_its_clock_is_set(
    tmp_path: Path, systemd: Systemd, tls: bool
) -> None:
    ports = find_free_port(), find_free_port()
    broker = Broker(tmp_path / "broker", ports[0], devices_port=ports[1] if tls else None)
    wall = WallTime(tmp_path)
    wall.set(STARTED - SystemClock().now())
    rules = {
        "CRASH_RECOVERY_ENABLED": "true",
        "CRASH_RECOVERY_POLL_SECONDS": 1,
        "CRASH_RECOVERY_GRACE_SECONDS": 1,
    }
    async with broker.running(), installed(tmp_path / "daemon", broker, **rules) as daemon:
        await broker.add_device(UUID)
        device = Device(tmp_path / "device", broker, UUID)
        if tls:
            assert broker.authority is not None
            secured = {"MQTT_PORT": ports[1], "MQTT_TLS_CA_CERT": broker.authority.bundle}
            device.settings |= {"MQTT_HOST": "localhost", "MQTT_TLS_ENABLED": "true", **secured}
        # The application was started in 1970, and systemd does not change its mind about that.
        unit = device.metal / "unit"
        lines = [line for line in unit.read_text().splitlines() if "Timestamp" not in line]
        started = "ExecMainStartTimestamp=Thu 1970-01-01 00:00:30.000000 UTC"
        unit.write_text("\n".join([*lines, started]) + "\n")
        await daemon.start()
        device.variables = {**wall.environment, **systemd.environment}
        async with daemon.program() as api:
            await device.start()
            try:
                if tls:
                    await until(
                        lambda: "is not valid yet; correct this host's clock" in device.log, within=60
                    )
                    assert (await ask(api, "GET", "/api/clients"))["total"] == 0
                else:
                    await ask_until(api, "/api/clients?status=online", lambda page: page["total"] == 1)
                await systemd.until_patted()

                wall.set(timedelta())
                await ask_until(api, "/api/clients?status=online", lambda page: page["total"] == 1, within=90)
                await ask_until(
                    api, f"/api/clients/{UUID}", lambda client: abs(client["clock_skew_seconds"]) < 60
                )
                await systemd.until_patted()
                # An hour back, and right again.
                for ahead in (timedelta(hours=-1), timedelta()):
                    wall.set(ahead)
                    await ask_until(
                        api,
                        f"/api/clients/{UUID}",
                        lambda client: abs(client["clock_skew_seconds"] * SECOND - ahead) < 60 * SECOND,  # noqa: B023
                        within=60,
                    )
                    await systemd.until_patted()

                # Nothing was told that is not so, and nobody restarted or rebooted anything.
                page = await ask(api, "GET", f"/api/clients/{UUID}/timeline")
                statuses = [entry["text"] for entry in page["items"] if entry["kind"] == "status"]
                assert statuses == ["Never seen → Online"]
                codes = {entry["code"] for entry in page["items"]}
                assert codes <= {"status_changed", "presence_changed"}, page
                assert (await ask(api, "GET", f"/api/clients/{UUID}/commands"))["items"] == []
                assert (await ask(api, "GET", "/api/incidents"))["items"] == []
                assert device.calls == []
                # The device answers, and that it did is seen although the times before were of 1970.
                body = {"action": "restart_app"}
                answer = await ask(api, "POST", f"/api/clients/{UUID}/commands", json=body, status=202)
                await ask_until(
                    api,
                    f"/api/commands/{answer['command']['command_id']}",
                    lambda command: (command["status"], command["verification"]) == ("completed", "verified"),
                    within=60,
                )
                assert "Traceback" not in device.log
            finally:
                await device.kill()
