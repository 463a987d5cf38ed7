"""``infoscreen doctor``: is this installation in order, and if not, what is there to do.

Looks only; changes nothing but a database lock that is given back at once.
"""

import asyncio
import os
import pwd
import resource
import shutil
import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import infoscreen
from infoscreen import broker_address, config_check, installation, local_daemon
from infoscreen.clock import SystemClock
from infoscreen.domain.accounts import Role
from infoscreen.domain.alerts import Severity
from infoscreen.domain.broker import BrokerFault
from infoscreen.domain.errors import (
    BrokerUnavailable,
    CannotStart,
    DatabaseNotReady,
    InvalidSettings,
    StoreTrouble,
    StoreUnavailable,
    WrongListener,
)
from infoscreen.domain.visible import visible
from infoscreen.local_daemon import DaemonPresence
from infoscreen.mqtt import probe
from infoscreen.mqtt.canary import AclState
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.provisioning import broker_process
from infoscreen.provisioning.broker_files import DEBIANS, BrokerFiles
from infoscreen.services.accounts import Accounts
from infoscreen.services.certificates import CertificateWatch
from infoscreen.services.passwords import Passwords
from infoscreen.settings import INSTALLED_FILE, Settings, cautions, env_file, load
from infoscreen.settings_sources import installed_file
from infoscreen.storage import backups, schema
from infoscreen.storage.engine import Store
from infoscreen.storage.notify import channels
from infoscreen.words.speaking import say

LITTLE_SPACE = 1_000_000_000
NO_SPACE = 100_000_000
"""Bytes free beside the database; below that a migration or a busy hour may fill the disk."""

FEW_FILES = 1024
"""systemd's own default for a service; every open browser takes one."""

ADVICE = {
    StoreTrouble.LOCKED: "Find out which process holds it, and for what.",
    StoreTrouble.FULL: "Make room, or lower RETENTION_DAYS.",
    StoreTrouble.READ_ONLY: "Let this user write it; after a fail-over connect to the primary server.",
    StoreTrouble.DAMAGED: "Stop everything that uses it and restore a backup.",
}

BROKER_ADVICE = {
    BrokerFault.REFUSED: "MQTT_USER and MQTT_PASSWORD must be an account of the broker.",
    BrokerFault.NOT_YET_VALID: "Is this host's clock right?",
    BrokerFault.EXPIRED: "Renew it with `infoscreen pki renew`, which also reloads the broker.",
    BrokerFault.WRONG_NAME: "Set MQTT_HOST to a name in the certificate.",
    BrokerFault.UNKNOWN_CA: "MQTT_TLS_CA_CERT must be the CA that signed the broker's certificate.",
}

BACKUPS = "backups"
"""Where backups are, in the directory of the database."""

OLD_HOURS = 26
"""After so long a daily backup is overdue."""

TIMEDATECTL_SECONDS = 5


class CheckStatus(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """What was found, and what to do about it unless all is well."""

    verdict: CheckStatus
    what: str
    advice: str = ""


def line(finding: Check) -> str:
    """Return the finding as ``ok|warn|fail  what  what to do``, in one line whatever SQLite says."""
    return f"{finding.verdict:<4}  {' '.join(finding.what.split())}  {finding.advice}".rstrip()


async def examine() -> list[Check]:
    """Make all checks that the settings allow."""
    findings, settings = _settings()
    if settings is not None:
        findings += await _database(settings)
        findings += await _broker(settings)
        findings += await _certificates(settings)
        findings.append(await asyncio.to_thread(_daemon, settings))
    findings += await _clock()
    findings.append(_open_files())
    return findings


def _settings() -> tuple[list[Check], Settings | None]:
    advice = "Correct the setting; `infoscreen config show` tells what counts."
    try:
        settings = config_check.loaded()
    except InvalidSettings as error:
        findings = [Check(CheckStatus.FAIL, fault, advice) for fault in str(error).splitlines()]
        try:
            return findings, load()
        except InvalidSettings:
            return findings, None
    warnings = [Check(CheckStatus.WARN, caution, advice) for caution in cautions(settings)]
    return [Check(CheckStatus.OK, "settings are right"), *warnings], settings


async def _database(settings: Settings) -> list[Check]:
    findings = []
    file = schema.sqlite_file(settings.database_url)
    if file is not None and file.parent.is_dir():
        findings.append(_space(file.parent))
        findings += [*_owners(file), *_backups(file.parent)]
    try:
        await schema.check_url(settings.database_url)
        store = Store(settings.database_url)
        try:
            damage = await schema.damage(store)
            if damage is not None:
                what = f"database is damaged: {damage}"
                return [Check(CheckStatus.FAIL, what, ADVICE[StoreTrouble.DAMAGED]), *findings]
            await schema.check_writable(store)
            findings.insert(0, Check(CheckStatus.OK, "database is migrated, whole and can be written"))
            findings.append(await _admin(store))
            findings += await _channels(store)
        finally:
            await store.close()
    except DatabaseNotReady as error:
        findings.insert(0, Check(CheckStatus.FAIL, str(error)))
    except StoreUnavailable as trouble:
        advice = ADVICE.get(trouble.trouble, "Its own log, or the system's, tells more.")
        findings.insert(0, Check(CheckStatus.FAIL, str(trouble), advice))
    return findings


def _space(directory: Path) -> Check:
    free = shutil.disk_usage(directory).free
    what = f"{free / 1e9:.1f} GB are free in {directory.resolve()}"
    if free >= LITTLE_SPACE:
        return Check(CheckStatus.OK, what)
    advice = "Make room, or lower RETENTION_DAYS."
    return Check(CheckStatus.WARN if free >= NO_SPACE else CheckStatus.FAIL, what, advice)


def _owners(file: Path) -> list[Check]:
    """Files of a database, or of the settings, that the daemon cannot write or everybody can read."""
    findings = []
    owner = file.parent.stat().st_uid
    files = [Path(f"{file}{ending}") for ending in ("", *backups.COMPANIONS)]
    for one in files:
        if one.exists() and one.stat().st_uid != owner:
            what = f"{one} belongs to {_user(one.stat().st_uid)}, its directory to {_user(owner)}"
            advice = f"`chown --reference={one.parent} {one}`, else the daemon cannot write it."
            findings.append(Check(CheckStatus.FAIL, what, advice))
    for one in (*files, installed_file(INSTALLED_FILE, os.environ), env_file()):
        if one.exists() and one.stat().st_mode & 0o007:
            advice = f"It holds secrets: `chmod 600 {one}`."
            findings.append(Check(CheckStatus.WARN, f"every user of this host can read {one}", advice))
    return findings


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _backups(directory: Path) -> list[Check]:
    """Where the timer of an installation makes backups: is there a new one."""
    place = directory / BACKUPS
    if not place.is_dir():
        return []
    newest = backups.backups_in(place)
    age = SystemClock().now().timestamp() - newest[0].stat().st_mtime if newest else None
    if age is not None and age < OLD_HOURS * 3_600:
        return [Check(CheckStatus.OK, f"newest backup is {age / 3_600:.0f} hours old")]
    what = (
        f"there is no backup in {place}" if age is None else f"newest backup is {age / 86_400:.1f} days old"
    )
    return [Check(CheckStatus.WARN, what, "`systemctl status infoscreen-backup.timer infoscreen-backup`")]


async def _admin(store: Store) -> Check:
    passwords = Passwords()
    try:
        accounts = Accounts(store, SystemClock(), passwords)
        cursor, more = None, True
        while more:
            page = await accounts.users(500, cursor)
            if any(user.role is Role.ADMIN and not user.disabled for user in page.items):
                return Check(CheckStatus.OK, "there is an admin who can sign in")
            cursor, more = page.next_cursor, page.next_cursor is not None
    finally:
        passwords.close()
    return Check(
        CheckStatus.FAIL, "nobody can sign in as admin", "Run `infoscreen user add NAME --role admin`."
    )


async def _channels(store: Store) -> list[Check]:
    """Notification channels that do not take messages."""
    async with store.read() as connection:
        failing = [one for one in await channels.every(connection) if one.enabled and one.failing_since]
    return [
        Check(
            CheckStatus.WARN,
            f"notifications to {visible(one.name, one_line=True)} fail since "
            f"{one.failing_since:%Y-%m-%d %H:%M} UTC: {visible(one.last_error or '', one_line=True)}",
            "Correct its address in the panel (Notifications) and test it.",
        )
        for one in failing
    ]


async def _broker(settings: Settings) -> list[Check]:
    try:
        address = broker_address.broker_address(settings)
    except CannotStart:
        return []  # the settings' own finding says so already
    where = f"{address.host}:{address.port}"
    try:
        ours = await probe.admit(address, broker_address.probe_address(settings))
    except WrongListener as error:
        advice = "Correct MQTT_HOST and MQTT_PORT before the daemon is started."
        return [Check(CheckStatus.FAIL, f"broker: {error}", advice)]
    except BrokerUnavailable as error:
        usual = "Start the broker, or correct the MQTT_ settings; its own log tells more."
        advice = usual if error.fault is None else BROKER_ADVICE.get(error.fault, usual)
        return [Check(CheckStatus.FAIL, f"broker: {error}", advice)]
    findings = [Check(CheckStatus.OK, f"broker at {where} lets the daemon in")]
    if await probe.anonymous_refusal(address) is None:
        advice = "Set `allow_anonymous false`; look for another file in conf.d that sets it true."
        findings.append(Check(CheckStatus.FAIL, "broker accepts connections without an account", advice))
    else:
        findings.append(Check(CheckStatus.OK, "broker requires an account"))
    findings.append(await _acl(settings, ours))
    findings += _broker_files()
    dropped = await probe.dropped(ours)
    if dropped:
        what = f"broker has dropped {dropped} messages since it started, because a queue was full"
        advice = "Raise max_queued_messages and max_queued_bytes; look for a device that sends too much."
        findings.append(Check(CheckStatus.WARN, what, advice))
    return findings


async def _acl(settings: Settings, ours: BrokerAddress) -> Check:
    stranger = broker_address.probe_address(settings)
    if stranger is None:
        advice = "Set MQTT_PROBE_PASSWORD; `infoscreen broker init` has written it to server.env."
        return Check(CheckStatus.WARN, "whether the broker's ACL is in force is not checked", advice)
    try:
        state = await probe.acl_state(ours, stranger)
    except BrokerUnavailable as error:
        advice = "Correct MQTT_PROBE_PASSWORD, the password of the account infoscreen-probe."
        return Check(CheckStatus.FAIL, f"the broker's ACL cannot be checked: {error}", advice)
    if state is AclState.OPEN:
        advice = "Restart the broker now; it does not start with a broken ACL file."
        return Check(CheckStatus.FAIL, "the broker's ACL is not in force: devices can do anything", advice)
    return Check(CheckStatus.OK, "the broker's ACL is in force")


def _broker_files() -> list[Check]:
    """Look at the files of a broker on this host, as far as this user can."""
    place = BrokerFiles(DEBIANS)
    if not os.access(place.secrets, os.R_OK):
        return []
    advice = "Correct it before the broker is reloaded; `infoscreen broker init` writes the files again."
    return [Check(CheckStatus.FAIL, fault, advice) for fault in broker_process.faults(place)]


async def _certificates(settings: Settings) -> list[Check]:
    try:
        address = broker_address.broker_address(settings)
    except CannotStart:
        return []
    watch = CertificateWatch(installation.certificates(settings, address), SystemClock())
    await watch.look(quietly=True)
    findings = [
        Check(
            CheckStatus.FAIL if alert.severity is Severity.CRITICAL else CheckStatus.WARN,
            say(alert.fact),
            "See `infoscreen pki status`, and docs/tls-runbook.md.",
        )
        for alert in watch.alerts()
    ]
    seen = {which.value: life.not_after for which, life in watch.lifetimes.items()}
    if seen and not findings:
        which, ends = min(seen.items(), key=lambda one: one[1])
        findings.append(
            Check(CheckStatus.OK, f"certificates are valid; the first one ({which}) until {ends:%Y-%m-%d}")
        )
    return findings


def _daemon(settings: Settings) -> Check:
    where = "{}:{}".format(*local_daemon.where(settings))
    match local_daemon.look(settings):
        case DaemonPresence.DAEMON:
            return Check(CheckStatus.OK, f"daemon answers at {where}")
        case DaemonPresence.SILENT:
            advice = "`journalctl -u infoscreen -p warning` says why. systemd restarts a daemon that hangs."
            return Check(CheckStatus.FAIL, f"what listens at {where} does not answer", advice)
        case DaemonPresence.SOMETHING_ELSE:
            advice = f"`ss -ltnp 'sport = {settings.http_port}'` names it. Stop it, or set HTTP_PORT."
            return Check(CheckStatus.FAIL, f"something else answers at {where}", advice)
        case DaemonPresence.NOBODY:
            return _not_running(settings, where)


def _not_running(settings: Settings, where: str) -> Check:
    try:
        family = socket.getaddrinfo(settings.http_host, settings.http_port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probing:
            probing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probing.bind((settings.http_host, settings.http_port))
    except OSError as error:
        advice = "Set HTTP_HOST and HTTP_PORT to an address of this host and a port above 1023."
        said = f"the daemon does not run, and cannot listen on {where}: {error.strerror or error}"
        return Check(CheckStatus.FAIL, said, advice)
    advice = "`systemctl start infoscreen`; if it ends again, `journalctl -u infoscreen -p err` says why."
    return Check(CheckStatus.FAIL, f"the daemon does not run: nobody listens at {where}", advice)


async def _clock() -> list[Check]:
    return [*_clock_before_installation(), *await _synchronised()]


def _clock_before_installation() -> list[Check]:
    installed = Path(infoscreen.__file__).stat().st_mtime
    now = SystemClock().now()
    if now.timestamp() > installed - 86_400:
        return []
    advice = "Set it: `timedatectl set-ntp true`, or `timedatectl set-time`."
    what = f"this host's clock is wrong: it says {now:%Y-%m-%d %H:%M} UTC, before infoscreen was installed"
    return [Check(CheckStatus.FAIL, what, advice)]


async def _synchronised() -> list[Check]:
    """Ask systemd; where there is none, nobody knows."""
    try:
        asking = await asyncio.create_subprocess_exec(
            *("timedatectl", "show", "--property=NTPSynchronized", "--value"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return []
    try:
        output, _ = await asyncio.wait_for(asking.communicate(), TIMEDATECTL_SECONDS)
    except TimeoutError:
        asking.kill()
        await asking.wait()
        return []
    match output.decode().strip():
        case "yes":
            return [Check(CheckStatus.OK, "clock is synchronised")]
        case "no":
            advice = "Run `timedatectl set-ntp true`; deadlines and skew are judged by this clock."
            return [Check(CheckStatus.WARN, "clock is not synchronised", advice)]
        case _:
            return []


def _open_files() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FEW_FILES:
        return Check(CheckStatus.OK, f"{'any number of' if soft < 0 else soft} files may be open")
    return Check(CheckStatus.WARN, f"only {soft} files may be open", "Raise LimitNOFILE= or `ulimit -n`.")
