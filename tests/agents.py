"""The agent as a process of its own, on a device whose systemd and journal are scripts: that is the metal."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from infoscreen.agent.journal_file import FILE
from infoscreen.domain.commands import Action
from infoscreen.wire import topics
from tests.broker import Broker
from tests.waiting import DEADLINE_SECONDS

CHECKOUT = Path(__file__).parent.parent

SYSTEMCTL = """#!/bin/sh
# Knows one unit, whose state is a file beside it, and the state of the host.
here=$(dirname "$0")
while [ "${1#--no-}" != "$1" ]; do shift; done
echo "$*" >>"$here/calls"
if [ -e "$here/refuses-$1" ]; then
    echo "Failed to $1: Interactive authentication required." >&2
    exit 1
fi
case $1 in
    show)
        case $2 in
            *SystemState*) cat "$here/manager" ;;
            *) cat "$here/unit" ;;
        esac
        ;;
    restart)
        if [ ! -e "$here/stays-down" ]; then "$here/start-unit" $$; fi
        ;;
esac
"""

START_UNIT = """#!/bin/sh
here=$(dirname "$0")
cat >"$here/unit.new" <<END
ActiveState=active
SubState=running
NRestarts=0
MainPID=$1
ExecMainStartTimestamp=$(date -u '+%a %Y-%m-%d %H:%M:%S.%6N UTC')
Result=success
END
mv "$here/unit.new" "$here/unit"
"""

DOWN = """ActiveState=failed
SubState=failed
NRestarts=5
MainPID=0
ExecMainStartTimestamp=
Result=start-limit-hit
"""

JOURNALCTL = """#!/bin/sh
exec tail -n +1 -F "$(dirname "$0")/journal" 2>/dev/null
"""


class Device:
    """A device with one agent; ``settings`` are its variables without the prefix, which may be changed."""

    def __init__(self, directory: Path, broker: Broker, uuid: str, **settings: object) -> None:
        self.uuid = uuid
        self.state = directory / "state"
        self.metal = directory / "metal"
        self.metal.mkdir(parents=True)
        self._log = directory / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.variables: dict[str, str] = {}
        """Further variables of the agent's environment."""
        self.settings: dict[str, object] = {
            "UUID": uuid,
            "MQTT_HOST": broker.host,
            "MQTT_PORT": broker.port,
            "MQTT_PASSWORD": broker.passwords[uuid],
            "STATE_DIR": self.state,
            "HEARTBEAT_SECONDS": 0.5,
            "HEALTH_SECONDS": 0.5,
            "RECONNECT_SECONDS": 0.2,
            "APP_RESTART_SECONDS": 60,
            "SOFTWARE_VERSION": "4.2.1",
            "LOG_FORMAT": "json",
            **settings,
        }
        for name, text in [("systemctl", SYSTEMCTL), ("start-unit", START_UNIT), ("journalctl", JOURNALCTL)]:
            (self.metal / name).write_text(text)
            (self.metal / name).chmod(0o755)
        (self.metal / "manager").write_text("degraded\n")
        (self.metal / "journal").touch()
        (self.metal / "calls").touch()
        self.start_app()

    @property
    def environment(self) -> dict[str, str]:
        """Return what a process on this device finds in its environment."""
        return {
            "PATH": f"{self.metal}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(CHECKOUT),
            **{f"AGENT_{name}": str(value) for name, value in self.settings.items()},
            **self.variables,
        }

    @property
    def log(self) -> str:
        """Return what the agent logged since it was first started."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def calls(self) -> list[str]:
        """Return what systemctl was asked to do; not what it was asked to show."""
        return [line for line in self.asked if not line.startswith("show")]

    @property
    def asked(self) -> list[str]:
        """Return all that systemctl was called with."""
        return (self.metal / "calls").read_text().splitlines()

    @property
    def pid(self) -> int:
        """Return the process id of the running agent."""
        assert self._process is not None
        return self._process.pid

    @property
    def journal(self) -> dict[str, str]:
        """Return the command ids in the journal, each with the status last answered."""
        try:
            with closing(sqlite3.connect(f"file:{self.state / FILE}?mode=ro", uri=True)) as database:
                rows = database.execute("SELECT command_id, ack FROM commands ORDER BY serial").fetchall()
        except sqlite3.OperationalError:  # the agent has not made it yet
            return {}
        return {command_id: json.loads(ack)["status"] for command_id, ack in rows}

    def run(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a command of ours on this device."""
        with self._log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "infoscreen", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    async def start(self, *arguments: str) -> None:
        """Start the agent."""
        assert self._process is None, "the agent is running already"
        self._process = await asyncio.to_thread(self.run, "agent", *arguments)

    async def stop(self) -> int:
        """Stop the agent in order and return its exit status."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Take the power from the agent; does nothing if it does not run."""
        if self._process is not None:
            await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        status = await asyncio.to_thread(self._process.wait, DEADLINE_SECONDS)
        self._process = None
        return status

    def start_app(self) -> None:
        """Let the application run, as a process that began just now."""
        subprocess.run([self.metal / "start-unit", str(os.getpid())], check=True)

    def reboot(self) -> None:
        """Let everything in the journal be of an earlier boot; the kernel's id cannot be changed here."""

        with closing(sqlite3.connect(self.state / FILE)) as database, database:
            database.execute("UPDATE commands SET boot_id = ? WHERE boot_id IS NOT NULL", [str(uuid4())])

    def app_says(self, message: str, priority: int = 4) -> None:
        """Let the application write a line into its journal."""
        line = {
            "__REALTIME_TIMESTAMP": "1767225600000000",
            "__MONOTONIC_TIMESTAMP": str(time.monotonic_ns() // 1_000),
            "__CURSOR": f"i={uuid4()}",
            "PRIORITY": str(priority),
            "MESSAGE": message,
            "SYSLOG_IDENTIFIER": "player",
            "_SYSTEMD_UNIT": "infoscreen-app.service",
            "_PID": "42",
        }
        with (self.metal / "journal").open("a") as journal:
            journal.write(json.dumps(line) + "\n")

    def command(self, action: Action, **changes: Any) -> bytes:
        """Return a new command for this device."""
        now = datetime.now(UTC)
        fields = {
            "schema_version": "1.0",
            "command_id": str(uuid4()),
            "client_uuid": self.uuid,
            "action": action,
            "issued_at": now.isoformat(),
            "expires_at": (now + timedelta(seconds=240)).isoformat(),
            "requested_by": 1,
            "reason": None,
        }
        return json.dumps(fields | changes).encode()


class Server:
    """Hears what devices say, as the daemon's account does; keeps everything in order of arrival."""

    def __init__(self, broker: Broker, uuid: str) -> None:
        self._broker = broker
        self._uuid = uuid
        self.heard: list[tuple[str, bytes, bool]] = []
        self._news = asyncio.Condition()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Server"]:
        """Listen while the block runs."""
        filters = [f"infoscreen/{self._uuid}/{kind}" for kind in ("presence", *_KINDS)]
        async with self._broker.sub(*filters, account=self._broker.server_user) as subscriber:

            async def collect() -> None:
                while True:
                    try:
                        message = await subscriber.next()
                    except TimeoutError:  # nothing was said for long
                        continue
                    async with self._news:
                        self.heard.append((message.topic, message.payload, message.retain))
                        self._news.notify_all()

            collecting = asyncio.create_task(collect())
            try:
                yield self
            finally:
                while not collecting.done():  # Python 3.11's wait_for may swallow a cancellation
                    collecting.cancel()
                    await asyncio.wait([collecting], timeout=0.1)

    async def send(self, command: bytes, *, retain: bool = False) -> None:
        """Publish a command."""
        await self._broker.pub(
            topics.commands(self._uuid), command, account=self._broker.server_user, retain=retain
        )

    def acks(self, command: bytes, topic: int = 0) -> list[str]:
        """Return the acks of a command that came on one of the two topics."""
        wanted = json.loads(command)["command_id"]
        acks = [
            json.loads(payload) for name, payload, _ in self.heard if name == topics.acks(self._uuid)[topic]
        ]
        return [
            ack["status"] if ack["error_code"] is None else f"{ack['status']}: {ack['error_code']}"
            for ack in acks
            if ack["command_id"] == wanted
        ]

    def said(self, kind: str) -> list[Any]:
        """Return what came on a topic, JSON decoded."""
        return [
            json.loads(payload)
            for topic, payload, _ in self.heard
            if topic == f"infoscreen/{self._uuid}/{kind}" and payload
        ]

    def presence(self) -> list[str]:
        """Return what was said of the connection."""
        return [payload.decode() for topic, payload, _ in self.heard if topic.endswith("/presence")]

    async def until(self, condition: Any) -> Any:
        """Wait until ``condition`` is true of what was heard, and return its value."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS), self._news:
                while not (value := condition()):
                    await self._news.wait()
                return value
        except TimeoutError:
            tail = "\n".join(f"{topic} {payload[:300]!r}" for topic, payload, _ in self.heard[-15:])
            raise AssertionError(f"it did not come; heard last:\n{tail}") from None

    async def until_acked(self, command: bytes, *expected: str) -> None:
        """Wait for exactly these acks, on both topics."""
        await self.until(lambda: all(len(self.acks(command, topic)) >= len(expected) for topic in (0, 1)))
        assert self.acks(command, 0) == self.acks(command, 1) == list(expected)


_KINDS = (
    *("discovery", "heartbeat", "health", "service_failed", "screenshot", "logs/#"),
    *("commands/ack", "command/ack"),
)
