"""How the panel bundles conditions: what a tile counts, what a filter offers, and what has the same look."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from infoscreen.domain.clients import STALE, Condition
from infoscreen.words.language import N_

GROUPS: Mapping[str, frozenset[Condition]] = MappingProxyType(
    {
        "online": frozenset({Condition.ONLINE}),
        "crashed": frozenset({Condition.CRASHED}),
        "silent": STALE,
        "service_failed": frozenset({Condition.SERVICE_FAILED}),
        "incomprehensible": frozenset({Condition.INCOMPREHENSIBLE}),
        "duplicate": frozenset({Condition.DUPLICATE}),
        "maintenance": frozenset({Condition.MAINTENANCE}),
        "shut_down": frozenset({Condition.SHUT_DOWN}),
        "never_seen": frozenset({Condition.NEVER_SEEN}),
        "unwell": STALE | {Condition.CRASHED},
        "problems": STALE
        | {
            Condition.CRASHED,
            Condition.SERVICE_FAILED,
            Condition.INCOMPREHENSIBLE,
            Condition.DUPLICATE,
        },
    }
)
"""What can be asked for as ``?status=``."""

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "problems": N_("All problems"),
        "unwell": N_("Crashed or silent"),
        "crashed": N_("Crashed"),
        "silent": N_("No signal"),
        "service_failed": N_("Service failed"),
        "incomprehensible": N_("Not understood"),
        "duplicate": N_("Two devices"),
        "online": N_("Online"),
        "maintenance": N_("Maintenance"),
        "shut_down": N_("Switched off"),
        "never_seen": N_("Never seen"),
    }
)

TILES = ("service_failed", "crashed", "silent", "online", "maintenance", "shut_down")
"""The tiles from the left: what needs somebody first."""

_LOOKS = {
    condition: name for name in TITLES if name not in ("problems", "unwell") for condition in GROUPS[name]
} | {Condition.INCOMPREHENSIBLE: "service_failed", Condition.DUPLICATE: "service_failed"}


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


def tiles(totals: Mapping[Condition, int]) -> list[Tile]:
    """Return the tiles with their counts."""
    return [Tile(group, sum(totals.get(one, 0) for one in GROUPS[group])) for group in TILES]


def look_of(condition: Condition) -> str:
    """Return the name of the colour and icon of a condition; both ways of being silent look the same."""
    return _LOOKS[condition]
