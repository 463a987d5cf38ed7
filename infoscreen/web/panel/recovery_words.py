"""The panel's words for the recovery: modes, lines of a client's timeline, and what people did."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from infoscreen.domain.commands import ClientCommand, Source
from infoscreen.domain.recovery import Outcome, Reason, Rung
from infoscreen.services.recovery.explain import HoldShown, Mode
from infoscreen.words import recovery as words
from infoscreen.words.language import N_, Language

MODES: Mapping[Mode, str] = MappingProxyType(
    {
        Mode.ACTIVE: N_("Active"),
        Mode.HOLDING: N_("Holding"),
        Mode.DRY_RUN: N_("Dry run"),
        Mode.PAUSED: N_("Paused"),
        Mode.OFF: N_("Not running yet"),
    }
)

MODE_SENTENCES: Mapping[Mode, str] = MappingProxyType(
    {
        Mode.ACTIVE: N_("Clients that crash or fall silent are restarted and rebooted by themselves."),
        Mode.HOLDING: N_(
            "Many clients have a cause in common and are not touched; the others are taken care of as usual."
        ),
        Mode.DRY_RUN: N_(
            "Nothing is done by itself: you see what would be done. CRASH_RECOVERY_ENABLED switches it on."
        ),
        Mode.PAUSED: N_("Somebody has paused it for all clients."),
        Mode.OFF: N_("It has not looked at the fleet yet."),
    }
)

ACTS = frozenset({"recovery.pause", "recovery.resume", "recovery.acknowledge"})


def ordered(command: ClientCommand, language: Language) -> str:
    """Say for which reason a command was requested; the recovery's own say nothing besides who asked."""
    return "" if command.source is Source.RECOVERY else command.reason or ""


def held(hold: HoldShown, language: Language) -> str:
    """Say what holds back more than single clients."""
    return words.reason_in_words(hold.reason, hold.arguments, language)


def told(data: Mapping[str, Any], language: Language) -> str:
    """Say what a line of a client's timeline means that the recovery stands behind."""
    _ = language.gettext
    if data["what"] == "decision":
        said = words.reason_in_words(Reason(data["reason"]), data["arguments"], language)
        return _(words.DRY_RUN) % {"sentence": said} if data["would"] else said
    rung = _(words.RUNGS[Rung(data["rung"])])
    if data["what"] == "attempt":
        return _("Attempt: %(rung)s") % {"rung": rung}
    outcome = _(words.OUTCOMES[Outcome(data["outcome"])])
    return _("%(rung)s: %(outcome)s") % {"rung": rung, "outcome": outcome}


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
