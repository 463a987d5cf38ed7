"""Listeners: what doctor and the daemon do on the one for devices must never cost the daemon its queue."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from infoscreen.domain.errors import BrokerUnavailable, WrongListener
from infoscreen.mqtt import probe
from infoscreen.mqtt.connection import BrokerAddress, TlsSettings
from infoscreen.mqtt.identity import replaces_ids
from infoscreen.provisioning.broker_files import PROBE_ACCOUNT
from infoscreen.wire import topics
from tests import brokers
from tests.broker import Broker
from tests.daemon import installed
from tests.programs import find_free_port
from tests.waiting import until

pytestmark = pytest.mark.broker

DEVICE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
HEARTBEAT = topics.heartbeat(DEVICE)
SENT = [str(number).encode() for number in range(10)]


@pytest.fixture(params=brokers.programs())
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """Yield a broker with a listener for the server and one for devices."""
    program = brokers.program(request.param)
    broker = Broker(tmp_path / "broker", find_free_port(), devices_port=find_free_port(), program=program)
    await broker.add_device(DEVICE)
    async with broker.running():
        yield broker


def listeners(site: Broker) -> list[BrokerAddress]:
    """Return the server's account over each listener."""
    assert site.authority is not None
    assert site.devices_port is not None
    plain = BrokerAddress("127.0.0.1", site.port, site.server_user, site.server_password, "infoscreen-server")
    return [plain, replace(plain, port=site.devices_port, tls=TlsSettings(site.authority.bundle))]


def stranger(site: Broker, address: BrokerAddress) -> BrokerAddress:
    return replace(address, user=PROBE_ACCOUNT, password=site.passwords[PROBE_ACCOUNT])


async def leave_a_queue(site: Broker) -> None:
    """Let messages wait for a daemon that is stopped."""
    async with site.sub(HEARTBEAT, account=site.server_user, session="infoscreen-server"):
        pass
    for payload in SENT:
        await site.pub(HEARTBEAT, payload, account=DEVICE)


async def queue(site: Broker) -> list[bytes]:
    async with site.sub(HEARTBEAT, account=site.server_user, session="infoscreen-server") as server:
        return [(await server.next()).payload for _ in SENT]


async def test_which_listener_replaces_client_ids_is_found_without_touching_a_session(site: Broker) -> None:
    await leave_a_queue(site)
    plain, devices = listeners(site)
    for address, replaced in ((plain, False), (devices, True)):
        assert await replaces_ids(address) is replaced
        assert await replaces_ids(stranger(site, address)) is replaced
    assert await queue(site) == SENT


@pytest.mark.parametrize("with_probe", [True, False], ids=["probe account", "server's account only"])
async def test_doctor_costs_a_stopped_daemon_nothing_over_any_listener(
    site: Broker, with_probe: bool
) -> None:
    await leave_a_queue(site)
    plain, devices = listeners(site)
    for _ in range(2):
        ours = await probe.admit(plain, stranger(site, plain) if with_probe else None)
        assert await probe.dropped(ours) is not None
        with pytest.raises(WrongListener, match="for devices"):
            await probe.admit(devices, stranger(site, devices) if with_probe else None)
        for address in (plain, devices):
            assert await probe.anonymous_refusal(address) is not None
    assert await queue(site) == SENT


async def test_doctor_with_the_probes_account_ends_no_connection_of_a_running_daemon(site: Broker) -> None:
    async with site.sub(HEARTBEAT, account=site.server_user, session="infoscreen-server") as daemon:
        for address in listeners(site):
            with pytest.raises(WrongListener) if address.tls else contextlib.nullcontext():
                await probe.admit(address, stranger(site, address))
        for payload in SENT:
            await site.pub(HEARTBEAT, payload, account=DEVICE)
        assert [(await daemon.next()).payload for _ in SENT] == SENT
    assert site.log.count("already connected, closing old connection") == 0


async def test_a_wrong_password_is_told_from_a_wrong_listener(site: Broker) -> None:
    for address in listeners(site):
        with pytest.raises(BrokerUnavailable, match="not authori") as caught:
            await probe.admit(replace(address, password=f"not {address.password}"))
        assert not isinstance(caught.value, WrongListener)


@pytest.mark.slow
async def test_a_daemon_on_the_listener_for_devices_says_so_and_keeps_its_queue(
    site: Broker, tmp_path: Path
) -> None:
    await leave_a_queue(site)
    _, devices = listeners(site)
    assert devices.tls is not None
    async with installed(
        tmp_path / "daemon",
        site,
        MQTT_HOST="localhost",
        MQTT_PORT=devices.port,
        MQTT_TLS_ENABLED="true",
        MQTT_TLS_CA_CERT=devices.tls.ca_cert,
        MQTT_PROBE_PASSWORD=site.passwords[PROBE_ACCOUNT],
    ) as daemon:
        await daemon.launch()
        await until(lambda: len(daemon.logged("broker_unavailable")) >= 3)
        said = {line["error"] for line in daemon.logged("broker_unavailable")}
        await daemon.stop()
    assert all("is for devices" in error for error in said), said
    assert await queue(site) == SENT


async def test_the_daemons_three_connections_live_side_by_side_on_the_servers_listener(site: Broker) -> None:
    plain, _ = listeners(site)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(probe.admit(plain))
