"""The AsyncAPI 3.0 document of the wire contract, made from the models; no field is written by hand twice.

Adds what no model says: topics, directions, QoS, retained. Returns plain data; the command line writes it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import models_json_schema

import infoscreen
from infoscreen.domain.commands import AT_THE_OUTLET
from infoscreen.wire import examples, topics
from infoscreen.wire.base import Message, State, described
from infoscreen.wire.messages import (
    MAX_SCREENSHOT_BYTES,
    Command,
    CommandAck,
    Discovery,
    Health,
    Heartbeat,
    LogLine,
    ServiceFailed,
    encode,
)

MQTT_BINDING = "0.2.0"
"""Version of the MQTT binding; each of its objects must name it."""

DESCRIPTION = """\
What infoscreen and its devices say to each other over MQTT, contract v1. Seen from the daemon: it receives
what a device sends, and sends what a device receives. The rules behind the messages, and every field in
words: docs/MQTT_EVENT_PAYLOAD_GUIDE.md.

v1 is frozen: devices may come to send more fields, which are ignored until they are known; a command never
has other fields than these; no topic changes. Where a field is optional, null means the same as leaving it
out: unknown. Times are ISO 8601, UTC with `Z`.
"""

DEVICE_PARAMETER = {"description": "The device's UUID, lower case with hyphens. It is its user name, too."}


@dataclass(frozen=True, slots=True)
class _Topic:
    """A topic of the contract: ``messages`` by their names in the document."""

    name: str
    address: str
    title: str
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Operation:
    """What the daemon does on a topic. ``qos`` is the contract's, of devices the one to prefer."""

    name: str
    action: str
    topic: str
    messages: tuple[str, ...]
    summary: str
    qos: int = 1
    retain: bool = False


_UUID = "{uuid}"

_TOPICS = (
    _Topic("discovery", topics.discovery(_UUID), "Who a device is", ("Discovery",)),
    _Topic("heartbeat", topics.heartbeat(_UUID), "Signs of life", ("Heartbeat",)),
    _Topic("health", topics.health(_UUID), "How a device is doing", ("Health",)),
    _Topic(
        "serviceFailed",
        topics.service_failed(_UUID),
        "A unit that systemd has given up on",
        ("ServiceFailed", "ServiceCleared"),
    ),
    _Topic("presence", topics.presence(_UUID), "Connected or not", ("Presence",)),
    _Topic("logs", f"{topics.ROOT}/{_UUID}/logs/{{level}}", "Lines of a device's log", ("LogLine",)),
    _Topic("screenshot", topics.screenshot(_UUID), "What the screen shows", ("Screenshot",)),
    _Topic("commands", topics.commands(_UUID), "Commands for a device", ("Command",)),
    _Topic("commandAlias", topics.command_alias(_UUID), "The older name of commands", ("Command",)),
    _Topic("ack", topics.acks(_UUID)[0], "What became of a command", ("CommandAck",)),
    _Topic("ackAlias", topics.acks(_UUID)[1], "The older name of the ack topic", ("CommandAck",)),
)

_OPERATIONS = (
    _Operation(
        "receiveDiscovery", "receive", "discovery", ("Discovery",), "Who the device is, after each start."
    ),
    _Operation("receiveHeartbeat", "receive", "heartbeat", ("Heartbeat",), "Alive; QoS 0 is allowed, too."),
    _Operation("receiveHealth", "receive", "health", ("Health",), "Readings; QoS 0 is allowed, too."),
    _Operation(
        "receiveServiceFailed",
        "receive",
        "serviceFailed",
        ("ServiceFailed", "ServiceCleared"),
        "A unit has failed for good; retained, and emptied when it is well again.",
        retain=True,
    ),
    _Operation(
        "receivePresence",
        "receive",
        "presence",
        ("Presence",),
        "The device's own word at connecting and leaving, and its last will.",
        retain=True,
    ),
    _Operation("receiveLog", "receive", "logs", ("LogLine",), "A line for the device's timeline."),
    _Operation("receiveScreenshot", "receive", "screenshot", ("Screenshot",), "The newest one is kept."),
    _Operation("receiveAck", "receive", "ack", ("CommandAck",), "Every ack is sent on both ack topics."),
    _Operation("receiveAckAlias", "receive", "ackAlias", ("CommandAck",), "The same ack once more."),
    _Operation("sendCommand", "send", "commands", ("Command",), "Never retained, with message expiry."),
    _Operation(
        "sendCommandAlias",
        "send",
        "commandAlias",
        ("Command",),
        "The same command once more, only with MQTT_COMMAND_ALIAS_ENABLED.",
    ),
    _Operation(
        "clearServiceFailed",
        "send",
        "serviceFailed",
        ("ServiceCleared",),
        "An operator has acknowledged the failure; empties what the broker retains.",
        retain=True,
    ),
)

_JSON_MESSAGES: dict[str, tuple[type[Message | State], Mapping[str, Message | State]]] = {
    "Discovery": (Discovery, {"full": examples.DISCOVERY}),
    "Heartbeat": (Heartbeat, {"full": examples.HEARTBEAT, "least": Heartbeat(timestamp=examples.NOW)}),
    "Health": (Health, {"full": examples.HEALTH}),
    "ServiceFailed": (ServiceFailed, {"full": examples.SERVICE_FAILED}),
    "LogLine": (LogLine, {"full": examples.LOG_LINE}),
    "Command": (Command, {"reboot": examples.REBOOT}),
    "CommandAck": (CommandAck, {"accepted": examples.ACCEPTED, "refused": examples.EXPIRED}),
}


def document() -> dict[str, Any]:
    """Return the AsyncAPI document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "infoscreen devices",
            "version": infoscreen.__version__,
            "description": DESCRIPTION,
            "license": {"name": "Proprietary"},
            "tags": [{"name": "contract-v1"}],
        },
        "defaultContentType": "application/json",
        "servers": {
            "production": _server("secure-mqtt", "{broker}:8883", "MQTT 3.1.1 or 5 over TLS."),
            "trial": _server("mqtt", "{broker}", "The private broker of `infoscreen demo`, without TLS."),
        },
        "channels": {topic.name: _channel(topic) for topic in _TOPICS},
        "operations": {operation.name: _operation(operation) for operation in _OPERATIONS},
        "components": {
            "messages": _messages(),
            "schemas": _schemas(),
            "securitySchemes": {
                "account": {
                    "type": "userPassword",
                    "description": "The user name is the device's UUID; the ACL keeps it on its own topics.",
                }
            },
        },
    }


def _server(protocol: str, host: str, description: str) -> dict[str, Any]:
    return {
        "host": host,
        "protocol": protocol,
        "protocolVersion": "3.1.1",
        "description": description,
        "variables": {"broker": {"default": "localhost", "description": "Where the broker is."}},
        "security": [{"$ref": "#/components/securitySchemes/account"}],
        "bindings": {
            "mqtt": {
                "clientId": "the device's UUID",
                "cleanSession": False,
                "keepAlive": 30,
                "lastWill": {
                    "topic": topics.presence("{uuid}"),
                    "qos": 1,
                    "message": "offline",
                    "retain": True,
                },
                "bindingVersion": MQTT_BINDING,
            }
        },
    }


def _channel(topic: _Topic) -> dict[str, Any]:
    parameters: dict[str, Any] = {"uuid": DEVICE_PARAMETER}
    if "{level}" in topic.address:
        parameters["level"] = {
            "enum": [level.value for level in topics.LogLevel],
            "description": "Log level.",
        }
    return {
        "address": topic.address,
        "title": topic.title,
        "parameters": parameters,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in topic.messages},
    }


def _operation(operation: _Operation) -> dict[str, Any]:
    binding: dict[str, Any] = {"qos": operation.qos, "retain": operation.retain}
    if operation.name.startswith("sendCommand"):
        # In whole seconds, rounded up from what is left until ``expires_at``.
        binding["messageExpiryInterval"] = {"type": "integer", "minimum": 1}
    channel = f"#/channels/{operation.topic}"
    return {
        "action": operation.action,
        "channel": {"$ref": channel},
        "summary": operation.summary,
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in operation.messages],
        "bindings": {"mqtt": {**binding, "bindingVersion": MQTT_BINDING}},
    }


def _messages() -> dict[str, Any]:
    described: dict[str, Any] = {
        name: {
            "name": name,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
            "examples": [
                {
                    "name": case,
                    "payload": json.loads(_encoded(example)),
                }
                for case, example in shown.items()
            ],
        }
        for name, (model, shown) in _JSON_MESSAGES.items()
    }
    described["ServiceCleared"] = {
        "name": "ServiceCleared",
        "summary": "No payload at all: the broker forgets what it retained.",
        "payload": {"type": "string", "maxLength": 0},
        "contentType": "text/plain",
    }
    described["Presence"] = {
        "name": "Presence",
        "summary": "Plain text, without quotes.",
        "contentType": "text/plain",
        "payload": {"type": "string", "enum": ["online", "offline"]},
        "examples": [{"name": "connected", "payload": examples.PRESENCE.presence.value}],
    }
    described["Screenshot"] = {
        "name": "Screenshot",
        "summary": f"The bytes of a whole JPEG or PNG, at most {MAX_SCREENSHOT_BYTES} of them.",
        "contentType": "image/jpeg",
        "payload": {"type": "string", "format": "binary", "maxLength": MAX_SCREENSHOT_BYTES},
    }
    return described


def _encoded(example: Message | State) -> bytes:
    """Return a message as it goes over the wire; commands and acks always have all their fields."""
    if isinstance(example, Command | CommandAck):
        return example.model_dump_json().encode()
    return encode(example)


def _schemas() -> dict[str, Any]:
    models = [described(model) for model, _ in _JSON_MESSAGES.values()]
    _, found = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = {name: _readable(schema) for name, schema in sorted(found["$defs"].items())}
    schemas["Command"]["required"] = list(Command.model_fields)
    sent = schemas["Action"]["enum"]
    schemas["Action"]["enum"] = [one for one in sent if one not in AT_THE_OUTLET]
    return schemas


def _readable(schema: Any) -> Any:
    """Return the schema without what pydantic adds for forms: titles, and null as a default."""
    if isinstance(schema, list):
        return [_readable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _readable(one) for name, one in value.items()}
        if key == "properties"
        else _readable(value)
        for key, value in schema.items()
        if key != "title" and not (key == "default" and value is None)
    }
