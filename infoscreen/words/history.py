"""Sentences for the histories of clients and commands. Tables only."""

from types import MappingProxyType

from infoscreen.domain.history import Finding, Happening, Note
from infoscreen.words.language import N_, Table, plural

FINDINGS: Table = MappingProxyType(
    {
        Finding.NEW_BOOT_ID: plural(
            "new boot id %(boot_id)s, %(heartbeats)s heartbeat since",
            "new boot id %(boot_id)s, %(heartbeats)s heartbeats since",
            "heartbeats",
        ),
        Finding.NEW_BOOT_TIME: plural(
            "new boot time %(booted_at)s, %(heartbeats)s heartbeat since",
            "new boot time %(booted_at)s, %(heartbeats)s heartbeats since",
            "heartbeats",
        ),
        Finding.NEW_START_TIME: N_("new start time %(app_started_at)s, the application is running"),
        Finding.NEW_PROCESS_ID: N_("new process id %(process_pid)s, the application is running"),
        Finding.NEW_START_TIME_NOT_RUNNING: N_(
            "new start time %(app_started_at)s, but the application is not running"
        ),
        Finding.NEW_PROCESS_ID_NOT_RUNNING: N_(
            "new process id %(process_pid)s, but the application is not running"
        ),
        Finding.SAME_BOOT_ID: N_("the boot id is still %(boot_id)s"),
        Finding.SAME_BOOT_TIME: N_("the boot time is still %(booted_at)s"),
        Finding.SAME_START_TIME: N_("the start time is still %(app_started_at)s"),
        Finding.SAME_PROCESS_ID: N_("the process id is still %(process_pid)s"),
        Finding.WENT_SILENT: N_("the client went silent"),
        Finding.STILL_HEARD: N_("the client still sends heartbeats"),
        Finding.NOT_HEARD_SINCE: N_("nothing was heard from the client since it reported completion"),
        Finding.TWO_DEVICES: N_("two clients use this identity"),
        Finding.NOTHING_SHOWS_IT: N_("the client reports nothing that would show the effect"),
        Finding.TEXT: N_("%(text)s"),
    }
)

NOTES: Table = MappingProxyType(
    {
        Note.REFUSED_BY_LOCKOUT: N_("too many disruptive commands in a short time"),
        Note.LOCKOUT_OVERRIDDEN: N_("the lockout was overridden"),
        Note.SAFETY_OVERRIDDEN: N_("a safety rule of power cycles was overridden"),
        Note.OUTLET_CHECKED: N_("the outlet is the configured one and is on; OFF is sent next"),
        Note.OUTLET_FOUND_OFF: N_("the outlet was off already; it is switched on"),
        Note.OUTLET_OFF_SENT: N_("OFF was sent, attempt %(times)s"),
        Note.OUTLET_OFF_SEEN: N_("the outlet is off"),
        Note.OUTLET_ON_SENT: N_("ON was sent"),
        Note.OUTLET_ON_SEEN: N_("the outlet is on again"),
        Note.OUTLET_FAULT: N_("the outlet: %(fault)s (%(said)s)"),
        Note.OUTLET_LEFT_OFF: N_("the outlet does not come on again; ON is repeated until it does"),
        Note.OUTLET_RESUMED: N_("the server was restarted in the middle and goes on"),
        Note.WAITS_FOR_TURN: N_("waits for its turn"),
        Note.WAITS_FOR_CLIENT: N_("waits for the client to come back, until %(until)s"),
        Note.TURN_CAME: N_("its turn has come"),
        Note.CLIENT_HEARD: N_("the client is back"),
        Note.NOT_ACCEPTED: N_("the client went away before it accepted it; waiting again"),
        Note.TURN_IN_MAINTENANCE: N_("the client is in maintenance by now"),
        Note.TURN_IN_FLIGHT: N_("another command is under way by now: %(action)s"),
        Note.BULK_STOPPED: N_("the bulk action was stopped"),
        Note.SENT_AGAIN: N_("sent again, publication %(publication)s"),
        Note.REFUSED_BY_BROKER: N_("the broker refused it: %(error)s"),
        Note.ACK: N_("the client says “%(ack)s”"),
        Note.ACK_WITH_ERROR: N_("the client says “%(ack)s” (%(error)s)"),
        Note.ACK_IGNORED: N_("“%(ack)s” repeated or too late; no change"),
        Note.ACK_WITH_ERROR_IGNORED: N_("“%(ack)s” repeated or too late (%(error)s); no change"),
        Note.REFUSED_BY_DEVICE: N_("the client refuses it (%(error)s)"),
        Note.REFUSED_BY_WRONG_CLOCK: N_(
            "the client refuses it as expired: its clock is wrong by %(by)s, it refuses every command"
        ),
        Note.CLOCK_SET_FORWARD: N_("the server's clock was set forward by %(by)s; the deadline moves along"),
        Note.CLOCK_SET_BACK: N_("the server's clock was set back by %(by)s; the deadline moves along"),
        Note.VERIFIED: N_("Effect verified: %(finding)s"),
        Note.CONTRADICTED: N_("Effect contradicted: %(finding)s"),
        Note.UNVERIFIABLE: N_("Effect cannot be checked: %(finding)s"),
        Note.TEXT: N_("%(text)s"),
    }
)

HAPPENINGS: Table = MappingProxyType(
    {
        Happening.STATUS_CHANGED: N_("%(from)s → %(to)s"),
        Happening.PRESENCE_CHANGED: N_("The broker says: %(presence)s"),
        Happening.REBOOTED: N_("The client has rebooted."),
        Happening.TWO_DEVICES: N_("Two clients use this identity: %(first)s and %(second)s."),
        Happening.SERVICE_FAILED: N_("systemd has given up on %(unit)s."),
        Happening.SERVICE_FAILED_WITH_RESULT: N_("systemd has given up on %(unit)s (%(result)s)."),
        Happening.SERVICE_WITHDRAWN: N_("The client has withdrawn the failure of %(unit)s."),
        Happening.SERVICE_ACKNOWLEDGED: N_("%(by)s has acknowledged %(unit)s."),
        Happening.SERVICE_ACKNOWLEDGED_WITH_COMMENT: N_("%(by)s has acknowledged %(unit)s: %(comment)s"),
        Happening.SERVICE_RESTORED: N_("%(by)s has taken back the acknowledgement of %(unit)s."),
        Happening.EDITED: N_("%(by)s has changed: %(settings)s"),
        Happening.RECOVERY_PAUSED: N_("%(by)s has paused the automatic recovery: %(reason)s"),
        Happening.RECOVERY_RESUMED: N_("%(by)s has resumed the automatic recovery."),
        Happening.LOGS_DROPPED: plural(
            "%(dropped)s log line dropped: too many in a minute",
            "%(dropped)s log lines dropped: too many in a minute",
            "dropped",
        ),
        Happening.SCREENSHOTS_DROPPED: plural(
            "%(dropped)s screenshot dropped: too many in a minute",
            "%(dropped)s screenshots dropped: too many in a minute",
            "dropped",
        ),
        Happening.ACKS_DROPPED: plural(
            "%(dropped)s acknowledgement dropped: too many in a minute",
            "%(dropped)s acknowledgements dropped: too many in a minute",
            "dropped",
        ),
        Happening.HAPPENINGS_DROPPED: plural(
            "%(dropped)s event dropped: too many in a minute",
            "%(dropped)s events dropped: too many in a minute",
            "dropped",
        ),
        Happening.REJECTIONS_DROPPED: plural(
            "%(dropped)s rejected message dropped: too many in a minute",
            "%(dropped)s rejected messages dropped: too many in a minute",
            "dropped",
        ),
        Happening.TAKEN_OVER: N_("%(by)s takes care of it."),
        Happening.TAKEN_OVER_WITH_COMMENT: N_("%(by)s takes care of it: %(comment)s"),
        Happening.TRIED_AGAIN: N_("%(by)s lets the automatic recovery try again from the first rung."),
        Happening.GIVEN_BACK: N_("%(by)s no longer takes care of it."),
        Happening.TEXT: N_("%(text)s"),
    }
)
