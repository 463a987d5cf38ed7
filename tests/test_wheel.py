"""The wheel is complete: installed into an empty environment, outside the checkout, it does its job."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.programs import find_free_port
from tests.waiting import until

CHECKOUT = Path(__file__).parent.parent

pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Return what a command wrote; show it if the command fails."""
    done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def started(
    command: list[str | Path], cwd: Path, env: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside the block, and kill it afterwards if it has not ended."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the ``infoscreen`` command of an environment that holds our wheel and what that asks for."""
    place = tmp_path_factory.mktemp("installed")
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(CHECKOUT)]
    run(sys.executable, *build, cwd=place)
    (wheel,) = place.glob("*.whl")
    run(sys.executable, "-m", "venv", "environment", cwd=place)
    run("environment/bin/python", "-m", "pip", "install", "--disable-pip-version-check", wheel, cwd=place)
    return place / "environment/bin/infoscreen"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with nothing of the checkout's in it, for a daemon whose broker is down."""
    return {
        "PATH": os.defpath,
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/screens.db",
        "HTTP_PORT": str(find_free_port()),
        "MQTT_PORT": str(find_free_port()),
        "MQTT_USER": "infoscreen-server",
        "MQTT_PASSWORD": "of a broker that is down",
    }


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError):
        return False


def test_the_installed_command_explains_itself(installed: Path, tmp_path: Path) -> None:
    shown = run(installed, "--help", cwd=tmp_path)
    for command in ("serve", "demo", "db", "user", "simulate", "doctor"):
        assert command in shown


def test_the_package_brings_its_files(installed: Path, tmp_path: Path) -> None:
    script = (
        "from infoscreen.resources import resource\n"
        "for name in ('templates', 'migrations', 'mosquitto'): print(resource(name))"
    )
    places = run(installed.with_name("python"), "-c", script, cwd=tmp_path).splitlines()
    for place, kind in zip(map(Path, places), ("*.html", "versions/*.py", "acl"), strict=True):
        assert place.is_relative_to(installed.parent.parent)
        assert list(place.rglob(kind))


async def test_the_installed_daemon_serves(
    installed: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    run(installed, "db", "upgrade", cwd=tmp_path, env=environment)
    log = tmp_path / "daemon.log"
    with started([installed, "serve"], tmp_path, environment, log) as daemon:
        url = f"http://127.0.0.1:{environment['HTTP_PORT']}/healthz"
        await until(lambda: daemon.poll() is not None or answers(url))
        assert daemon.poll() is None, log.read_text()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=60) == 0, log.read_text()
