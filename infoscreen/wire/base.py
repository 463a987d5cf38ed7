"""What all messages have in common, and the quick way to read those that devices repeat all the time.

Events are pydantic models. State (heartbeats, health) is described once and read in two ways: msgspec reads
ordinary payloads in a fraction of the time; whatever it cannot read, or might read differently, is left to
pydantic, which decides what the contract allows and names what is wrong.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Self, TypeVar, cast, get_args, get_type_hints

import msgspec
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

EARLIEST = datetime(2, 1, 1, tzinfo=UTC)
LATEST = datetime(9998, 12, 31, tzinfo=UTC)
"""Every time of a device is brought into these bounds, so that it can be shown in any zone."""


class Message(BaseModel):
    """A message of which each one counts.

    ``identity`` are optional fields that refuse the message when they cannot be read. ``prose`` are texts
    for people: characters that cannot be stored are escaped there instead of losing the text.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    identity: ClassVar[frozenset[str]] = frozenset()
    prose: ClassVar[frozenset[str]] = frozenset()


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A message of which the newest counts, or a block of one.

    The annotation of a field holds the rule for pydantic (``Field``) and the same or a stricter one for
    msgspec (``Meta``). Creating an instance checks nothing; the function ``checked`` does.
    """

    identity: ClassVar[frozenset[str]] = frozenset()
    prose: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def of(cls, model: BaseModel) -> Self:
        """Return what was read as the model ``described(cls)``."""
        return cls(**model.__dict__)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic read a block, or take it as it is."""
        read = core_schema.no_info_after_validator_function(cls.of, handler.generate_schema(described(cls)))
        as_it_is = core_schema.is_instance_schema(cls)
        return core_schema.json_or_python_schema(read, core_schema.union_schema([as_it_is, read]))


M = TypeVar("M", bound=Message | State)
S = TypeVar("S", bound=State)


@lru_cache
def described(kind: type[Message | State]) -> type[Message]:
    """Return the pydantic model with these fields. It reads them, and documents are made of it."""
    if issubclass(kind, Message):
        return kind
    hints = get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {
        one.name: (hints[one.name], ... if one.required else one.default)
        for one in msgspec.structs.fields(kind)
    }
    return create_model(
        kind.__name__, __base__=Message, __doc__=kind.__doc__, __module__=kind.__module__, **fields
    )


def checked(kind: type[M], **values: Any) -> M:
    """Return a message of these values; raise ``ValidationError`` for what the contract does not allow."""
    model = described(cast("type[Message]", kind))(**values)
    return cast("M", kind.of(model) if issubclass(kind, State) else model)


_LONG_FRACTION = re.compile(rb"\.\d{7}")
"""Of a second: msgspec rounds it, pydantic cuts it."""


def quick_reader(kind: type[S]) -> Callable[[bytes], S | None]:
    """Return a function that reads ordinary payloads, and returns None for those pydantic has to read."""
    decode = msgspec.json.Decoder(kind).decode
    plain = _times_are_plain(kind)

    def read(payload: bytes) -> S | None:
        # Escapes may stand for what cannot be stored: NUL, or half of a surrogate pair.
        if b"\\" in payload or _LONG_FRACTION.search(payload):
            return None
        try:
            message = decode(payload)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return message if plain(message) else None

    return read


def _times_are_plain(kind: type[State]) -> Callable[[State], bool]:
    """Return a function that tells whether all times are in UTC and within the bounds already."""
    first, last = EARLIEST.year, LATEST.year
    times: list[str] = []
    blocks: list[tuple[str, Callable[[State], bool]]] = []
    for name, hint in get_type_hints(kind).items():
        kinds = [one for one in (hint, *get_args(hint)) if isinstance(one, type)]
        if datetime in kinds:
            times.append(name)
        blocks += [(name, _times_are_plain(one)) for one in kinds if issubclass(one, State)]

    def plain(message: State) -> bool:
        for name in times:
            at = getattr(message, name)
            if at is not None and not (at.tzinfo is UTC and first < at.year < last):
                return False
        for name, block_is_plain in blocks:
            block = getattr(message, name)
            if block is not None and not block_is_plain(block):
                return False
        return True

    return plain
