"""requirements.lock is renewed by hand (scripts/lock); what it lacks is missing on every installed host."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def test_the_lock_file_has_what_the_project_needs_in_a_version_that_it_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.findall(r"--extra (\w+)", (ROOT / "scripts/lock").read_text())
    needed = [
        *project["dependencies"],
        *(one for name in extras for one in project["optional-dependencies"][name]),
    ]
    locked = dict(
        re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    assert extras
    assert [
        text
        for text in needed
        for one in [Requirement(text)]
        if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"))
    ] == []
