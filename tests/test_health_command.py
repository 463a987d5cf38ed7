"""``infoscreen health``: one line, and the exit codes of monitoring plugins."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infoscreen.health import PluginState, examine
from infoscreen.settings import load
from tests.broker import Broker
from tests.commands import CommandLine
from tests.daemon import Daemon
from tests.fakes import FakeClock
from tests.programs import find_free_port


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    line = CommandLine(tmp_path, monkeypatch)
    line.give(f"HTTP_PORT={find_free_port()}")
    return line


@contextmanager
def answering(port: int, answers: dict[str, tuple[int, str]]) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


READY = {"/readyz": (200, '{"status": "ready"}')}


def certificate(days: float) -> dict[str, tuple[int, str]]:
    at = FakeClock().now().timestamp() + days * 86_400
    name = "infoscreen_certificate_expiry_timestamp_seconds"
    return READY | {
        "/metrics": (200, f'# HELP x\n{name}{{which="ca"}} {at}\ninfoscreen_clients{{status="online"}} 3\n')
    }


@pytest.mark.parametrize(
    ("answers", "state", "said"),
    [
        (READY, PluginState.OK, "ready"),
        (certificate(100), PluginState.OK, "ready; 3 clients, 0 of them not well"),
        (certificate(20), PluginState.WARNING, "the certificate ca ends in 20 days"),
        (certificate(3), PluginState.CRITICAL, "the certificate ca ends in 3 days"),
        (certificate(-3), PluginState.CRITICAL, "the certificate ca ended 3 days ago"),
        (
            {"/readyz": (503, '{"detail": "Missing: broker.", "faults": {"broker": "not listening"}}')},
            PluginState.CRITICAL,
            "Missing: broker. not listening",
        ),
        ({"/readyz": (200, "<h1>A printer</h1>")}, PluginState.UNKNOWN, "something else"),
        ({}, PluginState.UNKNOWN, "something else"),
    ],
)
def test_what_the_daemon_answers_becomes_a_state(
    here: CommandLine, answers: dict[str, tuple[int, str]], state: PluginState, said: str
) -> None:
    settings = load()
    with answering(settings.http_port, answers):
        found = examine(settings, FakeClock())
    assert (found.state, found.sentence.startswith(said)) == (state, True), found
    assert len(found.line.splitlines()) == 1


def test_the_exit_code_tells_the_state(here: CommandLine) -> None:
    done = here.run("health")
    assert (done.code, done.out.startswith("CRITICAL: the daemon does not run")) == (2, True)
    here.give("HTTP_PORT=none")
    done = here.run("health")
    assert (done.code, done.out.startswith("UNKNOWN: HTTP_PORT=none")) == (3, True)


@pytest.mark.broker
async def test_a_real_daemon_is_ok_and_without_its_broker_it_is_not(
    tmp_path: Path, broker: Broker, here: CommandLine
) -> None:
    daemon = Daemon(tmp_path / "daemon", broker)
    await daemon.install()
    here.give(f"HTTP_PORT={daemon.port}")
    try:
        await daemon.start()
        done = await asyncio.to_thread(here.run, "health")
        assert (done.code, done.out.startswith("OK: ready; 0 clients")) == (0, True)
        await broker.stop()
        await daemon.wait_for("/readyz", 503)
        done = await asyncio.to_thread(here.run, "health", "--json")
        assert (done.code, done.json["state"]) == (2, "CRITICAL")
    finally:
        await daemon.kill()
