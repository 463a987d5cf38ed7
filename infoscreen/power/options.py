"""Reading an outlet's address, number and options: every fault is ``BAD_CONFIGURATION`` with the reason."""

from urllib.parse import urlsplit

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Outlet, PowerFault


def bad(detail: str) -> PowerError:
    """Return the error for a configuration that makes no sense."""
    return PowerError(PowerFault.BAD_CONFIGURATION, detail)


def number_of(outlet: Outlet, *, first: int = 1, last: int = 1_000) -> int:
    """Return the outlet's number."""
    text = outlet.outlet.strip()
    if not text.isascii() or not text.isdigit() or not first <= int(text) <= last:
        raise bad(f"outlet {text!r} is not a number from {first} to {last}")
    return int(text)


def host_and_port(outlet: Outlet, port: int) -> tuple[str, int]:
    """Return host and port of an address such as ``10.0.0.5``, ``pdu:1161`` or ``[fd00::5]:161``."""
    address = outlet.address.strip()
    if address.count(":") > 1 and not address.startswith("["):
        address = f"[{address}]"  # an IPv6 address without a port
    try:
        parts = urlsplit(f"//{address}")
        found = parts.port
    except ValueError:
        raise bad(f"{outlet.address!r} is not a host with an optional port") from None
    if not parts.hostname or parts.path or parts.username or parts.query:
        raise bad(f"{outlet.address!r} is not a host with an optional port")
    return parts.hostname, port if found is None else found


def base_url(outlet: Outlet, scheme: str = "http") -> str:
    """Return the address as a URL without a slash at its end."""
    address = outlet.address.strip().rstrip("/")
    url = address if "://" in address else f"{scheme}://{address}"
    try:
        parts = urlsplit(url)
        valid = parts.port != 0
    except ValueError:
        valid = False
    else:
        valid = valid and parts.scheme in ("http", "https") and bool(parts.hostname)
        valid = valid and not (parts.query or parts.fragment or parts.username)
    if not valid:
        raise bad(f"{outlet.address!r} is not the address of a device")
    return url


def word(outlet: Outlet, name: str, allowed: tuple[str, ...]) -> str:
    """Return an option that is one of several words; the first is the default."""
    value = outlet.options.get(name, allowed[0])
    if value not in allowed:
        raise bad(f"{name} {value!r} is none of {', '.join(allowed)}")
    return value


def secret_of(outlet: Outlet, *, default: str | None = None) -> str:
    """Return the password or community."""
    secret = outlet.secret or default
    if secret is None:
        raise bad("a password is needed")
    return secret
