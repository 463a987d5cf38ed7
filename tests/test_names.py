"""One name stands for one thing in the whole package."""

import ast
from collections import defaultdict

from tests.trees import modules


def test_no_two_public_classes_share_a_name() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path, tree in modules("infoscreen"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(f"{path}:{node.lineno}")
    shared = {name: places for name, places in found.items() if len(places) > 1}
    assert len(found) > 300
    assert shared == {}
