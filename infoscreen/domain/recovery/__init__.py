"""Automatic recovery as pure rules: what to do about every client that is not well, and why.

``decide(snapshot, policy, now)`` is all that the loop calls; see ``docs/recovery.md``.
"""

from infoscreen.domain.recovery.attempts import followed_attempt
from infoscreen.domain.recovery.coincidence import RATE_UNLEARNED, usual_rate
from infoscreen.domain.recovery.deciding import decide
from infoscreen.domain.recovery.incidents import (
    OF_RECOVERY,
    OUTAGES,
    Blindness,
    Closing,
    Incident,
    IncidentKind,
    Observer,
    Sent,
)
from infoscreen.domain.recovery.ladder import (
    Attempt,
    Ladder,
    Outcome,
    Phase,
    Trouble,
    acknowledged,
    moved,
    moved_time,
)
from infoscreen.domain.recovery.plan import Decided, Decision, Plan, Verb, Verdict
from infoscreen.domain.recovery.policy import RecoveryPolicy, Rung
from infoscreen.domain.recovery.reasons import Ending, Reason
from infoscreen.domain.recovery.snapshot import (
    FLEET,
    Hold,
    InFlight,
    Meanwhile,
    Patient,
    Pause,
    Population,
    Scope,
    ScopeKind,
    Snapshot,
    network_of,
)

__all__ = [
    "FLEET",
    "OF_RECOVERY",
    "OUTAGES",
    "RATE_UNLEARNED",
    "Attempt",
    "Blindness",
    "Closing",
    "Decided",
    "Decision",
    "Ending",
    "Hold",
    "InFlight",
    "Incident",
    "IncidentKind",
    "Ladder",
    "Meanwhile",
    "Observer",
    "Outcome",
    "Patient",
    "Pause",
    "Phase",
    "Plan",
    "Population",
    "Reason",
    "RecoveryPolicy",
    "Rung",
    "Scope",
    "ScopeKind",
    "Sent",
    "Snapshot",
    "Trouble",
    "Verb",
    "Verdict",
    "acknowledged",
    "decide",
    "followed_attempt",
    "moved",
    "moved_time",
    "network_of",
    "usual_rate",
]
