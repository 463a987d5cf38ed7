"""What is to be alerted of the broker itself, from what was found of it."""

from collections.abc import Iterator

from infoscreen.domain.alerts import Alert, AlertCode, Severity
from infoscreen.domain.codes import Fact
from infoscreen.services.ports import LinkState


def alerts(state: LinkState) -> Iterator[Alert]:
    """Return the alerts about the broker, the gravest first."""
    health = state.health
    if health.acl_open_since is not None:
        yield Alert(Fact(AlertCode.BROKER_ACL_OPEN, {"since": health.acl_open_since}), Severity.CRITICAL)
    if state.taken_over_at is not None:
        yield Alert(Fact(AlertCode.CLIENT_ID_TAKEN), Severity.CRITICAL)
    if health.failed_logins_alarm:
        failures, address = health.failed_logins, health.failed_logins_address
        if address is None:
            yield Alert(Fact(AlertCode.LOGINS_FAIL, {"failures": failures}), Severity.WARNING)
        else:
            arguments: dict[str, int | str] = {"failures": failures, "address": address}
            yield Alert(Fact(AlertCode.LOGINS_FAIL_FROM, arguments), Severity.WARNING)
