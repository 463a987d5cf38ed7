"""What the commands of ``infoscreen broker`` share: options, and telling the broker at the end."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from infoscreen.provisioning.broker_files import BrokerFiles

directory_type = click.Path(file_okay=False, path_type=Path)
directory_option = click.option(
    "--directory",
    type=directory_type,
    default=Path("/etc/mosquitto"),
    show_default=True,
    envvar="BROKER_DIRECTORY",
    show_envvar=True,
    help="Where the broker's files are.",
)
reload_option = click.option(
    "--reload/--no-reload", "reloads", default=True, help="Have the broker read its files, once, at the end."
)


def existing(directory: Path) -> "BrokerFiles":
    """Return the broker's files; raise ``ProvisioningError`` if `init` has not made them."""
    from infoscreen.domain.errors import ProvisioningError
    from infoscreen.provisioning.broker_files import BrokerFiles

    place = BrokerFiles(directory.absolute())
    if not place.passwords.exists():
        raise ProvisioningError(f"there is no broker in {directory}: run `infoscreen broker init` first")
    return place


def tell_broker(place: "BrokerFiles", reloads: bool) -> None:
    """Have the broker read its files, by a restart where a reload would cost the daemon its queue."""
    from infoscreen.provisioning import broker_process
    from infoscreen.provisioning.broker_process import BrokerTold

    if not reloads:
        click.echo("Reload the broker: infoscreen broker reload", err=True)
        return
    sentences = {
        BrokerTold.RESTARTED: "The daemon is not connected, so the broker was restarted instead of reloaded.",
        BrokerTold.RELOADED: "The broker was reloaded.",
        BrokerTold.NOT_RUNNING: "The broker does not run.",
    }
    click.echo(sentences[broker_process.tell(place)], err=True)


def some(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
