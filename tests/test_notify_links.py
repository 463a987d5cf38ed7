"""Links in messages: they ask, they acknowledge once, and nobody can make one."""

import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st

from infoscreen.domain.accounts import Role
from infoscreen.domain.recovery import IncidentKind
from infoscreen.services.notify.links import LASTS, AcknowledgeLinks, LinkOutcome, token_of
from infoscreen.services.secrets import Secrets
from infoscreen.storage.recovery import incidents
from infoscreen.storage.recovery.incidents import StoredIncident
from tests.api import ask
from tests.fakes import FakeClock
from tests.notices import make_channel, make_incident, make_link, make_message
from tests.panel import look, send
from tests.spine import ADMIN, MORNING, uuid_of
from tests.web import SECRETS, Site, serving

KEYS = [bytes(range(40))]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site with one channel."""
    async with serving(tmp_path) as site:
        await make_channel(site)
        yield site


async def known(site: Site, number: int) -> StoredIncident:
    async with site.spine.store.read() as connection:
        found = await incidents.get(connection, number)
    assert found is not None
    return found


async def status_of(browser: ClientSession, token: str) -> int:
    return (await look(browser, f"/link?t={token}")).status


async def test_looking_changes_nothing_and_the_button_acknowledges_once(site: Site) -> None:
    number = await make_incident(site.spine)
    token = await make_link(site, number)
    stranger = await site.browser()
    for _ in range(3):
        page = await look(stranger, f"/link?t={token}")
        assert (page.status, "Ausfall: Messe" in page.words) == (200, True)
        async with stranger.head(f"/link?t={token}") as answer:
            assert answer.status == 200
        async with stranger.options(f"/link?t={token}") as answer:
            assert answer.status in (404, 405)
    assert (await known(site, number)).acknowledged_at is None
    done = await send(stranger, "/link", t=token, name="Ada", comment="bin dran")
    assert (done.status, "Danke" in done.words) == (200, True)
    found = await known(site, number)
    assert (found.acknowledged_by, found.comment) == ("Ada (Bereitschaft)", "bin dran")
    again = await send(stranger, "/link", t=token, name="Eve")
    assert (again.status, "schon benutzt" in again.words) == (410, True)
    assert (await known(site, number)).acknowledged_by == "Ada (Bereitschaft)"
    admin = await site.browser(Role.ADMIN)
    acts = (await ask(admin, "GET", "/api/audit?action=incident.acknowledge"))["items"]
    assert [(act["actor"], act["via"], act["target"]) for act in acts] == [
        ("Ada (Bereitschaft)", "link", f"incident/{number}")
    ]
    assert token not in str(await ask(admin, "GET", "/api/audit"))


async def test_who_is_signed_in_acknowledges_in_their_own_name(site: Site) -> None:
    number = await make_incident(site.spine)
    token = await make_link(site, number)
    operator = await site.browser(Role.OPERATOR)
    assert (await send(operator, "/link", t=token, name="Eve")).status == 200
    assert (await known(site, number)).acknowledged_by == "operator"
    other = await make_incident(site.spine, "two")
    viewer = await site.browser(Role.VIEWER)
    assert (await send(viewer, "/link", t=await make_link(site, other), name="Eve")).status == 200
    assert (await known(site, other)).acknowledged_by == "viewer (Bereitschaft)"


async def test_a_link_is_only_about_what_it_names(site: Site) -> None:
    number, other = await make_incident(site.spine), await make_incident(site.spine, "two")
    await send(await site.browser(), "/link", t=await make_link(site, number))
    assert (await known(site, number)).acknowledged_at is not None
    assert (await known(site, other)).acknowledged_at is None
    assert await status_of(await site.browser(), await make_link(site, None)) == 404


async def test_a_link_ends_after_a_day_and_with_its_incident_its_channel_and_its_key(site: Site) -> None:
    stranger, spine = await site.browser(), site.spine
    number = await make_incident(spine)
    token = await make_link(site, number)
    spine.clock.advance(LASTS.total_seconds() - 1)
    assert await status_of(stranger, token) == 200
    spine.clock.advance(1)
    assert await status_of(stranger, token) == 410
    assert (await send(stranger, "/link", t=token)).status == 410
    assert (await known(site, number)).acknowledged_at is None
    late = token_of(SECRETS, await make_message(spine, number), spine.clock.now() + timedelta(hours=1)) or ""
    assert await status_of(stranger, late) == 410  # of a clock that was ahead
    fresh, second = await make_link(site, number), await make_link(site, await make_incident(spine, "two"))
    rotated = AcknowledgeLinks(spine.store, spine.clock, spine.bus, Secrets([bytes(range(50, 90)), *KEYS]))
    assert (await rotated.look(fresh)).state is LinkOutcome.OPEN
    lost = AcknowledgeLinks(spine.store, spine.clock, spine.bus, Secrets([bytes(range(50, 90))]))
    assert (await lost.look(fresh)).state is LinkOutcome.UNKNOWN
    await spine.recovering.acknowledge_incident(number, ADMIN)
    assert (await send(stranger, "/link", t=fresh)).status == 409
    assert (await known(site, number)).acknowledged_by == ADMIN.name
    async with spine.store.write() as connection:
        await incidents.dismiss(connection, number, spine.clock.now())
    assert (await send(stranger, "/link", t=fresh)).status == 409
    await site.parts.notifying.remove_channel(1, ADMIN)
    assert (await send(stranger, "/link", t=second)).status == 404


async def test_another_site_cannot_press_the_button(site: Site) -> None:
    number = await make_incident(site.spine)
    token = await make_link(site, number)
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        visitor = await site.visitor(headers)
        assert (await send(visitor, "/link", t=token)).status == 403
    assert (await known(site, number)).acknowledged_at is None


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_changed_token_is_no_token(data: st.DataObject) -> None:
    token = token_of(SECRETS, str(uuid4()), MORNING) or ""
    forged = data.draw(
        st.one_of(
            st.text(max_size=300),
            st.binary(max_size=80).map(lambda raw: base64.urlsafe_b64encode(raw).decode()),
            st.integers(0, len(token) - 1).flatmap(
                lambda at: st.characters().map(lambda one: token[:at] + one + token[at + 1 :])
            ),
            st.sampled_from([token[:-1], f"{token}=", f"{token} ", f"\n{token}", f"{token}A", token.lower()]),
        )
    )
    links = AcknowledgeLinks(None, FakeClock(MORNING), None, SECRETS)  # type: ignore[arg-type]
    claim = links._claim(forged)
    assert claim is LinkOutcome.UNKNOWN or forged == token
    assert not isinstance(links._claim(token), LinkOutcome)


async def test_what_is_no_token_is_answered_with_a_page(site: Site) -> None:
    stranger = await site.browser()
    for wrong in ("", "x", "%00", "ä", "A" * 499, "%ED%A0%80"):
        page = await look(stranger, f"/link?t={wrong}")
        assert page.status in (404, 422), wrong
    assert (await look(stranger, "/link")).status == 404
    assert (await send(stranger, "/link", t="x" * 501)).status == 422


async def test_without_a_key_no_link_is_made(site: Site) -> None:
    assert token_of(Secrets(), str(uuid4()), site.spine.clock.now()) is None


@pytest.mark.parametrize("role", Role)
async def test_the_pages_of_incidents(site: Site, role: Role) -> None:
    spine = site.spine
    await spine.beat(uuid_of(1))
    await spine.fleet.edit(uuid_of(1), {"name": '<b>"Foyer"', "site": "Messe"}, ADMIN)
    numbers = [await make_incident(spine, kind.value, kind) for kind in IncidentKind]
    async with spine.store.write() as connection:
        await incidents.join(connection, numbers[0], [uuid_of(1)], spine.clock.now())
    await make_message(spine, numbers[0])
    browser = await site.browser(role)
    listed = await look(browser, "/incidents")
    assert listed.status == 200
    assert all(f'href="/incidents/{number}"' in listed.text for number in numbers)
    for number in numbers:
        page = await look(browser, f"/incidents/{number}", "en")
        assert page.status == 200
        assert ("I take care of it" in page.words) is role.may(Role.OPERATOR)
    page = await look(browser, f"/incidents/{numbers[0]}", "en")
    assert '<b>"Foyer"' in page.words
    assert "<b>" not in page.text
    assert "and 39 more" in page.words
    assert ("Bereitschaft" in page.words) is role.may(Role.OPERATOR)
    taken = await send(browser, f"/incidents/{numbers[0]}/acknowledge", next=f"/incidents/{numbers[0]}")
    if not role.may(Role.OPERATOR):
        assert taken.status == 403
        return
    assert taken.path == f"/incidents/{numbers[0]}"
    assert f"Quittiert von {role.value}." in taken.words
    assert "I take care of it" not in taken.words
    await send(browser, f"/incidents/{numbers[0]}/dismiss", next=f"/incidents/{numbers[0]}")
    listed = await look(browser, "/incidents?show=open")
    assert f'href="/incidents/{numbers[0]}"' not in listed.text
    assert (await look(browser, "/incidents/999999")).status == 404
    assert "Dieser Link ist veraltet" in (await look(browser, "/incidents?show=strange")).text
