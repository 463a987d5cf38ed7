"""The entries of the navigation: one list, from which every page's bar and menu are made.

A page names its entry with ``here=``. What an entry leads to is a route with the same or a lower role.
"""

from dataclasses import dataclass
from enum import StrEnum

from infoscreen.domain.accounts import Role
from infoscreen.words.language import N_


class MenuGroup(StrEnum):
    """Daily work stands in the bar, administration in the menu."""

    DAILY = "daily"
    ADMINISTRATION = "administration"


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """A page in the navigation, shown to those that have at least ``role``."""

    key: str
    path: str
    title: str
    group: MenuGroup = MenuGroup.DAILY
    role: Role = Role.VIEWER


ENTRIES: tuple[MenuEntry, ...] = (
    MenuEntry("overview", "/", N_("Overview")),
    MenuEntry("clients", "/clients", N_("Clients")),
    MenuEntry("sites", "/sites", N_("Sites")),
    MenuEntry("incidents", "/incidents", N_("Incidents")),
    MenuEntry("availability", "/availability", N_("Availability")),
    MenuEntry("bulk", "/bulk", N_("Bulk actions"), MenuGroup.ADMINISTRATION),
    MenuEntry("audit", "/audit", N_("Audit trail"), MenuGroup.ADMINISTRATION, Role.ADMIN),
    MenuEntry("device_new", "/devices/new", N_("Add a client"), MenuGroup.ADMINISTRATION, Role.ADMIN),
    MenuEntry("notifications", "/notifications", N_("Notifications"), MenuGroup.ADMINISTRATION, Role.ADMIN),
)


def entries_for(role: Role | None, group: MenuGroup) -> list[MenuEntry]:
    """Return what somebody sees of a group; nothing before signing in."""
    if role is None:
        return []
    return [entry for entry in ENTRIES if entry.group is group and role.may(entry.role)]
