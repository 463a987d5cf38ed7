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

from infoscreen.domain.errors import StoreTrouble, StoreUnavailable

SENTENCES = {
    StoreTrouble.UNREACHABLE: "The database cannot be reached",
    StoreTrouble.STARTING: "The database is starting or stopping",
    StoreTrouble.REFUSED: "The database does not let this user in",
    StoreTrouble.NO_CONNECTION_FREE: "No connection to the database is free",
    StoreTrouble.LOCKED: "Another program holds the lock of the database",
    StoreTrouble.TIMED_OUT: "The database did not answer in time",
    StoreTrouble.CONFLICT: "The database broke off a transaction in favour of another one",
    StoreTrouble.READ_ONLY: "The database can only be read",
    StoreTrouble.FULL: "The disk or the memory of the database is full",
    StoreTrouble.INPUT_OUTPUT: "The database cannot read or write its files",
    StoreTrouble.MISSING: "The database's file is not where it was",
    StoreTrouble.REPLACED: "Another file was put in the place of the database",
    StoreTrouble.DAMAGED: "The database is damaged",
    StoreTrouble.NOT_OPEN: "The database has not been opened yet",
}

_BY_SQLSTATE = {
    "25006": StoreTrouble.READ_ONLY,
    "25P03": StoreTrouble.TIMED_OUT,  # idle_in_transaction_session_timeout
    "25P04": StoreTrouble.TIMED_OUT,  # transaction_timeout
    "55P03": StoreTrouble.LOCKED,
    "53100": StoreTrouble.FULL,
    "53200": StoreTrouble.FULL,
    "53300": StoreTrouble.NO_CONNECTION_FREE,
    "57014": StoreTrouble.TIMED_OUT,
    "57P01": StoreTrouble.STARTING,
    "57P02": StoreTrouble.STARTING,
    "57P03": StoreTrouble.STARTING,
    "XX001": StoreTrouble.DAMAGED,
    "XX002": StoreTrouble.DAMAGED,
}
_BY_SQLSTATE_CLASS = {
    "08": StoreTrouble.UNREACHABLE,
    "40": StoreTrouble.CONFLICT,
    "53": StoreTrouble.NO_CONNECTION_FREE,
    "57": StoreTrouble.STARTING,
    "58": StoreTrouble.INPUT_OUTPUT,
}
_BY_SQLSTATE_CLASS_CONNECTING = _BY_SQLSTATE_CLASS | {"28": StoreTrouble.REFUSED, "3D": StoreTrouble.REFUSED}

_BY_SQLITE_CODE = {
    sqlite3.SQLITE_BUSY: StoreTrouble.LOCKED,
    sqlite3.SQLITE_LOCKED: StoreTrouble.LOCKED,
    sqlite3.SQLITE_PROTOCOL: StoreTrouble.LOCKED,
    sqlite3.SQLITE_INTERRUPT: StoreTrouble.TIMED_OUT,
    sqlite3.SQLITE_FULL: StoreTrouble.FULL,
    sqlite3.SQLITE_NOMEM: StoreTrouble.FULL,
    sqlite3.SQLITE_READONLY: StoreTrouble.READ_ONLY,
    sqlite3.SQLITE_IOERR: StoreTrouble.INPUT_OUTPUT,
    sqlite3.SQLITE_CANTOPEN: StoreTrouble.INPUT_OUTPUT,
    sqlite3.SQLITE_PERM: StoreTrouble.INPUT_OUTPUT,
    sqlite3.SQLITE_CORRUPT: StoreTrouble.DAMAGED,
    sqlite3.SQLITE_NOTADB: StoreTrouble.DAMAGED,
}

_BY_ERRNO = {
    errno.ENOSPC: StoreTrouble.FULL,
    errno.EDQUOT: StoreTrouble.FULL,
    errno.ENOMEM: StoreTrouble.FULL,
    errno.EROFS: StoreTrouble.READ_ONLY,
    errno.EIO: StoreTrouble.INPUT_OUTPUT,
    errno.ESTALE: StoreTrouble.INPUT_OUTPUT,
    errno.EMFILE: StoreTrouble.NO_CONNECTION_FREE,
    errno.ENFILE: StoreTrouble.NO_CONNECTION_FREE,
    errno.ETIMEDOUT: StoreTrouble.TIMED_OUT,
    **dict.fromkeys(
        (
            *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN),
            *(errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET),
            *(errno.EADDRNOTAVAIL, errno.EAGAIN, errno.ENOBUFS, errno.ESHUTDOWN),
        ),
        StoreTrouble.UNREACHABLE,
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
        return _named(StoreTrouble.NO_CONNECTION_FREE, "pool_timeout")
    if isinstance(error, DBAPIError):
        known = None if error.orig is None else trouble_of(error.orig, connecting=connecting)
        if known is None and error.connection_invalidated:
            return _named(StoreTrouble.UNREACHABLE, "connection_lost")
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
        return _named(StoreTrouble.UNREACHABLE, "connection_lost")
    return None


def _of_system(error: OSError, connecting: bool) -> StoreUnavailable | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _named(StoreTrouble.REFUSED, "certificate") if connecting else None
    if isinstance(error, TimeoutError) and error.errno is None:
        return _named(StoreTrouble.TIMED_OUT, "timeout")
    kind = None if error.errno is None else _BY_ERRNO.get(error.errno)
    if kind is None and (connecting or isinstance(error, ConnectionError | ssl.SSLError)):
        # Names that cannot be resolved, sockets that are not there yet, several addresses that all refused.
        kind = StoreTrouble.UNREACHABLE
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


def _if_known(kind: StoreTrouble | None, code: str | None) -> StoreUnavailable | None:
    return None if kind is None else _named(kind, code)


def _named(kind: StoreTrouble, code: str | None = None) -> StoreUnavailable:
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
