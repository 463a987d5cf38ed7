"""The audit trail: who did what to what, when, and from where."""

from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import Field

from infoscreen.domain.accounts import Role
from infoscreen.storage import audit
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, read_query, reply
from infoscreen.web.shapes import Answer, Listing, Paging


class AuditPaging(Paging):
    """Which acts to list."""

    actor: str | None = Field(default=None, max_length=200)
    action: str | None = Field(default=None, max_length=60)
    target: str | None = Field(default=None, max_length=200, description="For example ``client/<uuid>``.")


class ActModel(Answer):
    """One act."""

    id: int
    at: datetime
    actor_id: int | None
    actor: str
    via: str
    action: str
    target: str | None
    detail: dict[str, Any] | None
    address: str | None


async def list_audit(request: web.Request) -> web.StreamResponse:
    """List acts, newest first."""
    asked = read_query(request, AuditPaging)
    query = audit.AuditQuery(actor=asked.actor, action=asked.action, target=asked.target)
    async with parts_of(request).store.read() as connection:
        page = await audit.page(connection, asked.limit, asked.cursor, query)
    return reply(Listing[ActModel].model_validate(page))


ROUTES = (
    Route(
        "GET",
        "/api/audit",
        list_audit,
        Role.ADMIN,
        "Who did what, newest first",
        query=AuditPaging,
        response=Listing[ActModel],
    ),
)
