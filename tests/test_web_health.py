"""Liveness, readiness and metrics."""

from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import infoscreen
from infoscreen.domain.accounts import Role
from infoscreen.metrics import Metrics
from infoscreen.web.keys import WebConfig
from tests.web import Site, serving

BOARD = "00000000-0000-4000-8000-000000000001"


async def test_alive_is_whoever_answers(site: Site) -> None:
    visitor = await site.visitor()
    site.spine.link.listening_since = None
    async with visitor.get("/healthz") as response:
        told = {"status": "ok", "version": infoscreen.__version__}
        assert (response.status, await response.json()) == (200, told)


async def test_ready_is_who_has_database_and_broker(site: Site) -> None:
    visitor = await site.visitor()
    async with visitor.get("/readyz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ready"})
    site.spine.link.listening_since = None
    async with visitor.get("/readyz") as response:
        assert response.status == 503
        assert response.headers["Retry-After"]
        document = await response.json(content_type="application/problem+json")
        assert (document["type"], document["faults"]) == (
            "not-ready",
            {"broker": "not listening: no connection yet"},
        )
        assert document["fault_codes"] == {"broker": {"code": "no_connection", "arguments": {}}}
    async with visitor.get("/readyz", headers={"Accept-Language": "de"}) as response:
        document = await response.json(content_type="application/problem+json")
        assert document["faults"] == {"broker": "noch keine Verbindung zum Broker"}


async def test_metrics_tell_what_the_contract_promises(site: Site) -> None:
    await site.spine.beat(BOARD, process_status="running")
    metrics = site.parts.metrics
    assert isinstance(metrics, Metrics)
    metrics.message("heartbeat", "stored", 3)
    metrics.rejected("not_json")
    metrics.command("reboot_host", "completed")
    metrics.command_duration("reboot_host", 42.0)
    visitor = await site.visitor()
    async with visitor.get("/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await response.text()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["infoscreen_mqtt_messages_total", "heartbeat", "stored"] == 3
    assert samples["infoscreen_mqtt_rejected_total", "not_json"] == 1
    assert samples["infoscreen_commands_total", "reboot_host", "completed"] == 1
    assert samples["infoscreen_command_duration_seconds_sum", "reboot_host"] == 42
    assert samples["infoscreen_clients", "online"] == 1
    assert samples["infoscreen_clients", "crashed"] == 0
    assert samples["infoscreen_mqtt_connected",] == 1
    assert samples["infoscreen_event_loop_lag_seconds",] >= 0
    assert any(name == "infoscreen_build_info" for name, *_ in samples)
    assert BOARD not in text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
async def test_metrics_are_not_for_whoever_comes_through_a_proxy_on_this_host(
    site: Site, header: str
) -> None:
    visitor = await site.visitor({header: "127.0.0.1"})
    async with visitor.get("/metrics") as response:
        assert response.status == 403


async def test_a_metrics_token_opens_them_from_anywhere(tmp_path: Path) -> None:
    async with serving(tmp_path, WebConfig(metrics_token="opensesame")) as site:  # noqa: S106 - a test's own
        for secret, status in (("opensesame", 200), ("opensesam", 403), ("\u00fc", 403), ("", 403)):
            visitor = await site.visitor(
                {"X-Forwarded-For": "192.0.2.1", "Authorization": f"Bearer {secret}"}
            )
            async with visitor.get("/metrics") as response:
                assert response.status == status


async def test_an_admins_token_is_no_metrics_token(tmp_path: Path) -> None:
    async with serving(tmp_path, WebConfig(metrics_token="opensesame")) as site:  # noqa: S106 - a test's own
        admin = await site.program(Role.ADMIN)
        async with admin.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}) as response:
            assert response.status == 403


async def test_two_registries_do_not_know_of_each_other() -> None:
    one, other = Metrics(), Metrics()
    one.message("heartbeat", "stored")
    assert b'kind="heartbeat"' not in other.exposition()


async def test_totals_that_nobody_can_tell_are_not_shown(site: Site) -> None:
    metrics = Metrics()
    metrics.set_state(None, True, timedelta(milliseconds=3).total_seconds())
    assert b"infoscreen_clients{" not in metrics.exposition()
