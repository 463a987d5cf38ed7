"""The panel's words for the recovery as a whole: modes, endings and incidents."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.domain.recovery import Ending, IncidentKind
from infoscreen.services.explaining import Mode
from infoscreen.storage.decisions import StoredDecision
from infoscreen.storage.incidents import StoredIncident
from infoscreen.words.language import N_, Language
from infoscreen.words.recovery import why

MODES: Mapping[Mode, str] = MappingProxyType(
    {
        Mode.ACTIVE: N_("Active"),
        Mode.DRY_RUN: N_("Dry run"),
        Mode.PAUSED: N_("Paused"),
        Mode.OFF: N_("Not running yet"),
    }
)

MODE_SENTENCES: Mapping[Mode, str] = MappingProxyType(
    {
        Mode.ACTIVE: N_("Clients that crash or fall silent are restarted or rebooted automatically."),
        Mode.DRY_RUN: N_(
            "No automatic action: you see what would be done. CRASH_RECOVERY_ENABLED switches it on."
        ),
        Mode.PAUSED: N_("Somebody has paused it for all clients."),
        Mode.OFF: N_("It has not checked the fleet yet."),
    }
)

ENDINGS: Mapping[Ending, str] = MappingProxyType(
    {
        Ending.DONE: N_("In progress; its effect is checked afterwards."),
        Ending.TIME: N_("Decided again then, or earlier if the client changes."),
        Ending.OBSERVATION: N_("Checked again every few seconds until the situation has changed."),
        Ending.HUMAN: N_("No further automatic action until somebody acts or the client is back online."),
    }
)


def decided(decision: StoredDecision, language: Language) -> str:
    """Say why something is done or not."""
    return why(decision.reason, decision.arguments, language, would=decision.would)


def incident_title(incident: StoredIncident, language: Language) -> str:
    """Say what an incident is about."""
    _ = language.gettext
    match incident.kind:
        case IncidentKind.FLEET_OUTAGE:
            return _("Outage of the fleet")
        case IncidentKind.SITE_OUTAGE:
            return _("Outage of %(site)s") % {"site": incident.site}
        case IncidentKind.OBSERVER:
            return _("The server cannot judge the fleet")


def incident_sentence(incident: StoredIncident, language: Language) -> str:
    """Say what follows from an incident."""
    _ = language.gettext
    if incident.calm_since is not None:
        return _("It is over; clients get time to come back by themselves before anything is done.")
    match incident.kind:
        case IncidentKind.FLEET_OUTAGE:
            return _("The cause is the network or the broker, not the clients: no action is taken.")
        case IncidentKind.SITE_OUTAGE:
            return _(
                "The cause is the network or the power supply of the site, not its clients: no "
                "action is taken there. The rest of the fleet is still recovered."
            )
        case IncidentKind.OBSERVER:
            return _("The state of the clients is unknown at the moment, so no action is taken.")
