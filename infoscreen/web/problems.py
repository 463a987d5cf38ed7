"""RFC 9457 problem documents: where an error gets its HTTP face, and nothing internal leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import web

from infoscreen.domain.codes import Code, Fact
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import (
    CommandInFlight,
    InvalidInput,
    LockedOut,
    NotQueued,
    OutletFault,
    Refused,
    StoreUnavailable,
    TooManyAttempts,
    Unauthenticated,
)
from infoscreen.domain.faults import FieldError
from infoscreen.web.api import models
from infoscreen.words import errors as words
from infoscreen.words.language import ENGLISH, Language, language, preferred
from infoscreen.words.speaking import field_error, say

CONTENT_TYPE = "application/problem+json"
RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong: ``slug`` and the code of ``fact`` are for programs, both have words for people."""

    slug: str
    status: int
    fact: Fact[ErrorCode]
    errors: Sequence[FieldError] | None = None
    faults: Mapping[str, Fact[Code]] | None = None
    """By part: what is missing."""
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self, language: Language = ENGLISH) -> dict[str, Any]:
        """Return the members of the problem document."""
        errors = {} if self.errors is None else {"errors": [_field(one, language) for one in self.errors]}
        return {
            "type": self.slug,
            "title": words.title(self.slug, self.status, language),
            "status": self.status,
            "detail": say(self.fact, language),
            "code": self.fact.code.value,
            "arguments": self.fact.packed(),
            **errors,
            **self._faults(language),
            **self.members,
        }

    def _faults(self, language: Language) -> dict[str, Any]:
        if self.faults is None:
            return {}
        said = {part: say(fact, language) for part, fact in self.faults.items()}
        codes = {
            part: {"code": fact.code.value, "arguments": fact.packed()} for part, fact in self.faults.items()
        }
        return {"faults": said, "fault_codes": codes}

    def response(self, language: Language = ENGLISH) -> web.Response:
        """Return the answer for programs."""
        return web.json_response(
            self.document(language),
            status=self.status,
            content_type=CONTENT_TYPE,
            headers={**self.headers, "Content-Language": language.code, "Vary": "Accept-Language"},
        )


def asked_language(request: web.Request) -> Language:
    """Return the language that a program asks for; English unless it prefers German."""
    return language(preferred(request.headers.get("Accept-Language", ""), default="en"))


def _field(error: FieldError, language: Language) -> dict[str, Any]:
    return {
        "field": error.field,
        "message": field_error(error, language),
        "code": error.fault.code.value,
        "arguments": error.fault.packed(),
    }


HTTP_PROBLEMS = {
    400: ("bad-request", ErrorCode.BAD_REQUEST),
    404: ("not-found", ErrorCode.NO_SUCH_PAGE),
    405: ("method-not-allowed", ErrorCode.METHOD_NOT_ALLOWED),
    408: ("request-timeout", ErrorCode.REQUEST_TIMEOUT),
    413: ("body-too-large", ErrorCode.BODY_TOO_LARGE),
    415: ("unsupported-media-type", ErrorCode.UNSUPPORTED_MEDIA_TYPE),
}
"""What aiohttp itself refuses, by status."""

KEPT_HEADERS = ("Allow", "Retry-After")


def problem_of(error: Refused | StoreUnavailable | web.HTTPException) -> Problem:
    """Return the problem that an expected error is."""
    match error:
        case Refused():
            return Problem(
                slug=error.slug,
                status=error.status,
                fact=error.fact,
                errors=error.errors if isinstance(error, InvalidInput) else None,
                members=_members(error),
                headers=_headers(error),
            )
        case StoreUnavailable():
            unknown = error.outcome_unknown
            code = ErrorCode.STORE_OUTCOME_UNKNOWN if unknown else ErrorCode.STORE_UNAVAILABLE
            return Problem(
                slug="store-unavailable",
                status=503,
                fact=Fact(code),
                members={"outcome_unknown": unknown},
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        case web.HTTPException():
            headers = {name: error.headers[name] for name in KEPT_HEADERS if name in error.headers}
            return problem_of_status(error.status, headers)


def problem_of_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """Return the problem of what aiohttp itself refuses."""
    if status in HTTP_PROBLEMS:
        slug, code = HTTP_PROBLEMS[status]
        return Problem(slug=slug, status=status, fact=Fact(code), headers=headers or {})
    fact = Fact(ErrorCode.HTTP_STATUS, {"phrase": HTTPStatus(status).phrase})
    return Problem(slug=f"http-{status}", status=status, fact=fact, headers=headers or {})


def our_fault(request_id: str) -> Problem:
    """Return the problem for what nobody foresaw; the request id finds its traceback in the log."""
    return Problem(
        slug="internal-error",
        status=500,
        fact=Fact(ErrorCode.INTERNAL),
        members={"request_id": request_id},
    )


def _members(refusal: Refused) -> dict[str, Any]:
    """Return the members that only this problem has, as JSON."""
    match refusal:
        case TooManyAttempts():
            return {"retry_after": refusal.retry_after}
        case NotQueued():
            return {"command_status": refusal.command_status.value}
        case CommandInFlight():
            command = refusal.command
            return {"command_id": command.command_id, "command_status": command.status.value}
        case LockedOut():
            shown = models.CommandModel.of(refusal.command)
            locked = models.LockedOutModel(locked_until=refusal.locked_until, command=shown)
            return locked.model_dump(mode="json")
        case OutletFault():
            return {"fault": refusal.fault.value}
        case _:
            return {}


def _headers(refusal: Refused) -> dict[str, str]:
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    return headers | ({"WWW-Authenticate": "Bearer"} if isinstance(refusal, Unauthenticated) else {})
