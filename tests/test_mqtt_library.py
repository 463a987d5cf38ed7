"""What ``infoscreen/mqtt/client.py`` uses of aiomqtt and paho below their public interface is there."""

import inspect
import tomllib
from importlib.metadata import requires
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
import pytest

import infoscreen
from infoscreen.mqtt import client as ours
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.listening import ListeningClient

PINS = {"paho-mqtt": "paho-mqtt>=2.1,<2.2", "aiomqtt": "aiomqtt>=2.5.1,<3"}


def test_the_library_is_pinned_where_we_reach_below_its_interface() -> None:
    project = Path(infoscreen.__file__).parent.parent / "pyproject.toml"
    needed = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {one for one in needed if one.startswith(tuple(PINS))} == set(PINS.values())
    assert any(one.startswith("paho-mqtt") for one in requires("aiomqtt") or [])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_sock_recv", ["self", "bufsize"]),
        ("_packet_queue", ["self", "command", "packet", "mid", "qos", "info"]),
        ("_send_pingreq", ["self"]),
        ("loop_read", ["self", "max_packets"]),
        ("loop_write", ["self"]),
    ],
)
def test_the_library_has_the_methods_of_paho_we_call_or_replace(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(paho.Client, name)).parameters) == parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_misc_loop", ["self"]),
        ("_on_socket_open", ["self", "client", "userdata", "sock"]),
        ("_on_socket_close", ["self", "client", "userdata", "sock"]),
    ],
)
def test_the_library_has_the_methods_of_aiomqtt_we_replace(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(aiomqtt.Client, name)).parameters) == parameters
    assert list(inspect.signature(getattr(ours.ReadingClient, name)).parameters) == parameters or name in {
        "_on_socket_close"
    }


async def test_the_library_keeps_the_attributes_we_look_at() -> None:
    client = ListeningClient(BrokerAddress("127.0.0.1", 1, None, None, "library"), None, 1_000)
    assert isinstance(client._client, paho.Client)
    assert not client._disconnected.done()
    assert client._loop is not None
    assert client._misc_task is None
    # paho reads through the method we have replaced, and reads no packet unless it is given one.
    assert client._client._sock_recv == client._give_paho
    with pytest.raises(BlockingIOError):
        client._client._sock_recv(1)
    assert client._client.on_socket_open == client._on_socket_open
