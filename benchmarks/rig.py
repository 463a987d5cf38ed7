"""A private broker for a benchmark, and a fast way to fill it."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.packets import DISCONNECT, connect, publish
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.provisioning.broker_files import (
    SERVER_ACCOUNT,
    BrokerDirectory,
    new_password,
    password_line,
    write_broker_directory,
)
from infoscreen.resources import resource

LOADER = "loader"
"""An account of the benchmark's own that may publish for every device."""

WINDOW = 1_000
"""Messages the loader has in flight."""


@dataclass(frozen=True, slots=True)
class Rig:
    """A running broker and the password of the loader."""

    directory: BrokerDirectory
    loader_password: str

    def address(self, client_id: str) -> BrokerAddress:
        """Return the way in for the daemon's side, under the given client id."""
        return BrokerAddress(
            "127.0.0.1", self.directory.port, SERVER_ACCOUNT, self.directory.server_password, client_id
        )


@contextlib.asynccontextmanager
async def running_broker(path: Path) -> AsyncIterator[Rig]:
    """Run the shipped broker configuration on a free port, with an account for the loader added."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise SystemExit("mosquitto is missing; install it with: apt-get install mosquitto")
    directory = write_broker_directory(path, _free_port(), resource("mosquitto"), save_every_change=False)
    password = new_password()
    with directory.passwords.open("a", encoding="ascii") as file:
        file.write(password_line(LOADER, password))
    with (path / "acl").open("a", encoding="ascii") as file:
        file.write(f"\nuser {LOADER}\ntopic write infoscreen/#\n")
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(directory.config), stderr=subprocess.DEVNULL
    )
    try:
        await _accepts(directory.port)
        yield Rig(directory, password)
    finally:
        process.terminate()
        await process.wait()


async def load(rig: Rig, messages: Iterable[tuple[str, bytes]]) -> int:
    """Publish messages at QoS 1, wait for every PUBACK, and return how many there were.

    Speaks MQTT 3.1.1 by hand: a client library would be the slowest part of the benchmark.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.directory.port)
    writer.write(connect(LOADER, rig.loader_password))
    connack = await reader.readexactly(4)
    if connack[3] != 0:
        raise RuntimeError(f"the broker refused the loader: {connack[3]}")
    sent = acked = 0
    for topic, payload in messages:
        writer.write(publish(topic, payload, sent % 65_535 + 1))
        sent += 1
        while sent - acked >= WINDOW:
            await writer.drain()
            acked += len(await reader.readexactly(4)) // 4
    while acked < sent:
        await reader.readexactly(4)
        acked += 1
    writer.write(DISCONNECT)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    return sent


def _free_port() -> int:
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
