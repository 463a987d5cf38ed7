"""Every knob of the daemon, where its value came from, and what is wrong with it.

Only the composition root and the command line import this; the rooms get slices. Sources, later wins:
defaults, ``.env`` in the working directory, ``$CREDENTIALS_DIRECTORY``, the environment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ValidationInfo

from infoscreen import settings_sources
from infoscreen.domain.errors import InvalidSettings
from infoscreen.settings_sources import MASK, Given, is_readable
from infoscreen.settings_values import (
    Allowed,
    Bytes,
    Clients,
    DatabaseUrl,
    Days,
    File,
    Format,
    Host,
    Level,
    LogFormat,
    LogLevel,
    LogLines,
    Networks,
    Origin,
    Port,
    Seconds,
    Secret,
    Switch,
    Text,
    Token,
    Tries,
    TriesAboveZero,
)


def _knob(default: Any, help_line: str, *, shown: str | None = None) -> Any:
    """Declare a knob; ``default`` may be computed from the knobs before it, then ``shown`` says how."""
    if shown is not None:
        return Field(
            default_factory=default, description=help_line, json_schema_extra={"shown_default": shown}
        )
    return Field(default, description=help_line)


class Settings(BaseModel):
    """What the daemon can be told. Use ``load()``: it names every fault at once and masks secrets."""

    model_config = ConfigDict(extra="ignore", frozen=True, validate_default=True, hide_input_in_errors=True)

    database_url: DatabaseUrl = Field(
        default="sqlite+aiosqlite:///infoscreen.db", description="Where everything is kept.", repr=False
    )

    http_host: Host = _knob("127.0.0.1", "Address that the panel and the API listen on.")
    http_port: Port = _knob(8080, "Port that the panel and the API listen on.")
    public_origin: Origin | None = _knob(
        None, "How browsers reach the panel, if a proxy stands in front of it."
    )
    trusted_proxies: Networks = _knob((), "Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.")

    mqtt_tls_enabled: Switch = _knob(False, "Talk TLS with the broker.")
    mqtt_tls_ca_cert: File | None = _knob(
        None, "CA that the broker's certificate is checked with; unset: the system's."
    )
    mqtt_tls_certfile: File | None = _knob(None, "The daemon's own certificate, for mutual TLS.")
    mqtt_tls_keyfile: File | None = _knob(None, "The key of that certificate.")
    mqtt_tls_insecure: Switch = _knob(
        False, "Do not check whom the broker's certificate names. For tests only."
    )
    mqtt_host: Host = _knob("127.0.0.1", "Where the broker is.")
    mqtt_port: Port = _knob(
        lambda given: 8883 if given.get("mqtt_tls_enabled") else 1883,
        "The broker's port.",
        shown="1883, with TLS 8883",
    )
    mqtt_user: Text | None = _knob(None, "The daemon's account at the broker, which requires one.")
    mqtt_password: Secret | None = _knob(None, "The password of that account.")
    mqtt_client_id: Text = _knob(
        "infoscreen-server",
        "Names the persistent session at the broker, with `-bulk` that of logs and screenshots; keep it.",
    )
    mqtt_buffer_bytes: Bytes = _knob(
        64 * 2**20,
        "Memory for messages received and not yet stored; above it the broker keeps the rest.",
    )
    mqtt_command_alias_enabled: Switch = _knob(
        False, "Publish commands on the older topic `command` as well as on `commands`."
    )

    auto_register_clients: Switch = _knob(
        True, "Take in clients that nobody has entered, when they are heard."
    )
    heartbeat_stale_seconds: Seconds = _knob(
        180, "Silence after which a client is stale, until its rhythm is known."
    )
    stale_min_seconds: Seconds = _knob(
        45, "Shortest silence after which a client is stale, however often it beats."
    )

    crash_recovery_enabled: Switch = _knob(
        False, "Act on unwell clients; off, the daemon says what it would do."
    )
    crash_recovery_poll_seconds: Seconds = _knob(15, "How often the recovery decides.")
    crash_recovery_grace_seconds: Seconds = _knob(
        60, "How long a client must be unwell before anything is done."
    )
    recovery_observer_grace_seconds: Seconds = _knob(
        lambda given: 2 * given.get("heartbeat_stale_seconds", 180),
        "How long after a start or reconnect nothing is done, since the daemon itself was away.",
        shown="2 x HEARTBEAT_STALE_SECONDS",
    )
    recovery_max_concurrent: Clients = _knob(5, "So many clients are recovered at the same time.")
    recovery_storm_cooldown_seconds: Seconds = _knob(
        300, "How long things must be calm after an outage of a site or the fleet."
    )
    recovered_heartbeats: TriesAboveZero = _knob(
        3, "So many heartbeats in a row make a client well again ..."
    )
    recovered_seconds: Seconds = _knob(60, "... once it has been online for so long.")
    relapse_seconds: Seconds = _knob(900, "Unwell again so soon, the ladder goes on where it was.")
    recovery_restart_attempts: Tries = _knob(2, "Tries of `restart_app`; 0 removes the rung.")
    recovery_reboot_attempts: Tries = _knob(1, "Tries of `reboot_host`; 0 removes the rung.")
    recovery_power_cycle_attempts: Tries = _knob(1, "Tries of `power_cycle`; 0 removes the rung.")
    recovery_reboots_per_hour: Tries = _knob(2, "Most automatic reboots of one client in an hour.")
    recovery_power_cycles_per_day: Tries = _knob(3, "Most automatic power cycles of one client in a day.")

    log_lines_per_minute: LogLines = _knob(
        600, "Most log lines of one client that are stored in a minute; the rest is counted."
    )
    log_bytes_per_minute: Bytes = _knob(
        256 * 2**10, "Most bytes of log lines of one client that are stored in a minute."
    )

    command_expiry_seconds: Seconds = _knob(240, "A command that no device has begun by then is given up.")
    command_lockout_threshold: TriesAboveZero = _knob(3, "So many disruptive commands lock a client ...")
    command_lockout_window_seconds: Seconds = _knob(900, "... if they were published within so long.")
    restart_app_timeout_seconds: Seconds = _knob(120, "How long `restart_app` may take, once begun.")
    reboot_timeout_seconds: Seconds = _knob(600, "How long `reboot_host` may take, once begun.")
    shutdown_timeout_seconds: Seconds = _knob(120, "How long `shutdown_host` may take, once begun.")
    power_cycle_timeout_seconds: Seconds = _knob(900, "How long `power_cycle` may take, once begun.")

    log_level: Level = _knob(LogLevel.INFO, "Minimum log level; the log goes to standard error.")
    log_format: Format = _knob(LogFormat.TEXT, "How a log line looks.")
    metrics_token: Token | None = _knob(
        None, "Bearer token for `/metrics`; unset, only the machine itself may read them."
    )
    retention_days: Days = _knob(90, "How long timeline, finished commands, logs and audit are kept.")

    @field_validator("stale_min_seconds")
    @classmethod
    def _fits_below_the_maximum(cls, value: float, info: ValidationInfo) -> float:
        most = info.data.get("heartbeat_stale_seconds", value)
        if value > most:
            raise ValueError(f"allowed is at most HEARTBEAT_STALE_SECONDS, which is {most:g}")
        return value

    @field_validator("mqtt_tls_keyfile")
    @classmethod
    def _comes_with_its_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "mqtt_tls_certfile" in info.data and (value is None) != (info.data["mqtt_tls_certfile"] is None):
            raise ValueError("MQTT_TLS_CERTFILE and MQTT_TLS_KEYFILE are needed together")
        return value


SECRETS = frozenset({"mqtt_password", "metrics_token"})
NEEDED_TO_SERVE = {
    "mqtt_user": "the broker requires an account",
    "mqtt_password": "the broker requires a password",
}
TLS_FILES = ("mqtt_tls_ca_cert", "mqtt_tls_certfile", "mqtt_tls_keyfile")


def load(*, serving: bool = False) -> Settings:
    """Return the settings as all sources together give them.

    Args:
        serving: also ask for what only the daemon needs: the account at the broker, and TLS files that this
            user can read. ``db upgrade`` and its like do without.

    Raises:
        InvalidSettings: one line for each fault: the variable, what was given and what is allowed.
    """
    given = settings_sources.read(Settings.model_fields)
    faults = list(given.faults)
    settings = None
    try:
        settings = Settings.model_validate(given.values)
    except ValidationError as error:
        faults += [_fault(detail, given) for detail in error.errors() if detail["type"] != _SKIPPED]
    if serving:
        faults += [
            f"{name.upper()} is not set: {why}"
            for name, why in NEEDED_TO_SERVE.items()
            if name not in given.values
        ]
        faults += [
            f"{_assignment(name, given.values[name], given)}: no such file, or not readable by this user"
            for name in TLS_FILES
            if name in given.values and not is_readable(Path(given.values[name]))
        ]
    if settings is None or faults:
        raise InvalidSettings("\n".join(faults))
    return settings


def changed(settings: Settings, wanted: Mapping[str, str]) -> Settings:
    """Return the settings with others in their place; raise ``InvalidSettings`` for values not allowed."""
    try:
        return Settings(**{**settings.model_dump(), **wanted})
    except ValidationError as error:
        names = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors())
        faults = [f"{name.upper()}={wanted.get(name, '')}: allowed is {allowed(name)}" for name in names]
        raise InvalidSettings("\n".join(faults)) from None


_SKIPPED = "default_factory_not_called"
"""pydantic's word for a default that depends on a faulty variable; that one is named anyway."""


def _fault(detail: ErrorDetails, given: Given) -> str:
    name = str(detail["loc"][0])
    reason = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else f"allowed is {allowed(name)}"
    value = given.values.get(name, detail["input"])
    if value is None:
        return f"{name.upper()} is not set: {reason}"
    if name == "database_url" and not str(value).startswith("sqlite"):
        # Where it was not understood, nobody knows where a password in it begins and ends.
        value = MASK
    return f"{_assignment(name, value, given)}: {reason}"


def _assignment(name: str, value: object, given: Given) -> str:
    return f"{name.upper()}={_shown(name, value)} ({given.source(name)})"


_URL_PASSWORD = re.compile(r"(?<=://)([^:/@]*):.*@")
_QUERY_SECRET = re.compile(r"([?&][^=&]*(?:pass|secret|key)[^=&]*=)[^&]*", re.IGNORECASE)


def _shown(name: str, value: object) -> str:
    """Return the value fit for being read by others: secrets masked, on one line."""
    if name in SECRETS:
        return MASK
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = f"{value:g}" if isinstance(value, float) else text
    text = _QUERY_SECRET.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1:{MASK}@", text))
    return text if text.isprintable() else repr(text)


@dataclass(frozen=True, slots=True)
class Effective:
    """A value as it counts, masked if secret, None if unset, and its source."""

    variable: str
    value: str | None
    source: str


def effective(settings: Settings) -> list[Effective]:
    """Return every variable with the value that counts and where it comes from, secrets masked."""
    given = settings_sources.read(Settings.model_fields)
    found = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        shown = None if value is None or value == () else _shown(name, value)
        found.append(Effective(name.upper(), shown, given.source(name)))
    return found


def cautions(settings: Settings) -> list[str]:
    """Return what is allowed but probably not meant."""
    found = list(settings_sources.read(Settings.model_fields).strangers)
    given_tls = [name.upper() for name in TLS_FILES if getattr(settings, name) is not None]
    if given_tls and not settings.mqtt_tls_enabled:
        found.append(f"{', '.join(given_tls)}: without effect, MQTT_TLS_ENABLED is false.")
    if settings.mqtt_tls_enabled and settings.mqtt_tls_insecure:
        found.append("MQTT_TLS_INSECURE is true: anybody in between can pretend to be the broker.")
    if not settings.mqtt_tls_enabled and not _is_loopback(settings.mqtt_host):
        found.append(f"MQTT_TLS_ENABLED is false: the password goes to {settings.mqtt_host} in the clear.")
    return found


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")


def allowed(name: str) -> str:
    """Return in words what may be given for the setting."""
    pending = [get_type_hints(Settings, include_extras=True)[name]]
    while pending:
        kind = pending.pop()
        for detail in getattr(kind, "__metadata__", ()):
            if isinstance(detail, Allowed):
                return detail.words
        pending += get_args(kind)
    raise LookupError(f"{name} does not say what is allowed")
