"""Codes with typed arguments: what is stored and handed on instead of sentences.

A kind of fact is a subclass of ``Code``; each member names the types of its arguments. ``words/`` has a
sentence for every member. Nothing here is text for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, TypeVar

Value = str | int | float | datetime | timedelta | StrEnum
"""An argument. Members of enums are said by their names, all others as a language writes them."""

Packed = dict[str, str | int | float]
"""Arguments as JSON has them: times in ISO 8601, durations in seconds, members of enums by value."""

NOTHING: Mapping[str, type] = MappingProxyType({})


class Code(StrEnum):
    """Base of all kinds. A member is written ``NAME = "name", {"argument": its type}``; never rename one."""

    takes: Mapping[str, type]

    def __new__(cls, value: str, takes: Mapping[str, type] = NOTHING) -> "Code":
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
            if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
                raise TypeError(f"{self.code}: {name} is a {type(value).__name__}, not a {kind.__name__}")

    def packed(self) -> Packed:
        """Return the arguments as JSON has them."""
        return {name: _packed(value) for name, value in self.arguments.items()}


def unpacked(kind: type[C_co], code: str, arguments: Mapping[str, object]) -> Fact[C_co]:
    """Return what ``Fact.packed`` was made from; raise ``ValueError`` if ``kind`` has no such code."""
    member = kind(code)
    return Fact(member, {name: _unpacked(arguments[name], wanted) for name, wanted in member.takes.items()})


def _packed(value: Value) -> str | int | float:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case StrEnum():
            return value.value
        case _:
            return value


def _unpacked(value: object, wanted: type) -> Value:
    if wanted is datetime:
        return datetime.fromisoformat(str(value))
    if wanted is timedelta:
        return timedelta(seconds=float(str(value)))
    unpacked_value: Value = wanted(value)
    return unpacked_value
