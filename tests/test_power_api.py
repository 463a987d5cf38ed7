"""Outlets of clients over HTTP and on the command line: configured, tested, never telling a secret."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from infoscreen.cli.power import read_rows
from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import NotFound, SecretUnreadable
from infoscreen.judge.outlets import CycleClock
from infoscreen.power.registry import DRIVERS as POWER_DRIVERS
from infoscreen.power.registry import open_outlet
from infoscreen.services.power.cycles import PowerCycles, PowerPolicy
from infoscreen.services.power.outlets import Outlets, WantedPower
from infoscreen.services.secrets import Secrets
from infoscreen.storage import power
from infoscreen.words.power import DRIVERS
from tests.api import ask
from tests.outlets import MAC, SmallDevice, serving_device, shelly_app
from tests.spine import ADMIN, TIMEOUTS, open_spine, sqlite_url, uuid_of
from tests.test_cli_remote import Remote, sign_in, stranger
from tests.waiting import until_told
from tests.web import SECRETS_KEY, Site

__all__ = ["stranger"]

U, V, W = uuid_of(1), uuid_of(2), uuid_of(3)
PASSWORD = "tops3cret"


def plug(**more: Any) -> dict[str, Any]:
    return {"driver": "shelly", "address": "10.0.0.5", "outlet": "0", "password": PASSWORD, **more}


@pytest.fixture
async def known(site: Site) -> Site:
    for uuid in (U, V, W):
        await site.spine.beat(uuid)
    return site


async def stored(site: Site) -> str:
    async with site.spine.store.read() as connection:
        rows = (await connection.execute(text("SELECT * FROM client_power"))).all()
        audit = (await connection.execute(text("SELECT * FROM audit"))).all()
        timeline = (await connection.execute(text("SELECT * FROM timeline"))).all()
    return json.dumps([[str(one) for one in row] for row in (*rows, *audit, *timeline)])


async def test_an_outlet_is_configured_shown_and_forgotten_and_its_secret_never_shown(known: Site) -> None:
    admin = await known.program(Role.ADMIN)
    body = plug(username="admin", identity=MAC, protected=True, also_feeds=[W])
    answer = await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": body, "name": "Lobby"})
    shown = await ask(admin, "GET", f"/api/clients/{U}/power")
    assert answer["name"] == "Lobby"
    assert shown | {"updated_at": None} == {
        "driver": "shelly",
        "address": "10.0.0.5",
        "outlet": "0",
        "username": "admin",
        "identity": MAC,
        "options": {},
        "min_off_seconds": 10.0,
        "protected": True,
        "also_feeds": [W],
        "shared_with": [W],
        "secrets": ["password"],
        "updated_at": None,
    }
    assert PASSWORD not in json.dumps([answer, shown]) + await stored(known)
    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": None})
    problem = await ask(admin, "GET", f"/api/clients/{U}/power", status=409)
    assert problem["type"].endswith("no-outlet")


async def test_a_secret_stays_for_the_same_device_and_never_goes_to_another_address(known: Site) -> None:
    admin = await known.program(Role.ADMIN)

    async def secrets_after(**changes: Any) -> list[str]:
        body = {name: value for name, value in plug(**changes).items() if value != PASSWORD}
        await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": body})
        shown: list[str] = (await ask(admin, "GET", f"/api/clients/{U}/power"))["secrets"]
        return shown

    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug()})
    assert await secrets_after(outlet="1") == ["password"]
    assert await secrets_after(password=None) == []
    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug()})
    assert await secrets_after(address="10.0.0.66") == []


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_only_administrators_change_or_test_outlets(known: Site, role: Role) -> None:
    program = await known.program(role)
    await ask(program, "PATCH", f"/api/clients/{U}", json={"power": plug()}, status=403)
    await ask(program, "PATCH", f"/api/clients/{U}", json={"power": None, "name": "x"}, status=403)
    await ask(program, "POST", f"/api/clients/{U}/power/test", status=403)
    assert (await known.spine.client(U)).name is None


@pytest.mark.parametrize(
    "body",
    [
        plug(driver="telepathy"),
        plug(address="http://user:pw@10.0.0.5"),
        plug(outlet="-1"),
        plug(min_off_seconds=1),
        plug(min_off_seconds=3_600),
        plug(options={"fingerprint": "zz"}),
        plug(options={"UPPER": "x"}),
        plug(colour="red"),
        plug(also_feeds=["nobody"]),
        {"driver": "apc", "address": "10.0.0.5"},
        {"driver": "command", "address": "x", "options": {"program": "relative"}},
        "shelly",
    ],
    ids=str,
)
async def test_an_outlet_that_makes_no_sense_is_refused_and_not_stored(known: Site, body: Any) -> None:
    admin = await known.program(Role.ADMIN)
    problem = await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": body}, status=422)
    assert PASSWORD not in json.dumps(problem)
    await ask(admin, "GET", f"/api/clients/{U}/power", status=409)


@pytest.mark.parametrize("address", ["10.0.0.5", "http://10.0.0.5/", "HTTP://10.0.0.5", " 10.0.0.5 "])
async def test_two_clients_at_one_outlet_must_be_declared(known: Site, address: str) -> None:
    admin = await known.program(Role.ADMIN)
    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug()})
    body = plug(address=address)
    problem = await ask(admin, "PATCH", f"/api/clients/{V}", json={"power": body}, status=409)
    assert problem["type"].endswith("outlet-shared")
    await ask(admin, "PATCH", f"/api/clients/{V}", json={"power": body | {"shared": True}})
    assert (await ask(admin, "GET", f"/api/clients/{U}/power"))["shared_with"] == [V]
    await ask(admin, "PATCH", f"/api/clients/{W}", json={"power": plug(outlet="1")})
    assert (await ask(admin, "GET", f"/api/clients/{W}/power"))["shared_with"] == []


async def test_an_outlet_is_asked_what_it_is_and_nothing_is_switched(known: Site) -> None:
    admin = await known.program(Role.ADMIN)
    device = SmallDevice(password=PASSWORD)
    async with serving_device(shelly_app(device)) as address:
        await ask(
            admin, "PATCH", f"/api/clients/{U}", json={"power": plug(address=address, identity="other")}
        )
        told = await ask(admin, "POST", f"/api/clients/{U}/power/test")
        assert (told["state"], told["watts"], told["identity"]) == ("on", 42.0, MAC)
        assert (told["expected_identity"], told["is_expected"]) == ("other", False)
        body = plug(address=address, identity=MAC.lower(), password="wrong")
        await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": body})
        problem = await ask(admin, "POST", f"/api/clients/{U}/power/test", status=502)
        assert problem["fault"] == "bad_credentials"
    problem = await ask(admin, "POST", f"/api/clients/{U}/power/test", status=502)
    assert problem["fault"] == "no_answer"
    assert device.on
    assert not any("Set" in one for one in device.requests)
    await ask(admin, "POST", f"/api/clients/{V}/power/test", status=409)


async def test_without_the_key_the_outlet_is_shown_and_its_secret_is_not_used(known: Site) -> None:
    admin = await known.program(Role.ADMIN)
    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug()})
    spine = known.spine
    for secrets in (Secrets(), Secrets([bytes(reversed(range(32)))])):
        outlets = Outlets(spine.store, spine.clock, spine.bus, secrets, open_outlet)
        shown = await outlets.shown(U)
        assert shown is not None
        assert shown.secrets == ("unreadable",)
        with pytest.raises(SecretUnreadable):
            await outlets.test(U)


async def test_after_the_key_is_lost_a_new_password_can_be_given(known: Site) -> None:
    admin = await known.program(Role.ADMIN)
    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug()})
    spine = known.spine
    outlets = Outlets(spine.store, spine.clock, spine.bus, Secrets([bytes(reversed(range(32)))]), open_outlet)
    wanted = WantedPower(driver="shelly", address="10.0.0.5", outlet="0")
    with pytest.raises(SecretUnreadable):
        await outlets.configure(U, wanted, ADMIN)
    await outlets.configure(U, replace(wanted, secrets={"password": "new"}), ADMIN)
    shown = await outlets.shown(U)
    assert shown is not None
    assert shown.secrets == ("password",)


async def test_a_secret_is_no_option(known: Site) -> None:
    """An option is stored in the clear and shown."""
    admin = await known.program(Role.ADMIN)
    body = {"power": plug(options={"privacy_secret": "hushhush"})}
    await ask(admin, "PATCH", f"/api/clients/{U}", status=422, json=body)
    assert "hushhush" not in await stored(known)


async def test_a_removed_client_leaves_no_outlet_behind(known: Site) -> None:
    admin = await known.program(Role.ADMIN)
    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug()})
    await ask(admin, "DELETE", f"/api/clients/{U}", status=204)
    assert "10.0.0.5" not in json.dumps(await rows_of(known))


async def rows_of(site: Site) -> list[str]:
    async with site.spine.store.read() as connection:
        return [str(row) for row in await connection.execute(text("SELECT * FROM client_power"))]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_outlets_are_stored_alike_in_both_databases(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("postgres") if kind == "postgres" else sqlite_url(tmp_path)
    async with open_spine(url) as spine:
        for uuid in (U, V, W):
            await spine.beat(uuid)
        outlets = Outlets(spine.store, spine.clock, spine.bus, Secrets([SECRETS_KEY]), open_outlet)
        wanted = WantedPower(
            driver="shelly",
            address="http://10.0.0.5",
            outlet="0",
            secrets={"password": PASSWORD},
            also_feeds=(W,),
        )
        await outlets.configure(U, wanted, ADMIN)
        await outlets.configure(U, wanted, ADMIN)
        await outlets.configure(V, replace(wanted, address="10.0.0.5/", shared=True, also_feeds=()), ADMIN)
        shown = await outlets.shown(V)
        assert shown is not None
        assert (shown.secrets, shown.shared_with) == (("password",), (U, W))
        async with spine.store.read() as connection:
            found = await power.get(connection, U)
        assert found is not None
        assert found.updated_at == spine.clock.now()
        assert outlets.opened(found).secret == PASSWORD
        await spine.fleet.remove(U, ADMIN)
        assert await outlets.shown(U) is None
        with pytest.raises(NotFound):
            await outlets.configure(U, wanted, ADMIN)


# --- the command line


@pytest.fixture
async def remote(stranger: Remote, known: Site) -> Remote:
    await sign_in(stranger, known, Role.ADMIN)
    return stranger


async def test_the_command_line_tests_an_outlet(remote: Remote, known: Site) -> None:
    admin = await known.program(Role.ADMIN)
    async with serving_device(shelly_app(SmallDevice())) as address:
        await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug(address=address, identity=MAC)})
        done = await remote.ok("power", "test", U)
        assert "on, 42 W" in done.out
        assert MAC in done.out
        await ask(
            admin, "PATCH", f"/api/clients/{U}", json={"power": plug(address=address, identity="other")}
        )
        done = await remote.run("power", "test", U)
        assert done.code == 1
        assert "other" in done.err


async def test_the_command_line_cycles_the_power_and_tells_each_step(remote: Remote, known: Site) -> None:
    admin, spine, device = await known.program(Role.ADMIN), known.spine, SmallDevice()
    cycles = PowerCycles(
        *(spine.store, CycleClock(spine.clock), spine.bus, known.parts.outlets, open_outlet, spine.measures),
        PowerPolicy(TIMEOUTS),
    )
    async with serving_device(shelly_app(device)) as address:
        body = {"driver": "shelly", "address": address, "outlet": "0", "identity": MAC}
        await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": body})
        running = asyncio.create_task(remote.ok("power", "test", U, "--cycle", "--yes"))
        taken = await until_told(cycles.take_up)
        await cycles.carry_out(taken[0])
        done = await running
    assert device.on
    steps = [line.split(" ", 1)[1] for line in done.out.splitlines() if "execution_started" in line]
    assert any("OFF was sent" in step for step in steps)
    assert "completed" in done.out


async def test_outlets_come_from_a_csv_file(remote: Remote, known: Site, tmp_path: Path) -> None:
    file = tmp_path / "outlets.csv"
    file.write_text(
        "\ufeffuuid;driver;address;outlet;password;protected;option:family\n"
        f"{U};apc;10.0.0.9;3;community;ja;rpdu2\n"
        f"{uuid_of(99)};apc;10.0.0.9;4;community;;\n"
        f"{V};shelly;10.0.0.6;0;;;\n"
    )
    done = await remote.run("power", "import", str(file))
    assert done.code == 1
    assert "line 3: " in done.err
    assert "2 of 3" in done.out
    admin = await known.program(Role.ADMIN)
    shown = await ask(admin, "GET", f"/api/clients/{U}/power")
    assert (shown["options"], shown["protected"], shown["secrets"]) == (
        {"family": "rpdu2"},
        True,
        ["password"],
    )
    assert (await ask(admin, "GET", f"/api/clients/{V}/power"))["secrets"] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "columns uuid, driver and address are needed"),
        (b"uuid,driver\n", "columns uuid, driver and address are needed"),
        (b"uuid,driver,address,colour\n", "unknown column 'colour'"),
        (b"uuid,driver,address\nx,shelly,10.0.0.5\n", "line 2: 'x' is no UUID"),
        (f"uuid,driver,address\n{U},shelly\n".encode(), "line 2: not 3 columns"),
        (f"uuid,driver,address\n{U},shelly,a,b\n".encode(), "line 2: not 3 columns"),
        (f"uuid,driver,address,protected\n{U},shelly,a,maybe\n".encode(), "neither yes nor no"),
        (f"uuid,driver,address,min_off_seconds\n{U},shelly,a,x\n".encode(), "no number"),
        (b"uuid,driver,address\n\xff\xfe", "cannot be read"),
    ],
)
def test_a_csv_file_with_an_error_changes_nothing(tmp_path: Path, content: bytes, said: str) -> None:
    import click

    file = tmp_path / "outlets.csv"
    file.write_bytes(content)
    with pytest.raises(click.ClickException) as raised:
        list(read_rows(file))
    assert said in raised.value.message


async def test_an_outlet_and_other_fields_are_changed_together_or_not_at_all(known: Site) -> None:
    admin = await known.program(Role.ADMIN)
    body = {"power": plug(), "name": "Lobby", "maintenance_until": "2001-01-01T00:00:00Z"}
    await ask(admin, "PATCH", f"/api/clients/{U}", json=body, status=422)
    await ask(admin, "GET", f"/api/clients/{U}/power", status=409)
    body = {"power": plug(address="http://user:pw@10.0.0.5"), "name": "Lobby"}
    await ask(admin, "PATCH", f"/api/clients/{U}", json=body, status=422)
    assert (await known.spine.client(U)).name is None


async def test_what_an_outlet_also_feeds_are_clients_that_exist(known: Site) -> None:
    admin = await known.program(Role.ADMIN)
    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug(also_feeds=[uuid_of(9)])}, status=422)
    await ask(admin, "PATCH", f"/api/clients/{U}", json={"power": plug(also_feeds=[V, W])})
    await ask(admin, "DELETE", f"/api/clients/{V}", status=204)
    assert (await ask(admin, "GET", f"/api/clients/{U}/power"))["also_feeds"] == [W]


def test_the_panel_names_every_driver() -> None:
    assert DRIVERS.keys() == POWER_DRIVERS.keys()
