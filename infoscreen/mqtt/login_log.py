"""Failed logins at the broker, read from mosquitto's log, with the address they came from.

2.1 says the address in the line itself. 2.0 does not: there it is the address of a connection that was
accepted and has not logged in. Who else may just be connecting is never blamed: while it is unclear whose
login failed, the failure counts without an address.
"""

import logging
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from infoscreen.clock import Clock

log = logging.getLogger(__name__)

TOPIC = "$SYS/broker/log/N"

LOGIN_WITHIN = 30.0
"""Seconds after which a connection that has not logged in is no longer a suspect: mosquitto has closed it."""
MOST_OPEN = 10_000
"""So many connections are remembered that have not logged in."""
WINDOW = timedelta(minutes=10)
"""Failures of this time make the rate."""
MOST_FAILURES = 10_000
LINES_PER_ADDRESS = 30
"""So many lines of the log an address gets in ``WINDOW``; a ban needs fewer."""
MOST_ADDRESSES = 1_000

# Client ids and user names are chosen by who connects. So a line is recognised by its beginning, before
# anything of theirs, or by its end, after it.
_STAMP = r"^(?:[-0-9T:+.Z |]*: )?"
_OPENED = re.compile(_STAMP + r"New connection from (?P<peer>\S+) on port \d+\.$")
_LOGGED_IN = re.compile(_STAMP + r"New client connected from (?P<peer>\S+) as ")
_REFUSED = re.compile(_STAMP + r"Client .*(?:, not authorised| disconnected: not authorised)\.$", re.DOTALL)
_REFUSED_WITH_ADDRESS = re.compile(r" \[(?P<peer>[0-9A-Fa-f.:%\w]+)\] disconnected: not authorised\.$")


@dataclass(frozen=True, slots=True)
class FailedLogins:
    """Failed logins: how many in ``WINDOW``, from where most, and whether that is alarming."""

    recent: int = 0
    address: str | None = None
    alarm: bool = False


class LoginLog:
    """Counts failed logins in the broker's log; bounded in memory and in lines of our own log."""

    def __init__(self, clock: Clock, alarm_from: int, on_failure: Callable[[], None] = lambda: None) -> None:
        """Raise the alarm at ``alarm_from`` failures within ``WINDOW``; call ``on_failure`` for each."""
        self._on_failure = on_failure
        self._clock = clock
        self._alarm_from = alarm_from
        self._open: OrderedDict[str, float] = OrderedDict()
        self._failures: deque[tuple[datetime, str | None]] = deque(maxlen=MOST_FAILURES)
        self._lines: Counter[str] = Counter()
        self._lines_since = clock.now()
        self._alarmed = False

    def note(self, payload: bytes) -> None:
        """Take a line of mosquitto's log."""
        line = payload.decode("utf-8", "replace").rstrip()
        if (opened := _OPENED.match(line)) is not None:
            self._forget_old()
            self._open[opened["peer"]] = self._clock.monotonic()
        elif (known := _LOGGED_IN.match(line)) is not None:
            self._open.pop(known["peer"], None)
        elif _REFUSED.match(line) is not None:
            said = _REFUSED_WITH_ADDRESS.search(line)
            self._failed(self._suspect() if said is None else self._closed(said["peer"]))

    def shown(self) -> FailedLogins:
        """Return what is known as of now."""
        self._forget_failures()
        addresses = Counter(address for _, address in self._failures if address is not None)
        most = addresses.most_common(1)
        return FailedLogins(len(self._failures), most[0][0] if most else None, self._is_alarming())

    def _is_alarming(self) -> bool:
        return len(self._failures) >= self._alarm_from

    def _suspect(self) -> str | None:
        """Return the only address that has a connection without a login; None if there are others."""
        self._forget_old()
        addresses = {_host(peer) for peer in self._open}
        if len(addresses) != 1:
            return None
        return self._closed(next(iter(self._open)))

    def _closed(self, peer: str) -> str:
        self._open.pop(peer, None)
        return _host(peer)

    def _failed(self, address: str | None) -> None:
        now = self._clock.now()
        self._on_failure()
        self._failures.append((now, address))
        if address is not None:
            self._log(address, now)
        self._forget_failures()
        alarm = self._is_alarming()
        if alarm and not self._alarmed:
            log.error(
                "many logins at the broker fail",
                extra={"event": "mqtt_auth_alarm", "failures": len(self._failures), "minutes": 10},
            )
        self._alarmed = alarm

    def _log(self, address: str, now: datetime) -> None:
        if now - self._lines_since > WINDOW or now < self._lines_since or len(self._lines) >= MOST_ADDRESSES:
            self._lines.clear()
            self._lines_since = now
        self._lines[address] += 1
        if self._lines[address] <= LINES_PER_ADDRESS:
            # fail2ban reads this line (systemd/fail2ban); the address is mosquitto's, never the client's.
            log.warning("mqtt auth failure from %s", address, extra={"event": "mqtt_auth_failure"})

    def _forget_old(self) -> None:
        now = self._clock.monotonic()
        while self._open and (
            now - next(iter(self._open.values())) > LOGIN_WITHIN or len(self._open) >= MOST_OPEN
        ):
            self._open.popitem(last=False)

    def _forget_failures(self) -> None:
        now = self._clock.now()
        while self._failures and not timedelta(0) <= now - self._failures[0][0] <= WINDOW:
            self._failures.popleft()


def _host(peer: str) -> str:
    """Return the address of ``ADDRESS:PORT``."""
    return peer.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
