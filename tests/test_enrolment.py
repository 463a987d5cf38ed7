"""New devices: the broker helper, one-time codes, the panel's page, and `agent enroll --server`."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from playwright.async_api import Browser

from infoscreen.clock import SystemClock
from infoscreen.domain.accounts import Role
from infoscreen.domain.enrolment import MOST_OPEN_CODES, NewDevice
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import (
    Conflict,
    HelperMissing,
    HelperUnable,
    TooManyAttempts,
    Unauthenticated,
)
from infoscreen.pki.authority import Authority
from infoscreen.provisioning import enrolment
from infoscreen.provisioning.broker_files import (
    OWN_ACCOUNTS,
    PROBE_ACCOUNT,
    BrokerFiles,
    Listeners,
    write_broker,
)
from infoscreen.provisioning.helper import RESTART_EVERY, BrokerHelper, listening_at
from infoscreen.provisioning.helper_client import HelperClient
from infoscreen.provisioning.passwords import fits
from infoscreen.resources import resource
from infoscreen.services.broker_repair import BrokerRepair
from infoscreen.services.enrolling import Enrolling
from infoscreen.storage import audit
from infoscreen.web.https import Https
from infoscreen.web.keys import WebConfig
from tests import brokers
from tests.broker import Broker, RefusedByBroker
from tests.browser import PHONE, chromium, window
from tests.commands import CommandLine
from tests.daemon import CHECKOUT, installed
from tests.fakes import FakeClock
from tests.programs import find_free_port
from tests.spine import ADMIN, Spine, open_spine, sqlite_url
from tests.waiting import until
from tests.web import PASSWORD as web_password
from tests.web import Site, serving

__all__ = ["chromium"]

DEVICE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER = "9b2c1d4e-7a66-4f0e-8d51-6c1b2a3f4e5d"
PASSWORD, ANOTHER = "0" * 40, "1" * 40
TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture
def place(tmp_path: Path) -> BrokerFiles:
    """Return the files of a private broker that does not run."""
    files = BrokerFiles(tmp_path / "broker")
    write_broker(files, resource("mosquitto"), Listeners(devices=None), None)
    return files


def asked(helper: BrokerHelper, clock: FakeClock, **request: Any) -> dict[str, Any]:
    return helper.answer(json.dumps(request).encode() + b"\n", clock.now())


def add(uuid: str = DEVICE, password: str | None = None, **more: Any) -> dict[str, Any]:
    return {"do": "add_device", "uuid": uuid, "password": password, **more}


# The helper, which does not trust the daemon.


def test_a_device_is_given_an_account_and_everything_it_needs(place: BrokerFiles, clock: FakeClock) -> None:
    said = asked(BrokerHelper(place), clock, **add())
    assert fits(place.accounts().read()[DEVICE], said["password"])
    made = enrolment.read(said["file"])
    assert (made.uuid, made.password, made.broker) == (DEVICE, said["password"], place.device_access())
    assert stat.S_IMODE(place.passwords.stat().st_mode) == 0o600


def test_an_account_that_exists_is_replaced_only_when_that_is_asked_for(
    place: BrokerFiles, clock: FakeClock
) -> None:
    helper = BrokerHelper(place)
    first = asked(helper, clock, **add())["password"]
    assert asked(helper, clock, **add()) == {"error": "exists"}
    assert asked(helper, clock, **add(password=PASSWORD)) == {"error": "exists"}
    assert fits(place.accounts().read()[DEVICE], first)
    second = asked(helper, clock, **add(replace=True))["password"]
    assert fits(place.accounts().read()[DEVICE], second)


def test_the_same_request_twice_is_no_error(place: BrokerFiles, clock: FakeClock) -> None:
    helper = BrokerHelper(place)
    first = asked(helper, clock, **add(password=PASSWORD))
    line = place.accounts().read()[DEVICE]
    assert asked(helper, clock, **add(password=PASSWORD)) == first
    assert place.accounts().read()[DEVICE] == line


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b"{\n",
        b"\xff\xfe\n",
        b"[" * 500 + b"\n",
        b'{"do": "remove_device", "uuid": "' + DEVICE.encode() + b'", "password": null}\n',
        b'{"do": "restart_broker", "unit": "ssh.service"}\n',
        *(
            json.dumps(add(uuid)).encode()
            for uuid in (
                *OWN_ACCOUNTS,
                "",
                "../../etc/passwd",
                f"{DEVICE}\n",
                f"{DEVICE}:x",
                DEVICE.upper(),
                DEVICE.replace("-", ""),
                f"{{{DEVICE}}}",
                "٣f2504e0-4f89-41d3-9a0c-0305e82c3301",
                "#",
                "+",
            )
        ),
        *(
            json.dumps(add(password=password)).encode()
            for password in (
                "",
                "short",
                "0" * 39,
                "0" * 41,
                "g" * 40,
                "0" * 39 + "\n",
                "0" * 40 + ":x",
                "é" * 40,
            )
        ),
        json.dumps(add(iterations=1)).encode(),
        json.dumps({"do": "add_device", "uuid": 1, "password": None}).encode(),
        json.dumps({"do": "add_device", "uuid": [DEVICE], "password": None}).encode(),
    ],
)
def test_what_is_no_request_of_ours_changes_nothing(
    place: BrokerFiles, clock: FakeClock, line: bytes
) -> None:
    before = {path: path.read_bytes() for path in place.path.rglob("*") if path.is_file()}
    assert BrokerHelper(place).answer(line, clock.now()) == {"error": "bad_request"}
    after = {path: path.read_bytes() for path in place.path.rglob("*") if path.is_file()}
    assert after == before


def test_nothing_is_added_while_a_reload_would_open_everything(place: BrokerFiles, clock: FakeClock) -> None:
    place.acl.write_text("pattern\n")
    before = place.passwords.read_bytes()
    assert asked(BrokerHelper(place), clock, **add()) == {"error": "failed"}
    assert place.passwords.read_bytes() == before


def test_files_that_cannot_be_written_are_said_and_logged(
    place: BrokerFiles, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    (place.secrets / "restart.lock").mkdir()
    assert asked(BrokerHelper(place), clock, do="restart_broker") == {"error": "failed"}
    assert "the request failed" in caplog.text


def test_the_broker_is_restarted_once_an_hour_at_most_also_by_another_helper(
    place: BrokerFiles, clock: FakeClock
) -> None:
    assert asked(BrokerHelper(place), clock, do="restart_broker") == {"error": "not_running"}
    clock.advance(RESTART_EVERY.total_seconds() - 60)
    assert asked(BrokerHelper(place), clock, do="restart_broker") == {"error": "too_soon", "seconds": 61}
    clock.advance(60)
    assert asked(BrokerHelper(place), clock, do="restart_broker") == {"error": "not_running"}
    clock.advance(-86_400)  # a clock that was set back does not forbid it for a day
    assert asked(BrokerHelper(place), clock, do="restart_broker") == {"error": "not_running"}


@contextlib.asynccontextmanager
async def helping(place: BrokerFiles) -> AsyncIterator[Path]:
    """Run the helper as a process, and yield its socket."""
    path = place.path / "helper.sock"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infoscreen", "broker", "helper"),
        *("--directory", str(place.path), "--socket", str(path)),
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    try:
        await until(path.is_socket)
        yield path
    finally:
        process.terminate()
        assert await process.wait() == 0
    assert not path.exists()


@pytest.fixture(params=brokers.programs())
async def broker_of_either_version(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path / "broker", find_free_port(), program=brokers.program(request.param))
    async with broker.running():
        yield broker


@pytest.mark.broker
async def test_a_device_gets_in_at_once_and_others_on_the_host_cannot_ask(
    broker_of_either_version: Broker,
) -> None:
    broker = broker_of_either_version
    async with helping(broker.files) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        made = await HelperClient(path).add_device(DEVICE)
        broker.passwords[DEVICE] = made.password
        await until(lambda: "Reloading config" in broker.log)
        await broker.pub(f"infoscreen/{DEVICE}/heartbeat", b"{}")
        with pytest.raises(Conflict):
            await HelperClient(path).add_device(DEVICE)
        again = await HelperClient(path).add_device(DEVICE, replace=True)
        await until(lambda: broker.log.count("Reloading config") == 2)
        with pytest.raises(RefusedByBroker):
            await broker.pub(f"infoscreen/{DEVICE}/heartbeat", b"{}")
        broker.passwords[DEVICE] = again.password
        await broker.pub(f"infoscreen/{DEVICE}/heartbeat", b"{}")


@pytest.mark.broker
async def test_a_request_that_never_ends_or_is_too_long_holds_up_nobody_for_long(broker: Broker) -> None:
    async with helping(broker.files) as path:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(path))
            with socket.socket(socket.AF_UNIX) as long:
                long.connect(str(path))
                with contextlib.suppress(OSError):
                    long.sendall(b"x" * 100_000)
                made = await HelperClient(path).add_device(DEVICE)
    assert made.uuid == DEVICE


async def test_without_a_helper_it_is_said_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(HelperMissing) as refusal:
        await HelperClient(tmp_path / "nobody").add_device(DEVICE)
    assert refusal.value.fact.arguments["uuid"] == DEVICE


@pytest.mark.parametrize("answer", [b"", b"null\n", b"{}\n", b"x" * 70_000 + b"\n", b'{"ok": true}\n'])
async def test_nonsense_of_a_helper_is_its_failure(tmp_path: Path, answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(talk, tmp_path / "helper"):
        with pytest.raises(HelperUnable):
            await HelperClient(tmp_path / "helper").add_device(DEVICE)


async def test_the_socket_may_lie_deeper_than_its_address_can_say(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 60) / ("b" * 60) / "helper.sock"
    path.parent.mkdir(parents=True)
    with listening_at(path) as listening:

        def refuse() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b'{"error": "exists"}\n')

        refusing = asyncio.create_task(asyncio.to_thread(refuse))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(Conflict):
            await HelperClient(path).add_device(DEVICE)
        await refusing
    assert not path.exists()
    with pytest.raises(HelperMissing):
        await HelperClient(path).add_device(DEVICE)


# Codes, on both databases.


class FakeHelper:
    """Keeps accounts in memory, as the real one keeps them at the broker."""

    def __init__(self) -> None:
        self.accounts: dict[str, str] = {}
        self.fails = 0
        self.restarts: list[bool | Exception] = []

    async def add_device(self, uuid: str, *, password: str | None = None, replace: bool = False) -> NewDevice:
        if self.fails:
            self.fails -= 1
            raise HelperMissing(ErrorCode.HELPER_MISSING, uuid=uuid)
        if uuid in self.accounts and not replace and self.accounts[uuid] != password:
            raise Conflict(ErrorCode.DEVICE_HAS_ACCOUNT, uuid=uuid)
        self.accounts[uuid] = password or "made"
        return NewDevice(uuid, self.accounts[uuid], "broker.example", 8883, None, f"file of {uuid}")

    async def restart_broker(self) -> bool:
        outcome = self.restarts.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def spine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spine]:
    kind = request.param
    url = sqlite_url(tmp_path) if kind == "sqlite" else request.getfixturevalue("postgres")
    async with open_spine(url) as parts:
        yield parts


@pytest.fixture
def helper() -> FakeHelper:
    return FakeHelper()


@pytest.fixture
def enrolling(spine: Spine, helper: FakeHelper) -> Enrolling:
    return Enrolling(spine.store, spine.clock, helper, TEN_MINUTES)


async def code_for(enrolling: Enrolling, uuid: str | None = None, *, replace: bool = False) -> str:
    (issued,) = await enrolling.issue([uuid], ADMIN, replace=replace)
    return issued.code


async def acts(spine: Spine) -> list[tuple[str, str | None]]:
    async with spine.store.read() as connection:
        return [(one.action, one.target) for one in (await audit.page(connection, 50)).items]


async def test_a_code_is_exchanged_for_an_account_once(
    spine: Spine, enrolling: Enrolling, helper: FakeHelper
) -> None:
    code = await code_for(enrolling, DEVICE)
    typed = code.lower().replace("-", " ")
    made = await enrolling.redeem(typed, None, PASSWORD, "192.0.2.7")
    assert (made.uuid, helper.accounts) == (DEVICE, {DEVICE: PASSWORD})
    with pytest.raises(Unauthenticated):
        await enrolling.redeem(code, None, ANOTHER, "192.0.2.7")
    assert helper.accounts == {DEVICE: PASSWORD}
    assert await acts(spine) == [("device.enrol", f"device/{DEVICE}"), ("device.code", None)]


async def test_only_the_hash_of_a_code_is_stored(spine: Spine, enrolling: Enrolling) -> None:
    code = await code_for(enrolling)
    await enrolling.redeem(code, None, PASSWORD, None)
    plain = code.replace("-", "")
    async with spine.store.read() as connection:
        rows = [
            str(tuple(row))
            for table in ("enrolment_codes", "audit", "login_failures")
            for row in await connection.exec_driver_sql(f"SELECT * FROM {table}")
        ]
    assert len(rows) == 4
    assert not any(code in row or plain in row or PASSWORD in row for row in rows)


async def test_an_answer_that_was_lost_can_be_asked_for_again_until_the_code_expires(
    spine: Spine, enrolling: Enrolling, helper: FakeHelper
) -> None:
    code = await code_for(enrolling)
    helper.fails = 1
    with pytest.raises(HelperMissing):
        await enrolling.redeem(code, None, PASSWORD, None)
    restarted = Enrolling(spine.store, spine.clock, helper, TEN_MINUTES)
    first = await restarted.redeem(code, None, PASSWORD, None)
    assert await restarted.redeem(code, first.uuid, PASSWORD, None) == first
    with pytest.raises(Unauthenticated):
        await restarted.redeem(code, DEVICE, PASSWORD, None)  # but for no second device
    assert len(helper.accounts) == 1
    spine.clock.advance(TEN_MINUTES.total_seconds())
    with pytest.raises(Unauthenticated):
        await restarted.redeem(code, None, PASSWORD, None)


async def test_a_code_of_one_device_is_for_no_other(enrolling: Enrolling, helper: FakeHelper) -> None:
    code = await code_for(enrolling, DEVICE)
    with pytest.raises(Unauthenticated):
        await enrolling.redeem(code, OTHER, PASSWORD, None)
    assert (await enrolling.redeem(code, DEVICE, PASSWORD, None)).uuid == DEVICE


async def test_a_code_for_any_device_takes_no_account_from_one_that_has_it(
    enrolling: Enrolling, helper: FakeHelper
) -> None:
    helper.accounts[DEVICE] = ANOTHER
    code = await code_for(enrolling, replace=True)
    for _ in range(2):
        with pytest.raises(Conflict):
            await enrolling.redeem(code, DEVICE, PASSWORD, None)
    assert helper.accounts == {DEVICE: ANOTHER}
    code = await code_for(enrolling, DEVICE, replace=True)
    await enrolling.redeem(code, DEVICE, PASSWORD, None)
    assert helper.accounts == {DEVICE: PASSWORD}


async def test_of_many_at_once_one_device_gets_the_account(enrolling: Enrolling, helper: FakeHelper) -> None:
    code = await code_for(enrolling)
    passwords = [f"{number:040x}" for number in range(8)]
    done = await asyncio.gather(
        *(enrolling.redeem(code, None, one, f"192.0.2.{number}") for number, one in enumerate(passwords)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, NewDevice) for one in done) == 1
    assert sum(isinstance(one, Unauthenticated) for one in done) == 7
    assert len(helper.accounts) == 1


async def test_wrong_codes_slow_their_address_down_and_nobody_else(
    spine: Spine, enrolling: Enrolling
) -> None:
    code = await code_for(enrolling)
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await enrolling.redeem("AAAA-AAAA-AAAA-AAAA", None, PASSWORD, "192.0.2.7")
    with pytest.raises(TooManyAttempts) as refusal:
        await enrolling.redeem(code, None, PASSWORD, "192.0.2.7")
    assert refusal.value.retry_after is not None
    assert (await enrolling.redeem(code, None, PASSWORD, "192.0.2.8")).password == PASSWORD


async def test_a_clock_that_was_set_back_makes_no_code_last_longer(
    spine: Spine, enrolling: Enrolling
) -> None:
    code = await code_for(enrolling)
    spine.clock.advance(-3_600)
    with pytest.raises(Unauthenticated):
        await enrolling.redeem(code, None, PASSWORD, None)


async def test_codes_are_off_unless_they_are_switched_on(spine: Spine, helper: FakeHelper) -> None:
    off = Enrolling(spine.store, spine.clock, helper, None)
    with pytest.raises(Conflict):
        await off.issue([None], ADMIN, replace=False)
    code = await code_for(Enrolling(spine.store, spine.clock, helper, TEN_MINUTES))
    with pytest.raises(Conflict):
        await off.redeem(code, None, PASSWORD, None)


async def test_open_codes_are_bounded(spine: Spine, enrolling: Enrolling) -> None:
    for _ in range(MOST_OPEN_CODES // 200):
        await enrolling.issue([None] * 200, ADMIN, replace=False)
    with pytest.raises(Conflict):
        await code_for(enrolling)
    spine.clock.advance(TEN_MINUTES.total_seconds())
    await code_for(enrolling)


# A broker whose ACL is not in force.


async def test_a_broker_with_an_open_acl_is_restarted_once_an_hour_and_that_is_written_down(
    spine: Spine, helper: FakeHelper
) -> None:
    opened = spine.clock.now()
    repair = BrokerRepair(spine.store, spine.clock, helper, lambda: opened)
    helper.restarts = [True, HelperMissing(ErrorCode.HELPER_MISSING, uuid=DEVICE)]
    await repair.look()
    await repair.look()
    assert await acts(spine) == [("broker.restart", "broker")]
    spine.clock.advance(3_600)
    await repair.look()
    async with spine.store.read() as connection:
        entries = (await audit.page(connection, 10)).items
    assert [(one.actor, one.detail and one.detail["outcome"]) for one in entries] == [
        ("daemon", "no_helper"),
        ("daemon", "restarted"),
    ]


async def test_a_broker_whose_acl_is_in_force_is_left_alone(spine: Spine, helper: FakeHelper) -> None:
    await BrokerRepair(spine.store, spine.clock, helper, lambda: None).look()
    assert await acts(spine) == []


@pytest.mark.broker
async def test_the_helper_ends_a_private_broker_whose_files_are_broken(
    broker: Broker, clock: FakeClock
) -> None:
    broker.files.acl.write_text("pattern\n")
    process = broker._process
    assert process is not None
    assert asked(BrokerHelper(broker.files), clock, do="restart_broker") == {"ok": True}
    await until(lambda: process.poll() is not None)
    broker._process = None


@pytest.mark.broker
@pytest.mark.slow
async def test_the_daemon_has_a_broker_ended_that_a_reload_has_opened_and_writes_it_down(
    tmp_path: Path, broker: Broker
) -> None:
    process = broker._process
    assert process is not None
    async with (
        helping(broker.files) as path,
        installed(
            tmp_path / "daemon",
            broker,
            MQTT_PROBE_PASSWORD=broker.passwords[PROBE_ACCOUNT],
            BROKER_HELPER_SOCKET=path,
        ) as daemon,
    ):
        await daemon.start()
        broker.files.acl.write_text("pattern\n")
        os.kill(broker.pid, signal.SIGHUP)
        await until(lambda: process.poll() is not None, within=60)
        broker._process = None
        await until(lambda: daemon.logged("broker_restart"))
        assert daemon.logged("broker_restart")[0]["outcome"] == "restarted"
        await until(lambda: daemon.rows("SELECT actor FROM audit WHERE action = 'broker.restart'"))


# Over HTTP, and in the panel.


@pytest.fixture
async def site(tmp_path: Path, helper: FakeHelper) -> AsyncIterator[Site]:
    config = WebConfig(public_origin="https://panel.example")
    async with serving(tmp_path, config, helper=helper, codes=TEN_MINUTES) as running:
        yield running


async def posted(who: ClientSession, path: str, body: dict[str, Any], status: int) -> Any:
    async with who.post(path, json=body, headers={"Sec-Fetch-Site": "none"}) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


async def test_over_the_api_an_admin_adds_devices_and_devices_redeem_codes(
    site: Site, helper: FakeHelper
) -> None:
    admin = await site.program(Role.ADMIN, manages_accounts=True)
    made = await posted(admin, "/api/devices", {"uuid": DEVICE.upper()}, 201)
    assert (made["uuid"], made["password"]) == (DEVICE, "made")
    assert (await posted(admin, "/api/devices", {"uuid": DEVICE}, 409))["code"] == "device_has_account"
    codes = (await posted(admin, "/api/enrolments", {"uuids": [OTHER], "count": 2}, 201))["items"]
    assert [one["uuid"] for one in codes] == [OTHER, None, None]
    assert (await posted(admin, "/api/enrolments", {}, 422))["code"] == "wrong_field"
    device = await site.visitor()
    body = {"code": codes[0]["code"], "password": PASSWORD}
    assert await posted(device, "/api/enrol", body, 200) == {
        "uuid": OTHER,
        "host": "broker.example",
        "port": 8883,
        "ca": None,
    }
    wrong = await posted(device, "/api/enrol", {**body, "password": ANOTHER}, 401)
    assert ANOTHER not in json.dumps(wrong)
    weak = await posted(device, "/api/enrol", {**body, "password": "weak-password"}, 422)
    assert "weak-password" not in json.dumps(weak)
    viewer = await site.program(Role.VIEWER, manages_accounts=True)
    await posted(viewer, "/api/devices", {}, 403)
    await posted(await site.program(Role.ADMIN), "/api/devices", {}, 403)


async def test_no_secret_crosses_a_network_without_https(tmp_path: Path, helper: FakeHelper) -> None:
    async with serving(tmp_path, helper=helper, codes=TEN_MINUTES) as site:
        admin = await site.program(Role.ADMIN, manages_accounts=True)
        await posted(admin, "/api/devices", {"uuid": DEVICE}, 201)  # on this host
        (code,) = (await posted(admin, "/api/enrolments", {"count": 1}, 201))["items"]
        body = {"code": code["code"], "password": PASSWORD}
        said = await posted(await site.visitor(), "/api/enrol", body, 400)
        assert said["code"] == "enrolment_needs_https"
        admin.headers["X-Forwarded-For"] = "192.0.2.7"
        said = await posted(admin, "/api/devices", {"uuid": OTHER}, 400)
        assert said["code"] == "enrolment_needs_https"
    assert list(helper.accounts) == [DEVICE]


async def form(who: ClientSession, **fields: str) -> tuple[int, str]:
    async with who.post("/devices/new", data=fields) as answer:
        return answer.status, await answer.text()


async def test_the_panel_adds_a_device_without_javascript(site: Site, helper: FakeHelper) -> None:
    admin = await secure_browser(site)
    async with admin.get("/clients") as answer:
        assert 'href="/devices/new"' in await answer.text()
    async with admin.get("/devices/new") as answer:
        assert answer.status == 200
    status, shown = await form(admin, uuid=DEVICE, give="page")
    assert (status, helper.accounts) == (200, {DEVICE: "made"})
    assert f"file of {DEVICE}" in shown
    assert "<svg" in shown
    status, shown = await form(admin, uuid=DEVICE, give="page")
    assert (status, '<svg class="qr"' in shown) == (409, False)
    status, shown = await form(admin, uuid=DEVICE, give="file", replace="yes")
    assert (status, shown) == (200, f"file of {DEVICE}")
    status, shown = await form(admin, uuid="", give="code")
    assert "infoscreen agent enroll --server https://panel.example --code" in shown
    assert (await form(admin, uuid="nonsense", give="page"))[0] == 422
    helper.fails = 1
    status, shown = await form(admin, uuid=OTHER, give="page")
    assert (status, f"infoscreen broker add-device {OTHER}" in shown) == (503, True)


@pytest.mark.browser
@pytest.mark.parametrize("locale", ["de-DE", "en-GB"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pages_are_accessible_and_fit_a_phone(
    chromium: Browser, tmp_path: Path, broker: Broker, locale: str, scheme: str
) -> None:
    helper, saved = RealHelper(broker.files), tmp_path / "saved.enrol"
    async with (
        serving(tmp_path, helper=helper, codes=TEN_MINUTES) as site,
        window(chromium, site, Role.ADMIN, locale=locale, color_scheme=scheme, viewport=PHONE) as opened,
    ):
        for give in (None, "page", "code"):
            await opened.open("/devices/new")
            if give is not None:
                await opened.page.click(f"button[value={give}]")
                await opened.page.wait_for_selector(".enrol-text")
            assert await opened.violations() == [], give
            assert await opened.width() <= PHONE["width"], give
        await opened.open("/devices/new")
        await opened.page.fill("#uuid", "nonsense")
        async with opened.page.expect_response("**/devices/new") as refused:
            await opened.page.click("button[value=page]")
        assert (await refused.value).status == 422
        await opened.page.wait_for_selector("[role=alert]")
        assert await opened.violations() == []
        await opened.open("/devices/new")
        async with opened.page.expect_download() as download:
            await opened.page.click("button[value=file]")
        await (await download.value).save_as(saved)
    made = enrolment.read(saved.read_text())
    assert fits(broker.files.accounts().read()[made.uuid], made.password)


class RealHelper:
    """The helper, without its process."""

    def __init__(self, place: BrokerFiles) -> None:
        self._helper = BrokerHelper(place)

    async def add_device(self, uuid: str, *, password: str | None = None, replace: bool = False) -> NewDevice:
        request = json.dumps(add(uuid, password, replace=replace)).encode()
        said = await asyncio.to_thread(self._helper.answer, request, SystemClock().now())
        assert said.pop("ok")
        return NewDevice(**said)


async def test_only_admins_add_devices_in_the_panel(site: Site, helper: FakeHelper) -> None:
    operator = await secure_browser(site, Role.OPERATOR)
    async with operator.get("/clients") as answer:
        assert "/devices/new" not in await answer.text()
    assert (await form(operator, uuid=DEVICE, give="page"))[0] == 403
    assert helper.accounts == {}


async def secure_browser(site: Site, role: Role = Role.ADMIN) -> ClientSession:
    """Return a browser whose cookies for https come back over the test's plain connection."""
    user = await site.user(role)
    visitor = await site.visitor({"Sec-Fetch-Site": "same-origin"})
    async with visitor.post(
        "/api/auth/login", json={"username": user.username, "password": web_password}
    ) as answer:
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in answer.cookies.items())
    return await site.visitor({"Sec-Fetch-Site": "same-origin", "Cookie": cookies})


# `infoscreen agent enroll --server`.


@contextlib.asynccontextmanager
async def server(authority: Authority, enrolling: Enrolling, lose: int = 0) -> AsyncIterator[str]:
    """Serve the endpoint over https; the first answers get lost."""
    lost = lose

    async def redeem(request: web.Request) -> web.Response:
        nonlocal lost
        body = await request.json()
        made = await enrolling.redeem(body["code"], body["uuid"], body["password"], request.remote)
        if lost:
            lost -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"uuid": made.uuid, "host": made.host, "port": made.port, "ca": made.ca})

    pair = authority.issue_server(["localhost"], SystemClock().now())
    app = web.Application()
    app.router.add_post("/api/enrol", redeem)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        context = Https(pair.certificate, pair.key).context
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_device_fetches_its_account_also_when_an_answer_is_lost(
    tmp_path: Path, enrolling: Enrolling, helper: FakeHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.create(tmp_path / "pki", SystemClock().now())
    line, place = CommandLine(tmp_path, monkeypatch), tmp_path / "etc"
    code = await code_for(enrolling, DEVICE)
    async with server(authority, enrolling, lose=1) as url:
        words = ("agent", "enrol", "--server", url, "--code", code, "--directory", str(place))
        assert (await asyncio.to_thread(line.run, *words)).code == 1  # whose certificate is that?
        done = await asyncio.to_thread(line.run, *words, "--ca", str(authority.bundle))
    assert done.code == 0, done.err
    settings = dict(row.split("=", 1) for row in (place / "agent.env").read_text().splitlines())
    assert settings["AGENT_UUID"] == DEVICE
    assert helper.accounts == {DEVICE: settings["AGENT_MQTT_PASSWORD"]}
    assert stat.S_IMODE((place / "agent.env").stat().st_mode) == 0o600
    assert [path.name for path in place.iterdir()] == ["agent.env"]


@pytest.mark.parametrize(
    "words",
    [
        ("--server", "http://panel.example", "--code", "X"),
        ("--server", "https://panel.example"),
        ("--server", "https://panel.example", "--code", "X", "--next"),
        (),
    ],
)
def test_wrong_usage_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    line = CommandLine(tmp_path, monkeypatch)
    assert line.run("agent", "enroll", "--directory", str(tmp_path), *words).code == 2
    assert list(tmp_path.iterdir()) == []
