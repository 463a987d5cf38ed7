"""The OpenAPI 3.1 document, made from the registry and the models; nothing in it is written by hand twice."""

import json
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

import infoscreen
from infoscreen.domain.errors import CrossSite, Forbidden, InvalidInput, NotFound, Refused, Unauthenticated
from infoscreen.web import problems
from infoscreen.web.auth import COOKIE, SAFE_METHODS
from infoscreen.web.registry import ROUTE_OF, Route
from infoscreen.words.errors import title

DESCRIPTION = (
    "Errors are RFC 9457 problem documents with a stable `type`. Lists are paged by cursor: ask again with"
    " `next_cursor` until it is null. Times are ISO 8601, UTC. `x-role` is the lowest role that may."
    " Sentences for people are German if `Accept-Language` prefers it, else English; codes say the same."
)

PROBLEM = {
    "type": "object",
    "description": "What went wrong. Some types have further members, named with the operation.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Stable slug for programs."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {
            "type": "string",
            "description": "A sentence for people: German if Accept-Language prefers it, else English.",
        },
        "code": {"type": "string", "description": "What `detail` says, as a stable code."},
        "arguments": {"type": "object", "description": "The arguments of the code."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {
                    "field": {"type": "string"},
                    "message": {"type": "string"},
                    "code": {"type": "string"},
                    "arguments": {"type": "object"},
                },
            },
        },
    },
}

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API token, `isc_...`."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": f"Set by the login; `__Host-{COOKIE}` on https. Changes must be same-origin.",
    },
}

PATH_PARAMETERS = {"id": {"type": "integer", "minimum": 1}}
"""Schemas of path parameters that are not UUIDs."""


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI document of the routes for programs."""
    declared = [route for route in routes if not route.html]
    schemas = _Schemas(declared)
    paths: dict[str, dict[str, Any]] = {}
    for route in declared:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "infoscreen", "version": infoscreen.__version__, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM, **schemas.components},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


class _PublicNames(GenerateJsonSchema):
    """Names the components without the suffix that tells models from domain classes."""

    def normalize_name(self, name: str) -> str:
        parts = super().normalize_name(name).split("_")
        return "_".join(part.removesuffix("Model") for part in parts)


class _Schemas:
    """The JSON schemas of all models that the routes name."""

    def __init__(self, routes: Iterable[Route]) -> None:
        wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}
        queries = set()
        for route in routes:
            if route.request is not None:
                wanted[route.request, "validation"] = None
            if route.response is not None:
                wanted[route.response, "serialization"] = None
            if route.query is not None:
                wanted[route.query, "validation"] = None
                queries.add(route.query)
        self._references, definitions = models_json_schema(
            list(wanted), ref_template="#/components/schemas/{model}", schema_generator=_PublicNames
        )
        self.components: dict[str, Any] = definitions.get("$defs", {})
        # Query models become parameters, not components.
        self._queries = {query: self.components.pop(self._name(query)) for query in queries}

    def request(self, model: type[BaseModel]) -> dict[str, Any]:
        return self._references[model, "validation"]

    def response(self, model: type[BaseModel]) -> dict[str, Any]:
        return self._references[model, "serialization"]

    def query(self, model: type[BaseModel]) -> list[dict[str, Any]]:
        """Return the query parameters that a model stands for."""
        schema = self._queries[model]
        return [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "schema": _plain(of),
                **({"description": of["description"]} if "description" in of else {}),
            }
            for name, of in schema.get("properties", {}).items()
        ]

    def _name(self, model: type[BaseModel]) -> str:
        return str(self.request(model)["$ref"]).rpartition("/")[2]


def _plain(parameter: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a query parameter, which can be left out but never be null."""
    schema = {key: value for key, value in parameter.items() if key not in ("title", "description", "anyOf")}
    for choice in parameter.get("anyOf", ()):
        if choice != {"type": "null"}:
            schema.update(choice)
    if schema.get("default", "") is None:
        del schema["default"]
    return schema


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    words = [word for word in re.split(r"\W+", route.path) if word]
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": PATH_PARAMETERS.get(name, {"type": "string", "format": "uuid"}),
        }
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.query is not None:
        parameters += schemas.query(route.query)
    operation: dict[str, Any] = {
        "operationId": "_".join((route.method.lower(), *words)),
        "summary": route.summary,
        "tags": [words[1] if words[0] == "api" and len(words) > 1 else "monitoring"],
        "security": [] if route.role is None else [{name: []} for name in SECURITY_SCHEMES],
        "responses": {str(route.status): _answer(route, schemas), **_refusals(route)},
    }
    if parameters:
        operation["parameters"] = parameters
    if route.role is not None:
        operation["x-role"] = route.role.value
    if route.request is not None:
        operation["requestBody"] = {
            "required": any(field.is_required() for field in route.request.model_fields.values()),
            "content": {"application/json": {"schema": schemas.request(route.request)}},
        }
    return operation


def _answer(route: Route, schemas: _Schemas) -> dict[str, Any]:
    if route.status == 204:
        return {"description": "Done."}
    if route.response is not None:
        schema = schemas.response(route.response)
    else:
        schema = {"type": "object"} if route.content == "application/json" else {"type": "string"}
    return {"description": "Done.", "content": {route.content: {"schema": schema}}}


def _refusals(route: Route) -> dict[str, Any]:
    """Return the problem answers of a route by status; ``default`` stands for those that any may give."""
    slugs: dict[int, dict[str, str]] = {}
    for refusal in _refusals_of(route):
        slugs.setdefault(refusal.status, {})[refusal.slug] = title(refusal.slug, refusal.status)
    if route.request is not None:
        for status in (408, 413, 415):
            slug, _ = problems.HTTP_PROBLEMS[status]
            slugs.setdefault(status, {})[slug] = title(slug, status)
    return {
        **{str(status): _problem(by_slug) for status, by_slug in sorted(slugs.items())},
        "default": _problem({}),
    }


def _refusals_of(route: Route) -> Iterable[type[Refused]]:
    if route.role is not None:
        yield from (Unauthenticated, Forbidden)
        if route.method not in SAFE_METHODS:
            yield CrossSite
    if "{" in route.path:
        yield NotFound
    if route.request is not None or route.query is not None:
        yield InvalidInput
    yield from route.problems


def _problem(titles: dict[str, str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"$ref": "#/components/schemas/Problem"}
    if titles:
        schema = {"allOf": [schema, {"properties": {"type": {"enum": list(titles)}}}]}
    told = "; ".join(f"`{slug}`: {words}" for slug, words in titles.items())
    return {
        "description": told or "Any other trouble.",
        "content": {problems.CONTENT_TYPE: {"schema": schema}},
    }


@cache
def _rendered(routes: tuple[Route, ...]) -> bytes:
    return json.dumps(document(routes)).encode()


async def show_document(request: web.Request) -> web.StreamResponse:
    """Show this document."""
    routes = tuple(dict.fromkeys(request.app[ROUTE_OF].values()))
    return web.Response(body=_rendered(routes), content_type="application/json")


ROUTES = (Route("GET", "/api/openapi.json", show_document, None, "This document"),)
