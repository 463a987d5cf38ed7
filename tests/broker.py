"""A real mosquitto of the test's own, under the shipped rules, and strangers who talk to it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infoscreen.clock import SystemClock
from infoscreen.pki.authority import Authority
from infoscreen.provisioning import broker_reload, devices
from infoscreen.provisioning.broker_files import (
    OWN_ACCOUNTS,
    SERVER_ACCOUNT,
    BrokerFiles,
    Listeners,
    write_broker,
)
from infoscreen.resources import resource
from tests.programs import require
from tests.waiting import DEADLINE_SECONDS, until

ANONYMOUS = ""
"""Stands for no account at all."""

_RELOADED, _RUNNING = "Reloading config.", " running\n"
_MESSAGE = "MESSAGE "


@dataclass(frozen=True, slots=True)
class Received:
    """What a stranger heard."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class RefusedByBroker(Exception):
    """The broker cannot be reached, or did not let the stranger in; the text is the program's own."""


class Subscriber:
    """A ``mosquitto_sub`` that has its subscriptions."""

    def __init__(self, output: asyncio.StreamReader) -> None:
        self._output = output
        self._early: deque[Received] = deque()

    async def wait_until_subscribed(self) -> None:
        """Wait for the broker's one answer to all subscriptions; forbidden ones are granted like the rest."""
        while not (line := await self._line()).startswith("Subscribed "):
            if line.startswith(_MESSAGE):  # a session's queue is delivered before the answer
                self._early.append(_parse(line))

    async def next(self) -> Received:
        """Wait for the next message."""
        if self._early:
            return self._early.popleft()
        while not (line := await self._line()).startswith(_MESSAGE):
            pass
        return _parse(line)

    async def _line(self) -> str:
        line = await asyncio.wait_for(self._output.readline(), DEADLINE_SECONDS)
        text = line.decode().rstrip("\n")
        if not line or text.startswith("Connection error"):
            raise RefusedByBroker(text or "mosquitto_sub ended")
        return text


def _parse(line: str) -> Received:
    _, qos, retain, payload, topic = line.split(" ", 4)
    return Received(topic, bytes.fromhex(payload), int(qos), retain == "1")


class Broker:
    """A mosquitto on loopback with password file and ACL; same port and same memory across restarts.

    Accounts: the daemon's, ``server_user`` with ``server_password``, and one for each device that was added.
    """

    host = "127.0.0.1"
    server_user = SERVER_ACCOUNT

    def __init__(
        self,
        path: Path,
        port: int,
        *,
        save_every_change: bool = True,
        devices_port: int | None = None,
        program: Sequence[str | Path] = (),
        migration: Sequence[str] = (),
    ) -> None:
        """Write the files.

        Args:
            path: the broker's directory.
            port: for the server's account, plain; without ``devices_port`` also for devices.
            save_every_change: a killed broker forgets nothing.
            devices_port: for devices, over TLS.
            program: another mosquitto than the system's.
            migration: addresses with a plain listener for devices.
        """
        self.files = BrokerFiles(path)
        self.authority: Authority | None = None
        if devices_port is not None:
            now = SystemClock().now()
            self.authority = Authority.create(path / "pki", now)
            self.authority.issue_server(["localhost", "127.0.0.1"], now)
        self.listeners = Listeners(server=port, devices=devices_port, migration=migration)
        write_broker(
            self.files,
            resource("mosquitto"),
            self.listeners,
            self.authority,
            save_every_change=save_every_change,
        )
        self._prepare(port, program, self.files.log)
        self.devices_port = devices_port

    @classmethod
    def existing(cls, files: BrokerFiles, port: int, program: Sequence[str | Path], log: Path) -> Self:
        """Return a broker whose files are there already, with its listener for the server on ``port``."""
        broker = cls.__new__(cls)
        broker.files, broker.authority, broker.devices_port = files, None, None
        broker._prepare(port, program, log)
        return broker

    def _prepare(self, port: int, program: Sequence[str | Path], log: Path) -> None:
        self._program = program or (require("mosquitto"),)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = log
        self.port = port
        self.passwords = {account: self.files.password(account) for account in OWN_ACCOUNTS}
        self.server_password = self.passwords[SERVER_ACCOUNT]

    @property
    def log(self) -> str:
        """Return what the broker logged since it was first started."""
        path = self._log
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def config(self) -> Path:
        """Return the configuration file, for a test that wants another one; write it before the start."""
        return self.files.config

    def reconfigure(self, before: str, after: str) -> None:
        """Replace one line of the configuration for the next start; fail if it is not there once."""
        texts = {path: path.read_text(encoding="utf-8") for path in (self.config, self.files.rules)}
        found = [path for path, text in texts.items() for line in text.splitlines() if line == before]
        assert len(found) == 1, f"the configuration has {len(found)} times: {before}"
        lines = [after if line == before else line for line in texts[found[0]].splitlines()]
        found[0].write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def pid(self) -> int:
        """Return the process id of the running broker."""
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    async def start(self) -> None:
        """Start and wait until the port accepts connections."""
        assert self._process is None, "the broker is running already"
        before = self.log.count(_RUNNING)
        # Not asyncio's: it ties the process to one event loop, and mosquitto says everything in its log.
        self._process = await asyncio.to_thread(
            subprocess.Popen,
            [*self._program, "-c", self.files.config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await until(self._accepts)
        # It answers before it handles signals, and a SIGHUP would end it.
        await until(lambda: self.log.count(_RUNNING) > before)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start, and stop at the end."""
        try:
            await self.start()
            yield self
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop in order: the broker saves everything. Does nothing if it is not running."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Kill with SIGKILL.

        mosquitto saves just after it has acknowledged: what it acknowledged in its last millisecond may be
        lost, however good the client. A test that must not lose it awaits ``settle()`` first.
        """
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop in order and start again."""
        await self.stop()
        await self.start()

    async def settle(self) -> None:
        """Return when everything the broker has acknowledged so far is on disk."""
        # It saves in the turn of its loop in which it acknowledged; mosquitto_pub is answered in a later one.
        await self.pub("settle", b"", account=SERVER_ACCOUNT, qos=0)

    async def add_device(self, uuid: str) -> str:
        """Give a device an account and return its password."""
        return (await self.add_devices([uuid]))[uuid]

    async def add_devices(self, uuids: Iterable[str]) -> dict[str, str]:
        """Give many devices accounts at once and return their passwords by UUID."""
        with devices.adding(self.files, uuids, replace=True) as added:
            pass
        self.passwords.update(added.passwords)
        if self._process is not None:
            await self.reload()
        return dict(added.passwords)

    async def pub(
        self,
        topic: str,
        payload: bytes | str,
        *,
        account: str | None = None,
        qos: int = 1,
        retain: bool = False,
    ) -> None:
        """Publish with ``mosquitto_pub``, by default as the device whose topic it is; wait for the PUBACK.

        That the broker took it says nothing: one that the ACL forbids is acknowledged as well.
        """
        content = payload.encode() if isinstance(payload, str) else payload
        process = await asyncio.create_subprocess_exec(
            *(require("mosquitto_pub"), *self._login(account, topic)),
            *("-t", topic, "-q", str(qos), "-s" if content else "-n", *(["-r"] if retain else [])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(content), DEADLINE_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0:
            raise RefusedByBroker(output.decode().strip())

    @contextlib.asynccontextmanager
    async def sub(
        self,
        *filters: str,
        account: str | None = None,
        qos: int = 1,
        session: str | None = None,
        host: str | None = None,
        port: int | None = None,
    ) -> AsyncIterator[Subscriber]:
        """Listen with ``mosquitto_sub``, by default as the device whose topic the first filter is.

        With ``session``, a client id, the broker keeps the subscriptions and queues what comes after the end.
        ``host`` and ``port`` are of a plain listener.
        """
        process = await asyncio.create_subprocess_exec(
            # Without stdbuf, what it hears stays in its buffer until there is a lot of it.
            *("stdbuf", "-oL", require("mosquitto_sub"), *self._login(account, filters[0], host, port)),
            *("-d", "-q", str(qos), "-F", f"{_MESSAGE}%q %r %x %t"),
            *(["-c", "-i", session] if session else []),
            *(argument for name in filters for argument in ("-t", name)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=4 * 1024 * 1024,
        )
        assert process.stdout is not None
        try:
            subscriber = Subscriber(process.stdout)
            await subscriber.wait_until_subscribed()
            yield subscriber
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    async def reload(self) -> None:
        """Have the broker read its files again, and wait until it has."""
        done = self.log.count(_RELOADED)
        os.kill(self.pid, signal.SIGHUP)
        await until(lambda: self.log.count(_RELOADED) > done)
        # Only now the next one is not forgotten, and the files have been read.
        await asyncio.to_thread(broker_reload.wait_until_read, self.files)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None

        def has_ended() -> bool:
            # Again and again: mosquitto forgets a signal that comes just before it begins its work.
            if process.poll() is None:
                process.send_signal(number)
            return process.poll() is not None

        await until(has_ended, every=0.02)

    def _accepts(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"mosquitto did not start:\n{self.log}")
        try:
            socket.create_connection((self.host, self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def _login(
        self, account: str | None, topic: str, host: str | None = None, port: int | None = None
    ) -> list[str]:
        name = topic.split("/")[1] if account is None else account
        credentials = [] if name == ANONYMOUS else ["-u", name, "-P", self.passwords[name]]
        if self.authority is None or name == SERVER_ACCOUNT or host is not None:
            return ["-h", host or self.host, "-p", str(port or self.port), *credentials]
        secured = ["--cafile", str(self.authority.bundle)]
        return ["-h", "localhost", "-p", str(self.devices_port), *secured, *credentials]
