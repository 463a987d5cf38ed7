"""The daemon under test: the real process (``infoscreen serve``) on a database of its own, from outside."""

import asyncio
import contextlib
import os
import re
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from benchmarks.figures import NotMeasured
from benchmarks.fleet import fill
from benchmarks.rig import Rig, free_port
from infoscreen.clock import SystemClock
from infoscreen.domain.accounts import Role
from infoscreen.provisioning.broker_files import SERVER_ACCOUNT
from infoscreen.services.accounts import CLI, Accounts
from infoscreen.services.passwords import Passwords
from infoscreen.storage.engine import Store

START_SECONDS = 60.0
STOP_SECONDS = 15.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MEBIBYTE = 1024


class Daemon:
    """A daemon process. What it costs is read from ``/proc``, what it did from its ``/metrics``."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        """``folder`` gets the database and the log."""
        self.database = folder / "infoscreen.db"
        self.url = f"sqlite+aiosqlite:///{self.database}"
        self._folder = folder
        self._port = free_port()
        self._process: Process | None = None
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "DATABASE_URL": self.url,
            "HTTP_PORT": str(self._port),
            "MQTT_PORT": str(rig.port),
            "MQTT_USER": SERVER_ACCOUNT,
            "MQTT_PASSWORD": rig.server_password,
        }

    async def start(self) -> float:
        """Start the process, wait until it is ready, and return how many seconds that took."""
        started = time.perf_counter()
        with (self._folder / "daemon.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "infoscreen", "serve"),
                cwd=self._folder,
                env=self._environment,
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with self.visitor() as visitor, asyncio.timeout(START_SECONDS):
            while not await _is_ready(visitor):
                if self._process.returncode is not None:
                    raise NotMeasured(f"the daemon ended at its start:\n{self.log}")
                await asyncio.sleep(0.005)
        return time.perf_counter() - started

    async def stop(self) -> None:
        """Stop in order. Does nothing if it is not running."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    @property
    def log(self) -> str:
        """Return what the daemon wrote."""
        return (self._folder / "daemon.log").read_text(encoding="utf-8", errors="replace")

    @property
    def cpu_seconds(self) -> float:
        """Return how much processor time the process has used."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def memory(self) -> float:
        """Return the resident memory in MB."""
        found = re.search(r"VmRSS:\s+(\d+) kB", self._proc("status"))
        if found is None:
            raise NotMeasured("the daemon has ended")
        return int(found[1]) / _MEBIBYTE

    def visitor(self, **headers: str) -> aiohttp.ClientSession:
        """Return somebody without a token, for a ``with`` block."""
        return aiohttp.ClientSession(f"http://127.0.0.1:{self._port}", headers=headers)

    @asynccontextmanager
    async def program(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Yield a program with an admin's API token."""
        async with self.visitor(Authorization=f"Bearer {await self._token()}") as session:
            yield session

    async def counted(self, visitor: aiohttp.ClientSession, series: str) -> float:
        """Return a value from ``/metrics``; 0 if there is none yet."""
        async with visitor.get("/metrics") as answer:
            text = await answer.text()
        found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def stored_heartbeats(self, visitor: aiohttp.ClientSession) -> float:
        """Return how many heartbeats have been stored since the start."""
        return await self.counted(
            visitor, 'infoscreen_mqtt_messages_total{kind="heartbeat",outcome="stored"}'
        )

    def _proc(self, name: str) -> str:
        if self._process is None or self._process.returncode is not None:
            raise NotMeasured(f"the daemon ended:\n{self.log}")
        return Path(f"/proc/{self._process.pid}/{name}").read_text(encoding="ascii")

    async def _token(self) -> str:
        store, passwords = Store(self.url), Passwords()
        try:
            accounts = Accounts(store, SystemClock(), passwords)
            name = f"bench-{os.urandom(4).hex()}"
            user = await accounts.add_user(name, os.urandom(16).hex(), Role.ADMIN, CLI)
            return (await accounts.create_token(user.id, name, Role.ADMIN, CLI)).secret
        finally:
            passwords.close()
            await store.close()


async def _is_ready(visitor: aiohttp.ClientSession) -> bool:
    with contextlib.suppress(aiohttp.ClientConnectionError):
        async with visitor.get("/readyz") as answer:
            return answer.status == 200
    return False


@asynccontextmanager
async def installed(rig: Rig, folder: Path, clients: int) -> AsyncIterator[Daemon]:
    """Yield a daemon that knows so many clients and has not been started; stop it at the end if need be."""
    await asyncio.to_thread(folder.mkdir)
    daemon = Daemon(rig, folder)
    await fill(daemon.database, clients)
    try:
        yield daemon
    finally:
        await daemon.stop()


@asynccontextmanager
async def running(rig: Rig, folder: Path, clients: int) -> AsyncIterator[Daemon]:
    """Yield a daemon that knows so many clients and is ready."""
    async with installed(rig, folder, clients) as daemon:
        await daemon.start()
        yield daemon
