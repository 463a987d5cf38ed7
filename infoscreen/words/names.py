"""Names in words for the members of our enums: conditions, actions, statuses, roles. Texts only, no rules."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from infoscreen.domain.accounts import Role
from infoscreen.domain.alerts import Certificate
from infoscreen.domain.bulk import BulkOutcome
from infoscreen.domain.clients import Condition, Presence, ProcessStatus
from infoscreen.domain.commands import Action, CommandStatus, Verification
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.history import Part, Setting
from infoscreen.words.alerts import BROKER_FAULTS
from infoscreen.words.language import N_, Language
from infoscreen.words.notices import CHANNEL_KINDS, MESSAGE_STATES, STEP_NAMES
from infoscreen.words.power import POWER_FAULTS

CONDITIONS: Mapping[Condition, str] = MappingProxyType(
    {
        Condition.ONLINE: N_("Online"),
        Condition.CRASHED: N_("Crashed"),
        Condition.NOT_SHOWING: N_("No picture"),
        Condition.HUNG: N_("No signal"),
        Condition.UNREACHABLE: N_("No signal"),
        Condition.SERVICE_FAILED: N_("Service failed"),
        Condition.INCOMPREHENSIBLE: N_("Not understood"),
        Condition.DUPLICATE: N_("Two clients"),
        Condition.MAINTENANCE: N_("Maintenance"),
        Condition.SHUT_DOWN: N_("Switched off"),
        Condition.OFF_HOURS: N_("Outside hours"),
        Condition.NEVER_SEEN: N_("Never seen"),
    }
)

CONDITIONS_TOLD: Mapping[Condition, str] = MappingProxyType(
    {
        **CONDITIONS,
        Condition.HUNG: N_("No signal (hangs)"),
        Condition.UNREACHABLE: N_("No signal (unreachable)"),
    }
)
"""In histories the two ways of being silent are told apart."""

ACTIONS: Mapping[Action, str] = MappingProxyType(
    {
        Action.RESTART_APP: N_("Restart app"),
        Action.REBOOT_HOST: N_("Reboot client"),
        Action.SHUTDOWN_HOST: N_("Shut down"),
        Action.SCREENSHOT: N_("Take screenshot"),
        Action.DISPLAY_ON: N_("Display on"),
        Action.DISPLAY_OFF: N_("Display off"),
        Action.POWER_CYCLE: N_("Power cycle"),
    }
)

ACTION_NOUNS: Mapping[Action, str] = MappingProxyType(
    {
        Action.RESTART_APP: N_("App restart"),
        Action.REBOOT_HOST: N_("Reboot"),
        Action.SHUTDOWN_HOST: N_("Shutdown"),
        Action.SCREENSHOT: N_("Screenshot"),
        Action.DISPLAY_ON: N_("Switching the display on"),
        Action.DISPLAY_OFF: N_("Switching the display off"),
        Action.POWER_CYCLE: N_("Power cycle"),
    }
)

EFFECTS: Mapping[Action, str] = MappingProxyType(
    {
        Action.RESTART_APP: N_(
            "The signage application is stopped and started again. The screen is dark for a few seconds; "
            "the client itself keeps running."
        ),
        Action.REBOOT_HOST: N_(
            "The whole client reboots. The screen is dark for one to three minutes, then the "
            "application starts again."
        ),
        Action.SHUTDOWN_HOST: N_(
            "The client is shut down and stays off. It cannot be switched on again from here, only on site."
        ),
        Action.SCREENSHOT: N_("The client sends a picture of what it shows. Nothing is interrupted."),
        Action.DISPLAY_ON: N_("The display at the client is switched on."),
        Action.DISPLAY_OFF: N_("The display at the client goes dark; the client itself keeps running."),
        Action.POWER_CYCLE: N_(
            "The server switches the client's outlet off, waits, and switches it on again. The client loses "
            "power without shutting down first; what it has not saved is lost. It starts again like after a "
            "power failure."
        ),
    }
)

COMMAND_STATUSES: Mapping[CommandStatus, str] = MappingProxyType(
    {
        CommandStatus.QUEUED: N_("Requested"),
        CommandStatus.PUBLISH_IN_PROGRESS: N_("Being sent"),
        CommandStatus.PUBLISHED: N_("Sent"),
        CommandStatus.ACCEPTED: N_("Accepted"),
        CommandStatus.EXECUTION_STARTED: N_("Running"),
        CommandStatus.COMPLETED: N_("Completed"),
        CommandStatus.FAILED: N_("Failed"),
        CommandStatus.EXPIRED: N_("Expired"),
        CommandStatus.CANCELLED: N_("Cancelled"),
        CommandStatus.BLOCKED_SAFETY: N_("Blocked by the lockout"),
    }
)

BULK_OUTCOMES: Mapping[BulkOutcome, str] = MappingProxyType(
    {
        BulkOutcome.PENDING: N_("Not looked at yet"),
        BulkOutcome.QUEUED: N_("Requested"),
        BulkOutcome.COMMAND_IN_FLIGHT: N_("Another command is under way"),
        BulkOutcome.LOCKED_OUT: N_("Locked after too many disruptive commands"),
        BulkOutcome.MAINTENANCE: N_("In maintenance"),
        BulkOutcome.NEVER_CONNECTED: N_("Never connected"),
        BulkOutcome.UNREACHABLE: N_("Not connected"),
        BulkOutcome.SWITCHED_OFF: N_("Switched off"),
        BulkOutcome.NOT_CAPABLE: N_("Cannot do this"),
        BulkOutcome.UNKNOWN_CLIENT: N_("No such client"),
        BulkOutcome.STOPPED: N_("Stopped before it began"),
    }
)

VERIFICATIONS: Mapping[Verification, str] = MappingProxyType(
    {
        Verification.PENDING: N_("Effect is being checked"),
        Verification.VERIFIED: N_("Effect verified"),
        Verification.CONTRADICTED: N_("Effect contradicted"),
        Verification.UNVERIFIABLE: N_("Effect cannot be checked"),
    }
)

PROCESSES: Mapping[ProcessStatus, str] = MappingProxyType(
    {
        ProcessStatus.RUNNING: N_("running"),
        ProcessStatus.STARTING: N_("starting"),
        ProcessStatus.STOPPED: N_("stopped"),
        ProcessStatus.CRASHED: N_("crashed"),
        ProcessStatus.OTHER: N_("in an unknown state"),
    }
)

PRESENCES: Mapping[Presence, str] = MappingProxyType(
    {Presence.ONLINE: N_("connected"), Presence.OFFLINE: N_("disconnected")}
)

PARTS: Mapping[Part, str] = MappingProxyType(
    {
        Part.PUBLISHER: N_("Server"),
        Part.DEVICE: N_("Client"),
        Part.SWEEP: N_("Deadline"),
        Part.RELEASE: N_("Queue"),
        Part.CLOCK: N_("Clock"),
        Part.VERIFICATION: N_("Check"),
        Part.RECOVERY: N_("Automatic recovery"),
        Part.OUTLET: N_("Outlet"),
    }
)

SETTINGS: Mapping[Setting, str] = MappingProxyType(
    {
        Setting.NAME: N_("name"),
        Setting.SITE: N_("site"),
        Setting.TAGS: N_("tags"),
        Setting.DESCRIPTION: N_("description"),
        Setting.MAINTENANCE: N_("maintenance"),
        Setting.AUTO_RECOVERY: N_("automatic recovery"),
        Setting.HOURS: N_("operating hours"),
        Setting.TIME_ZONE: N_("time zone"),
        Setting.COUNTRY: N_("country"),
    }
)

KINDS: Mapping[TimelineKind, str] = MappingProxyType(
    {
        TimelineKind.STATUS: N_("Status"),
        TimelineKind.PRESENCE: N_("Connection"),
        TimelineKind.REBOOT: N_("Reboot"),
        TimelineKind.SERVICE_FAILED: N_("Service failed"),
        TimelineKind.SERVICE_CLEARED: N_("Acknowledged"),
        TimelineKind.COMMAND: N_("Command"),
        TimelineKind.LOG: N_("Log"),
        TimelineKind.OPERATOR: N_("Manual change"),
        TimelineKind.RECOVERY: N_("Recovery"),
    }
)

ROLES: Mapping[Role, str] = MappingProxyType(
    {Role.VIEWER: N_("Viewer"), Role.OPERATOR: N_("Operator"), Role.ADMIN: N_("Administrator")}
)

CERTIFICATES: Mapping[Certificate, str] = MappingProxyType(
    {
        Certificate.BROKER: N_("The broker's certificate"),
        Certificate.CA: N_("The certificate of the broker's CA"),
        Certificate.CLIENT: N_("This server's certificate for the broker"),
        Certificate.HTTP: N_("The panel's certificate"),
    }
)

_VOCABULARY: tuple[Mapping[Any, str], ...] = (
    CONDITIONS,
    ACTIONS,
    COMMAND_STATUSES,
    BULK_OUTCOMES,
    VERIFICATIONS,
    PROCESSES,
    PRESENCES,
    PARTS,
    SETTINGS,
    KINDS,
    ROLES,
    CERTIFICATES,
    BROKER_FAULTS,
    POWER_FAULTS,
    CHANNEL_KINDS,
    MESSAGE_STATES,
    STEP_NAMES,
)
# By type first: members of different enums with the same text are equal.
_WORDS: Mapping[type[StrEnum], Mapping[Any, str]] = MappingProxyType(
    {type(next(iter(words))): words for words in _VOCABULARY}
)


def word(value: StrEnum, language: Language) -> str:
    """Return the name of a member of one of the enums above."""
    return language.gettext(_WORDS[type(value)][value])
