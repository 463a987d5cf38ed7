"""Why the daemon cannot do its job at the moment."""

from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.codes import Code
from infoscreen.domain.errors import StoreTrouble


class NotReady(Code):
    """What is missing. ``error`` is a program's own text, with addresses and numbers."""

    DATABASE = "database", {"trouble": StoreTrouble}
    DATABASE_LOCKED = "database_locked"
    NOT_STORING = "not_storing", {"trouble": StoreTrouble}
    NO_CONNECTION = "no_connection"
    NOT_LISTENING = "not_listening", {"error": str}
    BROKER_FAULT = "broker_fault", {"fault": BrokerFault, "error": str}
    TAKEN_OVER = "taken_over"
