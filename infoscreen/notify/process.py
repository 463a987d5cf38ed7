"""Delivers messages by starting a process for each; see ``sender``."""

import asyncio
import contextlib
import hmac
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from infoscreen.clock import Clock
from infoscreen.domain.notifying import ChannelKind, DeliveryFault
from infoscreen.notify.rendering import rendered, webhook_payload
from infoscreen.services.ports import Delivered, Notice, Receiver

LIMIT_SECONDS = 30.0
MOST_DETAIL = 500
MOST_OUTPUT = 256 * 1024
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
MASK = "********"


class ProcessSender:
    """A ``Sender`` that starts one process for each delivery and ends it after 30 s, whatever happens."""

    def __init__(self, clock: Clock, origin: str | None, *, allow_private: bool) -> None:
        """Prepare; nothing is started or imported before the first delivery.

        ``origin`` is where links lead to, ``allow_private`` lets channels reach private addresses.
        """
        self._clock = clock
        self._origin = origin
        self._allow_private = allow_private

    async def check(self, kind: ChannelKind, url: str) -> Delivered:
        """Tell whether the URL is understood, without connecting anywhere."""
        if kind is ChannelKind.WEBHOOK:
            return Delivered(ok=True)
        return await self._run({"op": "check", "kind": kind.value, "url": url}, url)

    async def send(self, receiver: Receiver, notice: Notice) -> Delivered:
        """Deliver a message; never raises for what the world does."""
        order: dict[str, Any] = {"op": "send", "kind": receiver.kind.value, "url": receiver.url}
        if receiver.kind is ChannelKind.APPRISE:
            title, body = rendered(notice, receiver.language, self._origin)
            order |= {"title": title, "body": body}
        else:
            payload = webhook_payload(notice, receiver.language, self._origin, self._clock.now())
            body = json.dumps(payload, ensure_ascii=False)
            secret = (receiver.secret or "").encode()
            headers = {
                "Content-Type": "application/json; charset=utf-8",
                "User-Agent": "infoscreen",
                "X-Infoscreen-Message-Id": notice.message_id,
                "X-Infoscreen-Signature": f"sha256={hmac.digest(secret, body.encode(), 'sha256').hex()}",
            }
            order |= {"body": body, "headers": headers}
        return await self._run(order, receiver.url)

    def preview(self, notice: Notice, language: str) -> tuple[str, str]:
        """Return title and text of a message."""
        return rendered(notice, language, self._origin)

    async def _run(self, order: dict[str, Any], url: str) -> Delivered:
        order |= {"allow_private": self._allow_private, "seconds": LIMIT_SECONDS}
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "infoscreen.notify.sender"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
                limit=MOST_OUTPUT,
            )
        except OSError as error:
            return Delivered(ok=False, fault=DeliveryFault.NO_PROCESS, detail=str(error.strerror))
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                answer = await _exchange(process, json.dumps(order).encode() + b"\n")
                await process.wait()
        except TimeoutError:
            return Delivered(ok=False, fault=DeliveryFault.TIMED_OUT)
        finally:
            await _ended(process)
        return _delivered(answer, url, self._clock.now())


async def _ended(process: asyncio.subprocess.Process) -> None:
    # Not killed once it has ended: that would take its exit status from asyncio.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _exchange(process: asyncio.subprocess.Process, order: bytes) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - tells mypy
    with contextlib.suppress(ConnectionError):
        process.stdin.write(order)
        await process.stdin.drain()
    try:
        answer = json.loads(await process.stdout.readline())
    except ValueError:  # also a line that is too long
        answer = None
    return answer if isinstance(answer, dict) else {"ok": False, "died": True}


def _delivered(answer: dict[str, Any], url: str, now: datetime) -> Delivered:
    faults = {
        "missing": DeliveryFault.EXTRA_MISSING,
        "unknown": DeliveryFault.NOT_UNDERSTOOD,
        "private": DeliveryFault.PRIVATE_TARGET,
        "died": DeliveryFault.NO_PROCESS,
    }
    ok = bool(answer.get("ok"))
    fault = None if ok else next((faults[name] for name in faults if answer.get(name)), DeliveryFault.FAILED)
    status = answer.get("status")
    return Delivered(
        ok=ok,
        fault=fault,
        status=status if isinstance(status, int) else None,
        retry_after=waiting_time(answer.get("retry_after"), now),
        detail=redacted(str(answer.get("detail") or ""), url),
    )


def waiting_time(header: Any, now: datetime) -> timedelta | None:
    """Return what a header ``Retry-After`` asks for, a number of seconds or a date; None without one."""
    if not isinstance(header, str):
        return None
    if header.strip().isascii() and header.strip().isdecimal():
        return timedelta(seconds=int(header.strip()[:9]))
    try:
        at = parsedate_to_datetime(header).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max(timedelta(0), at - now)


def redacted(text: str, url: str) -> str:
    """Return a text of a library or receiver on one line, cut, and without any part of the URL in it."""
    rest = url.partition("://")[2]
    secret = {rest, url, unquote(rest)}
    for part in (rest, unquote(rest), url.partition("?")[2]):
        word = ""
        for character in f"{part} ":
            if character.isalnum() or character in "-_.~%+$!":
                word += character
            else:
                secret.add(word)
                secret.update(word.split("."))
                word = ""
    for word in sorted(secret, key=len, reverse=True):
        if len(word) >= 4:
            text = text.replace(word, MASK)
    plain = " ".join(text.split())
    shown = "".join(character if character.isprintable() else "?" for character in plain)
    return shown if len(shown) <= MOST_DETAIL else shown[: MOST_DETAIL - 3] + "..."
