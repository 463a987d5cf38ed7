"""Which network addresses a notification may be sent to: a URL must not reach into our own network."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NAT64 = ip_network("64:ff9b::/96")
_NOT_PUBLIC = tuple(
    map(ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10"))  # as no Python has them yet
)


def is_public(address: str) -> bool:
    """Tell whether an address is one of the public internet.

    Addresses of IPv4 that are hidden in those of IPv6 (mapped, NAT64, 6to4, Teredo) count as themselves. What
    is no address is not public.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(found in network for network in _NOT_PUBLIC):
        return False
    return all(one.is_global and not one.is_multicast for one in _with_hidden(found))


def _with_hidden(found: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    if isinstance(found, IPv4Address):
        return [found]
    if found.ipv4_mapped is not None:
        return [found.ipv4_mapped]
    if found in _NAT64:
        return [IPv4Address(int(found) & 0xFFFFFFFF)]
    hidden: list[IPv4Address | IPv6Address] = [found]
    if found.sixtofour is not None:
        hidden.append(found.sixtofour)
    if found.teredo is not None:
        hidden += found.teredo
    return hidden
