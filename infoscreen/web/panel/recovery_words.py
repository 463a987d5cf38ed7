"""The panel's words for the recovery as a whole: modes and holds."""

from collections.abc import Mapping
from types import MappingProxyType

from infoscreen.services.recovery.explain import HoldShown, RecoveryMode
from infoscreen.words.language import N_, Language
from infoscreen.words.recovery import why

MODES: Mapping[RecoveryMode, str] = MappingProxyType(
    {
        RecoveryMode.ACTIVE: N_("Active"),
        RecoveryMode.HOLDING: N_("Holding"),
        RecoveryMode.DRY_RUN: N_("Dry run"),
        RecoveryMode.PAUSED: N_("Paused"),
        RecoveryMode.OFF: N_("Not running yet"),
    }
)

MODE_SENTENCES: Mapping[RecoveryMode, str] = MappingProxyType(
    {
        RecoveryMode.ACTIVE: N_(
            "Clients that crash or fall silent are restarted and rebooted automatically."
        ),
        RecoveryMode.HOLDING: N_(
            "Many clients have a cause in common: no automatic action is taken on them. The others are "
            "recovered "
            "as usual."
        ),
        RecoveryMode.DRY_RUN: N_(
            "No automatic action is taken: you see what would be done. CRASH_RECOVERY_ENABLED switches it on."
        ),
        RecoveryMode.PAUSED: N_("Somebody has paused it for all clients."),
        RecoveryMode.OFF: N_("It has not checked the fleet yet."),
    }
)


def held(hold: HoldShown, language: Language) -> str:
    """Say what holds back more than single clients."""
    return why(hold.reason, hold.arguments, language)
