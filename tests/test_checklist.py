"""The restart validation checklist, followed to the letter: against the demo, and once without its broker."""

import shutil
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from tests.broker import Broker
from tests.daemon import installed
from tests.pages import demo_env, page, require_infoscreen, shell, steps, way_in
from tests.programs import find_free_port, require
from tests.test_demo import demo

pytestmark = [pytest.mark.broker, pytest.mark.slow]

CHECKLIST = "RESTART_VALIDATION_CHECKLIST.md"
CANCEL = "9. Cancel"


@pytest.fixture(autouse=True)
def _programs() -> None:
    for program in ("curl", "jq", "mosquitto_pub", "mosquitto_sub"):
        require(program)
    require_infoscreen()


@pytest.mark.timeout(600)
async def test_every_step_but_the_cancelling_prints_on_the_demo_what_the_page_says(tmp_path: Path) -> None:
    kept, desk = tmp_path / "kept", tmp_path / "desk"
    desk.mkdir()
    told = [step for step in steps(page(CHECKLIST)) if step.section != CANCEL]
    assert [section[:2] for section in dict.fromkeys(step.section for step in told)] == [
        *("0.", "1.", "2.", "3.", "4.", "5.", "6.", "7.", "8.", "10", "11"),
    ]
    async with demo(tmp_path, "--directory", str(kept)) as running:
        assert stat.S_IMODE((kept / "demo.env").stat().st_mode) == 0o600
        shutil.copy(kept / "demo.env", desk / "check.env")
        async with shell(desk) as typing:
            await typing.follow(told)
        assert [path.name for path in desk.iterdir() if path.name != ".block.sh"] == []
        assert "broker_unavailable" not in (kept / "daemon.log").read_text(encoding="utf-8")
        log = (kept / "broker" / "mosquitto.log").read_text(encoding="utf-8")
        assert "closing old connection" not in log
        assert await running.end() == 0


@pytest.mark.parametrize("listener", ["devices", "server"])
async def test_what_the_checklist_does_at_the_broker_costs_a_stopped_daemon_nothing(
    tmp_path: Path, listener: str
) -> None:
    broker = Broker(tmp_path / "broker", find_free_port(), devices_port=find_free_port())
    hand = str(uuid4())
    await broker.add_device(hand)
    assert broker.authority is not None
    secured = {
        "BROKER_HOST": "localhost",
        "BROKER_PORT": str(broker.devices_port),
        "BROKER_TLS": f"--cafile {broker.authority.bundle}",
    }
    environment = {
        **way_in(broker),
        **(secured if listener == "devices" else {}),
        "TOKEN": "none",
        "HAND": hand,
        "HAND_PASSWORD": broker.passwords[hand],
    }
    (tmp_path / "check.env").write_text("".join(f"{name}='{value}'\n" for name, value in environment.items()))
    heartbeat = f"infoscreen/{hand}/heartbeat"
    sessions = ("infoscreen-server", "infoscreen-server-bulk")
    await broker.start()
    try:
        for session in sessions:
            async with broker.sub(heartbeat, account=broker.server_user, session=session):
                pass
        preparation = [step for step in steps(page(CHECKLIST)) if step.section.startswith("0.")]
        async with shell(tmp_path) as typing:
            await typing.follow(preparation)
            await typing.type(f'say heartbeat -m one; listen "{hand}"')
            await typing.type('say commands/ack -m \'{"status": "accepted"}\'')
            assert await typing.type('heard "$HAND"') == "0 commands/ack accepted\n"
            await typing.type("say service_failed -r -m kept; say heartbeat -m two")
            left = 'server -t "infoscreen/$HAND/service_failed" --retained-only -W 2'
            assert (await typing.type(left)).startswith("kept\n")
        for session in sessions:
            async with broker.sub(heartbeat, account=broker.server_user, session=session) as daemon:
                assert [(await daemon.next()).payload for _ in range(2)] == [b"one", b"two"]
    finally:
        await broker.stop()


async def test_the_cancelling_prints_what_the_page_says_when_the_broker_is_stopped(
    tmp_path: Path, broker: Broker
) -> None:
    desk, hand = tmp_path / "desk", str(uuid4())
    desk.mkdir()
    await broker.add_device(hand)
    again = f"{require('mosquitto')} -c {broker.config} >/dev/null 2>&1 &"  # ends with the shell
    told = steps(page(CHECKLIST))
    async with installed(tmp_path / "daemon", broker, CRASH_RECOVERY_POLL_SECONDS=0.2) as daemon:
        await daemon.start()
        environment = demo_env(daemon, broker, hand, BROKER_STOP=f"kill {broker.pid}", BROKER_START=again)
        (desk / "check.env").write_text(environment, encoding="utf-8")
        async with shell(desk) as typing:
            preparation = [step for step in told if step.section.startswith("0.")]
            the_hand = [step for step in told if "say heartbeat" in step.script][:1]
            await typing.follow([*preparation, *the_hand])
            await typing.follow([step for step in told if step.section == CANCEL])
