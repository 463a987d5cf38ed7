"""What the API says of the broker."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from infoscreen.domain.broker import BrokerFault
from infoscreen.web.shapes import Answer


class BrokerHealthModel(Answer):
    """What is known of the broker itself."""

    acl: Literal["unknown", "in_force", "open"] = Field(
        description="Whether the ACL was in force at the last check. `open`: any device may do anything."
    )
    acl_checked_at: datetime | None
    acl_open_since: datetime | None
    failed_logins: int = Field(description="In the last ten minutes.")
    failed_logins_address: str | None = Field(description="Where most of them came from, if known.")
    failed_logins_alarm: bool = Field(description="Whether there are more than MQTT_AUTH_FAILURES_ALARM.")


class BrokerModel(Answer):
    """The daemon's listening connection; ``listening_since`` is null while it hears nothing."""

    connected: bool
    listening_since: datetime | None
    reconnects: int
    last_error: str | None
    dropped: int = Field(description="Messages the broker has dropped since it started, as it says itself.")
    dropped_at: datetime | None = Field(description="When it last did; null if not within 24 hours.")
    fault: BrokerFault | None = Field(description="Why there is no connection, as a code, if it is known.")
    taken_over_at: datetime | None = Field(
        description="When another program last took the daemon's client id again; null if not lately."
    )
    health: BrokerHealthModel
