"""Certificates renewed and CAs rolled over under 200 devices; and what the shipped listener speaks."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.connection import BrokerAddress, SharedTls, TlsSettings, load_tls
from infoscreen.mqtt.device import DeviceClient
from infoscreen.mqtt.diagnosis import presented
from infoscreen.services.ports import Outgoing
from infoscreen.wire import topics
from tests.broker import Broker
from tests.doors import Shelf, address_of, listener_for, running
from tests.programs import find_free_port
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

DEVICES = 200
SPARE = str(UUID(int=9_999))


class Talker:
    """A device that says numbered things, and says again what was not acknowledged."""

    def __init__(self, uuid: str, password: str, port: int, tls: SharedTls) -> None:
        self._address = BrokerAddress("localhost", port, uuid, password, uuid)
        self._tls = tls
        self._topic = topics.logs(uuid, topics.LogLevel.INFO)
        self._number = 0
        self.connections = 0
        self.connected = False
        self.acknowledged: set[bytes] = set()

    async def run(self) -> None:
        while True:
            try:
                async with DeviceClient(self._address, self._tls.context()) as client:
                    self.connections += 1
                    self.connected = True
                    while True:
                        payload = f"{self._address.user} {self._number}".encode()
                        await client.send(Outgoing(self._topic, payload), within=30)
                        self.acknowledged.add(payload)
                        self._number += 1
                        await asyncio.sleep(1)
            except BrokerUnavailable:
                self.connected = False
                await asyncio.sleep(0.5)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """Yield a broker with the shipped listeners and 200 accounts."""
    made = Broker(
        tmp_path / "broker", find_free_port(), save_every_change=False, devices_port=find_free_port()
    )
    await made.add_devices([*(str(UUID(int=number)) for number in range(1, DEVICES + 1)), SPARE])
    async with made.running():
        yield made


async def test_renewal_and_roll_over_under_traffic_lose_nothing(broker: Broker, tmp_path: Path) -> None:
    authority = broker.authority
    assert authority is not None
    assert broker.devices_port is not None
    old_bundle = tmp_path / "old-bundle.crt"
    old_bundle.write_bytes(authority.bundle.read_bytes())
    tls = SharedTls(TlsSettings(authority.bundle))
    talkers = [
        Talker(uuid, password, broker.devices_port, tls)
        for uuid, password in broker.passwords.items()
        if uuid != SPARE and "-" in uuid and uuid[0].isdigit()
    ]
    assert len(talkers) == DEVICES
    shelf = Shelf()
    listener = listener_for(address_of(broker), shelf)
    address = BrokerAddress(
        "localhost",
        broker.devices_port,
        SPARE,
        broker.passwords[SPARE],
        SPARE,
        TlsSettings(authority.bundle),
    )

    async def all_are_back() -> None:
        """Wait until each device is connected and has been acknowledged something new."""
        before = [len(talker.acknowledged) for talker in talkers]
        await until(lambda: listener.state.connected and all(talker.connected for talker in talkers))
        await until(
            lambda: all(len(one.acknowledged) > count for one, count in zip(talkers, before, strict=True))
        )

    def connections() -> list[int]:
        return [talker.connections for talker in talkers]

    async with running(listener.run):
        # Before its first subscription the broker keeps nothing for the daemon.
        await until(lambda: listener.state.listening_since)
        tasks = [asyncio.create_task(talker.run()) for talker in talkers]
        try:
            await all_are_back()
            # A renewal disturbs nobody, and counts for the next connection.
            before, shown = connections(), await presented(address)
            authority.renew(datetime.now(UTC), within=timedelta(days=400))
            await broker.reload()
            assert await presented(address) != shown
            await all_are_back()
            assert connections() == before
            # A roll-over: two restarts, after each of which everybody is back.
            authority.begin_roll_over(datetime.now(UTC))
            await broker.restart()
            await all_are_back()
            authority.switch(datetime.now(UTC))
            await broker.reload()
            before = connections()
            await all_are_back()
            assert connections() == before
            authority.finish()
            await broker.restart()
            await all_are_back()
            # Who still trusts the old CA only is refused, and can say why.
            stale = BrokerAddress(
                "localhost",
                broker.devices_port,
                SPARE,
                broker.passwords[SPARE],
                SPARE,
                TlsSettings(old_bundle),
            )
            with pytest.raises(BrokerUnavailable) as refused:
                await DeviceClient(stale, await load_tls(stale)).__aenter__()
            assert refused.value.fault is BrokerFault.UNKNOWN_CA
            await all_are_back()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        said = set().union(*(talker.acknowledged for talker in talkers))
        await until(lambda: said <= set(shelf.payloads))
    assert len(said) > 5 * DEVICES


SCAN = """
import json, sys
from sslyze import Scanner, ScanCommand, ServerNetworkLocation, ServerScanRequest
versions = ["SSL_2_0", "SSL_3_0", "TLS_1_0", "TLS_1_1", "TLS_1_2", "TLS_1_3"]
commands = {getattr(ScanCommand, f"{one}_CIPHER_SUITES") for one in versions}
more = {ScanCommand.HEARTBLEED, ScanCommand.TLS_COMPRESSION, ScanCommand.SESSION_RENEGOTIATION}
request = ServerScanRequest(
    ServerNetworkLocation("localhost", int(sys.argv[1]), "127.0.0.1"), scan_commands=commands | more
)
scanner = Scanner()
scanner.queue_scans([request])
(found,) = scanner.get_results()
result = found.scan_result
suites = {
    one: [suite.cipher_suite.name for suite in
          getattr(result, f"{one.lower()}_cipher_suites").result.accepted_cipher_suites]
    for one in versions
}
print(json.dumps({
    "suites": suites,
    "heartbleed": result.heartbleed.result.is_vulnerable_to_heartbleed,
    "compression": result.tls_compression.result.supports_compression,
    "renegotiation": result.session_renegotiation.result.is_vulnerable_to_client_renegotiation_dos,
}))
"""


async def test_the_shipped_listener_speaks_modern_tls_only(broker: Broker) -> None:
    pytest.importorskip("sslyze")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "ignore", "-c", SCAN, str(broker.devices_port)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    suites = found.pop("suites")
    assert found == {"heartbleed": False, "compression": False, "renegotiation": False}
    assert {version for version, accepted in suites.items() if accepted} == {"TLS_1_2", "TLS_1_3"}
    for suite in suites["TLS_1_2"]:
        assert suite.startswith("TLS_ECDHE_"), "no forward secrecy"
        assert "GCM" in suite or "CHACHA20" in suite, "no authenticated encryption"
