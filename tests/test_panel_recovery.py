"""The recovery in the panel, read without a browser: what it says, and its plain forms."""

from dataclasses import replace

import pytest

from infoscreen.domain.accounts import Role
from infoscreen.domain.commands import Action, CommandStatus, Source
from infoscreen.services.orders import Because
from infoscreen.storage import commands
from infoscreen.storage.commands import CommandQuery
from infoscreen.storage.recovery import incidents, pauses
from infoscreen.storage.recovery.pauses import StoredPause
from tests.panel import CRASHED, FAILED, HUNG, ONLINE, RESTING, look, send, settle_fleet
from tests.spine import OPERATOR, uuid_of, zulu
from tests.web import Site


async def in_force(site: Site) -> list[StoredPause]:
    async with site.spine.store.read() as connection:
        return await pauses.in_force(connection, site.spine.clock.now())


async def crash_on(site: Site, minutes: int) -> None:
    """Let one client stay crashed while all that are not silent beat, with a poll every minute."""
    for _ in range(minutes):
        site.spine.clock.advance(60)
        at = zulu(site.spine.clock.now())
        told = dict.fromkeys((ONLINE, FAILED, RESTING), "running") | {CRASHED: "crashed"}
        await site.spine.hear(
            *(
                (f"{uuid}/heartbeat", {"timestamp": at, "process_status": status})
                for uuid, status in told.items()
            )
        )
        await site.spine.watch.sweep()
        await site.spine.recovering.poll()
        await site.spine.outbox.step()
        async with site.spine.store.read() as connection:
            known = (await commands.search(connection, CommandQuery(source=Source.RECOVERY), 100)).items
        for command in known:
            if command.status is CommandStatus.PUBLISHED:
                await site.spine.ack(command, "completed")


def switch_on(site: Site) -> None:
    """Let the recovery act from now on."""
    site.spine.recovering.policy = replace(site.spine.recovering.policy, enabled=True)


@pytest.mark.parametrize(
    ("language", "words"),
    [("de", ("Automatische Wiederherstellung", "Probelauf")), ("en", ("Automatic recovery", "Dry run"))],
)
async def test_the_overview_tells_the_mode_and_what_is_done_about_each_client(
    site: Site, language: str, words: tuple[str, ...]
) -> None:
    await settle_fleet(site.spine)
    await site.spine.recovering.poll()
    page = await look(await site.browser(Role.OPERATOR), "/", language)
    assert all(word in page.words for word in words)
    row = page.text[page.text.index(f'id="unwell-{CRASHED}"') :]
    assert words[1] in row[: row.index("</li>")]


async def test_the_page_of_a_client_tells_the_ladder_the_reason_and_the_next_step(site: Site) -> None:
    await settle_fleet(site.spine)
    switch_on(site)
    await crash_on(site, 2)
    page = await look(await site.browser(Role.OPERATOR), f"/clients/{CRASHED}")
    assert "Warum?" in page.words
    assert "App-Neustart 1 von 2" in page.words
    assert 'aria-current="step"' in page.text
    assert 'data-as="left"' in page.text
    history = await look(await site.browser(Role.VIEWER), f"/clients/{CRASHED}?show=recovery")
    assert "Versuch: App-Neustart" in history.words


async def test_ladder_and_sentence_agree_about_a_failed_service(site: Site) -> None:
    """systemd has restarted the application already, so it is restarted once only."""
    await settle_fleet(site.spine)
    switch_on(site)
    for _ in range(4):
        site.spine.clock.advance(20)
        await site.spine.beat(FAILED, process_status="stopped", boot_id="one")
        await site.spine.watch.look()
        await site.spine.recovering.poll()
    page = await look(await site.browser(Role.OPERATOR), f"/clients/{FAILED}")
    assert "Versuch 1 von 1" in page.words
    assert "App-Neustart 1 von 1" in page.words


async def test_a_client_is_paused_and_resumed_with_plain_forms(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    path = f"/clients/{CRASHED}/recovery"
    assert "Wie lange" in (await look(browser, f"{path}/pause")).words
    done = await send(browser, f"{path}/pause", reason="Umbau", lasts="4h")
    assert "angehalten" in done.words
    [pause] = await in_force(site)
    assert (pause.client_uuid, pause.reason, pause.by) == (CRASHED, "Umbau", "operator")
    assert (pause.until - site.spine.clock.now()).total_seconds() == 4 * 3600
    await send(browser, f"{path}/resume")
    assert await in_force(site) == []


@pytest.mark.parametrize("query", ["", "?site=Rathaus"])
async def test_the_fleet_or_a_site_is_paused_and_resumed(site: Site, query: str) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    await send(browser, f"/recovery/pause{query}", reason="Messe", lasts="1d")
    [pause] = await in_force(site)
    assert pause.site == ("Rathaus" if query else None)
    assert "Messe" in (await look(browser, "/")).words
    await send(browser, f"/recovery/resume{query}")
    assert await in_force(site) == []


@pytest.mark.parametrize(
    "fields", [{"lasts": "4h"}, {"reason": " ", "lasts": "4h"}, {"reason": "x", "lasts": "9y"}]
)
async def test_a_pause_without_reason_or_end_changes_nothing(site: Site, fields: dict[str, str]) -> None:
    await settle_fleet(site.spine)
    page = await send(await site.browser(Role.OPERATOR), f"/clients/{HUNG}/recovery/pause", **fields)
    assert "Nicht angehalten" in page.words
    assert await in_force(site) == []


async def test_viewers_see_it_all_and_can_do_nothing_about_it(site: Site) -> None:
    await settle_fleet(site.spine)
    viewer = await site.browser(Role.VIEWER)
    page = await look(viewer, f"/clients/{CRASHED}")
    assert "Warum?" in page.words
    assert "recovery/pause" not in page.text
    sent = await send(viewer, f"/clients/{CRASHED}/recovery/pause", reason="x", lasts="1h", follow=False)
    assert sent.status == 403


async def test_whoever_takes_care_of_a_client_says_so(site: Site) -> None:
    await settle_fleet(site.spine)
    switch_on(site)
    await crash_on(site, 45)
    browser = await site.browser(Role.OPERATOR)
    page = await look(browser, f"/clients/{CRASHED}")
    need = "Vor-Ort-Einsatz nötig: Nur Aus- und Einschalten am Strom hilft, und es ist keine Steckdose"
    assert need in page.words
    done = await send(browser, f"/clients/{CRASHED}/recovery/acknowledge", comment="Netzteil")
    assert "kümmert sich jemand" in done.words
    assert "operator kümmert sich darum: Netzteil" in done.words
    assert "Die automatische Wiederherstellung ist so lange angehalten." in done.words
    tried = await send(browser, f"/clients/{CRASHED}/recovery/try_again")
    assert "beginnt bei Galerie wieder auf der ersten Stufe" in tried.words
    again = await send(browser, f"/clients/{CRASHED}/recovery/try_again")
    assert "braucht keinen Vor-Ort-Einsatz mehr" in again.words


async def outage_begins(site: Site) -> int:
    """Let five clients fall silent together; return the number of the incident."""
    told = [uuid_of(number) for number in range(20, 30)]
    for minute in range(25):
        site.spine.clock.advance(60)
        for uuid in told[5:] if minute > 10 else told:
            await site.spine.beat(uuid)
        await site.spine.watch.look()
        await site.spine.recovering.poll()
    async with site.spine.store.read() as connection:
        [incident] = await incidents.under_way(connection)
    return incident.id


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", ("Ich kümmere mich", "Auflösen")),
        ("en", ("I take care of it", "Dismiss")),
    ],
)
async def test_an_incident_is_taken_care_of_and_dismissed_with_plain_forms(
    site: Site, language: str, words: tuple[str, ...]
) -> None:
    number = await outage_begins(site)
    path = f"/incidents/{number}"
    browser = await site.browser(Role.OPERATOR)
    page = await look(browser, "/", language)
    assert all(word in page.words for word in words)
    for act in ("acknowledge", "dismiss"):
        assert f'method="post" action="{path}/{act}"' in page.text
    sent = await send(browser, f"{path}/acknowledge", comment="Switch im Keller", follow=False)
    assert (sent.status, sent.location) == (303, "/")
    page = await look(browser, "/")
    assert "Um den Vorfall kümmert sich jemand" in page.words
    assert "operator kümmert sich darum." in page.words
    assert "Switch im Keller" in page.words
    assert f"{path}/acknowledge" not in page.text
    done = await send(browser, f"{path}/dismiss")
    assert "Der Vorfall wurde aufgelöst" in done.words
    assert f"{path}/dismiss" not in done.text
    again = await send(browser, f"{path}/dismiss")
    assert "Nichts geändert: Der Vorfall ist schon vorbei." in again.words
    async with site.spine.store.read() as connection:
        known = await incidents.get(connection, number)
    assert known is not None
    assert (known.closing, known.acknowledged_by) == ("dismissed", "operator")


async def test_viewers_see_an_incident_and_cannot_act_on_it(site: Site) -> None:
    number = await outage_begins(site)
    viewer = await site.browser(Role.VIEWER)
    page = await look(viewer, "/")
    assert f'id="outage-title-{number}"' in page.text
    assert "/incidents/" not in page.text
    for act in ("acknowledge", "dismiss"):
        assert (await send(viewer, f"/incidents/{number}/{act}", follow=False)).status == 403
        operator = await site.browser(Role.OPERATOR)
        assert (await send(operator, f"/incidents/4711/{act}", follow=False)).status == 404


async def test_the_switch_of_a_client_is_among_what_can_be_edited(site: Site) -> None:
    await settle_fleet(site.spine)
    browser = await site.browser(Role.OPERATOR)
    assert 'name="auto_recovery"' in (await look(browser, f"/clients/{CRASHED}/edit")).text
    page = await send(browser, f"/clients/{CRASHED}/edit", name="Galerie", auto_recovery="off")
    assert "Für dieses Gerät ausgeschaltet" in page.words


async def test_the_recoverys_own_reason_is_said_in_the_readers_language(site: Site) -> None:
    await site.spine.beat(ONLINE)
    because = Because("act_restart_app", {"attempt": 1, "attempts": 2})
    command = await site.spine.commanding.request(
        ONLINE, Action.RESTART_APP, source=Source.RECOVERY, actor=OPERATOR, because=because
    )
    said = "Die Anwendung neu starten, Versuch 1 von 2."
    viewer = await site.browser(Role.VIEWER)
    for path in (f"/clients/{ONLINE}", f"/commands/{command.command_id}"):
        assert said in (await look(viewer, path)).words
