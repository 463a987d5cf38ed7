"""What is installed on booted hosts: the files of the project, an earlier version, wheels, a package."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.nspawn import CACHE, CHECKOUT, RELEASES, Host, Network, require_nspawn, run

EARLIER = "7d484914daf8a1ab143c6f47048b6ccd04755ba4"
"""An early commit with an install.sh. Its schema is older than what follows it."""

NESTED = """# systemd-nspawn lays a boot id of its own over the kernel's; these two would take it away.
[Service]
ProtectKernelTunables=no
ProtectControlGroups=no
"""


@pytest.fixture(scope="session")
def wheels() -> Path:
    """Return a directory with all packages of requirements.lock, for the Python of both releases."""
    require_nspawn()
    place = CACHE / "wheels"
    download(CHECKOUT / "requirements.lock", place)
    return place


def download(lock: Path, place: Path) -> None:
    """Download what is locked, for the Python of both releases."""
    platforms = [
        f"--platform={name}_x86_64" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
    ]
    for python in RELEASES.values():
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet")
        locked = ("--require-hashes", "--requirement", lock, "--dest", place)
        run(*pip, "--only-binary=:all:", f"--python-version={python}", *platforms, *locked)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what somebody who installs has unpacked: the files of the project."""
    place = tmp_path_factory.mktemp("source")
    files = run("git", "-C", CHECKOUT, "ls-files", "-co", "--exclude-standard").splitlines()
    for name in files:
        if (CHECKOUT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, place / name)
    return place


@pytest.fixture(scope="session")
def earlier(source: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the files of an earlier version and schema; without the history, ours as another version."""
    place = tmp_path_factory.mktemp("earlier")
    archive = subprocess.run(
        ["git", "-C", CHECKOUT, "archive", EARLIER],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if archive.returncode == 0:
        subprocess.run(["tar", "-x", "-C", place], input=archive.stdout, check=True)
        download(place / "requirements.lock", wheels)
        return place
    shutil.copytree(source, place, dirs_exist_ok=True)
    version = place / "infoscreen/__init__.py"
    version.write_text(version.read_text().replace('__version__ = "', '__version__ = "0.1.'))
    return place


@pytest.fixture(scope="session")
def packages(source: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with our package as ``old.deb`` and, with a higher version, as ``new.deb``."""
    place = tmp_path_factory.mktemp("packages")
    env = ("env", f"PYTHON={sys.executable}")
    run("sh", "-c", f"cd {source} && {' '.join(env)} scripts/package --wheels {wheels}")
    (built,) = (source / "dist").glob("*.deb")
    shutil.copy(built, place / "old.deb")
    shutil.rmtree(source / "dist")
    run("dpkg-deb", "--raw-extract", place / "old.deb", place / "new")
    control = place / "new/DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9."))
    for version in (place / "new/usr/lib/infoscreen").glob("*/infoscreen/__init__.py"):
        version.write_text(version.read_text().replace('__version__ = "', '__version__ = "9.'))
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", place / "new", place / "new.deb")
    shutil.rmtree(place / "new")
    return place


@pytest.fixture
def network() -> Iterator[Network]:
    """Yield a switch for the hosts of a test."""
    require_nspawn()
    with Network() as plugs:
        yield plugs


def install(host: Host, *options: str, source: str = "/src") -> str:
    """Run install.sh without a network; it must succeed."""
    return host.ok(f"{source}/install.sh", "--wheels", "/wheels", *options)


AT_A_TERMINAL = """
import json, os, pty, sys

command, answers = json.loads(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
seen, shown = "", ""
while True:
    try:
        new = os.read(terminal, 4096).decode(errors="replace")
    except OSError:
        break
    if not new:
        break
    seen, shown = seen + new, shown + new
    if answers and answers[0][0] in seen:
        os.write(terminal, (answers[0][1] + chr(10)).encode())
        del answers[0]
        seen = ""
print(shown)
if answers:
    print("never asked:", answers)
sys.exit(1 if answers else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def install_at_a_terminal(host: Host, *answers: tuple[str, str]) -> str:
    """Run install.sh as a person does, who answers what is asked: all of it is asked, in this order."""
    command = ["/src/install.sh", "--wheels", "/wheels"]
    return host.ok("python3", "-c", AT_A_TERMINAL, json.dumps([command, answers]))


async def eventually(condition: Callable[[], object], within: float = 60) -> None:
    """Wait for something that a command inside of a host tells."""
    end = time.monotonic() + within
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, condition
        await asyncio.sleep(0.3)


def is_well(host: Host) -> bool:
    """Tell whether the daemon serves and has nothing to complain of."""
    return host.inside("infoscreen", "health").returncode == 0


def pid(host: Host, unit: str = "infoscreen") -> str:
    """Return the main process of a unit."""
    return host.ok("systemctl", "show", "-P", "MainPID", unit)


def journal(host: Host, *options: str) -> list[str]:
    """Return lines of the host's journal."""
    return host.inside("journalctl", "--no-pager", "--output=cat", *options).stdout.splitlines()


def rows(host: Host, statement: str) -> list[list[object]]:
    """Return what the server's database answers, also while the daemon runs."""
    program = (
        "import json, sqlite3, sys\n"
        "found = sqlite3.connect('/var/lib/infoscreen/infoscreen.db', timeout=30).execute(sys.argv[1])\n"
        "print(json.dumps(found.fetchall()))"
    )
    answer = host.ok("runuser", "-u", "infoscreen", "--", "python3", "-c", program, statement)
    found: list[list[object]] = json.loads(answer)
    return found


TALKER = """
import json, os, sys, time
sys.path.append("/usr/lib/infoscreen/python{}.{}".format(*sys.version_info))  # of the Debian package
import paho.mqtt.client as mqtt

uuid, password = sys.argv[1:]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=uuid, clean_session=False)
client.username_pw_set(uuid, password)
client.tls_set("/etc/infoscreen/pki/ca-bundle.crt")
client.reconnect_delay_set(1, 1)
taken = set()
client.on_publish = lambda client, data, number, *_: taken.add(number)
client.connect("127.0.0.1", 8883)
client.loop_start()
number = 0
with open("/root/said", "w") as said:
    while not os.path.exists("/root/stop"):
        line = f"line {number}"
        payload = json.dumps({"timestamp": "2026-01-01T00:00:00Z", "message": line})
        sent = client.publish(f"infoscreen/{uuid}/logs/info", payload, qos=1)
        while sent.mid not in taken:
            time.sleep(0.01)
        said.write(line + chr(10))
        said.flush()
        number += 1
        time.sleep(0.5)
"""


class Talker:
    """A device on the server's own host that says numbered lines until it is asked what it said.

    A line counts as said once the broker has acknowledged it: from then on the server must not lose it.
    """

    def __init__(self, host: Host, uuid: str) -> None:
        self._host = host
        settings = dict(
            line.split("=", 1)
            for line in host.ok("infoscreen", "broker", "add-device", uuid).splitlines()
            if line.startswith("AGENT_")
        )
        (host.root / "root/talker.py").write_text(TALKER)
        (host.root / "root/stop").unlink(missing_ok=True)
        (host.root / "root/said").unlink(missing_ok=True)
        # Not /opt/infoscreen/current: an upgrade puts another release there.
        find = "readlink -e /opt/infoscreen/current/bin || echo /usr/bin"
        command = (f"{host.ok('sh', '-c', find)}/python3", "-I", "/root/talker.py", uuid)
        password = settings["AGENT_MQTT_PASSWORD"]
        self._unit = f"talker-{uuid}"
        host.ok("systemd-run", f"--unit={self._unit}", "--collect", *command, password)
        self.uuid = uuid

    @property
    def said(self) -> set[str]:
        """Return what it has said so far."""
        try:
            return set((self._host.root / "root/said").read_text().splitlines())
        except FileNotFoundError:
            return set()

    async def more(self) -> None:
        """Wait until it has said more."""
        before = len(self.said)
        await eventually(lambda: len(self.said) > before + 2)

    async def check_nothing_is_lost(self) -> None:
        """Stop it, and wait until all it said is in the database."""
        await self.more()
        (self._host.root / "root/stop").touch()
        state = ("systemctl", "show", "-P", "ActiveState", self._unit)
        await eventually(lambda: self._host.ok(*state) == "inactive")
        said = self.said

        def stored() -> bool:
            return said <= {
                str(text) for (text,) in rows(self._host, "SELECT text FROM timeline WHERE kind = 'log'")
            }

        await eventually(stored)
