"""Wake-on-LAN: switches on a device that has standby power. It cannot switch off, and is not acknowledged."""

import asyncio
import re
import socket

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Outlet, PowerFault
from infoscreen.power.options import bad, host_and_port

PORT = 9
COPIES = 3
PAUSE_SECONDS = 0.1
MAC = re.compile(r"[0-9a-f]{12}")


def magic_packet(mac: str, password: str | None = None) -> bytes:
    """Return the payload that wakes a MAC address; ``password`` is SecureOn's, written like a MAC address."""
    return b"\xff" * 6 + _mac(mac) * 16 + (b"" if password is None else _mac(password))


async def wake(outlet: Outlet) -> None:
    """Send the packet three times.

    ``outlet.address`` is the subnet's broadcast address with an optional port, ``outlet.outlet`` the MAC
    address. The option ``source`` is the local address to send from, which chooses the interface.
    """
    host, port = host_and_port(outlet, PORT)
    packet = magic_packet(outlet.outlet, outlet.secret)
    source = outlet.options.get("source", "0.0.0.0")  # noqa: S104 - sends only
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol,
            local_addr=(source, 0),
            family=socket.AF_INET,
            allow_broadcast=True,
        )
    except OSError as error:
        raise PowerError(PowerFault.BAD_CONFIGURATION, error.strerror or str(error)) from None
    try:
        for _ in range(COPIES):
            transport.sendto(packet, (host, port))
            await asyncio.sleep(PAUSE_SECONDS)
    except OSError as error:
        raise PowerError(PowerFault.NO_ANSWER, error.strerror or str(error)) from None
    finally:
        transport.close()


def _mac(text: str) -> bytes:
    plain = re.sub(r"[:\-. ]", "", text).lower()
    if not MAC.fullmatch(plain):
        raise bad(f"{text!r} is not a MAC address")
    return bytes.fromhex(plain)
