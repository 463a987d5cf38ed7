"""The pages of sites: the list, one with its hours and runbook, and the form, without JavaScript."""

from infoscreen.domain.accounts import Role
from infoscreen.storage import sites
from tests.spine import ADMIN, uuid_of
from tests.web import Site


async def text_of(browser, path: str, status: int = 200) -> str:  # type: ignore[no-untyped-def]
    async with browser.get(path, headers={"Accept": "text/html"}) as response:
        assert response.status == status
        return str(await response.text())


async def test_a_site_is_entered_with_a_look_at_its_hours_first(site: Site) -> None:
    browser = await site.browser(Role.OPERATOR)
    form = {"name": "Messe", "hours": "Mo-Fr 22:00-02:00", "time_zone": "Europe/Berlin", "phone": "+49 1"}
    async with browser.post("/sites/new", data={**form, "preview": "yes"}) as response:
        shown = await response.text()
    assert response.status == 200
    assert "22:00-24:00" in shown
    assert "00:00-02:00, 22:00-24:00" in shown
    assert "Messe" in shown
    async with site.spine.store.read() as connection:
        assert await sites.count(connection) == 0
    async with browser.post("/sites/new", data=form, allow_redirects=False) as response:
        assert response.status == 303
    path = response.headers["Location"]
    assert "+49 1" in await text_of(browser, path)
    assert "Messe" in await text_of(browser, "/sites")
    async with browser.post(f"{path}/edit", data={**form, "hours": "Mo-Fr 8-"}) as response:
        assert response.status == 422
        assert "Mo-Fr 8-" in await response.text()
    async with browser.post("/sites/new", data=form) as response:
        assert response.status == 409


async def test_a_runbook_is_markdown_and_nothing_in_it_runs(site: Site) -> None:
    runbook = (
        "# Key\n**porter**\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) <img src=x onerror=a()>"
        "\n\n[y](data:text/html,<script>1</script>)"
    )
    made = await site.spine.sites.create("Messe", {"runbook": runbook, "contact": "<b>Frau</b>"}, ADMIN)
    await site.spine.beat(uuid_of(1))
    await site.spine.fleet.edit(uuid_of(1), {"site": "Messe"}, ADMIN)
    shown = await text_of(await site.browser(Role.VIEWER), f"/sites/{made.id}")
    assert "<strong>porter</strong>" in shown
    assert "<h3>Key</h3>" in shown
    runs = ("<script>alert", "<img", 'href="javascript', 'href="data', "<b>Frau")
    assert not [one for one in runs if one in shown.partition("</head>")[2]]
    assert 'href="/clients?site=Messe"' in shown


async def test_who_may_only_look_gets_no_form(site: Site) -> None:
    viewer = await site.browser(Role.VIEWER)
    assert "/sites/new" not in await text_of(viewer, "/sites")
    await text_of(viewer, "/sites/new", 403)
    await text_of(viewer, "/sites/99", 404)


async def test_the_hours_of_today_are_shown_whole(site: Site) -> None:
    browser = await site.browser(Role.OPERATOR)
    shown = await text_of(browser, "/sites/new")
    assert shown.count("00:00-24:00") == 14


async def test_a_client_has_hours_of_its_own_in_its_form_and_leads_to_its_site(site: Site) -> None:
    made = await site.spine.sites.create("Messe", {"hours": "Mo-Fr 08:00-18:00", "phone": "+49 7"}, ADMIN)
    await site.spine.beat(uuid_of(1))
    await site.spine.fleet.edit(uuid_of(1), {"site": "Messe"}, ADMIN)
    browser = await site.browser(Role.OPERATOR)
    path = f"/clients/{uuid_of(1)}"
    shown = await text_of(browser, path)
    assert f'href="/sites/{made.id}"' in shown
    assert "+49 7" in shown
    assert "Mo-Fr 08:00-18:00" in shown
    form = {"name": "Foyer", "site": "Messe"}
    async with browser.post(f"{path}/edit", data={**form, "hours": "Mo-Su 10:00-12:00"}) as response:
        assert response.status == 200
    client = await site.spine.client(uuid_of(1))
    assert (client.hours, client.hours_source) == ("Mo-Su 10:00-12:00", "client")
    async with browser.post(f"{path}/edit", data=form) as response:
        assert response.status == 200  # a form without the field changes nothing of it
    assert (await site.spine.client(uuid_of(1))).hours == "Mo-Su 10:00-12:00"
    async with browser.post(f"{path}/edit", data={**form, "hours": "25 hours"}) as response:
        assert response.status == 422
    async with browser.post(f"{path}/edit", data={**form, "hours": ""}) as response:
        assert response.status == 200
    assert (await site.spine.client(uuid_of(1))).hours_source == "site"
