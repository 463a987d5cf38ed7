"""``infoscreen doctor``: is this installation in order, and if not, what is there to do.

Looks only; changes nothing but a database lock that is given back at once.
"""

import asyncio
import http.client
import json
import resource
import shutil
import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from infoscreen import app, config_check
from infoscreen.clock import SystemClock
from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import (
    CannotStart,
    DatabaseNotReady,
    InvalidSettings,
    StoreTrouble,
    StoreUnavailable,
)
from infoscreen.mqtt import probe
from infoscreen.services.accounts import Accounts
from infoscreen.services.passwords import Passwords
from infoscreen.settings import Settings, cautions, load
from infoscreen.storage import schema
from infoscreen.storage.engine import Store

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

ANSWER_SECONDS = 3
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
    """Return the finding as ``ok|warn|fail  what  what to do``."""
    return f"{finding.verdict:<4}  {finding.what}  {finding.advice}".rstrip()


async def examine() -> list[Check]:
    """Make all checks that the settings allow."""
    findings, settings = _settings()
    if settings is not None:
        findings += await _database(settings)
        findings += await _broker(settings)
        findings += await asyncio.to_thread(_http, settings)
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
    try:
        await schema.check_url(settings.database_url)
        store = Store(settings.database_url)
        try:
            damage = await schema.damage(store)
            if damage is not None:
                advice = "Stop everything that uses it and restore a backup."
                return [Check(CheckStatus.FAIL, f"database is damaged: {damage}", advice), *findings]
            await schema.check_writable(store)
            findings.insert(0, Check(CheckStatus.OK, "database is migrated, whole and can be written"))
            findings.append(await _admin(store))
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


async def _broker(settings: Settings) -> list[Check]:
    try:
        address = app.broker_address(settings)
    except CannotStart:
        return []  # the settings' own finding says so already
    where = f"{address.host}:{address.port}"
    reason = await probe.refusal(address)
    if reason is not None:
        advice = "Start the broker, or correct the MQTT_ settings; its own log tells more."
        return [Check(CheckStatus.FAIL, f"broker: {reason}", advice)]
    findings = [Check(CheckStatus.OK, f"broker at {where} lets the daemon in")]
    if await probe.anonymous_refusal(address) is None:
        advice = "Set `allow_anonymous false`; look for another file in conf.d that sets it true."
        findings.append(Check(CheckStatus.FAIL, "broker accepts connections without an account", advice))
    else:
        findings.append(Check(CheckStatus.OK, "broker requires an account"))
    dropped = await probe.dropped(address)
    if dropped:
        what = f"broker has dropped {dropped} messages since it started, because a queue was full"
        advice = "Raise max_queued_messages and max_queued_bytes; look for a device that sends too much."
        findings.append(Check(CheckStatus.WARN, what, advice))
    return findings


def _http(settings: Settings) -> list[Check]:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_host, settings.http_host)  # noqa: S104 - no bind
    where = f"{host}:{settings.http_port}"
    connection = http.client.HTTPConnection(host, settings.http_port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = json.loads(connection.getresponse().read(1000))
    except (TimeoutError, ConnectionResetError, http.client.HTTPException, ValueError):
        answer = None
    except OSError:
        return [_free_port(settings)]
    finally:
        connection.close()
    if answer == {"status": "ok"}:
        return [Check(CheckStatus.OK, f"daemon answers at {where}")]
    advice = "Stop what listens there, or set HTTP_PORT."
    return [Check(CheckStatus.FAIL, f"something else answers at {where}", advice)]


def _free_port(settings: Settings) -> Check:
    where = f"{settings.http_host}:{settings.http_port}"
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    with socket.socket(family) as probing:
        probing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probing.bind((settings.http_host, settings.http_port))
        except OSError as error:
            advice = "Set HTTP_HOST and HTTP_PORT to an address of this host and a port above 1023."
            return Check(CheckStatus.FAIL, f"cannot listen on {where}: {error.strerror or error}", advice)
    return Check(CheckStatus.OK, f"{where} is free; the daemon does not run")


async def _clock() -> list[Check]:
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
