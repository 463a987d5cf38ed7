"""What the recovery looks like in JSON; the names become the names in the OpenAPI document."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from infoscreen.domain.commands import Action
from infoscreen.storage.pauses import Scope
from infoscreen.web.api.identifiers import Identifier
from infoscreen.web.api.models import Incident
from infoscreen.web.api.requests import Label, NoneIfBlank, Reason, utc
from infoscreen.web.shapes import Answer, Body, Listing, Paging

Mode = Literal["active", "dry_run", "paused"]


class RecoveryQuery(Paging):
    """Which decisions of the recovery; without ``past`` only those that stand."""

    client_uuid: Identifier | None = None
    site: Annotated[str | None, Field(max_length=200)] = None
    kind: Literal["act", "wait", "hold"] | None = None
    reason: Annotated[str | None, Field(max_length=40)] = None
    incident_id: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    past: bool = False


class IncidentsQuery(Paging):
    """Which page of the incidents."""


class _Scoped(Body):
    scope: Scope = Field(strict=False)
    site: Label | None = Field(default=None, description="With the scope site.")
    client_uuid: Identifier | None = Field(default=None, description="With the scope client.")


class PauseRequest(_Scoped):
    """Leave a client, a site or the fleet alone until a time."""

    reason: Annotated[Reason, Field(min_length=1)]
    until: Annotated[AwareDatetime, AfterValidator(utc)]


class ResumeRequest(_Scoped):
    """End the pause of exactly this scope."""


class RecoveryAcknowledgement(Body):
    """Somebody takes care of a client that the recovery has given up on."""

    comment: Annotated[Reason | None, NoneIfBlank] = None


class RecoveryPause(Answer):
    """A pause; ``ended_at`` is set when it was ended by hand."""

    id: int
    scope: Scope
    site: str | None
    client_uuid: str | None
    reason: str
    by: str
    created_at: datetime
    until: datetime
    ended_at: datetime | None
    ended_by: str | None


class EndedPauses(Answer):
    """The pauses that were ended; none if nothing was paused."""

    ended: list[RecoveryPause]


class IncidentList(Listing[Incident]):
    """A page of incidents, newest first."""


class Decision(Answer):
    """What was decided for a client, and why. ``times`` polls in a row came to the same."""

    client_uuid: str
    kind: str = Field(description="act, wait or hold.")
    reason: str = Field(description="A stable code.")
    sentence: str = Field(description="The reason as a sentence.")
    rung: str | None
    action: Action | None
    until: datetime | None
    would: bool = Field(description="Dry run: nothing was done.")
    incident_id: int | None
    first_at: datetime
    last_at: datetime | None = Field(description="Null while it stands.")
    times: int | None


class DecisionList(Listing[Decision]):
    """A page of decisions, newest first."""


class Hold(Answer):
    """What holds the whole recovery, or a site of it, back just now."""

    reason: str
    site: str | None
    since: datetime | None
    until: datetime | None
    sentence: str


class Budget(Answer):
    """How much may be done at the same time."""

    in_flight: int
    most_in_flight: int
    per_poll: int


class RecoveryState(Answer):
    """What the recovery does just now."""

    mode: Mode
    polled_at: datetime | None
    holds: list[Hold]
    budget: Budget
    pauses: list[RecoveryPause]
    incidents: list[Incident]
    counts: dict[str, int] = Field(description="Unwell clients by the reason of their decision.")


class RecoveryReport(RecoveryState):
    """What the recovery does just now, and a page of its decisions."""

    decisions: DecisionList
