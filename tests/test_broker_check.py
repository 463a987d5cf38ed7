"""``infoscreen broker check``: right on the shipped files, and it finds whatever is broken in them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infoscreen.mqtt.connection import BrokerAddress, TlsSettings
from infoscreen.provisioning.acl_check import REPORTS, ROLES, Cell, Operation, check
from infoscreen.wire import topics
from tests import brokers
from tests.broker import Broker
from tests.commands import CommandLine
from tests.programs import find_free_port

pytestmark = pytest.mark.broker


@pytest.fixture(params=brokers.programs())
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """Yield a broker of either version, with both listeners, that does not run yet."""
    program = brokers.program(request.param)
    broker = Broker(tmp_path / "broker", find_free_port(), devices_port=find_free_port(), program=program)
    try:
        yield broker
    finally:
        await broker.stop()


async def findings(site: Broker) -> list[Cell]:
    assert site.authority is not None
    assert site.devices_port is not None
    server = BrokerAddress("127.0.0.1", site.port, None, None, "")
    devices = BrokerAddress(
        "localhost", site.devices_port, None, None, "", TlsSettings(site.authority.bundle)
    )
    return await check(server, devices, site.passwords)


async def test_the_shipped_files_are_right_in_every_cell(site: Broker) -> None:
    await site.start()
    found = await findings(site)
    assert [one for one in found if not one.is_right] == []
    cells = {(one.role, one.topic, one.operation) for one in found}
    assert len(cells) == len(found)
    every = {
        *topics.all_of("infoscreen-check-1"),
        *(t.replace("+", "infoscreen-check-1") for t in topics.COMMAND_FILTERS),
    }
    assert {topic for _, topic, operation in cells if operation is Operation.PUBLISH} == every
    assert len(found) == len(ROLES) * (2 * len(every) + 2) + 3
    assert sum(one.expected for one in found if one.role == "device") == len(REPORTS) + 2


BROKEN_ACL = {
    "pattern write infoscreen/%u/commands": ("device", "publish"),
    "pattern readwrite infoscreen/%u/#": ("device", "publish"),
    "pattern read infoscreen/%u/#": ("device", "read"),
    "pattern read infoscreen/+/commands": ("another device", "read"),
    "pattern write infoscreen/+/heartbeat": ("another device", "publish"),
    "pattern write infoscreen/+/command/ack": ("another device", "publish"),
    "pattern read infoscreen/+/logs/#": ("another device", "read"),
    "pattern read $SYS/#": ("device", "read"),
    "pattern readwrite #": ("another device", "publish"),
    "user infoscreen-probe\ntopic write infoscreen/+/commands": ("probe", "publish"),
    "user infoscreen-checklist\ntopic write infoscreen/+/commands": ("checklist", "publish"),
    "user infoscreen-monitor\ntopic read infoscreen/+/screenshot": ("monitor", "read"),
    "user infoscreen-monitor\ntopic read $SYS/#": ("monitor", "read"),
    "user infoscreen-server\ntopic write infoscreen/+/heartbeat": ("server", "publish"),
}
"""A line that is added, and who can then do what it must not."""


@pytest.mark.parametrize("line", BROKEN_ACL)
async def test_a_rule_too_much_is_found(tmp_path: Path, line: str) -> None:
    broker = Broker(tmp_path / "broker", find_free_port(), devices_port=find_free_port())
    with broker.files.acl.open("a") as acl:
        acl.write(f"\n{line}\n")
    async with broker.running():
        wrong = {(one.role, one.operation.value) for one in await findings(broker) if not one.is_right}
    assert BROKEN_ACL[line] in wrong


def rules() -> list[str]:
    text = (Path(__file__).parent.parent / "mosquitto" / "acl").read_text()
    device = [line for line in text.splitlines() if line.startswith("pattern ")]
    server = text.partition("user infoscreen-server\n")[2].partition("\n\n")[0].splitlines()
    return [*device, *server]


@pytest.mark.slow
@pytest.mark.parametrize("line", rules())
async def test_a_rule_too_few_is_found(tmp_path: Path, line: str) -> None:
    broker = Broker(tmp_path / "broker", find_free_port(), devices_port=find_free_port())
    text = broker.files.acl.read_text()
    broker.files.acl.write_text(text.replace(f"{line}\n", "", 1))
    async with broker.running():
        assert [one for one in await findings(broker) if not one.is_right]


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ("allow_anonymous false", "allow_anonymous true", ("nobody", "connect")),
        ("acl_file", "# no ACL", ("another device", "publish")),
        ("use_username_as_clientid true", "use_username_as_clientid false", ("another device", "connect")),
    ],
)
async def test_a_broken_configuration_is_found(
    site: Broker, before: str, after: str, wrong: tuple[str, str]
) -> None:
    lines = site.files.rules.read_text().splitlines()
    changed = [after if line.startswith(before) else line for line in lines]
    assert changed != lines
    site.files.rules.write_text("\n".join(changed) + "\n")
    await site.start()
    assert wrong in {(one.role, one.operation.value) for one in await findings(site) if not one.is_right}


async def test_a_drop_in_that_lets_everybody_in_is_found(site: Broker) -> None:
    """The last file that says it counts for all listeners; that of devices wants a user name in any case."""
    (site.files.rules.parent / "zz.conf").write_text("allow_anonymous true\n")
    await site.start()
    wrong = [one for one in await findings(site) if not one.is_right]
    assert [(one.role, one.topic) for one in wrong] == [("nobody", f"127.0.0.1:{site.port}")]


async def test_a_reload_that_fails_open_is_found(site: Broker) -> None:
    await site.start()
    site.files.acl.unlink()
    await site.reload()
    wrong = {(one.role, one.operation.value) for one in await findings(site) if not one.is_right}
    assert ("another device", "publish") in wrong


async def test_the_command_prints_the_matrix_and_its_exit_code_tells(
    site: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.start()
    line = CommandLine(tmp_path, monkeypatch)

    async def run(*words: str) -> tuple[int | None, bytes]:
        process = await line.start("broker", "check", "--directory", str(site.files.path), *words)
        out, err = await process.communicate()
        return process.returncode, out or err

    code, out = await run("--json")
    assert code == 0
    said: list[dict[str, Any]] = json.loads(out)
    assert {
        "role": "device",
        "topic": "infoscreen/infoscreen-check-1/commands",
        "operation": "publish",
        "expected": False,
        "observed": False,
    } in said
    with site.files.acl.open("a") as acl:
        acl.write("\npattern write infoscreen/%u/commands\n")
    await site.reload()
    code, out = await run("--differences")
    assert code == 1
    assert b"DIFFERS" in out
    assert out.count(b"\n") == 2
