"""Delivers one message in a process of its own: reads an order from standard input, writes how it went.

A process can be ended whatever a library or a receiver does, its memory is not the daemon's, and it refuses
every connection to an address that is not allowed: at the connection itself, after redirects and names are
resolved. Secrets come through standard input only. Apprise is imported here and nowhere else.
"""

import contextlib
import http.client
import json
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from typing import Any
from urllib.parse import urlsplit

from infoscreen.domain.targets import is_public

MOST_MEMORY = 1 * 2**30
MOST_ANSWER = 4_096
"""Bytes of an answer that are read; the rest is not needed to know how it went."""

SOCKET_SECONDS = 10.0
CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
STARTING = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn"})


class _Guard:
    """Refuses connections to addresses that are not allowed, and starting programs."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self.refused = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Be an audit hook."""
        if event in STARTING:
            raise PermissionError(f"{event} is not allowed")
        if event not in CONNECTING:
            return
        opened, address = arguments[0], arguments[1]
        if address is None:
            return
        internet = opened.family in (socket.AF_INET, socket.AF_INET6)
        if internet and (self._allow_private or is_public(str(address[0]))):
            return
        self.refused = True
        raise PermissionError("the address is not allowed")


def _webhook(order: dict[str, Any]) -> dict[str, Any]:
    parts = urlsplit(order["url"])
    host, path = parts.hostname or "", parts.path or "/"
    kind: type[http.client.HTTPConnection] = http.client.HTTPConnection
    more: dict[str, Any] = {}
    if parts.scheme == "https":
        kind, more = http.client.HTTPSConnection, {"context": ssl.create_default_context()}
    connection = kind(host, parts.port, timeout=SOCKET_SECONDS, **more)
    with contextlib.closing(connection):
        target = f"{path}?{parts.query}" if parts.query else path
        connection.request("POST", target, order["body"].encode(), order["headers"])
        answer = connection.getresponse()
        text = answer.read(MOST_ANSWER).decode("utf-8", "replace")
        # A redirect would carry the message to where nobody has sent it.
        return {
            "ok": 200 <= answer.status < 300,
            "status": answer.status,
            "retry_after": answer.headers.get("Retry-After"),
            "detail": text,
        }


def _apprise(order: dict[str, Any]) -> dict[str, Any]:
    try:
        import apprise
    except ImportError:
        return {"ok": False, "missing": True, "detail": ""}
    answers = _noted_answers()
    sender = apprise.Apprise()
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as said:  # type: ignore[no-untyped-call]
        if not sender.add(order["url"]):
            return {"ok": False, "unknown": True, "detail": said.getvalue()}
        # Asked of the service itself: Apprise reads URLs in ways of its own, such as options behind a "#".
        templates = [getattr(service, "template", None) for service in sender]
        if any(isinstance(one, apprise.AppriseAttachment) and len(one) for one in templates):
            # A file of this host would be sent.
            return {"ok": False, "unknown": True, "detail": "template files are not supported"}
        if order["op"] == "check":
            return {"ok": True, "detail": ""}
        done = sender.notify(title=order["title"], body=order["body"], body_format=apprise.NotifyFormat.TEXT)
        status, retry_after = answers[-1] if answers else (None, None)
        return {
            "ok": bool(done),
            "status": status,
            "retry_after": retry_after,
            "detail": said.getvalue(),
        }


def _noted_answers() -> list[tuple[int, str | None]]:
    """Let requests note the answers that it gets: Apprise keeps their status and headers to itself."""
    from requests import Response, adapters

    answers: list[tuple[int, str | None]] = []
    adapter: Any = adapters.HTTPAdapter
    build = adapter.build_response

    def noting(self: Any, request: Any, answer: Any) -> Response:
        response: Response = build(self, request, answer)
        answers.append((response.status_code, response.headers.get("Retry-After")))
        return response

    adapter.build_response = noting
    return answers


def deliver(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order in this process, which is made for it."""
    guard = _Guard(allow_private=order["allow_private"])
    sys.addaudithook(guard)
    try:
        answer = _apprise(order) if order["kind"] == "apprise" else _webhook(order)
    except (OSError, http.client.HTTPException, ValueError) as error:
        answer = {"ok": False, "detail": f"{type(error).__name__}: {error}"}
    # A name with several addresses may have led to one that is allowed after all.
    if guard.refused and not answer["ok"]:
        answer["private"] = True
    return answer


def main() -> None:
    """Be the process."""
    order = json.loads(sys.stdin.buffer.readline())
    # Should the daemon be killed, this ends by itself.
    signal.alarm(int(order["seconds"]) + 5)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    defaults = ssl.get_default_verify_paths()
    if defaults.cafile:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", defaults.cafile)
    try:
        answer = deliver(order)
    except MemoryError:
        answer = {"ok": False, "detail": "MemoryError"}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)  # threads of a library hold nothing up


if __name__ == "__main__":
    main()
