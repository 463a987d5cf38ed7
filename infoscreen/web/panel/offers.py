"""Which commands pages offer for a client, and what stands in the way; the same on all pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.clients import Client, Condition
from infoscreen.domain.commands import AT_THE_OUTLET, DISRUPTIVE, Action, ClientCommand
from infoscreen.words.language import N_, Language

ICONS: Mapping[Action, str] = MappingProxyType(
    {
        Action.RESTART_APP: "status",
        Action.REBOOT_HOST: "reboot",
        Action.SHUTDOWN_HOST: "shut_down",
        Action.SCREENSHOT: "brand",
        Action.DISPLAY_ON: "online",
        Action.DISPLAY_OFF: "close",
        Action.POWER_CYCLE: "shut_down",
    }
)

REMEDIES: Mapping[Condition, Action] = MappingProxyType(
    {
        Condition.CRASHED: Action.RESTART_APP,
        Condition.NOT_SHOWING: Action.RESTART_APP,
        Condition.HUNG: Action.REBOOT_HOST,
        Condition.UNREACHABLE: Action.REBOOT_HOST,
    }
)
"""The one command that is offered beside a problem."""

OUT_OF_REACH: Mapping[Condition, str] = MappingProxyType(
    {
        Condition.UNREACHABLE: N_("Not connected: no command would arrive."),
        Condition.SHUT_DOWN: N_("Switched off: no command would arrive."),
        Condition.OFF_HOURS: N_("Dark outside its operating hours: no command would arrive."),
        Condition.NEVER_SEEN: N_("Never connected: no command would arrive."),
    }
)
"""What is wrong with those that no command can reach."""


class Obstacles(NamedTuple):
    """In words what stands in the way of any command, and of a disruptive one; None for nothing."""

    any: str | None
    disruptive: str | None

    def to(self, action: Action) -> str | None:
        """Return what stands in the way of a command."""
        return self.any or (self.disruptive if action in DISRUPTIVE else None)


@dataclass(frozen=True, slots=True)
class Offer:
    """A command that this client can be sent, or could if nothing stood in the way."""

    action: Action
    obstacle: str | None

    @property
    def icon(self) -> str:
        """Return the name of its icon."""
        return ICONS[self.action]

    @property
    def danger(self) -> bool:
        """Tell whether it cannot be undone from here."""
        return self.action in AT_THE_OUTLET or self.action is Action.SHUTDOWN_HOST


def offers_of(client: Client, obstacles: Obstacles) -> list[Offer]:
    """Return what is offered: all disruptive commands, and of the others those the device can do."""
    able = set(client.capabilities)
    extra = [
        action
        for action in (Action.SCREENSHOT, Action.DISPLAY_ON, Action.DISPLAY_OFF)
        if action.value in able or (action is not Action.SCREENSHOT and "cec" in able)
    ]
    disruptive = [action for action in Action if action in DISRUPTIVE - AT_THE_OUTLET]
    return [Offer(action, obstacles.to(action)) for action in (*disruptive, *extra)]


def remedy_of(client: Client, obstacles: Obstacles) -> Offer | None:
    """Return the command that is offered beside the problem of a client, None where none would help."""
    action = REMEDIES.get(client.status)
    return None if action is None else Offer(action, obstacles.to(action))


def obstacles_of(
    client: Client,
    actor: Actor,
    in_flight: ClientCommand | None,
    locked_until: datetime | None,
    language: Language,
) -> Obstacles:
    """Return what stands in the way of commands to a client."""
    _ = language.gettext
    if not actor.role.may(Role.OPERATOR):
        return Obstacles(_("Only operators can send commands; you have read-only access."), None)
    if client.status in OUT_OF_REACH:
        return Obstacles(_(OUT_OF_REACH[client.status]), None)
    if in_flight is not None:
        return Obstacles(None, _("The next command can be sent when the current one has ended."))
    if locked_until is not None and not actor.role.may(Role.ADMIN):
        until = {"time": language.clock(locked_until)}
        return Obstacles(None, _("Locked until %(time)s after too many disruptive commands.") % until)
    return Obstacles(None, None)
