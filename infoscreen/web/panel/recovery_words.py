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
        Mode.ACTIVE: N_("Clients that crash or fall silent are restarted and rebooted by themselves."),
        Mode.DRY_RUN: N_(
            "Nothing is done by itself: you see what would be done. CRASH_RECOVERY_ENABLED switches it on."
        ),
        Mode.PAUSED: N_("Somebody has paused it for all clients."),
        Mode.OFF: N_("It has not looked at the fleet yet."),
    }
)

ENDINGS: Mapping[Ending, str] = MappingProxyType(
    {
        Ending.DONE: N_("It is being done now; then its effect has to show."),
        Ending.TIME: N_("Then it is decided anew, or earlier if the client changes."),
        Ending.OBSERVATION: N_(
            "It is looked at again every few seconds, until things are seen to have changed."
        ),
        Ending.HUMAN: N_("Nothing further happens by itself until somebody acts or the client becomes well."),
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
            return _("The server itself cannot see")


def incident_sentence(incident: StoredIncident, language: Language) -> str:
    """Say what follows from an incident."""
    _ = language.gettext
    if incident.calm_since is not None:
        return _("It is over; clients get time to come back by themselves before anything is done.")
    match incident.kind:
        case IncidentKind.FLEET_OUTAGE:
            return _("That is the network or the broker, not the clients: none of them is touched.")
        case IncidentKind.SITE_OUTAGE:
            return _(
                "That is the network or the power of the site, not its clients: none of them is touched. "
                "The rest of the fleet is taken care of."
            )
        case IncidentKind.OBSERVER:
            return _("Nothing can be said of any client just now, so none of them is touched.")
