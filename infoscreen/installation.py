"""What is wrong with the installation: from the settings, and from the certificates they lead to."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

from infoscreen.domain.alerts import Alert, AlertCode, Certificate, Severity
from infoscreen.domain.certificates import Lifetime
from infoscreen.domain.codes import Fact
from infoscreen.domain.hosts import is_loopback
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.diagnosis import presented
from infoscreen.pki import reading
from infoscreen.services.certificates import Source
from infoscreen.settings import Settings, is_http_open
from infoscreen.web.https import Https


def alerts(settings: Settings) -> Iterator[Alert]:
    """Return what the settings alone are to be warned of, as long as the daemon runs with them."""
    if settings.mqtt_tls_enabled and settings.mqtt_tls_insecure:
        yield Alert(Fact(AlertCode.BROKER_NAME_NOT_CHECKED), Severity.WARNING)
    if not settings.mqtt_tls_enabled and not is_loopback(settings.mqtt_host):
        yield Alert(Fact(AlertCode.BROKER_WITHOUT_TLS, {"host": settings.mqtt_host}), Severity.WARNING)
    if is_http_open(settings):
        yield Alert(Fact(AlertCode.HTTP_WITHOUT_TLS, {"host": settings.http_host}), Severity.WARNING)


def certificates(settings: Settings, address: BrokerAddress) -> Mapping[Certificate, Source]:
    """Return where the dates of the certificates come from that these settings use."""

    async def broker() -> Lifetime | None:
        der = await presented(address)
        return None if der is None else reading.presented_lifetime(der)

    async def ca() -> Lifetime | None:
        if settings.mqtt_tls_ca_cert is None:
            return None
        der = await presented(address)
        return await asyncio.to_thread(reading.ca_lifetime, settings.mqtt_tls_ca_cert, der)

    found: dict[Certificate, Source] = {}
    if address.tls is not None:
        found[Certificate.BROKER] = broker
        if settings.mqtt_tls_ca_cert is not None:
            found[Certificate.CA] = ca
        if settings.mqtt_tls_certfile is not None:
            found[Certificate.CLIENT] = _file(settings.mqtt_tls_certfile)
    if settings.http_tls_certfile is not None:
        found[Certificate.HTTP] = _file(settings.http_tls_certfile)
    return found


def _file(path: Path) -> Source:
    async def read() -> Lifetime | None:
        return await asyncio.to_thread(reading.file_lifetime, path)

    return read


def https_of(settings: Settings) -> Https | None:
    """Return the TLS of the HTTP server, None without; raise ``CannotStart`` for files that do not fit."""
    if settings.http_tls_certfile is None or settings.http_tls_keyfile is None:
        return None
    return Https(settings.http_tls_certfile, settings.http_tls_keyfile)
