"""The panel's pages of notifications: plain forms, no secret on any of them."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infoscreen.domain.accounts import Role
from infoscreen.domain.notifying import DeliveryFault, NoticeStep
from infoscreen.domain.recovery import IncidentKind
from infoscreen.notify.process import ProcessSender
from infoscreen.services.ports import Delivered
from infoscreen.services.secrets import Secrets
from infoscreen.words.notices import KIND_NAMES, STEP_NAMES
from tests.notices import make_channel, make_incident, make_message
from tests.panel import look, send
from tests.receivers import FakeSender
from tests.spine import ADMIN, MORNING
from tests.web import SECRETS, Site, notifying_of, serving

SECRET = "s3cr3t-t0ken"  # noqa: S105 - of a test
CHANNELS, RULES = "/notifications/channels", "/notifications/rules"


def with_sender(site: Site, sender: FakeSender, secrets: Secrets = SECRETS) -> None:
    object.__setattr__(site.parts, "notifying", notifying_of(site.spine, sender, secrets))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site whose messages take no time."""
    async with serving(tmp_path) as site:
        with_sender(site, FakeSender())
        yield site


async def test_a_channel_is_added_tried_changed_and_removed(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    url = f"mailtos://user:{SECRET}@host"
    seen = [await send(browser, f"{CHANNELS}/new", name="Mail", kind="apprise", url=url, enabled="yes")]
    assert (seen[-1].path, "Der Kanal Mail wurde gespeichert." in seen[-1].words) == ("/notifications", True)
    assert "mailtos://..." in seen[-1].words
    seen.append(await send(browser, f"{CHANNELS}/1/test"))
    assert "Der Empfänger hat die Nachricht angenommen." in seen[-1].words
    seen.append(await look(browser, f"{CHANNELS}/1"))
    seen.append(await send(browser, f"{CHANNELS}/1", name="Post", language="en"))
    assert "abgeschaltet" in seen[-1].words
    known = await site.parts.notifying.channel(1)
    assert (known.name, known.language, known.enabled) == ("Post", "en", False)
    assert SECRETS.unseal(known.sealed_url, "notification channel 1 url") == url
    await send(browser, f"{CHANNELS}/1", name="Post", url=f"json://host/{SECRET}2", enabled="yes")
    known = await site.parts.notifying.channel(1)
    assert (known.enabled, known.target) == (True, "json://...")
    seen.append(await look(browser, f"{CHANNELS}/1/remove"))
    seen.append(await send(browser, f"{CHANNELS}/1/remove"))
    assert "Der Kanal Post wurde mit seinen Nachrichten entfernt." in seen[-1].words
    assert (await look(browser, f"{CHANNELS}/1")).status == 404
    assert all(SECRET not in page.text for page in seen)


async def test_the_secret_of_a_webhook_is_shown_once(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    fields = {"kind": "webhook", "url": f"https://hooks.example/{SECRET}", "enabled": "yes"}
    made = await send(browser, f"{CHANNELS}/new", name="Hook", **fields)
    found = re.search(r"<pre[^>]*>([\w-]{30,})</pre>", made.text)
    assert found is not None
    again = await send(browser, f"{CHANNELS}/new", name="Own", secret=SECRET, **fields)
    assert again.path == "/notifications"
    for path in ("/notifications", f"{CHANNELS}/1", f"{CHANNELS}/2"):
        page = await look(browser, path)
        assert found[1] not in page.text
        assert SECRET not in page.text


async def test_what_is_wrong_with_a_channel_is_told_in_the_form_without_the_address(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    sender = FakeSender()
    sender.understood = False
    with_sender(site, sender)
    page = await send(browser, f"{CHANNELS}/new", name="Mail", kind="apprise", url=f"no://{SECRET}")
    assert (page.status, "Adresse:" in page.words, 'value="Mail"' in page.text) == (422, True, True)
    hook = await send(browser, f"{CHANNELS}/new", name="Hook", kind="webhook", url=f"ftp://{SECRET}")
    assert hook.status == 422
    for fields in (
        {"name": ""},
        {"name": "x" * 101},
        {"name": "x", "kind": "x"},
        {"name": "x", "url": "y" * 2_001},
    ):
        assert (await send(browser, f"{CHANNELS}/new", **fields)).status == 422
    sender.understood = True
    await send(browser, f"{CHANNELS}/new", name="Mail", kind="apprise", url="json://host")
    twice = await send(browser, f"{CHANNELS}/new", name="Mail", kind="apprise", url=f"json://{SECRET}")
    assert twice.status == 409
    assert SECRET not in page.text + hook.text + twice.text


async def test_the_real_answer_of_a_receiver_is_shown(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    failed = Delivered(ok=False, fault=DeliveryFault.FAILED, status=503, detail="<b>come back later</b>")
    with_sender(site, FakeSender([failed, Delivered(ok=False, fault=DeliveryFault.TIMED_OUT)]))
    await make_channel(site)
    page = await send(browser, f"{CHANNELS}/1/test")
    assert "Die Nachricht kam nicht an: nicht angenommen." in page.words
    assert "503" in page.words
    assert "<b>come back later</b>" in page.words
    assert "<b>" not in page.text
    assert "keine Antwort innerhalb von 30 s" in (await send(browser, f"{CHANNELS}/1/test")).words


async def test_a_lost_or_missing_key_is_told_and_the_pages_still_work(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    await make_channel(site)
    with_sender(site, FakeSender(), Secrets([bytes(range(50, 90))]))
    assert "nicht lesbar" in (await look(browser, "/notifications")).words
    assert "Geben Sie die Adresse neu ein." in (await look(browser, f"{CHANNELS}/1")).words
    tested = await send(browser, f"{CHANNELS}/1/test")
    assert (tested.status, "flash-bad" in tested.text) == (200, True)
    with_sender(site, FakeSender(), Secrets())
    assert "SECRETS_KEY ist nicht gesetzt" in (await look(browser, "/notifications")).words
    refused = await send(browser, f"{CHANNELS}/new", name="x", kind="webhook", url="https://hooks.example/")
    assert refused.status == 409


async def test_a_rule_is_added_changed_and_removed(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    for name in ("one", "two"):
        await make_channel(site, name)
    fields = {
        "name": "Nachts",
        "enabled": "yes",
        "kinds": ["client", "backup"],
        "sites": " Messe \r\n\r\nRathaus\r\nMesse",
        "tags": "vip",
        "channels": ["1"],
        "delay": "1.5",
        "hours": "Mo-Fr 08:00-18:00",
        "time_zone": "Europe/Berlin",
        "reminder": "2",
        "resolved": "yes",
        "escalate_to": ["2"],
        "escalate_after": "30",
    }
    async with browser.post(f"{RULES}/new", data=fields) as answer:
        assert "Die Regel Nachts wurde gespeichert." in await answer.text()
    rule = next(one for one in (await site.parts.notifying.rules(10)).items if one.name == "Nachts")
    assert {name: value for name, value in rule.settings.items() if value} == {
        "kinds": ["client", "backup"],
        "sites": ["Messe", "Rathaus"],
        "tags": ["vip"],
        "channels": [1],
        "delay_seconds": 90.0,
        "hours": "Mo-Fr 08:00-18:00",
        "time_zone": "Europe/Berlin",
        "reminder_seconds": 7_200.0,
        "resolved": True,
        "escalate_to": [2],
        "escalate_after_seconds": 1_800.0,
    }
    form = await look(browser, f"{RULES}/{rule.id}")
    for shown in ('value="1.5"', 'value="2.0"', 'value="30.0"', "Messe\nRathaus", 'value="Europe/Berlin"'):
        assert shown in form.text, shown
    assert len(re.findall(r'name="kinds"[^>]* checked', form.text)) == 2
    page = await send(browser, f"{RULES}/{rule.id}", name="Nachts", resolved="")
    assert page.path == "/notifications"
    await site.parts.notifying.add_rule("default", {}, ADMIN)  # as the migration does
    assert "Alle Vorfälle → alle Kanäle" in (await look(browser, "/notifications")).words
    assert (await look(browser, f"{RULES}/{rule.id + 1}")).status == 200
    changed = await site.parts.notifying.rule(rule.id)
    assert (changed.enabled, changed.rule.delay, changed.rule.resolved) == (False, None, False)
    assert not any(changed.settings.values())
    await send(browser, f"{RULES}/{rule.id}/remove")
    assert (await look(browser, f"{RULES}/{rule.id}")).status == 404


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hours": "soon"}, "Nur zu diesen Zeiten"),
        ({"time_zone": "Mars/Base"}, "Zeitzone"),
        ({"channels": "99"}, "Kanäle"),
        ({"escalate_to": "99", "escalate_after": "3"}, "Eskalation"),
        ({"escalate_after": "30"}, "Nach so vielen Minuten"),
        ({"delay": "-1"}, "Wartezeit"),
        ({"delay": "nan"}, "Wartezeit"),
        ({"sites": "x" * 201}, "Standorte"),
        ({"tags": "\n".join(map(str, range(501)))}, "Schlagwörter"),
    ],
)
async def test_what_is_wrong_with_a_rule_is_told_in_the_form(
    site: Site, fields: dict[str, str], told: str
) -> None:
    browser = await site.browser(Role.ADMIN)
    page = await send(browser, f"{RULES}/new", name="Nachts", **fields)
    assert (page.status, f"{told}" in page.words) == (422, True)
    assert (await site.parts.notifying.rules(10)).items == []


async def test_messages_are_listed_with_what_became_of_them(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    await make_channel(site)
    other = await make_channel(site, "other")
    number = await make_incident(site.spine)
    await make_message(site.spine, number, sent_at=MORNING)
    await make_message(site.spine, number, next_at=MORNING, last_error="failed 500 no", attempts=3)
    await make_message(site.spine, number, given_up_at=MORNING, last_error="timed_out", attempts=60)
    await make_message(site.spine, None, other, step=NoticeStep.TEXT, facts={"text": "<b>Hallo</b>"})
    page = await look(browser, "/notifications")
    for words in ("gesendet", "wird wiederholt", "nicht angenommen (500 no)", "aufgegeben"):
        assert words in page.words, words
    assert "<b>Hallo</b>" in page.words
    assert "<b>" not in page.text
    assert "60 Versuche" in page.words
    chosen = await look(browser, f"/notifications?channel={other}")
    assert ("Hallo" in chosen.words, "aufgegeben" in chosen.words) == (True, False)
    for _ in range(60):
        await make_message(site.spine, number)
    first = await look(browser, "/notifications")
    found = re.search(r'href="(/notifications\?cursor=[^"]+)" rel="next"', first.text)
    assert found is not None
    assert "Hallo" in (await look(browser, found[1].replace("&amp;", "&").partition("#")[0])).words


@pytest.mark.parametrize("language", ["de", "en"])
async def test_every_message_has_a_preview(site: Site, language: str) -> None:
    object.__setattr__(
        site.parts,
        "notifying",
        notifying_of(site.spine, ProcessSender(site.spine.clock, "https://x.example", allow_private=True)),  # type: ignore[arg-type]
    )
    browser = await site.browser(Role.ADMIN)
    for kind in IncidentKind:
        page = await look(browser, f"/notifications/preview?kind={kind}&step=opened&language={language}")
        assert page.status == 200
        assert "https://x.example/link?t=" in page.text
    for step in NoticeStep:
        page = await look(browser, f"/notifications/preview?step={step}&language={language}")
        assert (page.status, "%(" in page.words) == (200, False)
    assert (await look(browser, "/notifications/preview?kind=none")).status == 422


def test_every_kind_and_step_has_a_name() -> None:
    assert set(KIND_NAMES) == set(IncidentKind)
    assert set(STEP_NAMES) == set(NoticeStep)


async def test_only_numbers_that_a_channel_can_have_filter_the_messages(site: Site) -> None:
    admin = await site.browser(Role.ADMIN)
    for channel, is_left_out in (("", False), ("7", False), ("0", True), ("9999999999", True), ("x", True)):
        shown = await look(admin, f"/notifications?channel={channel}")
        assert (shown.status, "Dieser Link ist veraltet" in shown.text) == (200, is_left_out), channel
