"""The command line as people and programs run it, in a directory and an environment of its own."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infoscreen.cli import cli
from infoscreen.settings import Settings

CHECKOUT = Path(__file__).parent.parent
VARIABLES = [name.upper() for name in Settings.model_fields] + [
    "CREDENTIALS_DIRECTORY",
    "INFOSCREEN_URL",
    "INFOSCREEN_CA",
    "INFOSCREEN_TOKEN",
    "INFOSCREEN_DEVICE_PASSWORD",
    "INFOSCREEN_GATEWAY_PASSWORD",
]


@dataclass(frozen=True)
class Done:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """Runs commands in ``directory``, which is also the working directory of the test."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(directory)
        for variable in VARIABLES:
            monkeypatch.delenv(variable, raising=False)

    def give(self, *assignments: str) -> None:
        """Set environment variables, each ``NAME=value``."""
        for assignment in assignments:
            self._monkeypatch.setenv(*assignment.split("=", 1))

    def run(self, *arguments: str, typed: str = "") -> Done:
        """Run within this process; it must not have an event loop running."""
        result = CliRunner().invoke(cli, arguments, input=typed, prog_name="infoscreen")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def ok(self, *arguments: str, typed: str = "") -> Done:
        """Run what must succeed."""
        done = self.run(*arguments, typed=typed)
        assert done.code == 0, done
        return done

    def refused(self, *arguments: str, typed: str = "") -> str:
        """Run what must be refused with exit code 1, and return the reason, which is one line."""
        done = self.run(*arguments, typed=typed)
        assert done.code == 1, done
        assert done.out == ""
        (reason,) = done.err.splitlines()
        return reason

    async def start(
        self, *arguments: str, stderr: int = asyncio.subprocess.PIPE
    ) -> asyncio.subprocess.Process:
        """Start a process of its own."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "infoscreen", *arguments),
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
