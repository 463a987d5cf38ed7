"""Payloads of the wire contract v1: frozen models, decoded once at the edge.

``read`` raises nothing but ``BadMessage``. Fields a device adds are ignored; a missing optional field is None
and means "unknown". Optional fields are read one by one: what cannot be read is left out and told apart, and
the rest of the message counts.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, cast
from uuid import UUID

import msgspec
from msgspec import Meta
from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from infoscreen.domain.clients import Presence, ProcessStatus
from infoscreen.domain.codes import Fact
from infoscreen.domain.commands import AckStatus, Action
from infoscreen.domain.error_codes import MessageDefect
from infoscreen.domain.errors import BadMessage
from infoscreen.domain.faults import FieldFault, fault_of
from infoscreen.domain.visible import visible
from infoscreen.wire.base import EARLIEST, LATEST, Message, State, described, quick_reader
from infoscreen.wire.pictures import image_size
from infoscreen.wire.reading import MOST_ITEMS, Unread, read_object
from infoscreen.wire.topics import DeviceTopic, TopicKind

MAX_JSON_BYTES = 64 * 1024
"""Larger than any honest JSON payload of the contract; bounds what a decoder ever sees."""

MAX_SCREENSHOT_BYTES = 512 * 1024
MAX_SCREENSHOT_PIXELS = 40_000_000
"""More than an 8K screen has; a small file may unfold to gigabytes in the browser that shows it."""

MAX_LOG_CHARACTERS = 4_000
MAX_REASON_CHARACTERS = 2_000


def _utc(value: datetime) -> datetime:
    """Return the time in UTC; a device that leaves the zone out means UTC.

    A clock may be anything. Times at the edge of the calendar are moved inwards, because a conversion to
    another zone would overflow there.
    """
    # Compared before it is converted, for the same reason.
    if not EARLIEST.year < value.year < LATEST.year:
        return EARLIEST if value.year <= EARLIEST.year else LATEST
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Time = Annotated[datetime, Field(strict=True), AfterValidator(_utc), Meta(tz=True)]
NO_NUL = r"^[^\x00]*$"
"""PostgreSQL cannot store NUL in a text."""

Text = Annotated[str, Field(strict=True, max_length=500, pattern=NO_NUL), Meta(max_length=500)]
LongText = Annotated[str, Field(strict=True, pattern=NO_NUL)]
Capability = Annotated[str, Field(strict=True, max_length=60, pattern=NO_NUL)]
Count = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1), Meta(ge=0, le=2**31 - 1)]
Percent = Annotated[float, Field(ge=0, le=100_000), Meta(ge=0, le=100_000)]
"""A device with several cores may well say more than 100."""

Celsius = Annotated[float, Field(ge=-273.15, le=10_000), Meta(ge=-273.15, le=10_000)]
Seconds = Annotated[float, Field(ge=0, le=1e10), Meta(ge=0, le=1e10)]

_UUID: frozenset[str] = frozenset({"uuid"})


class Heartbeat(State, frozen=True):
    """I am alive. ``timestamp`` is the device's clock."""

    identity: ClassVar = _UUID

    timestamp: Time
    uuid: UUID | None = None
    process_status: ProcessStatus | None = None
    current_process: Text | None = None
    process_pid: Count | None = None
    app_started_at: Time | None = None
    boot_id: Text | None = None
    booted_at: Time | None = None
    ip: Text | None = None
    hostname: Text | None = None
    software_version: Text | None = None
    persistent_session: bool | None = None


EventId = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63), Meta(ge=-(2**63), le=2**63 - 1)]


class ExpectedState(State, frozen=True):
    """What the device should be showing."""

    event_id: EventId | Text | None = None
    event_type: Text | None = None
    media_file: Text | None = None
    started_at: Time | None = None


class ActualState(State, frozen=True):
    """What the device is showing."""

    process: Text | None = None
    pid: Count | None = None
    status: ProcessStatus | None = None
    started_at: Time | None = None


Share = Annotated[float, Field(ge=0, le=1), Meta(ge=0, le=1)]


class CapturedPicture(State, frozen=True):
    """The newest capture of the screen: its mean luminance, and when the picture changed last."""

    captured_at: Time | None = None
    luminance: Share | None = None
    changed_at: Time | None = None


class HealthMetrics(State, frozen=True):
    """Readings of the device; percentages 0 to 100, temperature in degrees Celsius, uptime in seconds."""

    cpu_percent: Percent | None = None
    memory_percent: Percent | None = None
    disk_percent: Percent | None = None
    temperature_celsius: Celsius | None = None
    uptime_seconds: Seconds | None = None
    screen_on: bool | None = None
    last_frame_update: Time | None = None
    undervoltage: bool | None = None
    picture: CapturedPicture | None = None


class BrokerConnection(State, frozen=True):
    """How the device fares with the broker."""

    broker_reachable: bool | None = None
    reconnect_count: Count | None = None
    last_disconnect_at: Time | None = None


class Health(State, frozen=True):
    """How the device is doing; every block is optional."""

    identity: ClassVar = _UUID

    timestamp: Time
    uuid: UUID | None = None
    expected_state: ExpectedState | None = None
    actual_state: ActualState | None = None
    health_metrics: HealthMetrics | None = None
    broker_connection: BrokerConnection | None = None

    def as_stored(self) -> str:
        """Return as JSON what the device said of itself, without what it did not say."""
        said = self if self.uuid is None else msgspec.structs.replace(self, uuid=None)
        return msgspec.json.encode(said).decode()


class ServiceFailed(Message):
    """systemd on the device has given up on ``unit``."""

    identity: ClassVar = frozenset({"client_uuid"})

    unit: Annotated[Text, Field(min_length=1)]
    failed_at: Time
    event: Literal["service_failed"] = "service_failed"
    client_uuid: UUID | None = None
    result: Text | None = None


class ServiceCleared(Message):
    """An emptied ``service_failed``."""


class PresenceReport(Message):
    """The device's own word, or its last will."""

    presence: Presence


class Discovery(Message):
    """Who the device is and what it can do. ``keepalive_seconds`` is that of its broker connection."""

    uuid: UUID
    hostname: Text | None = None
    ip: Text | None = None
    mac: Text | None = None
    hardware_model: Text | None = None
    os_release: Text | None = None
    software_version: Text | None = None
    agent_version: Text | None = None
    capabilities: Annotated[list[Capability], Field(max_length=MOST_ITEMS)] | None = None
    keepalive_seconds: Annotated[int, Field(strict=True, ge=1, le=65_535)] | None = None


def _cut(value: str) -> str:
    return value[:MAX_LOG_CHARACTERS]


def _is_json(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse NaN and infinite numbers, which the parser takes and neither PostgreSQL nor a browser reads."""
    json.dumps(value, allow_nan=False)
    return value


class LogLine(Message):
    """One line from the device's journal, cut at 4,000 characters."""

    prose: ClassVar = frozenset({"message"})

    timestamp: Time
    message: Annotated[LongText, AfterValidator(_cut)]
    logger: Text | None = None
    context: Annotated[dict[str, Any], AfterValidator(_is_json)] | None = None


class Screenshot(Message):
    """An image as it came; JPEG or PNG by its own first bytes."""

    image: bytes
    content_type: Literal["image/jpeg", "image/png"]


class CommandAck(Message):
    """What a device says about a command; correlation is by ``command_id`` alone."""

    prose: ClassVar = frozenset({"error_code", "error_message"})

    command_id: UUID
    status: AckStatus
    error_code: Annotated[LongText, AfterValidator(lambda text: text[:200])] | None = None
    error_message: Annotated[LongText, AfterValidator(lambda text: text[:2_000])] | None = None


class Command(Message):
    """A command.

    Exactly these eight fields, always all of them, and nothing else; devices refuse any other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["1.0"] = "1.0"
    command_id: UUID
    client_uuid: UUID
    action: Action
    issued_at: Time
    expires_at: Time
    requested_by: Annotated[int, Field(ge=1, strict=True)] | None
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARACTERS)] | None

    def encode(self) -> bytes:
        """Return the payload as it goes over the wire."""
        return self.model_dump_json().encode()


DeviceMessage = (
    Heartbeat
    | Health
    | ServiceFailed
    | ServiceCleared
    | PresenceReport
    | Discovery
    | LogLine
    | Screenshot
    | CommandAck
)


def encode(message: Message | State) -> bytes:
    """Return a device's message as JSON, without the fields that say nothing."""
    if isinstance(message, State):
        return msgspec.json.encode(message)
    return message.model_dump_json(exclude_none=True).encode()


class Received(NamedTuple):
    """A message, and which of its optional fields could not be read."""

    message: DeviceMessage
    unread: tuple[Unread, ...] = ()


def read(topic: DeviceTopic, payload: bytes) -> Received:
    """Read what arrived on a device topic.

    Raises:
        BadMessage: too large, no JSON, a required field missing or unreadable, or naming another device than
            the topic does.
    """
    received = _READERS[topic.kind](payload)
    name = _NAMES.get(topic.kind)
    named = None if name is None else getattr(received.message, name, None)
    if named is not None and str(named) != topic.uuid:
        raise BadMessage(MessageDefect.UUID_MISMATCH, payload=str(named), topic=topic.uuid)
    return received


def decode(topic: DeviceTopic, payload: bytes) -> DeviceMessage:
    """Return the message alone; raise ``BadMessage`` as ``read`` does."""
    return read(topic, payload).message


def decode_command(payload: bytes) -> Command:
    """Decode what arrived on a command topic, as strictly as devices in the field do.

    Raises:
        BadMessage: too large, malformed, a field missing or one too many.
    """
    if len(payload) > MAX_JSON_BYTES:
        raise BadMessage(MessageDefect.TOO_LARGE, bytes=len(payload), most=MAX_JSON_BYTES)
    try:
        command = Command.model_validate_json(payload)
    except ValidationError as error:
        raise _malformed(error) from None
    missing = sorted(Command.model_fields.keys() - command.model_fields_set)
    if missing:
        raise BadMessage(MessageDefect.WRONG_FIELD, field=missing[0], fault=Fact(FieldFault.MISSING))
    return command


_Reader = Callable[[bytes], Received]


def _json(model: type[Discovery | ServiceFailed | LogLine | CommandAck]) -> _Reader:
    validate = cast("Callable[[bytes], DeviceMessage]", model.__pydantic_validator__.validate_json)

    def read_json(payload: bytes) -> Received:
        if len(payload) > MAX_JSON_BYTES:
            raise BadMessage(MessageDefect.TOO_LARGE, bytes=len(payload), most=MAX_JSON_BYTES)
        try:
            return Received(validate(payload))
        except ValidationError:
            return Received(*read_object(model, payload))

    return read_json


def _state(kind: type[Heartbeat | Health]) -> _Reader:
    quick = quick_reader(kind)
    validate = described(kind).__pydantic_validator__.validate_json

    def read_state(payload: bytes) -> Received:
        if len(payload) > MAX_JSON_BYTES:
            raise BadMessage(MessageDefect.TOO_LARGE, bytes=len(payload), most=MAX_JSON_BYTES)
        message = quick(payload)
        if message is not None:
            return Received(message)
        try:
            return Received(kind.of(validate(payload)))
        except ValidationError:
            return Received(*read_object(kind, payload))

    return read_state


def _malformed(error: ValidationError) -> BadMessage:
    """Return what is wrong with the first field at fault, without repeating what was sent."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = visible(".".join(str(part) for part in first["loc"])[:100], one_line=True) or "payload"
    return BadMessage(MessageDefect.WRONG_FIELD, field=where, fault=fault_of(first["type"], first.get("ctx")))


def _service_failed(payload: bytes) -> Received:
    return _read_service_failed(payload) if payload else Received(ServiceCleared())


def _presence(payload: bytes) -> Received:
    try:
        return Received(PresenceReport(presence=Presence(payload.decode())))
    except ValueError:
        raise BadMessage(MessageDefect.NOT_PRESENCE) from None


def _screenshot(payload: bytes) -> Received:
    if len(payload) > MAX_SCREENSHOT_BYTES:
        raise BadMessage(MessageDefect.TOO_LARGE, bytes=len(payload), most=MAX_SCREENSHOT_BYTES)
    content_type = image_type(payload)
    if content_type is None:
        raise BadMessage(MessageDefect.NOT_AN_IMAGE)
    width, height = image_size(payload)
    if width * height > MAX_SCREENSHOT_PIXELS:
        raise BadMessage(
            MessageDefect.TOO_MANY_PIXELS, width=width, height=height, most=MAX_SCREENSHOT_PIXELS
        )
    return Received(Screenshot(image=payload, content_type=content_type))


def image_type(data: bytes) -> Literal["image/jpeg", "image/png"] | None:
    """Tell which image this is by its first and last bytes, or None when it is neither or was cut off.

    The daemon never decodes an image, it only hands it on with this type and ``nosniff``; so the frame is
    enough.
    """
    if data.startswith(b"\xff\xd8\xff") and data.rstrip(b"\x00").endswith(b"\xff\xd9"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR") and data.endswith(b"IEND\xaeB`\x82"):
        return "image/png"
    return None


_read_service_failed = _json(ServiceFailed)

_READERS: Mapping[TopicKind, _Reader] = {
    TopicKind.DISCOVERY: _json(Discovery),
    TopicKind.HEARTBEAT: _state(Heartbeat),
    TopicKind.HEALTH: _state(Health),
    TopicKind.SERVICE_FAILED: _service_failed,
    TopicKind.PRESENCE: _presence,
    TopicKind.LOG: _json(LogLine),
    TopicKind.SCREENSHOT: _screenshot,
    TopicKind.ACK: _json(CommandAck),
}

_NAMES: Mapping[TopicKind, str] = {
    TopicKind.DISCOVERY: "uuid",
    TopicKind.HEARTBEAT: "uuid",
    TopicKind.HEALTH: "uuid",
    TopicKind.SERVICE_FAILED: "client_uuid",
}
"""The field in which a message may name its device once more."""
