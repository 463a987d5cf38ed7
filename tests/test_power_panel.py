"""The outlet in the panel: block, form, test, and the question before a power cycle."""

from dataclasses import replace
from datetime import timedelta

import pytest

from infoscreen.domain.accounts import Role
from infoscreen.domain.power import CycleStage, begun
from infoscreen.storage import power, power_cycles
from infoscreen.storage.power_cycles import StoredCycle
from tests.api import ask
from tests.outlets import SmallDevice, serving_device, shelly_app
from tests.spine import uuid_of
from tests.web import Site

U, V = uuid_of(1), uuid_of(2)
PASSWORD = "tops3cret"
FORM = {"driver": "shelly", "address": "10.0.0.5", "outlet": "0", "password": PASSWORD}


@pytest.fixture
async def known(site: Site) -> Site:
    for uuid in (U, V):
        await site.spine.beat(uuid, hostname=f"screen-{uuid[-1]}")
    return site


async def text_of(site: Site, role: Role, path: str, status: int = 200, **form: str) -> str:
    browser = await site.browser(role)
    asking = browser.post(path, data=form) if form else browser.get(path)
    async with asking as response:
        text: str = await response.text()
        assert response.status == status, text
        return text


async def test_an_outlet_is_entered_tested_and_forgotten_and_its_password_never_shown(known: Site) -> None:
    device = SmallDevice(password=PASSWORD)
    async with serving_device(shelly_app(device)) as address:
        saved = await text_of(
            known, Role.ADMIN, f"/clients/{U}/power", **FORM | {"address": address, "also_feeds": V}
        )
        tested = await text_of(known, Role.ADMIN, f"/clients/{U}/power/test", go="1")
    assert "42.0 W" in tested
    page = await text_of(known, Role.VIEWER, f"/clients/{U}")
    assert address in page
    assert "screen-2" in page
    assert PASSWORD not in saved + tested + page
    again = await text_of(known, Role.ADMIN, f"/clients/{U}/power", **FORM | {"password": "", "outlet": "1"})
    assert PASSWORD not in again
    admin = await known.program(Role.ADMIN)
    # Another address: the stored password was not taken along.
    assert (await ask(admin, "GET", f"/api/clients/{U}/power"))["secrets"] == []
    await text_of(known, Role.ADMIN, f"/clients/{U}/power/forget", go="1")
    await ask(admin, "GET", f"/api/clients/{U}/power", status=409)


@pytest.mark.parametrize(
    "wrong",
    [
        {"driver": "telepathy"},
        {"address": ""},
        {"min_off_seconds": "1"},
        {"options": "no"},
        {"also_feeds": "x"},
    ],
    ids=str,
)
async def test_what_makes_no_sense_comes_back_with_what_was_typed(known: Site, wrong: dict[str, str]) -> None:
    typed = FORM | {"identity": "keep me"} | wrong
    page = await text_of(known, Role.ADMIN, f"/clients/{U}/power", status=422, **typed)
    assert "keep me" in page
    assert PASSWORD not in page


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_only_administrators_see_the_form_and_the_action(known: Site, role: Role) -> None:
    await text_of(known, Role.ADMIN, f"/clients/{U}/power", **FORM)
    page = await text_of(known, role, f"/clients/{U}")
    assert f"/clients/{U}/power" not in page
    assert "commands/power_cycle" not in page
    await text_of(known, role, f"/clients/{U}/power", status=403)
    await text_of(known, role, f"/clients/{U}/power/test", status=403, go="1")


async def test_a_power_cycle_asks_for_the_name_and_says_what_it_does(known: Site) -> None:
    await text_of(known, Role.ADMIN, f"/clients/{U}/power", **FORM)
    question = await text_of(known, Role.ADMIN, f"/clients/{U}/commands/power_cycle")
    assert 'name="typed"' in question
    assert "loses power" in question or "verliert den Strom" in question
    admin = await known.program(Role.ADMIN)
    order = {"action": "power_cycle", "typed": "screen-2"}
    await text_of(known, Role.ADMIN, f"/clients/{U}/commands", **order)
    assert (await ask(admin, "GET", f"/api/clients/{U}/commands"))["items"] == []
    await text_of(known, Role.ADMIN, f"/clients/{U}/commands", **order | {"typed": "screen-1"})
    (command,) = (await ask(admin, "GET", f"/api/clients/{U}/commands"))["items"]
    assert (command["action"], command["status"]) == ("power_cycle", "queued")


async def test_a_shared_outlet_wants_a_reason_and_a_protected_one_offers_nothing(
    known: Site,
) -> None:
    await text_of(known, Role.ADMIN, f"/clients/{U}/power", **FORM | {"also_feeds": V})
    question = await text_of(known, Role.ADMIN, f"/clients/{U}/commands/power_cycle")
    assert "screen-2" in question
    assert 'name="force" value="yes"' in question
    await text_of(known, Role.ADMIN, f"/clients/{U}/power", **FORM | {"protected": "yes"})
    assert "commands/power_cycle" not in await text_of(known, Role.ADMIN, f"/clients/{U}")


async def test_an_outlet_that_stays_off_is_seen_on_the_clients_page(known: Site) -> None:
    await text_of(known, Role.ADMIN, f"/clients/{U}/power", **FORM)
    now = known.spine.clock.now()
    began = now - timedelta(minutes=5)
    cycle = replace(begun(began), stage=CycleStage.TURNING_ON, on_since=began, off_sends=1)
    async with known.spine.store.write() as connection:
        outlet = await power.get(connection, U)
        assert outlet is not None
        stored = StoredCycle(command_id=uuid_of(50), client_uuid=U, outlet=outlet, cycle=cycle)
        await power_cycles.add(connection, stored)
    page = await text_of(known, Role.VIEWER, f"/clients/{U}")
    assert "power-off" in page
