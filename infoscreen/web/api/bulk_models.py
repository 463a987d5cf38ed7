"""What commands for many clients look like in JSON."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field

from infoscreen.domain.bulk import BulkAction, BulkOutcome, BulkProgress
from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import Action, CommandStatus, Source, Waiting
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.web.shapes import Answer, Listing
from infoscreen.words.speaking import say


def _said(fact: Fact[ErrorCode] | None) -> str | None:
    return None if fact is None else say(fact)


class BulkResultModel(Answer):
    """What became of one client's part of a bulk request."""

    client_uuid: str
    outcome: BulkOutcome
    command_id: str | None
    detail: Annotated[str | None, BeforeValidator(_said)] = None


class BatchModel(Answer):
    """What became of a bulk request; ``counts`` is by outcome."""

    batch_id: str
    results: list[BulkResultModel]
    counts: dict[str, int]


class BulkPreviewItem(Answer):
    """What would become of one client's part."""

    client_uuid: str
    outcome: BulkOutcome


class BulkPreviewModel(Answer):
    """What a bulk request would do now; ``counts`` is by outcome."""

    results: list[BulkPreviewItem]
    counts: dict[str, int]

    @classmethod
    def of(cls, outcomes: Mapping[str, BulkOutcome]) -> Self:
        """Return the outcomes as JSON has them."""
        counts: dict[str, int] = {}
        for outcome in outcomes.values():
            counts[outcome.value] = counts.get(outcome.value, 0) + 1
        results = [BulkPreviewItem(client_uuid=uuid, outcome=one) for uuid, one in outcomes.items()]
        return cls(results=results, counts=counts)


class BulkActionModel(Answer):
    """A bulk request, and how far it is."""

    batch_id: str
    action: Action
    source: Source
    reason: str | None
    filter: dict[str, Any] | None = Field(description="What its clients matched; null if they were named.")
    requested_by: str
    at: datetime
    clients: int = Field(description="For how many clients it was asked.")
    counts: dict[BulkOutcome, int] = Field(description="The clients by outcome.")
    statuses: dict[CommandStatus, int] = Field(description="The commands by status.")
    waiting: int = Field(description="Commands that wait for their turn.")
    absent: int = Field(description="Commands that wait for their client to come back.")
    unfinished: int = Field(description="For how many clients something is still to come.")
    stopped_at: datetime | None
    stopped_by: str | None

    @classmethod
    def of(cls, one: BulkAction, progress: BulkProgress) -> Self:
        """Return both as JSON has them."""
        return cls(
            batch_id=one.batch_id,
            action=one.action,
            source=Source(one.source),
            reason=one.reason,
            filter=None if one.query is None else dict(one.query),
            requested_by=one.actor,
            at=one.at,
            clients=one.clients,
            counts=dict(progress.outcomes),
            statuses=dict(progress.statuses),
            waiting=progress.waiting,
            absent=progress.absent,
            unfinished=progress.unfinished,
            stopped_at=one.stopped_at,
            stopped_by=one.stopped_by,
        )


class BulkActionList(Listing[BulkActionModel]):
    """A page of bulk requests, newest first."""


class BulkLineModel(Answer):
    """What became of one client; ``status`` is that of its command now."""

    client_uuid: str
    label: str | None = Field(description="What the client is called; null if it is unknown or has no name.")
    outcome: BulkOutcome
    command_id: str | None
    status: CommandStatus | None
    waits_for: Waiting | None


class BulkLineList(Listing[BulkLineModel]):
    """A page of the clients of a bulk request, in the order of their turns."""
