"""How the panel bundles conditions: what a tile counts, what a filter offers, and what has the same look."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from infoscreen.domain.clients import PROBLEMS, STALE, UNCLEAR, Condition
from infoscreen.services.monitoring import Overview
from infoscreen.words.language import N_

GROUPS: Mapping[str, frozenset[Condition]] = MappingProxyType(
    {
        "online": frozenset({Condition.ONLINE}),
        "crashed": frozenset({Condition.CRASHED}),
        "not_showing": frozenset({Condition.NOT_SHOWING}),
        "silent": STALE,
        "service_failed": frozenset({Condition.SERVICE_FAILED}),
        "incomprehensible": frozenset({Condition.INCOMPREHENSIBLE}),
        "duplicate": frozenset({Condition.DUPLICATE}),
        "maintenance": frozenset({Condition.MAINTENANCE}),
        "shut_down": frozenset({Condition.SHUT_DOWN}),
        "off_hours": frozenset({Condition.OFF_HOURS}),
        "never_seen": frozenset({Condition.NEVER_SEEN}),
        "unwell": STALE | {Condition.CRASHED, Condition.NOT_SHOWING},
        "unclear": UNCLEAR,
        "needs_person": STALE | UNCLEAR | {Condition.CRASHED, Condition.NOT_SHOWING},
        "recovering": STALE | {Condition.CRASHED, Condition.NOT_SHOWING},
        "problems": PROBLEMS,
        "unattended": PROBLEMS,
        "acknowledged": frozenset(Condition),
    }
)
"""What can be asked for as ``?status=``."""

CARED_FOR: Mapping[str, bool] = MappingProxyType(
    {"unattended": False, "acknowledged": True, "needs_person": False, "recovering": False}
)
"""Groups that also ask whether somebody takes care of a client."""

LEFT_TO_PEOPLE: Mapping[str, bool] = MappingProxyType({"needs_person": True, "recovering": False})
"""Groups that also ask whether the recovery leaves a client to people."""

RESTING = frozenset({Condition.MAINTENANCE, Condition.SHUT_DOWN, Condition.OFF_HOURS})
"""A failed service of these is shown, but counts as no problem."""

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "unattended": N_("Needs attention"),
        "needs_person": N_("Needs a person"),
        "recovering": N_("Being recovered"),
        "acknowledged": N_("Acknowledged"),
        "problems": N_("All problems"),
        "unwell": N_("Crashed, dark or silent"),
        "unclear": N_("Not clear"),
        "crashed": N_("Crashed"),
        "not_showing": N_("No picture"),
        "silent": N_("No signal"),
        "service_failed": N_("Service failed"),
        "incomprehensible": N_("Not understood"),
        "duplicate": N_("Two clients"),
        "online": N_("Online"),
        "maintenance": N_("Maintenance"),
        "shut_down": N_("Switched off"),
        "off_hours": N_("Outside hours"),
        "never_seen": N_("Never seen"),
    }
)

TILES = (
    "service_failed",
    "crashed",
    "not_showing",
    "silent",
    "unclear",
    "online",
    "maintenance",
    "off_hours",
    "shut_down",
)
"""The tiles from the left: what needs somebody first."""

_LOOKS = {
    condition: name
    for name in TITLES
    if name not in ("problems", "unwell", *CARED_FOR)
    for condition in GROUPS[name]
} | dict.fromkeys(GROUPS["unclear"], "unclear")


@dataclass(frozen=True, slots=True)
class Tile:
    """A count that is a link to what it counts."""

    group: str
    count: int

    @property
    def title(self) -> str:
        """Return the word on it, to be translated."""
        return TITLES[self.group]

    @property
    def look(self) -> str:
        """Return the name of its colour and icon."""
        return self.group


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the headline, the title and the tiles count; the API's overview counts the same.

    ``problems`` are clients with a problem that nobody takes care of, ``acknowledged`` those of any condition
    that somebody does; ``totals`` are all, and the groups of the tiles add up to them.
    """

    totals: Mapping[Condition, int]
    fleet: int
    problems: int
    acknowledged: int


def numbers_of(overview: Overview | None) -> Numbers:
    """Return all numbers of a page."""
    if overview is None:
        return Numbers({}, 0, 0, 0)
    totals = overview.totals
    return Numbers(totals, sum(totals.values()), overview.problems, sum(overview.acknowledged.values()))


def tiles(totals: Mapping[Condition, int]) -> list[Tile]:
    """Return the tiles with their counts."""
    return [Tile(group, _count(totals, group)) for group in TILES]


def _count(totals: Mapping[Condition, int], group: str) -> int:
    return sum(totals.get(one, 0) for one in GROUPS[group])


def look_of(condition: Condition) -> str:
    """Return the name of the colour and icon of a condition; both ways of being silent look the same."""
    return _LOOKS[condition]
