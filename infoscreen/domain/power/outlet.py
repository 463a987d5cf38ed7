"""An outlet: where it is, what it can do, what it says of itself, and why it could not be used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

OFF_WATTS = 2.0
"""An outlet that is off and measured draws less; meters of plugs waver by about one watt."""


class PowerState(StrEnum):
    """What an outlet says of itself. What it does not say clearly is ``unknown``, never off."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class PowerFault(StrEnum):
    """Why an outlet could not be used, or a cycle failed. Stable codes: stored, and told to programs."""

    NO_ANSWER = "no_answer"
    BAD_CREDENTIALS = "bad_credentials"
    NO_ANSWER_OR_BAD_CREDENTIALS = "no_answer_or_bad_credentials"
    """SNMP v1 and v2c, and ipmitool, do not tell these apart."""
    BAD_ANSWER = "bad_answer"
    REFUSED = "refused"
    """The outlet is locked, disabled or busy by its own account."""
    UNSUPPORTED = "unsupported"
    """No such outlet, or not the kind of device that was configured."""
    MISSING_PROGRAM = "missing_program"
    """A program or package that the driver needs is not installed here."""
    BAD_CONFIGURATION = "bad_configuration"
    WRONG_IDENTITY = "wrong_identity"
    STATE_UNKNOWN = "state_unknown"
    OFF_NOT_SEEN = "off_not_seen"
    STILL_DRAWING = "still_drawing"
    """It says off, and power is drawn."""
    OFF_TOO_SHORT = "off_too_short"
    SECRET_UNREADABLE = "secret_unreadable"  # noqa: S105 - a code
    NOT_ALLOWED = "not_allowed"
    """It became protected, or another client uses it; or the command was withdrawn or has expired."""
    CLIENT_IS_BACK = "client_is_back"
    """The automatic recovery wanted to cycle it, and it was heard again just in time."""
    INTERRUPTED = "interrupted"
    """The daemon was stopped in the middle for too long; the outlet was only switched on again."""


class OutletObstacle(StrEnum):
    """Why the automatic recovery may not switch an outlet now. Stable codes, stored with its decisions."""

    PROTECTED = "protected"
    SHARED = "shared"
    """It also feeds clients that are not silent."""
    USED_UP = "used_up"
    """It was cycled as often within a day as it may be."""


NOTHING_SWITCHED = frozenset(
    {
        PowerFault.BAD_CREDENTIALS,
        PowerFault.REFUSED,
        PowerFault.UNSUPPORTED,
        PowerFault.MISSING_PROGRAM,
        PowerFault.BAD_CONFIGURATION,
        PowerFault.SECRET_UNREADABLE,
    }
)
"""After these faults the request was certainly not carried out, and asking again will not help."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an outlet says.

    ``watts`` is None where nothing is measured. ``pending`` means that the outlet has not finished what it
    was told, so that its state is not final yet.
    """

    state: PowerState
    watts: float | None = None
    pending: bool = False

    @property
    def is_off(self) -> bool:
        """Tell whether it is off by its state and, where that is measured, by its power draw."""
        return self.state is PowerState.OFF and not self.pending and not self.is_drawing

    @property
    def is_on(self) -> bool:
        """Tell whether it is on for good."""
        return self.state is PowerState.ON and not self.pending

    @property
    def is_drawing(self) -> bool:
        """Tell whether power is measured to be drawn."""
        return self.watts is not None and self.watts > OFF_WATTS


@dataclass(frozen=True, slots=True)
class OutletIdentity:
    """What an outlet is.

    ``id`` stays the same for the same outlet at any address: a MAC address, a UUID, or the name that was
    given to the outlet. None if the device has nothing like that. ``label`` is for people.
    """

    id: str | None
    label: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind of outlet can do besides being switched.

    ``restores_itself``: it can be told to switch on again by itself, also if the daemon is gone by then.
    ``metered``: it may measure the power draw. ``pause_seconds``: how long to wait between two requests.
    """

    restores_itself: bool = False
    metered: bool = False
    pause_seconds: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlet:
    """Where a client's power is switched.

    ``address`` is a host or URL, ``outlet`` a number or name there. ``identity`` is what the outlet must say
    of itself before it is switched; None accepts whatever is there. ``options`` are the driver's own.
    """

    driver: str
    address: str
    outlet: str = "1"
    username: str | None = None
    secret: str | None = field(default=None, repr=False)
    identity: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    min_off_seconds: float = 10.0

    @property
    def key(self) -> str:
        """Return what two configurations of the same outlet have in common, as far as it can be told."""
        host = self.device_key
        return f"{host}/{self.outlet.strip().casefold()}"

    @property
    def device_key(self) -> str:
        """Return what outlets of the same device have in common."""
        address = self.address.strip().casefold()
        _, _, rest = address.rpartition("://")
        return rest.rstrip("/")
