"""UUIDs at the edge: any spelling comes in, only the canonical one (lower case, hyphens) goes further."""

import json
from typing import Annotated
from uuid import UUID

from aiohttp import web
from pydantic import AfterValidator, Field

from infoscreen.domain.errors import InvalidInput
from infoscreen.domain.faults import BadValue, FieldError, FieldFault

LONGEST_SPELLING = len("urn:uuid:{12345678-1234-1234-1234-123456789abc}")


def canonical(text: str) -> str:
    """Return a UUID as topics, rows and JSON spell it; raise ``ValueError`` when it is none."""
    # int() inside of UUID also takes other scripts' digits and underscores; an identifier has one alphabet.
    if len(text) > LONGEST_SPELLING or not text.isascii() or "_" in text:
        raise BadValue(FieldFault.NOT_A_UUID)
    try:
        return str(UUID(text))
    except ValueError:
        raise BadValue(FieldFault.NOT_A_UUID) from None


Identifier = Annotated[
    str, AfterValidator(canonical), Field(json_schema_extra={"format": "uuid"}, description="A UUID.")
]


def path_identifier(request: web.Request, name: str) -> str:
    """Return the UUID in the path; raise ``InvalidInput`` saying what was given instead."""
    given = request.match_info[name]
    try:
        return canonical(given)
    except BadValue as error:
        shown = given if len(given) <= 60 else f"{given[:57]}..."
        raise InvalidInput([FieldError(name, error.fault, json.dumps(shown))]) from None
