"""Looks at a broker's port when an attempt to connect failed without saying why: TLS, plain MQTT, or neither.

Sends no account. The one MQTT packet it sends is of a version that does not exist, which brokers answer
without asking who it is, so that it is no failed login either.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.connection import BrokerAddress, tls_context
from infoscreen.mqtt.faults import SENTENCES, fault_of

LOOK_SECONDS = 2.0
ALERT_SECONDS = 1.0
"""How long a broker may take to refuse our certificate; with TLS 1.3 it does so after the handshake."""

# The empty line lets a server of another protocol give up and answer.
_ODD_CONNECT = b"\x10\x0c\x00\x04MQTT\x7f\x02\x00\x3c\x00\x00\r\n\r\n"
_CONNACK = b"\x20"


async def answers(address: BrokerAddress) -> bool:
    """Tell whether anybody listens at the port; takes ``LOOK_SECONDS`` at most."""
    try:
        async with _connected(address, None):
            return True
    except (OSError, UnicodeError):
        return False


async def look(address: BrokerAddress, tls: ssl.SSLContext | None) -> BrokerFault | None:
    """Return what is wrong with this port for us, None if that cannot be told; takes a few seconds."""
    if tls is None:
        anything = ssl.create_default_context()
        anything.check_hostname = False
        anything.verify_mode = ssl.CERT_NONE
        if await _tls_trouble(address, anything) in (None, BrokerFault.CLIENT_CERTIFICATE_WANTED):
            return BrokerFault.TLS_ONLY
        return await _no_mqtt(address)
    trouble = await _tls_trouble(address, tls)
    if trouble is not None and trouble.is_vague:
        return await _no_mqtt(address, otherwise=BrokerFault.PLAIN_ONLY)
    return trouble


@contextlib.asynccontextmanager
async def _connected(
    address: BrokerAddress, tls: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect within ``LOOK_SECONDS``, and cut the connection at the end."""
    async with asyncio.timeout(LOOK_SECONDS):
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _tls_trouble(address: BrokerAddress, tls: ssl.SSLContext) -> BrokerFault | None:
    """Return why there is no TLS connection; None if there is one."""
    try:
        async with _connected(address, tls) as (reader, _):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ALERT_SECONDS):
                    await reader.read(1)
    except (OSError, UnicodeError) as error:
        return fault_of(error)
    return None


async def _no_mqtt(address: BrokerAddress, otherwise: BrokerFault | None = None) -> BrokerFault | None:
    """Return ``otherwise`` if this is a broker without TLS, and what it is if it is none."""
    try:
        async with asyncio.timeout(LOOK_SECONDS), _connected(address, None) as (reader, writer):
            writer.write(_ODD_CONNECT)
            answer = await reader.read(1)
    except (OSError, UnicodeError) as error:
        return fault_of(error)
    if answer == _CONNACK:
        return otherwise
    return BrokerFault.NOT_MQTT if answer else None


async def failure(
    address: BrokerAddress, tls: ssl.SSLContext | None, fault: BrokerFault | None, words: str, *, looks: bool
) -> BrokerUnavailable:
    """Return what to raise for an attempt that failed; with ``looks`` a vague fault is looked into."""
    if looks and fault is not None and fault.is_vague:
        found = await look(address, tls)
        if found is not None and not found.is_vague and found is not BrokerFault.UNREACHABLE:
            fault = found
    where = f"[{address.host}]" if ":" in address.host else address.host
    said = words if fault is None else SENTENCES.get(fault, words)
    return BrokerUnavailable(f"cannot connect to {where}:{address.port}: {said}", fault)


async def presented(address: BrokerAddress) -> bytes | None:
    """Return the certificate that the broker presents to new connections (DER), valid or not; None if none.

    Not that of our connections, which may be older than its renewal.
    """
    if address.tls is None:
        return None
    try:
        context = await asyncio.to_thread(tls_context, address.tls)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        async with _connected(address, context) as (_, writer):
            found = writer.get_extra_info("ssl_object")
            return None if found is None else found.getpeercert(binary_form=True)
    except (OSError, UnicodeError, BrokerUnavailable):
        return None
