"""From a fact to a sentence: the tables of all kinds, and how arguments are written."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from infoscreen.domain.alerts import AlertCode
from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.clients import Condition
from infoscreen.domain.codes import Code, Fact, Value
from infoscreen.domain.commands import Action
from infoscreen.domain.error_codes import ErrorCode, MessageDefect
from infoscreen.domain.errors import StoreTrouble
from infoscreen.domain.faults import FieldError, FieldFault
from infoscreen.domain.history import Finding, Happening, Note
from infoscreen.domain.readiness import NotReady
from infoscreen.words.alerts import ALERTS, BROKER_FAULTS
from infoscreen.words.errors import DEFECTS, ERRORS, FAULTS, GIVEN
from infoscreen.words.history import FINDINGS, HAPPENINGS, NOTES
from infoscreen.words.language import Language, Table, Text, spoken
from infoscreen.words.names import ACTION_NOUNS, CONDITIONS_TOLD, word
from infoscreen.words.readiness import NOT_READY, STORE_TROUBLES

TABLES: Mapping[type[Code], Table] = MappingProxyType(
    {
        Finding: FINDINGS,
        Note: NOTES,
        Happening: HAPPENINGS,
        ErrorCode: ERRORS,
        FieldFault: FAULTS,
        MessageDefect: DEFECTS,
        AlertCode: ALERTS,
        NotReady: NOT_READY,
    }
)
"""All kinds that have sentences."""


def say(fact: Fact[Code], language: Language | None = None) -> str:
    """Return the fact as a sentence."""
    language = language or spoken()
    return filled(TABLES[type(fact.code)][fact.code], fact.arguments, language)


def field_error(error: FieldError, language: Language | None = None) -> str:
    """Say what is wrong with a field, what is allowed, and what was given."""
    language = language or spoken()
    fault = say(error.fault, language)
    return fault if error.given is None else language.gettext(GIVEN) % {"fault": fault, "given": error.given}


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
        case Condition():
            return language.gettext(CONDITIONS_TOLD[value])
        case StoreTrouble():
            return language.gettext(STORE_TROUBLES[value])
        case BrokerFault():
            return language.gettext(BROKER_FAULTS[value])
        case StrEnum():
            return word(value, language)
        case str():
            return value
        case datetime():
            return language.moment(value)
        case timedelta():
            return language.duration(value)
        case int():
            return language.number(value)
        case float():
            return language.number(value, 1)
        case Fact():
            return say(value, language)
        case tuple():
            return ", ".join(written(one, language) for one in value)
