"""Address of the broker, TLS, and reconnecting without end.

Knows nothing of messages. Errors of the network are recorded and retried here and never leave the room.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

from infoscreen.clock import Clock
from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.errors import BrokerUnavailable, SessionTakenOver
from infoscreen.progress import SLACK_SECONDS, expect_within

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0
HANDSHAKE_SECONDS = 4.0
LASTING_SECONDS = 30.0
"""A connection that lasted this long was a good one; the next retry is a quick one again."""
BRIEF_SECONDS = 15.0
BRIEF_CONNECTIONS = 3
"""So many connections in a row that each ended so early, with no failed attempt in between, while the broker
went on listening: MQTT 3.1.1 has no other sign of another program with our client id."""
TAKEN_OVER_FIRST_SECONDS, TAKEN_OVER_LONGEST_SECONDS = 10.0, 300.0
"""How long to leave the broker to the other one."""
TAKEN_OVER_FOR = timedelta(minutes=15)
"""How long a takeover is remembered for the next pause, and shown at most."""

TAKEN_OVER = (
    "another program connects to the broker under our client id, and each ends the other's connection: "
    "two daemons with one MQTT_CLIENT_ID?"
)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How the broker is verified, and what is shown to it; paths to PEM files.

    Without ``ca_cert`` the system's CAs are trusted. ``insecure`` skips the check of the host name only:
    the certificate must still come from a trusted CA and be valid today.
    """

    ca_cert: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is, and who we are there. ``client_id`` names the persistent session."""

    host: str
    port: int
    user: str | None
    password: str | None = field(repr=False)
    client_id: str
    tls: TlsSettings | None = None


class _TidySocket(ssl.SSLSocket):
    """A socket that is closed when its handshake fails, which paho leaves to the garbage collector.

    paho would wait for a handshake as long as its keepalive, in a thread that a stop has to wait for.
    """

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands, or close."""
        self.settimeout(HANDSHAKE_SECONDS)
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Load the certificates; raise ``BrokerUnavailable`` naming the file that is at fault.

    Reads files, so call it in a thread. Call it for each connection: renewed certificates count at once.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_cert)
    except (OSError, ValueError) as error:
        raise BrokerUnavailable(
            f"cannot load the CA certificate {tls.ca_cert}: {words_of(error)}", BrokerFault.FILES
        ) from None
    context.sslsocket_class = _TidySocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = not tls.insecure
    if tls.certfile is not None:
        try:
            # Without a password OpenSSL would ask for one on the terminal and wait.
            context.load_cert_chain(tls.certfile, tls.keyfile, password="")
        except (OSError, ValueError) as error:
            files = " and ".join(str(file) for file in (tls.certfile, tls.keyfile) if file is not None)
            raise BrokerUnavailable(
                f"cannot load the client certificate {files}: {words_of(error)}", BrokerFault.FILES
            ) from None
    return context


class SharedTls:
    """One context for the connections of many devices; renewed files count from the next connection on."""

    def __init__(self, tls: TlsSettings) -> None:
        """Load the files; raise ``BrokerUnavailable``."""
        self._tls = tls
        self._seen = self._stamps()
        self._context = tls_context(tls)

    def context(self) -> ssl.SSLContext:
        """Return the context of the files as they are now; raise ``BrokerUnavailable``."""
        if (stamps := self._stamps()) != self._seen:
            self._context, self._seen = tls_context(self._tls), stamps
        return self._context

    def _stamps(self) -> list[tuple[int, int]]:
        files = (self._tls.ca_cert, self._tls.certfile, self._tls.keyfile)
        try:
            found = [file.stat() for file in files if file is not None]
        except OSError:
            return []
        return [(one.st_ino, one.st_mtime_ns) for one in found]


def retry_delay(
    failures: int,
    jitter: float,
    *,
    first: float = FIRST_RETRY_SECONDS,
    longest: float = LONGEST_RETRY_SECONDS,
    spread: float = 0.5,
) -> float:
    """Return the seconds to wait after the given number of failures in a row (at least 1).

    Doubles up to a cap. ``jitter`` in [0, 1) takes off up to ``spread`` of it, so that many clients that lost
    their broker do not come back at the same moment; a whole fleet uses the whole range, 1.
    """
    doubled = first * 2.0 ** min(failures - 1, 16)
    return min(doubled, max(first, longest)) * (1 - jitter * spread)


def words_of(error: BaseException) -> str:
    """Return what went wrong in words for an operator."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    if text.startswith("[Errno ") and "] " in text:
        text = text.partition("] ")[2]
    return text or type(error).__name__


class Reconnecting:
    """Reconnects until cancelled; counts connections, waits in between, and logs outages.

    An outage is one warning, however long it lasts; more only when its reason changes.
    """

    def __init__(
        self,
        role: str,
        address: BrokerAddress,
        clock: Clock,
        on_change: Callable[[], None],
        answers: Callable[[BrokerAddress], Awaitable[bool]],
    ) -> None:
        """``role`` names the connection in the log; ``answers`` tells whether anybody listens there."""
        self._role = role
        self._address = address
        self._clock = clock
        self._on_change = on_change
        self._answers = answers
        self._failures = 0
        self._connections = 0
        self._up_since: float | None = None
        self._last_error: str | None = None
        self._lasted: float | None = None  # of the connection that has just ended
        self._brief = 0
        self._takeovers = 0
        self._taken_over_at: datetime | None = None
        self._fault: BrokerFault | None = None

    @property
    def taken_over_at(self) -> datetime | None:
        """Return when another program last took our client id, if that happened twice lately.

        None again once our connection has lasted longer than the other program waits: that one would have
        come back, and ended it. It waits no longer than we did, give or take one doubling, if it is a daemon.
        """
        at = self._taken_over_at
        lately = at is not None and self._clock.now() - at < TAKEN_OVER_FOR
        if not lately or self._takeovers < 2:
            return None
        steady = 0.0 if self._up_since is None else self._clock.monotonic() - self._up_since
        doubled = TAKEN_OVER_FIRST_SECONDS * 2.0 ** min(self._takeovers, 16)
        others_wait = min(doubled, TAKEN_OVER_LONGEST_SECONDS)
        return at if steady < others_wait + BRIEF_SECONDS else None

    @property
    def connected(self) -> bool:
        """Tell whether the broker has accepted us and not gone since."""
        return self._up_since is not None

    @property
    def reconnects(self) -> int:
        """Return how often a connection was made again after the first."""
        return max(self._connections - 1, 0)

    @property
    def last_error(self) -> str | None:
        """Return why there is no connection; None while there is one."""
        return self._last_error

    @property
    def fault(self) -> BrokerFault | None:
        """Return the code of ``last_error``, if it has one."""
        return self._fault

    async def run(self, connection: Callable[[], Awaitable[NoReturn]]) -> NoReturn:
        """Await one connection after another; each ends by raising.

        ``BrokerUnavailable`` is recorded and retried, all other errors are passed on.
        """
        while True:
            expect_within()
            error = await self._one(connection)
            lasted, self._lasted = self._lasted, None
            taken_over = await self._is_takeover(error, lasted)
            delay = self._taken_over() if taken_over else self._failed(error)
            expect_within(delay + SLACK_SECONDS)
            await self._clock.sleep(delay)

    async def _one(self, connection: Callable[[], Awaitable[NoReturn]]) -> BrokerUnavailable:
        try:
            await connection()
        except BrokerUnavailable as error:
            return error
        finally:
            self._down()

    async def _is_takeover(self, error: BrokerUnavailable, lasted: float | None) -> bool:
        is_brief = lasted is not None and lasted < BRIEF_SECONDS
        # A broker that is killed or restarted ends our connection too, but does not listen at that moment.
        self._brief = self._brief + 1 if is_brief and await self._answers(self._address) else 0
        return isinstance(error, SessionTakenOver) or self._brief >= BRIEF_CONNECTIONS

    def _taken_over(self) -> float:
        """Record that our client id was taken, and return the seconds to wait, ever longer."""
        now, before = self._clock.now(), self._taken_over_at
        is_lately = before is not None and now - before < TAKEN_OVER_FOR
        self._takeovers = self._takeovers + 1 if is_lately else 1
        self._taken_over_at = now
        self._last_error, self._fault = TAKEN_OVER, None
        self._on_change()
        delay = retry_delay(
            self._takeovers,
            random.random(),
            first=TAKEN_OVER_FIRST_SECONDS,
            longest=TAKEN_OVER_LONGEST_SECONDS,
        )
        log.error(
            TAKEN_OVER,
            extra={
                "event": "broker_taken_over",
                "client_id": self._address.client_id,
                "times": self._takeovers,
                "retry_seconds": round(delay, 1),
                **self._fields(),
            },
        )
        return delay

    def up(self) -> None:
        """Note that the broker has accepted the connection and all it needs is in place."""
        self._connections += 1
        self._up_since = self._clock.monotonic()
        self._last_error = self._fault = None
        log.info("connected to the broker", extra={"event": "broker_connected", **self._fields()})
        self._on_change()

    def _down(self) -> None:
        if self._up_since is None:
            return
        self._lasted = self._clock.monotonic() - self._up_since
        if self._lasted >= LASTING_SECONDS:
            self._failures = 0
        self._up_since = None
        self._on_change()

    def _failed(self, trouble: BrokerUnavailable) -> float:
        """Record the failure and return the seconds to wait."""
        self._failures += 1
        error, self._fault = str(trouble), trouble.fault
        news = error != self._last_error
        self._last_error = error
        self._on_change()
        delay = retry_delay(self._failures, random.random())
        # Powers of two: a long outage is mentioned ever more rarely.
        reminder = self._failures & (self._failures - 1) == 0
        log.log(
            logging.WARNING if news else logging.INFO if reminder else logging.DEBUG,
            "no connection to the broker, trying again",
            extra={
                "event": "broker_unavailable",
                "error": error,
                "failures": self._failures,
                "retry_seconds": round(delay, 1),
                **self._fields(),
            },
        )
        return delay

    def _fields(self) -> dict[str, object]:
        return {"connection": self._role, "broker": f"{self._address.host}:{self._address.port}"}


async def load_tls(address: BrokerAddress) -> ssl.SSLContext | None:
    """Return the TLS context for the address, None for a plain connection."""
    return None if address.tls is None else await asyncio.to_thread(tls_context, address.tls)
