import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infoscreen import logs

CHECKOUT = Path(__file__).parent.parent
log = logging.getLogger("infoscreen.test")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("infoscreen")
    before = (root.handlers[:], root.level, ours.level, sys.excepthook)
    yield
    root.handlers[:], level, our_level, sys.excepthook = before
    root.setLevel(level)
    ours.setLevel(our_level)
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def configured(level: str = "info", log_format: str = "text") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, log_format, stream=stream)
    return stream


def test_text_is_time_level_logger_sentence_and_fields() -> None:
    stream = configured()
    log.warning(
        "client fell silent", extra={"event": "stale", "client_uuid": "u-1", "age": 45.5, "site": None}
    )
    time, rest = lines(stream)[0].split(" ", 1)
    assert len(time) == len("2026-01-02T03:04:05.678Z")
    assert (
        rest == "WARNING infoscreen.test: client fell silent event=stale client_uuid=u-1 age=45.5 site=null"
    )


def test_words_that_could_be_taken_for_more_are_quoted() -> None:
    stream = configured()
    log.info("heard", extra={"a": "two words", "b": "x=y", "c": 'say "hi"', "d": "", "e": "Straße"})
    assert lines(stream)[0].endswith(r'heard a="two words" b="x=y" c="say \"hi\"" d="" e=Straße')


def test_json_is_one_object_with_the_fields_at_its_top() -> None:
    stream = configured(log_format="json")
    log.error("publish failed", extra={"event": "publish_failed", "path": Path("/x"), "level": "devious"})
    record = json.loads(lines(stream)[0])
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "error",
        "logger": "infoscreen.test",
        "message": "publish failed",
        "event": "publish_failed",
        "path": "/x",
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_a_device_says_makes_a_second_line_or_steers_a_terminal(log_format: str) -> None:
    stream = configured(log_format=log_format)
    nasty = "a\nb\rc\x1b[31md\x00e\x85f\u2028g\x9bh\u202etxt.exe\u2066\ufeff\U000e0041"
    log.info("heard %s", nasty, extra={"said": nasty})
    text = stream.getvalue()
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()
    if log_format == "json":
        assert json.loads(text)["said"] == nasty


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_stays_on_the_line(log_format: str) -> None:
    stream = configured(log_format=log_format)
    try:
        int("gone")
    except ValueError:
        log.exception("one item failed")
    (line,) = lines(stream)
    assert "Traceback" in line
    assert "ValueError: invalid literal" in line


def test_less_grave_records_are_left_out_and_the_level_can_change() -> None:
    stream = configured("warning")
    log.info("quiet")
    logs.set_level("DEBUG")
    log.debug("loud")
    assert [line.split(": ")[1] for line in lines(stream)] == ["loud"]


def test_debug_does_not_open_the_libraries_which_log_bound_values() -> None:
    stream = configured("debug")
    logging.getLogger("aiosqlite").debug("executing INSERT ... $argon2id$")
    assert lines(stream) == []


def test_configuring_twice_does_not_double_the_lines() -> None:
    configured()
    stream = configured()
    log.info("once")
    assert len(lines(stream)) == 1


PROGRAM = """
import logging, sys
from infoscreen import logs
logs.configure("debug", sys.argv[1])
log = logging.getLogger("infoscreen.x")
log.debug("a"); log.info("b"); log.warning("c"); log.error("d"); log.critical("e")
raise RuntimeError("nobody expected this")
"""


def run(log_format: str, *, journal: bool, stderr_is_the_journal: bool = True) -> list[str]:
    """Run a program whose standard error is a pipe that JOURNAL_STREAM names, or another one."""
    reading, writing = os.pipe()
    there = os.fstat(writing)
    named = f"{there.st_dev}:{there.st_ino if stderr_is_the_journal else there.st_ino + 1}"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)} | ({"JOURNAL_STREAM": named} if journal else {})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format], stderr=writing, env=environment, check=False
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read().splitlines()
    assert done.returncode == 1
    return found


def test_under_systemd_each_line_carries_its_priority_and_no_time() -> None:
    found = run("text", journal=True)
    assert [line[:3] for line in found] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<2>"]
    assert found[1] == "<6>INFO infoscreen.x: b"


def test_redirected_away_from_the_journal_there_are_no_priorities() -> None:
    assert not run("text", journal=True, stderr_is_the_journal=False)[0].startswith("<")
    assert not run("text", journal=False)[0].startswith("<")


def test_an_error_nobody_expected_ends_as_a_record_too() -> None:
    record = json.loads(run("json", journal=False)[-1])
    assert record["event"] == "uncaught"
    assert record["level"] == "critical"
    assert "RuntimeError: nobody expected this" in record["traceback"]
