"""Everything that is known before the demo's first process runs: files, ports, passwords, command lines."""

import base64
import contextlib
import os
import random
import secrets
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

import infoscreen
from infoscreen.clock import SystemClock
from infoscreen.demo.parts import HOST, Program
from infoscreen.domain.errors import CannotStart
from infoscreen.pki.authority import Authority
from infoscreen.provisioning import devices as accounts
from infoscreen.provisioning.broker_files import (
    CHECKLIST_ACCOUNT,
    PROBE_ACCOUNT,
    SERVER_ACCOUNT,
    BrokerFiles,
    Listeners,
    write_broker,
    write_private,
)
from infoscreen.resources import resource
from infoscreen.settings import Settings
from infoscreen.simulator import DeviceFault, device_uuids
from infoscreen.simulator.faults import FaultPlan
from infoscreen.simulator.identity import Identity, identities

USUAL_PORT = 8080
SEED = "demo"

NOTES = "demo.env"
"""Where a shell finds what it needs to talk to the demo, beside the database."""

ADMIN = "admin"

SERVER_PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Debian keeps servers where the PATH of an ordinary user does not look."""

DAEMON_SETTINGS = {
    "HEARTBEAT_STALE_SECONDS": "20",
    "STALE_MIN_SECONDS": "12",
    "CRASH_RECOVERY_ENABLED": "true",
    "CRASH_RECOVERY_POLL_SECONDS": "2",
    "CRASH_RECOVERY_GRACE_SECONDS": "20",
    "RECOVERY_OBSERVER_GRACE_SECONDS": "20",
    "BOOT_GRACE_SECONDS": "10",
    "CREDIBLE_ABSENCE_SECONDS": "60",
    "RECOVERED_SECONDS": "10",
    "RELAPSE_SECONDS": "120",
    "COMMAND_EXPIRY_SECONDS": "60",
    "COMMAND_LOCKOUT_WINDOW_SECONDS": "180",
    "RESTART_APP_TIMEOUT_SECONDS": "30",
    "REBOOT_TIMEOUT_SECONDS": "60",
    "SHUTDOWN_TIMEOUT_SECONDS": "30",
}
"""Shorter than in production, for nobody watches a demo for ten minutes; and the recovery acts."""

FAULTS = {
    DeviceFault.CRASH: 0.08,
    DeviceFault.SILENCE: 0.04,
    DeviceFault.SERVICE_FAILED: 0.08,
    DeviceFault.HANG: 0.04,
    DeviceFault.NONSENSE: 0.04,
}
"""The share of the devices that each fault happens to, soon after their start."""

DEVICE_OPTIONS = (
    *("--heartbeat", "5"),
    *("--health", "10"),
    *("--log", "20"),
    *("--screenshot", "60"),
    *("--boot", "10"),
    *("--faults-within", "30"),
    *(word for fault, share in FAULTS.items() for word in ("--fault", f"{fault}={share}")),
)


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Everything that is known before the first process runs."""

    path: Path
    devices: Sequence[Identity]
    environment: Mapping[str, str]
    broker: Program
    broker_port: int
    helper: Program
    daemon: Program
    simulation: Program
    database_url: str
    url: str
    password: str


def _secrets_key(file: Path) -> str:
    """Return the key for secrets in the database; a database that is kept keeps its key."""
    if not file.exists():
        write_private(file, base64.b64encode(secrets.token_bytes(32)).decode())
    return file.read_text(encoding="ascii")


def make_plan(path: Path, mosquitto: str, panel_port: int, clients: int) -> DemoPlan:
    """Write the files of broker and devices, and say what is to be started with them.

    ``demo.env`` is for people: it names a device without faults (``CANARY``), and an account that no
    simulated device has, for playing one by hand (``HAND``).

    Args:
        path: where, absolute.
        mosquitto: the broker's program.
        panel_port: on which the daemon is to serve.
        clients: how many devices.
    """
    devices = identities(device_uuids(clients, SEED))
    by_hand = device_uuids(1, f"{SEED}/by hand")[0]
    broker = BrokerFiles(path / "broker")
    server_port, devices_port = _free_ports()
    authority = _authority(path / "pki")
    listeners = Listeners(server=server_port, devices=devices_port)
    write_broker(broker, resource("mosquitto"), listeners, authority, save_every_change=False)
    everybody = [by_hand, *(device.uuid for device in devices)]
    with accounts.adding(broker, everybody, replace=True) as added:
        passwords = dict(added.passwords)
    hand_password = passwords.pop(by_hand)
    credentials = path / "devices"
    write_private(credentials, "".join(f"{uuid} {password}\n" for uuid, password in passwords.items()))
    database_url = f"sqlite+aiosqlite:///{path / 'infoscreen.db'}"
    url = f"http://{HOST}:{panel_port}"
    server = {
        "DATABASE_URL": database_url,
        "MQTT_HOST": HOST,
        "MQTT_PORT": str(server_port),
        "MQTT_USER": SERVER_ACCOUNT,
        "MQTT_PASSWORD": broker.password(SERVER_ACCOUNT),
        "MQTT_PROBE_PASSWORD": broker.password(PROBE_ACCOUNT),
        "SECRETS_KEY": _secrets_key(path / "secrets.key"),
    }
    canary = devices[_spared(clients)].uuid
    _write_notes(
        path / NOTES,
        {"INFOSCREEN_URL": url, "ADMIN": ADMIN, **server, "CANARY": canary},
        {
            "BROKER_HOST": "localhost",
            "BROKER_PORT": str(devices_port),
            "BROKER_TLS": f"--cafile {authority.bundle}",
            "CHECK_USER": CHECKLIST_ACCOUNT,
            "CHECK_PASSWORD": broker.password(CHECKLIST_ACCOUNT),
        },
        {"HAND": by_hand, "HAND_PASSWORD": hand_password},
    )
    ours = [sys.executable, "-m", "infoscreen"]
    socket_path = path / "helper.sock"
    return DemoPlan(
        path=path,
        devices=devices,
        environment=_environment(
            {
                **DAEMON_SETTINGS,
                **server,
                "HTTP_HOST": HOST,
                "HTTP_PORT": str(panel_port),
                "PUBLIC_ORIGIN": url,
                "NOTIFY_ALLOW_PRIVATE": "true",
                "BROKER_HELPER_SOCKET": str(socket_path),
            }
        ),
        broker=Program("broker", [mosquitto, "-c", str(broker.config)], broker.log),
        broker_port=server_port,
        helper=Program(
            "helper",
            [*ours, "broker", "helper", "--directory", str(broker.path), "--socket", str(socket_path)],
            path / "helper.log",
        ),
        daemon=Program("daemon", [*ours, "serve"], path / "daemon.log"),
        simulation=Program(
            "simulation",
            [
                *(*ours, "simulate", "--clients", str(len(devices)), "--credentials", str(credentials)),
                *("--host", "localhost", "--port", str(devices_port), "--ca", str(authority.bundle)),
                *("--seed", SEED, *DEVICE_OPTIONS),
            ],
            path / "simulation.log",
        ),
        database_url=database_url,
        url=url,
        password=secrets.token_urlsafe(12),
    )


def _authority(directory: Path) -> Authority:
    """Return the demo's own CA with a server certificate, made if missing."""
    now = SystemClock().now()
    authority = Authority(directory)
    if not authority.exists:
        authority.create(directory, now)
    authority.issue_server(["localhost", HOST], now)
    return authority


def _free_ports() -> tuple[int, int]:
    first = second = _free_port()
    while second == first:
        second = _free_port()
    return first, second


def _write_notes(path: Path, *notes: Mapping[str, str]) -> None:
    """Write a file of variables that a shell can read, for its owner only."""
    lines = [f"{name}={shlex.quote(value)}\n" for some in notes for name, value in some.items()]
    write_private(path, "".join(lines))


def _spared(clients: int) -> int:
    """Return the position of the first device without faults; 0 if there is none.

    The simulation, started with the same seed and shares, chooses the same victims.
    """
    victims = FaultPlan(FAULTS).victims(clients, random.Random(SEED))
    return next((number for number in range(clients) if number not in victims), 0)


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return our environment with these settings and no others, whatever the shell has set."""
    ours = {name for name in os.environ if name.lower() in Settings.model_fields}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    inherited.pop("CREDENTIALS_DIRECTORY", None)
    # The children run elsewhere, so that no .env is read; and a checkout need not be installed.
    checkout = Path(infoscreen.__file__).parent.parent
    if (checkout / "pyproject.toml").is_file():
        places = [str(checkout), inherited.get("PYTHONPATH", "")]
        inherited["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    return {**inherited, **settings}


def find_mosquitto(more_places: Sequence[str] = SERVER_PLACES) -> str:
    """Return the broker's program from the PATH or ``more_places``; raise ``CannotStart`` without one."""
    places = [os.environ.get("PATH", os.defpath), *more_places]
    found = shutil.which("mosquitto", path=os.pathsep.join(places))
    if found is None:
        raise CannotStart(
            "mosquitto is not installed. Run `sudo apt-get install mosquitto`, or start scripts/demo as root."
        )
    return found


@contextlib.contextmanager
def http_port(wanted: int | None, usual: int = USUAL_PORT) -> Iterator[int]:
    """Yield the port to serve on: the one asked for, else the usual one, else any; no other demo gets it.

    Raises:
        CannotStart: the one asked for cannot be had.
    """
    with contextlib.ExitStack() as stack:
        port = usual if wanted is None else wanted
        trouble = _why_not_free(port) or _why_not_ours(port, stack)
        if trouble is not None and wanted is not None:
            raise CannotStart(
                f"Port {port} cannot be had: {trouble}. Give another, or none to take any that is free."
            )
        if trouble is not None:
            other = _free_port()
            click.echo(f"Port {port} cannot be had ({trouble}), taking {other}.", err=True)
            port = other
        yield port


def _why_not_ours(port: int, stack: contextlib.ExitStack) -> str | None:
    """Claim a port among demos until ``stack`` ends; return None, else why another has it.

    Seconds pass until the daemon listens. Two demos that begin together would both find the port free, and
    one of them would then talk to the other's daemon. The claim is an abstract socket, gone with the process.
    """
    claim = stack.enter_context(socket.socket(socket.AF_UNIX))
    try:
        claim.bind(f"\0infoscreen-demo-port-{port}")
    except OSError:
        return "another demo is about to take it"
    return None


def _free_port() -> int:
    """Return a port that nobody listens on.

    It lies below those that the kernel takes for outgoing connections: a client that keeps trying to reach a
    broker on such a port is, sooner or later, connected to itself.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        if _why_not_free(port) is None:
            return port


def _why_not_free(port: int) -> str | None:
    """Return None for a port that can be listened on, else the system's reason."""
    with socket.socket() as probe:
        # As a server does; else a port is taken for minutes after the last one ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.strerror or str(error)
    return None
