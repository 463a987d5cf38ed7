"""The documented nftables rules, tried in network namespaces of the test's own."""

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import require

DOCUMENT = Path(__file__).parents[1] / "docs" / "tls-runbook.md"

SERVE = """
import socket, sys
servers = [socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
           for port in (1883, 8883, 8884, 443, 8080, 22)]
print("ready", flush=True)
sys.stdin.read()
"""
ASK = """
import socket, sys
for port in (1883, 8883, 8884, 443, 8080, 22):
    try:
        socket.create_connection((sys.argv[1], port), 0.4, source_address=(sys.argv[2], 0)).close()
        print(port)
    except OSError:
        pass
"""


def documented() -> str:
    found = re.search(r"```nft\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Yield two namespaces with a line between them: the server's, and one with addresses of all kinds."""
    if os.geteuid() != 0:
        pytest.skip("only root can make network namespaces")
    for program in ("nft", "ip"):
        require(program)
    mark = uuid.uuid4().hex[:6]
    server, others = f"srv-{mark}", f"oth-{mark}"
    if subprocess.run(["ip", "netns", "add", server], capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel lets nobody make network namespaces")
    run("ip", "netns", "add", others)
    try:
        run(
            "ip",
            "link",
            "add",
            f"s{mark}",
            "netns",
            server,
            "type",
            "veth",
            "peer",
            f"o{mark}",
            "netns",
            others,
        )
        for namespace, device, addresses in (
            (server, f"s{mark}", ["10.20.0.1/16", "192.0.2.1/24", "fd00:20::1/64"]),
            (others, f"o{mark}", ["10.20.5.5/16", "192.0.2.9/24", "192.0.2.66/24", "fd00:20::5/64"]),
        ):
            for address in addresses:
                more = ["nodad"] if ":" in address else []
                run("ip", "-n", namespace, "address", "add", address, "dev", device, *more)
            run("ip", "-n", namespace, "link", "set", device, "up")
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        yield server, others
    finally:
        for namespace in (server, others):
            run("ip", "netns", "delete", namespace)


@pytest.mark.system
@pytest.mark.slow
def test_only_device_networks_reach_the_broker(hosts: tuple[str, str]) -> None:
    server, others = hosts
    python = shutil.which("python3")
    assert python is not None
    serving = subprocess.Popen(
        ["ip", "netns", "exec", server, python, "-c", SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert serving.stdin is not None
    assert serving.stdout is not None
    try:
        assert serving.stdout.readline() == "ready\n"

        def reached(source: str, target: str) -> set[int]:
            said = run("ip", "netns", "exec", others, python, "-c", ASK, target, source)
            return {int(port) for port in said.split()}

        everything = {1883, 8883, 8884, 443, 8080, 22}
        assert reached("192.0.2.66", "192.0.2.1") == everything  # without rules
        rules = documented()
        for _ in range(2):  # loading them again changes nothing
            run("ip", "netns", "exec", server, "nft", "-f", "-", stdin=rules)
        assert reached("10.20.5.5", "10.20.0.1") == {8883, 443, 22}
        assert reached("fd00:20::5", "fd00:20::1") == {8883, 443, 22}
        assert reached("192.0.2.9", "192.0.2.1") == {8884, 443, 22}  # the daemon on another host
        assert reached("192.0.2.66", "192.0.2.1") == {443, 22}
        local = run("ip", "netns", "exec", server, python, "-c", ASK, "127.0.0.1", "127.0.0.1")
        assert {int(port) for port in local.split()} == everything
    finally:
        serving.stdin.close()
        serving.stdout.close()
        serving.wait(40)
