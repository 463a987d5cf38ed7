"""What was given for each setting, and where: the reader for the daemon and for the agent.

Later wins: ``.env`` in the working directory (the daemon's), the file in ``/etc/infoscreen``,
``$CREDENTIALS_DIRECTORY`` (systemd), the environment. Both files have the same syntax, and this is their only
reader: the units have no ``EnvironmentFile=``, which treats backslashes and ``#`` differently. An empty value
counts as not given. Whether a value is allowed is decided elsewhere.
"""

import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

MASK = "********"
CONFIG_DIRECTORY, CONFIG_DIRECTORY_VARIABLE = "/etc/infoscreen", "INFOSCREEN_CONFIG_DIR"
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


def read(
    names: Collection[str],
    environment: Mapping[str, str] | None = None,
    *,
    prefix: str = "",
    files: Sequence[Path] = (),
) -> Given:
    """Read all sources for the settings of these lower-case names.

    Args:
        names: the settings, without the prefix.
        environment: the variables; those of the process by default.
        prefix: what variables and credentials begin with, in lower case.
        files: lines of ``NAME=value`` each; later ones win.
    """
    given = Given()
    variables = {f"{prefix}{name}": name for name in names}
    environment = os.environ if environment is None else environment
    layers: list[tuple[str, Iterable[tuple[str, str]]]] = [
        (str(file), _env_file(file, variables, given)) for file in files
    ]
    directory = environment.get("CREDENTIALS_DIRECTORY")
    layers.append((CREDENTIAL, _credentials(directory, variables, given)))
    layers.append((ENVIRONMENT, environment.items()))
    for source, layer in layers:
        for variable, value in layer:
            name = variables.get(variable.lower())
            if name is None or not value:
                continue
            if not _is_text(value):
                given.faults.append(f"{variable.upper()} ({source}): not UTF-8 text")
                continue
            given.values[name] = value
            given.sources[name] = source
    return given


def installed_file(name: str, environment: Mapping[str, str]) -> Path:
    """Return where an installation keeps this file: ``/etc/infoscreen``, or ``INFOSCREEN_CONFIG_DIR``."""
    return Path(environment.get(CONFIG_DIRECTORY_VARIABLE) or CONFIG_DIRECTORY).absolute() / name


def is_readable(path: Path) -> bool:
    """Tell whether this user may read the file."""
    try:
        with path.open("rb"):
            return True
    except (OSError, ValueError):
        return False


def _is_text(value: str) -> bool:
    """Tell whether the environment's bytes were text: what is not comes as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _env_file(file: Path, names: Collection[str], given: Given) -> Iterator[tuple[str, str]]:
    text = _text_of(file, given)
    if text is None:
        return
    # The parser, not dotenv_values(), which skips a broken line silently and expands ${...} in passwords.
    from dotenv.parser import parse_stream

    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            given.faults.append(f"{file} line {binding.original.line}: not NAME=value")
        elif binding.key is not None and binding.value is not None:
            _look_for_slip(binding.key, names, str(file), given)
            yield binding.key, binding.value


def _credentials(directory: str | None, names: Collection[str], given: Given) -> Iterator[tuple[str, str]]:
    if not directory or not Path(directory).is_dir():
        return
    for path in sorted(Path(directory).iterdir()):
        if path.name in names:
            value = _text_of(path, given)
            if value is not None:
                yield path.name, value.removesuffix("\n").removesuffix("\r")
        else:
            _look_for_slip(path.name, names, "the credentials", given)


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
