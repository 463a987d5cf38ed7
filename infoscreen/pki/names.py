"""The names that a server certificate is valid for."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from infoscreen.domain.errors import PkiError

Name = str | IPv4Address | IPv6Address

MOST_NAMES = 100
MOST_CHARACTERS = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_ALLOWED = "allowed are host names such as broker.example.org or *.example.org, and IP addresses"


def server_names(given: Sequence[str]) -> tuple[Name, ...]:
    """Return the names as certificates hold them, each once; raise ``PkiError``."""
    names = tuple(dict.fromkeys(_name(one) for one in given))
    if not names:
        raise PkiError("a server certificate needs the names that clients connect to")
    if len(names) > MOST_NAMES:
        raise PkiError(f"a certificate holds at most {MOST_NAMES} names")
    return names


def _name(given: str) -> Name:
    text = given.strip()
    try:
        return _address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        pass
    wildcard = "*." if text.startswith("*.") else ""
    try:
        host = text.removeprefix(wildcard).encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        host = ""
    name = wildcard + host
    # All digits would be an address that was mistyped: no client ever asks for such a name.
    labels = host.split(".")
    if (
        len(name) > MOST_CHARACTERS
        or not all(_LABEL.fullmatch(label) for label in labels)
        or labels[-1].isdigit()
        or (wildcard and len(labels) < 2)
    ):
        shown = given if given.isprintable() else repr(given)
        raise PkiError(f"{shown[:200]}: {_ALLOWED}")
    return name


def _address(text: str) -> IPv4Address | IPv6Address:
    found = ip_address(text)
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        raise ValueError
    return found
