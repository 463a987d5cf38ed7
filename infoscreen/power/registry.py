"""Which drivers there are."""

from collections.abc import Callable

from infoscreen.domain.power import Outlet
from infoscreen.power.apc import Apc
from infoscreen.power.command import CommandOutlet
from infoscreen.power.ipmi import Ipmi
from infoscreen.power.options import bad
from infoscreen.power.raritan import Raritan, RaritanJson
from infoscreen.power.redfish import Redfish
from infoscreen.power.shelly import Shelly, ShellyGen1
from infoscreen.power.tasmota import Tasmota
from infoscreen.services.ports import PowerDriver

DRIVERS: dict[str, Callable[[Outlet], PowerDriver]] = {
    "shelly": Shelly,
    "shelly_gen1": ShellyGen1,
    "tasmota": Tasmota,
    "apc": Apc,
    "raritan": Raritan,
    "raritan_json": RaritanJson,
    "redfish": Redfish,
    "ipmi": Ipmi,
    "command": CommandOutlet,
}


def open_outlet(outlet: Outlet) -> PowerDriver:
    """Return the driver for an outlet; raise ``PowerError`` if the configuration makes no sense."""
    driver = DRIVERS.get(outlet.driver)
    if driver is None:
        raise bad(f"{outlet.driver!r} is no driver; there are: {', '.join(DRIVERS)}")
    return driver(outlet)
