"""Properties of MQTT 5 packets, built by paho."""

from functools import lru_cache

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

FOR_EVER = 0xFFFFFFFF


@lru_cache(maxsize=512)
def expiring(seconds: int | None) -> Properties | None:
    """Return the properties of a message that lives so many seconds; paho is slow at building them."""
    if seconds is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has no types here
    properties.MessageExpiryInterval = seconds
    return properties


def lasting_session() -> Properties:
    """Return the properties of a connection whose session does not end with it."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
    properties.SessionExpiryInterval = FOR_EVER
    return properties


def ending_session() -> Properties:
    """Return the properties of a DISCONNECT that ends the session."""
    properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
    properties.SessionExpiryInterval = 0
    return properties
