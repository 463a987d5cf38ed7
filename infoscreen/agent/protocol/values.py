"""Makes messages of values that the device reads about itself, which may be anything.

What the contract does not allow is shortened, escaped or left out; the rest of the message counts. Nothing
that a host is called, or that a sensor or systemd says, may keep a device from speaking.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from infoscreen.domain.visible import storable
from infoscreen.wire.base import M, checked
from infoscreen.wire.messages import MAX_LOG_CHARACTERS

log = logging.getLogger(__name__)

MOST_CHARACTERS = 500
"""Of a text that is not for people; the contract's limit."""


def build(model: type[M], **values: object) -> M:
    """Return a message; optional fields whose values it cannot carry are left out.

    Raises:
        ValidationError: a required field cannot be carried.
    """
    sent = {
        name: _clean(value, MAX_LOG_CHARACTERS if name in model.prose else MOST_CHARACTERS)
        for name, value in values.items()
    }
    try:
        return checked(model, **sent)
    except ValidationError as error:
        faulty = {str(fault["loc"][0]) for fault in error.errors(include_input=False) if fault["loc"]}
    log.warning(
        "some values cannot be sent and are left out",
        extra={"event": "values_left_out", "fields": sorted(faulty)},
    )
    return checked(model, **{name: value for name, value in sent.items() if name not in faulty})


def _clean(value: object, most: int) -> Any:
    match value:
        case str():
            # Escapes are longer than what they stand for, so it is cut twice.
            return storable(value[:most])[:most]
        case Mapping():
            return {_clean(str(name), most): _clean(one, most) for name, one in value.items()}
        case Sequence() if not isinstance(value, bytes):
            return [_clean(one, most) for one in value]
        case _:
            return value
