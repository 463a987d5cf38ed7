"""``infoscreen health``: one line and an exit code, as Nagios, Icinga and their like want them.

Asks the daemon of this host; looks at nothing itself. ``doctor`` is for people and explains.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from infoscreen import local_daemon
from infoscreen.clock import Clock
from infoscreen.domain.certificates import CRITICAL_BEFORE, WARN_BEFORE
from infoscreen.domain.clients import WELL
from infoscreen.local_daemon import DaemonPresence
from infoscreen.settings import Settings

LATE_SECONDS = 2.0
"""An event loop that is later than this answers nobody in time."""

_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{\w+=\"(?P<label>[^\"]*)\"\})? (?P<value>\S+)$", re.MULTILINE)


class PluginState(IntEnum):
    """The exit codes of monitoring plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How the daemon is; ``figures`` are by name, with the unit in the value."""

    state: PluginState
    sentence: str
    figures: dict[str, str]

    @property
    def line(self) -> str:
        """Return it as monitoring plugins write it."""
        figures = " ".join(f"{name}={value}" for name, value in self.figures.items())
        return f"{self.state.name}: {self.sentence}" + (f" | {figures}" if figures else "")


def examine(settings: Settings, clock: Clock) -> HealthReport:
    """Ask the daemon. Blocks for a few seconds at most."""
    host, port = local_daemon.where(settings)
    ready = local_daemon.ask(settings, "/readyz")
    match ready.presence:
        case DaemonPresence.NOBODY:
            return HealthReport(
                PluginState.CRITICAL, f"the daemon does not run: nobody listens at {host}:{port}", {}
            )
        case DaemonPresence.SILENT:
            return HealthReport(PluginState.CRITICAL, f"the daemon at {host}:{port} does not answer", {})
        case DaemonPresence.DAEMON if isinstance(ready.json, dict) and ready.json.get("status") == "ready":
            return _with_metrics(settings, clock)
        case DaemonPresence.DAEMON if isinstance(ready.json, dict) and ready.status == 503:
            said = str(ready.json.get("detail") or "the daemon is not ready")
            faults = ready.json.get("faults")
            because = "; ".join(map(str, faults.values())) if isinstance(faults, dict) else ""
            return HealthReport(PluginState.CRITICAL, " ".join(f"{said} {because}".split()).rstrip("."), {})
        case _:
            return HealthReport(
                PluginState.UNKNOWN, f"something else than the daemon answers at {host}:{port}", {}
            )


def _with_metrics(settings: Settings, clock: Clock) -> HealthReport:
    reply = local_daemon.ask(settings, "/metrics")
    if reply.status != 200:
        return HealthReport(PluginState.OK, "ready", {})
    text = reply.body.decode(errors="replace")
    samples = [(one["name"], one["label"], float(one["value"])) for one in _SAMPLE.finditer(text)]
    clients = {label: value for name, label, value in samples if name == "infoscreen_clients"}
    lag = next((value for name, _, value in samples if name == "infoscreen_event_loop_lag_seconds"), 0.0)
    total = int(sum(clients.values()))
    unwell = total - int(sum(clients.get(str(condition), 0) for condition in WELL))
    concerns = list(_concerns(samples, lag, clock))
    state = max((state for state, _ in concerns), default=PluginState.OK)
    sentence = "; ".join(said for _, said in concerns) or f"ready; {total} clients, {unwell} of them not well"
    return HealthReport(
        state, sentence, {"clients": str(total), "not_well": str(unwell), "loop_lag": f"{lag:.3f}s"}
    )


def _concerns(
    samples: list[tuple[str, str | None, float]], lag: float, clock: Clock
) -> Iterator[tuple[PluginState, str]]:
    if lag > LATE_SECONDS:
        yield PluginState.WARNING, f"the event loop is {lag:.1f} s late"
    for name, label, value in samples:
        if name == "infoscreen_mqtt_paused" and value:
            yield PluginState.WARNING, f"messages of the {label} session wait to be stored"
        if name == "infoscreen_certificate_expiry_timestamp_seconds":
            days = (value - clock.now().timestamp()) / 86_400
            if days < WARN_BEFORE.days:
                state = PluginState.CRITICAL if days < CRITICAL_BEFORE.days else PluginState.WARNING
                yield state, f"the certificate {label} {'ends' if days > 0 else 'ended'} {_in_days(days)}"


def _in_days(days: float) -> str:
    return f"in {days:.0f} days" if days > 0 else f"{-days:.0f} days ago"
