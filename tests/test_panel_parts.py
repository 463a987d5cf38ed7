"""The live view asks for the regions of a page that have changed, and is given no more than those."""

import re
from pathlib import Path

import pytest
from aiohttp import ClientSession

from infoscreen.domain.accounts import Role
from tests.spine import uuid_of
from tests.statements import statements_of
from tests.web import Site

U = uuid_of(1)
TEMPLATES = Path(__file__).parent.parent / "templates"
REGION = re.compile(r'<\w+[^>]*\bid="([^"]+)"[^>]*\bdata-live(?:="([^"]*)")?')
KINDS = {"clients", "pulse", "commands", "fleet", "recovery", "broker"}


async def shown(browser: ClientSession, path: str, parts: str | None = None) -> str:
    headers = {} if parts is None else {"X-Live": parts}
    async with browser.get(path, headers=headers) as answer:
        assert answer.status == 200
        return await answer.text()


def regions(html: str) -> list[str]:
    return [found[0] for found in REGION.findall(html)]


@pytest.mark.parametrize("path", ["/", f"/clients/{U}"])
async def test_each_region_is_given_alone_as_it_is_on_the_page(site: Site, path: str) -> None:
    await site.spine.beat(U)
    browser = await site.browser(Role.OPERATOR)
    whole = await shown(browser, path)
    assert len(regions(whole)) > 8
    for region in regions(whole):
        part = await shown(browser, path, region)
        assert regions(part) == [region]
        assert "<footer" not in part
        assert '<header class="bar"' not in part
        core = re.split("</(?:div|section|a)>", part[part.index(f'id="{region}"') :])[0].strip()
        assert re.sub(r"\s+", " ", core) in re.sub(r"\s+", " ", whole), region


async def test_a_heartbeat_asks_for_a_small_part_of_the_page(site: Site) -> None:
    await site.spine.beat(U)
    browser = await site.browser(Role.OPERATOR)
    whole = await shown(browser, f"/clients/{U}")
    part = await shown(browser, f"/clients/{U}", "link,history")
    assert regions(part) == ["history", "link"]
    assert len(part) < len(whole) / 3


async def test_what_is_not_asked_for_is_not_read(site: Site) -> None:
    await site.spine.beat(U)
    browser = await site.browser(Role.OPERATOR)
    with statements_of(site.spine.store) as asked:
        await shown(browser, f"/clients/{U}", "link")
        assert asked
        assert not any("FROM timeline" in statement for statement, _ in asked)
        await shown(browser, f"/clients/{U}", "history")
        assert any("FROM timeline" in statement for statement, _ in asked)


@pytest.mark.parametrize("parts", ["", "nothing", ",".join(f"x{n}" for n in range(3_000)), "head,,head"])
async def test_odd_requests_for_parts_are_answered(site: Site, parts: str) -> None:
    await site.spine.beat(U)
    browser = await site.browser(Role.VIEWER)
    assert set(regions(await shown(browser, f"/clients/{U}", parts[:4_000]))) <= {"head"}


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.name)
def test_every_region_says_what_it_shows_and_can_be_left_out(template: Path) -> None:
    source = template.read_text(encoding="utf-8")
    for region, kinds in REGION.findall(source):
        assert kinds, region
        assert set(re.sub(r"{{.*?}}", "", kinds).split()) <= KINDS, region
        name = region.split("{{")[0]
        assert f'part("{name}"' in source, region
