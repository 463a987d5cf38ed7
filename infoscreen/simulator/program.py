"""``infoscreen simulate``: credentials in, signals and a progress line while it runs, figures at the end."""

import asyncio
import contextlib
import resource
import signal
import ssl
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import click

from infoscreen.clock import SystemClock
from infoscreen.domain.errors import InvalidInput
from infoscreen.simulator.connection import Broker
from infoscreen.simulator.device import Fault, Timing
from infoscreen.simulator.fleet import FaultPlan, Fleet
from infoscreen.simulator.identity import device_uuids, identities

DEFAULT_SEED = "infoscreen"
STARTS_PER_SECOND = 200
"""Connections begun per second unless told otherwise: a broker checks passwords one at a time."""

_FILES_BESIDES_SOCKETS = 100


def run(
    clients: int,
    *,
    host: str = "127.0.0.1",
    port: int = 1883,
    credentials: Path | None = None,
    password: str | None = None,
    ca: Path | None = None,
    seed: str = DEFAULT_SEED,
    heartbeat_seconds: float = 30,
    health_seconds: float = 60,
    boot_seconds: float = 20,
    log_seconds: float | None = None,
    screenshot_seconds: float | None = None,
    start_within_seconds: float | None = None,
    faults: Mapping[Fault, float] | None = None,
    faults_within_seconds: float = 60,
    relief_after_seconds: float | None = None,
    duration_seconds: float | None = None,
    persistent_sessions: bool = True,
) -> None:
    """Simulate ``clients`` devices until the time is over or a signal comes, then print figures. Blocks.

    Args:
        clients: how many devices.
        host: the broker's.
        port: the broker's.
        credentials: a file with a line ``UUID PASSWORD`` per device; its first ``clients`` lines are used.
            Without it the UUIDs come from the seed (``device_uuids``) and all have ``password``.
        password: of every device without ``credentials``; one of the two is needed, not both.
        ca: the CA certificates to check the broker by; given means TLS.
        seed: the same one makes the same devices, faults and jitter.
        heartbeat_seconds: between two heartbeats of a device.
        health_seconds: between two health messages of a device.
        boot_seconds: how long a device is away for a reboot.
        log_seconds: between two log lines of a device, None for none.
        screenshot_seconds: between two unasked screenshots of a device, None for none.
        start_within_seconds: the time over which the starts are spread, None for 200 a second.
        faults: the share of the fleet, 0 to 1, that each fault befalls; at most 1 together.
        faults_within_seconds: the time after its start within which a fault befalls a device.
        relief_after_seconds: the time after a fault at which network and power come back and hangs end, None
            for never.
        duration_seconds: how long to run, None for ever.
        persistent_sessions: whether the broker keeps commands for devices that are away.

    Raises:
        InvalidInput: something given makes no sense, as the text says.
    """
    passwords = _passwords(clients, credentials, password, seed)
    spread = clients / STARTS_PER_SECOND if start_within_seconds is None else start_within_seconds
    allow_open_files(clients + _FILES_BESIDES_SOCKETS)
    fleet = Fleet(
        identities(list(passwords)),
        passwords,
        Broker(host, port, _tls(ca)),
        SystemClock(),
        seed=seed,
        timing=Timing(
            heartbeat=timedelta(seconds=heartbeat_seconds),
            health=timedelta(seconds=health_seconds),
            log=None if log_seconds is None else timedelta(seconds=log_seconds),
            screenshot=None if screenshot_seconds is None else timedelta(seconds=screenshot_seconds),
            boot=timedelta(seconds=boot_seconds),
        ),
        faults=FaultPlan(
            shares=faults or {},
            within=timedelta(seconds=faults_within_seconds),
            relief_after=None if relief_after_seconds is None else timedelta(seconds=relief_after_seconds),
        ),
        start_within=timedelta(seconds=spread),
        persistent_sessions=persistent_sessions,
    )
    asyncio.run(_simulate(fleet, duration_seconds))
    for line in figures(fleet):
        click.echo(line)


async def _simulate(fleet: Fleet, duration_seconds: float | None) -> None:
    """Run the fleet until a signal, or for so long, and tell on a terminal how it goes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        if duration_seconds is not None:
            loop.call_later(duration_seconds, stop.set)
        progress = tasks.create_task(_show_progress(fleet)) if sys.stderr.isatty() else None
        await fleet.run(stop)
        if progress is not None:
            progress.cancel()


async def _show_progress(fleet: Fleet) -> None:
    """Keep one line on standard error up to date."""
    try:
        while True:
            traffic, tally = fleet.traffic, fleet.tally
            line = (
                f"{traffic.connected}/{fleet.size} connected, {traffic.sent} sent, {traffic.acked} acked,"
                f" {tally.commands} commands, {sum(tally.faults.values())} faults"
            )
            if traffic.errors:
                reason, times = traffic.errors.most_common(1)[0]
                line += f", {times}x {reason}"
            click.echo(f"\r\x1b[2K{line[:150]}", nl=False, err=True)
            await asyncio.sleep(1)
    finally:
        click.echo(err=True)


def figures(fleet: Fleet) -> Iterator[str]:
    """Say what the fleet did, a line per figure."""
    traffic, tally = fleet.traffic, fleet.tally
    rows: list[tuple[str, int]] = [
        ("devices", fleet.size),
        ("connections made", traffic.connections),
        ("messages sent", traffic.sent),
        ("acknowledged by the broker", traffic.acked),
        ("commands seen", tally.commands),
        ("duplicates of commands", tally.duplicates),
        ("acks given", tally.acks),
        *((f"commands ignored: {reason}", times) for reason, times in sorted(tally.ignored.items())),
        *((f"faults: {fault}", times) for fault, times in sorted(tally.faults.items())),
        *((f"connection trouble: {reason}", times) for reason, times in traffic.errors.most_common(5)),
    ]
    for name, number in rows:
        yield f"{number:>10}  {name}"


def _passwords(clients: int, credentials: Path | None, password: str | None, seed: str) -> dict[str, str]:
    """Return the password of each device by its UUID."""
    if clients < 1:
        raise InvalidInput("at least one device is needed")
    if (credentials is None) == (password is None):
        raise InvalidInput("give either a file of credentials or one password for all devices")
    if credentials is None:
        return dict.fromkeys(device_uuids(clients, seed), password or "")
    found = _read_credentials(credentials)
    if len(found) < clients:
        raise InvalidInput(f"{credentials} has credentials for {len(found)} devices, wanted are {clients}")
    return dict(list(found.items())[:clients])


def _read_credentials(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        uuid, _, password = line.strip().partition(" ")
        with contextlib.suppress(ValueError):
            if str(UUID(uuid)) == uuid and password.strip():
                found[uuid] = password.strip()
                continue
        raise InvalidInput(f"{path}, line {number}: wanted is a UUID in lower case, a space and a password")
    return found


def _tls(ca: Path | None) -> ssl.SSLContext | None:
    if ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(ca))
    except OSError as error:
        raise InvalidInput(f"cannot use {ca} as CA certificates: {error}") from None


def allow_open_files(wanted: int) -> None:
    """Raise this process's limit of open files as far as needed.

    Raises:
        InvalidInput: the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise InvalidInput(f"so many devices need {wanted} open files, allowed are {hard} (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
