"""The page of availability and the bars of a client, with days that were summed up."""

from datetime import datetime

from infoscreen.domain.accounts import Role
from tests.panel import look
from tests.spine import uuid_of
from tests.test_availability import BERLIN, at_site, availability_of, key, pass_time
from tests.web import Site

U, V = uuid_of(1), uuid_of(2)


async def fill(site: Site) -> None:
    """Let two clients live for one and a half days, one of them crashed."""
    spine = site.spine
    spine.link.listening_since = spine.clock.now()
    for uuid, status in ((U, "running"), (V, "crashed")):
        await spine.beat(uuid, process_status=status)
        await at_site(spine, uuid, "Rathaus")
    await pass_time(spine, datetime(2026, 3, 4, 1, tzinfo=BERLIN), **{key(U): "running", key(V): "crashed"})
    await availability_of(spine).step()


async def test_days_and_shares_are_written_as_readers_write_them(site: Site) -> None:
    await fill(site)
    browser = await site.browser(Role.VIEWER)
    path = "/availability?from=2026-03-02&to=2026-03-03"
    german, english = [await look(browser, path, language) for language in ("de", "en")]
    assert "50,00 % der Soll-Anzeigezeit wurde gezeigt, 2. März 2026 bis 3. März 2026." in german.words
    assert "50.00% of the required display time was shown, from 2 Mar 2026 to 3 Mar 2026." in english.words
    assert all("Rathaus" in page.words for page in (german, english))


async def test_bars_of_a_client_name_their_days(site: Site) -> None:
    await fill(site)
    browser = await site.browser(Role.VIEWER)
    browser.headers["Cookie"] = "infoscreen_zone=Europe/Berlin"
    german, english = [await look(browser, f"/clients/{V}", language) for language in ("de", "en")]
    assert "3. März, 01:00:00 - 01:00:00: Gestört" in german.words
    assert "0,0 % gezeigt, 1-mal dunkel" in german.words
    assert "0.0% shown, dark 1 time " in english.words
    assert 'title="Di. 3. März: 0,0 %"' in german.text
