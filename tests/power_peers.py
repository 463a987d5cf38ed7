"""Simulators of power hardware that others wrote: OpenIPMI's ``ipmi_sim``, snmpsim, and sushy-emulator."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from infoscreen.domain.errors import PowerError
from infoscreen.services.ports import PowerDriver
from tests.programs import find_free_port, require
from tests.waiting import DEADLINE_SECONDS

COMMUNITY = "pdu"
V3 = {"user": "signage", "secret": "authpass123", "privacy_secret": "privpass123"}
"""snmpsim serves the same data under the name of the community as a context."""

OUTLET_MODULE = '''
"""Outlets of a PDU for snmpsim: what is written to the control column shows in the state column."""
from pysnmp.proto.rfc1902 import Integer32
from pysnmp.smi.error import NotWritableError

relays = {}

def init(**context):
    pass

def variate(oid, tag, value, **context):
    """``value`` is ROLE:ON:OFF, with the numbers of this column; the outlet is the last part of the name."""
    if not context["nextFlag"] and not context["exactMatch"]:
        return context["origOid"], tag, context["errorStatus"]
    role, on, off = value.split(":")
    outlet = oid[-1]
    if role == "locked" and context["setFlag"]:
        raise NotWritableError(name=oid, idx=0)
    if role == "control" and context["setFlag"]:
        wanted = int(context["origValue"])
        if wanted in (int(on), int(off)):
            relays[outlet] = wanted == int(on)
        return oid, tag, Integer32(wanted)
    if role == "pending":
        return oid, tag, Integer32(2)
    return oid, tag, Integer32(int(on if relays.get(outlet, True) else off))

def shutdown(**context):
    pass
'''

POWERNET, PDU2 = "1.3.6.1.4.1.318.1.1", "1.3.6.1.4.1.13742.6"
RECORDS = [
    # APC rPDU: outlet 3 switches, outlet 4 is locked against writing.
    f"{POWERNET}.12.3.3.1.1.4.3|2:outlet|control:1:2",
    f"{POWERNET}.12.3.3.1.1.4.4|2:outlet|locked:1:2",
    f"{POWERNET}.12.3.5.1.1.2.3|4|screen 3",
    f"{POWERNET}.12.3.5.1.1.2.4|4|screen 4",
    f"{POWERNET}.12.3.5.1.1.4.3|2:outlet|state:1:2",
    f"{POWERNET}.12.3.5.1.1.4.4|2|1",
    f"{POWERNET}.12.3.5.1.1.5.3|2:outlet|pending:1:2",
    f"{POWERNET}.12.3.5.1.1.5.4|2|2",
    # APC rPDU2, whose state says 1 for off: outlet 5.
    f"{POWERNET}.26.9.2.3.1.3.5|4|screen 5",
    f"{POWERNET}.26.9.2.3.1.5.5|2:outlet|state:2:1",
    f"{POWERNET}.26.9.2.3.1.6.5|2:outlet|pending:2:1",
    f"{POWERNET}.26.9.2.4.1.5.5|2:outlet|control:1:2",
    # Raritan: outlet 7 switches, outlet 8 cannot.
    f"{PDU2}.3.5.3.1.3.1.7|4|screen 7",
    f"{PDU2}.3.5.3.1.3.1.8|4|fixed",
    f"{PDU2}.3.5.3.1.28.1.7|2|1",
    f"{PDU2}.3.5.3.1.28.1.8|2|2",
    f"{PDU2}.4.1.2.1.2.1.7|2:outlet|control:1:0",
    f"{PDU2}.4.1.2.1.3.1.7|2:outlet|state:7:8",
]


@contextmanager
def _process(command: list[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def find_free_udp_port() -> int:
    """Return a UDP port on loopback that nobody uses."""
    while True:
        port = find_free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


async def until_it_answers(driver: PowerDriver) -> None:
    """Return when a simulator that was just started answers."""
    async with asyncio.timeout(3 * DEADLINE_SECONDS):
        while True:
            try:
                await driver.status()
            except PowerError:
                await asyncio.sleep(0.1)
            else:
                return


@contextmanager
def snmpsim(directory: Path) -> Iterator[str]:
    """Run snmpsim with the outlets of ``RECORDS``; yield its address."""
    port = find_free_udp_port()
    records, modules, cache = (directory / name for name in ("data", "modules", "cache"))
    for one in (records, modules, cache):
        one.mkdir(parents=True)
    ordered = sorted(RECORDS, key=lambda line: tuple(map(int, line.split("|")[0].split("."))))
    (records / f"{COMMUNITY}.snmprec").write_text("\n".join(ordered) + "\n")
    (modules / "outlet.py").write_text(OUTLET_MODULE)
    command = [
        *(sys.executable, "-m", "snmpsim.commands.responder", f"--data-dir={records}"),
        *(f"--cache-dir={cache}", f"--variation-modules-dir={modules}"),
        *(f"--agent-udpv4-endpoint=127.0.0.1:{port}", f"--v3-user={V3['user']}"),
        *(f"--v3-auth-key={V3['secret']}", "--v3-auth-proto=SHA", f"--v3-priv-key={V3['privacy_secret']}"),
        "--v3-priv-proto=AES",
    ]
    if os.geteuid() == 0:
        command += ["--process-user=root", "--process-group=root"]
    with _process(command, directory / "snmpsim.log"):
        yield f"127.0.0.1:{port}"


@dataclass(frozen=True)
class Chassis:
    """A BMC of ``ipmi_sim``; its power is a file, which a script of ours writes and reads."""

    address: str
    power: Path

    user = "ipmiusr"
    password = "testpw"


CHASSIS_SCRIPT = """#!/bin/sh
# ipmi_sim calls it as: chassis.sh [options] get|set power [value]
state={power}
while [ $# -gt 0 ]; do
    case $1 in
        get) shift; [ "$1" = power ] && echo "power:$(cat $state)"; exit 0 ;;
        set)
            shift
            while [ $# -ge 2 ]; do [ "$1" = power ] && echo "$2" >$state; shift 2; done
            exit 0 ;;
    esac
    shift
done
"""

LAN = """name "player"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{script} player"
  user 1 true "" "test" user 10 none md2 md5 straight
  user 2 true "ipmiusr" "testpw" admin 10 none md2 md5 straight
"""

EMULATION = """mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
mc_enable 0x20
"""


@contextmanager
def ipmi_sim(directory: Path) -> Iterator[Chassis]:
    """Run OpenIPMI's simulator of a BMC."""
    program = require("ipmi_sim")
    port = find_free_udp_port()
    directory.mkdir(parents=True, exist_ok=True)
    power, script = directory / "power", directory / "chassis.sh"
    power.write_text("1\n")
    script.write_text(CHASSIS_SCRIPT.format(power=power))
    script.chmod(0o755)
    (directory / "lan.conf").write_text(LAN.format(port=port, script=script))
    (directory / "sim.emu").write_text(EMULATION)
    (directory / "state").mkdir()
    command = [
        *(program, "-n", "-c", str(directory / "lan.conf"), "-f", str(directory / "sim.emu")),
        *("-s", str(directory / "state")),
    ]
    with _process(command, directory / "ipmi_sim.log"):
        yield Chassis(f"127.0.0.1:{port}", power)


SYSTEM_UUID = "27946b59-9e44-4fa7-8e91-f3527a1ef094"

SUSHY = """
SUSHY_EMULATOR_LISTEN_IP = "127.0.0.1"
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_FAKE_DRIVER = True
SUSHY_EMULATOR_AUTH_FILE = "{passwords}"
SUSHY_EMULATOR_STATE_DIR = "{state}"
SUSHY_EMULATOR_FAKE_SYSTEMS = [
    {{"uuid": "{uuid}", "name": "player", "power_state": "On", "external_notifier": False, "nics": []}}
]
"""


@contextmanager
def sushy_emulator(directory: Path) -> Iterator[str]:
    """Run OpenStack's simulator of a Redfish BMC, with the user ``admin`` and the password ``secret``."""
    import bcrypt

    port = find_free_port()
    directory.mkdir(parents=True, exist_ok=True)
    passwords, state, config = (directory / name for name in ("passwords", "state", "sushy.conf"))
    state.mkdir()
    passwords.write_text(f"admin:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    config.write_text(SUSHY.format(port=port, passwords=passwords, state=state, uuid=SYSTEM_UUID))
    with _process(
        [sys.executable, "-m", "sushy_tools.emulator.main", "--config", str(config)], directory / "sushy.log"
    ):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def closing(driver: PowerDriver) -> AsyncIterator[PowerDriver]:
    """Close a driver at the end."""
    try:
        yield driver
    finally:
        await driver.close()
