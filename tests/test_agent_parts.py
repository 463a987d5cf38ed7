"""Parts of the agent by themselves: what they read from the machine, from systemd, from the journal."""

import asyncio
import json
import logging
import os
import socket
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from infoscreen.agent import readings
from infoscreen.agent.app_logs import AGAIN_SECONDS, WINDOW_SECONDS, AppLogs, RateLimit, parse
from infoscreen.agent.children import NotStarted, child, environment
from infoscreen.agent.connection import LONGEST_BACKOFF_SECONDS, backoff
from infoscreen.agent.journal_file import JournalFile
from infoscreen.agent.mail import Mail
from infoscreen.agent.protocol.journal import JournalContents
from infoscreen.agent.screenshots import NoScreenshot, checked
from infoscreen.agent.settings import load
from infoscreen.agent.state_files import SPOOL_LENGTH, StateFiles
from infoscreen.agent.systemd import parse_unit_state
from infoscreen.domain.clients import ProcessStatus
from infoscreen.sd_notify import notify
from infoscreen.wire.messages import MAX_SCREENSHOT_BYTES
from infoscreen.wire.topics import LogLevel
from tests.fakes import FakeClock
from tests.test_api_clients import PNG
from tests.waiting import until

# systemd.


@pytest.mark.parametrize(
    ("active", "sub", "result", "expected"),
    [
        ("active", "running", "success", ProcessStatus.RUNNING),
        ("activating", "start", "success", ProcessStatus.STARTING),
        ("activating", "auto-restart", "exit-code", ProcessStatus.CRASHED),
        ("activating", "auto-restart", "success", ProcessStatus.STARTING),
        ("deactivating", "stop-sigterm", "success", ProcessStatus.STOPPED),
        ("inactive", "dead", "success", ProcessStatus.STOPPED),
        ("failed", "failed", "start-limit-hit", ProcessStatus.CRASHED),
        ("maintenance", "", "", None),
    ],
)
def test_the_state_of_a_unit_in_the_words_of_the_contract(
    active: str, sub: str, result: str, expected: ProcessStatus | None
) -> None:
    state = parse_unit_state(f"ActiveState={active}\nSubState={sub}\nResult={result}\nMainPID=0\n")
    assert (state.process_status, state.pid, state.started_at) == (expected, None, None)


def test_the_start_of_a_unit_is_read_to_the_microsecond() -> None:
    state = parse_unit_state(
        "Result=success\nNRestarts=3\nMainPID=812\nActiveState=active\nSubState=running\n"
        "ExecMainStartTimestamp=Tue 2026-11-24 21:21:13.123456 UTC\n"
    )
    assert state.started_at == datetime(2026, 11, 24, 21, 21, 13, 123456, tzinfo=UTC)
    assert (state.pid, state.restarts, state.is_up) == (812, 3, True)


def test_without_systemd_nobody_is_notified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    notify("READY=1")
    assert not path.exists()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        notify("READY=1")
        assert systemd.recv(100) == b"READY=1"


# The machine.


@pytest.mark.parametrize(("flags", "expected"), [("0x50005", True), ("50000", False), ("x", None)])
def test_undervoltage_of_a_raspberry_pi(tmp_path: Path, flags: str, expected: bool | None) -> None:
    file = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    file.parent.mkdir(parents=True)
    file.write_text(f"{flags}\n")
    assert readings.undervoltage(tmp_path) is expected


def test_undervoltage_of_a_newer_kernel(tmp_path: Path) -> None:
    monitor = tmp_path / "sys/class/hwmon/hwmon1"
    monitor.mkdir(parents=True)
    (monitor / "name").write_text("rpi_volt\n")
    (monitor / "in0_lcrit_alarm").write_text("1\n")
    assert readings.undervoltage(tmp_path) is True


def test_the_cpus_sensor_is_preferred_to_a_thermal_zone(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("31000\n")
    assert readings.temperature(tmp_path) == 31
    for number, (name, value) in enumerate([("nvme", 40_000), ("cpu_thermal", 52_500)]):
        monitor = tmp_path / f"sys/class/hwmon/hwmon{number}"
        monitor.mkdir(parents=True)
        (monitor / "name").write_text(name)
        (monitor / "temp1_input").write_text(str(value))
    assert readings.temperature(tmp_path) == 52.5


def test_a_machine_without_sensors_says_nothing(tmp_path: Path) -> None:
    assert (readings.temperature(tmp_path), readings.undervoltage(tmp_path)) == (None, None)
    assert readings.hardware_model(tmp_path) is None


def test_the_board_names_itself(tmp_path: Path) -> None:
    model = tmp_path / "proc/device-tree/model"
    model.parent.mkdir(parents=True)
    model.write_text("Raspberry Pi 4 Model B Rev 1.5\0")
    assert readings.hardware_model(tmp_path) == "Raspberry Pi 4 Model B Rev 1.5"


def test_this_machine_has_readings_and_a_boot() -> None:
    read = readings.read_sensors(Path("/"))
    assert read.disk_percent is not None
    assert 0 <= read.memory_percent <= 100
    assert len(readings.boot_id()) == 36
    boot = readings.BootTime()
    assert boot.read() == boot.read()
    assert readings.process_name(os.getpid())


# The application's journal.


def line(**fields: object) -> bytes:
    return json.dumps(
        {"__REALTIME_TIMESTAMP": "1767225600500000", "MESSAGE": "text", "PRIORITY": "4"}
        | {"__MONOTONIC_TIMESTAMP": "1000000000", "__CURSOR": "s=1;i=1"}
        | fields
    ).encode()


@pytest.mark.parametrize(
    ("priority", "level"), [("0", LogLevel.ERROR), ("3", LogLevel.ERROR), ("4", LogLevel.WARN)]
)
def test_priorities_become_levels(priority: str, level: LogLevel) -> None:
    found = parse(line(PRIORITY=priority))
    assert found is not None
    assert found.level is level
    assert found.at == datetime(2026, 1, 1, 0, 0, 0, 500000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("text", "text"),
        ([104, 105, 255], "hi\ufffd"),  # journalctl's way with what is not UTF-8
        ("x" * 5_000, "x" * 4_000),
    ],
)
def test_whatever_the_application_writes_becomes_a_line(message: object, expected: str) -> None:
    found = parse(line(MESSAGE=message))
    assert found is not None
    assert found.message == expected


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", line(MESSAGE=None), line(MESSAGE=""), line(MESSAGE=[999])]
)
def test_a_line_that_says_nothing_is_left_out(data: bytes) -> None:
    assert parse(data) is None


def test_a_flood_passes_at_its_rate_and_the_rest_is_counted() -> None:
    limit = RateLimit(3)
    assert [limit.admits(100.0 + n) for n in range(5)] == [True, True, True, False, False]
    assert limit.ends == 100.0 + WINDOW_SECONDS
    assert limit.admits(limit.ends)
    assert (limit.take_dropped(), limit.take_dropped()) == (2, 0)


async def test_one_line_tells_how_many_were_dropped(files: StateFiles, clock: FakeClock) -> None:
    given = {"AGENT_UUID": str(uuid4()), "AGENT_MQTT_PASSWORD": "x", "AGENT_LOG_LINES_PER_MINUTE": "2"}
    mail = Mail(JournalFile(files.directory), JournalContents.nothing(), clock)
    logs = AppLogs(load(given), mail, clock)
    found = parse(line())
    assert found is not None
    for _ in range(5):
        logs._forward(found)
    clock.advance(WINDOW_SECONDS)
    logs._forward(found)
    dropped = "3 lines of infoscreen-app.service were dropped: more than 2 in a minute"
    assert forwarded(mail) == ["text", "text", dropped, "text"]


def forwarded(mail: Mail) -> list[str]:
    """Return the lines that are to be sent, and take them out of the mail."""
    said = []
    while (packet := mail.outbox.next()) is not None:
        mail.sent(packet)
        said.append(json.loads(packet.payload)["message"])
    return said


async def test_a_flood_that_ended_is_told_of_without_another_line(
    files: StateFiles, clock: FakeClock
) -> None:
    given = {"AGENT_UUID": str(uuid4()), "AGENT_MQTT_PASSWORD": "x", "AGENT_LOG_LINES_PER_MINUTE": "1"}
    mail = Mail(JournalFile(files.directory), JournalContents.nothing(), clock)
    logs = AppLogs(load(given), mail, clock)
    output = asyncio.StreamReader()
    reading = asyncio.create_task(logs._read(output))
    for number in range(3):
        output.feed_data(line(__CURSOR=f"s=1;i={number}") + b"\n")
    await until(lambda: logs._limit.dropped == 2)
    clock.advance(WINDOW_SECONDS)
    output.feed_data(b"\n")  # says nothing; it only makes the reader look at the clock again
    await until(lambda: mail.outbox.events == 2)
    output.feed_eof()
    await reading


class ScriptedJournal:
    """A journal that journalctl writes out once per start, and then ends. Times are seconds since boot."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._file = directory / "journal"
        self._refuses = directory / "refuses"
        self._file.touch()
        script = directory / "journalctl"
        script.write_text(f"#!/bin/sh\n[ ! -e {self._refuses} ] || exit 1\ncat {self._file}\n")
        script.chmod(0o755)

    def add(self, message: str, at: float, wall: str = "1767225600500000") -> None:
        number = len(self._file.read_bytes().splitlines())
        stamps = {"__MONOTONIC_TIMESTAMP": f"{at * 1e6:.0f}", "__REALTIME_TIMESTAMP": wall}
        with self._file.open("ab") as file:
            file.write(line(MESSAGE=message, __CURSOR=f"i={number}{message}", **stamps) + b"\n")

    def rotate(self) -> None:
        self._file.write_bytes(b"")

    def refuse(self, refuses: bool) -> None:
        if refuses:
            self._refuses.touch()
        else:
            self._refuses.unlink()


async def test_no_line_of_the_journal_is_lost_or_forwarded_twice_while_no_journalctl_runs(
    files: StateFiles, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = ScriptedJournal(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    given = {"AGENT_UUID": str(uuid4()), "AGENT_MQTT_PASSWORD": "x"}
    mail = Mail(JournalFile(files.directory), JournalContents.nothing(), clock)
    started = clock.monotonic()
    journal.add("before the agent", started - 1)
    logs = AppLogs(load(given), mail, clock)
    journal.add("before journalctl", started + 0.5)

    running = asyncio.create_task(logs.run())
    await clock.wait_for_sleepers()
    assert forwarded(mail) == ["before journalctl"]

    async def once_more() -> list[str]:
        clock.advance(AGAIN_SECONDS)
        await clock.wait_for_sleepers()
        return forwarded(mail)

    assert await once_more() == []
    journal.add("between two", started + 1)
    journal.add("in the same microsecond", started + 1)
    assert await once_more() == ["between two", "in the same microsecond"]
    journal.add("in the same microsecond, and late", started + 1)
    assert await once_more() == ["in the same microsecond, and late"]
    journal.refuse(True)
    journal.add("while it was refused", started + 2)
    assert await once_more() == []
    journal.refuse(False)
    assert await once_more() == ["while it was refused"]
    journal.rotate()  # and with it the line that was read last
    journal.add("after the clock was set to 1970", started + 3, wall="5000000")
    journal.add("and to the present", started + 4)
    assert await once_more() == ["after the clock was set to 1970", "and to the present"]
    assert await once_more() == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# The connection.


def test_a_fleet_that_lost_its_broker_comes_back_evenly() -> None:
    pauses = [backoff(10, 0, Random(seed)) for seed in range(10_000)]
    seconds = Counter(int(pause) for pause in pauses)
    assert set(seconds) == set(range(10))
    assert max(seconds.values()) < 1_200  # of the 1,000 that would be quite even


def test_the_pauses_grow_up_to_a_minute() -> None:
    longest = [max(backoff(10, failures, Random(seed)) for seed in range(200)) for failures in range(8)]
    assert longest == sorted(longest)
    assert 50 < longest[-1] <= LONGEST_BACKOFF_SECONDS
    assert backoff(120, 3, Random(1)) <= 120


# Children.


def test_the_environment_of_children_is_what_they_need_and_nothing_else() -> None:
    kept = {"PATH": "/bin", "DISPLAY": ":0", "XDG_RUNTIME_DIR": "/run/user/1", "LC_ALL": "C"}
    secrets = ("AGENT_MQTT_PASSWORD", "NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY", "HTTP_PROXY")
    assert environment(kept | dict.fromkeys(secrets, "x")) == kept


async def test_a_child_that_is_not_waited_for_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with child(("sh", "-c", f"sleep 600 & echo $$ $! >{pids}.new; mv {pids}.new {pids}; wait")):
        await until(pids.exists)
    for pid in pids.read_text().split():
        await until(lambda pid=pid: not Path(f"/proc/{pid}").exists() or " Z " in stat(pid))


def stat(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return " Z "


@pytest.mark.parametrize("command", [("/nonexistent",), ("echo", "a\0b"), ("",)])
async def test_a_program_that_cannot_be_started_is_said(command: tuple[str, ...]) -> None:
    with pytest.raises(NotStarted):
        async with child(command):
            raise AssertionError


# Screenshots.


@pytest.mark.parametrize("picture", [b"", b"GIF89a", PNG[:-1], PNG + b"\0" * MAX_SCREENSHOT_BYTES])
def test_what_the_contract_does_not_allow_is_no_screenshot(picture: bytes) -> None:
    assert checked(PNG) == PNG
    with pytest.raises(NoScreenshot):
        checked(picture)


# The files.


@pytest.fixture
def files(tmp_path: Path) -> StateFiles:
    files = StateFiles(tmp_path / "state")
    files.prepare()
    return files


def test_reports_on_their_way_are_bounded(files: StateFiles) -> None:
    for number in range(SPOOL_LENGTH + 5):
        files.spool(f"{number:04}", b"{}")
    assert [path.stem for path in files.spooled()] == [f"{n:04}" for n in range(5, SPOOL_LENGTH + 5)]


def test_only_one_speaks_for_the_device(files: StateFiles) -> None:
    with files.lock() as first, StateFiles(files.directory).lock() as second:
        assert (first, second) == (True, False)
    with StateFiles(files.directory).lock() as third:
        assert third


def test_state_is_for_this_user_only(files: StateFiles) -> None:
    for directory in (files.directory, files.directory / "failed"):
        assert directory.stat().st_mode & 0o077 == 0


def test_the_libraries_log_is_quiet() -> None:
    assert logging.getLogger("infoscreen.mqtt.client.library").level == logging.CRITICAL
