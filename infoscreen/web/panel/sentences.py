"""Whole sentences about clients and commands, in the reader's language.

The rules and the store keep theirs in English; where such a sentence reaches a page it is recognised here and
said again. What is not recognised is shown as it stands, since it is a device's or a person's own text.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypeVar

from infoscreen.domain.clients import Client, Condition, Presence
from infoscreen.domain.commands import (
    Action,
    ClientCommand,
    CommandEvent,
    CommandStatus,
    Source,
    Verification,
)
from infoscreen.domain.events import Kind
from infoscreen.storage.timeline import TimelineEntry
from infoscreen.web.panel import recovery_words as recovery
from infoscreen.words.language import N_, Language
from infoscreen.words.names import ACTION_NOUNS, word

T = TypeVar("T")
U = TypeVar("U")


def bound(sentence: Callable[[T, Language], U], language: Language) -> Callable[[T], U]:
    """Return the same for one language, as templates want it."""
    return lambda value: sentence(value, language)


def reason(client: Client, language: Language, *, confirmed: bool) -> str:
    """Say why the client has its status; ``confirmed`` as in ``domain.presence.is_confirmed``."""
    _ = language.gettext
    said = _reason(client, language)
    if confirmed:
        return said
    return said + " " + _("Not confirmed yet: this is from before the server began to listen.")


def _reason(client: Client, language: Language) -> str:
    _ = language.gettext
    match client.status:
        case Condition.SHUT_DOWN:
            return _("Shut down on purpose; nothing heard since.")
        case Condition.MAINTENANCE:
            return _("In maintenance; problems are not reported until it ends.")
        case Condition.SERVICE_FAILED:
            unit = client.service_failed_unit or "?"
            return _("systemd on the device has given up on %(unit)s.") % {"unit": unit}
        case Condition.CRASHED:
            application = client.current_process or _("The application")
            return _("%(application)s has crashed; heartbeats still arrive.") % {"application": application}
        case Condition.HUNG:
            return _("No heartbeat, but the broker still sees the device: it hangs.")
        case Condition.UNREACHABLE:
            return _("No heartbeat, and the broker does not see the device either.")
        case Condition.INCOMPREHENSIBLE:
            return _("It sends messages that cannot be read, and no heartbeat that can.")
        case Condition.DUPLICATE:
            return _("Two devices use this identity: their heartbeats alternate.")
        case Condition.NEVER_SEEN:
            return _("Known, but no heartbeat was ever received.")
        case Condition.ONLINE:
            return _("Heartbeats arrive as expected.")


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
        about = {
            "count": language.number(client.refused_count),
            "at": language.moment(client.refused_at),
            "detail": client.refused_detail or client.refused_reason or "?",
        }
        said.append(
            _("Messages that could not be read at all: %(count)s, the last one %(at)s (%(detail)s).") % about
        )
    return said


def application(client: Client, language: Language) -> str | None:
    """Say what the signage application does, as far as the device told."""
    state = None if client.process_status is None else word(client.process_status, language)
    return ", ".join(part for part in (client.current_process, state) if part) or None


# A command, and what happened to it.


def asked_by(command: ClientCommand, names: Mapping[int, str], language: Language) -> str:
    """Say who asked for a command; ``names`` are user names by id."""
    _ = language.gettext
    if command.source is Source.RECOVERY:
        return _("Automatic recovery")
    unknown = _("a user who is gone") if command.requested_by else _("the command line")
    name = names.get(command.requested_by or 0, unknown)
    if command.source is Source.API:
        return _("By %(name)s, through a program") % {"name": name}
    return _("By %(name)s") % {"name": name}


_ACTORS: Mapping[str, str] = MappingProxyType(
    {
        "publisher": N_("Server"),
        "device": N_("Device"),
        "sweep": N_("Deadline"),
        "clock": N_("Clock"),
        "verification": N_("Check"),
        "recovery": N_("Automatic recovery"),
    }
)


def by_whom(by: str, language: Language) -> str:
    """Say who moved a command: one of the daemon's parts, the device, or a user by name."""
    return language.gettext(_ACTORS[by]) if by in _ACTORS else by


def happened(event: CommandEvent, language: Language) -> str:
    """Say what one line of a command's history means."""
    return _moved(event.from_status, event.to_status, event.detail, language)


def _moved(before: CommandStatus | None, after: CommandStatus, detail: str | None, language: Language) -> str:
    said = None if detail is None else detail_of(detail, language)
    if before is after and said:
        return said
    moved = word(after, language)
    return f"{moved}: {said}" if said else moved


_DETAILS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"refused by the lockout"), N_("too many disruptive commands in a short time")),
    (re.compile(r"lockout overridden"), N_("the lockout was overridden")),
    (re.compile(r"sent again, publication (?P<number>\d+)"), N_("sent again, for the %(number)s. time")),
    (re.compile(r"ack (?P<ack>\w+) changed nothing"), N_("“%(ack)s” again or too late; changed nothing")),
    (
        re.compile(r"ack (?P<ack>\w+) \((?P<error>.*)\) changed nothing", re.DOTALL),
        N_("“%(ack)s” again or too late (%(error)s); changed nothing"),
    ),
    (re.compile(r"(?P<ack>accepted|execution_started|completed|failed)"), N_("the device says “%(ack)s”")),
    (
        re.compile(r"(?P<ack>accepted|execution_started|completed|failed) \((?P<error>.*)\)", re.DOTALL),
        N_("the device says “%(ack)s” (%(error)s)"),
    ),
)


def detail_of(detail: str, language: Language) -> str:
    """Say the detail of a line in a command's history."""
    verdict, _, rest = detail.partition(": ")
    if verdict in set(Verification):
        return f"{word(Verification(verdict), language)}: {evidence(rest, language)}"
    return _said_again(_DETAILS, detail, language)


_EVIDENCE: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"new (?P<what>boot id|boot time) (?P<value>.+), (?P<count>\d+) heartbeats since"),
        N_("new %(what)s %(value)s, %(count)s heartbeats since"),
    ),
    (
        re.compile(r"new (?P<what>start time|process id) (?P<value>.+), application running"),
        N_("new %(what)s %(value)s, the application runs"),
    ),
    (
        re.compile(r"new (?P<what>start time|process id) (?P<value>.+), but the application is not running"),
        N_("new %(what)s %(value)s, but the application does not run"),
    ),
    (
        re.compile(r"(?P<what>boot id|boot time|start time|process id) is still (?P<value>.+)"),
        N_("%(what)s is still %(value)s"),
    ),
    (re.compile(r"the device went silent"), N_("the device went silent")),
    (re.compile(r"the device still sends heartbeats"), N_("the device still sends heartbeats")),
    (
        re.compile(r"nothing was heard from the device since it reported completion"),
        N_("nothing was heard from the device since it reported completion"),
    ),
    (
        re.compile(r"the device reports nothing that would show the effect"),
        N_("the device reports nothing that would show the effect"),
    ),
)

_WHATS: Mapping[str, str] = MappingProxyType(
    {
        "boot id": N_("boot id"),
        "boot time": N_("boot time"),
        "start time": N_("start time"),
        "process id": N_("process id"),
    }
)


def evidence(detail: str, language: Language) -> str:
    """Say what the evidence for or against a command's effect is."""
    return _said_again(_EVIDENCE, detail, language)


def evidence_of(command: ClientCommand, language: Language) -> str:
    """Say what the evidence about this command is."""
    return evidence(command.verification_detail or "", language)


def _said_again(known: tuple[tuple[re.Pattern[str], str], ...], text: str, language: Language) -> str:
    for pattern, message in known:
        found = pattern.fullmatch(text)
        if found:
            values = {key: _value(key, value, language) for key, value in found.groupdict().items()}
            return language.gettext(message) % values
    return text


def _value(key: str, value: str, language: Language) -> str:
    if key == "what":
        return language.gettext(_WHATS[value])
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return value
    return value if at.tzinfo is None else language.moment(at.astimezone(UTC))


# The timeline.

_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "name": N_("name"),
        "site": N_("site"),
        "tags": N_("tags"),
        "description": N_("description"),
        "maintenance_until": N_("maintenance"),
        "auto_recovery": N_("automatic recovery"),
    }
)


def is_echo(entry: TimelineEntry) -> bool:
    """Tell whether the line is only an ack said again, as every ack is; the command's own page has it."""
    data = entry.data or {}
    return entry.kind is Kind.COMMAND and data["from"] == data["to"] and data["by"] == "device"


def told(entry: TimelineEntry, language: Language) -> str:
    """Say what one line of a client's timeline means."""
    _ = language.gettext
    data = entry.data or {}
    match entry.kind:
        case Kind.STATUS:
            return f"{_precisely(data['from'], language)} → {_precisely(data['to'], language)}"
        case Kind.PRESENCE:
            return _("The broker says: %(state)s") % {"state": word(Presence(data["presence"]), language)}
        case Kind.REBOOT:
            return _("The device has started anew.")
        case Kind.SERVICE_FAILED:
            result = f" ({data['result']})" if data.get("result") else ""
            return _("systemd has given up on %(unit)s.") % {"unit": data["unit"]} + result
        case Kind.SERVICE_CLEARED:
            return _cleared(data.get("by"), data.get("unit"), data.get("comment"), language)
        case Kind.COMMAND:
            before = None if data["from"] is None else CommandStatus(data["from"])
            moved = _moved(before, CommandStatus(data["to"]), entry.text.partition(": ")[2] or None, language)
            action = _(ACTION_NOUNS[Action(data["action"])])
            return f"{action}: {moved} ({by_whom(data['by'], language)})"
        case Kind.LOG:
            return entry.text
        case Kind.RECOVERY:
            return recovery.told(data, language)
        case Kind.OPERATOR if data.get("act") in recovery.ACTS:
            return recovery.acted(data, language)
        case Kind.OPERATOR:
            changed = ", ".join(_(name) for field, name in _FIELDS.items() if field in data)
            return _("%(name)s has changed: %(fields)s") % {"name": data["by"], "fields": changed}


_KINDS_OF_SILENCE: Mapping[Condition, str] = MappingProxyType(
    {Condition.HUNG: N_("No signal (hangs)"), Condition.UNREACHABLE: N_("No signal (unreachable)")}
)


def _precisely(status: str, language: Language) -> str:
    """Return the word for a status; here the two ways of being silent are told apart."""
    condition = Condition(status)
    precise = _KINDS_OF_SILENCE.get(condition)
    return word(condition, language) if precise is None else language.gettext(precise)


def _cleared(by: str | None, unit: str | None, comment: str | None, language: Language) -> str:
    _ = language.gettext
    if by == "device":
        return _("The device has withdrawn the failure of %(unit)s.") % {"unit": unit}
    said = _("%(name)s has acknowledged %(unit)s.") % {"name": by, "unit": unit}
    return f"{said} {comment}" if comment else said
