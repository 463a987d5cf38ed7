"""Why the recovery does something or nothing: stable codes with typed arguments, and what ends each."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

Arguments = Mapping[str, str | int]
"""What fills the gaps of a sentence: plain values that fit into a column of JSON."""


class Reason(StrEnum):
    """Why, in one word. Stored, counted and documented: never rename one."""

    ACT_RESTART_APP = "act_restart_app"
    ACT_REBOOT_HOST = "act_reboot_host"
    ACT_POWER_CYCLE = "act_power_cycle"
    # We cannot judge.
    BROKER_DISCONNECTED = "broker_disconnected"
    OBSERVER_GRACE = "observer_grace"
    INGEST_LAG = "ingest_lag"
    COMMANDS_UNANSWERED = "commands_unanswered"
    # The cause is not the client's own.
    FLEET_OUTAGE = "fleet_outage"
    FLEET_SETTLING = "fleet_settling"
    SITE_OUTAGE = "site_outage"
    SITE_SETTLING = "site_settling"
    NETWORK_OUTAGE = "network_outage"
    NETWORK_SETTLING = "network_settling"
    OUTAGE_SUSPECTED = "outage_suspected"
    GONE = "gone"
    LEFT_BEHIND = "left_behind"
    WAVE = "wave"
    NO_EFFECT = "no_effect"
    # The client's own.
    MAINTENANCE = "maintenance"
    PAUSED = "paused"
    TAKEN_OVER = "taken_over"
    AUTO_RECOVERY_OFF = "auto_recovery_off"
    SHUT_DOWN = "shut_down"
    OFF_HOURS = "off_hours"
    CLOSING_SOON = "closing_soon"
    INCOMPREHENSIBLE = "incomprehensible"
    DUPLICATE = "duplicate"
    COMMAND_IN_FLIGHT = "command_in_flight"
    ORDERED = "ordered"
    WAITING_FOR_VERIFICATION = "waiting_for_verification"
    GRACE = "grace"
    BOOTING = "booting"
    KEEPALIVE = "keepalive"
    RHYTHM_UNKNOWN = "rhythm_unknown"
    FLAPPING = "flapping"
    MAY_BE_REBOOTING = "may_be_rebooting"
    LOCKOUT = "lockout"
    # Needs a human.
    EXHAUSTED = "exhausted"
    NO_OUTLET = "no_outlet"
    OUTLET_UNUSABLE = "outlet_unusable"
    LIMIT_REACHED = "limit_reached"
    REFUSED = "refused"
    UNANSWERED = "unanswered"
    # On the way back, or back.
    CONFIRMING = "confirming"
    RELAPSE_WATCH = "relapse_watch"
    RUNS_AGAIN = "runs_again"
    NOTHING_TO_DO = "nothing_to_do"


class Ending(StrEnum):
    """What comes next, so that nothing is without a next step."""

    DONE = "done"
    """It is carried out now."""
    TIME = "time"
    """``until`` tells when, at the latest."""
    OBSERVATION = "observation"
    """As soon as things are seen to have changed; looked at again on every poll."""
    HUMAN = "human"
    """Somebody has to do something, or the client to become well by itself."""


R, E = Reason, Ending

ENDINGS: Mapping[Reason, Ending] = MappingProxyType(
    {
        R.ACT_RESTART_APP: E.DONE,
        R.ACT_REBOOT_HOST: E.DONE,
        R.ACT_POWER_CYCLE: E.DONE,
        R.BROKER_DISCONNECTED: E.OBSERVATION,
        R.OBSERVER_GRACE: E.TIME,
        R.INGEST_LAG: E.OBSERVATION,
        R.COMMANDS_UNANSWERED: E.OBSERVATION,
        R.FLEET_OUTAGE: E.OBSERVATION,
        R.FLEET_SETTLING: E.TIME,
        R.SITE_OUTAGE: E.OBSERVATION,
        R.SITE_SETTLING: E.TIME,
        R.NETWORK_OUTAGE: E.OBSERVATION,
        R.NETWORK_SETTLING: E.TIME,
        R.OUTAGE_SUSPECTED: E.TIME,
        R.GONE: E.HUMAN,
        R.LEFT_BEHIND: E.HUMAN,
        R.WAVE: E.OBSERVATION,
        R.NO_EFFECT: E.HUMAN,
        R.MAINTENANCE: E.TIME,
        R.PAUSED: E.TIME,
        R.TAKEN_OVER: E.HUMAN,
        R.AUTO_RECOVERY_OFF: E.HUMAN,
        R.SHUT_DOWN: E.HUMAN,
        R.OFF_HOURS: E.OBSERVATION,
        R.CLOSING_SOON: E.TIME,
        R.INCOMPREHENSIBLE: E.HUMAN,
        R.DUPLICATE: E.HUMAN,
        R.COMMAND_IN_FLIGHT: E.TIME,
        R.ORDERED: E.TIME,
        R.WAITING_FOR_VERIFICATION: E.TIME,
        R.GRACE: E.TIME,
        R.BOOTING: E.TIME,
        R.KEEPALIVE: E.TIME,
        R.RHYTHM_UNKNOWN: E.TIME,
        R.FLAPPING: E.TIME,
        R.MAY_BE_REBOOTING: E.TIME,
        R.LOCKOUT: E.TIME,
        R.EXHAUSTED: E.HUMAN,
        R.NO_OUTLET: E.HUMAN,
        R.OUTLET_UNUSABLE: E.HUMAN,
        R.LIMIT_REACHED: E.HUMAN,
        R.REFUSED: E.HUMAN,
        R.UNANSWERED: E.HUMAN,
        R.CONFIRMING: E.TIME,
        R.RELAPSE_WATCH: E.TIME,
        R.RUNS_AGAIN: E.HUMAN,
        R.NOTHING_TO_DO: E.OBSERVATION,
    }
)

LEFT_TO_PEOPLE = frozenset({reason for reason, ending in ENDINGS.items() if ending is E.HUMAN} | {R.PAUSED})
"""Decisions for these reasons do nothing about a problem: somebody has to, or has said that they do."""
