"""Every error that crosses a room's border, ordered by who is at fault.

The caller (``Refused``) gets an HTTP 4xx, the device (``BadMessage``) is counted and acknowledged, the world
(``BrokerUnavailable``, ``StoreUnavailable``) is recorded and retried. Anything else is our
fault: it leaves a traceback and ends the process, so that systemd restarts it.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.codes import Fact, Value
from infoscreen.domain.commands import ClientCommand
from infoscreen.domain.error_codes import ErrorCode, MessageDefect, reason_of
from infoscreen.domain.faults import FieldError, FieldFault
from infoscreen.domain.power.outlet import PowerFault


class InfoscreenError(Exception):
    """Base of the errors we name; never raised itself."""


class Refused(InfoscreenError):
    """The caller asked for something that is not allowed or makes no sense.

    ``slug`` is stable and ends up as the problem ``type``; ``status`` is the HTTP status that tells it best.
    ``fact`` says why; its sentence is made by ``words/``. After ``retry_after`` seconds it may work.
    """

    slug = "refused"
    status = 400
    retry_after: int | None = None

    def __init__(self, code: ErrorCode, /, **arguments: Value) -> None:
        self.fact: Fact[ErrorCode] = Fact(code, arguments)
        super().__init__(str(self.fact))


class InvalidInput(Refused):
    """Fields are missing, of the wrong type or out of range; ``errors`` names each one."""

    slug = "invalid-input"
    status = 422

    def __init__(self, errors: Sequence[FieldError]) -> None:
        if len(errors) == 1:
            super().__init__(ErrorCode.WRONG_FIELD, field=errors[0].field, fault=errors[0].fault)
        else:
            named = ", ".join(dict.fromkeys(error.field for error in errors if error.field))
            super().__init__(ErrorCode.WRONG_FIELDS, fields=named)
        self.errors = tuple(errors)

    @classmethod
    def of(cls, field: str, code: FieldFault, /, **arguments: Value) -> "InvalidInput":
        """Return the refusal for one wrong field."""
        return cls([FieldError(field, Fact(code, arguments))])


class UnreadableBody(Refused):
    """The body cannot be decoded as its headers say."""

    slug = "unreadable-body"
    status = 400


class NotFound(Refused):
    """There is no such thing."""

    slug = "not-found"
    status = 404


class Unauthenticated(Refused):
    """Nobody is signed in, or the credentials are wrong."""

    slug = "unauthenticated"
    status = 401


class SecondFactorNeeded(Unauthenticated):
    """The password is right, but this user signs in with a second factor."""

    slug = "second-factor-needed"


class IdentityRefused(Refused):
    """An identity provider signed nobody in whom we take."""

    slug = "identity-refused"
    status = 403


class ProviderUnavailable(Refused):
    """The identity provider does not answer, or not as it should; local accounts work."""

    slug = "provider-unavailable"
    status = 502
    retry_after = 10


class Forbidden(Refused):
    """Signed in, but this needs a higher role."""

    slug = "forbidden"
    status = 403


class CrossSite(Refused):
    """A cookie request that changes something did not come from our own pages."""

    slug = "cross-site"
    status = 403


class TooManyAttempts(Refused):
    """Failed logins are throttled; ``retry_after`` seconds remain."""

    slug = "too-many-attempts"
    status = 429

    def __init__(self, retry_after: int) -> None:
        super().__init__(ErrorCode.TOO_MANY_ATTEMPTS, seconds=retry_after)
        self.retry_after: int = retry_after


class Busy(Refused):
    """So much is asked for at once that this would be at the expense of the rest."""

    slug = "busy"
    status = 503
    retry_after = 5


class Conflict(Refused):
    """The thing is in a state that does not allow this."""

    slug = "conflict"
    status = 409


class SiteInUse(Conflict):
    """Clients are at the site."""

    slug = "site-in-use"


class SecretUnreadable(Conflict):
    """A stored secret cannot be read or written: the key is missing or another one, or it was changed."""

    slug = "secret-unreadable"


class NoOutlet(Conflict):
    """No outlet is configured for the client."""

    slug = "no-outlet"


class OutletShared(Conflict):
    """Other clients have the same outlet, which was not declared."""

    slug = "outlet-shared"


class OutletProtected(Conflict):
    """The outlet also feeds what must never be switched off."""

    slug = "outlet-protected"


class OutletInUse(Conflict):
    """The outlet is being power cycled, or is about to be."""

    slug = "outlet-in-use"


class ClientStarting(Conflict):
    """The client says that it is starting or updating."""

    slug = "client-starting"


class TooManyCycles(Refused):
    """The outlet was power cycled as often within a day as it may be."""

    slug = "power-cycle-limit"
    status = 423

    def __init__(self, most: int, until: datetime, now: datetime) -> None:
        super().__init__(ErrorCode.POWER_CYCLES_USED, most=most, until=until)
        self.retry_after: int = max(1, int((until - now).total_seconds()))


class OutletFault(Refused):
    """The outlet cannot be used; ``fault`` is the stable code, ``detail`` the outlet's own words."""

    slug = "outlet-fault"
    status = 502

    def __init__(self, fault: PowerFault, detail: str) -> None:
        super().__init__(ErrorCode.OUTLET_FAULT, fault=fault, said=detail or "-")
        self.fault = fault
        self.detail = detail


class NotPrivate(Refused):
    """A secret in the request or its answer would cross a network in the clear."""

    slug = "https-needed"
    status = 400

    def __init__(self) -> None:
        super().__init__(ErrorCode.ENROLMENT_NEEDS_HTTPS)


class HelperMissing(Refused):
    """Nobody answers who may change the broker's accounts: by hand, on the broker's host, it can be done."""

    slug = "broker-helper-missing"
    status = 503


class HelperUnable(Refused):
    """The broker helper could not do what it was asked for; its journal says why."""

    slug = "broker-helper-failed"
    status = 503


class NotQueued(Conflict):
    """The command cannot be cancelled any more; ``command_status`` is what became of it."""

    def __init__(self, command: ClientCommand) -> None:
        super().__init__(ErrorCode.NOT_QUEUED, status=command.status)
        self.command_status = command.status


class CommandInFlight(Conflict):
    """The client already has an unfinished disruptive command, which ``command`` is."""

    slug = "command-in-flight"

    def __init__(self, command: ClientCommand) -> None:
        super().__init__(ErrorCode.COMMAND_IN_FLIGHT, action=command.action)
        self.command = command


class LockedOut(Refused):
    """Too many disruptive commands lately; ``command`` was stored as blocked."""

    slug = "locked-out"
    status = 423

    def __init__(self, locked_until: datetime | None, command: ClientCommand) -> None:
        super().__init__(ErrorCode.LOCKED_OUT)
        self.locked_until = locked_until
        self.command = command


class TooManyStreams(Refused):
    """So many live views are open that one more would be at the expense of the others."""

    slug = "too-many-streams"
    status = 503
    retry_after = 30


class QueryTooExpensive(Refused):
    """What was asked for costs more time of the database than one request may take."""

    slug = "query-too-expensive"
    status = 503

    def __init__(self) -> None:
        super().__init__(ErrorCode.QUERY_TOO_EXPENSIVE)


class BadMessage(InfoscreenError):
    """A device sent something that can never be stored; ``reason`` is a stable code for counting."""

    def __init__(self, code: MessageDefect, /, **arguments: Value) -> None:
        self.fact: Fact[MessageDefect] = Fact(code, arguments)
        super().__init__(str(self.fact))

    @property
    def reason(self) -> str:
        """Return the name under which this is counted."""
        return reason_of(self.fact.code)


class ToolFailed(InfoscreenError):
    """A command of the command line cannot do what it was asked for; the text, in English, says why."""


class InvalidArguments(ToolFailed):
    """Arguments of the command line make no sense; the text has one line for each fault."""


class BrokerUnavailable(InfoscreenError):
    """The broker cannot be reached, or did not acknowledge in time; ``fault`` says why, if that is known."""

    def __init__(self, detail: str, fault: BrokerFault | None = None) -> None:
        super().__init__(detail)
        self.fault = fault


class SessionTakenOver(BrokerUnavailable):
    """Another program has connected to the broker under our client id, which ended our connection."""


class WrongListener(BrokerUnavailable):
    """The broker's listener replaces client ids: the daemon's connections would end each other there."""


class PublishRefused(InfoscreenError):
    """The broker understood a message and will never take it (not authorised, too large)."""


class PowerError(InfoscreenError):
    """An outlet cannot be used, or did not do as it was told; ``fault`` says why, ``detail`` in its words."""

    def __init__(self, fault: PowerFault, detail: str = "") -> None:
        super().__init__(f"{fault}: {detail}" if detail else str(fault))
        self.fault = fault
        self.detail = detail


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


class ProvisioningError(InfoscreenError):
    """Files of the broker cannot be read or written, or are not as they must be. The text says which."""
