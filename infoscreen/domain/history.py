"""What can be said about a client's past and a command's: codes for lines of both histories. No text here."""

from datetime import datetime, timedelta
from enum import StrEnum

from infoscreen.domain.clients import Condition, Presence
from infoscreen.domain.codes import Code, Fact
from infoscreen.domain.power.outlet import PowerFault

UNKNOWN = "?"
"""In place of the name of a unit that was not stored."""


class Part(StrEnum):
    """The part of the system that moved a command; people are named instead."""

    PUBLISHER = "publisher"
    DEVICE = "device"
    SWEEP = "sweep"
    RELEASE = "release"
    CLOCK = "clock"
    VERIFICATION = "verification"
    RECOVERY = "recovery"
    OUTLET = "outlet"


class Finding(Code):
    """Evidence for or against the effect of a command."""

    NEW_BOOT_ID = "new_boot_id", {"boot_id": str, "heartbeats": int}
    NEW_BOOT_TIME = "new_boot_time", {"booted_at": datetime, "heartbeats": int}
    NEW_START_TIME = "new_start_time", {"app_started_at": datetime}
    NEW_PROCESS_ID = "new_process_id", {"process_pid": str}
    NEW_START_TIME_NOT_RUNNING = "new_start_time_not_running", {"app_started_at": datetime}
    NEW_PROCESS_ID_NOT_RUNNING = "new_process_id_not_running", {"process_pid": str}
    SAME_BOOT_ID = "same_boot_id", {"boot_id": str}
    SAME_BOOT_TIME = "same_boot_time", {"booted_at": datetime}
    SAME_START_TIME = "same_start_time", {"app_started_at": datetime}
    SAME_PROCESS_ID = "same_process_id", {"process_pid": str}
    WENT_SILENT = "went_silent"
    STILL_HEARD = "still_heard"
    NOT_HEARD_SINCE = "not_heard_since"
    TWO_DEVICES = "two_devices"
    NOTHING_SHOWS_IT = "nothing_shows_it"
    TEXT = "text", {"text": str}
    """Stored by a version before codes, and not one of its known sentences."""


class Note(Code):
    """What a line of a command's history says beyond the change of its status."""

    REFUSED_BY_LOCKOUT = "refused_by_lockout"
    LOCKOUT_OVERRIDDEN = "lockout_overridden"
    SAFETY_OVERRIDDEN = "safety_overridden"
    OUTLET_CHECKED = "outlet_checked"
    OUTLET_FOUND_OFF = "outlet_found_off"
    OUTLET_OFF_SENT = "outlet_off_sent", {"times": int}
    OUTLET_OFF_SEEN = "outlet_off_seen"
    OUTLET_ON_SENT = "outlet_on_sent"
    OUTLET_ON_SEEN = "outlet_on_seen"
    OUTLET_FAULT = "outlet_fault", {"fault": PowerFault, "said": str}
    OUTLET_LEFT_OFF = "outlet_left_off"
    OUTLET_RESUMED = "outlet_resumed"
    WAITS_FOR_TURN = "waits_for_turn"
    WAITS_FOR_CLIENT = "waits_for_client", {"until": datetime}
    TURN_CAME = "turn_came"
    CLIENT_HEARD = "client_heard"
    NOT_ACCEPTED = "not_accepted"
    TURN_IN_MAINTENANCE = "turn_in_maintenance"
    TURN_IN_FLIGHT = "turn_in_flight", {"action": str}
    BULK_STOPPED = "bulk_stopped"
    SENT_AGAIN = "sent_again", {"publication": int}
    REFUSED_BY_BROKER = "refused_by_broker", {"error": str}
    ACK = "ack", {"ack": str}
    ACK_WITH_ERROR = "ack_with_error", {"ack": str, "error": str}
    ACK_IGNORED = "ack_ignored", {"ack": str}
    ACK_WITH_ERROR_IGNORED = "ack_with_error_ignored", {"ack": str, "error": str}
    REFUSED_BY_DEVICE = "refused_by_device", {"error": str}
    REFUSED_BY_WRONG_CLOCK = "refused_by_wrong_clock", {"by": timedelta}
    CLOCK_SET_FORWARD = "clock_set_forward", {"by": timedelta}
    CLOCK_SET_BACK = "clock_set_back", {"by": timedelta}
    VERIFIED = "verified", {"finding": Finding}
    CONTRADICTED = "contradicted", {"finding": Finding}
    UNVERIFIABLE = "unverifiable", {"finding": Finding}
    TEXT = "text", {"text": str}


class Setting(StrEnum):
    """What people can change about a client."""

    NAME = "name"
    SITE = "site"
    TAGS = "tags"
    DESCRIPTION = "description"
    MAINTENANCE = "maintenance_until"
    AUTO_RECOVERY = "auto_recovery"
    HOURS = "own_hours"
    TIME_ZONE = "own_time_zone"
    COUNTRY = "own_country"


class Happening(Code):
    """What a line of a client's timeline says; log lines are the device's own text and have none."""

    STATUS_CHANGED = "status_changed", {"from": Condition, "to": Condition}
    PRESENCE_CHANGED = "presence_changed", {"presence": Presence}
    REBOOTED = "rebooted"
    TWO_DEVICES = "two_devices", {"first": str, "second": str}
    SERVICE_FAILED = "service_failed", {"unit": str}
    SERVICE_FAILED_WITH_RESULT = "service_failed_with_result", {"unit": str, "result": str}
    SERVICE_WITHDRAWN = "service_withdrawn", {"unit": str}
    SERVICE_RESTORED = "service_restored", {"by": str, "unit": str}
    SERVICE_ACKNOWLEDGED = "service_acknowledged", {"by": str, "unit": str}
    SERVICE_ACKNOWLEDGED_WITH_COMMENT = (
        "service_acknowledged_with_comment",
        {"by": str, "unit": str, "comment": str},
    )
    EDITED = "edited", {"by": str, "settings": [Setting]}
    RECOVERY_PAUSED = "recovery_paused", {"by": str, "reason": str}
    RECOVERY_RESUMED = "recovery_resumed", {"by": str}
    LOGS_DROPPED = "logs_dropped", {"dropped": int}
    SCREENSHOTS_DROPPED = "screenshots_dropped", {"dropped": int}
    ACKS_DROPPED = "acks_dropped", {"dropped": int}
    HAPPENINGS_DROPPED = "happenings_dropped", {"dropped": int}
    REJECTIONS_DROPPED = "rejections_dropped", {"dropped": int}
    TAKEN_OVER = "taken_over", {"by": str}
    TAKEN_OVER_WITH_COMMENT = "taken_over_with_comment", {"by": str, "comment": str}
    TRIED_AGAIN = "tried_again", {"by": str}
    GIVEN_BACK = "given_back", {"by": str}
    TEXT = "text", {"text": str}
    """Stored by a version before codes, and not one of its known sentences."""


def note_of_ack(ack: str, error_code: str | None, error_message: str | None, *, ignored: bool) -> Fact[Note]:
    """Return the line for an ack that ended in an error, came late, or changed nothing (``ignored``)."""
    error = ": ".join(part for part in (error_code, error_message) if part)
    if error:
        code = Note.ACK_WITH_ERROR_IGNORED if ignored else Note.ACK_WITH_ERROR
        return Fact(code, {"ack": str(ack), "error": error})
    return Fact(Note.ACK_IGNORED if ignored else Note.ACK, {"ack": str(ack)})
