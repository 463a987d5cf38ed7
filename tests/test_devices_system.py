"""One server and two devices, Debian 12 and 13, installed with ``install.sh`` and booted: everything real."""

import asyncio
import json
import shutil
from pathlib import Path
from uuid import uuid4

import pytest

from tests.installing import (
    NESTED,
    eventually,
    install,
    install_at_a_terminal,
    journal,
    network,
    pid,
    source,
    wheels,
)
from tests.nspawn import Host, Network, a_host
from tests.waiting import until

__all__ = ["network", "source", "wheels"]

pytestmark = [
    pytest.mark.xdist_group("system"),
    *(pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1800)),
]

ANSWERS = (
    ("reach this host [", "server"),
    ("Name of the first admin [admin]:", ""),
    ("Password:", "short"),
    ("Repeat for confirmation:", "short"),
    ("Name of the first admin [admin]:", ""),
    ("Password:", "a long password"),
    ("Repeat for confirmation:", "a long password"),
)
PLAYER = """#!/bin/sh
[ ! -e /etc/crash ] || exit 1
exec sleep infinity
"""


def prepare_device(host: Host) -> None:
    player = host.root / "usr/local/bin/player"
    player.write_text(PLAYER)
    player.chmod(0o755)
    nested = host.root / "etc/systemd/system/infoscreen-agent.service.d/nested.conf"
    nested.parent.mkdir()
    nested.write_text(f"{NESTED}WatchdogSec=15\n")
    with (host.root / "etc/hosts").open("a") as hosts:
        hosts.write("10.77.0.1 server\n")


async def test_a_server_and_two_devices(tmp_path: Path, wheels: Path, source: Path, network: Network) -> None:
    binds = {source: "/src", wheels: "/wheels"}
    uuids = [str(uuid4()), str(uuid4())]
    async with (
        a_host(tmp_path / "server", network=network.plug(1), binds=binds) as server,
        a_host(
            tmp_path / "one", prepare_device, release="bookworm", network=network.plug(2), binds=binds
        ) as one,
        a_host(
            tmp_path / "two", prepare_device, release="trixie", network=network.plug(3), binds=binds
        ) as two,
    ):
        try:
            await play(server, dict(zip(uuids, (one, two), strict=True)), network)
        except BaseException as error:
            for host in (server, one, two):
                error.add_note("\n".join(journal(host, "--lines=40")) if host.is_up else "down")
            raise


async def play(server: Host, devices: dict[str, Host], network: Network) -> None:
    await asyncio.to_thread(install_at_a_terminal, server, *ANSWERS)
    # More commands in a few minutes than a person would send.
    with (server.root / "etc/infoscreen/infoscreen.env").open("a") as settings:
        settings.write("COMMAND_LOCKOUT_THRESHOLD=10\n")
    await asyncio.to_thread(server.ok, "systemctl", "restart", "infoscreen")
    server.ok("infoscreen", "broker", "add-device", "--output", "/root/devices", *devices)
    token = server.ok(*["infoscreen", "token", "create", "test", "--user", "admin", "--role", "admin"])

    def api(*command: str) -> str:
        return server.ok("env", f"INFOSCREEN_TOKEN={token}", "infoscreen", *command)

    def post(path: str) -> None:
        program = (
            "import sys, urllib.request as web\n"
            "asked = web.Request('http://127.0.0.1:8080' + sys.argv[1], method='POST')\n"
            "asked.add_header('Authorization', 'Bearer ' + sys.argv[2])\n"
            "print(web.urlopen(asked).status)"
        )
        server.ok("python3", "-c", program, path, token)

    def status(uuid: str) -> str:
        found = {client["uuid"]: client for client in json.loads(api("clients", "--json"))}
        return str(found[uuid]["status"]) if uuid in found else ""

    for uuid, host in devices.items():
        shutil.copy(server.root / f"root/devices/{uuid}.enrol", host.root / "root/enrol")
        options = ("--role", "device", "--enroll", "/root/enrol", "--app-command", "/usr/local/bin/player")
        await asyncio.to_thread(install, host, *options)
        assert (await asyncio.to_thread(install, host, *options)).splitlines()[
            -1
        ] == "Nothing had to be changed."
        await eventually(lambda: status(uuid) == "online")  # noqa: B023 - awaited here

    for uuid, host in devices.items():
        # One crash is restarted, and nobody is told that systemd gave up.
        before = host.ok("systemctl", "show", "-P", "MainPID", "infoscreen-app")
        host.ok("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "infoscreen-app")
        await eventually(
            lambda: host.ok("systemctl", "show", "-P", "MainPID", "infoscreen-app") not in (before, "0")  # noqa: B023
        )
        await asyncio.sleep(4)  # for a report that must not come
        assert status(uuid) != "service_failed"
        await eventually(lambda: status(uuid) == "online")  # noqa: B023 - awaited here
        assert await asyncio.to_thread(api, "send", uuid, "restart_app", "--wait")
        # A crash loop is reported once.
        (host.root / "etc/crash").touch()
        host.ok("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "infoscreen-app")
        await eventually(lambda: status(uuid) == "service_failed")  # noqa: B023 - awaited here
        (host.root / "etc/crash").unlink()
        # The application runs again, but somebody has to say that he has seen it; that is not forgotten.
        assert await asyncio.to_thread(api, "send", uuid, "restart_app", "--wait")
        assert status(uuid) == "service_failed"
        post(f"/api/clients/{uuid}/clear_service_failed")
        await eventually(lambda: status(uuid) == "online")  # noqa: B023 - awaited here
        await asyncio.to_thread(server.ok, "systemctl", "restart", "infoscreen")
        await asyncio.to_thread(host.ok, "systemctl", "restart", "infoscreen-agent")
        await eventually(lambda: status(uuid) == "online")  # noqa: B023 - awaited here
        # A frozen agent is killed by systemd, and the device is heard again.
        before = pid(host, "infoscreen-agent")
        host.ok("sh", "-c", f"kill -STOP {before}")
        await eventually(lambda: pid(host, "infoscreen-agent") not in (before, "0"), within=120)  # noqa: B023
        await eventually(lambda: status(uuid) == "online")  # noqa: B023 - awaited here

    for uuid, host in devices.items():
        boots = host.boots
        assert await asyncio.to_thread(api, "send", uuid, "reboot_host", "--wait")
        assert host.boots == boots + 1
        await host.booted()
        noise = [line for line in journal(host) if "only permitted for main PID" in line]
        assert noise == []
    first = next(iter(devices))
    await asyncio.to_thread(server.ok, "systemctl", "restart", "mosquitto")
    network.cut(2)
    network.heal(2)
    assert await asyncio.to_thread(api, "send", first, "shutdown_host", "--wait")
    await until(lambda: devices[first].exit_status is not None, within=60)
    await eventually(lambda: status(first) == "shut_down")
    # The other one gives up its agent, and keeps its application.
    second = devices[next(uuid for uuid in devices if uuid != first)]
    running = pid(second, "infoscreen-app")
    await asyncio.to_thread(install, second, "--uninstall")
    assert pid(second, "infoscreen-app") == running
    assert second.ok("systemctl", "is-enabled", "infoscreen-app") == "enabled"
    assert second.inside("systemctl", "cat", "infoscreen-agent").returncode != 0
