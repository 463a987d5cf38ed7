"""Real hosts: a Debian that systemd-nspawn boots, with systemd as its first process and a boot id of its own.

The file system is an overlay over a Debian that is made once and kept in ``.cache``. Without a ``Network`` of
its own a host has ours, so that a broker of the test on loopback can be reached; then nothing in it may
listen.
"""

import asyncio
import contextlib
import fcntl
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from tests.programs import cannot_run, require
from tests.waiting import until

CHECKOUT = Path(__file__).parent.parent
CACHE = CHECKOUT / ".cache" / "hosts"
RELEASES = {"bookworm": "3.11", "trixie": "3.13"}
"""Debian 12 and 13, and their Python."""
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "polkitd",
    "python3",
    "python3-venv",
    "iproute2",
    "mosquitto",
    "ca-certificates",
)
BOOT_SECONDS = 60.0
REBOOTED = 133
"""The exit status of systemd-nspawn after a reboot inside."""


def require_nspawn() -> None:
    """Skip the test where hosts cannot be booted; on CI it fails."""
    require("systemd-nspawn")
    require("debootstrap")
    if os.geteuid() != 0:
        cannot_run("only root can boot hosts")


def debian(release: str = "bookworm") -> Path:
    """Return the root of a fresh Debian, which is made the first time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    base = CACHE / f"{release}-{'-'.join(sorted(PACKAGES))}-{platform.machine()}"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not base.exists():
            fresh = CACHE / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            include = f"--include={','.join(PACKAGES)}"
            run("debootstrap", "--variant=minbase", include, release, fresh)
            fresh.rename(base)
    return base


def run(*command: str | Path) -> str:
    """Run a command of this machine to its end and return what it wrote; show it if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


class Network:
    """A switch with hosts on it, apart from ours. Addresses are 10.77.0.N."""

    def __init__(self) -> None:
        self._name = f"infoscreen-{os.getpid()}-{os.urandom(2).hex()}"
        self._hosts: dict[int, str] = {}

    def __enter__(self) -> "Network":
        """Make the switch."""
        run("ip", "netns", "add", self._name)
        self._switch("link", "add", "switch", "type", "bridge")
        self._switch("link", "set", "switch", "up")
        return self

    def __exit__(self, *_: object) -> None:
        """Take everything away."""
        for name in (*self._hosts.values(), self._name):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def plug(self, number: int) -> Path:
        """Return the network of a host with this number, to boot it in."""
        name, cable = f"{self._name}-{number}", f"cable{number}"
        self._hosts[number] = name
        run("ip", "netns", "add", name)
        self._switch("link", "add", cable, "type", "veth", "peer", "name", "host0", "netns", name)
        self._switch("link", "set", cable, "master", "switch", "up")
        for command in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"10.77.0.{number}/24", "dev", "host0"),
            ("link", "set", "host0", "up"),
        ):
            run("ip", "-netns", name, *command)
        return Path("/run/netns") / name

    def cut(self, number: int) -> None:
        """Pull the cable of a host."""
        self._switch("link", "set", f"cable{number}", "down")

    def heal(self, number: int) -> None:
        """Plug it in again."""
        self._switch("link", "set", f"cable{number}", "up")

    def _switch(self, *command: str) -> None:
        run("ip", "-netns", self._name, *command)


class Host:
    """A host that boots again when it reboots. ``root`` may be written at any time."""

    def __init__(
        self,
        directory: Path,
        release: str = "bookworm",
        network: Path | None = None,
        binds: Mapping[Path, str] | None = None,
    ) -> None:
        self._directory = directory
        self._base = debian(release)
        self._options = [] if network is None else [f"--network-namespace-path={network}"]
        self._options += [f"--bind-ro={ours}:{theirs}" for ours, theirs in (binds or {}).items()]
        self.root = directory / "root"
        self.boots = 0
        self.exit_status: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_up(self) -> bool:
        """Tell whether there is a first process."""
        try:
            self._leader()
        except LookupError:
            return False
        return True

    @property
    def console(self) -> str:
        """Return what systemd wrote to the console over all boots."""
        return (self._directory / "console").read_text(errors="replace")

    def mount(self) -> None:
        """Put the overlay together."""
        for name in ("root", "upper", "work"):
            (self._directory / name).mkdir(parents=True)
        here = self._directory
        options = f"lowerdir={self._base},upperdir={here}/upper,workdir={here}/work"
        run("mount", "-t", "overlay", "overlay", "-o", options, self.root)
        (self.root / "etc/machine-id").write_text(os.urandom(16).hex() + "\n")
        (self.root / "etc/hostname").write_text(f"{here.name}\n")
        # Only a server has a broker: install.sh enables it there.
        (self.root / "etc/systemd/system/multi-user.target.wants/mosquitto.service").unlink(missing_ok=True)

    def chroot(self, *command: str) -> str:
        """Run a command in the file system of a host that is not booted."""
        return run("chroot", self.root, *command)

    def inside(self, *command: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command as root inside of the booted host; its first process decides which boot."""
        return subprocess.run(
            ["nsenter", "--target", str(self._leader()), "--all", "--", *command],
            input=typed,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"},
        )

    def ok(self, *command: str, typed: str = "") -> str:
        """Return what a command inside wrote; it must succeed."""
        done = self.inside(*command, typed=typed)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    async def live(self) -> None:
        """Boot, and again after each reboot, until it is powered off or we are cancelled."""
        try:
            while self.exit_status in (None, REBOOTED):
                with (self._directory / "console").open("ab") as console:
                    self._process = await asyncio.to_thread(
                        subprocess.Popen,
                        [
                            *("systemd-nspawn", "-D", self.root, "--register=no", "--keep-unit"),
                            *(*self._options, "--boot"),
                        ],
                        stdin=subprocess.DEVNULL,
                        stdout=console,
                        stderr=console,
                    )
                self.boots += 1
                self.exit_status = None
                self.exit_status = await _ended(self._process)
        finally:
            if self._process is not None and self._process.poll() is None:
                with contextlib.suppress(LookupError, ProcessLookupError):
                    os.kill(self._leader(), signal.SIGKILL)  # and with it all of the host
                self._process.kill()
                await asyncio.to_thread(self._process.wait)

    async def booted(self) -> None:
        """Wait until systemd has started everything."""

        def is_up() -> bool:
            try:
                state = self.inside("systemctl", "is-system-running").stdout.strip()
            except LookupError:
                return False
            return state in {"running", "degraded"}

        await asyncio.to_thread(_poll, is_up)

    def unmount(self) -> None:
        """Take the overlay apart."""
        subprocess.run(["umount", "--lazy", self.root], check=False, capture_output=True)

    def _leader(self) -> int:
        process = self._process
        if process is None or process.poll() is not None:
            raise LookupError("the host is not up")
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        except OSError:
            children = []
        if not children:
            raise LookupError("the host is not up")
        return int(children[0])


async def _ended(process: "subprocess.Popen[bytes]") -> int:
    await until(lambda: process.poll() is not None, every=0.05, within=3_600)
    assert process.returncode is not None
    return process.returncode


def _poll(condition: Callable[[], bool]) -> None:
    asyncio.run(until(condition, every=0.1, within=BOOT_SECONDS))


@contextlib.asynccontextmanager
async def a_host(
    directory: Path,
    prepare: Callable[[Host], None] = lambda host: None,
    *,
    release: str = "bookworm",
    network: Path | None = None,
    binds: Mapping[Path, str] | None = None,
) -> AsyncIterator[Host]:
    """Yield a host that is up; ``prepare`` gets it before it is booted."""
    host = Host(directory, release, network, binds)
    living = None
    try:
        await asyncio.to_thread(host.mount)
        await asyncio.to_thread(prepare, host)
        living = asyncio.create_task(host.live())
        await host.booted()
        yield host
    finally:
        if living is not None:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
        await asyncio.to_thread(host.unmount)
