"""``install.sh`` on fresh Debian 12 and 13, booted with a real systemd: server, devices, upgrade, back."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.nspawn import CACHE, CHECKOUT, RELEASES, Host, Network, a_host, require_nspawn, run
from tests.waiting import until

pytestmark = [
    pytest.mark.xdist_group("system"),
    *(pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)),
]

WATCHDOG = """[Service]
WatchdogSec=4
"""
NESTED = """# systemd-nspawn lays a boot id of its own over the kernel's; these two would take it away.
[Service]
ProtectKernelTunables=no
ProtectControlGroups=no
"""
PLAYER = """#!/bin/sh
[ ! -e /etc/crash ] || exit 1
exec sleep infinity
"""


@pytest.fixture(scope="module")
def wheels() -> Path:
    """Return a directory with all packages of requirements.lock, for the Python of both releases."""
    require_nspawn()
    place = CACHE / "wheels"
    platforms = [
        f"--platform={name}_x86_64" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
    ]
    for python in RELEASES.values():
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet")
        locked = ("--require-hashes", "--requirement", CHECKOUT / "requirements.lock", "--dest", place)
        run(*pip, "--only-binary=:all:", f"--python-version={python}", *platforms, *locked)
    return place


@pytest.fixture
def network() -> Iterator[Network]:
    require_nspawn()
    with Network() as plugs:
        yield plugs


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what somebody who installs has unpacked: the files of the project."""
    place = tmp_path_factory.mktemp("source")
    files = run("git", "-C", CHECKOUT, "ls-files", "-co", "--exclude-standard").splitlines()
    for name in files:
        if (CHECKOUT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, place / name)
    return place


def install(host: Host, *options: str, source: str = "/src") -> str:
    return host.ok(f"{source}/install.sh", "--wheels", "/wheels", *options)


async def eventually(condition: Callable[[], object], within: float = 60) -> None:
    """Wait for something that a command inside of a host tells."""
    end = time.monotonic() + within
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, condition
        await asyncio.sleep(0.3)


def assert_the_daemon_may_ask_the_broker_helper_and_nobody_else(host: Host) -> None:
    device = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"

    def ask(user: str, request: str) -> str:
        script = (
            "import asyncio, pathlib; from infoscreen.provisioning.helper_client import HelperClient; "
            "helper = HelperClient(pathlib.Path('/run/infoscreen-broker.sock')); "
            f"print(asyncio.run({request}))"
        )
        done = host.inside("runuser", "-u", user, "--", "/opt/infoscreen/current/bin/python", "-c", script)
        return done.stdout if done.returncode == 0 else done.stderr

    added = f"helper.add_device('{device}')"
    assert "HelperMissing" in ask("nobody", added)
    assert device in ask("infoscreen", added), journal(host, "--unit=infoscreen-broker-helper")
    assert device in host.ok("infoscreen", "broker", "list")
    assert "Conflict" in ask("infoscreen", added)
    # The daemon itself, under the hardening of its unit.
    words = ("--user", "admin", "--role", "admin", "--manages-accounts", "--json")
    made = json.loads(host.ok("infoscreen", "token", "create", "test", *words))
    script = (  # urllib closes the connection, as a proxy does
        "import sys, http.client; c = http.client.HTTPConnection('127.0.0.1', 8080); "
        "c.request('POST', '/api/devices', b'{}', {'Authorization': 'Bearer ' + sys.argv[1], "
        "'Content-Type': 'application/json'}); print(c.getresponse().status)"
    )
    assert host.ok("python3", "-c", script, made["secret"]) == "201"
    assert len(json.loads(host.ok("infoscreen", "broker", "list", "--json"))) == 2
    assert ask("infoscreen", "helper.restart_broker()").strip() == "True"
    assert ask("infoscreen", "helper.restart_broker()").strip() == "False"


def is_well(host: Host) -> bool:
    return host.inside("infoscreen", "health").returncode == 0


def pid(host: Host) -> str:
    return host.ok("systemctl", "show", "-P", "MainPID", "infoscreen")


def journal(host: Host, *options: str) -> list[str]:
    return host.inside("journalctl", "--no-pager", "--output=cat", *options).stdout.splitlines()


@pytest.mark.parametrize("release", RELEASES)
async def test_one_command_installs_a_server_that_stays_up_and_is_upgraded_and_removed(
    tmp_path: Path, wheels: Path, source: Path, network: Network, release: str
) -> None:
    upgraded = tmp_path / "upgraded"
    shutil.copytree(source, upgraded)
    version = upgraded / "infoscreen/__init__.py"
    version.write_text(version.read_text().replace('__version__ = "', '__version__ = "9.'))
    binds = {source: "/src", upgraded: "/new", wheels: "/wheels"}
    async with a_host(tmp_path / "server", release=release, network=network.plug(1), binds=binds) as host:
        try:
            await asyncio.to_thread(check_installation, host)
            await stays_up(host)
            await asyncio.to_thread(check_backup, host)
            await asyncio.to_thread(check_upgrade, host)
            await asyncio.to_thread(check_removal, host)
        except BaseException as error:
            error.add_note("\n".join(journal(host, "--lines=60")))
            raise


def check_installation(host: Host) -> None:
    dry = install(host, "--dry-run")
    assert "write /etc/systemd/system/infoscreen.service" in dry
    assert not (host.root / "etc/infoscreen").exists()
    assert not (host.root / "opt/infoscreen").exists()
    done = install(host, "--name", "server")
    assert "Sign in as admin with the password" in done
    assert is_well(host)
    assert host.ok("stat", "--format=%U %a", "/etc/infoscreen/infoscreen.env") == "infoscreen 600"
    assert host.ok("stat", "--format=%U %a", "/var/lib/infoscreen/infoscreen.db") == "infoscreen 600"
    assert install(host).splitlines()[-1] == "Nothing had to be changed."
    # From anywhere the command line works on the database of the unit, and nobody else reads its settings.
    (user,) = json.loads(host.ok("sh", "-c", "cd / && infoscreen user list --json"))
    assert user["role"] == "admin"
    assert not (host.root / "infoscreen.db").exists()
    refused = host.inside("runuser", "-u", "nobody", "--", "infoscreen", "db", "upgrade")
    assert "infoscreen.env: cannot be read" in refused.stderr
    for unit in ("infoscreen.service", "infoscreen-backup.service", "infoscreen-certificates.timer"):
        found = host.inside("systemd-analyze", "verify", unit)
        assert (found.returncode, found.stderr) == (0, "")
    host.ok("systemd-analyze", "security", "--threshold=15", "infoscreen.service")
    # The service works under its hardening: reload, backup, certificates.
    host.ok("systemctl", "reload", "infoscreen")
    for unit in ("infoscreen-backup", "infoscreen-certificates"):
        host.ok("systemctl", "start", unit)
    assert_the_daemon_may_ask_the_broker_helper_and_nobody_else(host)
    assert journal(host, "--unit=infoscreen", "EVENT=reloaded")
    assert journal(host, "--unit=infoscreen", "--priority=err") == []
    secret = host.ok("sed", "-n", "s/^MQTT_PASSWORD=//p", "/etc/infoscreen/infoscreen.env")
    assert secret
    assert secret not in "\n".join(journal(host))


async def stays_up(host: Host) -> None:
    """Kill, freeze, and take the broker and the settings away."""
    drop_in = host.root / "etc/systemd/system/infoscreen.service.d/watchdog.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text(WATCHDOG)
    host.ok("systemctl", "daemon-reload")
    host.ok("systemctl", "restart", "infoscreen")
    await eventually(lambda: is_well(host))
    for signal in ("KILL", "HUP", "STOP"):
        before = pid(host)
        host.ok("sh", "-c", f"kill -{signal} {before}")
        if signal == "HUP":
            await asyncio.to_thread(host.ok, "infoscreen", "health")
            assert pid(host) == before
            continue
        await eventually(lambda: pid(host) not in (before, "0"))  # noqa: B023 - awaited here
        await eventually(lambda: is_well(host))
    host.ok("systemctl", "restart", "mosquitto")
    await eventually(lambda: is_well(host))
    # A start that fails says why, as an error, and is tried again until it succeeds.
    env = host.root / "etc/infoscreen/infoscreen.env"
    right = env.read_text()
    env.write_text(right + "HTTP_PORT=none\n")
    host.inside("systemctl", "restart", "infoscreen")
    await eventually(
        lambda: any("HTTP_PORT=none" in line for line in journal(host, "--unit=infoscreen", "--priority=err"))
    )
    assert host.inside("infoscreen", "doctor").returncode == 1
    env.write_text(right)
    await eventually(lambda: is_well(host), within=120)
    drop_in.unlink()


def check_backup(host: Host) -> None:
    host.ok("infoscreen", "db", "backup", "/var/lib/infoscreen/saved.db")
    refused = host.inside("infoscreen", "db", "restore", "--yes", "/var/lib/infoscreen/saved.db")
    assert "The daemon is running" in refused.stderr
    host.ok("sh", "-c", "echo a long password | infoscreen user add later")
    host.ok("systemctl", "stop", "infoscreen")
    host.ok("infoscreen", "db", "restore", "--yes", "/var/lib/infoscreen/saved.db")
    assert host.ok("stat", "--format=%U %a", "/var/lib/infoscreen/infoscreen.db") == "infoscreen 600"
    host.ok("systemctl", "start", "infoscreen")
    assert "later" not in host.ok("infoscreen", "user", "list")


def check_upgrade(host: Host) -> None:
    before = host.ok("readlink", "/opt/infoscreen/current")
    done = install(host, source="/new")
    assert f"switch from {before} to 9." in done
    assert host.ok("infoscreen", "--version").startswith("infoscreen, version 9.")
    assert is_well(host)
    host.ok("/new/install.sh", "--roll-back")
    assert host.ok("readlink", "/opt/infoscreen/current") == before
    assert "admin" in host.ok("infoscreen", "user", "list")


def check_removal(host: Host) -> None:
    # Another Python in the place of the one that the environment was made for: the command says so.
    python = "/opt/infoscreen/current/bin/python3"
    host.ok("sh", "-c", f"mv {python} {python}.was && ln -s /bin/false {python}")
    refused = host.inside("infoscreen", "doctor")
    assert refused.returncode == 1
    assert "Run install.sh again" in refused.stderr
    host.ok("mv", f"{python}.was", python)
    install(host, "--uninstall")
    assert not (host.root / "opt/infoscreen").exists()
    assert host.inside("systemctl", "cat", "infoscreen").returncode != 0
    assert (host.root / "var/lib/infoscreen/infoscreen.db").exists()
    assert host.ok("systemctl", "is-active", "mosquitto") == "active"
    install(host, "--uninstall", "--purge")
    for left in ("etc/infoscreen", "var/lib/infoscreen", "etc/mosquitto/conf.d/infoscreen.conf"):
        assert not (host.root / left).exists()


def prepare_device(host: Host) -> None:
    player = host.root / "usr/local/bin/player"
    player.write_text(PLAYER)
    player.chmod(0o755)
    nested = host.root / "etc/systemd/system/infoscreen-agent.service.d/nested.conf"
    nested.parent.mkdir()
    nested.write_text(NESTED)
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
    await asyncio.to_thread(install, server, "--name", "server")
    server.ok("infoscreen", "broker", "add-device", "--output", "/root/devices", *devices)
    token = server.ok(*["infoscreen", "token", "create", "test", "--user", "admin", "--role", "admin"])

    def api(*command: str) -> str:
        return server.ok("env", f"INFOSCREEN_TOKEN={token}", "infoscreen", *command)

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
        assert status(uuid) == "online"
        assert await asyncio.to_thread(api, "send", uuid, "restart_app", "--wait")
        # A crash loop is reported once.
        (host.root / "etc/crash").touch()
        host.ok("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "infoscreen-app")
        await eventually(lambda: status(uuid) == "service_failed")  # noqa: B023 - awaited here
        (host.root / "etc/crash").unlink()

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
