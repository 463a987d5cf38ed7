"""From a code and its arguments to a sentence: one table for each kind of code."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from infoscreen.domain.codes import Code, Fact, Value
from infoscreen.domain.commands import Action
from infoscreen.words.language import ENGLISH, Language
from infoscreen.words.names import ACTION_NOUNS, word


class Plural(NamedTuple):
    """A sentence with two forms; the argument ``by`` decides."""

    one: str
    many: str
    by: str


Text = str | Plural
Table = Mapping[Any, Text]
"""A sentence for each member of one kind; the gaps ``%(name)s`` are exactly the member's arguments."""


def plural(one: str, many: str, by: str) -> Plural:
    """Mark a sentence with two forms for the catalogs, as ``N_`` does for one form."""
    return Plural(one, many, by)


TABLES: Mapping[type[Code], Table] = MappingProxyType({})
"""All kinds that have sentences."""


def say(fact: Fact[Code], language: Language = ENGLISH) -> str:
    """Return the fact as a sentence."""
    return filled(TABLES[type(fact.code)][fact.code], fact.arguments, language)


def filled(text: Text, arguments: Mapping[str, Value], language: Language) -> str:
    """Return a text of a table with its gaps filled."""
    values = {gap: written(value, language) for gap, value in arguments.items()}
    if isinstance(text, str):
        return language.gettext(text) % values
    return language.ngettext(text.one, text.many, int(str(arguments[text.by]))) % values


def written(value: Value, language: Language) -> str:
    """Return one argument as the language writes it; text of devices and people is left as it is."""
    match value:
        case Action():
            return language.gettext(ACTION_NOUNS[value])
        case StrEnum():
            return word(value, language)
        case datetime():
            return language.moment(value)
        case timedelta():
            return language.duration(value)
        case int():
            return language.number(value)
        case float():
            return language.number(value, 1)
        case _:
            return value
