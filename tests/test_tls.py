"""TLS that is broken, against a real mosquitto: every cause has a code and a sentence, and is retried."""

import asyncio
import logging
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infoscreen.agent import connection as agent_connection
from infoscreen.agent.settings import load as load_agent
from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.domain.hosts import bare_host
from infoscreen.mqtt.client import BrokerClient
from infoscreen.mqtt.connection import BrokerAddress, SharedTls, TlsSettings, load_tls
from infoscreen.pki.authority import Authority, Pair
from tests.doors import Shelf, eventually, listener_for, running
from tests.programs import find_free_port, require, wait_until_open

NOW = datetime.now(UTC)
PASSED = NOW - timedelta(days=800)
DEVICE = "3f2b8c1e-0000-4000-8000-000000000001"


@dataclass
class Listeners:
    """One mosquitto, with a listener for each way in which TLS can be wrong; lets everybody in."""

    directory: Path
    authority: Authority
    other: Authority
    ports: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=lambda: ["allow_anonymous true"])

    def add(self, name: str, authority: Authority | None, pair: Pair | None, *more: str) -> None:
        self.ports[name] = find_free_port()
        self.lines.append(f"listener {self.ports[name]} 127.0.0.1")
        if authority is not None and pair is not None:
            pair.key.chmod(0o644)  # started by root, mosquitto reads it as another user
            self.lines += [
                *(f"cafile {authority.bundle}", f"certfile {pair.certificate}", f"keyfile {pair.key}"),
                *more,
            ]

    def address(self, name: str, tls: TlsSettings | None, host: str = "127.0.0.1") -> BrokerAddress:
        return BrokerAddress(host, self.ports[name], None, None, "daemon", tls)

    def trusting(self, authority: Authority | None = None) -> TlsSettings:
        return TlsSettings(ca_cert=(authority or self.authority).bundle)


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    directory = tmp_path_factory.mktemp("listeners")
    for parent in (directory, *list(directory.parents)[:2]):
        parent.chmod(0o755)
    good, old = Authority.create(directory / "good", NOW), Authority.create(directory / "old", PASSED)
    made = Listeners(directory, good, Authority.create(directory / "other", NOW))
    pair = good.issue_server(["127.0.0.1"], NOW)
    made.add("good", good, pair)
    made.add("mutual", good, pair, "require_certificate true")
    made.add(
        "mutual 1.2", good, pair, "require_certificate true", "tls_version tlsv1.2", "ciphers ECDHE+AESGCM"
    )
    made.add("expired", old, old.issue_server(["127.0.0.1"], PASSED))
    made.add("early", good, good.issue_server(["127.0.0.1"], NOW + timedelta(days=7), label="early"))
    made.add("plain", None, None)
    path = directory / "mosquitto.conf"
    path.write_text("\n".join([*made.lines, f"user {'root' if os.geteuid() == 0 else 'mosquitto'}", ""]))
    process = subprocess.Popen(
        [require("mosquitto"), "-c", path], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        for port in made.ports.values():
            wait_until_open(port)
        yield made
    finally:
        process.terminate()
        process.wait(40)


@pytest.fixture
async def web_server() -> AsyncIterator[int]:
    """Yield the port of something that is no broker."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def trouble_of(address: BrokerAddress) -> BrokerUnavailable:
    with pytest.raises(BrokerUnavailable) as caught:
        async with BrokerClient(address, await load_tls(address)):
            pass
    return caught.value


CASES = [
    ("good", "other", "127.0.0.1", BrokerFault.UNKNOWN_CA, "MQTT_TLS_CA_CERT"),
    ("good", "system", "127.0.0.1", BrokerFault.UNKNOWN_CA, "MQTT_TLS_CA_CERT"),
    ("good", "good", "localhost", BrokerFault.WRONG_NAME, "connect by a name in it"),
    ("expired", "old", "127.0.0.1", BrokerFault.EXPIRED, "renew it"),
    ("early", "good", "127.0.0.1", BrokerFault.NOT_YET_VALID, "clock"),
    ("plain", "good", "127.0.0.1", BrokerFault.PLAIN_ONLY, "MQTT_TLS_ENABLED=false"),
    ("good", None, "127.0.0.1", BrokerFault.TLS_ONLY, "MQTT_TLS_ENABLED=true"),
    ("mutual", None, "127.0.0.1", BrokerFault.TLS_ONLY, "MQTT_TLS_ENABLED=true"),
    ("mutual", "good", "127.0.0.1", BrokerFault.CLIENT_CERTIFICATE_WANTED, "MQTT_TLS_CERTFILE"),
    ("mutual", "stranger", "127.0.0.1", BrokerFault.CLIENT_CERTIFICATE_REFUSED, "does not trust"),
    ("mutual 1.2", "stranger", "127.0.0.1", BrokerFault.CLIENT_CERTIFICATE_REFUSED, "does not trust"),
]


def settings_for(listeners: Listeners, tls: str | None) -> TlsSettings | None:
    if tls is None:
        return None
    if tls == "system":
        return TlsSettings()
    if tls == "stranger":
        (pair,) = listeners.other.issue_clients(["daemon"], NOW)
        return replace(listeners.trusting(), certfile=pair.certificate, keyfile=pair.key)
    return listeners.trusting(Authority(listeners.directory / tls))


@pytest.mark.broker
async def test_what_is_wrong_is_said(listeners: Listeners) -> None:
    # All at once: those that have to be looked into take seconds each.
    found = await asyncio.gather(
        *(
            trouble_of(listeners.address(listener, settings_for(listeners, tls), host))
            for listener, tls, host, _, _ in CASES
        )
    )
    assert [error.fault for error in found] == [fault for _, _, _, fault, _ in CASES]
    for error, (listener, _, host, _, words) in zip(found, CASES, strict=True):
        assert str(error).startswith(f"cannot connect to {host}:{listeners.ports[listener]}: ")
        assert words in str(error)


async def test_what_is_no_broker_is_said(listeners: Listeners, web_server: int) -> None:
    address = BrokerAddress("127.0.0.1", web_server, None, None, "daemon")
    plain, tls = await asyncio.gather(
        trouble_of(address), trouble_of(replace(address, tls=listeners.trusting()))
    )
    assert (plain.fault, tls.fault) == (BrokerFault.NOT_MQTT, BrokerFault.NOT_MQTT)


async def test_a_port_that_says_nothing_is_just_that(listeners: Listeners) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = BrokerAddress(
            "127.0.0.1", silent.getsockname()[1], None, None, "daemon", listeners.trusting()
        )
        error = await trouble_of(address)
    assert error.fault is BrokerFault.NO_ANSWER


@pytest.mark.broker
async def test_the_daemon_goes_on_trying_and_connects_once_it_is_mended(
    listeners: Listeners, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "infoscreen")
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(listeners.other.bundle.read_bytes())
    listener = listener_for(listeners.address("good", TlsSettings(trusted)), Shelf())
    async with running(listener.run):
        await eventually(lambda: listener.state.fault)
        assert listener.state.fault is BrokerFault.UNKNOWN_CA
        trusted.write_bytes(listeners.authority.bundle.read_bytes())
        await eventually(lambda: listener.state.connected)
        assert (listener.state.fault, listener.state.last_error) == (None, None)
    told = [record for record in caplog.records if getattr(record, "event", "") == "broker_unavailable"]
    assert [record.levelname for record in told if record.levelno >= logging.WARNING] == ["WARNING"]
    assert "not from a trusted CA" in told[0].__dict__["error"]


@pytest.mark.broker
async def test_the_agent_says_it_too(listeners: Listeners) -> None:
    settings = load_agent(
        {
            "AGENT_UUID": DEVICE,
            "AGENT_MQTT_PASSWORD": "x",
            "AGENT_MQTT_HOST": "[127.0.0.1]",
            "AGENT_MQTT_PORT": str(listeners.ports["plain"]),
            "AGENT_MQTT_TLS_ENABLED": "true",
            "AGENT_MQTT_TLS_CA_CERT": str(listeners.authority.bundle),
        }
    )
    with pytest.raises(BrokerUnavailable, match="plain MQTT, not TLS"):
        async with await agent_connection.make_client(settings, will=True, explains=True):
            pass


@pytest.mark.broker
async def test_only_the_name_is_not_checked_when_told_so(listeners: Listeners) -> None:
    address = listeners.address("good", replace(listeners.trusting(), insecure=True), "localhost")
    async with BrokerClient(address, await load_tls(address)):
        pass
    for listener, authority in (("expired", "old"), ("early", "good"), ("good", "other")):
        tls = replace(listeners.trusting(Authority(listeners.directory / authority)), insecure=True)
        assert (await trouble_of(listeners.address(listener, tls))).fault is not None


@pytest.mark.broker
async def test_a_mutual_listener_takes_a_certificate_of_its_ca(listeners: Listeners) -> None:
    (pair,) = listeners.authority.issue_clients([DEVICE], NOW)
    tls = replace(listeners.trusting(), certfile=pair.certificate, keyfile=pair.key)
    connected = []
    for listener in ("mutual", "mutual 1.2"):
        address = listeners.address(listener, tls)
        async with BrokerClient(address, await load_tls(address)):
            connected.append(listener)
    assert connected == ["mutual", "mutual 1.2"]


def test_shared_files_are_read_again_when_they_have_changed(listeners: Listeners, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(listeners.authority.bundle.read_bytes())
    shared = SharedTls(TlsSettings(file))
    first = shared.context()
    assert shared.context() is first
    replacement = tmp_path / "new.crt"
    replacement.write_bytes(listeners.other.bundle.read_bytes())
    replacement.replace(file)
    assert shared.context() is not first
    file.unlink()
    with pytest.raises(BrokerUnavailable, match=r"ca\.crt"):
        shared.context()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("broker.example.org", "broker.example.org"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_a_host_is_read(given: str, read: str) -> None:
    assert bare_host(given) == read


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("mqtts://broker.example:8883", ["broker.example;", "port 8883", "protocol mqtts"]),
        ("mqtt://broker.example", ["broker.example;", "protocol mqtt "]),
        ("broker.example:8883", ["broker.example;", "port 8883"]),
        ("[::1]:8883", ["::1;", "port 8883"]),
        ("//broker.example", ["broker.example"]),
        ("broker.example/", ["broker.example"]),
        ("mqtts://user:secret@broker.example:8883/x", ["broker.example;", "account and password"]),
        ("tcp://[::1", ["name or the address"]),
        ("broker.example:mqtt", ["name or the address"]),
        (":8883", ["name or the address"]),
    ],
)
def test_anything_longer_is_refused_with_the_right_form(given: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match="allowed is the name or the address of a host") as refused:
        bare_host(given)
    assert all(word in f"{refused.value} " for word in words)
    assert "secret" not in str(refused.value)
