"""Getting to the broker: TLS with a real mosquitto, waiting between attempts, what is said about it."""

import datetime
import ipaddress
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infoscreen.clock import SystemClock
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt import diagnosis
from infoscreen.mqtt.connection import BrokerAddress, Reconnecting, TlsSettings, retry_delay
from infoscreen.mqtt.publisher import BrokerPublisher
from infoscreen.services.ports import Outgoing
from tests.broker import Broker
from tests.doors import DEVICE, Shelf, address_of, eventually, listener_for, listening, running, say
from tests.fakes import FakeClock
from tests.programs import find_free_port

PHRASE = "correct horse"


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def ca_cert(self) -> Path:
        return self.directory / "ca.crt"

    @classmethod
    def make(cls, directory: Path) -> "Authority":
        directory.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        made = cls(directory, key, _certificate("a test's authority", key, None, ca=True))
        made.ca_cert.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
        return made

    def issue(self, name: str, *alternatives: x509.GeneralName) -> tuple[Path, Path]:
        """Write certificate and key for a name and return their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, self, alternatives=alternatives)
        files = (self.directory / f"{name}.crt", self.directory / f"{name}.key")
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: Authority | None,
    *,
    ca: bool = False,
    alternatives: tuple[x509.GeneralName, ...] = (),
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(issuer.key if issuer else key, hashes.SHA256())


@dataclass(frozen=True)
class SecureSite:
    """A broker with a TLS listener, whose certificate is for 127.0.0.1 only."""

    broker: Broker
    authority: Authority
    port: int

    def address(self, tls: TlsSettings | None, host: str = "127.0.0.1") -> BrokerAddress:
        return replace(address_of(self.broker), host=host, port=self.port, tls=tls)

    @property
    def trusted(self) -> TlsSettings:
        return TlsSettings(ca_cert=self.authority.ca_cert)


async def _secure_site(path: Path, *more: str) -> SecureSite:
    authority = Authority.make(path / "authority")
    certificate, key = authority.issue("server", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    broker = Broker(path / "broker", find_free_port(), save_every_change=False)
    secure_port = find_free_port()
    lines = [
        f"listener {secure_port} 127.0.0.1",
        f"cafile {authority.ca_cert}",
        f"certfile {certificate}",
        f"keyfile {key}",
        *more,
    ]
    with (path / "broker" / "mosquitto.conf").open("a") as config:
        config.write("\n".join(["", *lines, ""]))
    await broker.add_device(DEVICE)
    await broker.start()
    return SecureSite(broker, authority, secure_port)


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[SecureSite]:
    """Yield a broker with a TLS listener."""
    site = await _secure_site(tmp_path)
    try:
        yield site
    finally:
        await site.broker.stop()


@pytest.fixture
async def mutual(tmp_path: Path) -> AsyncIterator[SecureSite]:
    """Yield a broker whose TLS listener asks for a client certificate too."""
    site = await _secure_site(tmp_path, "require_certificate true")
    try:
        yield site
    finally:
        await site.broker.stop()


async def error_of(address: BrokerAddress) -> str:
    """Return why no connection comes about."""
    listener = listener_for(address, Shelf())
    async with running(listener.run):
        await eventually(lambda: listener.state.last_error or listener.state.connected)
        assert listener.state.last_error is not None
        return listener.state.last_error


@pytest.mark.broker
async def test_both_connections_work_over_tls(secure: SecureSite) -> None:
    shelf = Shelf()
    said = [b"%d" % number for number in range(2_000)]
    address = secure.address(secure.trusted)
    publisher = BrokerPublisher(address, SystemClock())
    async with listening(listener_for(address, shelf, batch_limit=50)), running(publisher.run):
        await eventually(lambda: publisher.connected)
        await publisher.publish(Outgoing(f"infoscreen/{DEVICE}/commands", b"{}"))
        await say(secure.broker, *said)
        await eventually(lambda: len(shelf.payloads) == len(said))
    assert shelf.payloads == said


@pytest.mark.broker
async def test_a_broker_of_another_authority_is_refused(secure: SecureSite, tmp_path: Path) -> None:
    other = Authority.make(tmp_path / "other")
    for insecure in (False, True):
        tls = TlsSettings(ca_cert=other.ca_cert, insecure=insecure)
        assert "not from a trusted CA" in await error_of(secure.address(tls))


@pytest.mark.broker
async def test_a_wrong_host_name_is_refused_unless_told_otherwise(secure: SecureSite) -> None:
    assert "for other names" in await error_of(secure.address(secure.trusted, "localhost"))
    lax = replace(secure.trusted, insecure=True)
    async with listening(listener_for(secure.address(lax, "localhost"), Shelf())):
        pass


@pytest.mark.broker
async def test_a_client_certificate_is_shown(mutual: SecureSite) -> None:
    certificate, key = mutual.authority.issue("daemon")
    shown = replace(mutual.trusted, certfile=certificate, keyfile=key)
    async with listening(listener_for(mutual.address(shown), Shelf())):
        pass


@pytest.mark.broker
async def test_a_renewed_certificate_authority_counts_at_the_next_attempt(
    secure: SecureSite, tmp_path: Path
) -> None:
    ca_cert = tmp_path / "installed.crt"
    ca_cert.write_bytes(Authority.make(tmp_path / "old").ca_cert.read_bytes())
    listener = listener_for(secure.address(TlsSettings(ca_cert=ca_cert)), Shelf())
    async with running(listener.run):
        await eventually(lambda: listener.state.last_error)
        ca_cert.write_bytes(secure.authority.ca_cert.read_bytes())
        await eventually(lambda: listener.state.listening_since)


async def test_a_certificate_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "authority")
    certificate, key = authority.issue("daemon")
    address = BrokerAddress("127.0.0.1", 1, None, None, "daemon")
    missing = tmp_path / "missing.crt"
    rubbish = tmp_path / "rubbish.crt"
    rubbish.write_text("rubbish")
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        authority.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(PHRASE.encode()),
        )
    )
    told = {
        TlsSettings(missing): f"cannot load the CA certificate {missing}: No such file or directory",
        TlsSettings(rubbish): f"cannot load the CA certificate {rubbish}: ",
        TlsSettings(authority.ca_cert, missing, key): f"{missing} and {key}: No such file or directory",
        TlsSettings(authority.ca_cert, certificate, locked): f"{certificate} and {locked}: ",
    }
    for tls, text in told.items():
        assert text in await error_of(replace(address, tls=tls))


async def test_a_host_that_does_not_exist_is_retried_like_any_other(free_port: int) -> None:
    for host in ("no-such-host.invalid", "two..dots"):
        address = BrokerAddress(host, free_port, "user", PHRASE, "daemon")
        assert (await error_of(address)).startswith(f"cannot connect to {host}:{free_port}: ")


def test_the_first_retry_is_quick_and_the_wait_grows_to_half_a_minute() -> None:
    assert [retry_delay(failures, 0.0) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert retry_delay(100_000, 0.0) == 30
    assert retry_delay(1, 0.999) == pytest.approx(0.25, abs=0.001)


def test_an_address_does_not_show_its_password() -> None:
    assert PHRASE not in repr(BrokerAddress("127.0.0.1", 1883, "user", PHRASE, "daemon"))


async def test_an_outage_is_one_warning_and_a_new_reason_another(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "infoscreen.mqtt.connection")
    reasons = ["refused"] * 20 + ["wrong password"] * 2
    attempts = 0

    async def fail() -> NoReturn:
        nonlocal attempts
        attempts += 1
        raise BrokerUnavailable(reasons[attempts - 1])

    address = BrokerAddress("127.0.0.1", 1883, "user", PHRASE, "daemon")
    link = Reconnecting("listener", address, clock, lambda: None, diagnosis.answers)
    async with running(lambda: link.run(fail)):
        for _ in reasons[1:]:
            await clock.wait_for_sleepers()
            clock.advance(30)
        await clock.wait_for_sleepers()
    levels = [record.levelname for record in caplog.records]
    assert levels.count("WARNING") == 2
    assert levels.count("INFO") == 4  # failures 2, 4, 8 and 16
    assert link.last_error == "wrong password"


async def test_only_a_connection_that_lasted_makes_the_next_retry_quick_again(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "infoscreen.mqtt.connection")
    address = BrokerAddress("127.0.0.1", 1883, "user", PHRASE, "daemon")
    link = Reconnecting("listener", address, clock, lambda: None, diagnosis.answers)
    lasts = [1.0, 1.0, 1.0, 1.0, 30.0]

    async def last_a_while() -> NoReturn:
        link.up()
        clock.advance(lasts[link.reconnects])
        raise BrokerUnavailable("lost")

    async with running(lambda: link.run(last_a_while)):
        for _ in lasts[1:]:
            await clock.wait_for_sleepers()
            clock.advance(30)
        await clock.wait_for_sleepers()
    delays = [vars(record)["retry_seconds"] for record in caplog.records if "retry_seconds" in vars(record)]
    assert len(delays) == len(lasts)
    assert 2 <= delays[3] <= 4
    assert 0.2 <= delays[4] <= 0.5
