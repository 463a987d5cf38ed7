"""Every knob of the daemon, where its value came from, and what is wrong with it.

Only the composition root and the command line import this; the rooms get slices. Sources, later wins:
defaults, ``.env`` in the working directory, ``/etc/infoscreen/infoscreen.env``, ``$CREDENTIALS_DIRECTORY``,
the environment.
"""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ValidationInfo

from infoscreen import settings_sources
from infoscreen.domain.errors import InvalidSettings
from infoscreen.domain.hosts import is_loopback
from infoscreen.settings_sign_in import SignInSettings, sign_in_faults
from infoscreen.settings_sources import MASK, Given, is_readable
from infoscreen.settings_values import (
    Allowed,
    Bytes,
    DatabaseUrl,
    Days,
    File,
    Format,
    Host,
    Keys,
    Level,
    LogFormat,
    LogLines,
    MinimumLogLevel,
    Networks,
    Origin,
    Port,
    Rate,
    Seconds,
    Secret,
    Share,
    Switch,
    Text,
    Token,
    Tries,
    TriesAboveZero,
    WebAddress,
)
from infoscreen.settings_values import knob as _knob
from infoscreen.storage import address


class Settings(SignInSettings):
    """Settings of the daemon. Use ``load()``: it names every fault at once and masks secrets."""

    database_url: DatabaseUrl = Field(
        default="sqlite+aiosqlite:///infoscreen.db", description="Address of the database.", repr=False
    )

    http_host: Host = _knob("127.0.0.1", "Address the panel and the API listen on.")
    http_port: Port = _knob(8080, "Port the panel and the API listen on.")
    public_origin: Origin | None = _knob(None, "External address of the panel, if it is behind a proxy.")
    http_tls_certfile: File | None = _knob(
        None, "Certificate for serving https without a proxy; read again on SIGHUP."
    )
    http_tls_keyfile: File | None = _knob(None, "Private key of that certificate.")
    trusted_proxies: Networks = _knob(
        (), "Proxies whose X-Forwarded-For and X-Forwarded-Proto headers are trusted."
    )

    mqtt_tls_enabled: Switch = _knob(False, "Use TLS for the connection to the broker.")
    mqtt_tls_ca_cert: File | None = _knob(
        None, "CA certificate for checking the broker's certificate; unset: the system's."
    )
    mqtt_tls_certfile: File | None = _knob(None, "Client certificate of the daemon, for mutual TLS.")
    mqtt_tls_keyfile: File | None = _knob(None, "Private key of that certificate.")
    mqtt_tls_insecure: Switch = _knob(
        False, "Do not check the host name in the broker's certificate. For tests only."
    )
    mqtt_host: Host = _knob("127.0.0.1", "Host name or address of the broker.")
    mqtt_port: Port = _knob(
        lambda given: 8883 if given.get("mqtt_tls_enabled") else 1883,
        "Port of the broker.",
        shown="1883, with TLS 8883",
    )
    mqtt_user: Text | None = _knob(None, "The daemon's account at the broker, which requires one.")
    mqtt_password: Secret | None = _knob(None, "Password of that account.")
    mqtt_client_id: Text = _knob(
        "infoscreen-server",
        "MQTT client id, with `-bulk` appended for logs and screenshots; names the sessions, so keep it.",
    )
    mqtt_probe_password: Secret | None = _knob(
        None,
        "Password of the account `infoscreen-probe`, with which the daemon checks that the ACL is in force.",
    )
    mqtt_auth_failures_alarm: TriesAboveZero = _knob(
        20, "Failed logins at the broker within ten minutes that raise an alarm."
    )
    broker_helper_socket: File = _knob(
        Path("/run/infoscreen-broker.sock"),
        "Where the broker helper answers, which adds accounts of devices and restarts the broker.",
    )
    enrolment_codes_enabled: Switch = _knob(
        False, "Let devices fetch their account with a one-time code that an admin has made; https only."
    )
    enrolment_code_seconds: Seconds = _knob(600, "How long a one-time code counts.")
    mqtt_buffer_bytes: Bytes = _knob(
        64 * 2**20,
        "Memory for messages received and not yet stored; above it the broker keeps the rest.",
    )
    mqtt_command_alias_enabled: Switch = _knob(False, "Also publish commands on the older topic `command`.")

    auto_register_clients: Switch = _knob(True, "Register unknown clients when their first message arrives.")
    heartbeat_stale_seconds: Seconds = _knob(
        180, "Silence after which a client is stale, until its heartbeat interval is known."
    )
    stale_min_seconds: Seconds = _knob(
        45, "Minimum silence after which a client is stale, for any heartbeat interval."
    )

    crash_recovery_enabled: Switch = _knob(
        False, "Restart and reboot failing clients; if off, the daemon only shows what it would do."
    )
    crash_recovery_poll_seconds: Seconds = _knob(15, "Interval between decisions of the recovery.")
    crash_recovery_grace_seconds: Seconds = _knob(60, "How long a client must be failing before any action.")
    start_timeout_seconds: Seconds = _knob(
        600, "Time after which an application that is still starting or stopped counts as crashed."
    )
    frozen_after_seconds: Seconds = _knob(
        300, "Time without a new frame, or a change of a moving picture, after which it counts as frozen."
    )
    boot_grace_seconds: Seconds = _knob(300, "Time after a boot in which a reported crash is not acted on.")
    credible_absence_seconds: Seconds = _knob(
        900, "Longest expected duration of a reboot, update or disk check; nobody is called earlier."
    )
    recovery_observer_grace_seconds: Seconds | None = _knob(
        None,
        "Time after a start or reconnect in which no client counts as silent; unset: twice the thresholds.",
    )
    recovery_max_share: Share = _knob(
        0.1, "Maximum share of the fleet with automatic actions under way, for clients with the same problem."
    )
    recovery_actions_per_day: TriesAboveZero = _knob(
        6, "Maximum automatic actions on one client per day; after that one each night."
    )
    recovered_heartbeats: TriesAboveZero = _knob(
        3, "Heartbeats in a row after which a client counts as recovered ..."
    )
    recovered_seconds: Seconds = _knob(60, "... if it has also been online this long.")
    relapse_seconds: Seconds = _knob(
        21_600,
        "If a client fails again within this time, the recovery continues at the rung where it stopped.",
    )
    recovery_restart_attempts: Tries = _knob(2, "Attempts of `restart_app`; 0 removes the rung.")
    recovery_reboot_attempts: Tries = _knob(1, "Attempts of `reboot_host`; 0 removes the rung.")
    recovery_power_cycle_attempts: Tries = _knob(1, "Attempts of `power_cycle`; 0 removes the rung.")

    opening_grace_seconds: Seconds = _knob(
        900, "Time after a client's opening in which it may still be dark, as it is switched on and boots."
    )
    closing_grace_seconds: Seconds = _knob(
        900, "Silence that begins this long before a client's closing counts as being switched off."
    )
    opening_lead_seconds: Seconds = _knob(
        1_800, "How long before a client's opening the recovery begins to repair what failed while closed."
    )

    log_lines_per_minute: LogLines = _knob(
        600, "Maximum log lines stored per client and minute; the rest is counted."
    )
    log_bytes_per_minute: Bytes = _knob(
        256 * 2**10, "Maximum bytes of log lines stored per client and minute."
    )

    command_expiry_seconds: Seconds = _knob(240, "Time after which a command that was not started expires.")
    bulk_per_second: Rate = _knob(5, "Maximum commands of bulk actions sent in a second.")
    command_lockout_threshold: TriesAboveZero = _knob(
        3, "Number of disruptive commands that locks a client ..."
    )
    command_lockout_window_seconds: Seconds = _knob(900, "... if they were published within this time.")
    restart_app_timeout_seconds: Seconds = _knob(120, "Maximum duration of `restart_app`, once started.")
    reboot_timeout_seconds: Seconds = _knob(600, "Maximum duration of `reboot_host`, once started.")
    shutdown_timeout_seconds: Seconds = _knob(120, "Maximum duration of `shutdown_host`, once started.")
    power_cycle_timeout_seconds: Seconds = _knob(900, "Maximum duration of `power_cycle`, once started.")
    power_cycles_per_day: TriesAboveZero = _knob(3, "Maximum power cycles of one outlet per day.")
    power_cycle_stagger_seconds: Seconds = _knob(
        2, "Minimum time between the starts of two power cycles at one site, against inrush current."
    )

    log_level: Level = _knob(MinimumLogLevel.INFO, "Minimum log level; the log goes to standard error.")
    log_format: Format = _knob(LogFormat.TEXT, "Format of log lines.")
    metrics_token: Token | None = _knob(
        None, "Bearer token for `/metrics`; if unset, only the local host has access."
    )
    notify_allow_private: Switch = _knob(
        False, "Let notification channels reach private and loopback addresses."
    )
    healthcheck_url: WebAddress | None = _knob(
        None,
        "Address fetched every minute while everything is well, so that its owner notices a dead daemon.",
    )
    secrets_key: Keys | None = _knob(
        None, "Key under which the database keeps secrets that are used again; keep a copy elsewhere."
    )
    availability_retention_days: Days = _knob(1_100, "How long daily sums of availability are kept.")
    retention_days: Days = _knob(
        90, "How long timelines, finished commands, logs and the audit trail are kept."
    )

    @field_validator("stale_min_seconds")
    @classmethod
    def _fits_below_the_maximum(cls, value: float, info: ValidationInfo) -> float:
        most = info.data.get("heartbeat_stale_seconds", value)
        if value > most:
            raise ValueError(f"allowed is at most HEARTBEAT_STALE_SECONDS, which is {most:g}")
        return value

    @field_validator("mqtt_tls_keyfile", "http_tls_keyfile")
    @classmethod
    def _comes_with_its_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        certfile = str(info.field_name).replace("keyfile", "certfile")
        if certfile in info.data and (value is None) != (info.data[certfile] is None):
            raise ValueError(f"{certfile.upper()} and {str(info.field_name).upper()} are needed together")
        return value


SECRETS = frozenset(
    {
        "mqtt_password",
        "mqtt_probe_password",
        "metrics_token",
        "secrets_key",
        "healthcheck_url",
        "oidc_client_secret",
    }
)
NEEDED_TO_SERVE = {
    "mqtt_user": "the broker requires an account",
    "mqtt_password": "the broker requires a password",
}
ENV_FILE, INSTALLED_FILE = ".env", "infoscreen.env"
BROKER_TLS_FILES = ("mqtt_tls_ca_cert", "mqtt_tls_certfile", "mqtt_tls_keyfile")
TLS_FILES = ("http_tls_certfile", "http_tls_keyfile", *BROKER_TLS_FILES)


def _read(names: Collection[str]) -> Given:
    installed = settings_sources.installed_file(INSTALLED_FILE, os.environ)
    return settings_sources.read(names, files=(env_file(), installed))


def env_file() -> Path:
    """Return where ``.env`` is, or would be: in the working directory."""
    return Path(ENV_FILE).absolute()


def is_given(name: str) -> bool:
    """Tell whether any source gives a value for the setting."""
    return name in _read(Settings.model_fields).values


def load(*, serving: bool = False) -> Settings:
    """Return the settings as all sources together give them.

    Args:
        serving: also ask for what only the daemon needs: the account at the broker, and TLS files that this
            user can read. ``db upgrade`` and its like do without.

    Raises:
        InvalidSettings: one line for each fault: the variable, what was given and what is allowed.
    """
    given = _read(Settings.model_fields)
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
    if serving and settings is not None:
        faults += sign_in_faults(
            settings, has_key=settings.secrets_key is not None, has_origin=settings.public_origin is not None
        )
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
    given = _read(Settings.model_fields)
    found = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        shown = None if value is None or value == () else _shown(name, value)
        if name == "database_url" and (file := address.parse(value).file) is not None:
            shown = f"{address.SQLITE}:///{file}"  # for any working directory
        found.append(Effective(name.upper(), shown, given.source(name)))
    return found


REPLACED = {
    "recovery_max_concurrent": "replaced by RECOVERY_MAX_SHARE, a part of the fleet",
    "recovery_storm_cooldown_seconds": "not needed any more: an outage is over when its clients are back",
    "recovery_reboots_per_hour": "replaced by RECOVERY_ACTIONS_PER_DAY, for actions of all kinds",
    "recovery_power_cycles_per_day": "replaced by RECOVERY_ACTIONS_PER_DAY, for actions of all kinds",
}
"""Settings of earlier versions, and what has taken their place."""


def _outdated() -> list[str]:
    given = _read(REPLACED)
    return [f"{name.upper()} ({given.source(name)}): {REPLACED[name]}." for name in given.values]


def cautions(settings: Settings) -> list[str]:
    """Return what is allowed but probably not meant."""
    given = _read([*Settings.model_fields, *REPLACED])
    found = [*given.strangers, *_outdated()]
    given_tls = [name.upper() for name in BROKER_TLS_FILES if getattr(settings, name) is not None]
    if given_tls and not settings.mqtt_tls_enabled:
        found.append(f"{', '.join(given_tls)}: without effect, MQTT_TLS_ENABLED is false.")
    if settings.mqtt_tls_enabled and settings.mqtt_tls_insecure:
        found.append("MQTT_TLS_INSECURE is true: anybody in between can pretend to be the broker.")
    if not settings.mqtt_tls_enabled and not is_loopback(settings.mqtt_host):
        found.append(f"MQTT_TLS_ENABLED is false: the password goes to {settings.mqtt_host} in the clear.")
    if is_http_open(settings):
        found.append(
            f"HTTP_HOST={settings.http_host}: the panel can be reached without TLS. Put a proxy before it "
            "and set PUBLIC_ORIGIN, or set HTTP_TLS_CERTFILE."
        )
    if settings.metrics_token is None and (settings.trusted_proxies or settings.public_origin):
        found.append(
            "METRICS_TOKEN is not set: set it, so that no proxy can make /metrics public by mistake."
        )
    return found


def is_http_open(settings: Settings) -> bool:
    """Tell whether the panel can be reached from other hosts without TLS or a proxy before it."""
    proxied = bool(settings.trusted_proxies) or (settings.public_origin or "").startswith("https://")
    return settings.http_tls_certfile is None and not proxied and not is_loopback(settings.http_host)


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
