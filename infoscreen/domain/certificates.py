"""How long certificates are still valid, and when that becomes an alert. Knows no X.509."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

WARN_BEFORE = timedelta(days=30)
"""`pki renew` renews what ends within this time, so a certificate in this state was not renewed."""
CRITICAL_BEFORE = timedelta(days=7)


class Validity(StrEnum):
    """What a certificate's dates mean at a moment."""

    VALID = "valid"
    EXPIRES_SOON = "expires_soon"
    EXPIRES_IN_DAYS = "expires_in_days"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"

    @property
    def is_critical(self) -> bool:
        """Tell whether connections fail already or will within ``CRITICAL_BEFORE``."""
        return self in {Validity.EXPIRES_IN_DAYS, Validity.EXPIRED, Validity.NOT_YET_VALID}


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The dates of a certificate; it is valid at both."""

    not_before: datetime
    not_after: datetime

    def at(self, now: datetime) -> Validity:
        """Return what the dates mean at ``now``."""
        if now < self.not_before:
            return Validity.NOT_YET_VALID
        left = self.not_after - now
        if left < timedelta():
            return Validity.EXPIRED
        if left <= CRITICAL_BEFORE:
            return Validity.EXPIRES_IN_DAYS
        return Validity.EXPIRES_SOON if left <= WARN_BEFORE else Validity.VALID
