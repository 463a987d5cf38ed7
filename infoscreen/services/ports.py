"""What services need from the doors, said by the side that needs it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from infoscreen.clock import SteadySince
from infoscreen.domain.alerts import AlertCode, Severity
from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.codes import Fact
from infoscreen.domain.enrolment import NewDevice
from infoscreen.domain.notifying import ChannelKind, DeliveryFault, NoticeStep
from infoscreen.domain.power import Capabilities, OutletIdentity, Reading
from infoscreen.domain.presence import Backlog
from infoscreen.domain.recovery import Incident, Reason


class Incoming(NamedTuple):
    """One message from the broker; ``retain`` is true only for retained ones delivered at subscription.

    ``repeated`` (DUP) means that the broker delivered it before and got no PUBACK; it may be stored. It has
    the same ``packet_id`` then, which is empty for QoS 0.
    """

    topic: str
    payload: bytes
    retain: bool = False
    repeated: bool = False
    packet_id: bytes = b""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message for the broker, QoS 1; ``expires_in`` is its lifetime in seconds, None without limit."""

    topic: str
    payload: bytes
    retain: bool = False
    expires_in: float | None = None


class Publisher(Protocol):
    """The way out to the broker."""

    async def publish(self, message: Outgoing) -> None:
        """Publish at QoS 1 and wait for the broker's PUBACK; raise ``BrokerUnavailable`` after 10 s."""
        ...


BatchHandler = Callable[[Sequence[Incoming], datetime], Awaitable[None]]
"""Stores a batch received at the given time. When it returns, the batch is committed and may be acked."""


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    """What is known of the broker itself.

    ``acl`` is ``in_force``, ``open`` (any device may do anything) or ``unknown``. ``failed_logins`` are those
    of the last ten minutes, ``failed_logins_address`` is where most of them came from.
    """

    acl: str = "unknown"
    acl_checked_at: datetime | None = None
    acl_open_since: datetime | None = None
    failed_logins: int = 0
    failed_logins_address: str | None = None
    failed_logins_alarm: bool = False


@dataclass(frozen=True, slots=True)
class LinkState:
    """What is known of the listening connection.

    ``listening_since`` is the time at which the subscriptions were in place, or at which the host's clock was
    set since then; None while not listening. ``dropped`` counts the messages that the broker has dropped
    since it started; ``dropped_at`` is when that grew, None if not lately. ``fault`` is the code of
    ``last_error``.
    """

    connected: bool
    listening_since: datetime | None
    reconnects: int
    last_error: str | None
    dropped: int = 0
    dropped_at: datetime | None = None
    fault: BrokerFault | None = None
    taken_over_at: datetime | None = None
    """When another program last connected under our client id, again and again; None if not lately."""
    health: BrokerHealth = BrokerHealth()
    backlog: Backlog | None = field(default=None, compare=False)
    """None while not listening."""


def backlog_of(listening: SteadySince) -> Backlog | None:
    """Return what follows from since when we have listened."""
    if listening.began is None:
        return None
    set_by = tuple(timedelta(seconds=by) for by in listening.set_by_seconds)
    return Backlog(listening.began, timedelta(seconds=listening.age_seconds), set_by)


class AccountMaker(Protocol):
    """The broker helper, for accounts of devices."""

    async def add_device(self, uuid: str, *, password: str | None = None, replace: bool = False) -> NewDevice:
        """Give a device an account; raise ``Conflict``, ``HelperMissing`` or ``HelperUnable``.

        With a password, which is made otherwise, the same request twice is no error.
        """
        ...


class BrokerRestarter(Protocol):
    """The broker helper, for the broker itself."""

    async def restart_broker(self) -> bool:
        """Restart it; False if that is not possible now; raise ``HelperMissing`` or ``HelperUnable``."""
        ...


class Link(Protocol):
    """The state of the broker connection, for rules that depend on having listened."""

    @property
    def state(self) -> LinkState:
        """Return the state as it is now."""
        ...


class PowerDriver(Protocol):
    """One outlet. Every method raises ``PowerError``, and is cancelled by the caller after its own timeout.

    A driver never repeats a request that switches; it does not decide, remember or log anything.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Return what this kind of outlet can do."""
        ...

    async def identify(self) -> OutletIdentity:
        """Return what the outlet says that it is."""
        ...

    async def status(self) -> Reading:
        """Return what the outlet says of its state."""
        ...

    async def off(self, restore_after: float | None = None) -> None:
        """Ask for OFF.

        An outlet that restores itself also switches on again ``restore_after`` seconds later.
        """
        ...

    async def on(self) -> None:
        """Ask for ON; an outlet that is on already stays as it is."""
        ...

    async def close(self) -> None:
        """Give back connections. Never raises, and may be called twice."""
        ...


class Measures(Protocol):
    """Where services count what they did. Counting never fails and knows no client: fleets are too big."""

    def message(self, kind: str, outcome: str, count: int = 1) -> None:
        """Count messages from devices.

        ``outcome`` is ``stored``, ``rejected``, ``dropped`` (beyond a quota), ``retained`` (replayed by the
        broker) or ``emptied`` (the retained message of a topic was removed).
        """
        ...

    def rejected(self, reason: str, count: int = 1) -> None:
        """Count bad messages by their stable reason code."""
        ...

    def unread(self, field: str, count: int = 1) -> None:
        """Count optional fields that could not be read, by their name in the contract."""
        ...

    def command(self, action: str, status: str, count: int = 1) -> None:
        """Count commands that reached a status."""
        ...

    def command_duration(self, action: str, seconds: float) -> None:
        """Record how long a command took from its creation to its end."""
        ...

    def recovery_decision(self, reason: str, count: int = 1) -> None:
        """Count decisions of the recovery, on every poll and for every unwell client, by reason."""
        ...

    def recovery_attempt(self, rung: str, outcome: str) -> None:
        """Count attempts of the recovery that have ended."""
        ...

    def recovered(self, seconds: float) -> None:
        """Record how long a client was unwell until it was well again after the recovery had acted."""
        ...

    def incident(self, kind: str) -> None:
        """Count an incident that began."""
        ...

    def incidents_open(self, kinds: Mapping[str, int]) -> None:
        """Tell how many incidents of each kind are under way."""
        ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """How a delivery went. ``detail`` is what the receiver or a library said, without secrets."""

    ok: bool
    fault: DeliveryFault | None = None
    status: int | None = None
    retry_after: timedelta | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Receiver:
    """Where a message goes, in clear: never stored, logged or shown."""

    kind: ChannelKind
    url: str
    secret: str | None
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message as codes; ``incident`` is as it was when the message was made.

    ``clients`` names some of its members.
    """

    message_id: str
    step: NoticeStep
    number: int
    severity: Severity
    created_at: datetime
    incident: Incident | None = None
    incident_id: int | None = None
    clients: Sequence[str] = ()
    acknowledged_by: str | None = None
    alert: Fact[AlertCode] | None = None
    reason: tuple[Reason, Mapping[str, str | int]] | None = None
    text: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    link: str | None = field(default=None, repr=False)
    """The token of the link that acknowledges the incident."""


class Sender(Protocol):
    """The way out to notification channels; blocks nobody and raises nothing for what the world does."""

    async def check(self, kind: ChannelKind, url: str) -> Delivered:
        """Tell whether the URL is understood, without connecting anywhere."""
        ...

    async def send(self, receiver: Receiver, notice: Notice) -> Delivered:
        """Deliver a message within 30 s."""
        ...

    def preview(self, notice: Notice, language: str) -> tuple[str, str]:
        """Return title and text of a message."""
        ...


@dataclass(frozen=True, slots=True)
class SignInRequest:
    """Where to send a browser to sign in, and what is kept until it comes back."""

    url: str
    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class ProviderIdentity:
    """Who signed in at a provider. ``subject`` is the only thing that never changes."""

    subject: str
    username: str
    groups: frozenset[str]


class IdentityProvider(Protocol):
    """Signs people in for us."""

    issuer: str

    async def begin(self, redirect_uri: str) -> SignInRequest:
        """Return where to send the browser; raise ``ProviderUnavailable`` or ``Busy``."""
        ...

    async def finish(self, code: str, redirect_uri: str, nonce: str, verifier: str) -> ProviderIdentity:
        """Return who signed in; raise ``IdentityRefused``, ``ProviderUnavailable`` or ``Busy``."""
        ...
