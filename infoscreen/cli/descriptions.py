"""``infoscreen describe``: the machine-readable contracts of this very version, on standard output.

``docs/openapi.json`` and ``docs/asyncapi.yaml`` are what these print; tests fail when they are stale.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import click

_PLAIN = re.compile(r"[A-Za-z_/$][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""What some reader or other of YAML takes for something else than text."""


@click.group()
def describe() -> None:
    """Print the contracts for programs and devices."""


@describe.command()
def openapi() -> None:
    """Print the HTTP API as OpenAPI 3.1, in JSON."""
    from infoscreen.web.openapi import document
    from infoscreen.web.routes import ROUTES

    click.echo(json.dumps(document(ROUTES), indent=2, ensure_ascii=False))


@describe.command()
def asyncapi() -> None:
    """Print the MQTT contract as AsyncAPI 3.0, in YAML."""
    from infoscreen.wire.asyncapi import document

    click.echo("# Written by `infoscreen describe asyncapi`; do not edit.")
    for line in yaml_lines(document()):
        click.echo(line)


def yaml_lines(value: Any, indent: str = "") -> Iterator[str]:
    """Write plain data as YAML in block style, so that no library for it is needed where infoscreen runs.

    Args:
        value: a mapping or list that is not empty, down to text, numbers, true, false and null.
        indent: what stands before each line.
    """
    entries = value.items() if isinstance(value, dict) else ((None, one) for one in value)
    for key, one in entries:
        head = f"{indent}-" if key is None else f"{indent}{_scalar(key, indent)}:"
        if not isinstance(one, dict | list) or not one:
            yield f"{head} {_scalar(one, indent)}"
        elif key is None:
            first, *rest = yaml_lines(one, f"{indent}  ")
            yield f"{head} {first.lstrip(' ')}"
            yield from rest
        else:
            yield head
            yield from yaml_lines(one, f"{indent}  ")


def _scalar(value: Any, indent: str) -> str:
    """Write plain words as they are, several lines as a block, and everything else as JSON does."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    lines = value.removesuffix("\n").split("\n")
    if not _fits_a_block(lines):
        quoted = json.dumps(value, ensure_ascii=False)
        return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in quoted)
    mark = "|" if value.endswith("\n") else "|-"
    return "\n".join([mark, *(f"{indent}  {line}" if line else "" for line in lines)])


def _fits_a_block(lines: list[str]) -> bool:
    """Tell whether a block keeps the lines as they are: blanks at either end would be lost in it."""
    starts_and_ends = all(lines[place] and not lines[place].startswith(" ") for place in (0, -1))
    return len(lines) > 1 and starts_and_ends and all(line.isprintable() for line in lines)


@describe.command()
def man() -> None:
    """Print the manual page of infoscreen."""
    from infoscreen.cli import manual

    click.echo(manual.page(click.get_current_context().find_root().command), nl=False)
