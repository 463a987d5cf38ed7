"""Automatic recovery as pure rules: what to do about every client that is not well, and why.

``decide(snapshot, policy, now)`` is all that the loop calls; see ``docs/recovery.md``.
"""

from infoscreen.domain.recovery.deciding import decide
from infoscreen.domain.recovery.ladder import Attempt, Ladder, Phase, Trouble, acknowledged
from infoscreen.domain.recovery.outage import (
    WITNESSES,
    Blindness,
    Census,
    Incident,
    IncidentKind,
    Observer,
    can_witness,
    count_up_to,
    counted_since,
)
from infoscreen.domain.recovery.plan import Budget, Decided, Decision, Plan, Verb
from infoscreen.domain.recovery.policy import RecoveryPolicy, Rung
from infoscreen.domain.recovery.reasons import Ending, Reason, sentence
from infoscreen.domain.recovery.snapshot import Patient, Pause, Snapshot

__all__ = [
    "WITNESSES",
    "Attempt",
    "Blindness",
    "Budget",
    "Census",
    "Decided",
    "Decision",
    "Ending",
    "Incident",
    "IncidentKind",
    "Ladder",
    "Observer",
    "Patient",
    "Pause",
    "Phase",
    "Plan",
    "Reason",
    "RecoveryPolicy",
    "Rung",
    "Snapshot",
    "Trouble",
    "Verb",
    "acknowledged",
    "can_witness",
    "count_up_to",
    "counted_since",
    "decide",
    "sentence",
]
