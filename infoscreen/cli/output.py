"""How commands write: tables for people, JSON for programs, and nothing that could steer a terminal."""

import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

import click

from infoscreen.domain.visible import visible, visible_json

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def write_json(value: Any) -> None:
    """Write the value as JSON; dataclasses become objects, times ISO 8601."""
    click.echo(visible_json(json.dumps(value, default=_json, indent=2, ensure_ascii=False)))


def write_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write aligned columns; None is shown as a dash."""
    cells = [list(headings), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def plain(value: Any) -> str:
    """Return the value as text on one line, with the characters escaped that cannot be seen."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return "-" if value is None else visible(str(value), one_line=True)


def _json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)
