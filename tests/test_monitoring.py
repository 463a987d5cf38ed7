"""What monitoring is given: alert rules that fire, and metrics that they and the dashboard name."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from infoscreen.metrics import Metrics
from tests.programs import require

MONITORING = Path(__file__).parent.parent / "monitoring"


def metrics_named(text: str) -> set[str]:
    return set(re.findall(r"\b(?:infoscreen|process)_\w+", text))


def metrics_there() -> set[str]:
    metrics = Metrics()
    declared = re.findall(r"^# TYPE (\S+) ", metrics.exposition().decode(), re.MULTILINE)
    return {*declared, *(f"{name}_bucket" for name in declared)}


@pytest.mark.parametrize("command", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_the_alert_rules_are_right_and_each_of_them_fires(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [require("promtool"), *command], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["alerts.yml", "grafana.json"])
def test_every_metric_that_is_named_exists(name: str) -> None:
    text = (MONITORING / name).read_text(encoding="utf-8")
    assert metrics_named(text) - metrics_there() == set()


def test_the_dashboard_is_json_with_a_query_in_each_panel() -> None:
    dashboard = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))
    assert dashboard["panels"]
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


def test_the_process_and_the_garbage_collector_are_measured_and_nothing_is_created() -> None:
    text = Metrics().exposition().decode()
    assert "process_resident_memory_bytes " in text
    assert "python_gc_collections_total{" in text
    assert "_created" not in text
