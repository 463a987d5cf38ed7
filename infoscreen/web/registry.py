"""What a route is, and how its handler reads a request and answers it.

Every route of the application is declared as a ``Route``; the router, the permission check, the OpenAPI
document and the permission tests are all made from it. Handlers never touch headers, cookies or status codes
of errors: they raise a ``Refused`` and the middleware tells it.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar, get_args, get_origin
from uuid import UUID

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.codes import Fact
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import InvalidInput, NotFound, Refused, Unauthenticated, UnreadableBody
from infoscreen.domain.faults import FieldError, FieldFault, fault_of
from infoscreen.web.keys import ACTOR

BODY_LIMIT = 64 * 1024
"""Bytes; as long as a body may be unless its route says otherwise."""

BULK_BODY_LIMIT = 256 * 1024
"""Bytes; room for 5,000 UUIDs in JSON."""

BODY_TIMEOUT_SECONDS = 10
"""How long a client may take to send its body once the head is here."""

MOST_ERRORS = 20

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Route:
    """One way into the application.

    ``role`` is the lowest that may; None is open to everyone. ``request`` is the model of the JSON body, or
    of the form on an ``html`` route; ``query`` of the query string; ``response`` of the answer, None for an
    answer without a body or of another ``content``. ``problems`` are refusals beyond those that any route can
    give, ``body_limit`` is in bytes. A route that ``manages_accounts`` (users, tokens,
    sessions, passwords) takes a session or a token that was made for it. HTML routes are pages
    for people: they are not in the OpenAPI document.
    """

    method: str
    path: str
    handler: Handler
    role: Role | None
    summary: str
    _: KW_ONLY
    request: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    status: int = 200
    problems: tuple[type[Refused], ...] = ()
    content: str = "application/json"
    body_limit: int = BODY_LIMIT
    html: bool = False
    manages_accounts: bool = False


ROUTE_OF: web.AppKey[Mapping[web.AbstractRoute, Route]] = web.AppKey("ROUTE_OF")


def route_of(request: web.Request) -> Route | None:
    """Return the declaration that the request matched, None when it matched nothing."""
    return request.app[ROUTE_OF].get(request.match_info.route)


def maybe_actor(request: web.Request) -> Actor | None:
    """Return who asks, or None. On open JSON routes nobody looks, so it is always None there."""
    return request.get(ACTOR)


def actor_of(request: web.Request) -> Actor:
    """Return who asks; on a route with a role there is always someone."""
    actor = maybe_actor(request)
    if actor is None:
        raise Unauthenticated(ErrorCode.SIGN_IN)
    return actor


def path_uuid(request: web.Request, name: str) -> str:
    """Return a UUID from the path as canonical text; raise ``NotFound`` when it is none."""
    text = request.match_info[name]
    try:
        canonical = str(UUID(text))
    except ValueError:
        canonical = ""
    if canonical != text.lower():
        raise NotFound(ErrorCode.NOT_A_UUID)
    return canonical


def path_number(request: web.Request, name: str) -> int:
    """Return a row number from the path; raise ``NotFound`` when it is none."""
    text = request.match_info[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**31):
        raise NotFound(ErrorCode.NOT_A_NUMBER)
    return int(text)


async def read_body(request: web.Request, model: type[M]) -> M:
    """Return the JSON body; no body at all counts as ``{}``.

    Raises ``InvalidInput`` naming every wrong field; 408, 413 and 415 for bodies that are too slow, too long
    or not JSON.
    """
    if not request.body_exists:
        return _validated(model, b"{}")
    _refuse_other_content(request, "application/json")
    return _validated(model, await _read(request) or b"{}")


async def read_form(request: web.Request, model: type[M]) -> M:
    """Return the fields of a posted form; the same refusals as ``read_body``."""
    if request.body_exists:
        _refuse_other_content(request, "application/x-www-form-urlencoded")
    await _read(request)
    return _validated(model, _plain(model, await request.post()))


def read_query(request: web.Request, model: type[M]) -> M:
    """Return the query string; raise ``InvalidInput`` naming every wrong or unknown parameter."""
    return _validated(model, _plain(model, request.query))


def reply(answer: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with a model as JSON."""
    return web.Response(
        body=answer.model_dump_json().encode(),
        content_type="application/json",
        status=status,
        headers=headers,
    )


def no_content() -> web.Response:
    """Answer that it is done and that there is nothing more to say."""
    return web.Response(status=204)


def _refuse_other_content(request: web.Request, wanted: str) -> None:
    if request.content_type != wanted or (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise web.HTTPUnsupportedMediaType


async def _read(request: web.Request) -> bytes:
    """Return the raw body; aiohttp keeps it for later readers."""
    route = route_of(request)
    limit = BODY_LIMIT if route is None else route.body_limit
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            raw = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except web.RequestPayloadError:
        raise UnreadableBody(ErrorCode.UNREADABLE_BODY) from None
    if len(raw) > limit:
        raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=len(raw))
    return raw


def _plain(model: type[BaseModel], fields: Any) -> dict[str, Any]:
    """Return text fields as the model wants them: all values where it takes several, else the only one."""
    plain: dict[str, Any] = {}
    for name in fields:
        values = fields.getall(name)
        declared = model.model_fields.get(name)
        if declared is not None and get_origin(declared.annotation) in (list, tuple, set, frozenset):
            plain[name] = values
        elif len(values) > 1:
            raise InvalidInput.of(name[:60], FieldFault.GIVEN_TWICE, times=len(values))
        else:
            plain[name] = values[0]
    return plain


def _validated(model: type[M], given: bytes | dict[str, Any]) -> M:
    try:
        if isinstance(given, bytes):
            read = model.model_validate_json(given)
        else:
            read = model.model_validate(given, strict=False)
    except ValidationError as error:
        raise _refusal(error, model) from None
    for name, value in read.model_dump().items():
        if not _is_storable(value):
            raise InvalidInput.of(name, FieldFault.NOT_STORABLE)
    return read


def _is_storable(value: Any) -> bool:
    match value:
        case str():
            return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
        case SecretStr():
            return _is_storable(value.get_secret_value())
        case dict():
            return all(_is_storable(part) for pair in value.items() for part in pair)
        case list() | tuple() | set() | frozenset():
            return all(_is_storable(part) for part in value)
        case _:
            return True


def _refusal(error: ValidationError, model: type[BaseModel]) -> InvalidInput:
    return InvalidInput([_field_error(one, model) for one in error.errors(include_url=False)[:MOST_ERRORS]])


def _field_error(error: ErrorDetails, model: type[BaseModel]) -> FieldError:
    """Return what is wrong with a field; what was given is not repeated where it may be a secret."""
    name = ".".join(str(part) for part in error["loc"])[:100]
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return FieldError(name, _unknown(model))
    declared = _declared_at(model, error["loc"])
    # Of a secret, pydantic counts items.
    is_text = declared is not model and _holds_secret(declared)
    kind = (
        f"string_{error['type']}" if is_text and error["type"] in ("too_short", "too_long") else error["type"]
    )
    fault = fault_of(kind, error.get("ctx"))
    if (
        fault.code in (FieldFault.MISSING, FieldFault.NOT_JSON)
        or declared is model
        or _holds_secret(declared)
    ):
        return FieldError(name, fault)
    given = json.dumps(error["input"], default=str)
    return FieldError(name, fault, given if len(given) <= 80 else given[:77] + "...")


def _declared_at(model: type[BaseModel], path: Sequence[int | str]) -> Any:
    """Return the type of what a path leads to, as far as fields on the way are declared."""
    declared: Any = model
    for name in path:
        inner = [one for one in (declared, *get_args(declared)) if _is_model(one)]
        found = [one.model_fields[name].annotation for one in inner if name in one.model_fields]
        declared = found[0] if found else declared
    return declared


def _holds_secret(declared: Any) -> bool:
    if _is_model(declared):
        return any(_holds_secret(one.annotation) for one in declared.model_fields.values())
    return declared is SecretStr or any(map(_holds_secret, get_args(declared)))


def _is_model(declared: Any) -> bool:
    return not get_args(declared) and isinstance(declared, type) and issubclass(declared, BaseModel)


def _unknown(model: type[BaseModel]) -> Fact[FieldFault]:
    if not model.model_fields:
        return Fact(FieldFault.NO_FIELDS_ALLOWED)
    return Fact(FieldFault.UNKNOWN, {"allowed": ", ".join(model.model_fields)})
