"""Where a request comes from: whose address, which scheme, which site. Strangers are not believed."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import CrossSite
from infoscreen.domain.hosts import is_loopback
from infoscreen.web.keys import WebConfig, parts_of

FORWARDING_HEADERS = (
    *("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Server"),
    *("Forwarded", "X-Real-Ip", "Via"),
)


def peer_address(request: web.Request) -> IPv4Address | IPv6Address | None:
    """Return the address at the other end of the connection; None when it has none (a Unix socket)."""
    return _parse(request.remote or "")


def client_address(request: web.Request) -> str | None:
    """Return the address of the client of a request, behind trusted proxies only."""
    address = peer_address(request)
    config = parts_of(request).config
    hops = [hop.strip() for line in request.headers.getall("X-Forwarded-For", ()) for hop in line.split(",")]
    # Each proxy appends what it saw, so the list is only as good as the proxy that wrote its right end.
    while address is not None and hops and _is_trusted(address, config):
        hop = _parse(_without_port(hops.pop()))
        if hop is None:
            break
        address = hop
    return None if address is None else str(address)


def is_from_this_host(request: web.Request) -> bool:
    """Tell whether the request was made on this host, and not handed on by a proxy on it.

    A proxy that adds no header gives itself away: nginx's bare ``proxy_pass`` asks over HTTP/1.0 and closes,
    other proxies keep the Host that was asked for. One that hides all of this cannot be told from a program.
    """
    address = peer_address(request)
    if address is None or not address.is_loopback:
        return False
    if any(name in request.headers for name in FORWARDING_HEADERS):
        return False
    closes = "close" in request.headers.get("Connection", "").lower()
    return request.version >= HttpVersion11 and not closes and is_loopback(_host_name(request.host))


def is_https(request: web.Request) -> bool:
    """Tell whether the browser speaks https, to us or to the proxy before us."""
    config = parts_of(request).config
    if request.secure or (config.public_origin or "").startswith("https://"):
        return True
    address = peer_address(request)
    if address is None or not _is_trusted(address, config):
        return False
    schemes = request.headers.getall("X-Forwarded-Proto", [""])
    return schemes[-1].rpartition(",")[2].strip().lower() == "https"


def refuse_cross_site(request: web.Request) -> None:
    """Raise ``CrossSite`` unless our own page, or the user's own hand, sent this request.

    Browsers name the site in ``Sec-Fetch-Site``, but not on plain http to a LAN address; there ``Origin``
    must be ours. With neither there is no proof, and no is the answer.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        if site in ("same-origin", "none"):
            return
        raise CrossSite(ErrorCode.OTHER_SITE)
    origin = request.headers.get("Origin")
    if origin is None:
        raise CrossSite(ErrorCode.NO_ORIGIN)
    public = parts_of(request).config.public_origin
    if public is not None and origin.lower() == public.lower().rstrip("/"):
        return
    if _host_of(origin) != request.host.lower():
        raise CrossSite(ErrorCode.FOREIGN_ORIGIN)


def _host_of(origin: str) -> str | None:
    """Return host and port of an origin; None when it is not one of the web (``null``)."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") and parts.netloc else None


def _host_name(host: str) -> str:
    """Return the host of a Host header, without brackets and port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _without_port(hop: str) -> str:
    """Return the address of a hop as some proxies write it: ``192.0.2.1:1234``, ``[2001:db8::1]:1234``."""
    hop = hop.strip('"')
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    address, colon, port = hop.partition(":")
    return address if colon and ":" not in port else hop


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(address: IPv4Address | IPv6Address, config: WebConfig) -> bool:
    return any(address in network for network in config.trusted_proxies)
