"""Lists as CSV, written while they are read, and harmless in spreadsheets."""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, tzinfo

from aiohttp import web

from infoscreen.domain.visible import visible
from infoscreen.storage.budget import limited
from infoscreen.web.auth import DATABASE_SECONDS
from infoscreen.web.keys import parts_of

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula."""

MARK = "\ufeff"
"""Spreadsheets take a file for UTF-8 only with this in front."""


def cell(value: object) -> str:
    """Return a value as a cell; text that would be a formula gets an apostrophe in front."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    text = visible(value, one_line=True)
    return f"'{text}" if text.startswith(FORMULA) else text


def utc(at: datetime | None) -> str | None:
    """Return a time in UTC, to the second."""
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def local(at: datetime | None, zone: tzinfo | None) -> str | None:
    """Return a time in the reader's zone, to the second; without one in that of this host."""
    return None if at is None else f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}"


async def answer(
    request: web.Request,
    name: str,
    header: Sequence[str],
    rows: AsyncIterator[Sequence[Sequence[object]]],
) -> web.StreamResponse:
    """Answer with a file; ``rows`` come in parts, each of which is sent before the next one is read."""
    response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{name}"'})
    response.content_type = "text/csv"
    response.charset = "utf-8"
    monotonic = parts_of(request).clock.monotonic

    async def following() -> Sequence[Sequence[object]] | None:
        # Each part may take what a page may, however many there are.
        with limited(DATABASE_SECONDS, monotonic):
            return await anext(rows, None)

    # The first part is read before anything is sent, so that a refusal is answered as one.
    part = await following()
    await response.prepare(request)
    await response.write((MARK + lines([header])).encode())
    while part is not None:
        await response.write(lines(part).encode())
        part = await following()
    await response.write_eof()
    return response


def lines(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV."""
    written = io.StringIO()
    csv.writer(written).writerows([cell(value) for value in row] for row in rows)
    return written.getvalue()
