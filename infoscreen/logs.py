"""The process's own log: one line for each record, text or JSON, on standard error or in the journal.

A record is a constant sentence with named fields in ``extra``. Some fields come from devices, so everything
that ends a line, steers a terminal or cannot be seen is escaped. Tracebacks go here and nowhere else.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from infoscreen.domain.visible import visible, visible_json
from infoscreen.journal import SOCKET, JournalHandler, extra_of, priority

_SHORT_ESCAPES = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"})


class TextFormatter(logging.Formatter):
    """``2026-01-02T03:04:05.678Z WARNING infoscreen.mqtt: sentence field=value``."""

    def __init__(self, *, with_time: bool = True) -> None:
        super().__init__()
        self._with_time = with_time

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        parts = [_time(record)] if self._with_time else []
        parts += [record.levelname, f"{record.name}:", record.getMessage()]
        parts += [f"{name}={_word(value)}" for name, value in extra_of(record).items()]
        parts += _tracebacks(self, record)
        return visible(" ".join(parts).translate(_SHORT_ESCAPES), one_line=True)


class JsonFormatter(logging.Formatter):
    """One JSON object: ``time``, ``level``, ``logger``, ``message``, the fields, ``traceback`` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = dict(extra_of(record))
        line |= {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        tracebacks = _tracebacks(self, record)
        if tracebacks:
            line["traceback"] = "\n".join(tracebacks)
        return visible_json(json.dumps(line, default=str, ensure_ascii=False))


class PriorityFormatter(logging.Formatter):
    """Puts the priority in front, so that journald files the line under it."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the line with its priority."""
        return f"<{priority(record.levelno)}>{self._inner.format(record)}"


def configure(
    level: str = "info",
    log_format: str = "text",
    *,
    stream: TextIO | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Send every record of ``level`` and graver to ``stream``, standard error unless given.

    When the stream ends in the journal, records go there with their fields, in its own protocol.

    Replaces what was configured before. An exception that nobody catches becomes a record too, so that a
    program reading JSON lines never meets a naked traceback.

    Args:
        level: name of a level, in any case.
        log_format: ``text`` or ``json``.
        stream: where the lines go.
        environment: where ``JOURNAL_STREAM`` is looked for.
    """
    stream = sys.stderr if stream is None else stream
    journal = is_journal(stream, environment)
    # The journal stamps each line itself.
    formatter = JsonFormatter() if log_format == "json" else TextFormatter(with_time=not journal)
    handler: logging.Handler = logging.StreamHandler(stream)
    handler.setFormatter(PriorityFormatter(formatter) if journal else formatter)
    if journal and Path(SOCKET).exists():
        handler = JournalHandler(handler)
        handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


def set_level(level: str) -> None:
    """Change the level of a log that is already configured."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger("infoscreen").setLevel(number)
    # The libraries' debug output would hold every bound value of every statement, password hashes among them.
    logging.getLogger().setLevel(max(number, logging.INFO))


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Tell whether the stream ends in the journal; a child that redirects it inherits the variable only."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    if not device or not inode:
        return False
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (str(there.st_dev), str(there.st_ino)) == (device, inode)


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logging.getLogger("infoscreen").critical(
        "the process ends: an error that nobody expected",
        extra={"event": "uncaught", "error": f"{kind.__name__}: {error}"},
        exc_info=(kind, error, traceback),
    )


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    if isinstance(value, str) and (not text or any(sign in text for sign in ' "=') or not text.isprintable()):
        return json.dumps(text, ensure_ascii=False)
    return text


def _tracebacks(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    found = []
    if record.exc_info:
        found.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        found.append(formatter.formatStack(record.stack_info))
    return found
