import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from infoscreen import app, config_check, settings_reference
from infoscreen import settings as settings_module
from infoscreen.cli import cli
from infoscreen.domain.errors import DatabaseNotReady, InvalidSettings
from infoscreen.settings import Settings, cautions, effective, load
from infoscreen.settings_values import LogFormat

VARIABLES = [name.upper() for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory and an environment that names no setting."""
    for variable in (*VARIABLES, "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.chdir(tmp_path)


def faults_of(*, serving: bool = False) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        load(serving=serving)
    return str(caught.value).splitlines()


def give(monkeypatch: pytest.MonkeyPatch, *assignments: str) -> None:
    for assignment in assignments:
        monkeypatch.setenv(*assignment.split("=", 1))


def give_credentials(monkeypatch: pytest.MonkeyPatch, directory: Path, *assignments: str) -> None:
    directory.mkdir()
    for name, value in (assignment.split("=", 1) for assignment in assignments):
        (directory / name).write_text(value)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))


def test_the_defaults_are_those_of_the_design() -> None:
    settings = load()
    assert settings.database_url == "sqlite+aiosqlite:///infoscreen.db"
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8080)
    assert (settings.public_origin, settings.trusted_proxies) == (None, ())
    assert (settings.mqtt_host, settings.mqtt_port) == ("127.0.0.1", 1883)
    assert settings.mqtt_client_id == "infoscreen-server"
    assert (settings.heartbeat_stale_seconds, settings.stale_min_seconds) == (180, 45)
    assert settings.crash_recovery_enabled is False
    assert settings.recovery_observer_grace_seconds is None
    assert (settings.command_expiry_seconds, settings.command_lockout_window_seconds) == (240, 900)
    assert settings.retention_days == 90


OPTIONAL = [name for name, field in Settings.model_fields.items() if field.default in (None, ())]


@pytest.mark.parametrize("given", [[], [f"{name.upper()}=" for name in OPTIONAL]], ids=["unset", "empty"])
async def test_serve_builds_all_its_parts_without_any_optional_setting(
    monkeypatch: pytest.MonkeyPatch, given: list[str]
) -> None:
    give(monkeypatch, *given, "MQTT_USER=daemon", "MQTT_PASSWORD=secret", "HTTP_PORT=1")
    settings = config_check.loaded()
    assert {name for name in OPTIONAL if getattr(settings, name)} == {"mqtt_user", "mqtt_password"}
    with pytest.raises(DatabaseNotReady):  # looked at last, when everything else is built
        await app.serve(settings)


def test_later_sources_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MQTT_HOST=file\nMQTT_USER=file\nMQTT_PASSWORD=file\n")
    give_credentials(monkeypatch, tmp_path / "secrets", "mqtt_user=credential", "mqtt_password=credential")
    give(monkeypatch, "MQTT_PASSWORD=environment")
    settings = load()
    assert settings.mqtt_host == "file"
    assert settings.mqtt_user == "credential"
    assert settings.mqtt_password == SecretStr("environment")
    shown = {value.variable: (value.value, value.source) for value in effective(settings)}
    assert shown["MQTT_HOST"] == ("file", f"{tmp_path}/.env")
    assert shown["MQTT_USER"] == ("credential", "credential")
    assert shown["MQTT_PASSWORD"] == ("********", "environment")
    assert shown["HTTP_PORT"] == ("8080", "default")


def test_names_are_read_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "http_port=8123")
    assert load().http_port == 8123


def test_an_empty_value_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "HTTP_PORT=", "PUBLIC_ORIGIN=")
    assert (load().http_port, load().public_origin) == (8080, None)


def test_only_the_newline_at_its_end_is_taken_off_a_credential(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give_credentials(monkeypatch, tmp_path / "secrets", "mqtt_password= pass word \n")
    assert load().mqtt_password == SecretStr(" pass word ")


def test_a_dollar_in_a_password_is_a_dollar(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('MQTT_PASSWORD="a${HOME}b$c"\n')
    assert load().mqtt_password == SecretStr("a${HOME}b$c")


def test_every_duration_takes_fractions(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = [name for name in Settings.model_fields if name.endswith(("_seconds", "_days"))]
    give(monkeypatch, *(f"{name.upper()}=0.25" for name in durations))
    settings = load()
    assert {getattr(settings, name) for name in durations} == {0.25}


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", "1,5"])
def test_a_duration_is_a_number_above_zero(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    give(monkeypatch, f"COMMAND_EXPIRY_SECONDS={value}")
    assert faults_of() == [
        f"COMMAND_EXPIRY_SECONDS={value} (environment): "
        "allowed is seconds, 0.01 to 2592000, fractions are fine"
    ]


def test_all_faults_are_named_at_once_with_what_was_given_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("HTTP_PORT=99999\nthis is no assignment\nLOG_LEVEL=loud\n")
    give(
        monkeypatch,
        "RECOVERY_ACTIONS_PER_DAY=0",
        "AUTO_REGISTER_CLIENTS=perhaps",
        "HEARTBEAT_STALE_SECONDS=30",
        f"MQTT_TLS_CERTFILE={tmp_path / 'missing.pem'}",
        "TRUSTED_PROXIES=10.0.0.0/8,300.1.1.1",
    )
    assert faults_of(serving=True) == [
        f"{tmp_path}/.env line 2: not NAME=value",
        f"HTTP_PORT=99999 ({tmp_path}/.env): allowed is a port, 1 to 65535",
        "TRUSTED_PROXIES=10.0.0.0/8,300.1.1.1 (environment): "
        "'300.1.1.1' does not appear to be an IPv4 or IPv6 network",
        "MQTT_TLS_KEYFILE is not set: MQTT_TLS_CERTFILE and MQTT_TLS_KEYFILE are needed together",
        "AUTO_REGISTER_CLIENTS=perhaps (environment): allowed is true or false",
        "STALE_MIN_SECONDS=45 (default): allowed is at most HEARTBEAT_STALE_SECONDS, which is 30",
        "RECOVERY_ACTIONS_PER_DAY=0 (environment): allowed is a whole number, 1 to 1000",
        f"LOG_LEVEL=loud ({tmp_path}/.env): allowed is debug, info, warning, error, critical",
        "MQTT_USER is not set: the broker requires an account",
        "MQTT_PASSWORD is not set: the broker requires a password",
        f"MQTT_TLS_CERTFILE={tmp_path}/missing.pem (environment): no such file, or not readable by this user",
    ]


def test_only_serving_needs_the_account_at_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().mqtt_user is None
    give(monkeypatch, "MQTT_USER=infoscreen-server", "MQTT_PASSWORD=secret")
    assert load(serving=True).mqtt_user == "infoscreen-server"


def test_a_fault_in_one_variable_is_not_blamed_on_those_that_depend_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give(monkeypatch, "HEARTBEAT_STALE_SECONDS=never", "MQTT_TLS_ENABLED=perhaps")
    assert [fault.split("=")[0] for fault in faults_of()] == ["MQTT_TLS_ENABLED", "HEARTBEAT_STALE_SECONDS"]


def test_the_port_of_the_broker_follows_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "MQTT_TLS_ENABLED=true")
    assert load().mqtt_port == 8883
    give(monkeypatch, "MQTT_PORT=8884")
    assert load().mqtt_port == 8884


def test_settings_of_earlier_versions_are_named_with_what_replaces_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give(monkeypatch, "RECOVERY_MAX_CONCURRENT=5", "RECOVERY_REBOOTS_PER_HOUR=2")
    said = "\n".join(cautions(load()))
    assert "RECOVERY_MAX_CONCURRENT (environment): replaced by RECOVERY_MAX_SHARE" in said
    assert "RECOVERY_ACTIONS_PER_DAY" in said


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("https://Panel.example", "https://panel.example"),
        ("https://panel.example:443", "https://panel.example"),
        ("http://10.0.0.5:8080", "http://10.0.0.5:8080"),
        ("https://[fd00::1]:8443", "https://[fd00::1]:8443"),
    ],
)
def test_the_public_origin_is_kept_as_browsers_send_it(
    monkeypatch: pytest.MonkeyPatch, given: str, understood: str
) -> None:
    give(monkeypatch, f"PUBLIC_ORIGIN={given}")
    assert load().public_origin == understood


@pytest.mark.parametrize(
    "given",
    ["panel.example", "https://", "https://panel.example/", "https://p/x", "ftp://p", "https://p:99999"],
)
def test_a_public_origin_is_nothing_but_an_origin(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    give(monkeypatch, f"PUBLIC_ORIGIN={given}")
    assert faults_of()[0].startswith(f"PUBLIC_ORIGIN={given} (environment): ")


def test_trusted_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "TRUSTED_PROXIES=127.0.0.1, 10.0.0.0/8,fd00::/8")
    assert [str(network) for network in load().trusted_proxies] == ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize(
    "given",
    [
        "sqlite:///infoscreen.db",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite://infoscreen.db",
        "postgresql://u@h/d",
        "postgresql+asyncpg://u@h",
        "infoscreen.db",
    ],
)
def test_only_the_two_drivers_are_taken(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    give(monkeypatch, f"DATABASE_URL={given}")
    assert "allowed is sqlite+aiosqlite:///FILE" in faults_of()[0]


@pytest.mark.parametrize(
    "given",
    [
        "postgresql+psycopg://infoscreen:hidden@host/infoscreen",
        "postgresql+psycopg://infoscreen:hid@den@host/infoscreen",
        "postgresql+psycopg://host/infoscreen?user=infoscreen&password=hidden",
    ],
)
def test_the_password_in_a_faulty_database_url_is_masked(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    give(monkeypatch, f"DATABASE_URL={given}")
    fault = faults_of()[0]
    assert "hid" not in fault
    assert "den" not in fault
    assert "********" in fault


def test_secrets_are_masked_wherever_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "hidden4" + "AbCdEf9+/" * 4
    give(
        monkeypatch,
        "DATABASE_URL=postgresql+asyncpg://infoscreen:hidden1@host/infoscreen",
        "MQTT_PASSWORD=hidden2",
        "METRICS_TOKEN=hidden3",
        f"SECRETS_KEY={key}",
    )
    settings = load()
    everything = repr(settings) + str(settings) + repr(effective(settings))
    assert "hidden" not in everything
    assert "postgresql+asyncpg://infoscreen:********@host/infoscreen" in everything


def test_a_key_that_is_too_short_is_told_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "SECRETS_KEY=c2hvcnQ=")
    (fault,) = faults_of()
    assert fault.startswith(
        "SECRETS_KEY=******** (environment): allowed is base64 of 32 random bytes or more"
    )
    assert "c2hvcnQ" not in fault


def test_every_secret_type_is_known_as_a_secret() -> None:
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert secret == settings_module.SECRETS


def test_an_unreadable_env_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert faults_of() == [f"{tmp_path}/.env: cannot be read: Is a directory"]


def test_a_file_that_is_not_text_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"HTTP_HOST=\xff\xfe\n")
    assert faults_of() == [f"{tmp_path}/.env: cannot be read: not UTF-8 text"]


def test_a_slip_in_a_name_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HTTP_PROT=80\nHTTP_PROXY=http://proxy\nINFOSCREEN_TOKEN=isc_x\n")
    give_credentials(monkeypatch, tmp_path / "secrets", "mqtt_pasword=x")
    assert cautions(load()) == [
        f"HTTP_PROT in {tmp_path}/.env is no setting. Did you mean HTTP_PORT?",
        "mqtt_pasword in the credentials is no setting. Did you mean MQTT_PASSWORD?",
    ]


def test_what_weakens_tls_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    give(monkeypatch, "MQTT_HOST=broker.example", "MQTT_TLS_CA_CERT=ca.pem")
    assert cautions(load()) == [
        "MQTT_TLS_CA_CERT: without effect, MQTT_TLS_ENABLED is false.",
        "MQTT_TLS_ENABLED is false: the password goes to broker.example in the clear.",
    ]
    give(monkeypatch, "MQTT_TLS_ENABLED=true", "MQTT_TLS_INSECURE=yes")
    assert cautions(load()) == ["MQTT_TLS_INSECURE is true: anybody in between can pretend to be the broker."]


def test_words_are_taken_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "LOG_FORMAT= JSON ")
    assert load().log_format is LogFormat.JSON


def test_every_setting_has_a_line_of_help_and_says_what_is_allowed() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description
        assert "\n" not in field.description
        assert settings_module.allowed(name)


CHECKOUT = Path(__file__).parent.parent


def test_the_example_file_names_every_setting_once_with_its_default() -> None:
    example = (CHECKOUT / ".env.example").read_text()
    assignments = re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE)
    assert sorted(name for name, _ in assignments) == sorted(VARIABLES)
    assert dict(assignments) == {
        name.upper(): settings_reference.default(name) or "" for name in Settings.model_fields
    }


def test_the_example_file_taken_as_it_is_means_the_defaults(tmp_path: Path) -> None:
    before = load()
    example = (CHECKOUT / ".env.example").read_text()
    (tmp_path / ".env").write_text(re.sub(r"^#(?=[A-Z_]+=)", "", example, flags=re.MULTILINE))
    assert load() == before
    assert cautions(before) == []


def test_the_table_of_the_documentation_is_up_to_date() -> None:
    """If not, run ``python -m infoscreen.settings_reference docs/configuration.md``."""
    document = (CHECKOUT / "docs" / "configuration.md").read_text()
    assert settings_reference.BEGIN in document
    assert settings_reference.renewed(document) == document


def test_the_documentation_names_every_command() -> None:
    document = (CHECKOUT / "docs" / "configuration.md").read_text()
    for command in cli.commands:
        assert f"`infoscreen {command}" in document
