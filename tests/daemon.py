"""The daemon as a process of its own, as systemd runs it: started, killed, stopped in order, and asked."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import ClientSession, TCPConnector

from infoscreen.clock import SystemClock
from infoscreen.domain.accounts import Role
from infoscreen.services.accounts import CLI, Accounts
from infoscreen.services.passwords import Passwords
from infoscreen.storage import schema
from infoscreen.storage.engine import Store
from tests.api import ask
from tests.broker import Broker
from tests.programs import find_free_port
from tests.template import copy_of
from tests.waiting import DEADLINE_SECONDS
from tests.web import PASSWORD, QUICK_HASHER

CHECKOUT = Path(__file__).parent.parent

STOP_SECONDS = 15.0
"""How long a stop may take before the test fails; the design allows 5 s, on a machine that is not loaded."""
START_SECONDS = 60.0
"""A start is mostly imports, and the machine may be busy."""


class Daemon:
    """A daemon with a database in ``directory`` or elsewhere, which ``installed`` makes.

    The same database, port and log across restarts. ``settings`` are environment variables by their names.
    """

    def __init__(
        self, directory: Path, broker: Broker, *, database: Path | None = None, **settings: object
    ) -> None:
        self.database = database or directory / "infoscreen.db"
        self.url = str(settings.get("DATABASE_URL", f"sqlite+aiosqlite:///{self.database}"))
        self.port = find_free_port()
        self._directory = directory
        self._log = directory / f"daemon-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "DATABASE_URL": self.url,
            "HTTP_PORT": self.port,
            "MQTT_HOST": broker.host,
            "MQTT_PORT": broker.port,
            "MQTT_USER": broker.server_user,
            "MQTT_PASSWORD": broker.server_password,
            "LOG_FORMAT": "json",
            **settings,
        }

    @property
    def log(self) -> str:
        """Return all that was logged since the first start."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of the log about an event."""
        # A killed daemon may have left half a line.
        whole = [line for line in self.log.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in map(json.loads, whole) if line.get("event") == event]

    @property
    def pid(self) -> int:
        """Return the process id of the running daemon."""
        assert self._process is not None, "the daemon is not running"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process is not None and self._process.poll() is None

    async def install(self) -> None:
        """Make the database, with a user for each role, named by it and with ``PASSWORD``."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self.url.startswith("sqlite"):
            await copy_of("installed", self.database, _install)
        else:
            await _install(self.url)

    async def token(self, role: Role) -> str:
        """Return a new API token."""
        async with _accounts(self.url) as accounts:
            user = await accounts.user_named(role.value)
            return (await accounts.create_token(user.id, "test", role, CLI)).secret

    async def launch(self) -> None:
        """Start the process and wait for nothing."""
        assert self._process is None, "the daemon is running already"
        with self._log.open("ab") as output:
            # Not asyncio's: it ties the process to one event loop.
            self._process = await asyncio.to_thread(
                subprocess.Popen,
                [sys.executable, "-m", "infoscreen", "serve"],
                cwd=self._directory,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "PYTHONPATH": str(CHECKOUT),
                    "INFOSCREEN_CONFIG_DIR": "/nonexistent",
                    **{name: str(value) for name, value in self._settings.items()},
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    async def start(self) -> None:
        """Start, and wait until it listens to the broker and its database answers."""
        await self.launch()
        await self.wait_for("/readyz", 200)

    async def kill(self) -> None:
        """Kill with SIGKILL. Does nothing if it is not running."""
        if self._process is not None:
            self._process.kill()
            await self.ended()

    async def stop(self, within: float = STOP_SECONDS) -> int:
        """Send SIGTERM and return the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return await self.ended(within)

    async def ended(self, within: float = STOP_SECONDS) -> int:
        """Wait until the process has ended, and return its exit code."""
        assert self._process is not None, "the daemon is not running"
        process, self._process = self._process, None
        try:
            return await asyncio.to_thread(process.wait, within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the daemon did not end within {within} s:\n{self.log}") from None

    async def wait_for(self, path: str, status: int, *, within: float = START_SECONDS) -> dict[str, Any]:
        """Ask until a path is answered with the status, and return that answer's JSON."""
        async with asyncio.timeout(within), self.visitor() as visitor:
            while True:
                assert self.alive, f"the daemon ended:\n{self.log}"
                try:
                    async with visitor.get(path) as response:
                        if response.status == status:
                            answer: dict[str, Any] = await response.json(content_type=None)
                            return answer
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def visitor(self, **headers: str) -> AsyncIterator[ClientSession]:
        """Yield someone whose every request is a new connection, so that no restart confuses them."""
        async with ClientSession(
            f"http://127.0.0.1:{self.port}",
            # A request that says "close" looks like one that a proxy hands on, which gets no metrics.
            headers={"Connection": "keep-alive", **headers},
            connector=TCPConnector(force_close=True, limit=0),
        ) as session:
            yield session

    @asynccontextmanager
    async def program(self, role: Role = Role.ADMIN) -> AsyncIterator[ClientSession]:
        """Yield a program with an API token of its own."""
        async with self.visitor(Authorization=f"Bearer {await self.token(role)}") as session:
            yield session

    def rows(self, statement: str, *values: object) -> list[Sequence[Any]]:
        """Ask the database, whether the daemon runs or not."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(statement, values).fetchall()

    def change(self, statement: str, *values: object) -> None:
        """Change the database of a daemon that does not run."""
        assert not self.alive
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(statement, values)


async def _install(url: str) -> None:
    await schema.upgrade(url)
    async with _accounts(url) as accounts:
        for role in Role:
            await accounts.add_user(role.value, PASSWORD, role, CLI)


@asynccontextmanager
async def _accounts(url: str) -> AsyncIterator[Accounts]:
    async with AsyncExitStack() as stack:
        store = Store(url)
        stack.push_async_callback(store.close)
        passwords = Passwords(QUICK_HASHER)
        stack.callback(passwords.close)
        yield Accounts(store, SystemClock(), passwords)


@asynccontextmanager
async def installed(directory: Path, broker: Broker, **settings: Any) -> AsyncIterator[Daemon]:
    """Yield a daemon that has its database and has not been started; kill it at the end if need be."""
    daemon = Daemon(directory, broker, **settings)
    await daemon.install()
    try:
        yield daemon
    finally:
        await daemon.kill()


async def ask_until(
    session: ClientSession,
    path: str,
    claim: Callable[[Any], object],
    *,
    within: float = DEADLINE_SECONDS,
) -> Any:
    """Ask until the answer is as claimed, and return it; fail with the last one."""
    answer: Any = None
    try:
        async with asyncio.timeout(within):
            while True:
                answer = await ask(session, "GET", path)
                if claim(answer):
                    return answer
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"GET {path} is still {answer}") from None
