"""Schemathesis as each role: whatever is sent, the answer is one of those described, and never a 5xx."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from infoscreen.domain.accounts import Role
from infoscreen.services.accounts import CLI
from infoscreen.storage import audit
from tests.spine import uuid_of
from tests.web import PASSWORD, Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

U = uuid_of(1)
DECOYS = 25
"""Users and tokens that a run may delete; its own come after them, where no small number reaches."""


async def furnish(site: Site) -> str:
    """Put something of everything into the house; return the id of a command."""
    for number in range(DECOYS):
        user = await site.parts.accounts.add_user(f"decoy-{number}", PASSWORD, Role.VIEWER, CLI)
        await site.parts.accounts.create_token(user.id, "decoy", Role.VIEWER, CLI)
    spine = site.spine
    await spine.beat(U, process_status="running", hostname="screen", boot_id="b")
    told = {"timestamp": "2026-03-02T07:00:00Z", "message": "m", "context": {"a": [1]}}
    await spine.hear(
        (f"{U}/logs/info", told),
        (f"{U}/discovery", {"uuid": U, "capabilities": ["screenshot"]}),
        (f"{U}/service_failed", {"unit": "u", "failed_at": "2026-03-02T07:00:00Z"}),
        (f"{U}/screenshot", b"\xff\xd8\xff\xe0\x00\xff\xd9"),
        (f"{U}/heartbeat", b"{"),
    )
    command = await spine.request(U)
    await spine.outbox.step()
    return command.command_id


def config(command_id: str) -> str:
    """Return a configuration that aims every request at what is there, instead of at random."""
    return f"""
[parameters]
"path.uuid" = "{U}"
"path.command_id" = "{command_id}"
"path.id" = 1
"""


async def acts(site: Site) -> int:
    """Return how many lines the audit trail has."""
    async with site.spine.store.read() as connection:
        return len((await audit.page(connection, 100_000)).items)


@pytest.mark.parametrize(
    ("role", "aimed"),
    [
        pytest.param(None, True, id="nobody"),
        pytest.param(Role.VIEWER, True, id="viewer"),
        pytest.param(Role.OPERATOR, True, id="operator"),
        pytest.param(Role.ADMIN, True, id="admin"),
        pytest.param(Role.ADMIN, False, id="admin at random"),
    ],
)
async def test_whatever_is_sent_the_answer_is_one_of_those_described(
    site: Site, tmp_path: Path, role: Role | None, aimed: bool
) -> None:
    """Left out are the stream of events, which has no end, and the login, which would be throttled.

    An address longer than aiohttp takes is answered 400 in plain text, so content types are not checked.
    """
    command_id = await furnish(site)
    (tmp_path / "schemathesis.toml").write_text(config(command_id) if aimed else "")
    headers = []
    if role is not None:
        program = await site.program(role)
        headers.append(f"--header=Authorization:{program.headers['Authorization']}")
    before = await acts(site)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", str(site.url / "api/openapi.json"), *headers),
        "--phases=examples,coverage,fuzzing",
        "--max-examples=3",
        "--generation-deterministic",
        "--exclude-path=/api/events",
        "--exclude-path=/api/auth/login",
        "--checks=not_a_server_error,status_code_conformance,response_schema_conformance",
        "--no-shrink",
        "--no-color",
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-8000:]
    done = await acts(site) - before
    assert (done > 0) == (role in {Role.OPERATOR, Role.ADMIN})
