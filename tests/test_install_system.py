"""``install.sh`` and the Debian package on fresh, booted Debian 12 and 13: install, upgrade, back, remove."""

import asyncio
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.installing import (
    Talker,
    earlier,
    eventually,
    install,
    is_well,
    journal,
    network,
    packages,
    pid,
    rows,
    source,
    wheels,
)
from tests.nspawn import Host, Network, a_host

__all__ = ["earlier", "network", "packages", "source", "wheels"]

pytestmark = [
    pytest.mark.xdist_group("system"),
    *(pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1800)),
]

WATCHDOG = """[Service]
WatchdogSec=4
"""
END_INSTALLATION = """for process in /proc/[0-9]*; do
    case $(tr '\\0' ' ' <$process/cmdline 2>/dev/null) in
        */install.sh* | */pip*) kill -KILL ${process#/proc/} ;;
    esac
done
"""
SET_UP = """set -e
infoscreen broker init --name server
cat /etc/mosquitto/infoscreen-accounts/server.env >>/etc/infoscreen/infoscreen.env
runuser -u infoscreen -- infoscreen db upgrade
echo a long password | runuser -u infoscreen -- infoscreen user add admin --role admin
systemctl enable --now mosquitto infoscreen-broker-helper.socket infoscreen infoscreen-backup.timer
systemctl enable --now infoscreen-certificates.timer
"""
SECRETS = "cat /etc/infoscreen/infoscreen.env /etc/mosquitto/infoscreen.passwd"
CLIENTS = 10_000
FILL = f"""
import sqlite3, uuid
database = sqlite3.connect("/var/lib/infoscreen/infoscreen.db", timeout=60)
at = "2026-11-01 12:00:00.000000"
uuids = [str(uuid.UUID(int=number, version=4)) for number in range({CLIENTS})]
with database:
    database.executemany(
        "INSERT INTO clients (uuid, created_at, status, status_since, name, hostname, site, sort_key)"
        " VALUES (?, ?, 'never_seen', ?, ?, ?, ?, ?)",
        [
            (one, at, at, f"Screen {{n}}", f"screen{{n}}", f"Site {{n % 50}}", f"screen {{n}}")
            for n, one in enumerate(uuids)
        ],
    )
    database.executemany(
        "INSERT INTO timeline (client_uuid, at, kind, text, level) VALUES (?, ?, 'log', ?, 'info')",
        [(one, at, f"from before {{n}}") for one in uuids for n in range(3)],
    )
"""
FAILING_MIGRATION = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "ffffffffffff", "{head}", None, None

def upgrade():
    op.execute("CREATE TABLE half_done (id INTEGER)")
    op.execute("UPDATE clients SET name = 'lost'")
    op.execute("INSERT INTO no_such_table VALUES (1)")
"""


async def test_one_command_installs_a_server_that_stays_up_and_is_removed(
    tmp_path: Path, wheels: Path, source: Path, packages: Path, network: Network
) -> None:
    binds = {source: "/src", wheels: "/wheels", packages: "/packages"}
    async with a_host(tmp_path / "server", release="bookworm", network=network.plug(1), binds=binds) as host:
        try:
            await asyncio.to_thread(check_refusals, host)
            await check_interrupted(host)
            await asyncio.to_thread(check_installation, host)
            await asyncio.to_thread(check_broker_helper, host)
            await stays_up(host)
            await asyncio.to_thread(check_backup, host)
            await check_renewal(host)
            await asyncio.to_thread(check_removal, host)
            await check_package(host)
        except BaseException as error:
            error.add_note("\n".join(journal(host, "--lines=60")))
            raise


async def test_an_earlier_version_with_ten_thousand_clients_is_upgraded_under_traffic(
    tmp_path: Path,
    wheels: Path,
    source: Path,
    earlier: Path,
    packages: Path,
    network: Network,
    record_property: Callable[[str, object], None],
) -> None:
    binds = {source: "/src", earlier: "/earlier", wheels: "/wheels", packages: "/packages"}
    async with a_host(tmp_path / "server", release="trixie", network=network.plug(1), binds=binds) as host:
        try:
            await asyncio.to_thread(install, host, "--name", "server", source="/earlier")
            await check_upgrade(host, record_property)
            await asyncio.to_thread(check_removal, host)
            await check_package(host)
        except BaseException as error:
            error.add_note("\n".join(journal(host, "--lines=60")))
            raise


def check_broker_helper(host: Host) -> None:
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


def check_refusals(host: Host) -> None:
    """What cannot be done is refused at once, and nothing is changed."""
    for options, said in [
        (["--colour"], "unknown option: --colour"),
        (["--name"], "--name needs a value"),
        (["--name", "--dry-run"], "--name needs a value"),
        (["--http-port", "99999"], "99999 is no port"),
        (["--role", "client"], "--role is server or device"),
        (["--role", "device", "--http-port", "80"], "are for --role server"),
        (["--purge"], "--purge is for --uninstall"),
        (["--wheels", "/nowhere"], "there is no directory /nowhere"),
        (["--roll-back"], "there is no earlier release"),
    ]:
        done = host.inside("/src/install.sh", *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
    refused = host.inside(*("sh", "-c", "cp /src/install.sh /tmp && runuser -u nobody -- /tmp/install.sh"))
    assert "run it as root" in refused.stderr
    # A file system without room, and one that cannot be written.
    full = "mount -t tmpfs -o size=50M full /var/lib && exec /src/install.sh --wheels /wheels"
    refused = host.inside("unshare", "--mount", "sh", "-c", full)
    assert "MB are free in /var/lib" in refused.stderr
    read_only = (
        "mount --bind /etc /etc && mount -o remount,ro,bind /etc && exec /src/install.sh --wheels /wheels"
    )
    refused = host.inside("unshare", "--mount", "sh", "-c", read_only)
    assert "/etc cannot be written" in refused.stderr
    # Somebody else's broker.
    (host.root / "etc/mosquitto/conf.d/home.conf").write_text("listener 1884\n")
    refused = host.inside("/src/install.sh", "--wheels", "/wheels")
    assert "home.conf says 'listener 1884'" in refused.stderr
    (host.root / "etc/mosquitto/conf.d/home.conf").unlink()
    assert not (host.root / "etc/infoscreen").exists()


async def check_interrupted(host: Host) -> None:
    """An installation that is killed half-way: no second one beside it, and the next one completes it."""
    installing = asyncio.create_task(asyncio.to_thread(host.inside, "/src/install.sh", "--wheels", "/wheels"))
    await eventually(lambda: list((host.root / "opt/infoscreen").glob("*/pyvenv.cfg")))
    second = host.inside("/src/install.sh", "--wheels", "/wheels")
    assert (second.returncode, second.stdout) == (1, "")
    assert "another install.sh is running" in second.stderr
    await asyncio.to_thread(host.inside, "sh", "-c", END_INSTALLATION)
    assert (await installing).returncode != 0
    assert list((host.root / "opt/infoscreen").glob("*/pyvenv.cfg"))
    assert not list((host.root / "opt/infoscreen").glob("*/.complete"))


def check_installation(host: Host) -> None:
    dry = install(host, "--dry-run")
    assert "write /etc/systemd/system/infoscreen.service" in dry
    assert not (host.root / "etc/infoscreen").exists()
    assert not list((host.root / "opt/infoscreen").glob("*/.complete"))
    # Neither language, umask nor settings of the shell count, nor a search path without /usr/sbin.
    shell = ("env", "LC_ALL=de_DE.UTF-8", "DATABASE_URL=sqlite:///x", "PYTHONPATH=/x", "PATH=/usr/bin:/bin")
    command = "umask 077; cd /; exec bash /src/install.sh --wheels /wheels --name server"
    done = host.ok(*shell, "sh", "-c", command)
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


async def check_renewal(host: Host) -> None:
    """The broker's certificate is renewed and the broker restarted, under traffic."""
    talker = Talker(host, str(uuid4()))
    await talker.more()
    serial = certificate(host)
    host.ok("infoscreen", "pki", "renew", "--days", "3650")
    assert certificate(host) != serial
    await talker.more()
    host.ok("systemctl", "restart", "mosquitto")
    await talker.more()
    host.ok("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "mosquitto")
    await talker.more()
    host.ok("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "infoscreen")
    await talker.check_nothing_is_lost()
    await eventually(lambda: is_well(host))


def certificate(host: Host) -> str:
    """Return the certificate that the broker presents."""
    program = "import ssl; print(ssl.get_server_certificate(('127.0.0.1', 8883)))"
    return host.ok("python3", "-c", program)


async def check_upgrade(host: Host, record: Callable[[str, object], None]) -> None:
    before = host.ok("readlink", "/opt/infoscreen/current")
    host.ok("runuser", "-u", "infoscreen", "--", "python3", "-c", FILL)
    ((revision,),) = rows(host, "SELECT version_num FROM alembic_version")
    older = "0.1." not in host.ok("infoscreen", "--version")  # without the history the schema is the same
    talker = Talker(host, str(uuid4()))
    await talker.more()

    secrets = set(host.ok("sh", "-c", SECRETS).splitlines())

    # A migration that fails: everything is as before.
    host.ok("sh", "-c", "cp -r /earlier /failing && cd /failing && echo '# 2' >>infoscreen/__init__.py")
    ((name,),) = [re.findall(r"install infoscreen (\S+) into", host.ok("/failing/install.sh", "--dry-run"))]
    host.ok("cp", "-a", f"/opt/infoscreen/{before}", f"/opt/infoscreen/{name}")
    (versions,) = (host.root / f"opt/infoscreen/{name}").glob(
        "lib/python3*/site-packages/infoscreen/migrations/versions"
    )
    (versions / "ffffffffffff_failing.py").write_text(FAILING_MIGRATION.format(head=revision))
    program = host.root / f"opt/infoscreen/{name}/bin/infoscreen"
    program.write_text(program.read_text().replace(f"/{before}/", f"/{name}/"))
    refused = await asyncio.to_thread(host.inside, "/failing/install.sh", "--wheels", "/wheels")
    assert refused.returncode == 1
    assert "everything is as it was before" in refused.stderr
    await eventually(lambda: is_well(host))
    assert host.ok("readlink", "/opt/infoscreen/current") == before
    assert rows(host, "SELECT version_num FROM alembic_version") == [[revision]]
    assert rows(host, "SELECT count(*) FROM clients WHERE name = 'lost'") == [[0]]
    await talker.more()

    # One that is cut off after the daemon was stopped: the next one goes on from there.
    installing = asyncio.create_task(asyncio.to_thread(host.inside, "/src/install.sh", "--wheels", "/wheels"))
    await eventually((host.root / "opt/infoscreen/upgrading").exists, within=300)
    await asyncio.to_thread(host.inside, "sh", "-c", END_INSTALLATION)
    assert (await installing).returncode != 0
    free = ("flock", "--nonblock", "/run/infoscreen-install.lock", "true")
    await eventually(lambda: host.inside(*free).returncode == 0)
    done = await asyncio.to_thread(install, host)
    after = host.ok("readlink", "/opt/infoscreen/current")
    assert after != before
    assert host.ok("cat", "/opt/infoscreen/previous").startswith(f"release={before}\nbackup=/")
    await talker.more()
    assert is_well(host)
    assert is_well(host)
    assert (rows(host, "SELECT version_num FROM alembic_version") != [[revision]]) is older
    assert rows(host, "SELECT count(*) FROM clients") == [[CLIENTS + 1]]
    assert rows(host, "SELECT count(*) FROM timeline WHERE text LIKE 'from before %'") == [[3 * CLIENTS]]
    assert secrets <= set(host.ok("sh", "-c", SECRETS).splitlines())
    await talker.check_nothing_is_lost()
    assert (await asyncio.to_thread(install, host)).splitlines()[-1] == "Nothing had to be changed."

    # Back: the earlier release does not know this schema, so it gets the database from before.
    backups = host.root / "var/lib/infoscreen/backups"
    for number in range(5):
        shutil.copy(next(backups.glob("before-*.db")), backups / f"before-{number}.db")
    await asyncio.to_thread(host.ok, "/src/install.sh", "--roll-back")
    assert host.ok("readlink", "/opt/infoscreen/current") == before
    await eventually(lambda: is_well(host))
    assert rows(host, "SELECT version_num FROM alembic_version") == [[revision]]
    assert rows(host, "SELECT count(*) FROM clients") == [[CLIENTS + 1]]
    # And forth again, in one go. Old backups are removed.
    done = await asyncio.to_thread(install, host)
    assert f"switch from {before} to {after}" in done
    (away,) = re.findall(r"the daemon was away for (\d+) ms", done)
    record("downtime_ms", away)
    assert is_well(host)
    assert len(list(backups.glob("before-*.db"))) <= 4


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
    assert install(host, "--uninstall", "--purge").splitlines()[-1] == "Nothing had to be changed."


async def check_package(host: Host) -> None:
    """Install, upgrade, remove and purge the Debian package."""
    dpkg = ("dpkg", "--force-unsafe-io")  # not each of ten thousand files by itself to the disk
    await asyncio.to_thread(host.ok, *dpkg, "--install", "/packages/old.deb")
    assert host.ok("dpkg", "--verify", "infoscreen") == ""
    env = host.root / "etc/infoscreen/infoscreen.env"
    assert host.ok("stat", "--format=%U %a", "/etc/infoscreen/infoscreen.env") == "infoscreen 600"
    assert host.inside("systemctl", "is-enabled", "infoscreen").stdout.strip() == "disabled"
    refused = host.inside("/src/install.sh", "--wheels", "/wheels")
    assert "installed from a Debian package" in refused.stderr
    # As its README.Debian says.
    host.ok("sh", "-c", SET_UP)
    await eventually(lambda: is_well(host))
    talker = Talker(host, str(uuid4()))
    await talker.more()
    settings = env.read_text() + "LOG_LEVEL=debug\n"
    env.write_text(settings)
    version = host.ok("infoscreen", "--version")
    before = pid(host)
    await asyncio.to_thread(host.ok, *dpkg, "--install", "/packages/new.deb")
    await eventually(lambda: pid(host) not in (before, "0") and is_well(host))
    assert host.ok("infoscreen", "--version") == version.replace("version ", "version 9.")
    assert env.read_text() == settings
    for number in ("9.0", ""):  # and once more: nothing changes
        await asyncio.to_thread(host.ok, "/var/lib/dpkg/info/infoscreen.postinst", "configure", number)
    await eventually(lambda: is_well(host))
    assert env.read_text() == settings
    await talker.check_nothing_is_lost()
    assert list((host.root / "var/lib/infoscreen/backups").glob("*.db"))
    host.ok("dpkg", "--remove", "infoscreen")
    assert host.inside("systemctl", "is-active", "infoscreen").stdout.strip() == "inactive"
    assert env.read_text() == settings
    host.ok("dpkg", "--purge", "infoscreen")
    for left in ("etc/infoscreen", "var/lib/infoscreen", "usr/lib/infoscreen", "usr/bin/infoscreen"):
        assert not (host.root / left).exists()
    failed = host.ok("systemctl", "list-units", "--failed", "--plain", "--no-legend", "infoscreen*")
    assert failed == ""
