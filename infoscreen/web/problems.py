"""RFC 9457 problem documents: where an error gets its HTTP face, and nothing internal leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import web

from infoscreen.domain.errors import Refused, StoreUnavailable

CONTENT_TYPE = "application/problem+json"
RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong, for programs (``slug``, stable) and for people (``title``, ``detail``)."""

    slug: str
    status: int
    title: str
    detail: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the members of the problem document."""
        return {
            "type": self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }

    def response(self) -> web.Response:
        """Return the answer for programs."""
        return web.json_response(
            self.document(), status=self.status, content_type=CONTENT_TYPE, headers=dict(self.headers)
        )


HTTP_PROBLEMS = {
    400: ("bad-request", "Bad request", "The request is not valid HTTP, or one of its lines is too long."),
    404: ("not-found", "Not found", "There is nothing at this address."),
    405: ("method-not-allowed", "Method not allowed", "This address does not know that method."),
    408: ("request-timeout", "Request timed out", "The request did not arrive in time."),
    413: ("body-too-large", "Body too large", "The body is longer than is allowed here."),
    415: (
        "unsupported-media-type",
        "Unsupported media type",
        "Send application/json, forms as application/x-www-form-urlencoded, both in UTF-8.",
    ),
}
"""What aiohttp itself refuses: slug, title and sentence by status."""

NOTHING_DONE = "The database does not answer at the moment and nothing was changed; try again."
DONE_OR_NOT = (
    "The database stopped answering while the change was stored: it may have been made or not. "
    "Look before you repeat it."
)

KEPT_HEADERS = ("Allow", "Retry-After")


def problem_of(error: Refused | StoreUnavailable | web.HTTPException) -> Problem:
    """Return the problem that an expected error is."""
    match error:
        case Refused():
            return Problem(
                slug=error.slug,
                status=error.status,
                title=error.title,
                detail=error.detail,
                extra=error.extra,
                headers=error.headers,
            )
        case StoreUnavailable():
            return Problem(
                slug="store-unavailable",
                status=503,
                title="Database not available",
                detail=DONE_OR_NOT if error.outcome_unknown else NOTHING_DONE,
                extra={"outcome_unknown": error.outcome_unknown},
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        case web.HTTPException():
            headers = {name: error.headers[name] for name in KEPT_HEADERS if name in error.headers}
            return problem_of_status(error.status, headers)


def problem_of_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """Return the problem of what aiohttp itself refuses."""
    phrase = HTTPStatus(status).phrase
    slug, title, sentence = HTTP_PROBLEMS.get(status, (f"http-{status}", phrase, f"{phrase}."))
    return Problem(slug=slug, status=status, title=title, detail=sentence, headers=headers or {})


def our_fault(request_id: str) -> Problem:
    """Return the problem for what nobody foresaw; the request id finds its traceback in the log."""
    return Problem(
        slug="internal-error",
        status=500,
        title="Internal error",
        detail="Something went wrong here. The log has the reason under the request id.",
        extra={"request_id": request_id},
    )
