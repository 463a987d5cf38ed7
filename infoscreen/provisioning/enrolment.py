"""What a device is given to connect: the settings of its agent, or one file that has everything.

Knows no files of the broker; ``infoscreen agent enroll`` reads what this writes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from infoscreen.domain.errors import ProvisioningError

VERSION = 1
MOST_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class DeviceAccess:
    """How devices reach the broker: what is written into their settings. ``ca`` is PEM."""

    host: str
    port: int
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A device's account, and how it reaches the broker."""

    uuid: str
    password: str
    broker: DeviceAccess

    def settings(self, ca_cert: str, *, upcoming: bool = False) -> dict[str, str]:
        """Return the agent's settings.

        ``ca_cert`` is where the device will have the CA; an ``upcoming`` password does not count yet.
        """
        found = {
            "AGENT_UUID": self.uuid,
            "AGENT_MQTT_PASSWORD_NEXT" if upcoming else "AGENT_MQTT_PASSWORD": self.password,
            "AGENT_MQTT_HOST": self.broker.host,
            "AGENT_MQTT_PORT": str(self.broker.port),
        }
        if self.broker.ca is not None:
            found |= {"AGENT_MQTT_TLS_ENABLED": "true", "AGENT_MQTT_TLS_CA_CERT": ca_cert}
        return found

    def env(self, ca_cert: str, *, upcoming: bool = False) -> str:
        """Return the settings as the text of ``agent.env``."""
        settings = self.settings(ca_cert, upcoming=upcoming)
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def file(self) -> str:
        """Return the one file with which a device enrols: JSON, secret."""
        return (
            json.dumps(
                {
                    "infoscreen_enrolment": VERSION,
                    "uuid": self.uuid,
                    "password": self.password,
                    "host": self.broker.host,
                    "port": self.broker.port,
                    "ca": self.broker.ca,
                }
            )
            + "\n"
        )


def read(text: str) -> Enrolment:
    """Return the content of an enrolment file; raise ``ProvisioningError``, which never quotes it."""
    try:
        said: Any = json.loads(text) if len(text) <= MOST_BYTES else None
        if said["infoscreen_enrolment"] != VERSION:
            raise ProvisioningError("this enrolment file is of another version of infoscreen")
        uuid, password, ca = str(UUID(said["uuid"])), said["password"], said["ca"]
        host, port = said["host"], said["port"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ProvisioningError("this is no enrolment file of infoscreen") from None
    plain = all(
        isinstance(one, str) and one and one.isprintable() and " " not in one for one in (password, host)
    )
    certificate = ca is None or (isinstance(ca, str) and ca.startswith("-----BEGIN CERTIFICATE-----"))
    if not plain or not certificate or not isinstance(port, int) or not 0 < port < 65536:
        raise ProvisioningError("this enrolment file is damaged")
    return Enrolment(uuid, password, DeviceAccess(host, port, ca))


def merged(before: str, settings: Mapping[str, str]) -> str:
    """Return the text of a settings file with these values; its other lines, remarks included, stay."""
    lines, waiting = [], dict(settings)
    for line in before.splitlines():
        name = line.removeprefix("#").partition("=")[0].strip()
        if name in settings and (not line.startswith("#") or name in waiting):
            if name in waiting:
                lines.append(f"{name}={waiting.pop(name)}")
            continue
        lines.append(line)
    return "".join(f"{line}\n" for line in [*lines, *(f"{name}={value}" for name, value in waiting.items())])
