"""A host as people write it: alone, in brackets, with a port, or in a URL."""

from ipaddress import ip_address
from urllib.parse import urlsplit

BARE = "allowed is the name or the address of a host"


def bare_host(value: str) -> str:
    """Return the host without brackets; raise ``ValueError`` that says the right form of anything longer.

    Whether it is a name that can exist is not looked at.
    """
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if text.count(":") > 1 and "/" not in text and "[" not in text:
        return text  # IPv6
    if ":" not in text and "/" not in text:
        return text
    try:
        parts = urlsplit(text if "//" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(BARE) from None
    if not host or not host.isprintable():
        raise ValueError(BARE)
    more = [] if port is None else [f"the port {port}"]
    more += [f"the protocol {parts.scheme}"] if parts.scheme else []
    more += ["account and password"] if "@" in parts.netloc else []
    if not more:
        raise ValueError(f"{BARE}, alone: {host}")
    raise ValueError(f"{BARE}, alone: {host}; for {' and '.join(more)} there are settings of their own")


def is_loopback(host: str) -> bool:
    """Tell whether only this host reaches the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"
