"""The agent as a process, against a real mosquitto under the shipped ACL. Only the metal is played."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from infoscreen.agent import readings
from infoscreen.agent.connection import Connection
from infoscreen.agent.journal_file import FILE, JournalFile
from infoscreen.agent.mail import Mail
from infoscreen.agent.program import COMPLAINTS_PER_MINUTE
from infoscreen.agent.protocol.journal import JournalContents
from infoscreen.agent.settings import AgentSettings, load
from infoscreen.agent.state_files import StateFiles
from infoscreen.clock import SystemClock
from infoscreen.domain.commands import Action
from tests.agents import DOWN, Device, Server
from tests.broker import Broker
from tests.doors import DEVICE
from tests.programs import find_free_port
from tests.test_api_clients import PNG
from tests.test_mqtt_connection import _secure_site
from tests.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.broker

UUID = "0b3c2f0e-5a64-4a4e-9d4d-6a3c2f1e0d9b"


@pytest.fixture
async def device(tmp_path: Path, broker: Broker) -> AsyncIterator[Device]:
    """Yield a device whose agent has not been started."""
    await broker.add_device(UUID)
    device = Device(tmp_path / "device", broker, UUID)
    try:
        yield device
    finally:
        await device.kill()


@pytest.fixture
async def server(broker: Broker, device: Device) -> AsyncIterator[Server]:
    """Yield somebody who hears the device."""
    async with Server(broker, UUID).listening() as server:
        yield server


@pytest.fixture
async def running(device: Device, server: Server) -> Device:
    """Return the device with its agent connected."""
    await device.start()
    await server.until(lambda: server.said("health"))
    return device


async def test_it_introduces_itself(running: Device, server: Server) -> None:
    assert server.presence() == ["online"]
    (discovery,) = server.said("discovery")
    assert discovery["uuid"] == UUID
    assert discovery["capabilities"] == ["restart_app", "reboot_host", "shutdown_host"]
    assert {"hostname", "ip", "os_release", "agent_version", "software_version"} <= discovery.keys()


async def test_a_heartbeat_tells_boot_and_application(running: Device, server: Server) -> None:
    beat = server.said("heartbeat")[0]
    assert beat["boot_id"] == readings.boot_id()
    assert (beat["process_status"], beat["process_pid"]) == ("running", os.getpid())
    assert beat["current_process"] == readings.process_name(os.getpid())
    assert {"app_started_at", "booted_at", "ip", "hostname"} <= beat.keys()
    assert beat["persistent_session"] is True


async def test_health_has_readings_and_the_connection(running: Device, server: Server) -> None:
    health = server.said("health")[0]
    assert health["actual_state"]["status"] == "running"
    assert {"cpu_percent", "memory_percent", "disk_percent", "uptime_seconds"} <= health[
        "health_metrics"
    ].keys()
    assert health["broker_connection"] == {"broker_reachable": True, "reconnect_count": 0}


async def test_an_application_that_systemd_gave_up_on_is_reported_as_crashed(
    running: Device, server: Server
) -> None:
    (running.metal / "unit").write_text(DOWN)
    await server.until(lambda: server.said("heartbeat")[-1]["process_status"] == "crashed")
    assert "process_pid" not in server.said("heartbeat")[-1]


async def test_restart_app_is_completed_once_the_unit_has_a_new_start_time(
    running: Device, server: Server
) -> None:
    before = server.said("heartbeat")[-1]["app_started_at"]
    command = running.command(Action.RESTART_APP)
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "completed")
    assert running.calls == ["reset-failed -- infoscreen-app.service", "restart -- infoscreen-app.service"]
    await server.until(lambda: server.said("heartbeat")[-1]["app_started_at"] > before)


async def test_restart_app_that_systemd_refuses_fails_in_its_words(running: Device, server: Server) -> None:
    (running.metal / "refuses-restart").touch()
    command = running.command(Action.RESTART_APP)
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "failed: restart_failed")
    assert any(b"Interactive authentication required" in payload for _, payload, _ in server.heard)


async def test_restart_app_fails_if_the_unit_does_not_come_up(device: Device, server: Server) -> None:
    device.settings["APP_RESTART_SECONDS"] = 0.5
    (device.metal / "stays-down").touch()
    await device.start()
    await server.until(lambda: server.presence() == ["online"])
    command = device.command(Action.RESTART_APP)
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "failed: app_not_active")


async def test_reboot_host_is_completed_by_the_agent_of_the_next_boot_and_never_repeated(
    running: Device, server: Server
) -> None:
    command = running.command(Action.REBOOT_HOST)
    await server.send(command)
    await until(lambda: running.calls == ["reboot"])
    assert server.acks(command) == ["accepted", "execution_started"]
    assert await running.stop() == 0
    running.reboot()
    await running.start()
    await server.until_acked(command, "accepted", "execution_started", "completed")
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "completed", "completed")
    assert running.calls == ["reboot"]


@pytest.mark.parametrize("action", [Action.REBOOT_HOST, Action.SHUTDOWN_HOST])
@pytest.mark.parametrize("manager", ["stopping", None])
async def test_a_host_that_goes_down_before_systemctl_has_its_answer_has_refused_nothing(
    running: Device, server: Server, action: Action, manager: str | None
) -> None:
    verb = "reboot" if action is Action.REBOOT_HOST else "poweroff"
    (running.metal / f"refuses-{verb}").touch()
    (running.metal / "manager").unlink()
    if manager is not None:
        (running.metal / "manager").write_text(f"{manager}\n")
    command = running.command(action)
    await server.send(command)
    await until(lambda: any("SystemState" in line for line in running.asked))
    assert await running.stop() == 0
    running.reboot()
    await running.start()
    await server.until_acked(command, "accepted", "execution_started", "completed")


async def test_an_agent_that_only_was_killed_does_not_claim_a_reboot(running: Device, server: Server) -> None:
    command = running.command(Action.REBOOT_HOST)
    await server.send(command)
    await until(lambda: running.calls == ["reboot"])
    await running.kill()
    await running.start()
    await server.until_acked(command, "accepted", "execution_started", "failed: interrupted")


async def test_shutdown_host_is_completed_just_before_the_halt(running: Device, server: Server) -> None:
    command = running.command(Action.SHUTDOWN_HOST)
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "completed")
    assert running.calls == ["poweroff"]


async def test_a_shutdown_that_systemd_refuses_is_never_said_to_be_completed(
    running: Device, server: Server
) -> None:
    (running.metal / "refuses-poweroff").touch()
    command = running.command(Action.SHUTDOWN_HOST)
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "failed: shutdown_failed")


async def test_a_dry_run_does_nothing_and_says_so(device: Device, server: Server) -> None:
    await device.start("--dry-run")
    await server.until(lambda: server.presence() == ["online"])
    for action in (Action.RESTART_APP, Action.REBOOT_HOST, Action.SHUTDOWN_HOST):
        command = device.command(action)
        await server.send(command)
        await server.until_acked(command, "accepted", "failed: dry_run")
    assert device.calls == []


async def test_what_is_no_command_for_this_device_is_not_carried_out(running: Device, server: Server) -> None:
    extra = json.loads(running.command(Action.REBOOT_HOST)) | {"priority": 1}
    missing = json.loads(running.command(Action.REBOOT_HOST))
    del missing["reason"]
    foreign = running.command(Action.REBOOT_HOST, client_uuid="00000000-0000-4000-8000-000000000000")
    for payload in (json.dumps(extra).encode(), json.dumps(missing).encode(), foreign, b"reboot"):
        await server.send(payload)
    await server.until(lambda: len(server.said("logs/warn")) == 4)
    expired = running.command(Action.REBOOT_HOST, expires_at="2026-01-01T00:00:00Z")
    await server.send(expired)
    await server.until_acked(expired, "failed: expired")
    unable = running.command(Action.SCREENSHOT)
    await server.send(unable)
    await server.until_acked(unable, "failed: unsupported_action")
    assert running.calls == []


async def test_a_retained_command_is_ignored(device: Device, server: Server) -> None:
    retained = device.command(Action.REBOOT_HOST)
    await server.send(retained, retain=True)
    await device.start()
    await until(lambda: "ignored a retained command" in device.log)
    other = device.command(Action.RESTART_APP)
    await server.send(other)
    await server.until_acked(other, "accepted", "execution_started", "completed")
    assert (server.acks(retained), "reboot" in device.calls) == ([], False)


async def test_a_command_sent_while_the_agent_was_away_is_carried_out_if_it_has_not_expired(
    running: Device, server: Server
) -> None:
    await running.stop()
    command, late = running.command(Action.RESTART_APP), running.command(Action.REBOOT_HOST)
    late = late.replace(json.loads(late)["expires_at"].encode(), b"2026-01-01T00:00:00+00:00")
    await server.send(command)
    await server.send(late)
    await running.start()
    await server.until_acked(late, "failed: expired")
    await server.until_acked(command, "accepted", "execution_started", "completed")


async def test_a_killed_agent_is_offline_by_its_last_will_and_a_stopped_one_by_its_word(
    running: Device, server: Server
) -> None:
    await running.kill()
    await server.until(lambda: server.presence() == ["online", "offline"])
    await running.start()
    await server.until(lambda: server.presence()[2:] == ["online"])
    assert await running.stop() == 0
    await server.until(lambda: server.presence()[2:] == ["online", "offline"])


async def test_reconnects_are_counted_over_restarts_of_the_agent(running: Device, server: Server) -> None:
    await running.stop()
    await running.start()
    connection = await server.until(
        lambda: (
            server.said("health")[-1]["broker_connection"].get("reconnect_count")
            and server.said("health")[-1]["broker_connection"]
        )
    )
    assert connection["reconnect_count"] == 1
    assert connection["last_disconnect_at"]


async def test_acks_given_while_the_broker_was_down_survive_a_kill(
    running: Device, server: Server, broker: Broker
) -> None:
    (running.metal / "stays-down").touch()  # so the restart ends only when we want it to
    command = running.command(Action.RESTART_APP)
    await server.send(command)
    await until(lambda: running.calls[-1:] == ["restart -- infoscreen-app.service"])
    await broker.stop()
    running.start_app()
    await until(lambda: list(running.journal.values()) == ["completed"])
    await running.kill()
    await broker.start()
    async with Server(broker, UUID).listening() as later:
        await running.start()
        await later.until(
            lambda: "completed" in later.acks(command, 0) and "completed" in later.acks(command, 1)
        )


async def test_warnings_of_the_application_are_forwarded_and_a_flood_is_counted(
    device: Device, server: Server
) -> None:
    device.settings["LOG_LINES_PER_MINUTE"] = 5
    await device.start()
    await server.until(lambda: server.presence() == ["online"])
    device.app_says("the media server is away", priority=3)
    await server.until(lambda: server.said("logs/error"))
    (line,) = server.said("logs/error")
    assert (line["message"], line["logger"]) == ("the media server is away", "player")
    assert line["timestamp"] == "2026-01-01T00:00:00Z"
    assert line["context"] == {"unit": "infoscreen-app.service", "pid": "42"}
    for number in range(20):
        device.app_says(f"dropped frame {number}")
    await server.until(lambda: len(server.said("logs/warn")) == 4)


async def test_a_screenshot_comes_before_the_command_for_it_is_completed(
    device: Device, server: Server
) -> None:
    picture = device.metal / "picture.png"
    picture.write_bytes(PNG)
    device.settings["SCREENSHOT_COMMAND"] = f"cp {picture} {{file}}"
    await device.start()
    await server.until(lambda: server.said("discovery"))
    assert "screenshot" in server.said("discovery")[0]["capabilities"]
    command = device.command(Action.SCREENSHOT)
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "completed")
    shots = [place for place, (topic, _, _) in enumerate(server.heard) if topic.endswith("/screenshot")]
    completed = [place for place, (_, payload, _) in enumerate(server.heard) if b'"completed"' in payload]
    assert [server.heard[place][1] for place in shots] == [PNG]
    assert shots[0] < completed[0]


@pytest.mark.parametrize(
    "command", ["echo no picture", "false", "/nonexistent/grim -", "head -c 600000 /dev/zero"]
)
async def test_a_screenshot_that_is_none_fails(device: Device, server: Server, command: str) -> None:
    device.settings["SCREENSHOT_COMMAND"] = command
    await device.start()
    await server.until(lambda: server.presence() == ["online"])
    asked = device.command(Action.SCREENSHOT)
    await server.send(asked)
    await server.until_acked(asked, "accepted", "execution_started", "failed: screenshot_failed")


async def test_a_failed_service_is_handed_to_the_running_agent_whose_connection_stays(
    tmp_path: Path, free_port: int
) -> None:
    broker = Broker(tmp_path / "broker", free_port)
    port = find_free_port()
    with broker.config.open("a") as config:  # as on the devices' listener of production
        config.write(f"\nlistener {port} 127.0.0.1\nuse_username_as_clientid true\n")
    await broker.start()
    await broker.add_device(UUID)
    device = Device(tmp_path / "device", broker, UUID, MQTT_PORT=port)
    try:
        async with Server(broker, UUID).listening() as server:
            await device.start()
            await server.until(lambda: server.presence() == ["online"])
            (device.metal / "unit").write_text(DOWN)
            reporting = device.run("report-service-failed", "--unit", "infoscreen-app.service")
            assert await asyncio.to_thread(reporting.wait, DEADLINE_SECONDS) == 0, device.log
            await server.until(lambda: server.said("service_failed"))
            (report,) = server.said("service_failed")
            assert report["unit"] == "infoscreen-app.service"
            assert report["result"] == "start-limit-hit"
            assert report["client_uuid"] == UUID
            assert server.presence() == ["online"]
        async with broker.sub(f"infoscreen/{UUID}/service_failed", account=broker.server_user) as late:
            assert (await late.next()).retain
        assert device.log.count('"broker_connected"') == 1
    finally:
        await device.kill()
        await broker.stop()


async def test_a_failed_service_is_reported_without_an_agent_and_costs_it_no_queued_command(
    device: Device, server: Server, broker: Broker
) -> None:
    await device.start()
    await server.until(lambda: server.presence() == ["online"])
    await device.stop()
    queued = device.command(Action.RESTART_APP)
    await server.send(queued)
    reporting = device.run("report-service-failed", "--unit", "infoscreen-app.service")
    assert await asyncio.to_thread(reporting.wait, DEADLINE_SECONDS) == 0, device.log
    await server.until(lambda: server.said("service_failed"))
    await device.start()
    await server.until_acked(queued, "accepted", "execution_started", "completed")


async def test_a_failed_service_is_reported_once_the_broker_is_there_however_often_it_was_tried(
    device: Device, broker: Broker
) -> None:
    await broker.stop()
    reporting = device.run("report-service-failed", "--unit", "infoscreen-app.service")
    await until(lambda: device.log.count("the broker did not take the report") >= 3)
    await broker.start()
    assert await asyncio.to_thread(reporting.wait, DEADLINE_SECONDS) == 0, device.log
    async with broker.sub(f"infoscreen/{UUID}/service_failed", account=broker.server_user) as subscriber:
        assert json.loads((await subscriber.next()).payload)["unit"] == "infoscreen-app.service"


async def test_a_report_whose_command_was_killed_is_brought_by_the_next_agent(
    device: Device, broker: Broker
) -> None:
    await broker.stop()
    reporting = device.run("report-service-failed", "--unit", "infoscreen-app.service")
    await until(lambda: "the broker did not take the report" in device.log)
    reporting.kill()
    await asyncio.to_thread(reporting.wait)
    await broker.start()
    await device.start()
    async with broker.sub(f"infoscreen/{UUID}/service_failed", account=broker.server_user) as subscriber:
        assert json.loads((await subscriber.next()).payload)["unit"] == "infoscreen-app.service"
    await until(lambda: list((device.state / "failed").iterdir()) == [])


async def test_a_command_refused_for_want_of_a_journal_is_never_carried_out_even_after_a_restart(
    running: Device, server: Server
) -> None:
    journal = running.state / FILE
    journal.rename(journal.with_suffix(".away"))
    journal.mkdir()
    command = running.command(Action.REBOOT_HOST)
    await server.send(command)
    await server.until_acked(command, "accepted", "failed: journal_unavailable")
    await running.kill()
    journal.rmdir()
    journal.with_suffix(".away").rename(journal)
    await running.start()
    await server.send(command)
    await server.until_acked(
        command, "accepted", "failed: journal_unavailable", "failed: journal_unavailable"
    )
    other = running.command(Action.RESTART_APP)
    await server.send(other)
    await server.until_acked(other, "accepted", "execution_started", "completed")
    assert "reboot" not in running.calls


async def test_an_agent_starts_without_a_journal_refuses_commands_and_recovers(
    device: Device, server: Server
) -> None:
    (device.state / FILE).mkdir(parents=True)
    await device.start()
    await server.until(lambda: server.said("health"))
    command = device.command(Action.REBOOT_HOST)
    await server.send(command)
    await server.until_acked(command, "accepted", "failed: journal_unavailable")
    (device.state / FILE).rmdir()
    await until(lambda: list(device.journal.values()) == ["failed"])
    other = device.command(Action.RESTART_APP)
    await server.send(other)
    await server.until_acked(other, "accepted", "execution_started", "completed")
    assert "reboot" not in device.calls


async def test_a_damaged_journal_is_moved_aside_and_older_commands_are_not_carried_out(
    running: Device, server: Server
) -> None:
    command = running.command(Action.RESTART_APP)
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "completed")
    await running.stop()
    (running.state / FILE).write_bytes(b"no database" * 1_000)
    await running.start()
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "completed", "failed: journal_lost")
    assert (running.state / "journal.damaged").exists()
    assert "moved aside" in running.log
    other = running.command(Action.RESTART_APP)
    await server.send(other)
    await server.until_acked(other, "accepted", "execution_started", "completed")
    assert running.calls.count("restart -- infoscreen-app.service") == 2


NO_COMMANDS = (
    *(b"", b"\0", b"\xff\xfe", b"[" * 60_000, b"9" * 60_000, b'"\\ud800"', b"NaN"),
    *(b'{"a\\u0000b": 1}', b'{"\\ud800": 1}', b'{"\\u202e": 1}', b'{"' + b"x" * 60_000 + b'": 1}'),
    *(b'{"reason": "\\u0000"}', b'{"command_id": 1e999}', b"x" * 70_000),
)


async def test_nothing_that_comes_on_a_command_topic_makes_it_deaf(running: Device, server: Server) -> None:
    for payload in NO_COMMANDS:
        await server.send(payload)
        full = json.loads(running.command(Action.REBOOT_HOST))
        await server.send(json.dumps(full | {"a\0\ud800": 1}).encode())
    command = running.command(Action.RESTART_APP, reason="\0")
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "completed")
    assert server.presence() == ["online"]
    assert 0 < len(server.said("logs/warn")) <= COMPLAINTS_PER_MINUTE


async def test_a_host_name_that_cannot_even_be_looked_up_is_an_outage_like_any_other(device: Device) -> None:
    device.settings["MQTT_HOST"] = "ä" * 60  # too long once it is encoded
    await device.start()
    await until(lambda: "no connection to the broker" in device.log)
    assert await device.stop() == 0


async def test_one_screenshot_at_a_time_is_taken_and_the_others_are_refused_as_busy(
    device: Device, server: Server
) -> None:
    picture, count, go = device.metal / "picture.png", device.metal / "count", device.metal / "go"
    picture.write_bytes(PNG)
    script = device.metal / "shoot"
    script.write_text(
        f"#!/bin/sh\necho one >>{count}\nwhile [ ! -e {go} ]; do sleep 0.05; done\ncat {picture}\n"
    )
    script.chmod(0o755)
    device.settings["SCREENSHOT_COMMAND"] = str(script)
    await device.start()
    await server.until(lambda: server.said("health"))
    commands = [device.command(Action.SCREENSHOT) for _ in range(60)]
    for command in commands:
        await server.send(command)
    for command in commands[1:]:
        await server.until_acked(command, "failed: busy")
    restart = device.command(Action.RESTART_APP)
    await server.send(restart)
    await server.until_acked(restart, "accepted", "execution_started", "completed")
    go.touch()
    await server.until_acked(commands[0], "accepted", "execution_started", "completed")
    assert count.read_text().split() == ["one"]


async def test_children_inherit_neither_secrets_nor_the_place_at_systemd(
    device: Device, server: Server, tmp_path: Path
) -> None:
    shown, picture = device.metal / "shown", device.metal / "picture.png"
    picture.write_bytes(PNG)
    dump = f"#!/bin/sh\nenv >>{shown}\nls -l /proc/self/fd >>{shown}\n"
    for name, then in [("shoot", f"cat {picture}"), ("journalctl", "sleep 60")]:
        (device.metal / name).write_text(f"{dump}{then}\n")
        (device.metal / name).chmod(0o755)
    systemctl = device.metal / "systemctl"
    systemctl.write_text(systemctl.read_text().replace("#!/bin/sh\n", dump))
    device.settings["SCREENSHOT_COMMAND"] = str(device.metal / "shoot")
    device.variables = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "60000000",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "DATABASE_URL": "postgresql://a:another-secret@b/c",
        "WAYLAND_DISPLAY": "wayland-1",
    }
    await device.start()
    await server.until(lambda: server.said("health"))
    command = device.command(Action.SCREENSHOT)
    await server.send(command)
    await server.until_acked(command, "accepted", "execution_started", "completed")
    text = shown.read_text()
    assert text.count("WAYLAND_DISPLAY=wayland-1") >= 3
    kept_back = {str(device.settings["MQTT_PASSWORD"]), "AGENT_", "another-secret", *device.variables}
    for text_kept_back in kept_back - {"WAYLAND_DISPLAY"}:
        assert text_kept_back not in text
    assert "socket:" not in text
    assert "journal.sqlite" not in text


async def test_a_second_agent_does_not_take_the_place_of_the_first(running: Device, server: Server) -> None:
    first = len(server.said("heartbeat"))
    second = running.run("agent")
    try:
        await server.until(lambda: len(server.said("heartbeat")) >= first + 5)
        assert server.presence() == ["online"]
    finally:
        second.kill()
        second.wait()


def test_the_agent_loads_nothing_of_the_servers() -> None:
    script = (
        "import infoscreen.agent.program, infoscreen.agent.service_failed, sys\n"
        "from infoscreen.cli import cli\n"
        "cli(['agent', '--help'], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in shown.split()}
    assert {"aiomqtt", "psutil", "pydantic"} <= loaded
    unwanted = {"sqlalchemy", "aiohttp", "alembic", "jinja2", "prometheus_client", "pydantic_settings"}
    assert loaded & {*unwanted, "argon2", "uvloop", "aiosqlite", "dotenv"} == set()


async def test_the_process_of_a_running_agent_holds_no_library_of_the_servers(running: Device) -> None:
    maps = await asyncio.to_thread(Path(f"/proc/{running.pid}/maps").read_text)
    assert "psutil" in maps
    assert not [name for name in ("sqlalchemy", "aiohttp", "yarl", "argon2", "uvloop") if name in maps]


async def test_a_server_that_is_not_ours_gets_on_with_it(
    device: Device, server: Server, broker: Broker, tmp_path: Path
) -> None:
    await device.start()
    script = Path(__file__).with_name("v1_server.sh")
    process = await asyncio.create_subprocess_exec(
        *("sh", script, str(broker.port), broker.server_user, broker.server_password, UUID, tmp_path),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert said.decode() == "all well\n"
    assert device.calls == [
        "reset-failed -- infoscreen-app.service",
        "restart -- infoscreen-app.service",
        "poweroff",
    ]


async def test_tls_with_a_client_certificate_against_a_broker_that_asks_for_one(tmp_path: Path) -> None:
    site = await _secure_site(tmp_path, "require_certificate true")
    files = {"MQTT_TLS_ENABLED": "true", "MQTT_TLS_CA_CERT": site.authority.ca_cert}
    device = Device(tmp_path / "device", site.broker, DEVICE, MQTT_PORT=site.port, **files)
    try:
        async with Server(site.broker, DEVICE).listening() as server:
            await device.start()
            await until(lambda: "no connection to the broker" in device.log)
            await device.stop()
            assert server.presence() == []
            certificate, key = site.authority.issue(DEVICE)
            device.settings |= {"MQTT_TLS_CERTFILE": certificate, "MQTT_TLS_KEYFILE": key}
            await device.start()
            await server.until(lambda: server.presence() == ["online"])
    finally:
        await device.kill()
        await site.broker.stop()


async def test_agents_that_lost_their_broker_do_not_come_back_in_the_same_second(
    tmp_path: Path, broker: Broker
) -> None:
    uuids = [str(uuid4()) for _ in range(20)]
    passwords = await broker.add_devices(uuids)
    within = 3.0
    links = []
    for number, uuid in enumerate(uuids):
        given = {
            "AGENT_UUID": uuid,
            "AGENT_MQTT_PASSWORD": passwords[uuid],
            "AGENT_RECONNECT_SECONDS": f"{within}",
        }
        settings = load(given | {"AGENT_MQTT_PORT": str(broker.port)})
        files = StateFiles(tmp_path / uuid)
        files.prepare()
        mail = Mail(JournalFile(tmp_path / uuid), JournalContents.nothing(), SystemClock())
        links.append(Link(settings, mail, Random(number)))
    running = [asyncio.create_task(link.connection.run()) for link in links]
    await until(lambda: all(link.connection.is_up for link in links))
    await broker.restart()
    await until(lambda: all(link.mail.journal.link.reconnects >= 1 for link in links))
    # The moments themselves depend on the machine; what each one waits does not.
    first = sorted(link.pauses[0] for link in links)
    assert first[-1] - first[0] > within / 2
    for second in range(int(within)):
        assert sum(second <= pause < second + 1 for pause in first) < len(links) / 2
    for link in links:
        link.connection.stop()
    await asyncio.gather(*running)


class Link:
    """The connection of an agent without the rest of it; notes how long it waited before each attempt."""

    def __init__(self, settings: AgentSettings, mail: Mail, random: Random) -> None:
        self.mail = mail
        self.pauses: list[float] = []
        self.connection = Connection(
            settings,
            mail,
            on_command=self._ignore,
            on_connected=self._nothing,
            clock=SystemClock(),
            random=random,
        )
        self.connection._tell = lambda trouble, pause: self.pauses.append(pause)  # type: ignore[method-assign]

    async def _ignore(self, payload: bytes, retain: bool) -> None:
        pass

    async def _nothing(self) -> None:
        pass
