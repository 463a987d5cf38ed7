"""What was given for each setting, and where; whether it is any good is ``settings``' business.

Later wins: ``.env`` in the working directory, ``$CREDENTIALS_DIRECTORY`` (systemd), the environment. An empty
value counts as not given.
"""

import difflib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

ENV_FILE = Path(".env")
DEFAULT = "default"
CREDENTIAL = "credential"
ENVIRONMENT = "environment"

SIMILAR = 0.85
"""How alike two names must be for one to be taken for a slip of the other; HTTP_PROXY is no HTTP_PORT."""


@dataclass(slots=True)
class Given:
    """Values by the lower-case names of the settings, their sources, and what could not be read.

    ``strangers`` are sentences on names that no setting has, but nearly.
    """

    values: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def source(self, name: str) -> str:
        """Return where the value of the setting comes from."""
        return self.sources.get(name, DEFAULT)


def read(names: Collection[str]) -> Given:
    """Read all sources for the settings of these lower-case names."""
    given = Given()
    layers: tuple[tuple[str, Callable[[Collection[str], Given], Iterable[tuple[str, str]]]], ...] = (
        (str(ENV_FILE), _env_file),
        (CREDENTIAL, _credentials),
        (ENVIRONMENT, _environment),
    )
    for source, layer in layers:
        for name, value in layer(names, given):
            if name.lower() in names and value:
                given.values[name.lower()] = value
                given.sources[name.lower()] = source
    return given


def _env_file(names: Collection[str], given: Given) -> Iterator[tuple[str, str]]:
    text = _text_of(ENV_FILE, given)
    if text is None:
        return
    # The parser below pydantic-settings', which skips a broken line silently and expands ${...} in passwords.
    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            given.faults.append(f"{ENV_FILE} line {binding.original.line}: not NAME=value")
        elif binding.key is not None and binding.value is not None:
            _look_for_slip(binding.key, names, str(ENV_FILE), given)
            yield binding.key, binding.value


def _credentials(names: Collection[str], given: Given) -> Iterator[tuple[str, str]]:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory or not Path(directory).is_dir():
        return
    for path in sorted(Path(directory).iterdir()):
        if path.name in names:
            value = _text_of(path, given)
            if value is not None:
                yield path.name, value.removesuffix("\n").removesuffix("\r")
        else:
            _look_for_slip(path.name, names, "the credentials", given)


def _environment(names: Collection[str], given: Given) -> Iterator[tuple[str, str]]:
    yield from os.environ.items()


def _text_of(path: Path, given: Given) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        given.faults.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        given.faults.append(f"{path}: cannot be read: not UTF-8 text")
    return None


def _look_for_slip(name: str, names: Collection[str], place: str, given: Given) -> None:
    if name.lower() in names:
        return
    meant = difflib.get_close_matches(name.lower(), names, n=1, cutoff=SIMILAR)
    if meant:
        given.strangers.append(f"{name} in {place} is no setting. Did you mean {meant[0].upper()}?")
