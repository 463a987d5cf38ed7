"""A private broker for a benchmark, and a fast way to fill it."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.line import WINDOW, Line, OnMessage, line
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.provisioning.broker_files import SERVER_ACCOUNT, BrokerFiles, Listeners, write_broker
from infoscreen.provisioning.passwords import new_password, password_line
from infoscreen.resources import resource

LOADER = "loader"
"""An account of the benchmark's own that may speak and hear for every device."""


@dataclass(frozen=True, slots=True)
class Rig:
    """A running broker and the password of the loader."""

    files: BrokerFiles
    port: int
    loader_password: str

    @property
    def server_password(self) -> str:
        """Return the password of the daemon's account."""
        return self.files.password(SERVER_ACCOUNT)

    def address(self, client_id: str) -> BrokerAddress:
        """Return the way in for the daemon's side, under the given client id."""
        return BrokerAddress("127.0.0.1", self.port, SERVER_ACCOUNT, self.server_password, client_id)


@contextlib.asynccontextmanager
async def running_broker(path: Path) -> AsyncIterator[Rig]:
    """Run the shipped broker configuration on a free port, with an account for the loader added."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise SystemExit("mosquitto is missing; install it with: apt-get install mosquitto")
    rig = Rig(BrokerFiles(path), free_port(), new_password())
    listeners = Listeners(server=rig.port, devices=None)
    write_broker(rig.files, resource("mosquitto"), listeners, None, save_every_change=False)
    with rig.files.passwords.open("a", encoding="ascii") as file:
        file.write(password_line(LOADER, rig.loader_password))
    with rig.files.acl.open("a", encoding="ascii") as file:
        file.write(f"\nuser {LOADER}\ntopic readwrite infoscreen/#\n")
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(rig.files.config), stderr=subprocess.DEVNULL
    )
    try:
        await _accepts(rig.port)
        yield rig
    finally:
        process.terminate()
        await process.wait()


def devices(
    rig: Rig, client_id: str, on_message: OnMessage | None = None
) -> AbstractAsyncContextManager[Line]:
    """Return a connection that speaks for every device."""
    return line(rig.port, client_id, LOADER, rig.loader_password, on_message)


async def load(rig: Rig, messages: Iterable[tuple[str, bytes]]) -> None:
    """Publish messages as fast as the broker takes them, and wait for every PUBACK."""
    async with devices(rig, LOADER) as loader:
        for topic, payload in messages:
            loader.publish(topic, payload)
            if loader.sent - loader.acked >= WINDOW:
                await loader.room()
        await loader.settled()


def free_port() -> int:
    """Return a TCP port on loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _accepts(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.05)
    raise SystemExit("the private mosquitto did not start; see its log in the benchmark's directory")
