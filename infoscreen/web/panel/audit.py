"""The audit trail for admins: filtered, page by page, and as CSV."""

from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlencode

from aiohttp import web

from infoscreen.domain.accounts import Role
from infoscreen.storage import audit
from infoscreen.storage.audit import AuditEntry, AuditQuery
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import csv_files
from infoscreen.web.panel.forms import AuditAddress
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import Route, read_query

ROWS = 100
READ_AT_ONCE = 500

HEADER = ("id", "at_local", "at_utc", "actor", "via", "address", "action", "target", "detail")


async def get_audit(request: web.Request) -> web.StreamResponse:
    """Show who did what, newest first."""
    asked = read_query(request, AuditAddress)
    async with parts_of(request).store.read() as connection:
        shown = await audit.page(connection, ROWS, asked.cursor or None, _query(asked))
    filters = {name: value for name, value in asked.model_dump(exclude={"cursor"}).items() if value}
    return await page(
        request,
        "audit.html",
        here="audit",
        asked=asked,
        shown=shown,
        csv="/audit.csv?" + urlencode(filters),
        following="/audit?" + urlencode({**filters, "cursor": shown.next_cursor or ""}),
    )


async def get_audit_csv(request: web.Request) -> web.StreamResponse:
    """Answer with all that the filter matches as CSV."""
    asked = read_query(request, AuditAddress)
    zone = language_of(request).zone

    async def rows() -> AsyncIterator[Sequence[Sequence[object]]]:
        cursor = None
        while True:
            async with parts_of(request).store.read() as connection:
                found = await audit.page(connection, READ_AT_ONCE, cursor, _query(asked))
            yield [_row(entry, csv_files.local(entry.at, zone)) for entry in found.items]
            cursor = found.next_cursor
            if cursor is None:
                return

    return await csv_files.answer(request, "audit.csv", HEADER, rows())


def _row(entry: AuditEntry, local: str | None) -> Sequence[object]:
    given = {name: value for name, value in (entry.detail or {}).items() if value is not None}
    detail = "; ".join(f"{name}: {value}" for name, value in given.items())
    return (
        *(entry.id, local, csv_files.utc(entry.at), entry.actor, entry.via, entry.address),
        *(entry.action, entry.target, detail),
    )


def _query(asked: AuditAddress) -> AuditQuery:
    return AuditQuery(actor=asked.actor or None, action=asked.action or None, target=asked.target or None)


ROUTES = (
    Route("GET", "/audit", get_audit, Role.ADMIN, "Audit trail", query=AuditAddress, html=True),
    Route(
        "GET",
        "/audit.csv",
        get_audit_csv,
        Role.ADMIN,
        "Audit trail as CSV",
        query=AuditAddress,
        content="text/csv",
        html=True,
    ),
)
