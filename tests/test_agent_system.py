"""The agent on a real device: systemd as first process, polkit, no root; against a real mosquitto."""

import asyncio
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infoscreen.domain.commands import Action
from tests.agents import Device, Server
from tests.broker import Broker
from tests.nspawn import CHECKOUT, Host, a_host, require_nspawn, run
from tests.waiting import until

pytestmark = [
    pytest.mark.xdist_group("system"),
    *(pytest.mark.system, pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)),
]

UUID = "0b3c2f0e-5a64-4a4e-9d4d-6a3c2f1e0d9b"
NEEDED = (
    *("aiomqtt", "paho-mqtt", "click", "msgspec", "psutil", "python-dotenv"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection"),
)
"""What the agent runs on: nothing of the server's is installed on the device."""

APP = """#!/bin/sh
[ ! -e /etc/crash ] || exit 1
exec sleep infinity
"""
APP_UNIT = """[Unit]
StartLimitBurst=3
[Service]
User=daemon
ExecStart=
ExecStart=/usr/local/bin/player
RestartSec=100ms
"""
AGENT_UNIT = """# systemd-nspawn lays a boot id of its own over the kernel's; these two would take it away.
[Service]
ProtectKernelTunables=no
ProtectControlGroups=no
"""
END_JOURNALCTL = """for process in /proc/[0-9]*; do
    case $(cat $process/comm 2>/dev/null) in journalctl) kill -KILL ${process#/proc/} && ended=yes ;; esac
done
[ $ended ]
"""
PLACES = {
    "infoscreen-agent.service": "etc/systemd/system",
    "infoscreen-app.service": "etc/systemd/system",
    "infoscreen-service-failed@.service": "etc/systemd/system",
    "infoscreen-agent.rules": "etc/polkit-1/rules.d",
    "infoscreen-agent.sysusers.conf": "usr/lib/sysusers.d",
    "watchdog.conf": "etc/systemd/system.conf.d",
}


def install(host: Host, wheels: Path, settings: dict[str, str]) -> None:
    """Do what docs/agent.md says."""
    for name, place in PLACES.items():
        target = host.root / place / ("50-" * name.endswith(".rules") + name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / "systemd/client" / name, target)
    etc = host.root / "etc/infoscreen"
    etc.mkdir()
    (etc / "agent.env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    (etc / "agent.env").chmod(0o600)
    player = host.root / "usr/local/bin/player"
    player.write_text(APP)
    player.chmod(0o755)
    for unit, text in (("infoscreen-app", APP_UNIT), ("infoscreen-agent", AGENT_UNIT)):
        changes = host.root / f"etc/systemd/system/{unit}.service.d/test.conf"
        changes.parent.mkdir()
        changes.write_text(text)
    shutil.copytree(wheels, host.root / "wheels")
    host.chroot("systemd-sysusers")
    host.chroot("chown", "infoscreen-agent:", "/etc/infoscreen/agent.env")
    host.chroot("python3", "-m", "venv", "/opt/infoscreen/current")
    pip = ("/opt/infoscreen/current/bin/pip", "install", "--no-index", "--no-deps", "--no-compile")
    host.chroot("sh", "-c", f"{' '.join(pip)} /wheels/*.whl")
    host.chroot("systemctl", "enable", "infoscreen-agent", "infoscreen-app")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with our wheel and those it needs on a device."""
    require_nspawn()
    place = tmp_path_factory.mktemp("wheels")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, CHECKOUT)
    pins = [f"{name}=={importlib.metadata.version(name)}" for name in NEEDED]
    # For the Python of Debian 12, whichever runs this test.
    target = ("--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64")
    more = ("--platform=manylinux_2_17_x86_64", "--platform=manylinux2014_x86_64", "--no-deps")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--dest", place)
    run(*pip, *target, *more, *pins)
    return place


async def test_the_agent_on_a_booted_device(tmp_path: Path, broker: Broker, wheels: Path) -> None:
    password = await broker.add_device(UUID)
    settings = {
        "AGENT_UUID": UUID,
        "AGENT_MQTT_PASSWORD": password,
        "AGENT_MQTT_PORT": str(broker.port),
        "AGENT_HEARTBEAT_SECONDS": "1",
        "AGENT_RECONNECT_SECONDS": "0.5",
    }
    commands = Device(tmp_path / "device", broker, UUID)  # only for the commands it writes
    async with (
        Server(broker, UUID).listening() as server,
        a_host(tmp_path / "host", lambda host: install(host, wheels, settings)) as host,
    ):
        try:
            await conversation(commands, server, host)
        except BaseException as error:
            journal = host.inside("journalctl", "--no-pager", "--lines=200").stdout if host.is_up else "down"
            error.add_note(f"{host.console[-2_000:]}\n{journal}")
            raise


async def conversation(device: Device, server: Server, host: Host) -> None:
    """Play the server of a device that is up: everything systemd and polkit have a part in."""
    beat = await server.until(lambda: running(server))
    first_boot = beat["boot_id"]
    assert beat["current_process"] == "sleep"
    assert await said(host, "cat", "/proc/sys/kernel/random/boot_id") == first_boot
    agent = await said(host, "systemctl", "show", "-P", "MainPID", "infoscreen-agent")
    assert await said(host, "stat", "--format=%U", f"/proc/{agent}") == "infoscreen-agent"
    assert await said(host, "systemctl", "show", "-P", "StatusText", "infoscreen-agent") == "connected"

    # The polkit rule allows what the agent needs, and nothing else.
    refused = await asyncio.to_thread(
        host.inside, "runuser", "-u", "infoscreen-agent", "--", "systemctl", "restart", "dbus.service"
    )
    assert refused.returncode != 0
    assert "authentication" in refused.stderr.lower() or "denied" in refused.stderr.lower()

    restart = device.command(Action.RESTART_APP)
    await server.send(restart)
    await server.until_acked(restart, "accepted", "execution_started", "completed")
    restarted = await server.until(lambda: running(server, other_than=beat["process_pid"]))
    assert restarted["app_started_at"] > beat["app_started_at"]
    assert restarted["boot_id"] == first_boot

    state = await said(host, "systemctl", "show", "--property=SystemState", "--value")
    assert state in {"starting", "running", "degraded"}  # what the agent asks when a reboot is refused
    reboot = device.command(Action.REBOOT_HOST)
    await server.send(reboot)
    await server.until_acked(reboot, "accepted", "execution_started", "completed")
    assert host.boots == 2
    beat = await server.until(lambda: running(server, other_than_boot=first_boot))
    await host.booted()
    assert await said(host, "cat", "/proc/sys/kernel/random/boot_id") == beat["boot_id"]

    # What is logged while nobody reads the journal is not lost.
    await said(host, "sh", "-c", END_JOURNALCTL)
    # systemd gives up on an application that keeps crashing, and its OnFailure= unit says so.
    (host.root / "etc/crash").touch()
    await said(host, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "infoscreen-app")
    (report,) = await server.until(lambda: server.said("service_failed"))
    assert (report["unit"], report["client_uuid"]) == ("infoscreen-app.service", UUID)
    assert report["result"]
    await server.until(lambda: server.said("heartbeat")[-1]["process_status"] == "crashed")
    await server.until(
        lambda: any("infoscreen-app.service" in line["message"] for line in server.said("logs/warn"))
    )
    lines = [(line["timestamp"], line["message"]) for line in server.said("logs/warn")]
    assert len(set(lines)) == len(lines)
    # The report had no need of a connection of its own.
    presence = server.presence()
    assert presence[-1] == "online"
    assert presence.count("online") == 2

    # And restart_app helps once the reason is gone, although it was started too often.
    (host.root / "etc/crash").unlink()
    again = device.command(Action.RESTART_APP)
    await server.send(again)
    await server.until_acked(again, "accepted", "execution_started", "completed")

    shutdown = device.command(Action.SHUTDOWN_HOST)
    await server.send(shutdown)
    await until(lambda: host.exit_status is not None, within=60)
    assert host.exit_status == 0
    await server.until(lambda: server.presence()[-1] == "offline")
    assert server.acks(shutdown)[:2] == ["accepted", "execution_started"]
    assert server.acks(shutdown)[2:] in ([], ["completed"])  # the halt may win


def running(server: Server, other_than: int = 0, other_than_boot: str = "") -> dict[str, str] | None:
    """Return the newest heartbeat, if the application runs, as another process or since another boot."""
    beats = server.said("heartbeat")
    if not beats or beats[-1].get("process_status") != "running":
        return None
    beat: dict[str, str] = beats[-1]
    return beat if beat["process_pid"] != other_than and beat["boot_id"] != other_than_boot else None


async def said(host: Host, *command: str) -> str:
    """Return what a command inside the host wrote."""
    done: subprocess.CompletedProcess[str] = await asyncio.to_thread(host.inside, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
