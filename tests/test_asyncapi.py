"""The AsyncAPI document is what the wire models say, and valid by the judgement of AsyncAPI's own parser."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator

from infoscreen.cli import cli
from infoscreen.cli.descriptions import yaml_lines
from infoscreen.wire import topics
from infoscreen.wire.asyncapi import document
from infoscreen.wire.messages import decode, decode_command
from tests.programs import cannot_run, require

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "docs" / "asyncapi.yaml"
WORKSHOP = Path(__file__).parent / "asyncapi"
UUID = "3f2b8c1e-5d04-4a7b-9c55-0d6e1f7a2b90"


pytestmark = pytest.mark.xdist_group("asyncapi")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document()


@pytest.fixture(scope="module")
def parser() -> list[str]:
    """Return the command that validates a file, after installing what the lock file names, if need be."""
    node, npm = require("node"), require("npm")
    installed = WORKSHOP / "node_modules" / ".package-lock.json"
    locked = WORKSHOP / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
        done = subprocess.run([npm, "ci"], cwd=WORKSHOP, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(WORKSHOP / "node_modules", ignore_errors=True)
            cannot_run(f"npm ci in {WORKSHOP} failed: {done.stderr[-2000:]}")
    return [node, str(WORKSHOP / "validate.mjs")]


def validate(parser: list[str], file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*parser, str(file)], capture_output=True, text=True, check=False)


def test_the_committed_document_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(cli, ["describe", "asyncapi"])
    assert printed.exit_code == 0, printed.output
    assert COMMITTED.read_text(encoding="utf-8") == printed.stdout, (
        "stale: infoscreen describe asyncapi > docs/asyncapi.yaml"
    )


def test_our_own_yaml_says_what_was_meant(described: dict[str, Any]) -> None:
    assert yaml.safe_load(COMMITTED.read_text(encoding="utf-8")) == described


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            "no",
            "ON",
            "null",
            "1.0",
            "~",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "'",
            '"',
            "@a",
            "{a}",
            "a ",
        ),
        *(
            "*a",
            "&a",
            "!a",
            "%a",
            "|",
            ">",
            "äöü",
            "a\tb",
            "a\nb",
            "a\nb\n",
            "\na\n",
            " a\nb\n",
            "a\n\n",
            "a\n\nb\n",
            "a\n\nb",
            "a\n b",
            "a\n \nb",
            "a\n\n\n",
            "\n",
            "a\r\nb",
            "a\x85b\nc",
            "\u2028\ufeff\x7f\U0001f600\n",
        ),
        *(0, -1, 1.5, True, False, None, [], {}),
        *([["a"], [["b"], {"c": ["d"]}]], [{"a": 1, "b": [1, {"c": None}]}], {"yes": {"no": []}, "1": "2"}),
    ],
)
def test_any_plain_data_survives_our_yaml(value: Any) -> None:
    for data in ({"key": value}, [value], {"deep": [{"key": value, "after": 1}]}):
        assert yaml.safe_load("\n".join(yaml_lines(data)) + "\n") == data


def test_the_parser_finds_the_document_valid(parser: list[str]) -> None:
    done = validate(parser, COMMITTED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid: 12 operations, 10 messages" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "finding"),
    [
        ("action: receive", "action: listen", "action"),
        ('"#/components/schemas/Heartbeat"', '"#/components/schemas/Pulse"', "Pulse"),
        ("qos: 1", "qos: 7", "bindings"),
    ],
)
def test_the_parser_finds_what_is_wrong(
    parser: list[str], tmp_path: Path, right: str, wrong: str, finding: str
) -> None:
    text = COMMITTED.read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "wrong.yaml").write_text(text.replace(right, wrong), encoding="utf-8")
    done = validate(parser, tmp_path / "wrong.yaml")
    assert done.returncode == 1
    assert finding in done.stdout


def test_it_has_the_topics_that_the_daemon_listens_to_and_no_others(described: dict[str, Any]) -> None:
    addresses = {channel["address"] for channel in described["channels"].values()}
    told = {address.replace("{uuid}", "+").replace("{level}", "+") for address in addresses}
    assert told == {*topics.DEVICE_FILTERS, *topics.COMMAND_FILTERS}


def test_every_example_is_taken_by_the_decoder_of_its_topic(described: dict[str, Any]) -> None:
    taken = 0
    for operation in described["operations"].values():
        channel = described["channels"][operation["channel"]["$ref"].rpartition("/")[2]]
        address = channel["address"].replace("{uuid}", UUID).replace("{level}", "error")
        for reference in operation["messages"]:
            message = described["components"]["messages"][reference["$ref"].rpartition("/")[2]]
            for example in message.get("examples", ()):
                said = example["payload"]
                payload = said.encode() if isinstance(said, str) else json.dumps(said).encode()
                if message["name"] == "Command":
                    decode_command(payload)
                else:
                    decode(topics.parse(address), payload)
                taken += 1
    assert taken == 13


def test_every_json_example_fits_its_schema(described: dict[str, Any]) -> None:
    for message in described["components"]["messages"].values():
        if "$ref" in message["payload"]:
            validator = Draft7Validator({**message["payload"], "components": described["components"]})
            assert message["examples"], message["name"]
            for example in message["examples"]:
                assert list(validator.iter_errors(example["payload"])) == []
            assert list(validator.iter_errors({})) != []


def test_the_lock_file_names_no_place_to_download_from() -> None:
    assert "resolved" not in (WORKSHOP / "package-lock.json").read_text(encoding="utf-8")
