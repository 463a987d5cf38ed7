"""Reads scenario files. Whatever is wrong with one is said at once, with the place and what is allowed."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from infoscreen.domain.errors import InvalidArguments
from infoscreen.simulator.scenarios.scenario import (
    Event,
    FleetTable,
    RhythmTable,
    Scenario,
    ScenarioEventKind,
)

MOST_BYTES = 1_000_000


def names() -> list[str]:
    """Return the names of the shipped scenarios."""
    here = files("infoscreen.simulator.scenarios")
    return sorted(
        entry.name.removesuffix(".toml") for entry in here.iterdir() if entry.name.endswith(".toml")
    )


def load(name_or_path: str) -> Scenario:
    """Return a shipped scenario by its name, or one of the user's own by its path (with a slash or .toml).

    Raises:
        InvalidArguments: there is none, or it is wrong; one line for each fault.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        path = Path(name_or_path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArguments(f"cannot read {path}: {error}") from None
        return parse(text, path.stem, str(path))
    if name_or_path not in names():
        raise InvalidArguments(
            f"there is no scenario {name_or_path!r}; there are {', '.join(names())}, "
            "and your own: give a path that ends in .toml"
        )
    file = files("infoscreen.simulator.scenarios") / f"{name_or_path}.toml"
    return parse(file.read_text(encoding="utf-8"), name_or_path, f"{name_or_path}.toml")


def parse(text: str, name: str, where: str) -> Scenario:
    """Return the scenario that the TOML text describes; ``where`` names it in errors.

    Raises:
        InvalidArguments: one line for each fault.
    """
    if len(text) > MOST_BYTES:
        raise InvalidArguments(f"{where}: larger than {MOST_BYTES} characters")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArguments(f"{where}: not TOML: {error}") from None
    try:
        return Scenario.model_validate({"name": name, **document})
    except ValidationError as error:
        raise InvalidArguments("\n".join(f"{where}: {_fault(one)}" for one in error.errors())) from None


def _fault(error: ErrorDetails) -> str:
    place = _place(error["loc"])
    match error["type"]:
        case "value_error" if error["loc"] and not isinstance(error["input"], dict | Event | FleetTable):
            return f"{place} is {error['input']!r}; allowed is {error['ctx']['error']}"
        case "value_error":
            return f"{place} {error['ctx']['error']}".strip()
        case "missing" if error["loc"][-1] == "what":
            return f"{place} is missing; allowed is {', '.join(ScenarioEventKind)}"
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden":
            return f"{place} is not known; there are {', '.join(_known(error['loc']))}"
        case "model_type" | "model_attributes_type" | "tuple_type" | "dict_type":
            table = (
                "are tables [[event]]" if error["loc"][0] == "event" else f"is a table [{error['loc'][0]}]"
            )
            return f"{place} is {error['input']!r}; allowed {table}"
        case _:
            return f"{place} is {error['input']!r}; {error['msg']}"


def _place(loc: tuple[int | str, ...]) -> str:
    match loc:
        case ("event", int(number), *rest):
            return f"[[event]] {number + 1}: {'.'.join(map(str, rest))}".strip()
        case ("fleet", first, *_):
            return f"[fleet] {first}"
        case _:
            return ".".join(map(str, loc))


def _known(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = {"event": Event, "fleet": FleetTable}.get(str(loc[0])) if len(loc) > 1 else Scenario
    if "heartbeat" in loc:
        model = RhythmTable
    return [name for name in model.model_fields if name != "name"]
