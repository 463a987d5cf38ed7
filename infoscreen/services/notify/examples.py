"""Messages about things that do not exist, to see what a message says."""

from datetime import datetime, timedelta

from infoscreen.domain.alerts import AlertCode, Certificate, Severity
from infoscreen.domain.codes import Fact, Value
from infoscreen.domain.notifying import CRITICAL, NoticeStep
from infoscreen.domain.recovery import OUTAGES, Closing, Incident, IncidentKind, Reason
from infoscreen.services.ports import Notice

LASTED = timedelta(minutes=25)
SITE, NETWORK, CLIENT = "Messe", "192.0.2.0/24", "Foyer 1"
MEMBERS, NAMED = 40, 20
OF_MANY = OUTAGES | {IncidentKind.LEFT_BEHIND, IncidentKind.ALIKE, IncidentKind.COMMANDS_UNANSWERED}


def example(kind: IncidentKind, step: NoticeStep, now: datetime) -> Notice:
    """Return a message of that kind and step."""
    severity = Severity.CRITICAL if kind in CRITICAL else Severity.WARNING
    message = Notice(
        message_id="00000000-0000-4000-8000-000000000000",
        step=step,
        number=1,
        severity=severity,
        created_at=now,
        text="..." if step is NoticeStep.TEXT else None,
        counts={"client opened": 120, "site_outage resolved": 3} if step is NoticeStep.SUMMARY else {},
    )
    if step in (NoticeStep.TEST, NoticeStep.TEXT, NoticeStep.SUMMARY):
        return message
    over = step is NoticeStep.RESOLVED
    many = kind in OF_MANY
    return Notice(
        **{name: getattr(message, name) for name in ("message_id", "step", "number", "severity")},
        created_at=now,
        incident=Incident(
            key="example",
            kind=kind,
            began_at=now - LASTED,
            site=SITE,
            network=NETWORK,
            members=MEMBERS if many else 0,
            ended_at=now if over else None,
            closing=Closing.OVER if over else None,
            facts={"client": CLIENT},
        ),
        incident_id=1,
        clients=[f"Foyer {number}" for number in range(1, NAMED + 1)] if many else (),
        alert=_alert(kind, now),
        reason=(Reason.EXHAUSTED, {"tried": 3}) if kind is IncidentKind.CLIENT else None,
        link=None if over else "...",
    )


def _alert(kind: IncidentKind, now: datetime) -> Fact[AlertCode] | None:
    match kind:
        case IncidentKind.CERTIFICATE:
            arguments: dict[str, Value] = {"which": Certificate.BROKER, "at": now + timedelta(days=30)}
            return Fact(AlertCode.CERTIFICATE_ENDS, arguments)
        case IncidentKind.AUTHENTICATION:
            return Fact(AlertCode.LOGINS_FAIL_FROM, {"failures": 250, "address": "192.0.2.7"})
        case IncidentKind.BROKER:
            return Fact(AlertCode.CLIENT_ID_TAKEN)
        case IncidentKind.POWER:
            since = now - timedelta(minutes=1)
            return Fact(AlertCode.OUTLET_LEFT_OFF, {"client": CLIENT, "since": since})
        case _:
            return None
