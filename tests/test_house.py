"""What holds for all of our code: a name stands for one thing, words are plain, tests assert something."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

from tests.trees import ROOT, modules

TEXTS = (
    "infoscreen/**/*.py",
    "templates/**/*.html",
    "docs/*.md",
    "tests/*.py",
    "benchmarks/**/*.py",
    ".env.example",
)

QUAINT = (
    *("anew", "befall", "befalls", "befallen", "whoever", "wherever", "hitherto", "forthwith", "oneself"),
    *("for ever", "a breath", "keep the parts", "must not forget", "lets in", "stands as it stood"),
    *("deaf or dumb", "how grave", "a crowd comes"),
)
"""Not plain technical English; style rule 17 has better words for most of them."""


def test_no_two_public_classes_share_a_name() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path, tree in modules("infoscreen"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(f"{path}:{node.lineno}")
    shared = {name: places for name, places in found.items() if len(places) > 1}
    assert len(found) > 300
    assert shared == {}


def test_texts_are_in_plain_technical_english() -> None:
    quaint = re.compile(rf"\b({'|'.join(QUAINT)})\b", re.IGNORECASE)
    paths = sorted(path for pattern in TEXTS for path in ROOT.glob(pattern) if path.name != "test_house.py")
    assert len(paths) > 400
    found = [
        f"{path.relative_to(ROOT)}:{number}: {hit[0]}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for hit in quaint.finditer(line)
    ]
    assert found == []


Function = ast.FunctionDef | ast.AsyncFunctionDef
CHECKS = {"raises", "fail", "warns"}
"""Functions of pytest that fail a test."""


def functions() -> Iterator[tuple[str, Function]]:
    for path, tree in modules("tests"):
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield path, node


def calls(function: Function) -> set[str]:
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            names.add(node.func.id if isinstance(node.func, ast.Name) else node.func.attr)
    return names


def test_every_test_asserts_something() -> None:
    """Itself, or through a helper of ours that asserts or raises."""
    helpers: defaultdict[str, set[str]] = defaultdict(set)
    asserting = set(CHECKS)
    tests = []
    for path, function in functions():
        asserts = any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(function))
        if function.name.startswith("test_"):
            tests.append((path, function.name, asserts, calls(function)))
        else:
            helpers[function.name] |= calls(function)
            if asserts:
                asserting.add(function.name)
    grown = True
    while grown:
        more = {name for name, called in helpers.items() if called & asserting} - asserting
        asserting |= more
        grown = bool(more)
    assert len(tests) > 1_000
    assert [
        (path, name) for path, name, asserts, called in tests if not asserts and not called & asserting
    ] == []
