"""Has a running mosquitto read its files again, so that it has read them in the end.

mosquitto forgets a SIGHUP that arrives while it carries out an earlier one (2.0.11 and 2.0.21): an account
that was added in between would be refused until the next reload, and nothing would say why.
"""

import contextlib
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from infoscreen.domain.errors import ProvisioningError
from infoscreen.provisioning.broker_files import PROBE_ACCOUNT, BrokerFiles, listeners_of

ANSWER_SECONDS = 10.0
"""How long a broker that says nothing is waited for; it is told all the same."""

_PINGREQ = b"\xc0\x00"
_LOOPBACK = "127.0.0.1"


def send_sighup(place: BrokerFiles, pid: int) -> None:
    """Have the process read its files, and return when it has; one caller at a time.

    Raises:
        OSError: the process cannot be told.
    """
    with _alone(place.path):
        wait_until_read(place)
        os.kill(pid, signal.SIGHUP)
        wait_until_read(place)


def wait_until_read(place: BrokerFiles) -> None:
    """Return when no SIGHUP is being carried out any more, or after ``ANSWER_SECONDS`` without an answer.

    A broker carries it out at the end of a turn of its loop. Two answers on a connection come from two turns.
    """
    with contextlib.suppress(OSError, ProvisioningError):
        port, password = listeners_of(place).server, place.password(PROBE_ACCOUNT)
        with socket.create_connection((_LOOPBACK, port), ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(_connect_packet(PROBE_ACCOUNT, password))
            if connection.recv(4):
                connection.sendall(_PINGREQ)
                connection.recv(2)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _connect_packet(user: str, password: str) -> bytes:
    """Return a CONNECT of MQTT 3.1.1 for a clean session; the broker makes up the client id."""
    level, flags, keep_alive = 4, 0xC2, 60
    body = _text("MQTT") + struct.pack(">BBH", level, flags, keep_alive)
    body += _text("") + _text(user) + _text(password)
    length = [len(body)] if len(body) < 128 else [len(body) % 128 | 128, len(body) // 128]
    return bytes([0x10, *length]) + body


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()
