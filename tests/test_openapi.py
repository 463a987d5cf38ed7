"""The OpenAPI document is valid and complete; that the server keeps to it: test_withstand_schema.py."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from openapi_spec_validator import OpenAPIV31SpecValidator

from infoscreen.cli import cli
from infoscreen.web.openapi import document
from infoscreen.web.routes import ROUTES
from tests.web import Site


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(ROUTES)


def test_the_document_is_valid(described: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(described).validate()


def test_the_committed_document_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(cli, ["describe", "openapi"])
    assert printed.exit_code == 0, printed.output
    committed = Path(__file__).parents[1] / "docs" / "openapi.json"
    assert committed.read_text(encoding="utf-8") == printed.stdout, (
        "stale: infoscreen describe openapi > docs/openapi.json"
    )


def test_every_route_for_programs_is_in_it_with_its_role_and_no_page_is(described: dict[str, Any]) -> None:
    found = {
        (method.upper(), path): operation.get("x-role")
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    }
    assert found == {
        (route.method, route.path): None if route.role is None else route.role.value
        for route in ROUTES
        if not route.html
    }


def test_operations_are_named_once(described: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in described["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def test_every_refusal_is_named_by_its_slug(described: dict[str, Any]) -> None:
    responses = described["paths"]["/api/users"]["post"]["responses"]
    assert {status: answer["description"] for status, answer in responses.items()} == {
        "201": "Done.",
        "401": "`unauthenticated`: Sign in first",
        "403": "`forbidden`: Not allowed; `cross-site`: Request from another site",
        "408": "`request-timeout`: Request timed out",
        "409": "`conflict`: Conflict",
        "413": "`body-too-large`: Body too large",
        "415": "`unsupported-media-type`: Unsupported media type",
        "422": "`invalid-input`: Invalid input",
        "default": "Any other trouble.",
    }


async def test_the_server_shows_it_to_everyone(site: Site, described: dict[str, Any]) -> None:
    visitor = await site.visitor()
    async with visitor.get("/api/openapi.json") as response:
        assert (response.status, await response.json()) == (200, described)
