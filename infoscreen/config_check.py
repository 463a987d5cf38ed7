"""Are the settings not only allowed each, but usable together? Proved by using them; nothing is started.

``serve`` and ``infoscreen config check`` ask the same question.
"""

import ssl
from datetime import UTC, datetime, timedelta

from infoscreen import broker_address, installation, policies
from infoscreen.domain.errors import BrokerUnavailable, CannotStart, InvalidSettings
from infoscreen.mqtt.connection import tls_context
from infoscreen.settings import Settings, load
from infoscreen.storage import address
from infoscreen.storage.engine import Store

FAR_PAST, FAR_FUTURE = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Between these the host's clock may stand, and every time that follows from a setting must exist."""


def loaded() -> Settings:
    """Return the settings for serving; raise ``InvalidSettings`` with a line for each fault."""
    settings = load(serving=True)
    faults = unusable(settings)
    if faults:
        raise InvalidSettings("\n".join(faults))
    return settings


def unusable(settings: Settings) -> list[str]:
    """Return a sentence for each setting that cannot be used although its value is allowed."""
    return [*_database(settings), *_broker(settings), *_https(settings), *_times(settings)]


def _database(settings: Settings) -> list[str]:
    try:
        address.prove(address.parse(settings.database_url))
        Store(settings.database_url)
    except ValueError as error:
        return [f"DATABASE_URL: {error}"]
    return []


def _broker(settings: Settings) -> list[str]:
    try:
        tls = broker_address.broker_address(settings).tls
        if tls is not None:
            tls_context(tls)
    except (BrokerUnavailable, CannotStart, ssl.SSLError) as error:
        return [str(error)]
    return []


def _https(settings: Settings) -> list[str]:
    try:
        installation.https_of(settings)
    except CannotStart as error:
        return [str(error)]
    return []


def _times(settings: Settings) -> list[str]:
    faults = []
    for name in type(settings).model_fields:
        if not name.endswith(("_seconds", "_days")):
            continue
        value = getattr(settings, name)
        if value is None:
            continue  # computed from other settings, which are checked themselves
        try:
            length = timedelta(**{name.rpartition("_")[2]: value})
            _ = FAR_PAST - length, FAR_FUTURE + length
        except (OverflowError, ValueError):
            faults.append(f"{name.upper()}={value:g}: times so far away cannot be computed with")
    policies.recovery_policy(settings)
    policies.lockout_policy(settings)
    return faults
