"""Lines of histories as people read them: who did what, and what came of it."""

from collections.abc import Mapping

from infoscreen.domain.codes import Code, Fact
from infoscreen.domain.commands import ClientCommand, CommandEvent, CommandStatus, Source
from infoscreen.domain.history import Part
from infoscreen.domain.recovery import Reason
from infoscreen.domain.timeline import CommandMove, TimelineEntry
from infoscreen.words import recovery
from infoscreen.words.language import Language, spoken
from infoscreen.words.names import ACTION_NOUNS, word
from infoscreen.words.speaking import say


def asked_by(command: ClientCommand, names: Mapping[int, str], language: Language) -> str:
    """Say who asked for a command; ``names`` are user names by id."""
    _ = language.gettext
    if command.source is Source.RECOVERY:
        return word(Part.RECOVERY, language)
    unknown = _("a deleted user") if command.requested_by else _("the command line")
    name = names.get(command.requested_by or 0, unknown)
    if command.source is Source.API:
        return _("By %(name)s, through a program") % {"name": name}
    return _("By %(name)s") % {"name": name}


def command_reason(command: ClientCommand, language: Language | None = None) -> str | None:
    """Say why a command was requested, in a person's words or the recovery's."""
    language = language or spoken()
    if command.reason_code is None:
        return command.reason
    return recovery.why(Reason(command.reason_code), command.reason_arguments or {}, language)


def evidence(command: ClientCommand, language: Language | None = None) -> str | None:
    """Say what the evidence for or against a command's effect is."""
    language = language or spoken()
    return None if command.finding is None else say(command.finding, language)


def by_whom(by: Part | str, language: Language) -> str:
    """Say who moved a command."""
    return word(by, language) if isinstance(by, Part) else by


def happened(event: CommandEvent, language: Language) -> str:
    """Say what one line of a command's history means."""
    return _moved(event.from_status, event.to_status, event.note, language)


def _moved(
    before: CommandStatus | None, after: CommandStatus, note: Fact[Code] | None, language: Language
) -> str:
    said = None if note is None else say(note, language)
    if before is after and said:
        return said
    moved = word(after, language)
    return f"{moved}: {said}" if said else moved


def is_echo(entry: TimelineEntry) -> bool:
    """Tell whether the line is only an ack said again, as every ack is; the command's own page has it."""
    move = entry.about
    return isinstance(move, CommandMove) and move.before is move.after and move.part is Part.DEVICE


def told(entry: TimelineEntry, language: Language | None = None) -> str:
    """Say what one line of a client's timeline means."""
    language = language or spoken()
    match entry.about:
        case CommandMove() as move:
            moved = _moved(move.before, move.after, entry.fact, language)
            action = language.gettext(ACTION_NOUNS[move.action])
            by = move.by if move.part is None else word(move.part, language)
            return f"{action}: {moved} ({by})"
        case None:
            return entry.text or "" if entry.fact is None else say(entry.fact, language)
        case line:
            return recovery.told(line, language)
