"""Log records for systemd's journal, in its native protocol: with fields that can be searched.

``journalctl -u infoscreen CLIENT_UUID=...`` finds everything about a client, ``EVENT=...`` one kind of event.
Neither blocks nor raises: a record that the journal does not take is written to standard error.
"""

import array
import errno
import fcntl
import logging
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

SOCKET = "/run/systemd/journal/socket"
LONGEST_NAME = 64

PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
"""syslog's priorities."""


def priority(level: int) -> int:
    """Return syslog's priority for a level of ``logging``."""
    return next(number for least, number in PRIORITIES if level >= least)


def encoded(fields: Mapping[str, Any]) -> bytes:
    """Return fields as the journal reads them; names that it does not take are changed."""
    parts = []
    for name, value in fields.items():
        data = str(value).encode(errors="replace")
        journal_name = _name(name).encode()
        if b"\n" in data:
            parts.append(journal_name + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
        else:
            parts.append(journal_name + b"=" + data + b"\n")
    return b"".join(parts)


def _name(name: str) -> str:
    """``client_uuid`` becomes ``CLIENT_UUID``; the journal takes nothing but capitals, digits and ``_``."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")[:LONGEST_NAME] or "FIELD"


class JournalHandler(logging.Handler):
    """Sends each record with its fields; ``fallback`` gets those that cannot be sent."""

    def __init__(self, fallback: logging.Handler, path: str = SOCKET) -> None:
        super().__init__()
        self._fallback = fallback
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record."""
        try:
            self._send(encoded(self._fields(record)))
        except (OSError, ValueError):
            self._fallback.handle(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        own = {
            "MESSAGE": self.format(record),
            "PRIORITY": priority(record.levelno),
            "SYSLOG_IDENTIFIER": "infoscreen",
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName,
        }
        given = {_name(name): value for name, value in extra_of(record).items() if value is not None}
        return {**given, **own}

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self._send_as_file(data)

    def _send_as_file(self, data: bytes) -> None:
        """Send what does not fit into a datagram as a sealed file in memory."""
        file = os.memfd_create("infoscreen-log", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(file), "wb") as writing:
                writing.write(data)
            _seal(file)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))]
            self._socket.sendmsg([], rights, 0, self._path)
        finally:
            os.close(file)


def _seal(file: int) -> None:
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)


_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def extra_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record was given as ``extra``."""
    return {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
