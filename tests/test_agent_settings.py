"""What the agent can be told, and how it says what is wrong with it."""

import re
from pathlib import Path

import pytest

from infoscreen.agent.settings import AgentSettings, allowed, load, variable
from infoscreen.domain.errors import InvalidSettings

ROOT = Path(__file__).parents[1]
UUID = "0b3c2f0e-5a64-4a4e-9d4d-6a3c2f1e0d9b"
GIVEN = {"AGENT_UUID": UUID, "AGENT_MQTT_PASSWORD": "secret"}


def test_two_settings_are_enough() -> None:
    settings = load(GIVEN)
    assert (settings.name, settings.port, settings.app_unit) == (UUID, 1883, "infoscreen-app.service")


def test_the_uuid_is_spelled_as_topics_are() -> None:
    assert load(GIVEN | {"AGENT_UUID": UUID.upper().replace("-", "")}).name == UUID


def test_all_faults_are_named_at_once_and_the_password_in_none() -> None:
    with pytest.raises(InvalidSettings) as refused:
        load(
            {
                "AGENT_MQTT_PASSWORD": "secret",
                "AGENT_MQTT_PORT": "99999",
                "AGENT_HEARTBEAT_SECONDS": "often",
                "AGENT_APP_UNIT": "../app",
                "AGENT_LOG_LEVEL": "loud",
                "AGENT_MQTT_TLS_CA_CERT": "/nonexistent/ca.pem",
            }
        )
    lines = sorted(str(refused.value).splitlines())
    assert lines == [
        "AGENT_APP_UNIT=../app: allowed is NAME.service",
        "AGENT_HEARTBEAT_SECONDS=often: allowed is seconds, 0.1 to 86400",
        "AGENT_LOG_LEVEL=loud: allowed is debug, info, warning, error, critical",
        "AGENT_MQTT_PORT=99999: allowed is a port, 1 to 65535",
        "AGENT_MQTT_TLS_CA_CERT=/nonexistent/ca.pem: no such file, or not readable by this user",
        "AGENT_UUID is not set: allowed is a UUID",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("AGENT_MQTT_HOST", host) for host in ("a..b", "x" * 64, "a b", "a\0b", "a." * 200 + "b")),
        *(("AGENT_HEARTBEAT_SECONDS", value) for value in ("1e300", "nan", "inf", "0", "-1", "0.0001")),
        *(("AGENT_SCREENSHOT_SECONDS", value) for value in ("1e300", "nan", "-1")),
        ("AGENT_LOG_LINES_PER_MINUTE", "9" * 50),
        ("AGENT_APP_UNIT", "x" * 300 + ".service"),
        ("AGENT_SCREENSHOT_COMMAND", "grim \0"),
        ("AGENT_SCREENSHOT_COMMAND", "grim 'open"),
    ],
)
def test_a_value_that_no_device_can_use_is_refused_at_the_start(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings, match=name):
        load(GIVEN | {name: value})


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    with pytest.raises(InvalidSettings, match="AGENT_MQTT_TLS_KEYFILE are needed together"):
        load(GIVEN | {"AGENT_MQTT_TLS_CERTFILE": str(tmp_path / "cert.pem")})


def test_with_tls_the_port_is_another() -> None:
    assert load(GIVEN | {"AGENT_MQTT_TLS_ENABLED": "true"}).port == 8883


def test_the_password_may_be_a_systemd_credential_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / "agent_mqtt_password").write_text("of the credential\n")
    given = {"AGENT_UUID": UUID, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(given).mqtt_password.get_secret_value() == "of the credential"
    assert load(given | GIVEN).mqtt_password.get_secret_value() == "secret"


def test_systemds_state_directory_counts_unless_another_is_given(tmp_path: Path) -> None:
    given = GIVEN | {"STATE_DIRECTORY": str(tmp_path)}
    assert load(given).state_dir == tmp_path
    assert load(given | {"AGENT_STATE_DIR": "/srv/agent"}).state_dir == Path("/srv/agent")


def test_a_command_is_split_like_a_shell_would() -> None:
    assert load(GIVEN | {"AGENT_SCREENSHOT_COMMAND": "grim -o 'HDMI A'"}).screenshot_command == (
        "grim",
        "-o",
        "HDMI A",
    )


def test_the_example_and_the_document_name_every_setting_with_its_default() -> None:
    example = (ROOT / "systemd/client/agent.env").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^#?(AGENT_[A-Z_]+)=(.*)$", example, re.MULTILINE))
    assert set(shown) == {variable(name) for name in AgentSettings.model_fields}
    document = (ROOT / "docs/agent.md").read_text(encoding="utf-8")
    for name, field in AgentSettings.model_fields.items():
        default = "" if field.is_required() or field.default in (None, ()) else str(field.default)
        default = default.lower() if isinstance(field.default, bool) else default
        assert shown[variable(name)] == default, name
        row = f"| `{variable(name)}` | {default or ('required' if field.is_required() else 'unset')} | "
        assert f"{row}{allowed(name)} | {field.description} |" in document, name
