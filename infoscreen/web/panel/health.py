"""What a device says of its health, made ready to be looked at. Readings nobody sent are left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from infoscreen.words.language import N_, Language


@dataclass(frozen=True, slots=True)
class Gauge:
    """A reading as a bar, ``share`` percent of it filled; ``level`` is ``well``, ``high`` or ``bad``."""

    title: str
    text: str
    share: int
    level: str


@dataclass(frozen=True, slots=True)
class HealthView:
    """All of it: bars, and the rest as pairs of title and value."""

    gauges: list[Gauge]
    facts: list[tuple[str, str]]
    last_frame_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Scale:
    title: str
    unit: str
    high: float
    bad: float


_SCALES: Mapping[str, _Scale] = MappingProxyType(
    {
        "cpu_percent": _Scale(N_("Processor"), "%", 85, 97),
        "memory_percent": _Scale(N_("Memory"), "%", 85, 95),
        "disk_percent": _Scale(N_("Disk"), "%", 85, 95),
        # A Raspberry Pi slows itself down from 80 degrees on.
        "temperature_celsius": _Scale(N_("Temperature"), "°C", 70, 80),
    }
)


def health_of(health: Mapping[str, Any] | None, language: Language) -> HealthView | None:
    """Return what to show of a client's last health report, None when there was none."""
    if not health:
        return None
    metrics = health.get("health_metrics") or {}
    gauges = [
        _gauge(scale, metrics[name], language)
        for name, scale in _SCALES.items()
        if isinstance(metrics.get(name), int | float)
    ]
    frame = metrics.get("last_frame_update")
    return HealthView(
        gauges,
        list(_facts(health, metrics, language)),
        None if frame is None else datetime.fromisoformat(frame),
    )


def _gauge(scale: _Scale, value: float, language: Language) -> Gauge:
    level = "bad" if value >= scale.bad else "high" if value >= scale.high else "well"
    return Gauge(scale.title, f"{language.number(value)} {scale.unit}", round(min(max(value, 0), 100)), level)


def _facts(
    health: Mapping[str, Any], metrics: Mapping[str, Any], language: Language
) -> list[tuple[str, str]]:
    _ = language.gettext
    yes_no = {True: _("yes"), False: _("no")}
    on_off = {True: _("on"), False: _("off")}
    expected = health.get("expected_state") or {}
    actual = health.get("actual_state") or {}
    facts = [
        (N_("Screen"), on_off.get(metrics.get("screen_on"))),  # type: ignore[arg-type]  # None is simply not in it
        (N_("Undervoltage"), yes_no.get(metrics.get("undervoltage"))),  # type: ignore[arg-type]  # the same
        (N_("Uptime"), _uptime(metrics.get("uptime_seconds"), language)),
        (N_("Should show"), expected.get("media_file") or expected.get("event_type")),
        (N_("Shows"), actual.get("process")),
    ]
    return [(title, str(value)) for title, value in facts if value]


def _uptime(seconds: float | None, language: Language) -> str | None:
    return None if seconds is None else language.duration(timedelta(seconds=min(seconds, 10**9)))
