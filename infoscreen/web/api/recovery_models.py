"""What the recovery looks like in JSON; the names become the names in the OpenAPI document."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, Field

from infoscreen.domain.clients import Condition
from infoscreen.domain.recovery import Attempt, Ending, Meanwhile, Outcome, Phase, Reason, Verb
from infoscreen.services.recovery.explain import HoldShown, RecoveryMode
from infoscreen.storage.recovery.decisions import StoredDecision
from infoscreen.storage.recovery.pauses import PauseScope
from infoscreen.web.api.identifiers import Identifier
from infoscreen.web.api.models import IncidentModel
from infoscreen.web.api.requests import Label, NoneIfBlank, utc
from infoscreen.web.api.requests import Reason as Words
from infoscreen.web.shapes import Answer, Body, Listing, Paging
from infoscreen.words.recovery import decided, why


class RecoveryQuery(Paging):
    """Which decisions of the recovery; without ``past`` only those that stand."""

    client_uuid: Identifier | None = None
    site: Annotated[str | None, Field(max_length=200)] = None
    verb: Verb | None = None
    reason: Reason | None = None
    incident_id: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    past: bool = False


class IncidentsQuery(Paging):
    """Which page of the incidents; with ``open`` only those that have not ended."""

    open: bool = False


class IncidentAct(Body):
    """What a person says about an incident."""

    comment: Annotated[Words | None, NoneIfBlank] = None


class IncidentAnswer(IncidentModel):
    """One incident with its members, up to 1,000 of them."""

    client_uuids: list[str]


class _Scoped(Body):
    scope: PauseScope = Field(strict=False)
    site: Label | None = Field(default=None, description="With the scope site.")
    client_uuid: Identifier | None = Field(default=None, description="With the scope client.")


class PauseRequest(_Scoped):
    """Leave a client, a site or the fleet alone until a time."""

    reason: Annotated[Words, Field(min_length=1)]
    until: Annotated[AwareDatetime, AfterValidator(utc)]


class ResumeRequest(_Scoped):
    """End the pause of exactly this scope."""


class RecoveryAcknowledgement(Body):
    """Somebody takes care of a client that the recovery has given up on."""

    comment: Annotated[Words | None, NoneIfBlank] = None


class AcknowledgementRequest(RecoveryAcknowledgement):
    """Somebody takes care of a client: until a time, or until it is given back or well again."""

    recovery: Meanwhile = Field(strict=False, description="Whether the recovery keeps out of it meanwhile.")
    until: Annotated[AwareDatetime, AfterValidator(utc)] | None = None


class AcknowledgementModel(Answer):
    """Who takes care of a client, and whether the recovery keeps out of it."""

    by: str
    at: datetime
    until: datetime | None = Field(description="Null: until it is given back or well again.")
    comment: str | None
    recovery: Meanwhile


class RecoveryPause(Answer):
    """A pause; ``ended_at`` is set when it was ended by hand."""

    id: int
    scope: PauseScope
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


class IncidentList(Listing[IncidentModel]):
    """A page of incidents, newest first."""


class RecoveryDecision(Answer):
    """What was decided for a client, and why. ``times`` polls in a row came to the same."""

    client_uuid: str
    verb: Verb
    reason: Reason
    sentence: str = Field(description="The reason, said in the language asked for.")
    action: str | None = Field(description="What is done, with the verb act.")
    rung: int | None = Field(description="1 restart_app, 2 reboot_host, 3 power_cycle, 4 needs a human.")
    attempt: int | None
    until: datetime | None = Field(
        description="When it ends at the latest; null if that is no matter of time."
    )
    ending: Ending = Field(description="What ends it.")
    would: bool = Field(description="Dry run: nothing was done.")
    incident_id: int | None
    first_at: datetime
    last_at: datetime | None = Field(description="Null while it stands.")
    times: int | None

    @classmethod
    def of(cls, decision: StoredDecision) -> Self:
        """Return the decision with its sentence."""
        plain = {name: getattr(decision, name) for name in cls.model_fields if name != "sentence"}
        return cls(**plain, sentence=decided(decision))


class RecoveryDecisionList(Listing[RecoveryDecision]):
    """A page of decisions, newest first."""


class HoldModel(Answer):
    """What holds the recovery back just now for more than single clients."""

    reason: Reason
    site: str | None
    since: datetime | None
    until: datetime | None
    sentence: str

    @classmethod
    def of(cls, hold: HoldShown) -> Self:
        """Return the hold with its sentence."""
        said = why(hold.reason, hold.arguments)
        return cls(reason=hold.reason, site=hold.site, since=hold.since, until=hold.until, sentence=said)


class RecoveryState(Answer):
    """What the recovery does just now."""

    mode: RecoveryMode = Field(description="off: it has not looked at the fleet yet.")
    polled_at: datetime | None
    holds: list[HoldModel]
    pauses: list[RecoveryPause]
    incidents: list[IncidentModel]
    counts: dict[Reason, int] = Field(description="Clients by the reason of the decision for them.")


class RecoveryReport(RecoveryState):
    """What the recovery does just now, and a page of its decisions."""

    decisions: RecoveryDecisionList


class RecoveryAttempt(Answer):
    """Something that was tried. It is charged once the device has accepted it."""

    action: str
    rung: int
    command_id: str
    decided_at: datetime
    published_at: datetime | None
    accepted_at: datetime | None
    ended_at: datetime | None
    outcome: Outcome | None
    error_code: str | None = Field(description="Why the device refused it, or failed.")

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """Return the attempt."""
        names = [name for name in cls.model_fields if name not in {"action", "rung"}]
        plain = {name: getattr(attempt, name) for name in names}
        return cls(**plain, rung=attempt.rung, action=attempt.rung.action)


class RungState(Answer):
    """One rung of the ladder, as it is for this client."""

    rung: int
    action: str
    allowed: int = Field(description="How often it is tried; 0 for a rung that was removed.")
    tried: int = Field(description="How often it was tried on this ladder.")
    wait_seconds: float = Field(description="How long its effect is awaited.")
    current: bool


class Explanation(Answer):
    """How a client is, what the recovery makes of it, and what happens next."""

    client_uuid: str
    status: Condition
    status_since: datetime
    status_reason: str
    mode: RecoveryMode
    decision: RecoveryDecision | None = Field(description="Null while there is nothing to decide.")
    phase: Phase = Field(description="Where its ladder is; rest for a client that is well.")
    ladder: list[RungState]
    attempts: list[RecoveryAttempt] = Field(description="The newest first.")
    pauses: list[RecoveryPause]
    acknowledgement: AcknowledgementModel | None = Field(description="Null while nobody takes care of it.")
    next: str = Field(description="What happens next, said in the language asked for.")
    next_at: datetime | None = Field(description="When, at the latest; null if that is no matter of time.")
