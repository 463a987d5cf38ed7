"""What the panel shows and does, without a browser: every act is a plain form."""

import asyncio
import re
from datetime import timedelta

import pytest
from aiohttp import ClientSession

import infoscreen
from infoscreen.domain.accounts import Role
from infoscreen.domain.clients import Condition
from infoscreen.domain.commands import Action, CommandStatus
from infoscreen.storage import commands
from infoscreen.storage.commands import CommandQuery
from infoscreen.storage.recovery import incidents
from infoscreen.web.panel.flash import COOKIE as FLASH
from tests.panel import (
    CRASHED,
    FAILED,
    GONE,
    HUNG,
    NAMES,
    OFF,
    ONLINE,
    RESTING,
    UNIT,
    Shown,
    crash,
    fail_service,
    look,
    send,
    settle_fleet,
)
from tests.spine import ADMIN, Spine, uuid_of, zulu
from tests.web import PASSWORD, SAME_ORIGIN, Site

WRONG = "not the password"
PAGES = (
    "/",
    "/clients",
    f"/clients/{CRASHED}",
    f"/clients/{ONLINE}/edit",
    f"/clients/{ONLINE}/remove",
    f"/clients/{ONLINE}/commands/reboot_host",
    f"/clients/{ONLINE}/commands/shutdown_host",
    "/account",
)


# Coming and going.


async def test_whoever_is_not_signed_in_is_asked_to_and_comes_back_to_where_they_wanted(site: Site) -> None:
    user = await site.user(Role.VIEWER)
    browser = await site.browser()
    asked = await look(browser, "/clients?q=foyer", follow=False)
    assert (asked.status, asked.location) == (303, "/login?next=%2Fclients%3Fq%3Dfoyer")
    form = await look(browser, asked.location or "")
    assert 'value="/clients?q=foyer"' in form.text
    arrived = await send(
        browser, "/login", username=user.username, password=PASSWORD, next="/clients?q=foyer", follow=False
    )
    assert (arrived.status, arrived.location) == (303, "/clients?q=foyer")
    assert (await look(browser, "/clients?q=foyer")).status == 200


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\tb"])
async def test_signing_in_leads_to_our_own_pages_only(site: Site, elsewhere: str) -> None:
    user = await site.user(Role.VIEWER)
    browser = await site.browser()
    arrived = await send(
        browser, "/login", username=user.username, password=PASSWORD, next=elsewhere, follow=False
    )
    assert arrived.location == "/"


async def test_a_wrong_password_is_told_in_the_form_and_too_many_have_to_wait(site: Site) -> None:
    user = await site.user(Role.VIEWER)
    browser = await site.browser()
    refused = [await send(browser, "/login", username=user.username, password=WRONG) for _ in range(4)]
    assert [page.status for page in refused] == [401, 401, 401, 429]
    assert "Benutzername oder Passwort ist falsch." in refused[0].words
    assert f'value="{user.username}"' in refused[0].text
    assert "Zu viele Fehlversuche." in refused[3].words


async def test_the_foot_of_a_page_says_which_version_runs(site: Site) -> None:
    assert f"infoscreen {infoscreen.__version__}" in (await look(await site.browser(Role.VIEWER), "/")).words


async def test_signing_out_ends_the_session(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    gone = await send(browser, "/logout")
    assert gone.path == "/login"
    assert "Sie sind abgemeldet." in gone.words
    assert (await look(browser, "/", follow=False)).status == 303


async def test_a_form_from_another_site_is_refused_with_a_page(site: Site) -> None:
    browser = await site.browser(Role.OPERATOR)
    async with browser.post("/logout", headers={"Sec-Fetch-Site": "cross-site"}) as response:
        assert response.status == 403
        assert "Die Anfrage kam von einer anderen Seite" in await response.text()
    assert (await look(browser, "/")).status == 200


async def test_the_chosen_language_stays_whatever_the_browser_prefers(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    assert 'lang="de"' in (await look(browser, "/clients", "de")).text
    english = await send(browser, "/language", language="en", next="/clients")
    assert english.path == "/clients"
    assert '<html lang="en">' in (await look(browser, "/clients", "de")).text


# Every page.


@pytest.mark.parametrize("language", ["de", "en"])
async def test_every_page_is_whole_in_both_languages(site: Site, language: str) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.ADMIN)
    for path in PAGES:
        page = await look(browser, path, language)
        assert page.status == 200, path
        assert f'<html lang="{language}">' in page.text
        assert "%(" not in page.words, path
        assert not re.search(r'style="|<script>|javascript:| on[a-z]+="', page.text), path


async def test_pages_are_not_kept_by_anybody_and_assets_for_ever(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    page = await look(browser, "/clients")
    for address in set(re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.text)):
        async with browser.get(address) as response:
            assert response.status == 200
            assert response.headers["Cache-Control"].endswith("immutable")
        async with browser.get(re.sub(r"/assets/[^/]+", "/assets/outdated", address)) as response:
            assert (response.status, response.headers["Cache-Control"]) == (200, "no-cache")
    async with browser.get("/assets/x/..%2f..%2fpanel%2fflash.py") as response:
        assert response.status == 404
    async with browser.get("/clients") as response:
        assert response.headers["Cache-Control"] == "no-store"


async def test_an_address_that_leads_nowhere_gets_a_page_too(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    for path in (f"/clients/{uuid_of(99)}", "/clients/nonsense", f"/commands/{uuid_of(99)}"):
        page = await look(browser, path)
        assert (page.status, "Seite nicht gefunden" in page.words) == (404, True), path
    assert (await look(browser, f"/clients/{uuid_of(99)}/commands/dance")).status == 404


@pytest.mark.parametrize(
    ("path", "valid", "parts"),
    [
        ("/clients?status=xx&sort=name", "/clients?sort=name", "Status"),
        ("/clients?cursor=zzz&first=101&q=Foyer", "/clients?q=Foyer", "Seite"),
        ("/clients?cursor=zzz&sort=up", "/clients?cursor=zzz", "Sortierung"),
        (f"/clients/{ONLINE}?show=all", f"/clients/{ONLINE}", "Auswahl"),
        (f"/clients/{ONLINE}?cursor=zzz", f"/clients/{ONLINE}", "Seite"),
        ("/sites?cursor=zzz", "/sites", "Seite"),
        ("/incidents?show=all&cursor=zzz", "/incidents?cursor=zzz", "Auswahl"),
        ("/bulk?cursor=zzz", "/bulk", "Seite"),
        ("/audit?cursor=zzz&actor=olga", "/audit?actor=olga", "Seite"),
        ("/notifications?cursor=zzz", "/notifications", "Seite"),
    ],
)
async def test_a_link_to_a_list_that_is_out_of_date_leads_to_the_list_with_a_hint(
    site: Site, path: str, valid: str, parts: str
) -> None:
    await site.spine.beat(ONLINE)
    browser = await site.browser(Role.ADMIN)
    assert (await look(browser, path, follow=False)).location == valid
    page = await look(browser, path)
    assert page.status == 200
    assert "Dieser Link ist veraltet oder fehlerhaft." in page.words
    if "zzz" not in valid:
        assert f"Nicht berücksichtigt: {parts}." in page.words


@pytest.mark.parametrize(
    ("language", "words"),
    [("de", "Status: diesen Status gibt es nicht: xx"), ("en", "Status: there is no such status: xx")],
)
async def test_a_question_about_clients_is_not_widened_when_its_filter_is_not_valid(
    site: Site, language: str, words: str
) -> None:
    await site.spine.beat(ONLINE)
    browser = await site.browser(Role.ADMIN)
    page = await look(browser, "/bulk/new?scope=all&action=reboot_host&status=xx", language)
    assert page.status == 422
    assert words in page.words
    assert "service_failed" not in page.words
    assert 'href="/bulk/new"' in page.text[page.text.index('class="fault"') :]
    assert 'href="/"' in page.text[page.text.index('class="fault"') :]


async def test_names_cannot_break_out_of_a_page(site: Site) -> None:
    await settle_fleet(site.spine)
    evil = '"><script>alert(1)</script>'
    await site.spine.fleet.edit(
        FAILED, {"name": evil, "site": evil, "tags": [evil], "description": evil}, ADMIN
    )
    await site.spine.hear(
        (f"{FAILED}/logs/error", {"timestamp": zulu(site.spine.clock.now()), "message": evil})
    )
    browser = await site.browser(Role.ADMIN)
    for path in (
        "/",
        "/clients",
        f"/clients/{FAILED}",
        f"/clients/{FAILED}/edit",
        f"/clients/{FAILED}/remove",
    ):
        page = await look(browser, path)
        assert "<script>alert" not in page.text, path
        assert evil in page.words or evil in page.text.replace("&#34;", '"').replace("&gt;", ">").replace(
            "&lt;", "<"
        )


# The overview.


async def test_without_a_client_the_first_page_tells_how_to_connect_one(site: Site) -> None:
    page = await look(await site.browser(Role.VIEWER), "/")
    assert "Noch keine Geräte" in page.words
    assert "mosquitto_pub" in page.words


async def test_the_overview_shows_problems_first_and_counts_them_in_its_title(site: Site) -> None:
    await settle_fleet(site.spine)
    page = await look(await site.browser(Role.OPERATOR), "/")
    assert page.title == "(4) Übersicht · infoscreen"
    assert "4 von 7 Geräten brauchen Hilfe" in page.words
    counts = dict(re.findall(r'href="/clients\?status=(\w+)">.*?tile-count">(\d+)<', page.text, re.DOTALL))
    assert counts == {
        "online": "1",
        "crashed": "1",
        "not_showing": "0",
        "silent": "2",
        "service_failed": "1",
        "unclear": "0",
        "maintenance": "1",
        "off_hours": "0",
        "shut_down": "1",
    }
    assert page.text.index(f"unwell-{CRASHED}") < page.text.index(UNIT)
    assert f"/clients/{CRASHED}/commands/restart_app" in page.text
    assert f"/clients/{HUNG}/commands/reboot_host" in page.text
    assert f"/clients/{GONE}/commands/" not in page.text
    assert "Ein Befehl käme nicht an" in page.words


async def test_without_a_problem_the_overview_says_so(site: Site) -> None:
    await site.spine.beat(ONLINE)
    page = await look(await site.browser(Role.VIEWER), "/")
    assert page.title == "Übersicht · infoscreen"
    assert "Nichts zu tun." in page.words
    assert "panel-failed" not in page.text


async def live(spine: Spine, uuids: list[str], times: int) -> None:
    """Let clients beat every half minute, so that their rhythm is known."""
    for _ in range(times):
        spine.clock.advance(30)
        at = zulu(spine.clock.now())
        await spine.hear(*((f"{uuid}/heartbeat", {"timestamp": at}) for uuid in uuids))


async def test_a_site_that_is_dark_is_told_once_instead_of_by_each_of_its_clients(site: Site) -> None:
    spine = site.spine
    dark, others = [uuid_of(number) for number in range(1, 6)], [uuid_of(number) for number in range(6, 16)]
    await live(spine, [*dark, *others], 6)
    for uuid in dark:
        await spine.fleet.edit(uuid, {"site": "Messe"}, ADMIN)
    await live(spine, others, 6)
    await spine.watch.look()
    await spine.recovering.poll()
    page = await look(await site.browser(Role.VIEWER), "/")
    assert "Ausfall: Messe 5" in page.words
    assert page.title.startswith("(5) ")
    assert page.text.index("panel-outage") < page.text.index(f"unwell-{dark[0]}")
    assert "panel-crashed" not in page.text


def tile_counts(page: Shown) -> dict[str, int]:
    found = re.findall(r'href="/clients\?status=(\w+)">.*?tile-count">(\d+)<', page.text, re.DOTALL)
    return {group: int(count) for group, count in found}


async def make_unclear(spine: Spine, duplicate: str, incomprehensible: str) -> None:
    for _ in range(3):
        for number in (1, 2):
            spine.clock.advance(10)
            await spine.beat(duplicate, boot_id=f"boot-{number}", ip=f"192.0.2.{number}")
    await spine.hear((f"{incomprehensible}/presence", "online"))
    await spine.hear((f"{incomprehensible}/heartbeat", "no JSON"))


async def test_every_problem_that_is_counted_has_a_tile_a_filter_and_a_list(site: Site) -> None:
    await settle_fleet(site.spine)
    await make_unclear(site.spine, uuid_of(20), uuid_of(21))
    browser = await site.browser(Role.OPERATOR)
    page = await look(browser, "/")
    problems = sum(tile_counts(page)[group] for group in ("service_failed", "crashed", "silent", "unclear"))
    assert f"{problems} von 9 Geräten brauchen Hilfe" in page.words
    assert problems == 6
    for group, count in tile_counts(page).items():
        filtered = await look(browser, f"/clients?status={group}")
        assert len(set(re.findall(r'id="client-([0-9a-f-]{36})"', filtered.text))) == count, group
    for uuid in (CRASHED, HUNG, GONE, uuid_of(20), uuid_of(21)):
        assert page.text.count(f'id="unwell-{uuid}"') == 1
    assert "Eingreifen nötig 5" in page.words


async def test_members_of_an_outage_are_counted_there_alone(site: Site) -> None:
    spine = site.spine
    messe = [uuid_of(number) for number in range(1, 40)]
    bahnhof = [uuid_of(number) for number in range(40, 66)]
    others = [uuid_of(number) for number in range(66, 196)]
    await live(spine, [*messe, *bahnhof, *others], 6)
    for uuid in messe:
        await spine.fleet.edit(uuid, {"site": "Messe"}, ADMIN)
    for uuid in bahnhof:
        await spine.fleet.edit(uuid, {"site": "Bahnhof"}, ADMIN)
    await live(spine, [*bahnhof, *others[1:]], 6)
    await live(spine, others[1:], 6)
    await crash(spine, others[0])
    await spine.watch.look()
    await spine.recovering.poll()
    page = await look(await site.browser(Role.VIEWER), "/")
    assert "Ausfall: Messe 39" in page.words
    assert "39 Geräte betroffen" in page.words
    assert "Ausfall: Bahnhof 26" in page.words
    assert "Eingreifen nötig 1" in page.words
    crashed = page.text[page.text.index("panel-crashed") :]
    assert re.findall(r'id="unwell-([0-9a-f-]{36})"', crashed) == [others[0]]
    # Dismissed: its members are listed singly at once, and not only after the next poll.
    async with spine.store.read() as connection:
        known = {one.site: one.id for one in await incidents.under_way(connection)}
    await spine.recovering.dismiss(known["Messe"], ADMIN)
    page = await look(await site.browser(Role.VIEWER), "/")
    assert "Ausfall: Bahnhof 26" in page.words
    assert "Eingreifen nötig 40" in page.words


async def test_what_can_be_helped_is_not_pushed_off_the_page(site: Site) -> None:
    spine = site.spine
    silent = [uuid_of(number) for number in range(2, 70)]
    await spine.hear(*((f"{uuid}/heartbeat", {"timestamp": zulu(spine.clock.now())}) for uuid in silent))
    await crash(spine, uuid_of(1))
    spine.clock.advance(150)
    await crash(spine, uuid_of(1))
    spine.clock.advance(60)
    await spine.watch.look()
    page = await look(await site.browser(Role.OPERATOR), "/")
    rows = re.findall(r'id="unwell-([0-9a-f-]{36})"', page.text)
    assert len(rows) == 50
    assert rows[0] == uuid_of(1)
    assert "Eingreifen nötig 69" in page.words


async def test_a_broker_that_is_away_is_told_on_every_page(site: Site) -> None:
    await settle_fleet(site.spine)
    site.spine.link.listening_since = None
    browser = await site.browser(Role.VIEWER)
    for path in ("/", "/clients", f"/clients/{HUNG}"):
        assert "Keine Verbindung zum MQTT-Broker." in (await look(browser, path)).words
    assert "Noch nicht bestätigt" in (await look(browser, f"/clients/{ONLINE}")).words


async def test_a_command_whose_claimed_effect_did_not_show_is_a_problem_on_the_overview(site: Site) -> None:
    spine = site.spine
    booted = {"app_started_at": zulu(spine.clock.now() - timedelta(hours=1))}
    await spine.beat(ONLINE, **booted)
    command = await spine.request(ONLINE, Action.RESTART_APP)
    await spine.outbox.step()
    await spine.ack(command, "completed")
    spine.clock.advance(60)
    await spine.beat(ONLINE, **booted)
    spine.clock.advance(61)
    await spine.watch.look()
    page = await look(await site.browser(Role.VIEWER), "/")
    assert "Befehle ohne Wirkung" in page.words
    assert "App-Neustart: die Startzeit ist noch" in page.words


# The table.


async def test_the_table_is_searched_filtered_and_sorted_by_its_address(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.VIEWER)

    async def rows(query: str) -> list[str]:
        page = await look(browser, f"/clients?{query}")
        assert page.status == 200
        return re.findall(r'id="client-([0-9a-f-]{36})"', page.text)

    by_name = sorted(NAMES, key=lambda uuid: NAMES[uuid])
    assert await rows("") == by_name
    assert await rows("sort=-name") == by_name[::-1]
    assert await rows("q=gale") == [CRASHED]
    assert set(await rows("status=silent")) == {HUNG, GONE}
    assert set(await rows("status=problems")) == {HUNG, GONE, CRASHED, FAILED}
    assert await rows("site=Rathaus&tag=au%C3%9Fen&status=online") == [ONLINE]
    assert await rows("site=Nirgends") == []
    sorted_page = await look(browser, "/clients?sort=-last_alive&q=a")
    assert 'aria-sort="descending"' in sorted_page.text
    assert 'name="sort" value="-last_alive"' in sorted_page.text


async def test_long_tables_are_paged_and_keep_their_filters(site: Site) -> None:
    at = zulu(site.spine.clock.now())
    many = [uuid_of(number) for number in range(1, 231)]
    await site.spine.hear(*((f"{uuid}/heartbeat", {"timestamp": at, "hostname": "screen"}) for uuid in many))
    browser = await site.browser(Role.VIEWER)
    path, seen, pages = "/clients?q=screen", [], []
    while path:
        page = await look(browser, path)
        seen += re.findall(r'id="client-([0-9a-f-]{36})"', page.text)
        pages += re.findall(r"(\d+ bis \d+) angezeigt", page.words)
        found = re.search(r'href="([^"]+)" rel="next"', page.text)
        path = found[1].replace("&amp;", "&") if found else ""
        assert "q=screen" in path or not path
    assert sorted(seen) == many
    assert pages == ["1 bis 100", "101 bis 200", "201 bis 230"]


# Acknowledging.


async def test_a_failed_service_is_acknowledged_for_good_with_a_comment(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    page = await look(browser, "/")
    failed_at = re.search(r'name="failed_at" value="([^"]+)"', page.text)
    assert failed_at is not None
    path = f"/clients/{FAILED}/clear_service_failed"
    done = await send(browser, path, failed_at=failed_at[1], comment="Techniker kommt", next="/")
    assert f"{UNIT} auf Halle wurde quittiert." in done.words
    assert "panel-failed" not in done.text
    assert (await site.spine.client(FAILED)).service_failed_at is None
    again = await send(browser, path, failed_at=failed_at[1], comment="", next="/")
    assert "war bereits quittiert" in again.words
    history = await look(browser, f"/clients/{FAILED}")
    assert f"operator hat {UNIT} quittiert: Techniker kommt" in history.words


async def test_a_failure_that_nobody_has_read_yet_is_not_acknowledged_with_the_one_before(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    before = (await site.spine.client(FAILED)).service_failed_at
    assert before is not None
    site.spine.clock.advance(5)
    await fail_service(site.spine, FAILED, "other.service")
    path = f"/clients/{FAILED}/clear_service_failed"
    page = await send(browser, path, failed_at=zulu(before), comment="", next="/")
    assert "Nicht quittiert" in page.words
    assert (await site.spine.client(FAILED)).service_failed_unit == "other.service"


async def test_a_failed_service_shows_its_panel_also_in_maintenance(site: Site) -> None:
    await site.spine.beat(ONLINE)
    await fail_service(site.spine, ONLINE)
    until = site.spine.clock.now() + timedelta(hours=1)
    await site.spine.fleet.edit(ONLINE, {"maintenance_until": until}, ADMIN)
    page = await look(await site.browser(Role.OPERATOR), "/")
    assert "panel-failed" in page.text
    assert "Nichts zu tun" not in page.words


# Commands.


async def test_a_command_is_asked_about_requested_and_followed(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    question = await look(browser, f"/clients/{CRASHED}/commands/restart_app?next=/")
    assert "App auf Galerie neu starten?" in question.words
    done = await send(
        browser, f"/clients/{CRASHED}/commands", action="restart_app", reason="schwarzer Schirm", next="/"
    )
    assert done.path == "/"
    assert "App-Neustart angefordert: Galerie." in done.words
    assert "App-Neustart: Angefordert" in done.words
    command_page = re.search(r'href="(/commands/[0-9a-f-]{36})">Befehl ansehen', done.text)
    assert command_page is not None
    followed = await look(browser, command_page[1])
    assert "Von operator: schwarzer Schirm" in followed.words
    assert "aria-current" in followed.text


async def test_a_double_click_sends_one_command_and_the_second_is_told_which_is_under_way(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    path, fields = f"/clients/{ONLINE}/commands", {"action": "reboot_host", "reason": ""}
    answers = await asyncio.gather(*(send(browser, path, follow=False, **fields) for _ in range(5)))
    assert {answer.status for answer in answers} == {303}
    page = await send(browser, path, **fields)
    assert "Es wurde nichts gesendet: Für Foyer läuft noch ein Befehl (Neustart, Angefordert)." in page.words
    async with site.spine.store.read() as connection:
        stored = await commands.search(connection, CommandQuery(client_uuid=ONLINE), 10)
    assert len(stored.items) == 1
    assert page.text.count('aria-describedby="why-not"') == 3


async def test_a_queued_command_can_be_withdrawn_and_one_that_was_sent_cannot(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    first = await site.spine.request(ONLINE)
    assert "Befehl zurückziehen" in (await look(browser, f"/clients/{ONLINE}")).words
    page = await send(browser, f"/commands/{first.command_id}/cancel", next=f"/clients/{ONLINE}")
    assert "vor dem Senden zurückgezogen" in page.words
    second = await site.spine.request(ONLINE)
    await site.spine.outbox.step()
    page = await send(browser, f"/commands/{second.command_id}/cancel")
    assert "nicht mehr zurückgezogen werden; er ist: Gesendet" in page.words
    assert (await site.spine.command(second)).status is CommandStatus.PUBLISHED


async def lock(site: Site, uuid: str) -> None:
    for _ in range(3):
        command = await site.spine.request(uuid, Action.RESTART_APP)
        await site.spine.outbox.step()
        await site.spine.ack(command, "completed")


async def test_the_lockout_is_shown_before_the_click(site: Site) -> None:
    await settle_fleet(site.spine)
    await lock(site, ONLINE)
    browser = await site.browser(Role.OPERATOR)
    page = await look(browser, f"/clients/{ONLINE}")
    assert "Gesperrt bis" in page.words
    assert page.text.count("disabled aria-describedby") == 3
    forced = await send(browser, f"/clients/{ONLINE}/commands", action="restart_app", reason="")
    assert "nach zu vielen Eingriffen in kurzer Zeit gesperrt" in forced.words


async def test_an_admin_may_override_the_lockout_with_a_reason_only(site: Site) -> None:
    await settle_fleet(site.spine)
    await lock(site, ONLINE)
    browser = await site.browser(Role.ADMIN)
    question = await look(browser, f"/clients/{ONLINE}/commands/restart_app")
    assert 'name="force" value="yes"' in question.text
    assert "Die Sperre schützt das Gerät bis" in question.words
    path = f"/clients/{ONLINE}/commands"
    assert (await send(browser, path, action="restart_app", force="yes", reason=" ")).status == 422
    done = await send(browser, path, action="restart_app", force="yes", reason="Bildschirm ist dunkel")
    assert "App-Neustart angefordert: Foyer." in done.words


async def test_switching_off_asks_for_the_name_to_be_typed(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    path = f"/clients/{ONLINE}/commands"
    wrong = await send(browser, path, action="shutdown_host", typed="Galerie")
    assert "Das war nicht der Name von Foyer." in wrong.words
    right = await send(browser, path, action="shutdown_host", typed=" foyer ")
    assert "Herunterfahren angefordert: Foyer." in right.words


async def test_all_crashed_apps_are_restarted_with_one_button_that_names_them(site: Site) -> None:
    await settle_fleet(site.spine)
    await crash(site.spine, ONLINE)
    browser = await site.browser(Role.OPERATOR)
    assert "App auf allen 2 gestörten Geräten neu starten" in (await look(browser, "/")).words
    question = await look(browser, "/crashed/restart")
    assert "App auf 2 Geräten neu starten?" in question.words
    assert "Foyer (Rathaus)" in question.words
    listed = re.search(r'name="client_uuids" value="([^"]+)"', question.text)
    assert listed is not None
    assert set(listed[1].split(",")) == {ONLINE, CRASHED}
    await site.spine.request(CRASHED, Action.REBOOT_HOST)
    done = await send(browser, "/crashed/restart", client_uuids=listed[1])
    assert "App-Neustarts: 1 angefordert, 1 nicht möglich." in done.words
    for nobody in ("", ",", "x" * 100):
        # PostgreSQL refuses to store what is longer than a UUID.
        assert (
            "Kein Gerät ist ausgewählt"
            in (await send(browser, "/crashed/restart", client_uuids=nobody)).words
        )


async def test_restarting_more_than_ten_asks_for_their_number(site: Site) -> None:
    uuids = [uuid_of(number) for number in range(1, 13)]
    for uuid in uuids:
        await crash(site.spine, uuid)
    browser = await site.browser(Role.OPERATOR)
    assert "Zum Fortfahren eingeben: 12" in (await look(browser, "/crashed/restart")).words
    fields = {"client_uuids": ",".join(uuids)}
    assert "nicht die Anzahl" in (await send(browser, "/crashed/restart", typed="11", **fields)).words
    assert "12 angefordert" in (await send(browser, "/crashed/restart", typed="12", **fields)).words


async def test_a_viewer_sees_why_nothing_can_be_done(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.VIEWER)
    client = await look(browser, f"/clients/{ONLINE}")
    assert "Nur Bediener können Befehle senden" in client.words
    assert "data-confirm" not in client.text
    overview = await look(browser, "/")
    assert "Nur Bediener können quittieren" in overview.words
    refused = await send(browser, f"/clients/{ONLINE}/commands", action="restart_app")
    assert (refused.status, "Nicht erlaubt" in refused.words) == (403, True)


# One client.


async def test_a_client_shows_its_reconnects_health_and_history(site: Site) -> None:
    spine = site.spine
    await settle_fleet(spine)
    await spine.hear(
        (
            f"{ONLINE}/health",
            {
                "timestamp": zulu(spine.clock.now()),
                "health_metrics": {"cpu_percent": 12.4, "temperature_celsius": 81, "screen_on": True},
                "broker_connection": {"reconnect_count": 1234, "last_disconnect_at": "2026-03-01T10:20:30Z"},
            },
        )
    )
    page = await look(await site.browser(Role.VIEWER), f"/clients/{ONLINE}")
    assert "Verbindungsabbrüche 1.234" in page.words
    assert "Letzter Abbruch 1. März, 10:20:30" in page.words
    assert "12 %" in page.words
    assert "gauge-bad" in page.text
    assert "Nie gesehen → Online" in page.words
    commands_only = await look(await site.browser(Role.VIEWER), f"/clients/{ONLINE}?show=commands")
    assert "Nie gesehen → Online" not in commands_only.words


async def test_values_of_a_silent_device_do_not_look_new(site: Site) -> None:
    health = {"timestamp": zulu(site.spine.clock.now()), "health_metrics": {"cpu_percent": 12}}
    await site.spine.hear((f"{HUNG}/health", health))
    await settle_fleet(site.spine)
    browser = await site.browser(Role.VIEWER)
    silent, well = [(await look(browser, f"/clients/{uuid}")).words for uuid in (HUNG, ONLINE)]
    assert "Anwendung player, läuft (Stand 07:0" in re.sub(r"\s+\(\s*", " (", silent)
    assert "Zuletzt bekannte Werte; Neueres ist nicht eingetroffen." in silent
    assert "Anwendung player, läuft Anwendung gestartet" in well


async def test_a_client_is_described_sent_to_maintenance_and_removed(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.ADMIN)
    path = f"/clients/{ONLINE}/edit"
    saved = await send(
        browser,
        path,
        name="Foyer links",
        site=" Rathaus ",
        tags="innen, Foyer,innen,",
        description="",
        maintenance_until="2026-03-02T20:15",
    )
    assert "Foyer links wurde gespeichert." in saved.words
    client = await site.spine.client(ONLINE)
    assert (client.tags, client.site, client.status) == (["innen", "Foyer"], "Rathaus", Condition.MAINTENANCE)
    assert client.maintenance_until is not None
    assert zulu(client.maintenance_until) == "2026-03-02T20:15:00Z"
    refused = await send(browser, path, name="x", maintenance_until="2020-01-01T00:00")
    assert (refused.status, "Nicht gespeichert" in refused.words) == (422, True)
    assert "nicht der Name" in (await send(browser, f"/clients/{ONLINE}/remove", typed="x")).words
    assert "entfernt" in (await send(browser, f"/clients/{ONLINE}/remove", typed="Foyer links")).words
    assert (await look(browser, f"/clients/{ONLINE}")).status == 404


async def test_a_client_in_each_condition_has_a_page(site: Site) -> None:
    await settle_fleet(site.spine)
    await site.spine.hear((f"{uuid_of(50)}/presence", "online"))
    await site.spine.hear((f"{uuid_of(51)}/presence", "online"))
    await site.spine.hear((f"{uuid_of(51)}/heartbeat", '{"timestamp": "today"}'))
    now = site.spine.clock.now()
    stuck = {"last_frame_update": zulu(now - timedelta(hours=1))}
    await site.spine.beat(uuid_of(52))
    await site.spine.hear((f"{uuid_of(52)}/health", {"timestamp": zulu(now), "health_metrics": stuck}))
    browser = await site.browser(Role.OPERATOR)
    shown = set()
    for uuid in (ONLINE, CRASHED, HUNG, FAILED, RESTING, OFF, GONE, uuid_of(50), uuid_of(51), uuid_of(52)):
        assert (await look(browser, f"/clients/{uuid}")).status == 200
        shown.add((await site.spine.client(uuid)).status)
    await site.spine.fleet.edit(GONE, {"own_hours": "off"}, ADMIN)
    assert (await look(browser, f"/clients/{GONE}")).status == 200
    shown.add((await site.spine.client(GONE)).status)
    assert shown == set(Condition) - {Condition.DUPLICATE}


# The account.


async def change_password(browser: ClientSession, current: str, new: str, again: str) -> tuple[int, str]:
    page = await send(browser, "/account/password", current=current, new=new, again=again)
    return page.status, page.words


async def test_changing_the_password_needs_the_old_one_and_signs_the_others_out(site: Site) -> None:
    user = await site.user(Role.VIEWER)
    here, elsewhere = await site.browser(Role.VIEWER), await site.browser(Role.VIEWER)
    new = "a much better one"
    assert "stimmen nicht überein" in (await change_password(here, PASSWORD, new, "something else"))[1]
    assert "10 bis 1000 Zeichen" in (await change_password(here, PASSWORD, "short", "short"))[1]
    assert "Das aktuelle Passwort ist falsch." in (await change_password(here, WRONG, new, new))[1]
    assert "Das Passwort wurde geändert." in (await change_password(here, PASSWORD, new, new))[1]
    assert (await look(here, "/account", follow=False)).status == 200
    assert (await look(elsewhere, "/account", follow=False)).status == 303
    fresh = await site.visitor(SAME_ORIGIN)
    assert (await send(fresh, "/login", username=user.username, password=new)).path == "/"


async def test_signed_in_devices_are_listed_and_signed_out_one_by_one(site: Site) -> None:
    here = await site.browser(Role.VIEWER)
    user = await site.user(Role.VIEWER)
    phone = await site.visitor({**SAME_ORIGIN, "User-Agent": "Mozilla/5.0 (Android 15) Firefox/140.0"})
    await send(phone, "/login", username=user.username, password=PASSWORD)
    page = await look(here, "/account")
    assert "Firefox auf Android" in page.words
    assert page.text.count("dieses hier") == 1
    end = re.search(r'action="(/account/sessions/[^"]+/end)"', page.text)
    assert end is not None
    assert "Der Browser wurde abgemeldet." in (await send(here, end[1])).words
    assert (await look(phone, "/", follow=False)).status == 303


# Messages.


@pytest.mark.parametrize("forged", ["nonsense", "WyJyZXF1ZXN0ZWQiLCB7fV0=", "W1tdLCBbXV0=", "bnVsbA==", "é"])
async def test_a_forged_message_is_passed_over(site: Site, forged: str) -> None:
    browser = await site.browser(Role.VIEWER)
    async with browser.get(
        "/clients", headers={"Cookie": f"{FLASH}={forged}"}, allow_redirects=False
    ) as seen:
        assert seen.status in (200, 303)
    browser.cookie_jar.update_cookies({FLASH: forged}, site.url)
    page = await look(browser, "/clients")
    assert (page.status, 'class="flash ' in page.text) == (200, False)


async def test_a_message_is_shown_once(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    await send(browser, f"/clients/{ONLINE}/commands", action="restart_app", follow=False)
    assert "angefordert" in (await look(browser, "/clients")).words
    assert "angefordert: Foyer" not in (await look(browser, "/clients")).words
