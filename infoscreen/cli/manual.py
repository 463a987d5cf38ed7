"""The manual page ``infoscreen(1)``, written from the help of the commands."""

from collections.abc import Iterator

import click

from infoscreen import __version__

FILES = (
    ("/etc/infoscreen/infoscreen.env", "Settings of the daemon; docs/configuration.md lists them."),
    ("/etc/infoscreen/agent.env", "Settings of a device's agent."),
    ("/etc/infoscreen/pki", "The private CA and its certificates."),
    ("/var/lib/infoscreen/infoscreen.db", "The database; backups are in backups/ beside it."),
)
EXIT_CODES = (
    ("0", "Done."),
    ("1", "Refused or failed; the reason is on standard error."),
    ("2", "Wrong usage. `infoscreen health` has the exit codes of monitoring plugins instead, 0 to 3."),
)


def page(root: click.Command) -> str:
    """Return the page in the language of man(7)."""
    context = click.Context(root, info_name="infoscreen")
    return "\n".join(_lines(root, context)) + "\n"


def _lines(root: click.Command, context: click.Context) -> Iterator[str]:
    yield f'.TH INFOSCREEN 1 "" "infoscreen {__version__}" "User Commands"'
    yield ".SH NAME"
    yield r"infoscreen \- " + _escaped(_summary(root)[:1].lower() + _summary(root)[1:])
    yield ".SH SYNOPSIS"
    yield r".B infoscreen\fR COMMAND [\fIOPTION\fR]..."
    yield ".SH DESCRIPTION"
    yield from _paragraphs(root)
    yield ".SH COMMANDS"
    yield from _commands(root, context)
    for heading, entries in (("EXIT STATUS", EXIT_CODES), ("FILES", FILES)):
        yield f".SH {heading}"
        for name, text in entries:
            yield from (".TP", f".B {_escaped(name)}", _escaped(text))
    yield from (".SH SEE ALSO", r"\fBmosquitto\fR(8), \fBsystemctl\fR(1), \fBjournalctl\fR(1)")


def _commands(group: click.Command, context: click.Context) -> Iterator[str]:
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
            continue
        usage = " ".join([inner.command_path, *command.collect_usage_pieces(inner)])
        yield f'.SS "{_escaped(usage)}"'
        yield from _paragraphs(command)
        for parameter in command.get_params(inner):
            record = parameter.get_help_record(inner)
            if record is not None and "--help" not in parameter.opts:
                yield from (".TP", f".B {_escaped(record[0])}", _escaped(record[1]) or " ")


def _summary(command: click.Command) -> str:
    return (command.help or "").strip().partition("\n")[0].rstrip(".")


def _paragraphs(command: click.Command) -> Iterator[str]:
    for number, paragraph in enumerate((command.help or "").strip().split("\n\n")):
        if number:
            yield ".PP"
        literal = paragraph.lstrip().startswith("\b")
        lines = [line.strip("\b ") for line in paragraph.splitlines()]
        if literal:
            yield from (".nf", *(_escaped(line) for line in lines if line), ".fi")
        else:
            yield _escaped(" ".join(line for line in lines if line))


def _escaped(text: str) -> str:
    r"""``-`` becomes ``\-``, so that options can be copied; a dot or quote at the beginning is no request."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    return rf"\&{text}" if text[:1] in (".", "'") else text
