"""The panel's words for the recovery: rungs, modes, outcomes, incidents, and what people did.

Why something was decided is said by the rules themselves, in both languages.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from infoscreen.domain.attempts import AttemptOutcome
from infoscreen.domain.commands import ClientCommand, Source
from infoscreen.domain.recovery import Ending, IncidentKind, Reason, Rung, sentence
from infoscreen.domain.recovery.reasons import WORDS
from infoscreen.services.recovery.explain import Mode
from infoscreen.storage.recovery.decisions import StoredDecision
from infoscreen.storage.recovery.incidents import StoredIncident
from infoscreen.words.language import N_, Language

RUNGS: Mapping[Rung, str] = MappingProxyType(
    {
        Rung.RESTART_APP: N_("App restart"),
        Rung.REBOOT_HOST: N_("Reboot"),
        Rung.POWER_CYCLE: N_("Power off and on"),
        Rung.HUMAN: N_("Somebody has to look"),
    }
)

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

OUTCOMES: Mapping[AttemptOutcome, str] = MappingProxyType(
    {
        AttemptOutcome.RECOVERED: N_("the client is well again"),
        AttemptOutcome.NO_EFFECT: N_("without effect"),
        AttemptOutcome.NOT_SENT: N_("never sent, does not count"),
    }
)

ACTS = frozenset({"recovery.pause", "recovery.resume", "recovery.acknowledge"})


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
    return decision.sentence(language.code)


_ORDERED = tuple(
    (reason, re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(WORDS[reason].english))))
    for reason in (Reason.ACT_RESTART_APP, Reason.ACT_REBOOT_HOST, Reason.ACT_POWER_CYCLE)
)
"""Devices are told in English why; here is what such a sentence was made of."""


def ordered(command: ClientCommand, language: Language) -> str:
    """Say for which reason a command was requested; the recovery's own reasons in the reader's language."""
    if command.source is Source.RECOVERY:
        for reason, pattern in _ORDERED:
            found = pattern.fullmatch(command.reason or "")
            if found:
                return sentence(reason, found.groupdict(), language.code)
    return command.reason or ""


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


def told(data: Mapping[str, Any], language: Language) -> str:
    """Say what a line of a client's timeline means that the recovery stands behind."""
    _ = language.gettext
    if data["what"] == "decision":
        return sentence(Reason(data["reason"]), data["arguments"], language.code, would=data["would"])
    rung = _(RUNGS[Rung(data["rung"])])
    dry = " (" + _("dry run") + ")" if data["would"] else ""
    if data["what"] == "attempt":
        return _("Attempt: %(rung)s") % {"rung": rung} + dry
    outcome = _(OUTCOMES[AttemptOutcome(data["outcome"])])
    return _("%(rung)s: %(outcome)s") % {"rung": rung, "outcome": outcome} + dry


def acted(data: Mapping[str, Any], language: Language) -> str:
    """Say what somebody did about the recovery of a client."""
    _ = language.gettext
    match data["act"]:
        case "recovery.pause":
            said = _("%(name)s has paused the automatic recovery: %(reason)s")
            return said % {"name": data["by"], "reason": data["reason"]}
        case "recovery.resume":
            return _("%(name)s has let the automatic recovery go on.") % {"name": data["by"]}
        case _:
            said = _("%(name)s takes care of it.") % {"name": data["by"]}
            return f"{said} {data['comment']}" if data.get("comment") else said
