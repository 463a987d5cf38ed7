"""What systemd hears: ready, alive only while every part makes progress, reloading; and fatal errors."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infoscreen import logs
from infoscreen.clock import SystemClock
from infoscreen.progress import FOR_EVER, STEP_SECONDS, Progress, expect_within
from infoscreen.services.loops import every
from tests.broker import Broker
from tests.daemon import Daemon
from tests.devices import devices_at
from tests.fakes import FakeClock
from tests.waiting import until


class Systemd:
    """The receiving end of ``sd_notify``."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.heard: list[str] = []

    def hear(self) -> list[str]:
        """Return everything that was said so far, one assignment after the other."""
        try:
            while True:
                self.heard += self._socket.recv(65_536).decode().splitlines()
        except BlockingIOError:
            return self.heard

    def forget(self) -> None:
        self.hear()
        self.heard.clear()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    listening = Systemd(tmp_path / "notify")
    yield listening
    listening.close()


async def test_a_part_that_hangs_is_named_until_it_goes_on(clock: FakeClock) -> None:
    progress, go_on = Progress(clock), asyncio.Event()

    async def part() -> None:
        with progress.watching("part"):
            expect_within(5)
            await asyncio.create_task(go_on.wait())
            expect_within(FOR_EVER)
            await asyncio.Event().wait()

    task = asyncio.create_task(part())
    await asyncio.sleep(0)
    assert progress.hanging() == []
    clock.advance(6)
    assert progress.hanging() == ["part"]
    go_on.set()
    await until(lambda: progress.hanging() == [])
    clock.advance(1e9)
    assert progress.hanging() == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert progress.hanging() == []


async def test_a_loop_whose_step_never_ends_hangs_and_one_that_waits_does_not(clock: FakeClock) -> None:
    progress, hold = Progress(clock), asyncio.Event()

    async def loop(name: str, seconds: float, step: asyncio.Event | None) -> None:
        async def once() -> None:
            if step is not None:
                await step.wait()

        with progress.watching(name):
            await every(seconds, once, SystemClock())

    tasks = [asyncio.create_task(loop("hangs", 1, hold)), asyncio.create_task(loop("waits", 3_600, None))]
    await asyncio.sleep(0.01)
    clock.advance(STEP_SECONDS + 1)
    assert progress.hanging() == ["hangs"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.broker
async def test_systemd_hears_that_the_daemon_is_ready_alive_reloading_and_stopping(
    tmp_path: Path, broker: Broker, systemd: Systemd
) -> None:
    daemon = Daemon(tmp_path / "daemon", broker, NOTIFY_SOCKET=tmp_path / "notify", WATCHDOG_USEC=1_000_000)
    await daemon.install()
    try:
        await daemon.start()
        await until(lambda: "WATCHDOG=1" in systemd.hear())
        assert systemd.heard[0] == "READY=1"
        await until(lambda: any(said.startswith("STATUS=0 clients") for said in systemd.hear()))
        systemd.forget()
        os.kill(daemon.pid, signal.SIGHUP)
        await until(lambda: "READY=1" in systemd.hear())
        assert "RELOADING=1" in systemd.heard
        assert await daemon.stop() == 0
        assert systemd.hear()[-1] == "STOPPING=1"
    finally:
        await daemon.kill()


FREEZER = """
import ctypes, os, sys
libc, pid = ctypes.CDLL(None, use_errno=True), sys.argv[1]
SEIZE, INTERRUPT = 0x4206, 0x4207
for thread in os.listdir(f"/proc/{pid}/task"):
    if thread != pid and any(libc.ptrace(request, int(thread), 0, 0) for request in (SEIZE, INTERRUPT)):
        sys.exit(os.strerror(ctypes.get_errno()))
print("frozen", flush=True)
sys.stdin.read()
"""
"""Stops the threads that use the database, as a dead disk does, until it ends; the event loop turns on."""


@contextlib.contextmanager
def all_threads_but_the_first_are_frozen(pid: int) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", FREEZER, str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as freezer:
        try:
            assert freezer.stdout is not None
            assert freezer.stdout.readline() == b"frozen\n"
            yield
        finally:
            freezer.kill()


@pytest.mark.broker
@pytest.mark.slow
async def test_a_daemon_whose_writer_hangs_is_not_alive_although_its_loop_turns(
    tmp_path: Path, broker: Broker, systemd: Systemd
) -> None:
    quick = {"WATCHDOG_USEC": 2_500_000, "CRASH_RECOVERY_POLL_SECONDS": 1}
    daemon = Daemon(tmp_path / "daemon", broker, NOTIFY_SOCKET=tmp_path / "notify", **quick)
    await daemon.install()
    try:
        await daemon.start()
        async with devices_at(broker, 1):
            with all_threads_but_the_first_are_frozen(daemon.pid):
                wanted = {"recovery", "expiry sweeper", "mqtt listener"}
                await until(lambda: wanted <= hanging(daemon), within=60)
                systemd.forget()
                # That nothing comes cannot be waited for.
                await asyncio.sleep(1.5 * quick["WATCHDOG_USEC"] / 1e6)
                assert "WATCHDOG=1" not in systemd.hear()
    finally:
        await daemon.kill()


def hanging(daemon: Daemon) -> set[str]:
    return {part for line in daemon.logged("part_hangs") for part in line["parts"].split(", ")}


@pytest.mark.broker
async def test_a_reload_takes_up_the_log_level_and_names_what_needs_a_restart(
    tmp_path: Path, broker: Broker
) -> None:
    daemon = Daemon(tmp_path / "daemon", broker)
    await daemon.install()
    env_file = tmp_path / "daemon" / ".env"
    try:
        await daemon.start()
        env_file.write_text("LOG_LEVEL=debug\nRETENTION_DAYS=7\n")
        os.kill(daemon.pid, signal.SIGHUP)
        await until(lambda: daemon.logged("reloaded"))
        assert daemon.logged("reloaded")[0]["log_level"] == "debug"
        assert daemon.logged("restart_needed")[0]["settings"] == "RETENTION_DAYS"
        env_file.write_text("LOG_LEVEL=loud\n")
        os.kill(daemon.pid, signal.SIGHUP)
        await until(lambda: daemon.logged("reload_failed"))
        assert "LOG_LEVEL=loud" in daemon.logged("reload_failed")[0]["error"]
        assert daemon.alive
    finally:
        await daemon.kill()


class Journal:
    """journald's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(5)

    def entry(self) -> dict[str, str]:
        """Return the next entry, however it was sent."""
        data, rights, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
        if rights:
            with os.fdopen(rights[0], "rb") as file:
                file.seek(0)
                data = file.read()
        return parsed(data)


def parsed(data: bytes) -> dict[str, str]:
    """Read the journal's export format."""
    fields = {}
    while data:
        name, _, rest = data.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
        else:
            length = int.from_bytes(rest[:8], "little")
            key, value, rest = name, rest[8 : 8 + length], rest[9 + length :]
        fields[key.decode()] = value.decode()
        data = rest
    return fields


def record(level: int, text: str, **fields: object) -> "logging.LogRecord":
    made = logging.LogRecord("infoscreen.test", level, __file__, 1, text, None, None)
    vars(made).update(fields)
    return made


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_records_reach_the_journal_with_their_fields(tmp_path: Path, size: int) -> None:
    from infoscreen.journal import JournalHandler

    journal = Journal(tmp_path / "socket")
    fallback = logging.NullHandler()
    handler = JournalHandler(fallback, str(tmp_path / "socket"))
    handler.setFormatter(logs.TextFormatter(with_time=False))
    fields = {"event": "x", "client_uuid": "u\nPRIORITY=0", "_PID": "1", "n°": size, "command_id": None}
    handler.emit(record(logging.ERROR, "sentence" * size, **fields))
    entry = journal.entry()
    assert entry["PRIORITY"] == "3"
    assert entry["MESSAGE"].startswith("ERROR infoscreen.test: sentence")
    assert (entry["EVENT"], entry["CLIENT_UUID"]) == ("x", "u\nPRIORITY=0")
    assert (entry["PID"], entry["N_"]) == ("1", str(size))
    assert entry["SYSLOG_IDENTIFIER"] == "infoscreen"
    assert "COMMAND_ID" not in entry
    handler.close()
    journal.socket.close()


def test_a_journal_that_is_not_there_loses_nothing(tmp_path: Path) -> None:
    from infoscreen.journal import JournalHandler

    with (tmp_path / "log").open("w+") as stream:
        handler = JournalHandler(logging.StreamHandler(stream), str(tmp_path / "nowhere"))
        handler.emit(record(logging.INFO, "sentence"))
        stream.seek(0)
        assert "sentence" in stream.read()
        handler.close()


def test_an_error_that_ends_the_start_has_the_priority_of_an_error(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w+") as stream:
        there = os.fstat(stream.fileno())
        done = subprocess.run(
            [sys.executable, "-m", "infoscreen", "serve"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(Path(__file__).parent.parent),
                "INFOSCREEN_CONFIG_DIR": "/nonexistent",
                "JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}",
            },
            cwd=tmp_path,
            stderr=stream,
        )
        stream.seek(0)
        said = stream.read()
    assert done.returncode == 1
    if not Path("/run/systemd/journal/socket").exists():
        assert said.startswith("<2>CRITICAL infoscreen: MQTT_USER is not set")
        assert len(said.splitlines()) == 1
