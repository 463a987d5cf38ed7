"""Pages say what is true when they say it: local times, old values, order, offers, rows that changed."""

import re
from datetime import datetime, timedelta

import pytest

from infoscreen.domain.accounts import Role
from infoscreen.domain.commands import Action
from tests.panel import CRASHED, FAILED, GONE, HUNG, NAMES, OFF, ONLINE, Shown, look, send, settle_fleet
from tests.spine import OPERATOR, zulu
from tests.test_panel_recovery import outage_begins, switch_on
from tests.web import Site

BERLIN = {"Cookie": "infoscreen_zone=Europe/Berlin"}


async def test_times_are_the_readers_and_titles_in_utc(site: Site) -> None:
    await settle_fleet(site.spine)
    health = {"reconnect_count": 1, "last_disconnect_at": "2026-02-27T23:20:30Z"}
    await site.spine.hear(
        (f"{ONLINE}/health", {"timestamp": zulu(site.spine.clock.now()), "broker_connection": health})
    )
    browser = await site.browser(Role.VIEWER)
    browser.headers.update(BERLIN)
    german, english = [await look(browser, f"/clients/{ONLINE}", tongue) for tongue in ("de", "en")]
    assert "Letzter Abbruch 28. Feb., 00:20:30" in german.words
    assert 'title="27.02.2026 23:20:30 UTC"' in german.text
    assert "Last disconnect 28 Feb, 00:20:30" in english.words
    assert "As of 08:10:00" in english.words
    assert "UTC" not in re.sub(r'title="[^"]*"', "", english.text)


@pytest.mark.parametrize(
    "name", ["Europe", "../../etc/passwd", "Nowhere/Land", "x" * 5_000, "", "/etc/localtime"]
)
async def test_a_time_zone_that_does_not_exist_is_passed_over(site: Site, name: str) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.VIEWER)
    browser.headers["Cookie"] = f"infoscreen_zone={name}"
    page = await look(browser, "/")
    assert (page.status, "Stand 07:10:00" in page.words) == (200, True)


async def test_evidence_is_in_local_time_too(site: Site) -> None:
    await settle_fleet(site.spine)
    now = site.spine.clock.now()
    await site.spine.beat(CRASHED, booted_at=zulu(now - timedelta(hours=5)), process_status="running")
    command = await site.spine.request(CRASHED, Action.REBOOT_HOST)
    await site.spine.outbox.step()
    await site.spine.ack(command, "completed")
    for _ in range(3):
        site.spine.clock.advance(30)
        boot = zulu(now + timedelta(seconds=20))
        await site.spine.beat(CRASHED, booted_at=boot, process_status="running")
        await site.spine.watch.look()
        await site.spine.watch.sweep()
    browser = await site.browser(Role.VIEWER)
    browser.headers.update(BERLIN)
    page = await look(browser, f"/commands/{command.command_id}")
    assert "neue Startzeit des Geräts 08:10:20" in page.words


async def test_the_end_of_a_maintenance_is_typed_in_local_time_and_kept_when_refused(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    browser.headers.update(BERLIN)
    path = f"/clients/{ONLINE}/edit"
    asked = await look(browser, path)
    assert "Wartung bis (Ortszeit, Europe/Berlin; leer: keine)" in asked.words
    zone = "Europe/Berlin"
    await send(browser, path, name="Foyer", maintenance_until="2026-07-02T20:15", zone=zone)
    until = (await site.spine.client(ONLINE)).maintenance_until
    assert until is not None
    assert zulu(until) == "2026-07-02T18:15:00Z"
    assert 'value="2026-07-02T20:15"' in (await look(browser, path)).text
    refused = await send(
        browser, path, name="Neu", description="<b>", maintenance_until="2020-01-01T00:00", zone=zone
    )
    assert refused.status == 422
    assert all(text in refused.text for text in ('value="Neu"', "&lt;b&gt;", 'value="2020-01-01T00:00"'))


def button_of(page: Shown, action: str, client: str) -> str:
    """Return ``offered``, ``disabled`` or nothing: how a page offers a command for a client now."""
    if re.search(rf'href="/clients/{client}/commands/{action}(?!\?when_back=1")', page.text):
        return "offered"
    words = {"restart_app": "App neu starten", "reboot_host": "Neustart"}[action]
    named = f'aria-label="{words}: {NAMES[client]}"'
    found = [
        one for one in re.findall(r"<button[^>]*disabled.*?</button>", page.text, re.DOTALL) if words in one
    ]
    on_its_page = "<h1>" + NAMES[client] in page.text
    return "disabled" if any(on_its_page or named in one for one in found) else ""


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_what_is_offered_on_one_page_is_offered_on_the_other(site: Site, role: Role) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(role)
    overview = await look(browser, "/")
    for client, action in ((CRASHED, "restart_app"), (HUNG, "reboot_host"), (GONE, "reboot_host")):
        there, here = [
            button_of(page, action, client) for page in (overview, await look(browser, f"/clients/{client}"))
        ]
        assert there == here != "", (client, role)
    assert button_of(overview, "reboot_host", GONE) == "disabled"


async def test_what_cannot_arrive_is_disabled_with_its_reason(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.ADMIN)
    for client, reason in ((GONE, "Nicht verbunden"), (OFF, "Ausgeschaltet")):
        page = await look(browser, f"/clients/{client}")
        assert f"{reason}: Ein Befehl käme nicht an." in page.words
        assert not re.search(rf'href="/clients/{client}/commands/\w+(?!\w|\?when_back=1")', page.text)
    assert "Nicht verbunden: Ein Befehl käme nicht an." in (await look(browser, "/")).words


async def test_a_lockout_is_told_on_the_overview_before_the_click(site: Site) -> None:
    await settle_fleet(site.spine)
    for _ in range(3):
        command = await site.spine.request(CRASHED, Action.RESTART_APP, actor=OPERATOR)
        await site.spine.outbox.step()
        await site.spine.ack(command, "failed")
    overview = await look(await site.browser(Role.OPERATOR), "/")
    assert button_of(overview, "restart_app", CRASHED) == "disabled"
    assert "Nach zu vielen Eingriffen bis 07:25:00 gesperrt." in overview.words


async def test_rows_that_a_page_still_shows_are_answered_as_they_are_now_and_marked(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.VIEWER)
    headers = {"X-Live": "client-rows", "X-Rows": f"{ONLINE},{CRASHED},nonsense,{FAILED}"}
    await site.spine.beat(CRASHED, process_status="running")
    async with browser.get("/clients?status=online", headers=headers) as response:
        text = await response.text()
    shown, _, left = text.partition("data-left-rows")
    assert (f"client-{ONLINE}" in shown, f"client-{CRASHED}" in shown) == (True, True)
    assert f"client-{FAILED}" in left
    assert left.count("passt nicht mehr") == 1
    assert "Dienst ausgefallen" in left
    async with browser.get("/clients?status=crashed", headers=headers) as response:
        assert (await response.text()).count("passt nicht mehr") == 3


async def test_an_outage_and_what_it_holds_back_come_before_all_numbers(site: Site) -> None:
    switch_on(site)
    await outage_begins(site)
    page = await look(await site.browser(Role.OPERATOR), "/")
    assert page.text.index('class="panel panel-outage"') < page.text.index('class="tiles"')
    assert "Hält zurück" in page.words
    assert "Aktiv" not in page.words


@pytest.mark.parametrize(
    ("until", "zone"), [("9999-12-31T23:59", "America/New_York"), ("0001-01-01T00:00", "Asia/Tokyo")]
)
async def test_a_maintenance_at_the_calendars_edge_is_refused(site: Site, until: str, zone: str) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    page = await send(browser, f"/clients/{ONLINE}/edit", maintenance_until=until, zone=zone)
    assert page.status == 422
    assert "1970" in page.words


async def test_old_health_of_a_live_client_looks_old_without_javascript(site: Site) -> None:
    await settle_fleet(site.spine)
    await site.spine.hear(
        (f"{ONLINE}/health", {"timestamp": zulu(site.spine.clock.now()), "cpu_temperature": 50})
    )
    browser = await site.browser(Role.VIEWER)
    fresh = await look(browser, f"/clients/{ONLINE}")
    for _ in range(17):
        site.spine.clock.advance(60)
        await site.spine.beat(ONLINE)
    old = await look(browser, f"/clients/{ONLINE}")
    health = [re.search(r'<section class="([^"]*)"[^>]*id="health"', page.text) for page in (fresh, old)]
    assert [found and found[1] for found in health] == ["panel", "panel old"]


async def test_a_problem_that_no_poll_has_seen_yet_is_not_called_nothing_to_recover(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.VIEWER)
    said = [(await look(browser, f"/clients/{client}")).words for client in (ONLINE, CRASHED)]
    assert ["Keine Wiederherstellung nötig." in words for words in said] == [True, False]
    assert "Noch nicht entschieden" in said[1]


@pytest.mark.parametrize("until", ["2026-03-02T07:05:30Z", "2026-03-02T08:10:30Z", "2026-10-25T01:30:00Z"])
async def test_an_end_of_maintenance_that_nobody_has_changed_stays_as_it_is(site: Site, until: str) -> None:
    await site.spine.beat(ONLINE)
    ends = datetime.fromisoformat(until)
    await site.spine.fleet.edit(ONLINE, {"maintenance_until": ends}, OPERATOR)
    site.spine.clock.advance(600)
    await site.spine.beat(ONLINE)
    browser = await site.browser(Role.OPERATOR)
    browser.headers.update(BERLIN)
    path = f"/clients/{ONLINE}/edit"
    shown = re.search(r'name="maintenance_until"[^>]*value="([^"]+)"', (await look(browser, path)).text)
    assert shown is not None
    saved = await send(browser, path, name="Neu", maintenance_until=shown[1], zone="Europe/Berlin")
    assert saved.status == 200
    client = await site.spine.client(ONLINE)
    assert (client.name, client.maintenance_until) == ("Neu", ends)
    await send(browser, path, name="Neu", zone="Europe/Berlin")
    assert (await site.spine.client(ONLINE)).maintenance_until is None
