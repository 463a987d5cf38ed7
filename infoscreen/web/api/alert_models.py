"""Alerts about the installation as the API tells them."""

from typing import Self

from infoscreen.domain.alerts import Alert, AlertCode, Severity
from infoscreen.web.shapes import Answer
from infoscreen.words.speaking import say


class AlertModel(Answer):
    """An alert about the installation; ``text`` says it in the language asked for."""

    code: AlertCode
    severity: Severity
    arguments: dict[str, str | int | float]
    text: str

    @classmethod
    def of(cls, alert: Alert) -> Self:
        """Return the alert as the API tells it."""
        fact = alert.fact
        return cls(code=fact.code, severity=alert.severity, arguments=fact.packed(), text=say(fact))
