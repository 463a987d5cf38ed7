"""German and English are both complete: every text is translated, and every code has its sentence."""

import ast
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

from infoscreen.domain.clients import Condition
from infoscreen.domain.codes import Code, Fact, Value, unpacked
from infoscreen.domain.commands import Action
from infoscreen.domain.history import Happening, Setting
from infoscreen.domain.recovery import Reason
from infoscreen.words import recovery
from infoscreen.words.language import Plural, language, preferred
from infoscreen.words.speaking import TABLES, filled, say

ROOT = Path(__file__).parent.parent
CATALOGS = "infoscreen/words/locale"
GERMAN = ROOT / CATALOGS / "de/LC_MESSAGES/words.po"
KEYWORDS = {**DEFAULT_KEYWORDS, "plural": (1, 2)}


def texts_in_the_code() -> Catalog:
    with (ROOT / "infoscreen/words/babel.cfg").open() as mapping:
        methods, options = parse_mapping_cfg(mapping)
    catalog = Catalog()
    for _, _, message, *_ in extract_from_dir(ROOT, methods, options, KEYWORDS):
        catalog.add(message)
    return catalog


def translations() -> Catalog:
    with GERMAN.open("rb") as source:
        return read_po(source, locale="de")


def messages(catalog: Catalog) -> dict[str, Message]:
    return {
        message.id if isinstance(message.id, str) else message.id[0]: message
        for message in catalog
        if message.id
    }


def test_every_text_has_a_german_translation_and_no_translation_is_left_over() -> None:
    code, german = messages(texts_in_the_code()), messages(translations())
    assert len(code) > 200
    assert sorted(code.keys() - german.keys()) == []
    assert sorted(german.keys() - code.keys()) == []
    for message in german.values():
        words = [message.string] if isinstance(message.string, str) else list(message.string)
        assert all(words), f"not translated: {message.id}"
        assert not message.fuzzy, f"only guessed: {message.id}"


AVOIDED = {
    "en": r"(?<!-)\b[Dd]evices?\b|well again|[Ss]omebody has to look|[Nn]eeds a human|Load again"
    r"|[Pp]assed over|[Pp]ower off and on|touched",
    "de": r"angerührt|angefasst|gesund|übergangen|freiwillig|Jetziges|Vollzug|zusehen|hinsehen|Identität"
    r"|Strom aus und ein|Braucht einen Menschen|braucht jemanden|in Ruhe|\bClients?\b(?!-)|hört erst zu"
    r"|Heartbeat|Screenshot",
}
"""What native readers stumbled over, and second words for one thing (docs/glossary.md)."""


@pytest.mark.parametrize("code", AVOIDED)
def test_texts_keep_to_the_glossary(code: str) -> None:
    texts = []
    for message in messages(translations()).values():
        said = message.id if code == "en" else message.string
        texts += [said] if isinstance(said, str) else list(said)
    assert len(texts) > 500
    assert [text for text in texts if re.search(AVOIDED[code], text)] == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_count_of_attempts_is_in_the_right_form(count: int) -> None:
    for code, forms in (("de", ("Versuch)", "Versuche)")), ("en", ("attempt)", "attempts)"))):
        said = recovery.why(Reason.EXHAUSTED, {"tried": count}, language(code))
        assert said.endswith(f"({count} {forms[count - 1]}.")
    assert "?" in recovery.why(Reason.EXHAUSTED, {}, language("de"))


def test_no_text_hides_from_extraction_inside_an_f_string() -> None:
    for path in (*(ROOT / "infoscreen/web/panel").glob("*.py"), *(ROOT / "infoscreen/words").glob("*.py")):
        for joined in (
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.JoinedStr)
        ):
            called = [node.func for node in ast.walk(joined) if isinstance(node, ast.Call)]
            names = {func.id for func in called if isinstance(func, ast.Name)}
            assert not names & {"_", "N_", "plural"}, f"{path.name}:{joined.lineno}"


def test_a_translation_keeps_the_placeholders_of_its_text() -> None:
    for message in messages(translations()).values():
        ids = [message.id] if isinstance(message.id, str) else list(message.id)
        strings = [message.string] if isinstance(message.string, str) else list(message.string)
        assert {placeholders(text) for text in ids} == {placeholders(text) for text in strings}, message.id


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names in ``%(name)s``; any other use of the sign fails, as it would in the page."""
    names: set[str] = set()

    class Gaps(dict[str, str]):
        def __missing__(self, name: str) -> str:
            names.add(name)
            return ""

    if "%(" in text:
        assert "%" not in (text % Gaps()).replace("%%", ""), text
    assert len(re.findall(r"%\(\w+\)s", text)) == text.count("%(")
    return tuple(sorted(names))


def test_running_the_catalog_script_changes_nothing(tmp_path: Path) -> None:
    for part in ("infoscreen", "templates", "scripts"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "static"))
    pybabel = tmp_path / "bin" / "pybabel"
    pybabel.parent.mkdir()
    pybabel.write_text(f'#!/bin/sh\nexec {sys.executable} -m babel.messages.frontend "$@"\n')
    pybabel.chmod(0o755)
    environment = {**os.environ, "PATH": f"{pybabel.parent}:{os.environ['PATH']}"}
    subprocess.run(["scripts/catalog"], check=True, cwd=tmp_path, env=environment, capture_output=True)
    assert (tmp_path / CATALOGS / "de/LC_MESSAGES/words.po").read_bytes() == GERMAN.read_bytes()


class Sample(Code):
    """A kind of fact, as the rules have them."""

    NOTHING_KNOWN = "nothing_known"
    TRIED = "tried", {"count": int, "action": Action, "since": datetime, "pause": timedelta, "why": str}


def test_a_fact_is_said_with_its_arguments_as_the_language_writes_them() -> None:
    since = datetime(2026, 3, 2, 7, 5, tzinfo=UTC)
    fact = Fact(
        Sample.TRIED,
        {
            "count": 1200,
            "action": Action.RESTART_APP,
            "since": since,
            "pause": timedelta(hours=2),
            "why": "50%",
        },
    )
    text = Plural("once", "%(count)s x %(action)s since %(since)s, every %(pause)s: %(why)s", "count")
    assert filled(text, fact.arguments, language("de")) == (
        "1.200 x App-Neustart since 02.03.2026 07:05:00 UTC, every 2 h: 50%"
    )
    assert filled(text, {"count": 1}, language("en")) == "once"


def test_a_fact_survives_being_stored_as_json() -> None:
    since = datetime(2026, 3, 2, 7, 5, tzinfo=UTC)
    fact = Fact(
        Sample.TRIED,
        {"count": 2, "action": Action.REBOOT_HOST, "since": since, "pause": timedelta(minutes=1), "why": "x"},
    )
    assert unpacked(Sample, fact.code.value, json.loads(json.dumps(fact.packed()))) == fact
    assert Sample("nothing_known") is Sample.NOTHING_KNOWN


@pytest.mark.parametrize(
    ("code", "arguments"),
    [(Sample.NOTHING_KNOWN, {"why": "x"}), (Sample.TRIED, {}), (Sample.TRIED, {"count": "1"})],
)
def test_a_fact_with_other_arguments_than_its_code_takes_is_refused(
    code: Sample, arguments: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        Fact(code, arguments)


def kinds() -> list[type[Code]]:
    """Return every kind of code in the package."""
    for path in (ROOT / "infoscreen/domain").rglob("*.py"):
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found: list[type[Code]] = []
    waiting = [Code]
    while waiting:
        under = waiting.pop().__subclasses__()
        found += [kind for kind in under if kind.__module__.startswith("infoscreen.")]
        waiting += under
    return found


def test_every_code_has_a_sentence_with_exactly_its_arguments() -> None:
    assert {kind.__name__ for kind in kinds()} == {kind.__name__ for kind in TABLES}
    german = messages(translations())
    for kind, table in TABLES.items():
        assert set(table) == set(kind), kind
        for code, text in table.items():
            forms = [text] if isinstance(text, str) else [text.one, text.many]
            for form in forms:
                assert set(placeholders(form)) <= set(code.takes), (code, form)
            assert set().union(*map(placeholders, forms)) == set(code.takes), code
            assert forms[0] in german, f"{code} is not marked for the catalogs"
            if isinstance(text, Plural):
                assert code.takes[text.by] is int, code


def test_the_compiled_catalog_is_made_from_the_committed_source() -> None:
    fresh = io.BytesIO()
    write_mo(fresh, translations())
    fresh.seek(0)
    with GERMAN.with_suffix(".mo").open("rb") as compiled:
        shipped = messages(read_mo(compiled))
    assert {key: message.string for key, message in shipped.items()} == {
        key: message.string for key, message in messages(read_mo(fresh)).items()
    }


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "de"),
        ("en-GB,en;q=0.9,de;q=0.8", "en"),
        ("de-AT,en;q=0.9", "de"),
        ("fr,it;q=0.9", "de"),
        ("fr,en;q=0.2", "en"),
        ("en;q=0, de;q=0.1", "de"),
        ("en;q=nonsense", "de"),
        (";;,,q=1;", "de"),
    ],
)
def test_the_language_that_the_browser_likes_best_is_taken_and_german_otherwise(
    header: str, expected: str
) -> None:
    assert preferred(header) == expected


def test_numbers_durations_and_times_are_written_as_the_language_does() -> None:
    german, english = language("de"), language("en")
    assert (german.number(1234.5, 1), english.number(1234.5, 1)) == ("1.234,5", "1,234.5")
    assert german.duration(timedelta(days=3, hours=4)) == "3 T 4 h"
    assert english.duration(timedelta(hours=2, minutes=5)) == "2 h 5 min"
    at = datetime(2026, 3, 2, 7, 5, tzinfo=UTC)
    assert (german.moment(at), english.moment(at)) == ("02.03.2026 07:05:00 UTC", "2026-03-02 07:05:00 UTC")


def facts() -> list[Fact[Code]]:
    """Return every fact that can be said, with arguments of the types it takes."""
    return [
        Fact(code, {name: example(wanted) for name, wanted in code.takes.items()})
        for kind in TABLES
        for code in kind
    ]


EXAMPLES: dict[Any, Any] = {
    str: "%(odd)s “words”",
    int: 1,
    float: 1.5,
    datetime: datetime(2026, 3, 2, 7, 5, tzinfo=UTC),
    timedelta: timedelta(minutes=3),
}


def example(wanted: Any) -> Value:
    if isinstance(wanted, list):
        return tuple(wanted[0])
    if issubclass(wanted, Code):
        code = next(iter(wanted))
        return Fact(code, {name: example(one) for name, one in code.takes.items()})
    if issubclass(wanted, StrEnum):
        member: StrEnum = next(iter(wanted))
        return member
    value: Value = EXAMPLES[wanted]
    return value


@pytest.mark.parametrize("fact", facts(), ids=lambda fact: f"{type(fact.code).__name__}-{fact.code}")
def test_every_fact_is_stored_and_said_in_both_languages(fact: Fact[Code]) -> None:
    stored = json.loads(json.dumps(fact.packed()))
    assert unpacked(type(fact.code), fact.code.value, stored) == fact
    german, english = say(fact, language("de")), say(fact)
    assert german != english or fact.code == "text"
    assert "%(odd)s" in english or str not in fact.code.takes.values()


def test_members_of_an_enum_are_said_by_their_names() -> None:
    fact = Fact(Happening.STATUS_CHANGED, {"from": Condition.ONLINE, "to": Condition.HUNG})
    assert say(fact, language("de")) == "Online → Ohne Signal (hängt)"
    edited = Fact(Happening.EDITED, {"by": "ada", "settings": (Setting.NAME, Setting.TAGS)})
    assert say(edited) == "ada has changed: name, tags"


def test_every_reason_of_the_recovery_has_a_sentence() -> None:
    assert set(recovery.REASONS) == set(Reason)


READS = {
    "services/accounts.py": "user names",
    "services/logins.py": "user names",
    "services/hours.py": "errors of the library that reads hours",
    "mqtt/login_log.py": "the log of mosquitto",
    "provisioning/broker_log.py": "the log of mosquitto",
    "domain/letters.py": "names of clients and words of a search",
    "domain/enrolment.py": "codes and passwords of devices",
    "web/panel/account.py": "names of browsers",
    "web/openapi.py": "addresses of routes",
    "settings.py": "addresses with passwords",
    "settings_values.py": "host names",
    "storage/address.py": "the address of the database",
    "cli/recovery.py": "durations on the command line",
    "cli/descriptions.py": "values of YAML",
    "storage/backups.py": "names of backup files",
    "health.py": "samples of /metrics",
    "journal.py": "names of fields",
    "pki/authority.py": "labels of certificates",
    "pki/names.py": "host names",
    "power/ipmi.py": "the output of ipmitool",
    "power/wake.py": "MAC addresses",
}
"""Modules with regular expressions, and what they read: never sentences of our own."""


def test_nothing_reads_our_own_sentences() -> None:
    package = ROOT / "infoscreen"
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and "re" in {alias.name for alias in node.names}
    }
    of_others = {name for name in readers if name.startswith(("agent/", "simulator/", "wire/", "judge/"))}
    assert readers - of_others <= set(READS)


def test_the_core_speaks_no_german() -> None:
    for room in ("domain", "services", "storage", "wire"):
        for path in (ROOT / "infoscreen" / room).rglob("*.py"):
            assert not re.search("[äöüÄÖÜß]", path.read_text(encoding="utf-8")), path
