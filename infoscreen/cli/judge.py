"""``infoscreen recovery judge``: lines from standard input, answers to standard output."""

import json
from typing import BinaryIO, TextIO

import click

from infoscreen.judge import BadLine, Judge
from infoscreen.judge.lines import parse
from infoscreen.judge.playing import quiet_logs

MOST_BYTES = 2_000_000
"""Longer than any line that can be meant."""


async def run(lines: BinaryIO, answers: TextIO, *, quiet: bool) -> int:
    """Judge until the input ends; return the exit code: 2 after a line that cannot be meant."""
    number = 0

    def warn(text: str) -> None:
        if not quiet:
            click.echo(f"line {number}: {text}", err=True)

    judge = Judge(warn)
    try:
        with quiet_logs():
            while raw := lines.readline(MOST_BYTES):
                number += 1
                line = parse(_text(raw))
                answer = None if line is None else await judge.take(line)
                if answer is not None:
                    answers.write(json.dumps(answer, separators=(",", ":")) + "\n")
                    answers.flush()
    except BadLine as fault:
        click.echo(f"line {number}: {fault}", err=True)
        return 2
    finally:
        await judge.close()
    return 0


def _text(raw: bytes) -> str:
    if len(raw) >= MOST_BYTES:
        raise BadLine(f"longer than {MOST_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8: {error.reason}") from None
