"""Certificates are watched: what the broker really presents, its CA, our own; alerts come in time."""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infoscreen import installation
from infoscreen.clock import SystemClock
from infoscreen.domain.accounts import Role
from infoscreen.domain.alerts import AlertCode, Certificate, Severity
from infoscreen.domain.certificates import Lifetime
from infoscreen.domain.errors import PkiError
from infoscreen.metrics import Metrics
from infoscreen.mqtt.connection import BrokerAddress, TlsSettings
from infoscreen.pki.authority import Authority, Kind
from infoscreen.services.certificates import CertificateWatch, Source
from infoscreen.settings import Settings
from infoscreen.words.language import language
from infoscreen.words.speaking import say
from tests.fakes import FakeClock
from tests.programs import find_free_port, require, wait_until_open
from tests.web import serving

DAY = timedelta(days=1)
START = datetime(2025, 3, 1, 12, tzinfo=UTC)


def known(life: Lifetime | None) -> Source:
    async def read() -> Lifetime | None:
        return life

    return read


async def unreadable() -> Lifetime | None:
    raise PkiError("no")


async def test_alerts_come_in_time_and_end_with_their_cause() -> None:
    clock = FakeClock(START)
    lives = {Certificate.BROKER: Lifetime(START - DAY, START + 40 * DAY)}

    async def broker() -> Lifetime | None:
        return lives.get(Certificate.BROKER)

    changes: list[int] = []
    watch = CertificateWatch({Certificate.BROKER: broker}, clock, on_change=lambda: changes.append(1))
    await watch.look()
    seen = []
    for _ in range(42):
        await watch.look()
        seen.append([(alert.fact.code, alert.severity) for alert in watch.alerts()])
        clock.advance(86_400)
    assert seen[:10] == [[]] * 10
    assert seen[10:33] == [[(AlertCode.CERTIFICATE_ENDS, Severity.WARNING)]] * 23
    assert seen[33:41] == [[(AlertCode.CERTIFICATE_ENDS, Severity.CRITICAL)]] * 8
    assert seen[41:] == [[(AlertCode.CERTIFICATE_EXPIRED, Severity.CRITICAL)]]
    assert len(changes) == 3
    lives[Certificate.BROKER] = Lifetime(clock.now() + DAY, clock.now() + 400 * DAY)
    await watch.look()
    assert [alert.fact.code for alert in watch.alerts()] == [AlertCode.CERTIFICATE_NOT_YET_VALID]
    clock.advance(2 * 86_400)
    assert list(watch.alerts()) == []


async def test_what_cannot_be_seen_keeps_its_dates_and_what_cannot_be_read_is_an_alert() -> None:
    life = Lifetime(START - DAY, START + 3 * DAY)
    sources = {Certificate.BROKER: known(life), Certificate.CLIENT: unreadable}
    watch = CertificateWatch(sources, FakeClock(START))
    await watch.look()
    sources[Certificate.BROKER] = known(None)
    await watch.look()
    assert watch.lifetimes == {Certificate.BROKER: life}
    assert {alert.fact.code for alert in watch.alerts()} == {
        AlertCode.CERTIFICATE_ENDS,
        AlertCode.CERTIFICATE_UNREADABLE,
    }


async def test_an_alert_is_logged_when_it_begins_and_once_a_day(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(START)
    watch = CertificateWatch({Certificate.CA: known(Lifetime(START - DAY, START + 20 * DAY))}, clock)
    for _ in range(49):
        await watch.look()
        clock.advance(3600)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


async def test_each_of_two_certificates_that_end_is_logged_once_a_day(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, life = FakeClock(START), Lifetime(START - DAY, START + 20 * DAY)
    watch = CertificateWatch({which: known(life) for which in (Certificate.BROKER, Certificate.CA)}, clock)
    for _ in range(49):
        await watch.look()
        clock.advance(3600)
    assert [record.__dict__["which"] for record in caplog.records] == ["broker", "ca"] * 3


@dataclass
class Site:
    authority: Authority
    port: int
    process: "subprocess.Popen[bytes]"

    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port, None, None, "x", TlsSettings(self.authority.bundle))

    def settings(self) -> Settings:
        (client,) = self.authority.issue_clients(["infoscreen-server"], datetime.now(UTC))
        return Settings.model_validate(
            {
                "mqtt_tls_enabled": "true",
                "mqtt_tls_ca_cert": str(self.authority.bundle),
                "mqtt_tls_certfile": str(client.certificate),
                "mqtt_tls_keyfile": str(client.key),
            }
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield a broker whose certificate ends in five days."""
    now = datetime.now(UTC)
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):
        parent.chmod(0o755)
    authority = Authority.create(tmp_path / "pki", now - 361 * DAY)
    pair = authority.issue_server(["127.0.0.1"], now - 360 * DAY)
    pair.key.chmod(0o644)
    port = find_free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\ncafile {authority.bundle}\n"
        f"certfile {pair.certificate}\nkeyfile {pair.key}\n"
        f"user {'root' if os.geteuid() == 0 else 'mosquitto'}\nlog_dest file {tmp_path}/log\n"
    )
    process = subprocess.Popen([require("mosquitto"), "-c", config])
    try:
        wait_until_open(port)
        yield Site(authority, port, process)
    finally:
        process.terminate()
        process.wait(40)


@pytest.mark.broker
async def test_the_daemon_sees_what_the_broker_presents_now(site: Site) -> None:
    metrics = Metrics()
    watch = CertificateWatch(installation.certificates(site.settings(), site.address()), SystemClock())
    metrics.watch_certificates(lambda: watch.lifetimes)

    async def seen() -> bool:
        await watch.look()
        return Certificate.BROKER in watch.lifetimes

    for _ in range(100):
        if await seen():
            break
    (alert,) = watch.alerts()
    assert (alert.fact.code, alert.severity) == (AlertCode.CERTIFICATE_ENDS, Severity.CRITICAL)
    before = watch.lifetimes[Certificate.BROKER]
    site.authority.renew(datetime.now(UTC))
    await watch.look()
    assert watch.lifetimes[Certificate.BROKER] == before  # renewed on disk is not renewed at the broker
    os.kill(site.process.pid, signal.SIGHUP)
    for _ in range(100):
        await watch.look()
        if watch.lifetimes[Certificate.BROKER] != before:
            break
    assert list(watch.alerts()) == []
    text = metrics.exposition().decode()
    for which, life in watch.lifetimes.items():
        line = f'infoscreen_certificate_expiry_timestamp_seconds{{which="{which.value}"}}'
        assert any(
            float(found.rpartition(" ")[2]) == life.not_after.timestamp()
            for found in text.splitlines()
            if found.startswith(line)
        ), which
    assert watch.lifetimes.keys() == {Certificate.BROKER, Certificate.CA, Certificate.CLIENT}


@pytest.mark.broker
async def test_during_a_roll_over_the_ca_that_counts_is_the_one_that_issued(site: Site) -> None:
    now = datetime.now(UTC)
    site.authority.begin_roll_over(now)
    watch = CertificateWatch(installation.certificates(site.settings(), site.address()), SystemClock())
    lines = [entry.lifetime for entry in site.authority.status()[:2]]
    for _ in range(100):
        await watch.look()
        if Certificate.BROKER in watch.lifetimes:
            break
    assert watch.lifetimes[Certificate.CA] == lines[0]
    site.authority.switch(now)
    os.kill(site.process.pid, signal.SIGHUP)
    for _ in range(100):
        await watch.look()
        if watch.lifetimes[Certificate.CA] == lines[1]:
            break
    assert watch.lifetimes[Certificate.CA] == lines[1]
    assert site.authority.pair(Kind.SERVER, "server").certificate.exists()


async def test_alerts_are_in_the_overview_the_panel_and_the_metrics(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "mqtt_tls_enabled": "true",
            "mqtt_tls_insecure": "true",
            "http_host": "0.0.0.0",  # noqa: S104 - nothing is bound
        }
    )
    life = Lifetime(START - DAY, START + 5 * DAY)
    watch = CertificateWatch({Certificate.BROKER: known(life)}, FakeClock(START))
    await watch.look()
    alerts = [*installation.alerts(settings), *watch.alerts()]
    async with serving(tmp_path, alerts=[lambda: alerts]) as web_site:
        browser = await web_site.browser(Role.VIEWER)
        async with browser.get("/api/monitoring/overview") as response:
            found = (await response.json())["alerts"]
        assert [(one["code"], one["severity"]) for one in found] == [
            ("certificate_ends", "critical"),
            ("broker_name_not_checked", "warning"),
            ("http_without_tls", "warning"),
        ]
        assert found[0]["arguments"] == {"which": "broker", "at": "2025-03-06T12:00:00+00:00"}
        for code in ("de", "en"):
            async with browser.get("/", headers={"Accept-Language": code}) as response:
                page = await response.text()
            for alert in alerts:
                said = say(alert.fact, language(code).at(UTC, datetime.now(UTC)))
                assert said.replace("'", "&#39;") in page
        async with browser.get("/metrics") as response:
            text = await response.text()
        assert 'infoscreen_alerts{alert="certificate_ends",severity="critical"} 1.0' in text
        alerts.clear()
        async with browser.get("/metrics") as response:
            assert "infoscreen_alerts{" not in await response.text()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"http_host": "::1"}, []),
        ({"http_host": "127.9.9.9"}, []),
        ({"http_host": "0.0.0.0"}, [AlertCode.HTTP_WITHOUT_TLS]),  # noqa: S104 - nothing is bound
        ({"http_host": "::"}, [AlertCode.HTTP_WITHOUT_TLS]),
        ({"http_host": "panel.example.org"}, [AlertCode.HTTP_WITHOUT_TLS]),
        ({"http_host": "0.0.0.0", "trusted_proxies": "10.0.0.1"}, []),  # noqa: S104 - nothing is bound
        ({"http_host": "0.0.0.0", "public_origin": "https://p.example"}, []),  # noqa: S104 - nothing is bound
        ({"http_host": "::", "public_origin": "http://p.example"}, [AlertCode.HTTP_WITHOUT_TLS]),
        ({"http_host": "::", "http_tls_certfile": "c", "http_tls_keyfile": "k"}, []),
        ({"mqtt_host": "broker.example"}, [AlertCode.BROKER_WITHOUT_TLS]),
        ({"mqtt_host": "broker.example", "mqtt_tls_enabled": "true"}, []),
        ({"mqtt_tls_insecure": "true"}, []),
    ],
)
def test_what_the_settings_are_to_be_warned_of(given: dict[str, str], expected: list[AlertCode]) -> None:
    settings = Settings.model_validate(given)
    assert [alert.fact.code for alert in installation.alerts(settings)] == expected
