"""Every knob of the agent: ``/etc/infoscreen/agent.env``, systemd credentials, the environment; later wins.

Separate from the daemon's: a device has its own few settings, and loads nothing of the server's.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from infoscreen import settings_sources
from infoscreen.domain.errors import InvalidSettings
from infoscreen.domain.hosts import bare_host
from infoscreen.settings_sources import MASK

PREFIX, INSTALLED_FILE = "AGENT_", "agent.env"


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _unit(value: str) -> str:
    named = value.endswith(".service") and len(value) <= 255
    if not named or not value.isprintable() or "/" in value or " " in value:
        raise ValueError
    return value


def _words(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError
    return tuple(shlex.split(value)) if isinstance(value, str) else value


def _host(value: str) -> str:
    value = bare_host(value)
    labels = value.removesuffix(".").split(".")
    if not value.isprintable() or " " in value or not all(0 < len(label) < 64 for label in labels):
        raise ValueError("allowed is a host name or an IP address")
    return value


DAY = 86_400
Seconds = Annotated[float, Field(ge=0.1, le=DAY)]
NoneOrMore = Annotated[float, Field(ge=0, le=DAY)]
Host = Annotated[str, Field(max_length=253), AfterValidator(_host)]
Unit = Annotated[str, AfterValidator(_unit)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


def _knob(default: Any, help_line: str, allowed: str) -> Any:
    return Field(default, description=help_line, json_schema_extra={"allowed": allowed})


_SECONDS = "seconds, 0.1 to 86400"
_SWITCH = "true or false"


class AgentSettings(BaseModel):
    """Settings of the agent. Use ``load()``: it names every fault at once and masks the password."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    uuid: UUID = _knob(..., "UUID of the device; also its account at the broker.", "a UUID")
    mqtt_password: Annotated[SecretStr, Field(min_length=1)] = _knob(
        ..., "Password of that account.", "text, secret"
    )
    mqtt_password_next: SecretStr | None = _knob(
        None, "The password that will replace it, while the broker's are being rotated.", "text, secret"
    )
    mqtt_host: Host = _knob(
        "127.0.0.1", "Host name or address of the broker.", "a host name or an IP address"
    )
    mqtt_port: Annotated[int, Field(ge=1, le=65535)] | None = _knob(
        None, "Port of the broker; unset: 1883, with TLS 8883.", "a port, 1 to 65535"
    )
    mqtt_tls_enabled: bool = _knob(False, "Use TLS for the connection to the broker.", _SWITCH)
    mqtt_tls_ca_cert: Path | None = _knob(
        None, "CA certificate for checking the broker's certificate; unset: the system's.", "a file"
    )
    mqtt_tls_certfile: Path | None = _knob(
        None, "Client certificate of the device, for mutual TLS.", "a file"
    )
    mqtt_tls_keyfile: Path | None = _knob(None, "Private key of that certificate.", "a file")
    mqtt_tls_insecure: bool = _knob(
        False, "Do not check the host name in the broker's certificate. For tests only.", _SWITCH
    )
    reconnect_seconds: Seconds = _knob(
        10,
        "Longest random delay before the first reconnect; doubled for each further one, up to 60 s.",
        _SECONDS,
    )
    app_unit: Unit = _knob("infoscreen-app.service", "systemd unit of the application.", "NAME.service")
    app_restart_seconds: Seconds = _knob(
        90, "Maximum time that `restart_app` waits for the unit to become active.", _SECONDS
    )
    software_version: str | None = _knob(
        None, "Version of the application, as reported to the server.", "text"
    )
    heartbeat_seconds: Seconds = _knob(30, "Interval between heartbeats.", _SECONDS)
    health_seconds: Seconds = _knob(60, "Interval between health messages.", _SECONDS)
    disk_path: Path = _knob(Path("/"), "File system whose usage is reported.", "a directory")
    log_forwarding: bool = _knob(True, "Forward warnings and errors from the unit's journal.", _SWITCH)
    log_lines_per_minute: Annotated[int, Field(ge=1, le=10_000)] = _knob(
        60,
        "Maximum log lines forwarded per minute; further ones are dropped and counted.",
        "a whole number, 1 to 10000",
    )
    screenshot_command: Words = _knob(
        (),
        "Command that writes a JPEG or PNG to standard output, or to the file `{file}`; run without a shell.",
        "a command with its arguments",
    )
    screenshot_seconds: NoneOrMore = _knob(
        0, "Interval between automatic screenshots; 0: none.", "seconds, 0 to 86400"
    )
    picture_seconds: NoneOrMore = _knob(
        60,
        "Interval between looks at the screen, whether it is black or frozen; needs the screenshot command; "
        "0: none.",
        "seconds, 0 to 86400",
    )
    state_dir: Path = _knob(
        Path("/var/lib/infoscreen-agent"),
        "Persistent directory for the journal and unsent reports; unset: STATE_DIRECTORY of systemd.",
        "a directory",
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)
    ] = _knob("info", "Minimum log level.", "debug, info, warning, error, critical")
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = _knob(
        "text", "Format of log lines.", "text, json"
    )

    @property
    def name(self) -> str:
        """Return the UUID as topics and the broker spell it."""
        return str(self.uuid)

    @property
    def port(self) -> int:
        """Return the broker's port."""
        return self.mqtt_port or (8883 if self.mqtt_tls_enabled else 1883)

    @model_validator(mode="after")
    def _certificate_comes_with_its_key(self) -> "AgentSettings":
        if (self.mqtt_tls_certfile is None) != (self.mqtt_tls_keyfile is None):
            raise ValueError("AGENT_MQTT_TLS_CERTFILE and AGENT_MQTT_TLS_KEYFILE are needed together")
        return self


TLS_FILES = ("mqtt_tls_ca_cert", "mqtt_tls_certfile", "mqtt_tls_keyfile")
SECRETS = frozenset({"mqtt_password", "mqtt_password_next"})


def load(environment: Mapping[str, str] = os.environ) -> AgentSettings:
    """Return the settings as all sources together give them; an empty value counts as not given.

    Raises:
        InvalidSettings: one line for each fault: the variable, what was given and what is allowed.
    """
    file = settings_sources.installed_file(INSTALLED_FILE, environment)
    # Units of earlier versions let systemd read a file that only root can: then all is in the environment.
    files = (file,) if settings_sources.is_readable(file) or variable("uuid") not in environment else ()
    sources = settings_sources.read(
        AgentSettings.model_fields, environment, prefix=PREFIX.lower(), files=files
    )
    given, faults = sources.values, list(sources.faults)
    if environment.get("STATE_DIRECTORY"):
        given.setdefault("state_dir", environment["STATE_DIRECTORY"].partition(":")[0])
    faults += [
        f"{_assignment(name, given[name])}: no such file, or not readable by this user"
        for name in TLS_FILES
        if name in given and not settings_sources.is_readable(Path(given[name]))
    ]
    settings = None
    try:
        settings = AgentSettings.model_validate(given)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            if not detail["loc"]:
                faults.append(str(detail["ctx"]["error"]))
                continue
            name = str(detail["loc"][0])
            said = f"{variable(name)} is not set" if name not in given else _assignment(name, given[name])
            why = str(detail.get("ctx", {}).get("error", ""))
            faults.append(f"{said}: {why or f'allowed is {allowed(name)}'}")
    if settings is None or faults:
        raise InvalidSettings("\n".join(faults))
    return settings


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def allowed(name: str) -> str:
    """Return in words what may be given for the setting."""
    extra = AgentSettings.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)  # noqa: S101  (every knob is made by _knob)
    return str(extra["allowed"])


def _assignment(name: str, value: str) -> str:
    if name in SECRETS:
        value = MASK
    return f"{variable(name)}={value if value.isprintable() else repr(value)}"
