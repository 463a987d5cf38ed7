"""Reads a JSON object member by member, so that one field which cannot be read costs only itself.

The slow way: ``messages.read`` comes here only when a payload could not be read as a whole. Refuses what is
no JSON object, and what lacks a field that its model requires or that tells whose message it is.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, cast, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from infoscreen.domain.clients import ProcessStatus
from infoscreen.domain.codes import Fact
from infoscreen.domain.error_codes import MessageDefect
from infoscreen.domain.errors import BadMessage
from infoscreen.domain.faults import FieldFault, fault_of
from infoscreen.domain.visible import storable, visible
from infoscreen.wire.base import EARLIEST, LATEST, M, Message, State, described

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SAID_CHARACTERS = 60
"""So much is kept of what could not be read."""

MOST_ITEMS = 50
"""Items of a list, of which the readable ones are kept."""


class Unread(NamedTuple):
    """A field that could not be read: its name, dotted in blocks, and the JSON that stood there, cut."""

    field: str
    said: str


class _Field(NamedTuple):
    adapter: TypeAdapter[Any]
    required: bool
    block: type[Message | State] | None
    items: TypeAdapter[Any] | None
    is_state: bool
    is_time: bool


class _NotJson(ValueError):
    """The text is no JSON, or no object."""

    def __init__(self, code: MessageDefect, **arguments: int) -> None:
        self.code = code
        self.arguments = arguments
        super().__init__(code.value)

    @classmethod
    def at(cls, character: int) -> "_NotJson":
        """Return the error for text that stops being JSON at a character."""
        return cls(MessageDefect.NOT_JSON, character=character)


def read_object(model: type[M], payload: bytes) -> tuple[M, tuple[Unread, ...]]:
    """Return the message and what of it could not be read.

    Raises:
        BadMessage: no JSON object, or a field is missing or unreadable that the message is refused for.
    """
    text = payload.removeprefix(BYTE_ORDER_MARK).decode(errors="surrogateescape")
    unread: list[Unread] = []
    try:
        message = cast("M", _read(cast("type[Message]", model), text, unread, ""))
    except _NotJson as error:
        raise BadMessage(error.code, **error.arguments) from None
    return message, tuple(unread)


def _read(model: type[Message | State], text: str, unread: list[Unread], prefix: str) -> Message | State:
    values: dict[str, Any] = {}
    members = _members(text)
    fields = _fields_of(model)
    for name, raw in members.items():
        field = fields.get(name)
        if field is None:
            _check(raw)
            continue
        try:
            values[name] = field.adapter.validate_json(raw.encode(errors="surrogateescape"))
        except ValidationError as error:
            _check(raw)
            values |= _rescued(model, name, field, raw, unread, prefix)
            if name in values:
                continue
            if field.required or name in model.identity:
                why = error.errors(include_url=False, include_input=False)[0]
                fault = fault_of(why["type"], why.get("ctx"))
                raise BadMessage(MessageDefect.WRONG_FIELD, field=prefix + name, fault=fault) from None
    missing = sorted(name for name, field in fields.items() if field.required and name not in values)
    if missing:
        fault = Fact(FieldFault.MISSING)
        raise BadMessage(MessageDefect.WRONG_FIELD, field=prefix + missing[0], fault=fault)
    return model.model_construct(**values) if issubclass(model, Message) else model(**values)


def _rescued(
    model: type[Message | State], name: str, field: _Field, raw: str, unread: list[Unread], prefix: str
) -> Mapping[str, Any]:
    """Return the field's value as far as it can be made out, and note that it could not be read."""
    if field.block is not None and raw.startswith("{"):
        return {name: _read(field.block, raw, unread, f"{prefix}{name}.")}
    if raw.startswith('"'):
        text = str(json.loads(raw, strict=False))
        if name in model.prose:
            return {name: field.adapter.validate_python(storable(text))}
        if field.is_time and (time := _far_time(text)):
            return {name: time}
        if field.is_state:
            unread.append(Unread(prefix + name, _excerpt(raw)))
            return {name: ProcessStatus.OTHER}
    unread.append(Unread(prefix + name, _excerpt(raw)))
    if field.items is not None and raw.startswith("["):
        return {name: _readable_items(field.items, raw)}
    return {}


def _readable_items(adapter: TypeAdapter[Any], raw: str) -> list[Any]:
    try:
        items = json.loads(raw, parse_int=lambda _: None, strict=False)
    except RecursionError:
        return []
    readable: list[Any] = []
    for item in items[:MOST_ITEMS]:
        try:
            readable.append(adapter.validate_python(item))
        except ValidationError:
            continue
    return readable


def _excerpt(raw: str) -> str:
    cut = visible(raw[: SAID_CHARACTERS + 1], one_line=True)
    return cut if len(cut) <= SAID_CHARACTERS else cut[: SAID_CHARACTERS - 1] + "…"


@lru_cache
def _fields_of(model: type[Message | State]) -> Mapping[str, _Field]:
    found: dict[str, _Field] = {}
    for name, info in described(model).model_fields.items():
        kinds = [info.annotation, *_alternatives(info.annotation)]
        item = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is list), None)
        block = next((k for k in kinds if isinstance(k, type) and issubclass(k, Message | State)), None)
        found[name] = _Field(
            adapter=_adapter(Annotated[info.annotation, info]),
            required=info.is_required(),
            block=block,
            items=None if item is None else _adapter(item),
            is_state=ProcessStatus in kinds,
            is_time=datetime in kinds,
        )
    return found


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, each without its annotations."""
    members = get_args(annotation) if get_origin(annotation) is not list else ()
    return [get_args(one)[0] if get_origin(one) is Annotated else one for one in members]


_FAR_TIME = re.compile(r"(-?)\+?(\d{4,9})-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?")


def _far_time(text: str) -> datetime | None:
    """Return the bound for a time that is well written but outside of the calendar."""
    match = _FAR_TIME.match(text)
    if match is None:
        return None
    year = -int(match[2]) if match[1] else int(match[2])
    if year < EARLIEST.year:
        return EARLIEST
    return LATEST if year > LATEST.year else None


_TOKEN = re.compile(r'[ \t\n\r]*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([{}\[\],:])|([^\s{}\[\],:"]+))', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}


class _Tokens:
    """Walks over JSON text without recursion, however deep it is nested."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.end = 0

    def next(self) -> tuple[str, int]:
        """Return the next token and where it begins."""
        match = _TOKEN.match(self._text, self.end)
        if match is None:
            raise _NotJson.at(self.end)
        self.end = match.end()
        return match[match.lastindex or 0], match.start(match.lastindex or 0)

    def value(self) -> str:
        """Return the text of the next value."""
        part, start = self.next()
        if part in _CLOSING:
            stack = [_CLOSING[part]]
            while stack:
                part, _ = self.next()
                if part in _CLOSING:
                    stack.append(_CLOSING[part])
                elif part in "}]" and part != stack.pop():
                    raise _NotJson.at(self.end)
        elif part in "}],:":
            raise _NotJson.at(start)
        return self._text[start : self.end]


def _members(text: str) -> dict[str, str]:
    """Return the members of an object, each value as the text that stood there; of equals the last."""
    tokens = _Tokens(text)
    if tokens.next()[0] != "{":
        raise _NotJson(MessageDefect.NOT_AN_OBJECT)
    members: dict[str, str] = {}
    part, start = tokens.next()
    while part != "}":
        if not part.startswith('"') or tokens.next()[0] != ":":
            raise _NotJson.at(start)
        members[_key(part)] = tokens.value()
        part, start = tokens.next()
        if part == ",":
            part, start = tokens.next()
            if part == "}":
                raise _NotJson.at(start)
        elif part != "}":
            raise _NotJson.at(start)
    if text[tokens.end :].strip(" \t\n\r"):
        raise _NotJson(MessageDefect.TEXT_BEHIND, character=tokens.end)
    return members


def _key(part: str) -> str:
    try:
        return str(json.loads(part, strict=False))
    except ValueError as error:
        raise _NotJson.at(getattr(error, "pos", 0)) from None


def _check(raw: str) -> None:
    """Raise ``_NotJson`` for a value that is no JSON; one that is only too large or too deep passes."""
    try:
        json.loads(raw, parse_int=str, strict=False)
    except RecursionError:
        return
    except ValueError as error:
        raise _NotJson.at(getattr(error, "pos", 0)) from None
