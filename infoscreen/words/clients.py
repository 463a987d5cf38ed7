"""Sentences about clients: why each has its status, and what its application does."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from infoscreen.domain.clients import Client, Condition, Sign, SignKind
from infoscreen.domain.duplicates import device_name, devices_of
from infoscreen.domain.error_codes import stored_defect
from infoscreen.domain.history import UNKNOWN
from infoscreen.domain.presence import is_confirmed
from infoscreen.domain.showing import counting
from infoscreen.words.language import N_, Language, spoken
from infoscreen.words.names import word
from infoscreen.words.speaking import say


def status_reason(client: Client, listening_since: datetime | None, language: Language | None = None) -> str:
    """Say why the client has its status, and whether that is still to be confirmed."""
    language = language or spoken()
    _ = language.gettext
    said = _status_reason(client, language)
    if client.status is Condition.NEVER_SEEN or is_confirmed(client, listening_since):
        return said
    return said + " " + _("Not confirmed yet: this was known before the server started to listen.")


def _status_reason(client: Client, language: Language) -> str:
    _ = language.gettext
    match client.status:
        case Condition.SHUT_DOWN:
            return _("Shut down on purpose; nothing heard since.")
        case Condition.MAINTENANCE:
            return _("In maintenance.")
        case Condition.OFF_HOURS:
            if client.next_change_at is None or client.within_hours:
                return _("Dark outside its operating hours.")
            return _("Dark outside its operating hours, which begin %(at)s.") % {
                "at": language.moment(client.next_change_at)
            }
        case Condition.SERVICE_FAILED:
            unit = client.service_failed_unit or UNKNOWN
            return _("systemd on the client has given up on %(unit)s.") % {"unit": unit}
        case Condition.CRASHED:
            name = client.current_process or _("The application")
            return _("%(application)s has crashed; heartbeats still arrive.") % {"application": name}
        case Condition.NOT_SHOWING:
            return " ".join(signs(client, language)) or _("The screen shows nothing, or a still picture.")
        case Condition.HUNG:
            length = _silence(client, language)
            return _("No heartbeat for %(length)s, but the broker still sees the client.") % {
                "length": length
            }
        case Condition.UNREACHABLE:
            length = _silence(client, language)
            return _("No heartbeat for %(length)s, and the broker does not see the client either.") % {
                "length": length
            }
        case Condition.INCOMPREHENSIBLE:
            return _("It sends messages that cannot be read, and no heartbeat that can.")
        case Condition.DUPLICATE:
            return _("Two clients use this identity: their heartbeats alternate.")
        case Condition.NEVER_SEEN:
            return _("Known, but no heartbeat was ever received.")
        case Condition.ONLINE:
            return _("Heartbeats arrive as expected.")


SIGNS: Mapping[SignKind, str] = MappingProxyType(
    {
        SignKind.SCREEN_OFF: N_("The screen is reported off since %(since)s."),
        SignKind.BLACK: N_("The picture is black since %(since)s."),
        SignKind.STUCK: N_("The last new frame was at %(told)s by the clock of the client."),
        SignKind.UNCHANGED: N_(
            "The picture should move and has not changed since %(told)s by the clock of the client."
        ),
        SignKind.NOT_RUNNING: N_(
            "Something should be playing, but the application has not been running since %(since)s."
        ),
    }
)


def sign(one: Sign, language: Language | None = None) -> str:
    """Say what tells that a screen shows nothing."""
    language = language or spoken()
    about = {"since": language.moment(one.since), "told": language.moment(one.told_at or one.since)}
    return language.gettext(SIGNS[one.kind]) % about


def signs(client: Client, language: Language) -> list[str]:
    """Say all that tells that the client shows nothing."""
    return [sign(one, language) for one in counting(client.signs)]


def _silence(client: Client, language: Language) -> str:
    _ = language.gettext
    if not client.stale_after_seconds:
        return _("too long")
    threshold = timedelta(seconds=client.stale_after_seconds)
    return _("more than %(threshold)s") % {"threshold": language.duration(threshold)}


def oddities(client: Client, language: Language) -> list[str]:
    """Say what of the client's messages cannot be read."""
    _ = language.gettext
    said = []
    for key, text in client.unread_fields.items():
        what = {"field": key.partition(".")[2], "said": text}
        unknown = key.endswith("status") and text.startswith('"')
        sentence = (
            N_("Sends %(field)s: %(said)s, unknown.")
            if unknown
            else N_("Sends %(field)s: %(said)s, which cannot be read.")
        )
        said.append(_(sentence) % what)
    if client.refused_at is not None:
        defect = stored_defect(client.refused_defect)
        about = {
            "count": language.number(client.refused_count),
            "at": language.moment(client.refused_at),
            "detail": UNKNOWN if defect is None else say(defect, language),
        }
        said.append(
            _("Messages that could not be read at all: %(count)s, the last one %(at)s (%(detail)s).") % about
        )
    devices = devices_of(client)
    if devices:
        names = "; ".join(device_name(one) for one in devices)
        said.append(_("Clients that use this identity: %(names)s.") % {"names": names})
    past = client.identity and client.identity.last_duplicate
    if past and not devices:
        about = {
            "begin": language.moment(past.since),
            "end": language.moment(past.until),
            "names": "; ".join(device_name(one) for one in past.devices),
        }
        said.append(_("Two clients used this identity from %(begin)s to %(end)s: %(names)s.") % about)
    return said


def application(client: Client, language: Language) -> str | None:
    """Say what the signage application does, as far as the device told."""
    state = None if client.process_status is None else word(client.process_status, language)
    return ", ".join(part for part in (client.current_process, state) if part) or None
