"""A page or an API request that costs the database too much is answered clearly, and holds nobody up."""

import pytest
from sqlalchemy import text

from infoscreen.domain.accounts import Role
from tests.api import ask
from tests.spine import uuid_of
from tests.web import Site

U = uuid_of(1)

EXPENSIVE = """
CREATE VIEW timeline AS
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)
SELECT history.* FROM history JOIN n ON n.i = -history.id
"""


@pytest.fixture
async def slow(site: Site) -> Site:
    """A site whose timelines cost what no timeline should."""
    await site.spine.beat(U)
    async with site.spine.store.write() as connection:
        await connection.execute(text("ALTER TABLE timeline RENAME TO history"))
        await connection.execute(text(EXPENSIVE))
    return site


async def test_a_program_is_told_so(slow: Site) -> None:
    viewer = await slow.program(Role.VIEWER)
    for method in ("GET", "HEAD"):
        async with viewer.request(method, f"/api/clients/{U}/timeline") as answer:
            assert answer.status == 503
            assert answer.content_type == "application/problem+json"
    problem = await ask(viewer, "GET", f"/api/clients/{U}/timeline", status=503)
    assert problem["type"] == "query-too-expensive"
    assert "smaller page" in problem["detail"]
    assert (await ask(viewer, "GET", "/api/clients"))["total"] == 1


@pytest.mark.parametrize(
    ("language", "words"), [("de", "zu lange beansprucht"), ("en", "takes the database too long")]
)
async def test_people_are_told_so_in_their_language(slow: Site, language: str, words: str) -> None:
    browser = await slow.browser(Role.VIEWER)
    async with browser.get(f"/clients/{U}", headers={"Accept-Language": language}) as answer:
        assert (answer.status, words in await answer.text()) == (503, True)
    async with browser.get("/") as answer:
        assert answer.status == 200


async def test_heartbeats_are_taken_in_meanwhile(slow: Site) -> None:
    viewer = await slow.program(Role.VIEWER)
    before = (await slow.spine.client(U)).heartbeats
    for _ in range(3):
        await ask(viewer, "GET", f"/api/clients/{U}/timeline", status=503)
        await slow.spine.beat(U)
    assert (await slow.spine.client(U)).heartbeats == before + 3
