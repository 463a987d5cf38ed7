"""Drivers of outlets: against simulators that others wrote, or where there are none, devices of ours."""

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest
from aiohttp import ClientTimeout, web
from pysnmp.proto.rfc1902 import Integer32

from infoscreen.clock import SystemClock
from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import Cycle, CyclePolicy, Outlet, PowerFault, PowerState, begun
from infoscreen.power.apc import text_of
from infoscreen.power.ipmi import Ipmi
from infoscreen.power.registry import DRIVERS, open_outlet
from infoscreen.power.shelly import Shelly
from infoscreen.power.wake import magic_packet, wake
from infoscreen.services.ports import PowerDriver
from infoscreen.services.power.cycling import run_cycle
from tests.outlets import (
    MAC,
    SmallDevice,
    raritan_app,
    serving_device,
    shelly_app,
    shelly_gen1_app,
    tasmota_app,
)
from tests.power_peers import (
    COMMUNITY,
    SYSTEM_UUID,
    V3,
    Chassis,
    closing,
    ipmi_sim,
    snmpsim,
    sushy_emulator,
    until_it_answers,
)
from tests.programs import find_free_port, require
from tests.waiting import until

Maker = Callable[[SmallDevice], web.Application]

SMALL: dict[str, tuple[Maker, str]] = {
    "shelly": (shelly_app, "0"),
    "shelly_gen1": (shelly_gen1_app, "0"),
    "tasmota": (tasmota_app, "1"),
    "raritan_json": (raritan_app, "3"),
}


def plain(driver: str, address: str, **more: object) -> Outlet:
    outlet = SMALL[driver][1] if driver in SMALL else "1"
    scheme = "http://" if driver == "raritan_json" else ""
    return Outlet(**{"driver": driver, "address": f"{scheme}{address}", "outlet": outlet, **more})


async def fault_of(driver: PowerDriver, verb: str = "status") -> PowerFault:
    async with closing(driver):
        with pytest.raises(PowerError) as raised:
            await getattr(driver, verb)()
    return raised.value.fault


# --- small devices on HTTP: nobody offers a simulator


@pytest.mark.parametrize("password", [None, "geheim äöü+&"])
@pytest.mark.parametrize("driver", SMALL)
async def test_a_small_device_is_identified_read_and_switched(driver: str, password: str | None) -> None:
    device = SmallDevice(password=password)
    async with (
        serving_device(SMALL[driver][0](device)) as address,
        closing(open_outlet(plain(driver, address, secret=password))) as outlet,
    ):
        identity = await outlet.identify()
        assert identity.id in (MAC, "A8:03:2A:BE:54:DC", "screen 7")
        reading = await outlet.status()
        assert reading.is_on
        if outlet.capabilities.metered:
            assert reading.watts == 42.0
        await outlet.off()
        assert device.on is False
        assert (await outlet.status()).is_off
        await outlet.on()
        assert device.on is True
        assert (await outlet.status()).is_on


@pytest.mark.parametrize("driver", SMALL)
async def test_a_wrong_password_is_told_from_silence_and_switches_nothing(driver: str) -> None:
    device = SmallDevice(password="right")
    async with serving_device(SMALL[driver][0](device)) as address:
        for verb in ("status", "off"):
            outlet = open_outlet(plain(driver, address, secret="wrong"))
            assert await fault_of(outlet, verb) is PowerFault.BAD_CREDENTIALS
    assert device.on


BROKEN = {
    "500": {PowerFault.BAD_ANSWER},
    "half": {PowerFault.NO_ANSWER},
    "reset": {PowerFault.NO_ANSWER},
    "html": {PowerFault.BAD_ANSWER},
    "huge": {PowerFault.BAD_ANSWER},
    "deep": {PowerFault.BAD_ANSWER},
    "empty": {PowerFault.BAD_ANSWER, PowerFault.UNSUPPORTED},
    "list": {PowerFault.BAD_ANSWER},
    "redirect": {PowerFault.BAD_ANSWER},
}


@pytest.mark.parametrize("verb", ["identify", "status", "off", "on"])
@pytest.mark.parametrize("breaks", BROKEN)
@pytest.mark.parametrize("driver", SMALL)
async def test_nonsense_is_a_fault_and_never_a_state(driver: str, breaks: str, verb: str) -> None:
    device = SmallDevice(breaks=breaks)
    async with serving_device(SMALL[driver][0](device)) as address:
        outlet = open_outlet(plain(driver, address))
        if (driver, breaks, verb) == ("tasmota", "empty", "identify"):
            async with closing(outlet):
                assert (await outlet.identify()).id is None  # OpenBeken answers so
            return
        assert await fault_of(outlet, verb) in BROKEN[breaks]


async def test_a_device_that_hangs_is_given_up_in_time() -> None:
    async with serving_device(shelly_app(SmallDevice(breaks="hangs"))) as address:
        outlet = Shelly(plain("shelly", address))
        outlet._door._timeout = ClientTimeout(total=0.05)
        assert await fault_of(outlet) is PowerFault.NO_ANSWER


@pytest.mark.parametrize("driver", [*SMALL, "redfish"])
async def test_nobody_there_is_no_answer(driver: str) -> None:
    outlet = open_outlet(plain(driver, f"127.0.0.1:{find_free_port()}"))
    assert await fault_of(outlet) is PowerFault.NO_ANSWER


async def test_the_wrong_generation_of_a_shelly_is_found_out() -> None:
    async with serving_device(shelly_app(SmallDevice())) as address:
        assert (
            await fault_of(open_outlet(plain("shelly_gen1", address)), "identify") is PowerFault.UNSUPPORTED
        )
    async with serving_device(shelly_gen1_app(SmallDevice())) as address:
        assert await fault_of(open_outlet(plain("shelly", address)), "identify") is PowerFault.UNSUPPORTED


async def test_a_switch_that_does_not_exist_is_unsupported() -> None:
    async with serving_device(shelly_app(SmallDevice())) as address:
        outlet = open_outlet(plain("shelly", address, outlet="7"))
        assert await fault_of(outlet) is PowerFault.UNSUPPORTED


@pytest.mark.parametrize("driver", ["shelly", "shelly_gen1", "tasmota"])
async def test_a_plug_that_restores_itself_is_told_when(driver: str) -> None:
    device = SmallDevice()
    options = {"backlog": "on"} if driver == "tasmota" else {}
    async with (
        serving_device(SMALL[driver][0](device)) as address,
        closing(open_outlet(plain(driver, address, options=options))) as outlet,
    ):
        assert outlet.capabilities.restores_itself
        await outlet.off(29.3)
        assert (device.on, device.timer) == (False, 30)


async def test_a_locked_outlet_of_a_pdu_refuses() -> None:
    async with serving_device(raritan_app(SmallDevice(breaks="locked"))) as address:
        assert await fault_of(open_outlet(plain("raritan_json", address)), "off") is PowerFault.REFUSED


async def test_no_password_is_ever_in_an_error() -> None:
    for breaks in BROKEN:
        async with serving_device(tasmota_app(SmallDevice(breaks=breaks))) as address:
            outlet = open_outlet(plain("tasmota", address, secret="tops3cret"))
            async with closing(outlet):
                with pytest.raises(PowerError) as raised:
                    await outlet.status()
            assert "tops3cret" not in str(raised.value)
    assert "tops3cret" not in repr(plain("tasmota", "x", secret="tops3cret"))


async def test_curl_agrees_with_the_digest_of_our_device(tmp_path: Path) -> None:
    """The test's device checks digests itself; curl, which we did not write, must be accepted by it."""
    curl = require("curl")
    body = '{"id":1,"method":"Switch.Set","params":{"id":0,"on":false}}'
    device = SmallDevice(password="right")
    async with serving_device(shelly_app(device)) as address:
        command = [curl, "-sS", "--max-time", "20", "--digest", "-d", body, f"http://{address}/rpc"]
        for user in ("admin:wrong", "admin:right"):
            process = await asyncio.create_subprocess_exec(*command, "-u", user, stdout=subprocess.PIPE)
            output, _ = await process.communicate()
            assert device.on is (user == "admin:wrong")
    assert b"was_on" in output


@pytest.mark.parametrize("driver", SMALL)
async def test_a_whole_cycle_at_a_small_device(driver: str) -> None:
    device = SmallDevice()
    async with (
        serving_device(SMALL[driver][0](device)) as address,
        closing(open_outlet(plain(driver, address))) as outlet,
    ):
        cycle = await whole_cycle(outlet, min_off=0.3)
    assert cycle.fault is None
    assert cycle.off_seen_at is not None
    assert cycle.on_seen_at - cycle.off_seen_at >= timedelta(seconds=0.3)
    assert device.on


async def whole_cycle(
    driver: PowerDriver, *, min_off: float, off_within: float = 30.0, poll: float = 0.1
) -> Cycle:
    policy = CyclePolicy(
        min_off=timedelta(seconds=min_off),
        off_within=timedelta(seconds=off_within),
        poll=timedelta(seconds=poll),
    )
    clock = SystemClock()

    async def journal(cycle: object) -> None:
        """Nothing is kept."""

    return await run_cycle(begun(clock.now()), driver, clock, policy, journal)


# --- SNMP: snmpsim


@pytest.fixture(scope="module")
def pdu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with snmpsim(tmp_path_factory.mktemp("snmpsim")) as address:
        asyncio.run(_until_ready(Outlet(driver="apc", address=address, outlet="4", secret=COMMUNITY)))
        yield address


async def _until_ready(outlet: Outlet) -> None:
    async with closing(open_outlet(outlet)) as driver:
        await until_it_answers(driver)


SNMP_OUTLETS = {
    "apc": Outlet(driver="apc", address="", outlet="3", secret=COMMUNITY),
    "apc rpdu2": Outlet(driver="apc", address="", outlet="5", secret=COMMUNITY, options={"family": "rpdu2"}),
    "raritan": Outlet(driver="raritan", address="", outlet="7", secret=COMMUNITY),
    "apc v3": Outlet(
        driver="apc",
        address="",
        outlet="3",
        username=V3["user"],
        secret=V3["secret"],
        options={"privacy_secret": V3["privacy_secret"], "context": COMMUNITY},
    ),
}


def at(outlet: Outlet, address: str) -> Outlet:
    return replace(outlet, address=address)


@pytest.mark.parametrize("kind", SNMP_OUTLETS)
async def test_a_cycle_at_a_pdu_of_snmpsim(pdu: str, kind: str) -> None:
    outlet = at(SNMP_OUTLETS[kind], pdu)
    async with closing(open_outlet(outlet)) as driver:
        assert (await driver.identify()).id == f"screen {outlet.outlet}"
        assert (await driver.status()).is_on
        await driver.off()
        assert (await driver.status()).is_off
        await driver.on()
        cycle = await whole_cycle(driver, min_off=0.1)
        assert cycle.fault is None
        assert (await driver.status()).is_on


@pytest.mark.parametrize(
    ("changes", "verb", "fault"),
    [
        ({"outlet": "99"}, "status", PowerFault.UNSUPPORTED),
        ({"outlet": "99"}, "off", PowerFault.UNSUPPORTED),
        ({"outlet": "4"}, "off", PowerFault.REFUSED),
        ({"secret": "wrong"}, "status", PowerFault.NO_ANSWER_OR_BAD_CREDENTIALS),
        ({"driver": "raritan", "outlet": "8"}, "identify", PowerFault.UNSUPPORTED),
        (
            {"username": V3["user"], "secret": "wrongpass123", "options": {"context": COMMUNITY}},
            "status",
            PowerFault.BAD_CREDENTIALS,
        ),
        ({"username": "nobody9", "secret": "authpass123"}, "status", PowerFault.BAD_CREDENTIALS),
    ],
)
async def test_what_a_pdu_does_not_grant_is_told_apart(
    pdu: str, changes: dict[str, object], verb: str, fault: PowerFault
) -> None:
    outlet = replace(at(SNMP_OUTLETS["apc"], pdu), **changes)
    driver = open_outlet(outlet)
    assert await fault_of(driver, verb) is fault


# --- Redfish: sushy-emulator


@pytest.fixture(scope="module")
def bmc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sushy_emulator(tmp_path_factory.mktemp("sushy")) as address:
        outlet = Outlet(driver="redfish", address=address, username="admin", secret="secret")
        asyncio.run(_until_ready(outlet))
        yield address


@pytest.mark.slow
async def test_a_cycle_at_a_bmc_of_sushy_emulator_that_takes_seconds_for_each_step(bmc: str) -> None:
    outlet = Outlet(driver="redfish", address=bmc, username="admin", secret="secret")
    async with closing(open_outlet(outlet)) as driver:
        assert (await driver.identify()).id == SYSTEM_UUID
        cycle = await whole_cycle(driver, min_off=0.5, off_within=50, poll=1.0)
        assert cycle.fault is None
        assert (await driver.status()).is_on


async def test_a_bmc_that_refuses(bmc: str) -> None:
    wrong = Outlet(driver="redfish", address=bmc, username="admin", secret="nope")
    assert await fault_of(open_outlet(wrong)) is PowerFault.BAD_CREDENTIALS
    other = Outlet(driver="redfish", address=bmc, username="admin", secret="secret", outlet="blade-7")
    assert await fault_of(open_outlet(other)) is PowerFault.UNSUPPORTED


# --- IPMI: OpenIPMI's simulator


@pytest.fixture(scope="module")
def chassis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chassis]:
    require("ipmitool")
    with ipmi_sim(tmp_path_factory.mktemp("ipmi")) as running:
        asyncio.run(_until_ready(ipmi(running)))
        yield running


def ipmi(chassis: Chassis, **more: object) -> Outlet:
    plain = {"address": chassis.address, "username": chassis.user, "secret": chassis.password}
    return Outlet(**{"driver": "ipmi", **plain, **more})


async def test_a_chassis_of_ipmi_sim_is_identified_read_and_switched(chassis: Chassis) -> None:
    driver = open_outlet(ipmi(chassis))
    assert re.fullmatch(r"[0-9a-f-]{36}", (await driver.identify()).id or "")
    assert (await driver.status()).is_on
    await driver.off()
    assert chassis.power.read_text().strip() == "0"
    assert (await driver.status()).is_off
    await driver.on()
    assert (await driver.status()).is_on


async def test_a_chassis_does_not_tell_a_wrong_password_from_silence(chassis: Chassis) -> None:
    driver = open_outlet(ipmi(chassis, secret="wrong"))
    assert await fault_of(driver) is PowerFault.NO_ANSWER_OR_BAD_CREDENTIALS


async def test_the_password_of_a_chassis_is_in_no_process_list(chassis: Chassis) -> None:
    driver = Ipmi(ipmi(chassis, secret="s3cretword"))
    assert "s3cretword" not in " ".join(driver._arguments)
    assert "lanplus" in driver._arguments


@pytest.mark.parametrize("options", [{"cipher": "0"}, {"level": "CALLBACK"}])
def test_weak_ipmi_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(PowerError) as raised:
        open_outlet(Outlet(driver="ipmi", address="10.0.0.5", secret="x", options=options))
    assert raised.value.fault is PowerFault.BAD_CONFIGURATION


# --- programs of the customer's own


def program(directory: Path, text: str, mode: int = 0o755) -> Outlet:
    path = directory / "outlet.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return Outlet(
        driver="command",
        address="rack; rm -rf /",
        outlet="$(id)",
        secret="pw",
        options={"program": str(path)},
    )


async def test_a_program_is_run_without_a_shell_and_without_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "ours")
    outlet = program(
        tmp_path,
        f'env >{tmp_path}/env; echo "$#:$1" >>{tmp_path}/calls; [ "$1" = status ] && echo "off 0.4"; exit 0',
    )
    driver = open_outlet(outlet)
    reading = await driver.status()
    assert (reading.state, reading.watts) == (PowerState.OFF, 0.4)
    await driver.off()
    assert (tmp_path / "calls").read_text() == "1:status\n1:off\n"
    environment = (tmp_path / "env").read_text()
    assert "INFOSCREEN_OUTLET=$(id)" in environment
    assert "INFOSCREEN_ADDRESS=rack; rm -rf /" in environment
    assert "MQTT_PASSWORD" not in environment


@pytest.mark.parametrize(
    ("text", "mode", "fault"),
    [
        ("exit 3", 0o755, PowerFault.BAD_CREDENTIALS),
        ("exit 4", 0o755, PowerFault.UNSUPPORTED),
        ("echo no good >&2; exit 1", 0o755, PowerFault.BAD_ANSWER),
        ("echo maybe", 0o755, PowerFault.BAD_ANSWER),
        ("echo on many", 0o755, PowerFault.BAD_ANSWER),
        ("echo on", 0o777, PowerFault.BAD_CONFIGURATION),
        ("echo on", 0o644, PowerFault.MISSING_PROGRAM),
        ("exec head -c 10000000 /dev/zero", 0o755, PowerFault.BAD_ANSWER),
    ],
)
async def test_a_program_that_fails(tmp_path: Path, text: str, mode: int, fault: PowerFault) -> None:
    assert await fault_of(open_outlet(program(tmp_path, text, mode))) is fault


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_program_that_belongs_to_somebody_else_is_not_run(tmp_path: Path) -> None:
    outlet = program(tmp_path, f"touch {tmp_path}/ran; echo on")
    os.chown(outlet.options["program"], 12_345, -1)
    assert await fault_of(open_outlet(outlet)) is PowerFault.BAD_CONFIGURATION
    assert not (tmp_path / "ran").exists()


def _has_ended(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_a_program_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infoscreen.power.command.SECONDS", 0.2)
    assert await fault_of(open_outlet(program(tmp_path, "sleep 600"))) is PowerFault.NO_ANSWER


@pytest.mark.parametrize("early", [False, True])
async def test_a_program_and_its_children_are_killed_when_nobody_waits_any_more(
    tmp_path: Path, early: bool
) -> None:
    outlet = program(tmp_path, f"sleep 600 & echo $! >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait")
    waiting = asyncio.create_task(open_outlet(outlet).status())
    if early:
        # While it is being started: the loop runs only when the program has run for a while.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _ in range(200):
            if (tmp_path / "pid").exists():
                break
            time.sleep(0.01)  # noqa: ASYNC251
    child = int(await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: _has_ended(child))


async def test_a_program_that_is_not_there() -> None:
    outlet = Outlet(driver="command", address="", options={"program": "/nonexistent/outlet"})
    assert await fault_of(open_outlet(outlet)) is PowerFault.MISSING_PROGRAM
    for path in ("", "relative/outlet"):
        with pytest.raises(PowerError):
            open_outlet(Outlet(driver="command", address="", options={"program": path}))


# --- Wake-on-LAN


async def test_three_magic_packets_are_sent() -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()

    class Listener(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            received.put_nowait(data)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Listener, local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        await wake(
            Outlet(
                driver="wake",
                address=f"127.0.0.1:{port}",
                outlet="52:54:00:12:34:56",
                secret="01:02:03:04:05:06",
                options={"source": "127.0.0.1"},
            )
        )
        async with asyncio.timeout(60):
            packets = {await received.get() for _ in range(3)}
    finally:
        transport.close()
    [packet] = packets
    assert packet == b"\xff" * 6 + bytes.fromhex("525400123456") * 16 + bytes.fromhex("010203040506")


@pytest.mark.parametrize("mac", ["", "52:54:00:12:34", "52:54:00:12:34:5g", "52:54:00:12:34:56:78"])
def test_what_is_no_mac_address_is_refused(mac: str) -> None:
    with pytest.raises(PowerError):
        magic_packet(mac)


# --- configurations


@pytest.mark.parametrize(
    "more",
    [
        {"secret": "geheim\u20ac"},
        {"secret": "geheim\u20acgeheim", "username": "u"},
        {"secret": "geheimgeheim", "username": "u", "options": {"context": "c" * 300}},
    ],
)
async def test_what_snmp_cannot_send_is_refused_without_telling_it(more: dict[str, Any]) -> None:
    driver = open_outlet(Outlet(driver="raritan", address="127.0.0.1:9", **more))
    async with closing(driver):
        with pytest.raises(PowerError) as raised:
            await driver.status()
    assert raised.value.fault is PowerFault.BAD_CONFIGURATION
    assert "geheim" not in "".join(format_exception(raised.value))


def test_a_name_that_is_no_text_is_a_bad_answer() -> None:
    with pytest.raises(PowerError) as raised:
        text_of(Integer32(3))
    assert raised.value.fault is PowerFault.BAD_ANSWER


@pytest.mark.parametrize("state", [[], {}, None, "1", 7])
async def test_a_state_of_no_known_kind_is_unknown(state: object) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"jsonrpc": "2.0", "id": 1, "result": {"_ret_": {"powerState": state}}})

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with serving_device(app) as address:
        driver = open_outlet(plain("raritan_json", address))
        async with closing(driver):
            assert (await driver.status()).state is PowerState.UNKNOWN


@pytest.mark.parametrize(
    "outlet",
    [
        Outlet(driver="telepathy", address="10.0.0.5"),
        *(Outlet(driver=name, address="http://user:pw@host/") for name in SMALL),
        *(Outlet(driver=name, address="10.0.0.5", outlet="1; reboot") for name in (*SMALL, "apc", "raritan")),
        *(Outlet(driver=name, address="ftp://10.0.0.5") for name in (*SMALL, "redfish")),
        Outlet(driver="shelly", address="10.0.0.5", outlet="0", options={"fingerprint": "zz"}),
        Outlet(driver="shelly", address="10.0.0.5", outlet="0", options={"fingerprint": "00"}),
        Outlet(driver="apc", address="10.0.0.5"),
        Outlet(driver="apc", address="10.0.0.5", secret="x", options={"family": "zpdu"}),
        Outlet(driver="apc", address="10.0.0.5", secret="short", username="u"),
        Outlet(driver="apc", address="10.0.0.5/x", secret="x"),
        Outlet(driver="ipmi", address="-H", secret="x"),
        Outlet(driver="redfish", address="10.0.0.5", username="a:b", secret="x"),
        Outlet(driver="raritan_json", address="10.0.0.5", username="a:b", secret="x"),
        Outlet(driver="command", address="10.0.0.5", options={"program": "/bin/tr\0ue"}),
        Outlet(driver="ipmi", address="10.0.0.5"),
    ],
    ids=repr,
)
def test_a_configuration_that_makes_no_sense_is_refused(outlet: Outlet) -> None:
    with pytest.raises(PowerError) as raised:
        open_outlet(outlet)
    assert raised.value.fault is PowerFault.BAD_CONFIGURATION


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_driver_has_all_that_a_driver_needs(driver: str) -> None:
    for verb in ("identify", "status", "off", "on", "close"):
        assert asyncio.iscoroutinefunction(getattr(DRIVERS[driver], verb))
