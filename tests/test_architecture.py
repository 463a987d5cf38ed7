"""Rules checked on the source: imports, names of classes, plain words, tests that assert something."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import infoscreen
from tests.trees import ROOT, modules

PACKAGE = Path(infoscreen.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 450

# Parts that put the others together: they may import everything, and only they import each other.
COMPOSITION = {
    *("app", "broker_address", "config_check", "cli", "demo", "doctor", "health", "installation", "judge"),
    *("local_daemon", "notifications", "policies", "supervision", "__main__"),
}

# The one MQTT client, which serves the daemon, the agent and the simulator.
MQTT_CLIENT = {"mqtt.answers", "mqtt.client", "mqtt.connection", "mqtt.device", "mqtt.diagnosis"}

# room or top-level module -> what it may import of ours
ROOMS = {
    "domain": set(),
    "wire": {"domain"},
    "storage": {"domain", "resources"},
    "services": {"domain", "wire", "storage", "clock", "progress"},
    "mqtt": {"domain", "wire", "services.ports", "clock", "progress", "tasks"},
    "notify": {"domain", "words", "services.ports", "clock"},
    "power": {"domain", "wire", "services.ports", "clock"},
    "openid": {"domain", "services.ports", "clock"},
    "web": {"domain", "storage", "services", "words", "clock", "progress", "resources"},
    "words": {"domain"},
    "pki": {"domain"},
    "provisioning": {"domain", "wire", "pki", *MQTT_CLIENT},
    "agent": {"domain", "wire", "clock", *MQTT_CLIENT, "settings_sources", "sd_notify"},
    "simulator": {"domain", "wire", "clock", "agent.protocol", *MQTT_CLIENT},
    "settings": {"domain", "storage.address"},
    "metrics": {"domain"},
    "logs": {"domain", "journal"},
    "journal": set(),
    "sd_notify": set(),
    "progress": {"clock"},
    "clock": set(),
    "resources": set(),
    "tasks": {"domain"},
}

# library -> which room or module may import it
LIBRARIES = {
    "sqlalchemy": {"storage"},
    "alembic": {"storage"},
    "aiomqtt": {"mqtt.client", "mqtt.endings"},
    "paho": {"mqtt.client", "mqtt.endings", "mqtt.properties"},
    "aiohttp": {"web", "power", "notify", "openid", *COMPOSITION},
    "jinja2": {"web"},
    "prometheus_client": {"metrics"},
    "msgspec": {"wire"},
    "pydantic": {"wire", "web", "settings", "agent", "judge", "simulator"},
    "psutil": {"agent"},
    "apprise": {"notify.sender"},
    "requests": {"notify.sender"},
    "pysnmp": {"power"},
    "cryptography": {"pki", "services.secrets"},
    "joserfc": {"openid"},
    "pyotp": {"services.second_factors"},
}
ASKS_THE_TIME = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter"}
INPUT_AND_OUTPUT = {"asyncio", "os", "pathlib", "socket", "sqlite3", "subprocess", "threading", "time"}


def room_of(module: str) -> str:
    """infoscreen.web.api.clients -> web; the settings may be spread over settings_*.py."""
    first = module.split(".")[1] if "." in module else "__init__"
    return "settings" if first.startswith("settings_") else first


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module or name that is imported, in full; also those for the type checker only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults_of(module: str, source: str) -> Iterator[str]:
    """What the source of ``module`` (``infoscreen.web.auth``) does against the rules."""
    tree = ast.parse(source)
    room = room_of(module)
    if room not in {*ROOMS, *COMPOSITION, "__init__"}:
        yield f"{room} has no place in the house yet: give it a line in ROOMS"
        return
    for name in imports(tree):
        library = name.partition(".")[0]
        if library == "infoscreen":
            ours = name.removeprefix("infoscreen").removeprefix(".")
            allowed = ROOMS.get(room, {ours}) | {"", "__version__"}
            if room_of(name) != room and not any(f"{ours}.".startswith(f"{part}.") for part in allowed):
                yield f"{room} imports {name}"
        elif {room, module.partition(".")[2]}.isdisjoint(LIBRARIES.get(library, {room})):
            yield f"{module} imports {library}"
        elif room == "domain" and (library not in sys.stdlib_module_names or library in INPUT_AND_OUTPUT):
            yield f"domain is pure, but imports {library}"
        elif room != "clock" and library == "time" and name.removeprefix("time.") in ASKS_THE_TIME:
            yield f"only clock.py asks the time, not {name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value)
        of_a_clock = owner in {"time", "datetime", "date", "datetime.datetime", "datetime.date"}
        of_a_loop = owner.endswith(("loop", "loop()")) and node.attr == "time"
        if room != "clock" and node.attr in ASKS_THE_TIME and (of_a_clock or of_a_loop):
            yield f"only clock.py asks the time, not {owner}.{node.attr}"
        if room == "web" and node.attr == "write" and "store" in owner.lower():
            yield f"web never writes to the store itself: {owner}.write"
    if source.count("\n") > MAX_LINES:
        yield f"more than {MAX_LINES} lines: split it by the field's nouns"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_keeps_to_its_room(path: Path) -> None:
    assert list(faults_of(module_name(path), path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("domain.presence", "from infoscreen.wire import topics"),
        ("domain.presence", "import pydantic_core"),
        ("domain.presence", "import asyncio"),
        ("wire.messages", "import infoscreen.storage.clients"),
        ("storage.clients", "from infoscreen import services"),
        ("services.ingest", "from infoscreen.web.keys import PARTS"),
        ("services.ingest", "from sqlalchemy import select"),
        ("services.ingest", "if TYPE_CHECKING:\n    from infoscreen.settings import Settings"),
        ("mqtt.listener", "from infoscreen.services.ingest import Ingest"),
        ("mqtt.listener", "from infoscreen.services.ports_and_more import Port"),
        ("mqtt.listener", "def f():\n    import aiohttp.web"),
        ("web.auth", "from aiomqtt import Client"),
        ("mqtt.listener", "import aiomqtt"),
        ("mqtt.connection", "from paho.mqtt.reasoncodes import ReasonCode"),
        ("agent.connection", "import paho.mqtt.client as paho"),
        ("agent.connection", "from infoscreen.mqtt.listener import Listener"),
        ("web.auth", "async with request.app[STORE].write() as session: ..."),
        ("web.auth", "begin = parts.store.write"),
        ("web.auth", "from infoscreen.app import run"),
        ("settings_sources", "from infoscreen.cli import main"),
        ("simulator.device", "from infoscreen.agent.readings import Readings"),
        ("metrics", "from infoscreen.services.ports import Measures"),
        ("services.loops", "from datetime import datetime\nstart = datetime.now(UTC)"),
        ("services.loops", "import time\nstart = time.monotonic()"),
        ("services.loops", "start = asyncio.get_running_loop().time()"),
        ("services.loops", "from time import monotonic"),
        ("words.names", "from infoscreen.storage.timeline import TimelineEntry"),
        ("services.recovering", "from infoscreen.words.speaking import say"),
        ("helpers", ""),
        ("domain.commands", "\n" * (MAX_LINES + 1)),
    ],
)
def test_a_breach_is_found(module: str, source: str) -> None:
    assert list(faults_of(f"infoscreen.{module}", source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("app", "from infoscreen.cli import main\nimport infoscreen.storage.engine"),
        ("web.live", "from infoscreen import __version__\nawait response.write(b'')"),
        ("mqtt.listener", "from infoscreen.services import ports\nfrom infoscreen.mqtt.client import Client"),
        ("services.loops", "now = clock.now()\nstart = self._clock.monotonic()\nnoon = moment.time()"),
        ("mqtt.client", "import aiomqtt\nimport paho.mqtt.client as paho"),
        ("agent.connection", "from infoscreen.mqtt.device import DeviceClient"),
        ("clock", "import time\nfrom datetime import datetime\ntime.monotonic()\ndatetime.now(UTC)"),
    ],
)
def test_what_is_allowed_is_not_taken_for_a_breach(module: str, source: str) -> None:
    assert list(faults_of(f"infoscreen.{module}", source)) == []


@pytest.mark.parametrize(
    ("room", "unwanted"),
    [
        ("agent", {"sqlalchemy", "aiohttp", "alembic", "jinja2"}),
        ("simulator", {"sqlalchemy", "aiohttp", "alembic", "jinja2", "psutil"}),
        ("agent.protocol", {"asyncio", "aiomqtt", "psutil", "pydantic_settings"}),
        ("domain", {"pydantic", "sqlalchemy", "aiohttp", "asyncio"}),
    ],
)
def test_importing_a_room_does_not_load_the_libraries_of_others(room: str, unwanted: set[str]) -> None:
    names = [name for name in map(module_name, MODULES) if f"{name}.".startswith(f"infoscreen.{room}.")]
    assert names
    script = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert unwanted & set(loaded.stdout.split()) == set()


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
    paths = sorted(
        path for pattern in TEXTS for path in ROOT.glob(pattern) if path.name != "test_architecture.py"
    )
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


STARTS = {"create_task", "ensure_future"}
GROUPS = {"tasks", "group", "both", "self._tasks"}
"""Names of task groups, which raise what their tasks raise."""
CANNOT_FAIL = (".wait()", "sleep(")
LOOKS = ("await {0}", "{0}.result()", "{0}.exception()", "shield({0})", "({0}, return_exceptions")


def unseen_tasks(source: str) -> Iterator[str]:
    """Return the tasks whose end nobody looks at: an error in them would be lost, and what they do, too."""
    tree = ast.parse(source)
    code = ast.unparse(tree)
    waits = [node for node in ast.walk(tree) if isinstance(node, ast.Await)]
    awaited = {id(inner) for wait in waits for inner in ast.walk(wait)}
    names = {
        id(value): ast.unparse(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and len(node.targets) == 1
        for target, value in _pairs(node.targets[0], node.value)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in STARTS or ast.unparse(node.func.value) in GROUPS or id(node) in awaited:
            continue
        if any(part in ast.unparse(node.args[0]) for part in CANNOT_FAIL):
            continue
        name = names.get(id(node))
        looks = any(look.format(name) in code for look in LOOKS)
        if name is None or not looks:
            yield ast.unparse(node)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(target.elts, value.elts, strict=True)
    else:
        yield target, value


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_the_end_of_every_task_is_looked_at(path: Path) -> None:
    """Use ``tasks.beside``, a TaskGroup, or await it: else a loop may have ended and nobody knows."""
    assert list(unseen_tasks(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "unseen"),
    [
        ("asyncio.create_task(self._check())", 1),
        ("task = asyncio.ensure_future(self._check())\ntask.cancel()\nawait asyncio.wait([task])", 1),
        ("task = asyncio.ensure_future(self._check())\ntask.result()", 0),
        ("await asyncio.create_task(self._once())", 0),
        ("async with asyncio.TaskGroup() as tasks:\n    tasks.create_task(self._check())", 0),
        ("woken = asyncio.ensure_future(wake.wait())", 0),
        ("loop.create_task(self._check())", 1),
    ],
)
def test_a_task_that_nobody_looks_at_is_found(source: str, unseen: int) -> None:
    indented = source.replace("\n", "\n    ")
    assert len(list(unseen_tasks(f"async def f():\n    {indented}"))) == unseen
