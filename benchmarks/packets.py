"""MQTT 3.1.1 by hand, as much as it takes to be a great many devices: packets as bytes.

Every packet that comes back for these, CONNACK and PUBACK, has four bytes.
"""

import struct

ANSWER_BYTES = 4
CONNACK, PUBACK = 0x20, 0x40
DISCONNECT = b"\xe0\x00"

_CLEAN_WITH_ACCOUNT = 0xC2
_RETAINED_WILL_AT_QOS_1 = 0x2C


def connect(
    account: str,
    password: str,
    *,
    client_id: str | None = None,
    will: tuple[str, bytes] | None = None,
    keepalive: int = 60,
) -> bytes:
    """Return a CONNECT without a session; the client id is the account's name unless given.

    ``will`` is retained, at QoS 1.
    """
    flags = _CLEAN_WITH_ACCOUNT | (0 if will is None else _RETAINED_WILL_AT_QOS_1)
    last = b"" if will is None else _text(will[0]) + struct.pack("!H", len(will[1])) + will[1]
    head = _text("MQTT") + struct.pack("!BBH", 4, flags, keepalive)
    return _packet(0x10, head + _text(client_id or account) + last + _text(account) + _text(password))


def publish(topic: str, payload: bytes, packet_id: int, *, retain: bool = False) -> bytes:
    """Return a PUBLISH at QoS 1."""
    return _packet(0x33 if retain else 0x32, _text(topic) + struct.pack("!H", packet_id) + payload)


def subscribe(name: str, packet_id: int) -> bytes:
    """Return a SUBSCRIBE at QoS 1."""
    return _packet(0x82, struct.pack("!H", packet_id) + _text(name) + b"\x01")


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def _packet(kind: int, body: bytes) -> bytes:
    length, encoded = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([kind]) + bytes(encoded) + body
