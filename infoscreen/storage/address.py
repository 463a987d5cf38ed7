"""Where the database is: reads ``DATABASE_URL`` and says what is wrong with it, without any secret.

Opens nothing. SQLite is a file; PostgreSQL is an address with the usual parameters of libpq behind it.
"""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from sqlalchemy.engine import URL

SQLITE, POSTGRESQL, MEMORY = "sqlite+aiosqlite", "postgresql+asyncpg", ":memory:"

ALLOWED = (
    f"{SQLITE}:///FILE (four slashes for an absolute path) or {POSTGRESQL}://USER:PASSWORD@HOST/DATABASE"
)

CONNECT_SECONDS = 5.0
LONGEST_CONNECT_SECONDS = 300

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSION_ATTRIBUTES = ("any", "read-write", "primary")
"""Of libpq's values those with which a daemon that writes can work."""

FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
UNDERSTOOD = (
    *("sslmode", *FILES, "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version"),
    *("application_name", "connect_timeout", "target_session_attrs", "options"),
    *("host", "port", "user", "password", "dbname"),
)
MOST_BYTES_OF_A_NAME = 63
"""PostgreSQL cuts longer names of databases, users and applications off."""

MOST_BYTES_OF_A_FILE_NAME, MOST_BYTES_OF_A_PATH = 240, 4_000
"""Linux allows 255 and 4,096; the write-ahead log's name is longer than the database's."""

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A URL that was understood.

    ``file`` is set for SQLite on disk; ``dsn``, ``connect_seconds`` and ``options`` for PostgreSQL. ``url``
    is for SQLAlchemy and, like ``name``, holds no secret.
    """

    url: URL
    name: str
    file: Path | None = None
    dsn: str = field(default="", repr=False)
    connect_seconds: float = CONNECT_SECONDS
    options: str = ""

    @property
    def is_sqlite(self) -> bool:
        """Tell whether it is SQLite."""
        return not self.dsn

    @property
    def in_memory(self) -> bool:
        """Tell whether it is an SQLite database that lives as long as its only connection."""
        return self.is_sqlite and self.file is None


def parse(url: str) -> DatabaseAddress:
    """Return the address; raise ``ValueError`` with what is wrong, without a part of a secret."""
    scheme, mark, rest = url.partition("://")
    if not url.isprintable():
        raise ValueError("characters that cannot be printed are not allowed")
    if mark and scheme == SQLITE:
        return _sqlite(rest)
    if mark and scheme == POSTGRESQL:
        return _postgresql(rest)
    raise ValueError(f"allowed is {ALLOWED}")


def prove(address: DatabaseAddress) -> None:
    """Let the driver read the address without connecting; raise ``ValueError`` with what it objects to."""
    if address.is_sqlite:
        return
    # In a thread, since the caller may run in an event loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _prove(address.dsn)).result()


async def _prove(dsn: str) -> None:
    import asyncpg

    try:
        # The host is a directory that does not exist: the driver reads all arguments and reaches nobody.
        await asyncpg.connect(dsn, host="/nonexistent/infoscreen", timeout=CONNECT_SECONDS)
    except (OSError, asyncpg.InternalClientError):
        return
    except (asyncpg.InterfaceError, ValueError) as error:
        raise ValueError(f"the driver does not take it: {type(error).__name__}") from None


def _sqlite(rest: str) -> DatabaseAddress:
    if rest in ("", "/", f"/{MEMORY}"):
        return DatabaseAddress(URL.create(SQLITE, database=MEMORY), "The database in memory")
    if not rest.startswith("/") or rest.endswith("/"):
        raise ValueError(f"allowed is {ALLOWED}")
    if "?" in rest or "#" in rest:
        raise ValueError("parameters behind ? or # are not allowed for SQLite")
    path = rest[1:]
    if path.startswith("file:"):
        raise ValueError(f"allowed is {ALLOWED}")
    longest = max(len(part.encode(errors="surrogateescape")) for part in path.split("/"))
    if (
        longest > MOST_BYTES_OF_A_FILE_NAME
        or len(path.encode(errors="surrogateescape")) > MOST_BYTES_OF_A_PATH
    ):
        raise ValueError("the path is too long for a file")
    file = Path(path).absolute()
    return DatabaseAddress(URL.create(SQLITE, database=str(file)), f"The database {file}", file)


def _postgresql(rest: str) -> DatabaseAddress:
    if find_spec("asyncpg") is None:
        raise ValueError("needs the driver asyncpg, which is not installed")
    authority, slash, path = re.match(r"([^/?#]*)(/?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    database, _, query = path.partition("?") if slash else ("", "", path.removeprefix("?"))
    if authority.count("@") > 1 or "@" in database or ("@" not in authority and "@" in query) or "#" in rest:
        raise ValueError("in user name and password @ is written %40, / %2F, ? %3F, # %23, : %3A and % %25")
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    parameters = _parameters(query)
    user = parameters.get("user") or unquote(user)
    database = parameters.get("dbname") or unquote(database)
    given_hosts = parameters.get("host") or unquote(hosts)
    for what, value in (("user name", user), ("database name", database)):
        _check_name(what, value)
    if not user or not database:
        raise ValueError(f"allowed is {ALLOWED}")
    _check_text("password", parameters.get("password") or unquote(password))
    for host in given_hosts.split(",") if given_hosts else ():
        _check_host(host)
    if "port" in parameters:
        ports = parameters["port"].split(",")
        for port in ports:
            _check_port(port)
        if len(ports) not in (1, len(given_hosts.split(","))):
            raise ValueError("as many ports as hosts are needed, or one for all")
    seconds = CONNECT_SECONDS
    if "connect_timeout" in parameters:
        seconds = float(parameters.pop("connect_timeout")) or CONNECT_SECONDS
    behind = f"?{urlencode(parameters)}" if parameters else ""
    return DatabaseAddress(
        URL.create(POSTGRESQL, username=user, host=given_hosts or None, database=database),
        f"The database {database} at {given_hosts or 'the local socket'}",
        dsn=f"postgresql://{authority}{slash}{path.partition('?')[0] if slash else ''}{behind}",
        connect_seconds=seconds,
        options=parameters.get("options", ""),
    )


def _parameters(query: str) -> dict[str, str]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, strict_parsing=True, keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise ValueError("behind ? only NAME=VALUE, joined by &, is allowed") from None
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name == "ssl":  # what asyncpg itself calls it
            name = "sslmode"
        if name not in UNDERSTOOD:
            shown = name if name.isidentifier() and len(name) <= MOST_BYTES_OF_A_NAME else "one of them"
            raise ValueError(
                f"of the parameters {shown} is not understood; allowed are {', '.join(UNDERSTOOD)}"
            )
        if name in parameters:
            raise ValueError(f"{name} is given twice")
        if not value:
            raise ValueError(f"{name} is empty")
        _check_text(name, value)
        parameters[name] = value
    _check_values(parameters)
    return parameters


def _check_values(parameters: dict[str, str]) -> None:
    chosen: Any
    for name, words in (("sslmode", SSL_MODES), ("target_session_attrs", SESSION_ATTRIBUTES)):
        chosen = parameters.get(name)
        if chosen is not None and chosen not in words:
            raise ValueError(f"{name}: allowed is {', '.join(words)}")
    seconds = parameters.get("connect_timeout", "0")
    if not re.fullmatch(r"[0-9]{1,9}", seconds) or int(seconds) > LONGEST_CONNECT_SECONDS:
        raise ValueError(
            f"connect_timeout: allowed is a whole number of seconds, 0 to {LONGEST_CONNECT_SECONDS}"
        )
    _check_name("application_name", parameters.get("application_name", ""))
    for name in FILES:
        if name in parameters and not _is_readable(parameters[name]):
            raise ValueError(f"{name}: no such file, or not readable by this user")
    mode = parameters.get("sslmode", "")
    if mode.startswith("verify-") and "sslrootcert" not in parameters:
        raise ValueError(f"sslmode={mode} needs sslrootcert, the file of the CA that signed the certificate")
    if "sslkey" in parameters and "sslcert" not in parameters:
        raise ValueError("sslkey needs sslcert, the certificate that it belongs to")


def _is_readable(path: str) -> bool:
    try:
        with Path(path).open("rb"):
            return True
    except OSError:
        return False


def _check_host(given: str) -> None:
    if given.startswith("/"):  # the directory of a Unix socket
        return
    if given.startswith("["):
        address, bracket, port = given[1:].partition("]")
        try:
            IPv6Address(address)
        except ValueError:
            raise ValueError("in [] an IPv6 address is needed") from None
        if not bracket or (port and not port.startswith(":")):
            raise ValueError("in [] an IPv6 address is needed")
        port = port[1:]
    else:
        host, colon, port = given.partition(":")
        if not _HOST.fullmatch(host) or ".." in host or any(len(part) > 63 for part in host.split(".")):
            raise ValueError("the host must be a name or an address; @ in a password is written %40")
        if colon and not port:
            raise ValueError("the port must be a number, 1 to 65535")
    if port:
        _check_port(port)


def _check_port(port: str) -> None:
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("the port must be a number, 1 to 65535")


def _check_name(what: str, value: str) -> None:
    _check_text(what, value)
    if len(value.encode()) > MOST_BYTES_OF_A_NAME:
        raise ValueError(f"the {what} is too long, at most {MOST_BYTES_OF_A_NAME} bytes")


def _check_text(what: str, value: str) -> None:
    if not value.isprintable():
        raise ValueError(f"the {what} has characters that cannot be printed")
