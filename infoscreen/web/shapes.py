"""The shapes that all endpoints share: request bodies, query strings, answers and lists."""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Body(BaseModel):
    """A JSON body: unknown fields are refused, and a string is not taken for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Query(BaseModel):
    """A query string, where everything arrives as text; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Paging(Query):
    """Which page of a list."""

    limit: int = Field(default=100, ge=1, le=500, description="At most so many items.")
    cursor: str | None = Field(
        default=None, max_length=1000, description="``next_cursor`` of the page before."
    )


def public_name(model: type) -> str:
    """Return the name of a model in the OpenAPI document: ``Client`` for ``ClientModel``."""
    return model.__name__.removesuffix("Model")


class Answer(BaseModel):
    """A JSON answer, filled from the attributes of a domain object of the same names.

    An answer that shows a domain object which has a class of the same name ends in ``Model``.
    """

    model_config = ConfigDict(from_attributes=True, frozen=True, model_title_generator=public_name)


class Listing(Answer, Generic[T]):
    """One page of a list; filled from a ``storage.paging.Page``."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Return ``UserList`` for a list of ``User``: the name in the OpenAPI document."""
        return f"{public_name(params[0])}List"

    items: list[T]
    next_cursor: str | None = Field(description="Ask for the next page with it; null on the last one.")
    total: int | None = Field(
        description="Length of the whole list; null for histories and for filtered lists beyond 10,000."
    )
