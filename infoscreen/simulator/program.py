"""``infoscreen simulate``: credentials in, signals and a progress line while it runs, figures out."""

import asyncio
import contextlib
import resource
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import click

from infoscreen.clock import SystemClock
from infoscreen.domain.errors import BrokerUnavailable, InvalidArguments
from infoscreen.mqtt.connection import SharedTls, TlsSettings
from infoscreen.simulator.connection import Endpoint
from infoscreen.simulator.device import DeviceFault, Timing
from infoscreen.simulator.faults import FaultPlan
from infoscreen.simulator.figures import Figures, figures
from infoscreen.simulator.fleet import SimulatedFleet
from infoscreen.simulator.identity import device_uuids, identities
from infoscreen.simulator.line import Account
from infoscreen.simulator.multiplexer import Gateway

DEFAULT_SEED = "infoscreen"

MOST_CLIENTS = 50_000
MOST_CONNECTIONS = 5_000
"""Devices that may have a connection each; more must share connections."""

STARTS_PER_SECOND = 200
"""Connections begun per second unless told otherwise: a broker checks passwords one at a time."""
SHARED_STARTS_PER_SECOND = 500
"""Devices started per second on shared connections: each sends five messages at once."""

PROGRESS_SECONDS = 1.0

_FILES_BESIDES_SOCKETS = 100


def run(
    clients: int,
    *,
    host: str = "127.0.0.1",
    port: int = 1883,
    credentials: Path | None = None,
    password: str | None = None,
    gateway_user: str | None = None,
    gateway_password: str | None = None,
    gateway_connections: int | None = None,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    insecure: bool = False,
    seed: str = DEFAULT_SEED,
    heartbeat_seconds: float = 30,
    health_seconds: float = 60,
    boot_seconds: float = 20,
    log_seconds: float | None = None,
    screenshot_seconds: float | None = None,
    start_within_seconds: float | None = None,
    faults: Mapping[DeviceFault, float] | None = None,
    faults_per_hour: Mapping[DeviceFault, float] | None = None,
    faults_within_seconds: float = 60,
    relief_after_seconds: float | None = None,
    duration_seconds: float | None = None,
    persistent_sessions: bool = True,
) -> Figures:
    """Simulate ``clients`` devices until the time is over or a signal comes; return what they did. Blocks.

    Args:
        clients: how many devices, 50,000 at most; more than 5,000 need a gateway.
        host: the broker's.
        port: the broker's.
        credentials: a file with a line ``UUID PASSWORD`` per device; its first ``clients`` lines are used.
            Without it the UUIDs come from the seed (``device_uuids``) and all have ``password``.
        password: of every device without ``credentials``.
        gateway_user: an account that may speak for all devices, which share a few connections under it and
            need neither ``credentials`` nor ``password``. One of the three is needed, and only one.
        gateway_password: the password of that account.
        gateway_connections: how many they share, None for one per 2,500 devices; one more listens.
        ca: the CA certificates to check the broker by; given means TLS.
        cert: the client certificate that all devices show, for a broker that asks for one.
        key: its private key.
        insecure: do not check the host name in the broker's certificate.
        seed: the same one makes the same devices, faults and jitter.
        heartbeat_seconds: between two heartbeats of a device.
        health_seconds: between two health messages of a device.
        boot_seconds: how long a device is away for a reboot.
        log_seconds: between two log lines of a device, None for none.
        screenshot_seconds: between two unasked screenshots of a device, None for none.
        start_within_seconds: over which the starts are spread, None for 200 a second, with a gateway 500.
        faults: the share of the fleet, 0 to 1, that each fault happens to; at most 1 together.
        faults_per_hour: how often per hour each fault happens to each device on average.
        faults_within_seconds: the time after its start within which a fault happens to its share.
        relief_after_seconds: the time after a fault at which network and power come back and hangs end, None
            for never.
        duration_seconds: how long to run, None until stopped.
        persistent_sessions: whether the broker keeps commands for devices that are away.

    Raises:
        InvalidArguments: something given makes no sense, as the text says.
    """
    if not 1 <= clients <= MOST_CLIENTS:
        raise InvalidArguments(f"{clients} devices were asked for, possible are 1 to {MOST_CLIENTS}")
    gateway = _gateway(gateway_user, gateway_password, gateway_connections)
    if gateway is None:
        passwords = _passwords(clients, credentials, password, seed)
        sockets, starts_per_second = clients, STARTS_PER_SECOND
    else:
        if credentials is not None or password is not None:
            raise InvalidArguments("with a gateway account, devices have no credentials of their own")
        passwords = dict.fromkeys(device_uuids(clients, seed), "")
        sockets, starts_per_second = gateway.lines_for(clients) + 1, SHARED_STARTS_PER_SECOND
    spread = clients / starts_per_second if start_within_seconds is None else start_within_seconds
    allow_open_files(sockets + _FILES_BESIDES_SOCKETS)
    fleet = SimulatedFleet(
        identities(list(passwords)),
        passwords,
        Endpoint(host, port, _tls(ca, cert, key, insecure=insecure)),
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
            per_hour=faults_per_hour or {},
        ),
        start_within=timedelta(seconds=spread),
        persistent_sessions=persistent_sessions,
        gateway=gateway,
    )
    asyncio.run(_simulate(fleet, duration_seconds))
    return figures(fleet)


async def _simulate(fleet: SimulatedFleet, duration_seconds: float | None) -> None:
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


async def _show_progress(fleet: SimulatedFleet) -> None:
    """Keep one line on standard error up to date."""
    sent_before = 0
    try:
        while True:
            traffic, tally = fleet.traffic, fleet.tally
            line = (
                f"{traffic.connected}/{fleet.size} connected, {traffic.sent} sent"
                f" ({(traffic.sent - sent_before) / PROGRESS_SECONDS:.0f}/s), {traffic.acked} acked,"
                f" {tally.commands} commands, {sum(tally.faults.values())} faults"
            )
            sent_before = traffic.sent
            if traffic.errors:
                reason, times = traffic.errors.most_common(1)[0]
                line += f", {times}x {reason}"
            click.echo(f"\r\x1b[2K{line[:150]}", nl=False, err=True)
            await asyncio.sleep(PROGRESS_SECONDS)
    finally:
        click.echo(err=True)


def _gateway(user: str | None, password: str | None, connections: int | None) -> Gateway | None:
    if user is None:
        if password is not None or connections is not None:
            raise InvalidArguments("a gateway's password or connections were given, but no gateway user")
        return None
    if password is None:
        raise InvalidArguments(f"the password of the gateway account {user} is needed")
    return Gateway(Account(user, password), connections)


def _passwords(clients: int, credentials: Path | None, password: str | None, seed: str) -> dict[str, str]:
    """Return the password of each device by its UUID."""
    if clients > MOST_CONNECTIONS:
        raise InvalidArguments(
            f"{clients} devices cannot have a connection each, at most {MOST_CONNECTIONS} can: let them share"
            " connections with a gateway account, see docs/simulator.md"
        )
    if (credentials is None) == (password is None):
        raise InvalidArguments(
            "give either a file of credentials or one password for all devices, or a gateway account"
        )
    if credentials is None:
        return dict.fromkeys(device_uuids(clients, seed), password or "")
    found = _read_credentials(credentials)
    if len(found) < clients:
        raise InvalidArguments(
            f"{credentials} has credentials for {len(found)} devices, wanted are {clients}"
        )
    return dict(list(found.items())[:clients])


def _read_credentials(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArguments(f"cannot read {path}: {error}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        uuid, _, password = line.strip().partition(" ")
        with contextlib.suppress(ValueError):
            if str(UUID(uuid)) == uuid and password.strip():
                found[uuid] = password.strip()
                continue
        raise InvalidArguments(
            f"{path}, line {number}: wanted is a UUID in lower case, a space and a password"
        )
    return found


def _tls(ca: Path | None, cert: Path | None, key: Path | None, *, insecure: bool) -> SharedTls | None:
    if ca is None:
        if cert is not None or key is not None or insecure:
            raise InvalidArguments("without a CA certificate (--ca) there is no TLS")
        return None
    if (cert is None) != (key is None):
        raise InvalidArguments("a client certificate and its key are needed together")
    try:
        return SharedTls(TlsSettings(ca, cert, key, insecure))
    except BrokerUnavailable as error:
        raise InvalidArguments(str(error)) from None


def allow_open_files(wanted: int) -> None:
    """Raise this process's limit of open files as far as needed.

    Raises:
        InvalidArguments: the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise InvalidArguments(
                f"so many devices need {wanted} open files, allowed are {hard} (ulimit -Hn)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
