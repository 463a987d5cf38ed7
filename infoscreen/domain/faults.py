"""What can be wrong with one field of a request or of a message, as codes.

``fault_of`` translates the names that pydantic gives its rules, so that its English sentences stay unused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infoscreen.domain.codes import Code, Fact, Value
from infoscreen.domain.commands import Action


class FieldFault(Code):
    """What is wrong with the value of a field, and what is allowed."""

    MISSING = "missing"
    UNKNOWN = "unknown", {"allowed": str}
    NO_FIELDS_ALLOWED = "no_fields_allowed"
    GIVEN_TWICE = "given_twice", {"times": int}
    NOT_STORABLE = "not_storable"
    NOT_TEXT = "not_text"
    TOO_SHORT = "too_short", {"least": int}
    TOO_LONG = "too_long", {"most": int}
    FORBIDDEN_CHARACTERS = "forbidden_characters"
    NOT_A_NUMBER = "not_a_number"
    NOT_AN_INTEGER = "not_an_integer"
    NOT_FINITE = "not_finite"
    NOT_MORE = "not_more", {"than": str}
    TOO_SMALL = "too_small", {"least": str}
    NOT_LESS = "not_less", {"than": str}
    TOO_LARGE = "too_large", {"most": str}
    NOT_A_BOOLEAN = "not_a_boolean"
    NOT_ONE_OF = "not_one_of", {"allowed": str}
    NO_SUCH_STATUS = "no_such_status", {"given": str}
    NOT_A_LIST = "not_a_list"
    NOT_AN_OBJECT = "not_an_object"
    TOO_FEW_ITEMS = "too_few_items", {"least": int}
    TOO_MANY_ITEMS = "too_many_items", {"most": int}
    NOT_A_TIME = "not_a_time"
    NO_TIME_ZONE = "no_time_zone"
    YEAR_NOT_ALLOWED = "year_not_allowed", {"first": str, "last": str}
    NOT_JSON = "not_json"
    NOT_A_UUID = "not_a_uuid"
    NOT_A_USER_NAME = "not_a_user_name"
    NOT_A_TOKEN_NAME = "not_a_token_name", {"most": int}
    PASSWORD_LENGTH = "password_length", {"length": int, "least": int, "most": int}
    PASSED = "passed", {"at": datetime}
    NOT_AFTER = "not_after", {"at": datetime}
    NOT_WITHIN = "not_within", {"at": datetime, "days": int}
    REASON_NEEDED = "reason_needed"
    REASON_NEEDED_TO_FORCE = "reason_needed_to_force"
    SCOPE_NEEDS_IT = "scope_needs_it", {"scope": str}
    SCOPE_FORBIDS_IT = "scope_forbids_it", {"scope": str}
    NOT_CAPABLE = "not_capable", {"action": Action}
    FOREIGN_CURSOR = "foreign_cursor"
    CLIENTS_OR_FILTER = "clients_or_filter"
    NOT_A_CHANNEL_URL = "not_a_channel_url"
    NOT_A_WEBHOOK_URL = "not_a_webhook_url"
    NO_SUCH_CHANNEL = "no_such_channel", {"id": int}
    NO_SUCH_TIME_ZONE = "no_such_time_zone"
    NO_SUCH_COUNTRY = "no_such_country"
    NO_SUCH_SITE = "no_such_site", {"id": str}
    NOT_OPENING_HOURS = "not_opening_hours", {"part": str, "column": int}
    NOT_BOTH = "not_both", {"other": str}
    NEEDS_OTHER = "needs_other", {"other": str}
    OTHER = "other", {"rule": str}
    """Another rule of pydantic, by its name."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """A field at fault; ``given`` is its value as JSON, cut, and None where it may be a secret."""

    field: str
    fault: Fact[FieldFault]
    given: str | None = None


class BadValue(ValueError):
    """A validator refuses a value; pydantic hands this error on with the field's name."""

    def __init__(self, code: FieldFault, **arguments: Value) -> None:
        self.fault: Fact[FieldFault] = Fact(code, arguments)
        super().__init__(str(self.fault))


_PLAIN: Mapping[str, FieldFault] = {
    "missing": FieldFault.MISSING,
    "string_type": FieldFault.NOT_TEXT,
    "string_pattern_mismatch": FieldFault.FORBIDDEN_CHARACTERS,
    "string_unicode": FieldFault.NOT_STORABLE,
    "int_type": FieldFault.NOT_AN_INTEGER,
    "int_parsing": FieldFault.NOT_AN_INTEGER,
    "int_from_float": FieldFault.NOT_AN_INTEGER,
    "int_parsing_size": FieldFault.NOT_AN_INTEGER,
    "float_type": FieldFault.NOT_A_NUMBER,
    "float_parsing": FieldFault.NOT_A_NUMBER,
    "finite_number": FieldFault.NOT_FINITE,
    "bool_type": FieldFault.NOT_A_BOOLEAN,
    "bool_parsing": FieldFault.NOT_A_BOOLEAN,
    "list_type": FieldFault.NOT_A_LIST,
    "tuple_type": FieldFault.NOT_A_LIST,
    "set_type": FieldFault.NOT_A_LIST,
    "frozen_set_type": FieldFault.NOT_A_LIST,
    "dict_type": FieldFault.NOT_AN_OBJECT,
    "model_type": FieldFault.NOT_AN_OBJECT,
    "model_attributes_type": FieldFault.NOT_AN_OBJECT,
    "datetime_type": FieldFault.NOT_A_TIME,
    "datetime_parsing": FieldFault.NOT_A_TIME,
    "datetime_from_date_parsing": FieldFault.NOT_A_TIME,
    "datetime_object_invalid": FieldFault.NOT_A_TIME,
    "timezone_aware": FieldFault.NO_TIME_ZONE,
    "json_invalid": FieldFault.NOT_JSON,
    "uuid_type": FieldFault.NOT_A_UUID,
    "uuid_parsing": FieldFault.NOT_A_UUID,
}

_BOUNDED: Mapping[str, tuple[FieldFault, str, str, type[int] | type[str]]] = {
    "string_too_short": (FieldFault.TOO_SHORT, "min_length", "least", int),
    "string_too_long": (FieldFault.TOO_LONG, "max_length", "most", int),
    "too_short": (FieldFault.TOO_FEW_ITEMS, "min_length", "least", int),
    "too_long": (FieldFault.TOO_MANY_ITEMS, "max_length", "most", int),
    "greater_than": (FieldFault.NOT_MORE, "gt", "than", str),
    "greater_than_equal": (FieldFault.TOO_SMALL, "ge", "least", str),
    "less_than": (FieldFault.NOT_LESS, "lt", "than", str),
    "less_than_equal": (FieldFault.TOO_LARGE, "le", "most", str),
}
"""By rule: the fault, the name of the bound in pydantic's context and in ours, and its type."""


def fault_of(rule: str, context: Mapping[str, Any] | None = None) -> Fact[FieldFault]:
    """Return the fault that an error of pydantic stands for: its ``type`` and its ``ctx``."""
    context = context or {}
    error = context.get("error")
    if isinstance(error, BadValue):
        return error.fault
    if rule in _PLAIN:
        return Fact(_PLAIN[rule])
    if rule in _BOUNDED:
        code, theirs, ours, kind = _BOUNDED[rule]
        bound = context[theirs]
        return Fact(code, {ours: bound if kind is int else f"{bound:g}"})
    if rule in ("literal_error", "enum"):
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return Fact(FieldFault.NOT_ONE_OF, {"allowed": allowed})
    return Fact(FieldFault.OTHER, {"rule": rule})
