"""Codes with typed arguments: what is stored and handed on instead of sentences.

A kind of fact is a subclass of ``Code``; each member names the types of its arguments. ``words/`` has a
sentence for every member. Nothing here is text for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Generic, TypeVar, Union

Value = Union[str, int, float, datetime, timedelta, StrEnum, "Fact[Any]", tuple[StrEnum, ...]]
"""An argument. Members of enums are said by their names, all others as a language writes them."""

Type = type | list[type]
"""The type of an argument; a kind of ``Code`` means a fact of it, ``[Enum]`` several members."""

Packed = dict[str, Any]
"""Arguments as JSON has them: times in ISO 8601, durations in seconds, members of enums by value."""

NOTHING: Mapping[str, Type] = MappingProxyType({})


class Code(StrEnum):
    """Base of all kinds. A member is written ``NAME = "name", {"argument": its type}``; never rename one."""

    takes: Mapping[str, Type]

    def __new__(cls, value: str, takes: Mapping[str, Type] = NOTHING) -> "Code":
        """Keep the types of the arguments beside the value."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.takes = MappingProxyType(dict(takes))
        return member


C_co = TypeVar("C_co", bound=Code, covariant=True)


@dataclass(frozen=True, slots=True)
class Fact(Generic[C_co]):
    """A code and its arguments.

    Raises:
        TypeError: the arguments are not exactly those that the code takes.
    """

    code: C_co
    arguments: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        takes = self.code.takes
        if takes.keys() != self.arguments.keys():
            raise TypeError(f"{self.code} takes {sorted(takes)}, given {sorted(self.arguments)}")
        for name, kind in takes.items():
            value = self.arguments[name]
            if not _is_a(value, kind):
                raise TypeError(f"{self.code}: {name} is {value!r}, not a {kind}")

    def __str__(self) -> str:
        """Return the code and its arguments, for logs."""
        arguments = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.code.value} ({arguments})" if arguments else self.code.value

    def packed(self) -> Packed:
        """Return the arguments as JSON has them."""
        return {name: _packed(value) for name, value in self.arguments.items()}


def unpacked(kind: type[C_co], code: str, arguments: Mapping[str, Any]) -> Fact[C_co]:
    """Return what ``Fact.packed`` was made from; raise ``ValueError`` if ``kind`` has no such code."""
    member = kind(code)
    return Fact(member, {name: _unpacked(arguments[name], wanted) for name, wanted in member.takes.items()})


def _is_a(value: Value, kind: Type) -> bool:
    if isinstance(kind, list):
        return isinstance(value, tuple) and all(isinstance(one, kind[0]) for one in value)
    if issubclass(kind, Code):
        return isinstance(value, Fact) and isinstance(value.code, kind)
    return isinstance(value, kind) or (kind is float and isinstance(value, int))


def _packed(value: Value) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case StrEnum():
            return value.value
        case Fact():
            return {"code": value.code.value, "arguments": value.packed()}
        case tuple():
            return [_packed(one) for one in value]
        case _:
            return value


def _unpacked(value: Any, wanted: Type) -> Value:
    if isinstance(wanted, list):
        return tuple(wanted[0](one) for one in value)
    if issubclass(wanted, Code):
        return unpacked(wanted, value["code"], value["arguments"])
    if wanted is datetime:
        return datetime.fromisoformat(value)
    if wanted is timedelta:
        return timedelta(seconds=value)
    plain: Any = wanted
    made: Value = plain(value)
    return made
