"""What is wrong with the installation: from the settings, and from the certificates they lead to."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Role
from infoscreen.domain.alerts import Alert, AlertCode, Certificate, Severity
from infoscreen.domain.certificates import Lifetime
from infoscreen.domain.codes import Fact
from infoscreen.domain.hosts import is_loopback
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.diagnosis import presented
from infoscreen.openid.provider import OpenIdConfig, OpenIdProvider
from infoscreen.pki import reading
from infoscreen.services.bus import Bus
from infoscreen.services.certificates import Source
from infoscreen.services.single_sign_on import SingleSignOn
from infoscreen.settings import Settings, is_http_open
from infoscreen.storage.engine import Store
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


def single_sign_on(settings: Settings, store: Store, clock: Clock, bus: Bus) -> SingleSignOn | None:
    """Return what signs people in at the provider of these settings."""
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        return None
    secret = settings.oidc_client_secret
    config = OpenIdConfig(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        client_secret=None if secret is None else secret.get_secret_value(),
        scopes=settings.oidc_scopes,
        username_claim=settings.oidc_username_claim,
        groups_claim=settings.oidc_groups_claim,
    )
    roles = {
        Role.VIEWER: frozenset(settings.oidc_viewer_groups),
        Role.OPERATOR: frozenset(settings.oidc_operator_groups),
        Role.ADMIN: frozenset(settings.oidc_admin_groups),
    }
    return SingleSignOn(store, clock, OpenIdProvider(config, clock), roles, bus)
