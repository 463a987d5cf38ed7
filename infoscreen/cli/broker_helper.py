"""The loop of ``infoscreen broker helper``: one connection after the other."""

import contextlib
import json
import signal
import socket
from pathlib import Path
from types import FrameType

from infoscreen.clock import SystemClock
from infoscreen.provisioning.broker_files import BrokerFiles
from infoscreen.provisioning.helper import BrokerHelper, listening_at, take_request


class _Stopped(BaseException):
    """A signal came while nothing was being done."""


class _Stop:
    """Ends the wait for a connection on SIGTERM or SIGINT; a request under way is finished first."""

    def __init__(self) -> None:
        self.asked = False
        self.waiting = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._come)

    def _come(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self.waiting:
            raise _Stopped


def serve(place: BrokerFiles, path: Path | None, idle: float | None) -> None:
    """Answer until a signal comes, or for ``idle`` seconds; raise ``ProvisioningError`` without a socket."""
    helper, clock, stop = BrokerHelper(place), SystemClock(), _Stop()
    with contextlib.suppress(_Stopped, TimeoutError), listening_at(path) as listening:
        listening.settimeout(idle)
        while not stop.asked:
            stop.waiting = True
            connection, _ = listening.accept()
            stop.waiting = False
            with connection, contextlib.suppress(OSError):
                answer(helper, connection, clock)


def answer(helper: BrokerHelper, connection: socket.socket, clock: SystemClock) -> None:
    """Take one request and answer it; raise ``OSError`` if the other side left."""
    said = helper.answer(take_request(connection), clock.now())
    connection.sendall(json.dumps(said).encode() + b"\n")
