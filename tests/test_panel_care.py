"""Somebody takes care of a problem: it is held, named, counted apart, never looks well; numbers agree."""

import random
import re
from datetime import timedelta

import pytest
from aiohttp import ClientSession

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import Conflict
from infoscreen.domain.recovery import Meanwhile
from infoscreen.storage.acknowledged import care_of
from infoscreen.storage.recovery import incidents
from infoscreen.web.panel.groups import GROUPS, TILES
from tests.panel import (
    CRASHED,
    FAILED,
    GONE,
    HUNG,
    ONLINE,
    UNIT,
    Shown,
    crash,
    fail_service,
    look,
    send,
    settle_fleet,
)
from tests.spine import ADMIN, OPERATOR, uuid_of, zulu
from tests.test_panel_recovery import outage_begins
from tests.web import Site

PROBLEM_TILES = ("service_failed", "crashed", "silent", "unclear")


def chips(page: Shown) -> int:
    return page.text.count("tag-cared")


async def test_an_acknowledged_failure_is_not_shown_as_well_until_the_unit_runs_again(site: Site) -> None:
    await settle_fleet(site.spine)
    await site.spine.beat(FAILED, process_status="crashed")
    browser = await site.browser(Role.OPERATOR)
    failed_at = (await site.spine.client(FAILED)).service_failed_at
    assert failed_at is not None
    before = await look(browser, "/")
    await send(
        browser,
        f"/clients/{FAILED}/clear_service_failed",
        failed_at=zulu(failed_at),
        unit=UNIT,
        comment="ich",
    )
    await site.spine.beat(FAILED, process_status="starting")
    after = await look(browser, "/")
    assert (before.title[:4], after.title[:4]) == ("(4) ", "(3) ")
    assert "1 Gerät quittiert" in after.words
    assert f"{UNIT} wurde von operator quittiert und lief seitdem noch nicht wieder." in after.words
    for path in ("/clients", "/clients?status=acknowledged", f"/clients/{FAILED}"):
        assert chips(await look(browser, path)) == 1, path
    await site.spine.beat(FAILED, process_status="running")
    done = await look(browser, "/")
    assert (chips(done), "Gerät quittiert" in done.words) == (0, False)
    site.spine.clock.advance(1)
    await fail_service(site.spine, FAILED)
    assert (await look(browser, "/")).title.startswith("(4) ")


async def test_a_start_before_the_failure_is_no_proof_and_one_after_it_is(site: Site) -> None:
    await settle_fleet(site.spine)
    now = site.spine.clock.now()
    old, new = zulu(now - timedelta(hours=1)), zulu(now + timedelta(seconds=30))
    await site.spine.beat(FAILED, process_status="running", app_started_at=old)
    await site.spine.fleet.clear_service_failed(FAILED, OPERATOR)
    for started, waited in ((old, True), (new, False)):
        site.spine.clock.advance(60)
        await site.spine.beat(FAILED, process_status="running", app_started_at=started)
        async with site.spine.store.read() as connection:
            assert (FAILED in await care_of(connection, [FAILED], site.spine.clock.now())) is waited


@pytest.mark.parametrize("client", [CRASHED, HUNG, GONE, FAILED])
async def test_any_problem_is_taken_care_of_and_given_back(site: Site, client: str) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    path = f"/clients/{client}/recovery"
    assert 'value="hold"' in (await look(browser, f"{path}/acknowledge")).text
    taken = await send(browser, f"{path}/acknowledge", comment="Leiter holen", lasts="1h", recovery="hold")
    said = re.sub(r"\s+([.,])", r"\1", taken.words)
    assert "operator kümmert sich darum. Leiter holen · seit 07:10:00, bis 08:10:00." in said
    overview = await look(browser, "/")
    assert overview.title.startswith("(3) ")
    assert "quittiert · operator" in overview.words
    given = await send(browser, f"{path}/give_back", next="/")
    assert given.title.startswith("(4) ")
    assert chips(given) == 0


async def test_it_ends_in_the_morning_of_the_reader(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    browser.headers["Cookie"] = "infoscreen_zone=Asia/Kolkata"
    await send(browser, f"/clients/{CRASHED}/recovery/acknowledge", lasts="morning", recovery="go_on")
    async with site.spine.store.read() as connection:
        care = (await care_of(connection, [CRASHED], site.spine.clock.now()))[CRASHED]
    assert care.acknowledgement is not None
    assert care.acknowledgement.until is not None
    assert zulu(care.acknowledgement.until) == "2026-03-03T02:30:00Z"
    assert care.acknowledgement.recovery is Meanwhile.GO_ON
    site.spine.clock.advance(86_400)
    async with site.spine.store.read() as connection:
        assert await care_of(connection, [CRASHED], site.spine.clock.now()) == {}


async def test_several_and_all_of_a_kind_are_taken_care_of_at_once(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    asked = await look(browser, f"/acknowledge?client={CRASHED}&client={GONE}&client=nonsense")
    assert "Um 2 Geräte kümmern?" in asked.words
    done = await send(
        browser, "/acknowledge", client_uuids=f"{CRASHED},{GONE},{uuid_of(99)}", lasts="well", recovery="hold"
    )
    assert "Quittiert: 2, nicht möglich: 1." in done.words
    assert done.title.startswith("(2) ")
    everything = await look(browser, "/acknowledge?status=needs_person")
    assert "Um Kasse kümmern?" in everything.words
    nothing = await look(browser, "/acknowledge?client=x")
    assert "Kein Gerät ist ausgewählt" in nothing.words
    viewer = await site.browser(Role.VIEWER)
    assert (await send(viewer, "/acknowledge", client_uuids=HUNG, follow=False)).status == 403


async def test_whoever_is_well_again_needs_nobody_any_more(site: Site) -> None:
    await settle_fleet(site.spine)
    await site.spine.recovering.acknowledge(CRASHED, OPERATOR, recovery=Meanwhile.HOLD)
    with pytest.raises(Conflict):
        await site.spine.recovering.acknowledge(ONLINE, OPERATOR)
    for _ in range(4):
        site.spine.clock.advance(30)
        await site.spine.beat(CRASHED, process_status="running")
        await site.spine.watch.look()
        await site.spine.recovering.poll()
    async with site.spine.store.read() as connection:
        assert await care_of(connection, [CRASHED], site.spine.clock.now()) == {}


def first(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return 0 if found is None else int(found[1])


async def total(browser: ClientSession, status: str) -> int:
    page = await look(browser, f"/clients?status={status}", "en")
    return (
        0
        if "No client matches" in page.words
        else first(r"(\d+) clients?\b", page.words.split("Filter", 1)[1])
    )


async def generate(site: Site, seed: int) -> None:
    """Let a fleet live for a while, with troubles of all kinds and maybe an outage; some are attended."""
    chance, spine = random.Random(seed), site.spine
    everybody = [uuid_of(number) for number in range(1, 31)]
    dark = set(everybody[:8]) if seed % 2 else set()
    fates = {
        uuid: chance.choice(["well"] * 4 + ["crashed", "silent", "failed", "resting"]) for uuid in everybody
    }
    since = {uuid: chance.randint(8, 24) for uuid in everybody}
    for uuid in everybody:
        await spine.beat(uuid)
        await spine.fleet.edit(uuid, {"site": "Messe" if uuid in dark else "Rathaus"}, ADMIN)
    for minute in range(30):
        spine.clock.advance(60)
        for uuid in everybody:
            begun = minute >= since[uuid]
            if (fates[uuid] == "silent" and begun) or (uuid in dark and minute > 20):
                continue
            crashed = fates[uuid] == "crashed" and begun
            await spine.beat(uuid, process_status="crashed" if crashed else "running")
            if minute == since[uuid] and fates[uuid] == "failed":
                await fail_service(spine, uuid)
        await spine.watch.look()
        await spine.recovering.poll()
    for uuid in everybody:
        if fates[uuid] == "resting":
            await spine.fleet.edit(uuid, {"maintenance_until": spine.clock.now() + timedelta(hours=9)}, ADMIN)
        if fates[uuid] == "failed" and chance.random() < 0.4:
            await spine.fleet.clear_service_failed(uuid, OPERATOR)
        elif uuid not in dark and fates[uuid] != "well" and chance.random() < 0.4:
            try:
                await spine.recovering.acknowledge(uuid, OPERATOR)
            except Conflict:
                continue
    if seed % 4 == 3:
        async with spine.store.read() as connection:
            known = await incidents.under_way(connection)
        for incident in known:
            await spine.recovering.acknowledge_incident(incident.id, OPERATOR)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_all_numbers_agree(site: Site, seed: int) -> None:
    await generate(site, seed)
    browser = await site.browser(Role.VIEWER)
    page = await look(browser, "/", "en")
    async with browser.get("/api/monitoring/overview?limit=1") as response:
        told = await response.json()
    title = first(r"^\((\d+)\)", page.title)
    assert title == first(r"(\d+) of 30 clients needs? attention", page.words)
    assert title == told["problems"] == await total(browser, "unattended")
    assert told["acknowledged"] == await total(browser, "acknowledged")
    assert told["acknowledged"] == first(r"(\d+) clients? acknowledged", page.words)
    tiles = {
        tile: first(rf'href="/clients\?status={tile}">.*?tile-count">(\d+)', page.text.replace("\n", " "))
        for tile in TILES
    }
    for tile, count in tiles.items():
        assert count == await total(browser, tile) == sum(told["totals"][one] for one in GROUPS[tile]), tile
    attended = 0
    for status in PROBLEM_TILES:
        listed = await look(browser, f"/clients?status={status}", "en")
        attended += chips(listed)
    assert title == sum(tiles[tile] for tile in PROBLEM_TILES) - attended
    known = seed % 4 == 3 and "panel-outage" in page.text
    heading = r'<h2 id="{}">.*?<span class="count">(\d+)</span>'
    badges = [
        int(count)
        for name in (
            "failures-title",
            "needs-person-title",
            "recovering-title",
            *([] if known else [r"outage-title-\d+"]),
        )
        for count in re.findall(heading.format(name), page.text, re.DOTALL)
    ]
    assert title == sum(badges)
    assert title + told["acknowledged"] > 0


async def test_an_acknowledged_unit_does_not_hide_another_failure_or_a_crash(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    await site.spine.fleet.clear_service_failed(FAILED, OPERATOR)
    assert (await look(browser, "/")).title.startswith("(3) ")
    site.spine.clock.advance(1)
    await fail_service(site.spine, FAILED, unit="other.service")
    another = await look(browser, "/")
    assert another.title.startswith("(4) ")
    assert "other.service" in another.words
    await site.spine.fleet.clear_service_failed(FAILED, OPERATOR)
    await crash(site.spine, FAILED)
    crashed = await look(browser, "/")
    assert crashed.title.startswith("(4) ")
    assert f"/clients/{FAILED}/recovery/acknowledge?" in crashed.text


async def test_all_of_these_leaves_out_what_an_outage_holds(site: Site) -> None:
    await outage_begins(site)
    for number in (26, 27, 28):
        await crash(site.spine, uuid_of(number))
    await site.spine.recovering.poll()
    browser = await site.browser(Role.OPERATOR)
    page = await look(browser, "/", "en")
    assert "panel-outage" in page.text
    assert "Needs a person 3" in page.words
    assert "Take care of 3 clients?" in (await look(browser, "/acknowledge?status=unwell", "en")).words


async def test_a_client_can_be_given_back_during_an_acknowledged_outage(site: Site) -> None:
    incident, client = await outage_begins(site), uuid_of(20)
    await site.spine.recovering.acknowledge(client, OPERATOR, recovery=Meanwhile.HOLD)
    await site.spine.recovering.acknowledge_incident(incident, OPERATOR)
    browser = await site.browser(Role.OPERATOR)
    for path in ("/", f"/clients/{client}"):
        assert f'action="/clients/{client}/recovery/give_back"' in (await look(browser, path)).text, path


async def test_an_acknowledged_row_matches_the_unattended_no_longer(site: Site) -> None:
    await settle_fleet(site.spine)
    await site.spine.recovering.acknowledge(CRASHED, OPERATOR)
    browser = await site.browser(Role.VIEWER)
    headers = {"X-Live": "client-rows", "X-Rows": f"{CRASHED},{HUNG}"}
    for status in ("unattended", "acknowledged"):
        async with browser.get(f"/clients?status={status}", headers=headers) as response:
            left = (await response.text()).partition("data-left-rows")[2]
        assert left.count("passt nicht mehr") == 1, status
        assert "jetzt auf einer anderen Seite" not in left


async def test_rows_can_be_chosen_only_where_the_choice_can_be_sent(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    for uuid in (HUNG, GONE):
        await site.spine.recovering.acknowledge(uuid, OPERATOR)
    page = await look(browser, "/")
    assert page.text.count('class="row-choice"') == 1
    assert 'form="several">Ausgew' in page.text
    assert "/acknowledge?status=" not in page.text


async def test_an_outage_tells_all_that_it_affects_and_counts_those_that_nobody_takes_care_of(
    site: Site,
) -> None:
    await outage_begins(site)
    await site.spine.recovering.acknowledge(uuid_of(20), OPERATOR, recovery=Meanwhile.GO_ON)
    page = await look(await site.browser(Role.VIEWER), "/")
    assert re.search(r'id="outage-title-.*?class="count">4<', page.text, re.DOTALL)
    assert "5 Geräte betroffen" in page.words
