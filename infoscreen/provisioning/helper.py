"""The broker helper: does two things for the daemon that only the owner of the broker's files may do.

It gives a device an account, and restarts the broker. The daemon is not trusted: what it sends is checked
here, no account of our own can be touched, and the broker is restarted once an hour at most. Each connection
is one line of JSON and one line of answer.
"""

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from infoscreen.domain.enrolment import PASSWORD
from infoscreen.domain.errors import InfoscreenError, ProvisioningError
from infoscreen.pki import files
from infoscreen.provisioning import broker_process, devices
from infoscreen.provisioning.broker_files import BrokerFiles
from infoscreen.provisioning.enrolment import Enrolment
from infoscreen.provisioning.passwords import fits, new_password, password_line
from infoscreen.provisioning.socket_paths import fitting

log = logging.getLogger(__name__)

MOST_REQUEST_BYTES = 1_024
TALK_SECONDS = 5.0
MOST_ACCOUNTS = 100_000
"""Twice the largest fleet. A daemon that has been taken over must not fill the disk."""
RESTART_EVERY = timedelta(hours=1)

_SYSTEMD_SOCKET = 3


class BadRequest(Exception):
    """What was sent is no request."""


class BrokerHelper:
    """Answers requests; ``now`` comes from the caller."""

    def __init__(self, place: BrokerFiles) -> None:
        self._place = place

    def answer(self, line: bytes, now: datetime) -> dict[str, Any]:
        """Do what is asked and return the answer: ``ok``, or ``error`` with a code."""
        try:
            asked = json.loads(line)
            match asked:
                case {"do": "add_device", "uuid": str(uuid), "password": str() | None as password}:
                    _only(asked, {"do", "uuid", "password", "replace"})
                    return self._add(uuid, password, asked.get("replace") is True)
                case {"do": "restart_broker"}:
                    _only(asked, {"do"})
                    return self._restart(now)
                case _:
                    pass
        except (ValueError, RecursionError, BadRequest):
            pass
        except (InfoscreenError, OSError):
            log.exception("the request failed", extra={"event": "helper_failed"})
            return {"error": "failed"}
        log.warning("a request made no sense", extra={"event": "helper_refused"})
        return {"error": "bad_request"}

    def _add(self, uuid: str, password: str | None, replace: bool) -> dict[str, Any]:
        if _canonical(uuid) != uuid or (password is not None and not PASSWORD.fullmatch(password)):
            raise BadRequest
        broker_process.require_good_files(self._place)
        access = self._place.device_access()
        chosen = password or new_password()
        with self._place.accounts().editing() as lines:
            # The same request again: its answer was lost.
            known = uuid in lines and password is not None and fits(lines[uuid], password)
            if uuid in lines and not replace and not known:
                return {"error": "exists"}
            if uuid not in lines and len(lines) >= MOST_ACCOUNTS:
                return {"error": "too_many"}
            if not known:
                lines[uuid] = password_line(uuid, chosen)
        told = broker_process.tell(self._place)
        log.info(
            "a device was given an account",
            extra={"event": "device_added", "client_uuid": uuid, "replaced": replace, "broker": told.value},
        )
        made = Enrolment(uuid, chosen, access)
        answer = {"uuid": uuid, "host": access.host, "port": access.port, "ca": access.ca}
        return {"ok": True, **answer, "password": chosen, "file": made.file()}

    def _restart(self, now: datetime) -> dict[str, Any]:
        with files.locked(self._place.secrets / "restart.lock"):
            if (wait := self._wait(now)) > timedelta(0):
                return {"error": "too_soon", "seconds": int(wait.total_seconds()) + 1}
            # Written before it is done: a broker that does not come up is not restarted again and again.
            files.replace(self._stamp, f"{now.isoformat()}\n".encode(), files.Access(0o600))
            log.warning(
                "the broker is restarted, as the daemon asked for", extra={"event": "broker_restarted"}
            )
            if not broker_process.restart_running(self._place):
                return {"error": "not_running"}
        return {"ok": True}

    @property
    def _stamp(self) -> Path:
        return self._place.secrets / "restarted"

    def _wait(self, now: datetime) -> timedelta:
        try:
            before = datetime.fromisoformat(self._stamp.read_text(encoding="ascii").strip())
            gone = now - before
        except (OSError, ValueError, TypeError):
            return timedelta(0)
        # A time in the future is of a clock that was set back.
        return RESTART_EVERY - gone if gone >= timedelta(0) else timedelta(0)


def _canonical(uuid: str) -> str | None:
    try:
        return devices.device_name(uuid)
    except ProvisioningError:
        return None


def _only(asked: dict[str, Any], names: set[str]) -> None:
    if not asked.keys() <= names:
        raise BadRequest


@contextlib.contextmanager
def listening_at(path: Path | None) -> Iterator[socket.socket]:
    """Yield the socket to serve: the one that systemd passed, or a new one at ``path`` for its owner only.

    Raises:
        ProvisioningError: there is none.
    """
    if path is None:
        if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
            raise ProvisioningError(
                "systemd passed no socket: start infoscreen-broker-helper.socket, or use --socket"
            )
        with socket.socket(fileno=_SYSTEMD_SOCKET) as given:
            yield given
        return
    with socket.socket(socket.AF_UNIX) as made:
        draft = path.with_name(f".{path.name}.new")
        mask = os.umask(0o177)
        try:
            if path.exists() and not path.is_socket():
                raise ProvisioningError(f"{path} is no socket")
            draft.unlink(missing_ok=True)
            with fitting(draft) as address:
                made.bind(address)
            made.listen()
            draft.replace(path)  # once it is there, it answers
        except OSError as error:
            raise ProvisioningError(f"cannot listen at {path}: {error.strerror or error}") from None
        finally:
            os.umask(mask)
        try:
            yield made
        finally:
            path.unlink(missing_ok=True)


def take_request(connection: socket.socket) -> bytes:
    """Return one line from a connection; raise ``OSError`` if it does not come whole and in time."""
    connection.settimeout(TALK_SECONDS)
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(MOST_REQUEST_BYTES + 1 - len(line))
        if not part or len(line) + len(part) > MOST_REQUEST_BYTES:
            raise OSError("no whole request")
        line += part
    return line
