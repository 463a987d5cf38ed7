"""Rejected messages in JSON."""

from datetime import datetime
from typing import Any, Self

from pydantic import Field

from infoscreen.storage.rejected import RejectedMessage
from infoscreen.web.shapes import Answer, Listing
from infoscreen.words.speaking import say


class RejectedMessageModel(Answer):
    """A message from a device that could not be stored; ``head`` is its first 200 bytes, as far as text."""

    at: datetime
    topic: str
    reason: str = Field(description="A stable code, under which these are counted.")
    detail: str
    code: str = Field(description="What ``detail`` says, as a stable code.")
    arguments: dict[str, Any]
    size: int = Field(description="Bytes of the whole message.")
    head: str

    @classmethod
    def of(cls, message: RejectedMessage) -> Self:
        """Return the message with its bytes made readable."""
        return cls(
            at=message.at,
            topic=message.topic,
            reason=message.reason,
            detail=say(message.defect),
            code=message.defect.code.value,
            arguments=message.defect.packed(),
            size=message.size,
            head=message.head.decode(errors="replace"),
        )


class RejectedList(Listing[RejectedMessageModel]):
    """Rejected messages, newest first."""
