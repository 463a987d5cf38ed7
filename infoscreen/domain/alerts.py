"""What is wrong with the installation itself, not with a client: codes with arguments, and their severity."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from infoscreen.domain.certificates import Lifetime, Validity
from infoscreen.domain.codes import Code, Fact


class Severity(StrEnum):
    """The severity of an alert."""

    WARNING = "warning"
    CRITICAL = "critical"


class Certificate(StrEnum):
    """The certificates that are watched."""

    BROKER = "broker"
    CA = "ca"
    CLIENT = "client"
    HTTP = "http"


class AlertCode(Code):
    """What an alert says."""

    CERTIFICATE_ENDS = "certificate_ends", {"which": Certificate, "at": datetime}
    CERTIFICATE_EXPIRED = "certificate_expired", {"which": Certificate, "at": datetime}
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid", {"which": Certificate, "at": datetime}
    CERTIFICATE_UNREADABLE = "certificate_unreadable", {"which": Certificate}
    BROKER_NAME_NOT_CHECKED = "broker_name_not_checked"
    BROKER_WITHOUT_TLS = "broker_without_tls", {"host": str}
    HTTP_WITHOUT_TLS = "http_without_tls", {"host": str}
    BROKER_ACL_OPEN = "broker_acl_open", {"since": datetime}
    CLIENT_ID_TAKEN = "client_id_taken"
    OUTLET_LEFT_OFF = "outlet_left_off", {"client": str, "since": datetime}
    LOGINS_FAIL = "logins_fail", {"failures": int}
    CHANNEL_FAILS = "channel_fails", {"channel": str, "since": datetime}
    LOGINS_FAIL_FROM = "logins_fail_from", {"failures": int, "address": str}


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert; it lasts until its cause is gone."""

    fact: Fact[AlertCode]
    severity: Severity


AlertSource = Callable[[], Iterable[Alert]]
"""Returns the alerts that are true at the moment; asked for each page, so it must not wait for anything."""


def certificate_alert(which: Certificate, life: Lifetime, now: datetime) -> Alert | None:
    """Return the alert about a certificate's dates, if there is one."""
    validity = life.at(now)
    match validity:
        case Validity.VALID:
            return None
        case Validity.EXPIRED:
            code, at = AlertCode.CERTIFICATE_EXPIRED, life.not_after
        case Validity.NOT_YET_VALID:
            code, at = AlertCode.CERTIFICATE_NOT_YET_VALID, life.not_before
        case _:
            code, at = AlertCode.CERTIFICATE_ENDS, life.not_after
    severity = Severity.CRITICAL if validity.is_critical else Severity.WARNING
    return Alert(Fact(code, {"which": which, "at": at}), severity)
