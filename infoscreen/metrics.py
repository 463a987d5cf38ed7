"""What the daemon counts, in a registry of its own. No label names a client: fleets are too big for that."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

import infoscreen
from infoscreen.domain.alerts import Alert, Certificate
from infoscreen.domain.certificates import Lifetime
from infoscreen.domain.clients import Condition
from infoscreen.domain.recovery import OF_RECOVERY

COMMAND_SECONDS = (1, 2, 5, 10, 30, 60, 120, 240, 600, 900)
"""Buckets for a command's life.

An app restarts in seconds, a host in minutes, 900 s is the longest deadline.
"""

RECOVERY_SECONDS = (30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200, 21600)
"""Buckets for the time to recovery: one restart takes two minutes, the whole ladder about half an hour."""

REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The instruments; services and the web reach them as ``Measures`` and ``HttpMeasures``."""

    def __init__(self) -> None:
        # Else a series more for each of ours, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
        self._registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, GCCollector):
            collector(registry=registry)
        self._messages = Counter(
            "infoscreen_mqtt_messages", "Messages from devices.", ["kind", "outcome"], registry=registry
        )
        self._rejected = Counter(
            "infoscreen_mqtt_rejected",
            "Bad messages by what is wrong with them.",
            ["reason"],
            registry=registry,
        )
        self._unread = Counter(
            "infoscreen_mqtt_unread_fields",
            "Optional fields that could not be read, by name; the rest of their messages counted.",
            ["field"],
            registry=registry,
        )
        self._commands = Counter(
            "infoscreen_commands", "Commands that reached a status.", ["action", "status"], registry=registry
        )
        self._command_duration = Histogram(
            "infoscreen_command_duration_seconds",
            "From the creation of a command to its end.",
            ["action"],
            buckets=COMMAND_SECONDS,
            registry=registry,
        )
        self._decisions = Counter(
            "infoscreen_recovery_decisions",
            "Decisions of the recovery by reason, one per poll and unwell client.",
            ["reason"],
            registry=registry,
        )
        self._attempts = Counter(
            "infoscreen_recovery_attempts",
            "Attempts of the recovery that have ended.",
            ["rung", "outcome"],
            registry=registry,
        )
        self._recovery_seconds = Histogram(
            "infoscreen_recovery_seconds",
            "From becoming unwell to being well again, of clients that were acted on.",
            buckets=RECOVERY_SECONDS,
            registry=registry,
        )
        self._incidents = Counter(
            "infoscreen_recovery_incidents", "Incidents that began.", ["kind"], registry=registry
        )
        self._open_incidents = Gauge(
            "infoscreen_recovery_incidents_open", "Incidents under way.", ["kind"], registry=registry
        )
        self._requests = Counter(
            "infoscreen_http_requests",
            "HTTP requests by the pattern of their path.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._request_duration = Histogram(
            "infoscreen_http_request_duration_seconds",
            "Until the answer was ready; for event streams, until they ended.",
            ["route"],
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self._clients = Gauge("infoscreen_clients", "Clients by condition.", ["status"], registry=registry)
        self._connected = Gauge(
            "infoscreen_mqtt_connected", "1 while the broker connection is up.", registry=registry
        )
        self._loop_lag = Gauge(
            "infoscreen_event_loop_lag_seconds", "How late the event loop was just now.", registry=registry
        )
        self._held = Gauge(
            "infoscreen_mqtt_held_bytes",
            "Received and not yet stored, by session.",
            ["session"],
            registry=registry,
        )
        self._left_off = Gauge(
            "infoscreen_outlets_left_off",
            "Outlets that do not come on again after a power cycle.",
            registry=registry,
        )
        self._paused = Gauge(
            "infoscreen_mqtt_paused",
            "1 while a session is not read because too much waits to be stored.",
            ["session"],
            registry=registry,
        )
        self._dropped = Gauge(
            "infoscreen_broker_dropped_messages",
            "Messages the broker has dropped since it started, as it says itself.",
            registry=registry,
        )
        self._acl = Gauge(
            "infoscreen_broker_acl_in_force",
            "1 if the last check found the broker's ACL in force, 0 if not, -1 if it was not checked.",
            registry=registry,
        )
        self._auth_failures = Counter(
            "infoscreen_mqtt_auth_failures",
            "Failed logins at the broker, as its log says.",
            registry=registry,
        )
        self._taken_over = Gauge(
            "infoscreen_mqtt_taken_over",
            "1 while another program keeps taking the daemon's client id at the broker.",
            registry=registry,
        )
        self._certificates = Gauge(
            "infoscreen_certificate_expiry_timestamp_seconds",
            "When certificates end: the broker's as it is presented, its CA, our own, the panel's.",
            ["which"],
            registry=registry,
        )
        self._known_certificates: Callable[[], Mapping[Certificate, Lifetime]] = dict
        self._alerts = Gauge(
            "infoscreen_alerts", "Alerts about the installation.", ["alert", "severity"], registry=registry
        )
        Gauge("infoscreen_build_info", "Always 1.", ["version"], registry=registry).labels(
            infoscreen.__version__
        ).set(1)

    def watch_listener(self, session: str, held: Callable[[], int], paused: Callable[[], bool]) -> None:
        """Show how much of a session's messages waits in memory, and whether reading is paused for that."""
        self._held.labels(session).set_function(held)
        self._paused.labels(session).set_function(paused)

    def watch_outlets(self, left_off: Callable[[], int]) -> None:
        """Show how many outlets do not come on again."""
        self._left_off.set_function(left_off)

    def watch_dropped(self, dropped: Callable[[], int]) -> None:
        """Show how many messages the broker says it has dropped."""
        self._dropped.set_function(dropped)

    def watch_broker(self, acl: Callable[[], str], is_taken_over: Callable[[], bool]) -> None:
        """Show whether the ACL is in force, and whether another program takes our client id."""
        self._acl.set_function(lambda: {"in_force": 1, "open": 0}.get(acl(), -1))
        self._taken_over.set_function(is_taken_over)

    def auth_failure(self) -> None:
        """Count a failed login at the broker."""
        self._auth_failures.inc()

    def watch_certificates(self, known: Callable[[], Mapping[Certificate, Lifetime]]) -> None:
        """Show when the certificates end that are known."""
        self._known_certificates = known

    def alerts(self, alerts: Iterable[Alert]) -> None:
        """Set which alerts are true; the others disappear."""
        self._alerts.clear()
        for alert in alerts:
            self._alerts.labels(alert.fact.code.value, alert.severity.value).inc()

    def message(self, kind: str, outcome: str, count: int = 1) -> None:
        """Count messages from devices."""
        self._messages.labels(kind, outcome).inc(count)

    def rejected(self, reason: str, count: int = 1) -> None:
        """Count bad messages by their stable reason code."""
        self._rejected.labels(reason).inc(count)

    def unread(self, field: str, count: int = 1) -> None:
        """Count optional fields that could not be read, by their name in the contract."""
        self._unread.labels(field).inc(count)

    def command(self, action: str, status: str, count: int = 1) -> None:
        """Count commands that reached a status."""
        self._commands.labels(action, status).inc(count)

    def command_duration(self, action: str, seconds: float) -> None:
        """Record how long a command took."""
        self._command_duration.labels(action).observe(seconds)

    def recovery_decision(self, reason: str, count: int = 1) -> None:
        """Count decisions of the recovery."""
        self._decisions.labels(reason).inc(count)

    def recovery_attempt(self, rung: str, outcome: str) -> None:
        """Count an attempt that has ended."""
        self._attempts.labels(rung, outcome).inc()

    def recovered(self, seconds: float) -> None:
        """Record a time to recovery."""
        self._recovery_seconds.observe(seconds)

    def incident(self, kind: str) -> None:
        """Count an incident that began."""
        self._incidents.labels(kind).inc()

    def incidents_open(self, kinds: Mapping[str, int]) -> None:
        """Set how many incidents are under way."""
        for kind in OF_RECOVERY:
            self._open_incidents.labels(kind.value).set(kinds.get(kind.value, 0))

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_duration.labels(route).observe(seconds)

    def set_state(
        self, totals: Mapping[Condition, int] | None, connected: bool, loop_lag_seconds: float
    ) -> None:
        """Set the gauges; unknown totals show nothing rather than something old."""
        self._clients.clear()
        for condition in Condition if totals is not None else ():
            self._clients.labels(condition.value).set((totals or {}).get(condition, 0))
        self._connected.set(connected)
        self._loop_lag.set(loop_lag_seconds)

    def exposition(self) -> bytes:
        """Return everything in the Prometheus text format 0.0.4."""
        for which, life in self._known_certificates().items():
            self._certificates.labels(which.value).set(life.not_after.timestamp())
        return generate_latest(self._registry)
