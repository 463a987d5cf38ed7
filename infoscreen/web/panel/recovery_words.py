"""The panel's words for the recovery as a whole: modes and holds."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.services.recovery.explain import HoldShown, Mode
from infoscreen.words.language import N_, Language
from infoscreen.words.recovery import why

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


def held(hold: HoldShown, language: Language) -> str:
    """Say what holds back more than single clients."""
    return why(hold.reason, hold.arguments, language)
