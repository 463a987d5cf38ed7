"""Which errors mean that the database cannot be used at the moment, told by code and never by words.

PostgreSQL gives an SQLSTATE, SQLite a result code, the operating system an errno. Everything else, constraint
errors above all, is a fault of ours and is not caught here.
"""

import asyncio
import errno
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from infoscreen.domain.errors import StoreUnavailable, Trouble

SENTENCES = {
    Trouble.UNREACHABLE: "The database cannot be reached",
    Trouble.STARTING: "The database is starting or stopping",
    Trouble.REFUSED: "The database does not let this user in",
    Trouble.NO_CONNECTION_FREE: "No connection to the database is free",
    Trouble.LOCKED: "Another program holds the lock of the database",
    Trouble.TIMED_OUT: "The database did not answer in time",
    Trouble.CONFLICT: "The database broke off a transaction in favour of another one",
    Trouble.READ_ONLY: "The database can only be read",
    Trouble.FULL: "The disk or the memory of the database is full",
    Trouble.INPUT_OUTPUT: "The database cannot read or write its files",
    Trouble.MISSING: "The database's file is not where it was",
    Trouble.REPLACED: "Another file was put in the place of the database",
    Trouble.DAMAGED: "The database is damaged",
    Trouble.NOT_OPEN: "The database has not been opened yet",
}

_BY_SQLSTATE = {
    "25006": Trouble.READ_ONLY,
    "25P03": Trouble.TIMED_OUT,  # idle_in_transaction_session_timeout
    "25P04": Trouble.TIMED_OUT,  # transaction_timeout
    "55P03": Trouble.LOCKED,
    "53100": Trouble.FULL,
    "53200": Trouble.FULL,
    "53300": Trouble.NO_CONNECTION_FREE,
    "57014": Trouble.TIMED_OUT,
    "57P01": Trouble.STARTING,
    "57P02": Trouble.STARTING,
    "57P03": Trouble.STARTING,
    "XX001": Trouble.DAMAGED,
    "XX002": Trouble.DAMAGED,
}
_BY_SQLSTATE_CLASS = {
    "08": Trouble.UNREACHABLE,
    "40": Trouble.CONFLICT,
    "53": Trouble.NO_CONNECTION_FREE,
    "57": Trouble.STARTING,
    "58": Trouble.INPUT_OUTPUT,
}
_BY_SQLSTATE_CLASS_CONNECTING = _BY_SQLSTATE_CLASS | {"28": Trouble.REFUSED, "3D": Trouble.REFUSED}

_BY_SQLITE_CODE = {
    sqlite3.SQLITE_BUSY: Trouble.LOCKED,
    sqlite3.SQLITE_LOCKED: Trouble.LOCKED,
    sqlite3.SQLITE_PROTOCOL: Trouble.LOCKED,
    sqlite3.SQLITE_INTERRUPT: Trouble.TIMED_OUT,
    sqlite3.SQLITE_FULL: Trouble.FULL,
    sqlite3.SQLITE_NOMEM: Trouble.FULL,
    sqlite3.SQLITE_READONLY: Trouble.READ_ONLY,
    sqlite3.SQLITE_IOERR: Trouble.INPUT_OUTPUT,
    sqlite3.SQLITE_CANTOPEN: Trouble.INPUT_OUTPUT,
    sqlite3.SQLITE_PERM: Trouble.INPUT_OUTPUT,
    sqlite3.SQLITE_CORRUPT: Trouble.DAMAGED,
    sqlite3.SQLITE_NOTADB: Trouble.DAMAGED,
}

_BY_ERRNO = {
    errno.ENOSPC: Trouble.FULL,
    errno.EDQUOT: Trouble.FULL,
    errno.ENOMEM: Trouble.FULL,
    errno.EROFS: Trouble.READ_ONLY,
    errno.EIO: Trouble.INPUT_OUTPUT,
    errno.ESTALE: Trouble.INPUT_OUTPUT,
    errno.EMFILE: Trouble.NO_CONNECTION_FREE,
    errno.ENFILE: Trouble.NO_CONNECTION_FREE,
    errno.ETIMEDOUT: Trouble.TIMED_OUT,
    **dict.fromkeys(
        (
            *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN),
            *(errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET),
            *(errno.EADDRNOTAVAIL, errno.EAGAIN, errno.ENOBUFS, errno.ESHUTDOWN),
        ),
        Trouble.UNREACHABLE,
    ),
}


def trouble_of(error: BaseException, *, connecting: bool = False) -> StoreUnavailable | None:
    """Return the trouble that an error means, or None for one that is a fault of ours.

    Args:
        error: as SQLAlchemy, a driver or the operating system raised it.
        connecting: it was raised while a connection was made. Then every failure of the network counts, and
            so does a refused password: passwords are changed and databases restored under a running daemon.
    """
    if isinstance(error, StoreUnavailable):
        return error
    if isinstance(error, PoolTimeoutError):
        return _named(Trouble.NO_CONNECTION_FREE, "pool_timeout")
    if isinstance(error, DBAPIError):
        known = None if error.orig is None else trouble_of(error.orig, connecting=connecting)
        if known is None and error.connection_invalidated:
            return _named(Trouble.UNREACHABLE, "connection_lost")
        return known
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        classes = _BY_SQLSTATE_CLASS_CONNECTING if connecting else _BY_SQLSTATE_CLASS
        return _if_known(_BY_SQLSTATE.get(sqlstate) or classes.get(sqlstate[:2]), sqlstate)
    if isinstance(error, sqlite3.Error):
        # An extended code holds the primary one in its lowest byte.
        code: int | None = getattr(error, "sqlite_errorcode", None)
        kind = None if code is None else _BY_SQLITE_CODE.get(code & 0xFF)
        return _if_known(kind, getattr(error, "sqlite_errorname", None))
    if isinstance(error, OSError):
        return _of_system(error, connecting)
    if _is_lost_connection(error) or (connecting and isinstance(error, EOFError | asyncio.InvalidStateError)):
        return _named(Trouble.UNREACHABLE, "connection_lost")
    return None


def _of_system(error: OSError, connecting: bool) -> StoreUnavailable | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _named(Trouble.REFUSED, "certificate") if connecting else None
    if isinstance(error, TimeoutError) and error.errno is None:
        return _named(Trouble.TIMED_OUT, "timeout")
    kind = None if error.errno is None else _BY_ERRNO.get(error.errno)
    if kind is None and (connecting or isinstance(error, ConnectionError | ssl.SSLError)):
        # Names that cannot be resolved, sockets that are not there yet, several addresses that all refused.
        kind = Trouble.UNREACHABLE
    return _if_known(kind, errno.errorcode.get(error.errno or 0, type(error).__name__))


def _is_lost_connection(error: BaseException) -> bool:
    """Tell whether the PostgreSQL driver says that its connection cannot be used.

    The driver is an extra, so its errors are known by the place they come from. SQLAlchemy wraps them.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__ if _is_of_driver(kind)}
    if kinds & {"ClientConfigurationError", "UnsupportedClientFeatureError"}:
        return False
    cause = error.__cause__
    return bool(kinds & {"InterfaceError", "InternalClientError"}) or (
        type(error).__module__.startswith("sqlalchemy.dialects.postgresql.asyncpg")
        and cause is not None
        and _is_lost_connection(cause)
    )


def _is_of_driver(kind: type) -> bool:
    return kind.__module__.startswith("asyncpg.")


def _if_known(kind: Trouble | None, code: str | None) -> StoreUnavailable | None:
    return None if kind is None else _named(kind, code)


def _named(kind: Trouble, code: str | None = None) -> StoreUnavailable:
    return StoreUnavailable(f"{SENTENCES[kind]}{f' ({code})' if code else ''}.", kind, code)


@contextmanager
def naming_trouble(*, connecting: bool = False) -> Iterator[None]:
    """Turn every error that means trouble into ``StoreUnavailable``; let the others pass."""
    try:
        yield
    except Exception as error:
        trouble = trouble_of(error, connecting=connecting)
        if trouble is None or trouble is error:
            raise
        raise trouble from error
