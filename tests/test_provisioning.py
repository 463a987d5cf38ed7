"""``infoscreen broker``: the broker's files and the accounts of devices."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import click.testing
import pytest

from infoscreen.agent.settings import load as load_agent
from infoscreen.cli import cli
from infoscreen.domain.errors import ProvisioningError
from infoscreen.provisioning import broker_process, devices, enrolment
from infoscreen.provisioning.broker_files import (
    OWN_ACCOUNTS,
    SERVER_ACCOUNT,
    BrokerFiles,
    Listeners,
    listeners_of,
    write_broker,
)
from infoscreen.provisioning.enrolment import DeviceAccess, Enrolment
from infoscreen.provisioning.passwords import fits, is_hash, password_line
from infoscreen.resources import resource
from tests import brokers
from tests.broker import Broker, RefusedByBroker
from tests.programs import find_free_port, require
from tests.waiting import until

CHECKOUT = Path(__file__).parent.parent
DEVICE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER = "9b2c1d4e-7a66-4f0e-8d51-6c1b2a3f4e5d"


@pytest.fixture
def place(tmp_path: Path) -> BrokerFiles:
    """Return the files of a private broker that does not run."""
    files = BrokerFiles(tmp_path / "broker")
    write_broker(files, resource("mosquitto"), Listeners(devices=None), None)
    return files


@pytest.fixture(params=brokers.programs())
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """Yield a running broker with a listener for devices, of either version."""
    ports = find_free_port(), find_free_port()
    program = brokers.program(request.param)
    broker = Broker(tmp_path / "broker", ports[0], devices_port=ports[1], program=program)
    async with broker.running():
        yield broker


def run(*words: str | Path, code: int = 0) -> click.testing.Result:
    done = click.testing.CliRunner().invoke(cli, list(map(str, words)))
    assert done.exit_code == code, done.output
    return done


# Passwords.


def test_a_hash_is_one_that_mosquitto_passwd_writes(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    subprocess.run([require("mosquitto_passwd"), "-b", "-c", file, DEVICE, "secret"], check=True)
    theirs = file.read_text()
    assert fits(theirs, "secret")
    assert not fits(theirs, "guessed")
    ours = password_line(DEVICE, "secret")
    assert [len(part) for part in ours.split("$")] == [len(part) for part in theirs.split("$")]


@pytest.mark.parametrize(
    "line",
    ["", "name", "name:", "name:plain", "name:$6$1$aa$bb", "name:$7$101$c2FsdA==$aGFzaA==", ":$7$1$a$b"],
)
def test_a_broken_line_is_no_hash(line: str) -> None:
    assert not is_hash(line)
    assert not fits(line, "")


# Lists of devices.


@pytest.mark.parametrize(
    "text",
    [
        f"{DEVICE}\n{OTHER}\n",
        f"{DEVICE}\r\n{OTHER}",
        f"\ufeff{DEVICE}\n\n# a remark\n{OTHER}\n",
        f"uuid\n{DEVICE}\n{OTHER}\n",
        f"name,uuid,site\nLobby,{DEVICE},Berlin\nBar,{OTHER},Bonn\n",
        f"UUID;Name\n{DEVICE};Lobby\n{OTHER};Bar\n",
        f"{DEVICE.upper()},Lobby\n{OTHER.replace('-', '')},Bar\n",
        f'"uuid","name"\n"{DEVICE}","Lobby, left"\n"{OTHER}","Bar"\n',
        f"uuid\tname\n{DEVICE}\tLobby\n{OTHER}\tBar\n",
    ],
)
def test_a_list_is_read_in_any_of_the_usual_forms(text: str) -> None:
    assert devices.read_devices(text) == [DEVICE, OTHER]


@pytest.mark.parametrize(
    "text", [f"{DEVICE}\nnonsense\n", f"name,uuid\nLobby,{DEVICE}\nBar\n", "+\n", "a:b\n"]
)
def test_a_list_with_a_line_that_has_no_uuid_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(ProvisioningError, match=r"line \d has no UUID"):
        devices.read_devices(text)


# Files.


def test_init_keeps_accounts_and_passwords_when_it_is_run_again(tmp_path: Path) -> None:
    words = ("broker", "init", tmp_path / "b", "--name", "broker.example")
    run(*words)
    place = BrokerFiles(tmp_path / "b")
    run("broker", "add-device", "--directory", place.path, DEVICE)
    before = {path: path.read_bytes() for path in (place.passwords, place.acl, place.rules, place.config)}
    secrets = {account: place.password(account) for account in OWN_ACCOUNTS}
    run(*words)
    assert {path: path.read_bytes() for path in before} == before
    assert all(fits(place.accounts().read()[account], secret) for account, secret in secrets.items())
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (place.passwords, place.acl, place.secrets)
    }
    assert modes == {"infoscreen.passwd": 0o600, "infoscreen.acl": 0o600, "infoscreen-accounts": 0o700}
    assert broker_process.faults(place) == []


def test_an_upgrade_keeps_what_the_broker_opens_and_under_which_name(tmp_path: Path) -> None:
    ports = ("--port", "9883", "--server-port", "2883", "--server-listener", "9884")
    migration = ("--migration-address", "10.0.0.1", "--migration-address", "10.0.1.1")
    run("broker", "init", tmp_path / "b", "--name", "broker.example", *ports, *migration)
    place = BrokerFiles(tmp_path / "b")
    files = (place.rules, place.server_listener, place.migration, place.devices)
    before = {path: path.read_bytes() for path in files}
    run("broker", "init", tmp_path / "b", "--refresh")
    assert {path: path.read_bytes() for path in files} == before
    assert "remote_server=9884" in repr(listeners_of(place))
    said = run("broker", "init", tmp_path / "b", "--refresh", "--name", "new.example").stderr
    assert "not valid for new.example, which devices will refuse" in said
    assert "pki issue-server new.example broker.example localhost 127.0.0.1" in said
    assert place.device_access().host == "new.example"
    assert place.rules.read_bytes() == before[place.rules]


def test_init_repairs_an_account_of_ours_that_is_missing_or_differs(place: BrokerFiles) -> None:
    with place.accounts().editing() as lines:
        del lines[SERVER_ACCOUNT]
    (place.secrets / "infoscreen-probe").write_text("another\n")
    write_broker(place, resource("mosquitto"), Listeners(devices=None), None)
    lines = place.accounts().read()
    assert all(fits(lines[account], place.password(account)) for account in OWN_ACCOUNTS)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
@pytest.mark.broker
@pytest.mark.parametrize("name", brokers.programs())
async def test_beside_debians_configuration_no_broker_complains_about_owner_and_mode(
    tmp_path: Path, name: str
) -> None:
    home, state = _debians(tmp_path)
    ports = find_free_port(), find_free_port()
    run(*("broker", "init", home, "--server-port", str(ports[0]), "--port", str(ports[1])))
    place = BrokerFiles(home)
    assert broker_process.faults(place) == []
    broker = Broker.existing(place, ports[0], brokers.program(name), log=state / "mosquitto.log")
    async with broker.running():
        await broker.add_device(DEVICE)
        await broker.reload()
        assert [
            line for line in broker.log.splitlines() if "Future versions" in line or "Error" in line
        ] == []
    place.acl.chmod(0o640)
    assert "can be read by others" in broker_process.faults(place)[0]
    os.chown(place.acl, 0, 0)
    place.acl.chmod(0o600)
    assert "does not belong to the broker" in broker_process.faults(place)[0]


def _debians(path: Path) -> tuple[Path, Path]:
    """Return the directories of a broker as Debian installs it; it runs as the user mosquitto."""
    for one in (path, *path.parents):
        if one == Path(tempfile.gettempdir()):
            break
        one.chmod(0o755)
    home, state = path / "etc", path / "var"
    (home / "conf.d").mkdir(parents=True)
    state.mkdir()
    shutil.chown(state, "mosquitto", "mosquitto")
    (home / "mosquitto.conf").write_text(
        f"pid_file {state}/mosquitto.pid\npersistence true\npersistence_location {state}/\n"
        f"log_dest file {state}/mosquitto.log\ninclude_dir {home}/conf.d\n"
    )
    return home, state


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read"),
        ("", "has no rule"),
        ("# only a remark\n", "has no rule"),
        ("user a\ntopic read", "line 2"),
        ("user a\ntopic infoscreen/#\n", "line 2"),
        ("usr a\n", "line 1"),
        ("user a b\n", "line 1"),
        ("\x00\x01", "line 1"),
    ],
)
def test_a_broken_acl_file_is_found_before_a_reload(
    place: BrokerFiles, content: str | None, fault: str
) -> None:
    place.acl.unlink()
    if content is not None:
        place.acl.touch(mode=0o600)
        place.acl.write_text(content)
    assert fault in broker_process.faults(place)[0]
    with pytest.raises(ProvisioningError, match="was not reloaded"):
        broker_process.reload(place)


def test_broken_and_doubled_accounts_are_found(place: BrokerFiles) -> None:
    with place.passwords.open("a") as file:
        file.write(f"{DEVICE}:plain\n{password_line(SERVER_ACCOUNT, 'x')}")
    assert [fault.partition(": ")[2] for fault in broker_process.faults(place)] == [
        "line 7 is broken, so its account is locked out",
        "1 accounts are there twice",
    ]


# Accounts.


def test_an_account_is_saved_only_after_its_password_was_handed_out(place: BrokerFiles) -> None:
    before = place.passwords.read_bytes()
    with pytest.raises(OSError, match="full"), devices.adding(place, [DEVICE]):
        raise OSError("full")
    assert place.passwords.read_bytes() == before
    with devices.adding(place, [DEVICE, DEVICE.upper()]) as added:
        pass
    assert fits(place.accounts().read()[DEVICE], added.passwords[DEVICE])
    with devices.adding(place, [DEVICE, OTHER]) as again:
        assert (list(again.passwords), again.known) == ([OTHER], (DEVICE,))


def test_many_who_provision_at_once_lose_no_account(place: BrokerFiles) -> None:
    groups = [[str(uuid4()) for _ in range(20)] for _ in range(6)]
    commands = [
        [sys.executable, "-m", "infoscreen", "broker", "add-device", "--directory", place.path, *group]
        for group in groups
    ]
    with ThreadPoolExecutor(len(groups)) as pool:
        done = list(pool.map(lambda one: subprocess.run(one, capture_output=True, cwd=CHECKOUT), commands))
    assert [one.returncode for one in done] == [0] * len(groups), done
    assert {one.uuid for one in devices.accounts(place)} == {uuid for group in groups for uuid in group}
    assert all(one.usable for one in devices.accounts(place))


@pytest.mark.parametrize("stage", range(6))
def test_killed_at_any_moment_it_leaves_a_file_that_the_broker_can_read(
    place: BrokerFiles, stage: int
) -> None:
    run("broker", "add-device", "--directory", place.path, DEVICE)
    before = place.accounts().read()
    wanted = "\n".join(str(uuid4()) for _ in range(3000))
    (place.path / "list").write_text(wanted)
    command = ["broker", "add-device", "--directory", place.path, "--from", place.path / "list"]
    process = subprocess.Popen(
        [sys.executable, "-m", "infoscreen", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=CHECKOUT,
    )
    assert process.stdout is not None
    if stage < 5:  # in the middle of what it prints, or at its end
        process.stdout.read(stage * 150_000)
        process.send_signal(signal.SIGKILL)
    process.communicate()
    after = place.accounts().read()
    assert {name: after[name] for name in before} == before
    assert len(after) in (len(before), len(before) + 3000)
    assert [fault for fault in broker_process.faults(place) if "broken" in fault] == []
    run("broker", "add-device", "--directory", place.path, OTHER)  # no lock is left behind


@pytest.mark.broker
async def test_5000_devices_from_a_list_are_one_reload(running: Broker, tmp_path: Path) -> None:
    wanted = [str(uuid4()) for _ in range(5000)]
    (tmp_path / "list.csv").write_text("uuid,name\n" + "".join(f"{uuid},Screen\n" for uuid in wanted))
    out = tmp_path / "out"
    words = ("--directory", running.files.path, "--from", tmp_path / "list.csv", "--output", out)
    run("broker", "add-device", *words)
    await until(lambda: running.log.count("Reloading config.") == 1)
    made = enrolment.read((out / f"{wanted[-1]}.enrol").read_text())
    running.passwords[made.uuid] = made.password
    await running.pub(f"infoscreen/{made.uuid}/heartbeat", b"{}")
    assert len(list(out.iterdir())) == 5000
    assert running.log.count("Reloading config.") == 1
    assert (out / f"{wanted[0]}.enrol").stat().st_mode & 0o077 == 0


@pytest.mark.broker
async def test_a_removed_device_is_cut_off_at_once_and_stays_out(running: Broker) -> None:
    await running.add_devices([DEVICE, OTHER])
    topic = f"infoscreen/{DEVICE}/commands"
    async with running.sub(topic, account=DEVICE, session=DEVICE) as device:
        run("broker", "remove-device", "--directory", running.files.path, DEVICE)
        with pytest.raises((RefusedByBroker, TimeoutError)):
            await device.next()  # it reconnects, and is refused
    with pytest.raises(RefusedByBroker, match="not authori"):
        await running.pub(f"infoscreen/{DEVICE}/heartbeat", b"{}")
    await running.pub(f"infoscreen/{OTHER}/heartbeat", b"{}")


@pytest.mark.broker
async def test_while_a_password_is_rotated_one_of_both_works_at_any_time(running: Broker) -> None:
    await running.add_devices([DEVICE, OTHER])
    directory = running.files.path
    done = run("broker", "rotate", "--directory", directory, DEVICE)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("AGENT_MQTT_PASSWORD_NEXT=")]
    old, new = running.passwords[DEVICE], line.partition("=")[2]
    heartbeat = f"infoscreen/{DEVICE}/heartbeat"

    async def works(password: str) -> bool:
        running.passwords[DEVICE] = password
        try:
            await running.pub(heartbeat, b"{}")
        except RefusedByBroker:
            return False
        return True

    assert [await works(old), await works(new)] == [True, False]
    assert [one.rotating for one in devices.accounts(running.files)] == [True, False]
    run("broker", "rotate", "--directory", directory, "--finish", DEVICE)
    await until(lambda: running.log.count("Reloading config.") == 2)
    assert [await works(old), await works(new)] == [False, True]
    await running.pub(f"infoscreen/{OTHER}/heartbeat", b"{}")
    run("broker", "rotate", "--directory", directory, "--finish", DEVICE, code=1)


def test_a_rotation_that_is_cancelled_changes_nothing(place: BrokerFiles) -> None:
    run("broker", "add-device", "--directory", place.path, DEVICE)
    before = place.passwords.read_bytes()
    run("broker", "rotate", "--all", "--directory", place.path)
    run("broker", "rotate", "--all", "--cancel", "--directory", place.path)
    run("broker", "rotate", "--all", "--finish", "--directory", place.path)
    assert place.passwords.read_bytes() == before


def test_a_new_password_is_handed_out_as_the_next_one_in_every_form(
    place: BrokerFiles, tmp_path: Path
) -> None:
    """As the present one it would lock the device out until the rotation is finished."""
    run("broker", "add-device", "--directory", place.path, DEVICE)
    rotate = ("broker", "rotate", DEVICE, "--directory", place.path)
    printed = run(*rotate).stdout
    run(*rotate, "--output", tmp_path / "env", "--format", "env")
    (told,) = json.loads(run(*rotate, "--json").stdout)
    for names in (
        {line.partition("=")[0] for line in printed.splitlines()},
        {line.partition("=")[0] for line in (tmp_path / "env" / f"{DEVICE}.env").read_text().splitlines()},
        set(told),
    ):
        assert "AGENT_MQTT_PASSWORD_NEXT" in names
        assert "AGENT_MQTT_PASSWORD" not in names


@pytest.mark.parametrize("step", ["--finish", "--cancel"])
def test_a_device_that_is_named_twice_ends_its_rotation_once(place: BrokerFiles, step: str) -> None:
    run("broker", "add-device", "--directory", place.path, DEVICE)
    run("broker", "rotate", DEVICE, "--directory", place.path)
    run("broker", "rotate", DEVICE, DEVICE.upper(), step, "--directory", place.path)
    assert [one.rotating for one in devices.accounts(place)] == [False]


# Migration.


def test_the_migration_opens_plain_listeners_and_close_plain_ends_them(tmp_path: Path) -> None:
    place, words = BrokerFiles(tmp_path / "b"), ("broker", "init", tmp_path / "b", "--name", "localhost")
    run(*words, "--migration", "--migration-address", "192.0.2.7", "--migration-address", "2001:db8::7")
    lines = [line for line in place.migration.read_text().splitlines() if line and not line.startswith("#")]
    per_listener = "use_username_as_clientid true"
    assert lines == ["listener 1883 192.0.2.7", per_listener, "listener 1883 2001:db8::7", per_listener]
    assert json.loads(run("broker", "status", "--directory", place.path, "--json").output)["migration"]
    run("broker", "close-plain", "--directory", place.path)
    assert not place.migration.exists()
    run(*words, "--migration", "--migration-address", "192.0.2.7")  # the way back
    assert place.migration.exists()


@pytest.mark.broker
async def test_close_plain_refuses_while_clients_are_on_plain_mqtt(tmp_path: Path, address: str) -> None:
    broker = Broker(tmp_path / "broker", find_free_port(), devices_port=find_free_port(), migration=[address])
    await broker.add_device(DEVICE)
    await broker.start()
    try:
        directory = broker.files.path
        async with broker.sub(
            f"infoscreen/{DEVICE}/commands", account=DEVICE, host=address, port=broker.port
        ):
            found = json.loads(run("broker", "status", "--directory", directory, "--json").output)
            assert (found["plain_clients"], found["plain_addresses"]) == (1, [address])
            assert (
                "1 clients are still on plain MQTT"
                in run(*("broker", "close-plain", "--directory", directory), code=1).output
            )
            assert broker.files.migration.exists()
            run("broker", "close-plain", "--force", "--directory", directory)
            assert not broker.files.migration.exists()
    finally:
        await broker.stop()


@pytest.fixture
def address() -> str:
    """Return an address of this host that is not loopback."""
    import psutil

    own = [
        one.address
        for interface in psutil.net_if_addrs().values()
        for one in interface
        if one.family.name == "AF_INET" and not one.address.startswith("127.")
    ]
    if not own:
        pytest.skip("this host has no address but loopback")
    return own[0]


# Enrolment files.


def test_an_enrolment_file_is_read_as_it_was_written() -> None:
    for ca in (None, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        made = Enrolment(DEVICE, "secret", DeviceAccess("broker.example", 8883, ca))
        assert enrolment.read(made.file()) == made


@pytest.mark.parametrize(
    "change",
    [
        {"infoscreen_enrolment": 2},
        {"uuid": "+"},
        {"password": ""},
        {"password": "a\nAGENT_MQTT_TLS_INSECURE=true"},
        {"host": "a b"},
        {"host": None},
        {"port": 0},
        {"port": "8883"},
        {"ca": "/etc/passwd"},
        {"ca": 1},
    ],
)
def test_a_damaged_enrolment_file_is_refused_without_quoting_it(change: dict[str, object]) -> None:
    made = json.loads(Enrolment(DEVICE, "0secret0", DeviceAccess("broker.example", 8883)).file())
    for text in (json.dumps({**made, **change}), "", "[]", "null", "{}", "x" * 20_000):
        with pytest.raises(ProvisioningError) as caught:
            enrolment.read(text)
        assert "secret" not in str(caught.value)


def test_a_device_enrols_with_one_file_and_keeps_its_other_settings(
    place: BrokerFiles, tmp_path: Path
) -> None:
    run("broker", "add-device", DEVICE, "--directory", place.path, "--output", tmp_path / "out")
    home = tmp_path / "etc"
    home.mkdir()
    (home / "agent.env").write_text(
        "# mine\nAGENT_UUID=\nAGENT_MQTT_PASSWORD=\n#AGENT_MQTT_HOST=\nAGENT_APP_UNIT=a.service\n"
    )
    (home / "agent.env").chmod(0o640)
    run("agent", "enroll", tmp_path / "out" / f"{DEVICE}.enrol", "--directory", home)
    made = enrolment.read((tmp_path / "out" / f"{DEVICE}.enrol").read_text())
    lines = (home / "agent.env").read_text().splitlines()
    assert lines[:5] == [
        "# mine",
        f"AGENT_UUID={DEVICE}",
        f"AGENT_MQTT_PASSWORD={made.password}",
        "AGENT_MQTT_HOST=localhost",
        "AGENT_APP_UNIT=a.service",
    ]
    assert stat.S_IMODE((home / "agent.env").stat().st_mode) == 0o640
    run("broker", "rotate", DEVICE, "--directory", place.path, "--output", tmp_path / "next")
    run("agent", "enroll", "--next", tmp_path / "next" / f"{DEVICE}.enrol", "--directory", home)
    after = (home / "agent.env").read_text()
    upcoming = enrolment.read((tmp_path / "next" / f"{DEVICE}.enrol").read_text()).password
    assert f"AGENT_MQTT_PASSWORD={made.password}\n" in after
    assert f"AGENT_MQTT_PASSWORD_NEXT={upcoming}\n" in after
    settings = load_agent(
        {name: value for name, _, value in (line.partition("=") for line in after.splitlines())}
    )
    assert settings.mqtt_password_next is not None
    (home / "agent.env").write_text(f"AGENT_UUID={OTHER}\n")
    run("agent", "enroll", "--next", tmp_path / "next" / f"{DEVICE}.enrol", "--directory", home, code=1)


def test_an_enrolment_over_tls_brings_the_ca(tmp_path: Path) -> None:
    run("broker", "init", tmp_path / "b", "--name", "broker.example")
    run("broker", "add-device", DEVICE, "--directory", tmp_path / "b", "--output", tmp_path / "out")
    run("agent", "enroll", tmp_path / "out" / f"{DEVICE}.enrol", "--directory", tmp_path / "etc")
    ca = tmp_path / "etc" / "ca.crt"
    assert ca.read_bytes() == (tmp_path / "b" / "pki" / "ca-bundle.crt").read_bytes()
    text = (tmp_path / "etc" / "agent.env").read_text()
    assert f"AGENT_MQTT_TLS_ENABLED=true\nAGENT_MQTT_TLS_CA_CERT={ca}\n" in text
    assert "AGENT_MQTT_HOST=broker.example\nAGENT_MQTT_PORT=8883\n" in text


def test_a_daemon_on_another_host_gets_a_client_id_that_nobody_can_guess(tmp_path: Path) -> None:
    words = ("broker", "init", tmp_path / "b", "--name", "broker.example", "--server-listener")
    run(*words)
    place = BrokerFiles(tmp_path / "b")
    settings = (place.secrets / "server-remote.env").read_text()
    assert "MQTT_HOST=broker.example\nMQTT_PORT=8884\n" in settings
    (client_id,) = [line for line in settings.splitlines() if line.startswith("MQTT_CLIENT_ID=")]
    assert len(client_id) > len("MQTT_CLIENT_ID=infoscreen-server-") + 15
    assert [
        line for line in place.server_listener.read_text().splitlines() if line.startswith("listener")
    ] == ["listener 8884"]
    run(*words)
    assert client_id in (place.secrets / "server-remote.env").read_text()
    run(*words[:-1])
    assert not place.server_listener.exists()
