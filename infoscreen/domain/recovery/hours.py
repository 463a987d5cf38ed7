"""What operating hours have to do with it: who may be dark, and what is left alone until an opening."""

from datetime import datetime

from infoscreen.domain.clients import Condition
from infoscreen.domain.hours import is_expected
from infoscreen.domain.recovery.cases import Case
from infoscreen.domain.recovery.plan import Verb, Verdict
from infoscreen.domain.recovery.policy import RecoveryPolicy
from infoscreen.domain.recovery.reasons import Reason


def outside_hours(case: Case, policy: RecoveryPolicy, now: datetime) -> Verdict | None:
    """Return the hold of a client that may be dark, or that nobody needs before it opens; else None."""
    patient = case.patient
    if case.off or patient.status is Condition.OFF_HOURS:
        if case.off and is_expected(patient, now):
            return Verdict(Verb.HOLD, Reason.CLOSING_SOON, patient.next_change_at)
        until = patient.expected_by if patient.within_hours else patient.next_change_at
        return Verdict(Verb.HOLD, Reason.OFF_HOURS, until if until is None or until > now else None)
    closed = not patient.within_hours
    if case.trouble is None or not closed:
        return None
    opens = patient.next_change_at
    repaired_from = None if opens is None else opens - policy.hours.opening_lead
    if repaired_from is not None and now >= repaired_from:
        return None
    return Verdict(Verb.HOLD, Reason.OFF_HOURS, repaired_from)
