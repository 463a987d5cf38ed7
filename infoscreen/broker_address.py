"""Where the broker is and as whom to connect, from the settings. For the daemon and for what checks it."""

from dataclasses import replace

from infoscreen.domain.errors import CannotStart
from infoscreen.mqtt.connection import BrokerAddress, TlsSettings
from infoscreen.provisioning.broker_files import PROBE_ACCOUNT
from infoscreen.settings import Settings


def broker_address(settings: Settings) -> BrokerAddress:
    """Return where the broker is; raise ``CannotStart`` without an account for it."""
    if settings.mqtt_user is None or settings.mqtt_password is None:
        raise CannotStart(
            "MQTT_USER and MQTT_PASSWORD are needed: the broker requires an account. "
            "Set both; `infoscreen config check` tells what else is missing."
        )
    tls = None
    if settings.mqtt_tls_enabled:
        tls = TlsSettings(
            settings.mqtt_tls_ca_cert,
            settings.mqtt_tls_certfile,
            settings.mqtt_tls_keyfile,
            settings.mqtt_tls_insecure,
        )
    return BrokerAddress(
        settings.mqtt_host,
        settings.mqtt_port,
        settings.mqtt_user,
        settings.mqtt_password.get_secret_value(),
        settings.mqtt_client_id,
        tls,
    )


def probe_address(settings: Settings) -> BrokerAddress | None:
    """Return where the broker is, with the account of the probe, which may do nothing; None without it."""
    if settings.mqtt_probe_password is None:
        return None
    return replace(
        broker_address(settings),
        user=PROBE_ACCOUNT,
        password=settings.mqtt_probe_password.get_secret_value(),
        client_id=PROBE_ACCOUNT,
    )
