"""Who the simulated devices are: the same count and seed always make the same fleet.

Nothing here is real: the addresses are private, the MAC addresses are derived from the UUID.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from infoscreen.domain.commands import Action

_NAMESPACE = UUID("6f1c5c0a-7d0c-5b5e-9b1c-1f5a54d0b6aa")
"""Keeps simulated UUIDs apart from every other use of version 5."""

SITES = ("Rathaus", "Bibliothek", "Stadtwerke", "Klinikum", "Messe")
_PLACES = ("Foyer", "Infothek", "Wartebereich", "Kantine", "Aufzug Nord", "Aufzug Süd", "Saal", "Leitstelle")
_MODELS = (
    ("Raspberry Pi 4 Model B Rev 1.5", "Debian GNU/Linux 12 (bookworm)"),
    ("Raspberry Pi 5 Model B Rev 1.0", "Debian GNU/Linux 12 (bookworm)"),
    ("Intel NUC11ATKC4", "Debian GNU/Linux 12 (bookworm)"),
    ("Raspberry Pi 3 Model B Plus Rev 1.3", "Debian GNU/Linux 11 (bullseye)"),
)
_APP_VERSIONS = ("4.2.1", "4.2.1", "4.2.0", "4.1.7")
_AGENT_VERSIONS = ("1.0.3", "1.0.3", "1.0.2")
_BASIC = (Action.RESTART_APP, Action.REBOOT_HOST, Action.SHUTDOWN_HOST)


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change about a device. ``name`` and ``site`` are for the server; no device sends them."""

    uuid: str
    name: str
    site: str
    hostname: str
    ip: str
    mac: str
    hardware_model: str
    os_release: str
    software_version: str
    agent_version: str
    capabilities: tuple[str, ...]

    def can(self, action: Action) -> bool:
        """Tell whether the device carries out ``action``."""
        if action in (Action.DISPLAY_ON, Action.DISPLAY_OFF):
            return "cec" in self.capabilities
        return action in self.capabilities


def device_uuids(clients: int, seed: str) -> list[str]:
    """Return the UUIDs of a simulated fleet of so many clients, for giving them credentials."""
    return [str(uuid5(_NAMESPACE, f"{seed}/{number}")) for number in range(clients)]


def identities(uuids: Sequence[str]) -> list[Identity]:
    """Give each UUID a face; its position decides where it hangs and its bytes what it is."""
    return [_identity(uuid, number) for number, uuid in enumerate(uuids)]


def _identity(uuid: str, number: int) -> Identity:
    raw = UUID(uuid).bytes
    site = SITES[number % len(SITES)]
    place = _PLACES[number // len(SITES) % len(_PLACES)]
    floor = number // (len(SITES) * len(_PLACES))
    model, os_release = _MODELS[raw[0] % len(_MODELS)]
    hostname = f"{site}-{place}".lower().replace("ü", "ue").replace(" ", "-") + (f"-{floor}" if floor else "")
    extras = ("screenshot", "cec") if raw[1] % 3 else ("screenshot",)
    return Identity(
        uuid=uuid,
        name=f"{site} {place}" + (f" {floor}" if floor else ""),
        site=site,
        hostname=hostname,
        ip=f"10.{20 + number // 60_000}.{number // 240 % 250}.{10 + number % 240}",
        mac=":".join(f"{byte:02x}" for byte in (0x02, *raw[1:6])),
        hardware_model=model,
        os_release=os_release,
        software_version=_APP_VERSIONS[raw[2] % len(_APP_VERSIONS)],
        agent_version=_AGENT_VERSIONS[raw[3] % len(_AGENT_VERSIONS)],
        capabilities=(*_BASIC, *extras),
    )
