"""Why a connection could not be made, or has ended: the libraries' errors as ours."""

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.reasoncodes import ReasonCode

from infoscreen.domain.errors import BrokerUnavailable, SessionTakenOver
from infoscreen.mqtt.connection import words_of
from infoscreen.mqtt.faults import SENTENCES, fault_of

SESSION_TAKEN_OVER = 0x8E
"""The reason with which an MQTT 5 broker ends a connection whose client id another one has taken."""
_TAKEN_OVER = "the connection was lost: another program connected under the same client id"


def failed(error: aiomqtt.MqttError, goodbye: int | None) -> BrokerUnavailable:
    """Return why a call of the library failed; ``goodbye`` is the reason that the broker gave, if any."""
    return (
        SessionTakenOver(_TAKEN_OVER) if goodbye == SESSION_TAKEN_OVER else BrokerUnavailable(describe(error))
    )


def lost(error: BaseException | None, goodbye: int | None) -> BrokerUnavailable:
    """Return why a connection has ended; ``goodbye`` as in ``failed``."""
    if goodbye == SESSION_TAKEN_OVER:
        return SessionTakenOver(_TAKEN_OVER)
    return BrokerUnavailable(f"the connection was lost: {_reason(error)}")


def describe(error: Exception) -> str:
    """Return what went wrong in words for an operator; never contains a secret."""
    if isinstance(error, MqttConnectError):
        return f"the broker refused the connection: {_reason(error)}"
    if isinstance(error.__cause__, aiomqtt.MqttError):
        return f"the connection was lost: {_reason(error.__cause__)}"
    fault = fault_of(error)
    return words_of(error) if fault is None else SENTENCES.get(fault, words_of(error))


def _reason(error: BaseException | None) -> str:
    code = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
    if not isinstance(code, ReasonCode):
        return "closed" if error is None else words_of(error)
    name = str(code)
    # paho has no better name for a socket that was closed or reset.
    return "closed by the other side" if name == "Unspecified error" else name.lower()
