"""UUIDs at the edge: any spelling comes in, only the canonical one (lower case, hyphens) goes further."""

from typing import Annotated
from uuid import UUID

from aiohttp import web
from pydantic import AfterValidator, Field

from infoscreen.domain.errors import InvalidInput

LONGEST_SPELLING = len("urn:uuid:{12345678-1234-1234-1234-123456789abc}")
ALLOWED = "32 hexadecimal digits, with or without hyphens"


def canonical(text: str) -> str:
    """Return a UUID as topics, rows and JSON spell it; raise ``ValueError`` when it is none."""
    # int() inside of UUID also takes other scripts' digits and underscores; an identifier has one alphabet.
    if len(text) > LONGEST_SPELLING or not text.isascii() or "_" in text:
        raise ValueError(f"not a UUID; allowed: {ALLOWED}")
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError(f"not a UUID; allowed: {ALLOWED}") from None


Identifier = Annotated[
    str, AfterValidator(canonical), Field(json_schema_extra={"format": "uuid"}, description="A UUID.")
]


def path_identifier(request: web.Request, name: str) -> str:
    """Return the UUID in the path; raise ``InvalidInput`` saying what was given instead."""
    given = request.match_info[name]
    try:
        return canonical(given)
    except ValueError as error:
        shown = given if len(given) <= 60 else f"{given[:57]}..."
        raise InvalidInput(
            f"{shown!r} is not a UUID.", [{"field": name, "message": f"{error}; given {shown!r}"}]
        ) from None
