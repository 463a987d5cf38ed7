"""The OpenAPI document is valid, complete, and what the server does agrees with it."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from openapi_spec_validator import OpenAPIV31SpecValidator

from infoscreen.cli import cli
from infoscreen.domain.accounts import Role
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


@pytest.mark.slow
async def test_whatever_a_program_sends_the_answer_is_one_of_those_described(
    site: Site, tmp_path: Path
) -> None:
    """Let schemathesis send what fits the document and what does not, as an admin.

    Requests that would end the very token it uses, or wait for events for ever, are left out. An address
    longer than aiohttp takes is answered 400 in plain text, so content types are not checked.
    """
    admin = await site.program(Role.ADMIN)
    await site.spine.beat("00000000-0000-4000-8000-000000000001", process_status="running")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        str(site.url / "api/openapi.json"),
        f"--header=Authorization:{admin.headers['Authorization']}",
        "--phases=examples,coverage,fuzzing",
        "--max-examples=8",
        "--exclude-path=/api/events",
        "--exclude-path=/api/auth/login",
        "--exclude-method=DELETE",
        "--checks=not_a_server_error,status_code_conformance,response_schema_conformance",
        "--generation-deterministic",
        "--no-color",
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-8000:]
