"""Every error that crosses a room's border, ordered by who is at fault.

The caller (``Refused``) gets an HTTP 4xx, the device (``BadMessage``) is counted and acknowledged, the world
(``BrokerUnavailable``, ``StoreUnavailable``, ``PowerError``) is recorded and retried. Anything else is our
fault: it leaves a traceback and ends the process, so that systemd restarts it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class InfoscreenError(Exception):
    """Base of the errors we name; never raised itself."""


class Refused(InfoscreenError):
    """The caller asked for something that is not allowed or makes no sense.

    ``slug`` is stable and ends up as the problem ``type``; ``status`` is the HTTP status that tells it best;
    ``detail`` is a sentence for people; ``extra`` are further members of the problem document.
    """

    slug = "refused"
    status = 400
    title = "Refused"

    def __init__(
        self,
        detail: str,
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra: dict[str, Any] = dict(extra or {})
        self.headers: dict[str, str] = dict(headers or {})


class InvalidInput(Refused):
    """A field is missing, of the wrong type or out of range; ``errors`` names each one."""

    slug = "invalid-input"
    status = 422
    title = "Invalid input"

    def __init__(self, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail, extra={"errors": errors or []})


class UnreadableBody(Refused):
    """The body cannot be decoded as its headers say."""

    slug = "unreadable-body"
    status = 400
    title = "Unreadable body"


class NotFound(Refused):
    """There is no such thing."""

    slug = "not-found"
    status = 404
    title = "Not found"


class Unauthenticated(Refused):
    """Nobody is signed in, or the credentials are wrong."""

    slug = "unauthenticated"
    status = 401
    title = "Sign in first"


class Forbidden(Refused):
    """Signed in, but this needs a higher role."""

    slug = "forbidden"
    status = 403
    title = "Not allowed"


class CrossSite(Refused):
    """A cookie request that changes something did not come from our own pages."""

    slug = "cross-site"
    status = 403
    title = "Request from another site"


class TooManyAttempts(Refused):
    """Failed logins are throttled; ``retry_after`` seconds remain."""

    slug = "too-many-attempts"
    status = 429
    title = "Too many failed attempts"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(
            detail, extra={"retry_after": retry_after}, headers={"Retry-After": str(retry_after)}
        )


class Busy(Refused):
    """So much is asked for at once that this would be at the expense of the rest; try again in seconds."""

    slug = "busy"
    status = 503
    title = "Too busy"

    def __init__(self, detail: str, retry_after: int = 5) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class Conflict(Refused):
    """The thing is in a state that does not allow this."""

    slug = "conflict"
    status = 409
    title = "Conflict"


class CommandInFlight(Conflict):
    """The client already has an unfinished disruptive command; ``command_id`` names it."""

    slug = "command-in-flight"
    title = "Another command is in flight"


class LockedOut(Refused):
    """Too many disruptive commands lately; ``locked_until`` tells when the lockout ends."""

    slug = "locked-out"
    status = 423
    title = "Client is locked out"


class TooManyStreams(Refused):
    """So many live views are open that one more would be at the expense of the others."""

    slug = "too-many-streams"
    status = 503
    title = "Too many live views"


class QueryTooExpensive(Refused):
    """What was asked for costs more time of the database than one request may take."""

    slug = "query-too-expensive"
    status = 503
    title = "Too expensive for the database"

    def __init__(self) -> None:
        super().__init__(
            "This takes the database too long. Ask for less: a smaller page, or narrower filters."
        )


class BadMessage(InfoscreenError):
    """A device sent something that can never be stored; ``reason`` is a stable code for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class BrokerUnavailable(InfoscreenError):
    """The broker cannot be reached, or did not acknowledge in time."""


class PublishRefused(InfoscreenError):
    """The broker understood a message and will never take it (not authorised, too large)."""


class StoreTrouble(StrEnum):
    """What keeps the database from being used; stable codes."""

    UNREACHABLE = "unreachable"
    STARTING = "starting"
    REFUSED = "refused"
    NO_CONNECTION_FREE = "no_connection_free"
    LOCKED = "locked"
    TIMED_OUT = "timed_out"
    CONFLICT = "conflict"
    READ_ONLY = "read_only"
    FULL = "full"
    INPUT_OUTPUT = "input_output"
    MISSING = "missing"
    REPLACED = "replaced"
    DAMAGED = "damaged"
    NOT_OPEN = "not_open"


class StoreUnavailable(InfoscreenError):
    """The database cannot be used at the moment; trying again later may help.

    ``trouble`` says why, and ``code`` is what the driver gave: an SQLSTATE, the name of an SQLite result code
    or of an errno. With ``outcome_unknown`` the connection was lost during the commit: it may have been made.
    """

    def __init__(
        self,
        detail: str,
        trouble: StoreTrouble = StoreTrouble.UNREACHABLE,
        code: str | None = None,
        *,
        outcome_unknown: bool = False,
    ) -> None:
        super().__init__(detail)
        self.trouble = trouble
        self.code = code
        self.outcome_unknown = outcome_unknown


class PowerError(InfoscreenError):
    """A power outlet could not be reached or did not do as told."""


class DatabaseNotReady(InfoscreenError):
    """The database is not migrated, newer than this code, or cannot be opened.

    The text names the command to run.
    """


class InvalidSettings(InfoscreenError):
    """Settings are missing or wrong; the text has one line for each fault, and no secrets."""


class CannotStart(InfoscreenError):
    """The daemon, or a tool of it, lacks something it needs; the text says what and how to get it."""


class PkiError(InfoscreenError):
    """Certificates cannot be issued or read: a wrong request, or a damaged directory. The text says which."""
