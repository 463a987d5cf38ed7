"""What may be asked about clients and commands, and what may be asked of them."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from infoscreen.domain.clients import STALE, ClientEdit, Condition
from infoscreen.domain.commands import Action, CommandStatus, Source
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.faults import BadValue, FieldFault
from infoscreen.services.bulk import MOST_IN_A_BATCH
from infoscreen.services.commanding import LONGEST_EXPIRY, LONGEST_WAIT
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.commands import CommandQuery
from infoscreen.storage.rejected import KEPT
from infoscreen.web.api.identifiers import Identifier
from infoscreen.web.api.power import PowerChange
from infoscreen.web.shapes import Body, Paging, Query

D = TypeVar("D", bound=date)

LONGEST_REASON = 2_000
"""The wire contract's limit: devices are told the reason too."""

MOST_CLIENTS_PER_STREAM = 200
"""More identifiers would not fit into a request line."""

Sort = Literal["name", "-name", "last_alive", "-last_alive", "status_since", "-status_since"]

STATUS_WORDS = {**{condition.value: frozenset({condition}) for condition in Condition}, "stale": STALE}
"""What a filter may say; ``stale`` is both ways of being silent."""


def _words(given: Any) -> list[str]:
    """Return what a parameter names, whether it is repeated, separated by commas or both, each once."""
    parts = [given] if isinstance(given, str) else given
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise BadValue(FieldFault.NOT_A_LIST)
    words = [word.strip() for part in parts for word in part.split(",")]
    return [word for word in dict.fromkeys(words) if word]


def _conditions(given: Any) -> frozenset[Condition]:
    if isinstance(given, frozenset):
        return given
    words = _words(given)
    for word in words:
        if word not in STATUS_WORDS:
            raise BadValue(FieldFault.NOT_ONE_OF, allowed=", ".join(STATUS_WORDS))
    return frozenset().union(*(STATUS_WORDS[word] for word in words))


def _none_if_blank(given: Any) -> Any:
    return None if isinstance(given, str) and not given.strip() else given


def in_calendar(at: D) -> D:
    """Return it; raise ``ValueError`` near the edges of the calendar, where conversions overflow."""
    if not 1970 <= at.year <= 9000:
        raise BadValue(FieldFault.YEAR_NOT_ALLOWED, first="1970", last="9000")
    return at


def utc(at: datetime) -> datetime:
    """Return an aware time in UTC; raise ``ValueError`` near the edges of the calendar."""
    return in_calendar(at).astimezone(UTC)


Conditions = Annotated[
    frozenset[Condition],
    BeforeValidator(_conditions),
    WithJsonSchema({"type": "array", "items": {"type": "string", "enum": list(STATUS_WORDS)}}),
]
Searched = Annotated[str, StringConstraints(max_length=200)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]
Description = Annotated[str, StringConstraints(max_length=4_000)]
Reason = Annotated[str, StringConstraints(max_length=LONGEST_REASON)]
NoneIfBlank = BeforeValidator(_none_if_blank)


class ClientFilters(Query):
    """Which clients; what is left out does not restrict."""

    site: Searched | None = None
    tag: Searched | None = Field(default=None, description="A whole tag, exactly as it is written.")
    q: Searched | None = Field(
        default=None,
        description="Words in any order: each is part of the name, host name, site, IP address, UUID, a tag "
        "or a failed unit, without regard to case, accents and the spelling of umlauts.",
    )
    sort: Sort = "name"


class UnwellQuery(ClientFilters, Paging):
    """Clients of one condition, narrowed down."""

    def clients(self, status: frozenset[Condition]) -> ClientQuery:
        """Return the search for clients with one of the conditions."""
        return ClientQuery(status=status, site=self.site, tag=self.tag, q=self.q, sort=self.sort)


class ClientsQuery(UnwellQuery):
    """Clients, narrowed down. ``status`` takes several, repeated or separated by commas."""

    status: Conditions = frozenset()

    def query(self) -> ClientQuery:
        """Return the search."""
        return self.clients(self.status)


class CommandsQuery(Paging):
    """Commands, narrowed down."""

    client_uuid: Identifier | None = None
    status: CommandStatus | None = None
    action: Action | None = None
    source: Source | None = None
    batch_id: Identifier | None = None

    def query(self) -> CommandQuery:
        """Return the search."""
        return CommandQuery(
            client_uuid=self.client_uuid,
            status=self.status,
            action=self.action,
            source=self.source,
            batch_id=self.batch_id,
        )


class TimelineQuery(Paging):
    """A client's timeline, narrowed down. ``kind`` takes several, repeated or separated by commas."""

    kind: Annotated[frozenset[TimelineKind], BeforeValidator(_words)] = frozenset()


class RejectedQuery(Query):
    """Which page of the rejected messages, newest first."""

    limit: int = Field(default=100, ge=1, le=KEPT)
    cursor: str | None = Field(
        default=None, max_length=1000, description="``next_cursor`` of the page before."
    )


class StreamQuery(Query):
    """Which clients and commands a stream tells of: repeated or separated by commas, none means all.

    Alerts, totals and the state of the broker are told to everyone.
    """

    client_uuid: Annotated[list[Identifier], BeforeValidator(_words)] = Field(
        default_factory=list, max_length=MOST_CLIENTS_PER_STREAM
    )


class ClientChanges(Body):
    """What an operator may change of a client; what is left out stays, null empties."""

    name: Annotated[Label | None, NoneIfBlank] = None
    site: Annotated[Label | int | None, NoneIfBlank] = Field(
        default=None, description="The name of its site, which is created if it is new, or the site's id."
    )
    hours: Annotated[
        Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] | None, NoneIfBlank
    ] = Field(default=None, description="Its own operating hours; null: those of its site.")
    time_zone: Annotated[Label | None, NoneIfBlank] = Field(
        default=None, description="For its own hours; null: that of its site."
    )
    country: Annotated[Label | None, NoneIfBlank] = Field(
        default=None, description="For public holidays; null: that of its site."
    )
    tags: list[Tag] = Field(default_factory=list, max_length=50)
    description: Annotated[Description | None, NoneIfBlank] = None
    maintenance_until: Annotated[AwareDatetime, AfterValidator(utc)] | None = None
    auto_recovery: bool = True
    power: PowerChange | None = Field(
        default=None, description="Where its power is switched; admins only. Null forgets it."
    )

    def given(self) -> ClientEdit:
        """Return what is to be changed of the client itself."""
        told = self.model_dump(exclude_unset=True, exclude={"power"})
        return cast(ClientEdit, {_OWN.get(name, name): value for name, value in told.items()})


_OWN = {"hours": "own_hours", "time_zone": "own_time_zone", "country": "own_country"}
"""Fields of a client that win over its site's, and what they are called where both are known."""


class Acknowledgement(Body):
    """An operator has seen that a service failed; without ``unit``, that all that are shown did."""

    comment: Annotated[Reason | None, NoneIfBlank] = None
    unit: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class CommandOptions(Body):
    """What may be said about a command besides its action."""

    reason: Annotated[Reason | None, NoneIfBlank] = None
    expires_in: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_WAIT.total_seconds(),
        allow_inf_nan=False,
        description="Seconds until the command is given up, fractions allowed; at most "
        f"{LONGEST_EXPIRY.total_seconds():.0f} without `when_back`.",
    )
    when_back: bool = Field(
        default=False,
        description="If the client is silent, send the command once it is heard again; until then it is "
        "queued and can be cancelled. `expires_in` says for how long, 1 day if it is left out.",
    )
    force: bool = Field(default=False, description="Override the lockout; admins only, with a reason.")

    @property
    def lifetime(self) -> timedelta | None:
        """Return how long the command may take until the device has begun."""
        return None if self.expires_in is None else timedelta(seconds=self.expires_in)


class CommandRequest(CommandOptions):
    """One command for one client."""

    action: Action


class BulkFilter(Body):
    """Which clients a bulk request is for; an empty one means the whole fleet."""

    status: Conditions = frozenset()
    site: Searched | None = None
    tag: Searched | None = None
    q: Searched | None = None


class BulkRequest(Body):
    """The same command for many clients: for those named, or for all that the filter matches."""

    action: Action
    reason: Annotated[Reason | None, NoneIfBlank] = None
    client_uuids: Annotated[list[Identifier], Field(min_length=1, max_length=MOST_IN_A_BATCH)] | None = None
    filter: BulkFilter | None = None
    when_back: bool = Field(
        default=False, description="Queue the command also for clients that are silent, until they are back."
    )
    expires_in: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_WAIT.total_seconds(),
        allow_inf_nan=False,
        description="Seconds for which commands wait for clients that are silent; needs `when_back`.",
    )

    @property
    def lifetime(self) -> timedelta | None:
        """Return how long commands wait for clients that are silent."""
        return None if self.expires_in is None else timedelta(seconds=self.expires_in)

    @model_validator(mode="after")
    def _name_or_filter(self) -> Self:
        if (self.client_uuids is None) == (self.filter is None):
            raise BadValue(FieldFault.CLIENTS_OR_FILTER)
        if self.expires_in is not None and not self.when_back:
            raise BadValue(FieldFault.NEEDS_OTHER, other="when_back")
        return self

    def targets(self) -> list[str] | ClientQuery:
        """Return whom it is for."""
        if self.filter is None:
            return self.client_uuids or []
        wanted = self.filter
        return ClientQuery(status=wanted.status, site=wanted.site, tag=wanted.tag, q=wanted.q)
