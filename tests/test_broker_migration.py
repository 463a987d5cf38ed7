"""From anonymous plain MQTT over accounts for each device to TLS only, in stages and back.

The daemon's session is the same all the way; nothing that a broker has acknowledged is lost.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click.testing
import pytest

from infoscreen.cli import cli
from infoscreen.clock import SystemClock
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.connection import BrokerAddress, TlsSettings, load_tls
from infoscreen.mqtt.device import DeviceClient
from infoscreen.mqtt.listener import Listener
from infoscreen.provisioning import broker_log
from infoscreen.services.ports import Outgoing
from infoscreen.simulator import device_uuids
from infoscreen.wire.topics import STATE_FILTERS
from tests import brokers
from tests.broker import Broker
from tests.doors import Shelf, address_of, running
from tests.programs import find_free_port
from tests.test_provisioning import address
from tests.waiting import until

__all__ = ["address"]

UUIDS = device_uuids(8, "migration")
CANARIES = UUIDS[:2]


class MovingDevice:
    """Sends numbered heartbeats, each until the broker has it, with the settings it was given last."""

    def __init__(self, uuid: str, where: BrokerAddress) -> None:
        self.uuid = uuid
        self.where = where
        self.said: list[bytes] = []
        self.connected_to: int | None = None

    async def live(self) -> None:
        while True:
            try:
                where = self.where
                async with DeviceClient(where, await load_tls(where)) as client:
                    self.connected_to = where.port
                    while where == self.where:
                        body = {"timestamp": "2026-01-01T00:00:00Z", "software_version": str(len(self.said))}
                        payload = json.dumps(body).encode()
                        await client.send(Outgoing(f"infoscreen/{self.uuid}/heartbeat", payload), 10)
                        self.said.append(payload)
                        await asyncio.sleep(0.05)
            except BrokerUnavailable:
                pass
            self.connected_to = None
            await asyncio.sleep(0.05)


@asynccontextmanager
async def living(devices: list[MovingDevice]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(device.live()) for device in devices]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def status(broker: Broker) -> dict[str, object]:
    words = ["broker", "status", "--directory", str(broker.files.path), "--json"]
    return dict(json.loads(click.testing.CliRunner().invoke(cli, words).output))


def close_plain(broker: Broker) -> tuple[int, str]:
    words = ["broker", "close-plain", "--directory", str(broker.files.path)]
    done = click.testing.CliRunner().invoke(cli, words)
    return done.exit_code, done.output


async def move(devices: list[MovingDevice], where: dict[str, BrokerAddress]) -> None:
    """Give devices other settings, and wait until each was heard of with them."""
    for device in devices:
        device.where = where[device.uuid]
    said = {device.uuid: len(device.said) for device in devices}
    await until(
        lambda: all(
            device.connected_to == device.where.port and len(device.said) > said[device.uuid] + 1
            for device in devices
        ),
        within=60,
    )


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("program", brokers.programs())
async def test_the_whole_way_from_anonymous_to_tls_only_and_its_ways_back(
    tmp_path: Path, address: str, program: str
) -> None:
    ports = find_free_port(), find_free_port()
    broker = Broker(
        tmp_path / "broker",
        ports[0],
        devices_port=ports[1],
        program=brokers.program(program),
        migration=[address],
    )
    rules, closed = broker.files.rules.read_text(), broker.files.migration.read_text()
    # Before: a broker of others, open to everybody, on the same port and with the same memory.
    broker.files.rules.write_text(f"allow_anonymous true\nlistener {ports[0]} 0.0.0.0\n")
    broker.files.migration.unlink()
    await broker.start()
    devices = [MovingDevice(uuid, BrokerAddress(address, ports[0], None, None, uuid)) for uuid in UUIDS]
    shelf = Shelf()
    listener = Listener(address_of(broker), SystemClock(), shelf.store, STATE_FILTERS)
    try:
        async with running(listener.run):
            await until(lambda: listener.state.listening_since)
            async with living(devices):
                await move(devices, {one.uuid: one.where for one in devices})

                # 1. Every device gets an account, which the open broker does not ask for.
                passwords = await broker.add_devices(UUIDS)
                plain = {
                    uuid: BrokerAddress(address, ports[0], uuid, passwords[uuid], uuid) for uuid in UUIDS
                }
                await move(devices, plain)

                # 2. Our rules, with plain MQTT still open: nobody comes in without an account any more.
                broker.files.rules.write_text(rules)
                broker.files.migration.write_text(closed)
                await broker.restart()
                await move(devices, plain)
                anonymous = BrokerAddress(address, ports[0], None, None, UUIDS[0])
                with pytest.raises(BrokerUnavailable):
                    async with DeviceClient(anonymous, None):
                        pass
                assert status(broker)["plain_devices"] == sorted(UUIDS)

                # 3. The canaries move to TLS; one goes back and moves again.
                assert broker.authority is not None
                tls = TlsSettings(broker.authority.bundle)
                secure = {
                    uuid: BrokerAddress("localhost", ports[1], uuid, passwords[uuid], uuid, tls)
                    for uuid in UUIDS
                }
                canaries, others = devices[: len(CANARIES)], devices[len(CANARIES) :]
                await move(canaries, secure)
                assert status(broker)["plain_devices"] == sorted(one.uuid for one in others)
                await move(canaries[:1], plain)
                assert canaries[0].uuid in str(status(broker)["plain_devices"])
                await move(canaries[:1], secure)

                # 4. The rest follows, but for one that is switched off: it is not forgotten.
                *followers, late = others
                await move(followers, secure)
                code, said = close_plain(broker)
                assert (code, "1 clients are still on plain MQTT" in said) == (1, True)
                late.where = BrokerAddress("localhost", find_free_port(), None, None, late.uuid)
                await until(lambda: status(broker)["plain_clients"] == 0)
                found = status(broker)
                assert (found["plain_devices"], found["tls_devices"]) == ([late.uuid], len(UUIDS) - 1)
                code, said = close_plain(broker)
                assert (code, late.uuid in said) == (1, True)
                await move([late], secure)

                # 5. TLS only.
                assert close_plain(broker)[0] == 0
                await broker.restart()
                await move(devices, secure)
                with pytest.raises(BrokerUnavailable):
                    async with DeviceClient(plain[UUIDS[0]], None):
                        pass

                # The way back for all, and forward again.
                broker.files.migration.write_text(closed)
                await broker.restart()
                await move(canaries, plain)
                await move(devices, secure)
            wanted = {(device.uuid, said) for device in devices for said in device.said}
            await until(lambda: wanted <= heard(shelf), within=60)
    finally:
        await broker.stop()


def heard(shelf: Shelf) -> set[tuple[str, bytes]]:
    return {(one.topic.split("/")[1], one.payload) for batch in shelf.batches for one in batch}


def test_the_last_port_of_a_device_is_found_also_in_rotated_logs(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", find_free_port())
    one, two, three, four = UUIDS[:4]
    stamp = "2026-11-27T09:51:58: "

    def came(uuid: str, peer: str, port: int, client: str | None = None) -> str:
        opened = f"{stamp}New connection from {peer} on port {port}.\n"
        return (
            f"{opened}{stamp}New client connected from {peer} as {client or uuid} (p2, c1, k60, u'{uuid}').\n"
        )

    log = broker.files.log
    log.parent.joinpath(f"{log.name}.10.gz").write_bytes(
        gzip.compress(came(one, "192.0.2.1:1", 1883).encode())
    )
    log.parent.joinpath(f"{log.name}.2.gz").write_bytes(
        gzip.compress(came(one, "192.0.2.1:2", 8883).encode())
    )
    log.parent.joinpath(f"{log.name}.1").write_text(came(two, "[2001:db8::7]:3", 8883))
    log.parent.joinpath(f"{log.name}.old").write_text(came(four, "192.0.2.1:9", 1883))
    liar = f"x (p2, c1, k60, u'{one}')."
    log.write_text(
        came(two, "2001:db8::7:4", 1883)
        + came(three, "192.0.2.3:5", 8883, client=liar)
        + f"{stamp}New connection from 192.0.2.3:6 on port 1883.\n"
        + f"{stamp}Client {one} disconnected, not authorised.\n"
    )
    assert broker_log.last_ports(broker.files) == {one: 8883, two: 1883, three: 8883}


def test_without_a_log_nothing_is_known(tmp_path: Path) -> None:
    assert broker_log.last_ports(Broker(tmp_path / "broker", find_free_port()).files) == {}
