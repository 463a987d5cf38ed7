"""Sites as rows: taken over from the names that clients had, and what people do to them."""

from pathlib import Path
from typing import Any

import pytest

from infoscreen.domain.accounts import Role
from infoscreen.storage import schema
from tests.api import ask
from tests.spine import uuid_of
from tests.test_schema import NOW, migrate, rows, sqlite_url, url  # noqa: F401 - fixtures
from tests.web import Site, serving

BEFORE = "54013a000001"
WEEK = "Mo-Fr 07:00-20:00; Sa 09:00-14:00; PH off"


async def test_sites_are_made_of_the_names_that_clients_have(url: str) -> None:  # noqa: F811
    await migrate(url, "upgrade", BEFORE)
    for number, site in enumerate(("Messe", None, "Ärztehaus", "Messe", "")):
        named = "NULL" if site is None else f"'{site}'"
        await rows(
            url,
            "INSERT INTO clients (uuid, created_at, status_since, site, tags, capabilities, status)"
            f" VALUES ('u{number}', '{NOW}', '{NOW}', {named}, '[]', '[]', 'unreachable')",
        )
    await schema.upgrade(url)
    assert {name for (name,) in await rows(url, "SELECT name FROM sites")} == {"Messe", "Ärztehaus"}
    assert await rows(url, "SELECT DISTINCT enforce, hours FROM sites") == [("none", None)]
    kept = await rows(url, "SELECT site, hours, hours_source FROM clients ORDER BY uuid")
    assert [site for site, _, _ in kept] == ["Messe", None, "Ärztehaus", "Messe", ""]
    assert {one[1:] for one in kept} == {("24/7", "default")}
    await rows(url, "UPDATE clients SET status = 'off_hours' WHERE uuid = 'u0'")
    await migrate(url, "downgrade", BEFORE)
    assert await rows(url, "SELECT status, count(*) FROM clients GROUP BY status") == [("unreachable", 5)]
    assert await rows(url, "SELECT count(*) FROM clients WHERE site = 'Messe'") == [(2,)]
    await schema.upgrade(url)
    assert await rows(url, "SELECT count(*) FROM sites") == [(2,)]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The application on an empty database of each kind."""
    database = None if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with serving(tmp_path, url=database) as served:
        yield served


async def test_a_site_is_entered_changed_renamed_and_removed(site: Site) -> None:
    admin = await site.program(Role.ADMIN)
    made = await ask(admin, "POST", "/api/sites", status=201, json={"name": "Messe", "hours": WEEK})
    assert (made["name"], made["hours"], made["time_zone"], made["enforce"]) == ("Messe", WEEK, None, "none")
    assert (made["clients"], made["hours_warning"]) == (0, None)
    path = f"/api/sites/{made['id']}"
    changes = {
        "time_zone": "Europe/Berlin",
        "country": "de",
        "contact": "Frau Krause",
        "phone": "+49 30 1",
        "runbook": "# Key\nAt the porter's.",
        "enforce": "display",
    }
    changed = await ask(admin, "PATCH", path, json=changes)
    assert {name: changed[name] for name in changes} == {**changes, "country": "DE"}
    await site.spine.beat(uuid_of(1))
    client = await ask(admin, "PATCH", f"/api/clients/{uuid_of(1)}", json={"site": made["id"]})
    assert (client["site"], client["hours"], client["hours_source"]) == ("Messe", WEEK, "site")
    # MORNING is Monday, 08:00 in Berlin.
    assert (client["within_hours"], client["next_change_at"]) == (True, "2026-03-02T19:00:00Z")
    assert (await ask(admin, "GET", path))["totals"]["online"] == 1
    renamed = await ask(admin, "PATCH", path, json={"name": "Messe Süd"})
    assert (renamed["name"], renamed["clients"]) == ("Messe Süd", 1)
    found = await ask(admin, "GET", "/api/clients?site=Messe%20S%C3%BCd")
    assert [one["uuid"] for one in found["items"]] == [uuid_of(1)]
    refused = await ask(admin, "DELETE", path, status=409)
    assert (refused["type"], refused["arguments"]) == ("site-in-use", {"clients": 1})
    await ask(admin, "PATCH", f"/api/clients/{uuid_of(1)}", json={"site": None})
    await ask(admin, "DELETE", path, status=204)
    await ask(admin, "GET", path, status=404)
    await ask(admin, "DELETE", path, status=404)


async def test_a_new_name_of_a_site_makes_the_site(site: Site) -> None:
    operator = await site.program(Role.OPERATOR)
    await site.spine.beat(uuid_of(1))
    client = await ask(operator, "PATCH", f"/api/clients/{uuid_of(1)}", json={"site": "Halle 3"})
    assert (client["site"], client["hours"], client["hours_source"]) == ("Halle 3", "24/7", "default")
    listed = (await ask(operator, "GET", "/api/sites"))["items"]
    assert [(one["name"], one["clients"]) for one in listed] == [("Halle 3", 1)]
    wrong = await ask(operator, "PATCH", f"/api/clients/{uuid_of(1)}", status=422, json={"site": 999})
    assert (wrong["errors"][0]["field"], wrong["errors"][0]["code"]) == ("site", "no_such_site")


async def test_sites_are_listed_page_by_page(site: Site) -> None:
    viewer, operator = await site.program(Role.VIEWER), await site.program(Role.OPERATOR)
    for name in ("b", "c", "a"):
        await ask(operator, "POST", "/api/sites", status=201, json={"name": name})
    first = await ask(viewer, "GET", "/api/sites?limit=2")
    assert ([one["name"] for one in first["items"]], first["total"]) == (["a", "b"], 3)
    rest = await ask(viewer, "GET", f"/api/sites?limit=2&cursor={first['next_cursor']}")
    assert ([one["name"] for one in rest["items"]], rest["next_cursor"]) == (["c"], None)
    twice = await ask(operator, "POST", "/api/sites", status=409, json={"name": "a"})
    assert twice["code"] == "site_exists"
    await ask(viewer, "POST", "/api/sites", status=403, json={"name": "d"})


@pytest.mark.parametrize(
    ("wrong", "field", "code"),
    [
        ({"hours": "Mo-Fr 08:00-18:00; Sax 09:00"}, "hours", "not_opening_hours"),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "no_such_time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone", "no_such_time_zone"),
        ({"time_zone": "posix/Europe/Berlin"}, "time_zone", "no_such_time_zone"),
        ({"time_zone": "localtime"}, "time_zone", "no_such_time_zone"),
        ({"country": "XX"}, "country", "no_such_country"),
        ({"country": "Germany"}, "country", "no_such_country"),
        ({"enforce": "gently"}, "enforce", "not_one_of"),
        ({"name": ""}, "name", "too_short"),
        ({"name": None}, "name", "not_text"),
        ({"hours": "x" * 501}, "hours", "too_long"),
        ({"runbook": "x" * 20_001}, "runbook", "too_long"),
        ({"open": "24/7"}, "open", "unknown"),
    ],
)
async def test_what_cannot_be_used_is_refused_by_its_field(
    tmp_path: Path, wrong: dict[str, Any], field: str, code: str
) -> None:
    async with serving(tmp_path) as served:
        operator = await served.program(Role.OPERATOR)
        made = await ask(operator, "POST", "/api/sites", status=201, json={"name": "Messe"})
        for method, path in (("POST", "/api/sites"), ("PATCH", f"/api/sites/{made['id']}")):
            refused = await ask(operator, method, path, status=422, json={"name": "Neu", **wrong})
            assert (refused["errors"][0]["field"], refused["errors"][0]["code"]) == (field, code)
        assert (await ask(operator, "GET", f"/api/sites/{made['id']}"))["name"] == "Messe"


async def test_hours_are_checked_before_they_are_set(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        viewer = await served.program(Role.VIEWER)
        body = {"expression": "Mo-Fr 22:00-02:00; PH off", "time_zone": "Europe/Berlin", "country": "DE"}
        answer = await ask(viewer, "POST", "/api/hours/check", json=body)
        assert (answer["time_zone"], answer["within_hours"]) == ("Europe/Berlin", False)
        assert answer["next_change_at"] == "2026-03-02T21:00:00Z"
        assert len(answer["intervals"]) == 10
        assert answer["intervals"][0] == {"from": "2026-03-02T21:00:00Z", "to": "2026-03-03T01:00:00Z"}
        for wrong, field, column in (
            ({"expression": "Mo-Fr 08:00-18:00; Sax 09:00"}, "expression", 22),
            ({"hours": "Mo-Fr 7-"}, "hours", 7),
        ):
            refused = await ask(viewer, "POST", "/api/hours/check", status=422, json=wrong)
            assert refused["errors"][0]["field"] == field
            assert refused["errors"][0]["arguments"]["column"] == column
            assert str(column) in refused["errors"][0]["message"]
        await ask(viewer, "POST", "/api/hours/check", status=422, json={})
