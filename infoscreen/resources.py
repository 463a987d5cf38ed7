"""Where the files that are not code are: templates, migrations and the broker's configuration.

The wheel carries them inside the package; a checkout has them at its top level.
"""

from importlib.resources import files
from pathlib import Path


def resource(name: str) -> Path:
    """Return the directory ``name``, one of ``templates``, ``migrations`` and ``mosquitto``.

    Raises:
        FileNotFoundError: neither the package nor the checkout has it; the installation is broken.
    """
    package = Path(str(files("infoscreen")))
    for place in (package / name, package.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"infoscreen is not completely installed: {name}/ is missing in {package}")
