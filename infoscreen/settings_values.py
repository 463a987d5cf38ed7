"""What kinds of values settings have, and what is allowed for each: one check, one sentence.

Every kind has an upper bound, so that whatever passes can be computed with.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from infoscreen.domain.accounts import Role
from infoscreen.domain.hosts import BARE, bare_host, is_loopback
from infoscreen.domain.secret_keys import keys_in
from infoscreen.storage import address

MOST_SECONDS, MOST_DAYS, LEAST = 30 * 86_400, 36_500, 0.01
MOST_CHARACTERS, MOST_SECRET_BYTES, MOST_PATH_BYTES, MOST_NETWORKS = 200, 1_000, 4_000, 1_000
MOST_TRIES = 1_000


class MinimumLogLevel(StrEnum):
    """Minimum log level."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LogFormat(StrEnum):
    """How a log line looks."""

    TEXT = "text"
    JSON = "json"


def knob(default: Any, help_line: str, *, shown: str | None = None) -> Any:
    """Declare a knob; ``default`` may be computed from the knobs before it, then ``shown`` says how."""
    if shown is not None:
        return Field(
            default_factory=default, description=help_line, json_schema_extra={"shown_default": shown}
        )
    return Field(default, description=help_line)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be given for a variable, in words."""

    words: str


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _names(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if len(parts) > MOST_NETWORKS:
        raise ValueError(f"at most {MOST_NETWORKS} are allowed")
    return [ip_network(part) for part in parts]


def _database_url(value: str) -> str:
    found = address.parse(value)
    if found.in_memory:
        raise ValueError(f"allowed is {address.ALLOWED}")
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value.strip())
    usual = {"http": 80, "https": 443}
    if parts.scheme not in usual or not parts.hostname or parts.username is not None:
        raise ValueError("allowed is https://HOST or https://HOST:PORT")
    if parts.path or parts.query or parts.fragment or not value.isprintable():
        raise ValueError("allowed is https://HOST or https://HOST:PORT, with nothing behind it")
    host(parts.hostname)
    # Browsers leave the usual port out of the Origin they send.
    shown = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, usual[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{shown}{port}"


_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def host(value: str) -> str:
    """Return a host name or address that the resolver takes; raise ``ValueError``."""
    value = bare_host(value)
    try:
        ip_address(value)
    except ValueError:
        try:
            name = value.encode("idna").decode("ascii").removesuffix(".")
        except UnicodeError:
            name = ""
        if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
            raise ValueError(BARE) from None
    return value


def _text(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise ValueError("characters that cannot be printed are not allowed, and blanks alone neither")
    return value


def _secret(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().encode()) > MOST_SECRET_BYTES or "\0" in value.get_secret_value():
        raise ValueError(f"allowed are at most {MOST_SECRET_BYTES} bytes, none of them 0")
    return value


def _token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("allowed are visible ASCII characters: it is sent in a header")
    return _secret(value)


def _web_address(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"allowed is {WEB_ADDRESS}") from None
    plain = text.isascii() and text.isprintable() and " " not in text and parts.username is None
    if not (plain and parts.scheme in ("http", "https") and parts.hostname) or port == 0:
        raise ValueError(f"allowed is {WEB_ADDRESS}")
    host(parts.hostname or "")
    return _secret(value)


def _keys(value: SecretStr) -> SecretStr:
    try:
        keys_in(value.get_secret_value())
    except ValueError as error:
        raise ValueError(f"allowed is {KEYS}; {error}") from None
    return value


def _issuer(value: str) -> str:
    parts = urlsplit(value)
    local = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not (parts.scheme == "https" or local) or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("allowed is https://HOST or https://HOST/PATH, exactly as the provider names itself")
    if not value.isprintable() or len(value) > MOST_CHARACTERS or parts.username is not None:
        raise ValueError(f"allowed are at most {MOST_CHARACTERS} characters that can be printed")
    return value


def _file(value: Path) -> Path:
    if not str(value).isprintable() or len(str(value).encode()) > MOST_PATH_BYTES:
        raise ValueError(f"allowed is a path of at most {MOST_PATH_BYTES} bytes that can be printed")
    return value


WEB_ADDRESS = "https://HOST/PATH or http://HOST/PATH, secret"
KEYS = "base64 of 32 random bytes or more, secret; older keys may follow, separated by commas"
SECONDS = f"seconds, {LEAST:g} to {MOST_SECONDS}, fractions are fine"

Seconds = Annotated[float, Field(ge=LEAST, le=MOST_SECONDS, allow_inf_nan=False), Allowed(SECONDS)]
Days = Annotated[
    float,
    Field(ge=LEAST, le=MOST_DAYS, allow_inf_nan=False),
    Allowed(f"days, {LEAST:g} to {MOST_DAYS}, fractions are fine"),
]
Port = Annotated[int, Field(ge=1, le=65535), Allowed("a port, 1 to 65535")]
Tries = Annotated[int, Field(ge=0, le=MOST_TRIES), Allowed(f"a whole number, 0 to {MOST_TRIES}")]
TriesAboveZero = Annotated[int, Field(ge=1, le=MOST_TRIES), Allowed(f"a whole number, 1 to {MOST_TRIES}")]
Rate = Annotated[
    float, Field(ge=LEAST, le=MOST_TRIES, allow_inf_nan=False), Allowed(f"a rate, {LEAST:g} to {MOST_TRIES}")
]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), Allowed("a part, more than 0, at most 1")]
Bytes = Annotated[int, Field(ge=2**16, le=8 * 2**30), Allowed("bytes, 65536 (64 KiB) to 8589934592 (8 GiB)")]
LogLines = Annotated[int, Field(ge=1, le=1_000_000), Allowed("a whole number, 1 to 1000000")]
Switch = Annotated[bool, Allowed("true or false")]
Text = Annotated[
    str,
    Field(min_length=1, max_length=MOST_CHARACTERS),
    AfterValidator(_text),
    Allowed(f"text of at most {MOST_CHARACTERS} characters"),
]
Host = Annotated[str, AfterValidator(host), Allowed(BARE.removeprefix("allowed is "))]
Secret = Annotated[SecretStr, Field(min_length=1), AfterValidator(_secret), Allowed("text, secret")]
Token = Annotated[
    SecretStr, Field(min_length=1), AfterValidator(_token), Allowed("visible ASCII characters, secret")
]
WebAddress = Annotated[SecretStr, AfterValidator(_web_address), Allowed(WEB_ADDRESS)]
Keys = Annotated[
    SecretStr,
    AfterValidator(_keys),
    Allowed(KEYS),
]
DatabaseUrl = Annotated[
    str, AfterValidator(_database_url), Allowed("an SQLAlchemy URL, SQLite or PostgreSQL")
]
Origin = Annotated[str, AfterValidator(_origin), Allowed("https://HOST or https://HOST:PORT")]
Networks = Annotated[
    tuple[IPv4Network | IPv6Network, ...],
    BeforeValidator(_networks),
    Allowed("addresses or networks such as 10.0.0.0/8, separated by commas"),
]
Roles = Annotated[
    tuple[Role, ...], BeforeValidator(_names), Allowed(f"roles, separated by commas: {', '.join(Role)}")
]
Names = Annotated[
    tuple[Annotated[str, Field(max_length=MOST_CHARACTERS), AfterValidator(_text)], ...],
    BeforeValidator(_names),
    Allowed("names, separated by commas"),
]
OidcIssuer = Annotated[str, AfterValidator(_issuer), Allowed("https://HOST or https://HOST/PATH")]
File = Annotated[Path, AfterValidator(_file), Allowed("a file")]
Level = Annotated[MinimumLogLevel, BeforeValidator(_lower), Allowed(", ".join(MinimumLogLevel))]
Format = Annotated[LogFormat, BeforeValidator(_lower), Allowed(", ".join(LogFormat))]
