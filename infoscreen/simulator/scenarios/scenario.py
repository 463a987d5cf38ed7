"""A scenario as values, and what a file may say. All times are seconds of the virtual clock."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
LONGEST = 366 * 86_400.0
DURATION = "a duration such as 45, '45 s', '10 min', '2 h' or '1 d', at most a year"
RANGE = "a duration, or a range of two such as ['2 min', '5 min'], the shorter first"


class ScenarioEventKind(StrEnum):
    """What can happen to a fleet."""

    CRASH = "crash"
    """The application dies; the agent goes on reporting it."""
    SERVICE_FAILED = "service_failed"
    """systemd has given up on the application and says so."""
    HANG = "hang"
    """No more reports, but the connection stays; a reboot is still heard."""
    DEAF = "deaf"
    """As ``hang``, and no command is heard either."""
    DEAD = "dead"
    """The host is gone for good: power supply, storage."""
    SELF_REBOOT = "self_reboot"
    """The host reboots of its own accord, for updates."""
    NETWORK = "network"
    """Single clients lose their network; they live on behind it."""
    SITE_OUTAGE = "site_outage"
    """Whole sites lose their network."""
    BROKER_OUTAGE = "broker_outage"
    """The broker is gone, for clients and daemon alike."""
    DAEMON_OUTAGE = "daemon_outage"
    """The daemon is stopped and started again; the broker keeps its messages."""
    CLOCK_STEP = "clock_step"
    """The clients' own clocks jump."""


FOR_EVERYBODY = frozenset({ScenarioEventKind.BROKER_OUTAGE, ScenarioEventKind.DAEMON_OUTAGE})
PASSES = frozenset(
    {
        ScenarioEventKind.SELF_REBOOT,
        ScenarioEventKind.NETWORK,
        ScenarioEventKind.SITE_OUTAGE,
        ScenarioEventKind.BROKER_OUTAGE,
        ScenarioEventKind.DAEMON_OUTAGE,
    }
)
"""What always passes by itself, and needs a time for it."""

Cure = Literal["restart_app", "reboot_host", "power_cycle", "nothing"]
CURES: dict[ScenarioEventKind, Cure] = {
    ScenarioEventKind.CRASH: "restart_app",
    ScenarioEventKind.SERVICE_FAILED: "restart_app",
    ScenarioEventKind.HANG: "reboot_host",
    ScenarioEventKind.DEAF: "power_cycle",
    ScenarioEventKind.DEAD: "nothing",
}
"""The mildest action that helps, unless the scenario says otherwise."""


def _duration(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(DURATION)  # noqa: TRY004 - pydantic wants a ValueError
    if isinstance(value, str):
        number = value.strip().rstrip("abcdefghijklmnopqrstuvwxyz").strip()
        unit = value.strip()[len(number) :].strip()
        try:
            value = float(number) * UNITS[unit or "s"]
        except (ValueError, KeyError):
            raise ValueError(DURATION) from None
    if not 0 <= value <= LONGEST:
        raise ValueError(DURATION)
    return float(value)


def _range(value: Any) -> tuple[float, float]:
    parts = value if isinstance(value, list | tuple) else [value, value]
    try:
        low, high = (_duration(one) for one in parts)
    except ValueError:
        raise ValueError(RANGE) from None
    if low > high:
        raise ValueError(RANGE)
    return low, high


def _rhythms(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [{"every": value, "share": 1}]


def _strict(kind: type, words: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
            raise ValueError(words)
        return value

    return check


def _number(words: str, least: float, most: float, *, above: bool = False) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(words)
        if above and value == least:
            raise ValueError(words)
        return float(value)

    return check


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1_000_000:
        raise ValueError("a whole number, 1 or more")
    return value


def _name(value: Any) -> Any:
    if not isinstance(value, str) or value not in [kind.value for kind in ScenarioEventKind]:
        raise ValueError(", ".join(ScenarioEventKind))
    return value


def _cure(value: Any) -> Any:
    if value not in ("restart_app", "reboot_host", "power_cycle", "nothing"):
        raise ValueError("restart_app, reboot_host, power_cycle, nothing")
    return value


Seconds = Annotated[float, BeforeValidator(_duration)]
Range = Annotated[tuple[float, float], BeforeValidator(_range)]
Count = Annotated[int, BeforeValidator(_count)]
Share = Annotated[float, BeforeValidator(_number("a share, 0 to 1", 0, 1))]
Positive = Annotated[float, BeforeValidator(_number("a number greater than 0", 0, 1e9, above=True))]
Number = Annotated[float, BeforeValidator(_number("a number", -1e9, 1e9))]
Flag = Annotated[bool, BeforeValidator(_strict(bool, "true or false"))]
Words = Annotated[str, BeforeValidator(_strict(str, "text"))]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RhythmTable(_Table):
    """A share of the fleet beats ``every`` so many seconds."""

    every: Annotated[Seconds, Field(ge=1)]
    share: Share


class FleetTable(_Table):
    """What the clients are like.

    ``jitter`` is the share by which single heartbeats come early or late, ``lost`` the share of them that
    never arrives, ``skew`` how far clocks are off at most. ``keepalive`` is MQTT's: after one and a half of
    it the broker notices a dead connection. Ranges are drawn from evenly.
    """

    heartbeat: Annotated[tuple[RhythmTable, ...], BeforeValidator(_rhythms)] = (
        RhythmTable(every=30, share=1.0),
    )
    jitter: Share = 0.02
    lost: Share = 0.0
    skew: Seconds = 0.0
    sites: Count | None = None
    persistent_sessions: Share = 1.0
    keepalive: Seconds = 60.0
    reconnects_within: Seconds = 20.0
    app_start: Range = (4.0, 12.0)
    boot: Range = (30.0, 60.0)

    @field_validator("heartbeat", mode="after")
    @classmethod
    def _shares_make_one(cls, value: tuple[RhythmTable, ...]) -> tuple[RhythmTable, ...]:
        if abs(sum(rhythm.share for rhythm in value) - 1) > 1e-6:
            raise ValueError("a duration, or a list of {every = DURATION, share = SHARE}; shares make 1")
        return value


class Event(_Table):
    """Something that happens to clients at ``at``, ``times`` times ``every`` so many seconds.

    To how many: ``clients`` of them, or a ``share`` of the fleet, or ``sites`` whole ones, or each client so
    and so often (``per_year``) at random during the whole scenario. ``within`` spreads the beginnings;
    ``same`` takes the same clients each time.

    ``lasts`` is how long it takes to pass by itself, None for never. ``cured_by`` is the mildest action that
    ends it; a milder one helps for ``again_after`` seconds. ``seconds`` is how far a clock jumps.
    """

    what: Annotated[ScenarioEventKind, BeforeValidator(_name)]
    at: Seconds = 0
    clients: Count | None = None
    share: Share | None = None
    sites: Count | None = None
    per_year: Positive | None = None
    within: Seconds = 0
    times: Count = 1
    every: Seconds = 0
    same: Flag = True
    lasts: Range | None = None
    cured_by: Annotated[Cure, BeforeValidator(_cure)] | None = None
    again_after: Seconds = 0
    seconds: Number = 0

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        whom = [name for name in ("clients", "share", "sites", "per_year") if getattr(self, name) is not None]
        if self.what in FOR_EVERYBODY:
            if whom:
                raise ValueError(f"{self.what} happens to everybody; {', '.join(whom)} makes no sense")
        elif self.what is ScenarioEventKind.SITE_OUTAGE:
            if whom != ["sites"]:
                raise ValueError("site_outage needs `sites` in the event, and `sites` in [fleet]")
        elif len(whom) != 1 or whom == ["sites"]:
            raise ValueError("needs exactly one of clients, share and per_year")
        if self.what in PASSES and self.lasts is None:
            raise ValueError(f"{self.what} passes by itself: say how long it `lasts`")
        if self.times > 1 and self.every <= 0:
            raise ValueError("`times` needs `every`")
        return self


class Scenario(_Table):
    """A fleet and what happens to it. ``outage`` marks those in which every action is one too many."""

    name: Words = ""
    description: Words = ""
    lasts: Seconds = 3_600.0
    clients: Count = 300
    outage: Flag = False
    fleet: FleetTable = FleetTable()
    event: tuple[Event, ...] = ()

    @model_validator(mode="after")
    def _has_its_sites(self) -> Self:
        for event in self.event:
            if event.what is ScenarioEventKind.SITE_OUTAGE and (event.sites or 0) > (self.fleet.sites or 0):
                raise ValueError(
                    f"site_outage needs `sites` in [fleet]; there are {self.fleet.sites or 'none'}"
                )
        return self
