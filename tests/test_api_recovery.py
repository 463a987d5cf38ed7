"""The recovery through the JSON API: what it says, pausing, explaining, acknowledging."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import ClientSession

from infoscreen.domain.accounts import Role
from infoscreen.domain.commands import CommandStatus, Source
from infoscreen.storage import audit, commands
from infoscreen.storage.commands import CommandQuery
from tests.api import ask
from tests.spine import uuid_of, zulu
from tests.web import Site

U, V, NOBODY = uuid_of(1), uuid_of(2), uuid_of(404)
OTHERS = [uuid_of(number) for number in range(3, 12)]
PAUSE = "/api/recovery/pause"
RESUME = "/api/recovery/resume"


@pytest.fixture
async def program(site: Site) -> ClientSession:
    """A program of an operator, and a fleet of which one client crashed two minutes ago."""
    for uuid in (U, V, *OTHERS):
        await site.spine.beat(uuid, process_status="running")
    await site.spine.beat(U, process_status="crashed")
    for _ in range(4):
        site.spine.clock.advance(30)
        await site.spine.beat(U, process_status="crashed")
        for uuid in (V, *OTHERS):
            await site.spine.beat(uuid, process_status="running")
        await site.spine.recovering.poll()
    return await site.program(Role.OPERATOR)


async def restarts_are_answered(site: Site) -> None:
    """Let every command of the recovery leave, and its device claim to have done it."""
    await site.spine.outbox.step()
    query = CommandQuery(source=Source.RECOVERY)
    async with site.spine.store.read() as connection:
        known = (await commands.search(connection, query, 100)).items
    for command in known:
        if command.status is CommandStatus.PUBLISHED:
            await site.spine.ack(command, "completed")


async def minutes_pass(site: Site, minutes: int) -> None:
    """Let the crashed client stay so, the others beat, and the recovery poll every minute."""
    for _ in range(minutes):
        site.spine.clock.advance(60)
        await site.spine.beat(U, process_status="crashed")
        for uuid in (V, *OTHERS):
            await site.spine.beat(uuid, process_status="running")
        await site.spine.watch.sweep()
        await site.spine.recovering.poll()
        await restarts_are_answered(site)


def switch_on(site: Site) -> None:
    """Let the recovery act from now on."""
    site.spine.recovering.policy = replace(site.spine.recovering.policy, enabled=True)


def pause_of(place: Site, **more: Any) -> dict[str, Any]:
    until = zulu(place.spine.clock.now() + timedelta(hours=2))
    return {"scope": "fleet", "reason": "Umbau", "until": until} | more


async def test_before_the_first_poll_it_is_off(site: Site) -> None:
    program = await site.program(Role.VIEWER)
    answer = await ask(program, "GET", "/api/recovery")
    assert (answer["mode"], answer["polled_at"], answer["counts"]) == ("off", None, {})
    assert answer["decisions"]["items"] == []
    assert (await ask(program, "GET", "/api/monitoring/overview"))["recovery"]["mode"] == "off"


async def test_the_report_tells_mode_counts_and_decisions(site: Site, program: ClientSession) -> None:
    answer = await ask(program, "GET", "/api/recovery")
    assert answer["mode"] == "dry_run"
    assert answer["polled_at"] == zulu(site.spine.clock.now())
    assert answer["counts"] == {"act_restart_app": 1}
    [decision] = answer["decisions"]["items"]
    assert (decision["client_uuid"], decision["verb"], decision["would"]) == (U, "act", True)
    assert decision["sentence"].startswith("Dry run")
    overview = (await ask(program, "GET", "/api/monitoring/overview"))["recovery"]
    assert (overview["mode"], overview["counts"], overview["incidents"]) == (
        "dry_run",
        {"act_restart_app": 1},
        [],
    )


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("verb=act", 1),
        ("verb=wait", 0),
        ("reason=act_restart_app", 1),
        ("reason=grace", 0),
        (f"client_uuid={U}", 1),
        (f"client_uuid={V}", 0),
        ("site=Depot", 0),
        ("incident_id=1", 0),
        ("past=true", 2),
        ("past=true&verb=wait", 1),
    ],
)
async def test_decisions_are_filtered(program: ClientSession, query: str, count: int) -> None:
    decisions = (await ask(program, "GET", f"/api/recovery?{query}"))["decisions"]
    assert len(decisions["items"]) == count
    # Histories grow without bound and are not counted.
    assert decisions["total"] == (None if "past" in query else count)


async def test_decisions_are_paged(program: ClientSession) -> None:
    seen: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = (await ask(program, "GET", f"/api/recovery?past=true&limit=1{cursor}"))["decisions"]
        seen += page["items"]
        cursor = None if page["next_cursor"] is None else f"&cursor={page['next_cursor']}"
    assert [(one["verb"], one["reason"]) for one in seen] == [("act", "act_restart_app"), ("wait", "grace")]


@pytest.mark.parametrize(
    "query", ["verb=run", "reason=because", "cursor=x", "client_uuid=x", "incident_id=0"]
)
async def test_a_wrong_filter_is_refused(program: ClientSession, query: str) -> None:
    problem = await ask(program, "GET", f"/api/recovery?{query}", status=422)
    assert problem["type"] == "invalid-input"


async def test_a_pause_holds_until_it_is_ended_and_both_are_audited(
    site: Site, program: ClientSession
) -> None:
    paused = await ask(program, "POST", PAUSE, json=pause_of(site))
    assert (paused["scope"], paused["reason"], paused["by"]) == ("fleet", "Umbau", "operator/program")
    answer = await ask(program, "GET", "/api/recovery")
    assert answer["mode"] == "paused"
    assert [hold["reason"] for hold in answer["holds"]] == ["paused"]
    again = await ask(program, "POST", PAUSE, json=pause_of(site, reason="Noch länger"))
    assert [one["id"] for one in (await ask(program, "GET", "/api/recovery"))["pauses"]] == [again["id"]]
    ended = await ask(program, "POST", RESUME, json={"scope": "fleet"})
    assert [one["id"] for one in ended["ended"]] == [again["id"]]
    assert (await ask(program, "POST", RESUME, json={"scope": "fleet"}))["ended"] == []
    assert (await ask(program, "GET", "/api/recovery"))["mode"] == "dry_run"
    async with site.spine.store.read() as connection:
        acts = (await audit.page(connection, 10)).items
    assert [act.action for act in acts[:3]] == ["recovery.resume", "recovery.pause", "recovery.pause"]


async def test_a_pause_of_a_client_stands_in_its_timeline_and_its_explanation(
    site: Site, program: ClientSession
) -> None:
    await ask(program, "POST", PAUSE, json=pause_of(site, scope="client", client_uuid=U))
    timeline = await ask(program, "GET", f"/api/clients/{U}/timeline?kind=operator")
    assert timeline["items"][0]["data"]["act"] == "recovery.pause"
    why = await ask(program, "GET", f"/api/clients/{U}/explain")
    assert [pause["reason"] for pause in why["pauses"]] == ["Umbau"]
    assert (await ask(program, "GET", f"/api/clients/{V}/explain"))["pauses"] == []


@pytest.mark.parametrize(
    ("changes", "field", "status"),
    [
        ({"reason": ""}, "reason", 422),
        ({"reason": "   "}, "reason", 422),
        ({"until": "2020-01-01T00:00:00Z"}, "until", 422),
        ({"until": "2099-01-01T00:00:00Z"}, "until", 422),
        ({"until": "2026-03-02T12:00:00"}, "until", 422),
        ({"until": None}, "until", 422),
        ({"scope": "planet"}, "scope", 422),
        ({"scope": "site"}, "site", 422),
        ({"scope": "client"}, "client_uuid", 422),
        ({"site": "Depot"}, "site", 422),
        ({"scope": "client", "client_uuid": "x"}, "client_uuid", 422),
        ({"more": 1}, "more", 422),
        ({"scope": "client", "client_uuid": NOBODY}, None, 404),
        ({"scope": "site", "site": "Mond"}, None, 404),
    ],
)
async def test_a_wrong_pause_is_refused_by_name(
    site: Site, program: ClientSession, changes: dict[str, Any], field: str | None, status: int
) -> None:
    problem = await ask(program, "POST", PAUSE, json=pause_of(site, **changes), status=status)
    assert [error["field"] for error in problem.get("errors", [])] == ([field] if field else [])
    assert (await ask(program, "GET", "/api/recovery"))["pauses"] == []


async def test_reason_and_end_of_a_pause_are_mandatory(program: ClientSession) -> None:
    problem = await ask(program, "POST", PAUSE, json={"scope": "fleet"}, status=422)
    assert {error["field"] for error in problem["errors"]} == {"reason", "until"}


async def test_a_client_is_explained_with_ladder_attempts_and_what_is_next(
    site: Site, program: ClientSession
) -> None:
    why = await ask(program, "GET", f"/api/clients/{U}/explain")
    assert (why["status"], why["phase"], why["mode"]) == ("crashed", "climbing", "dry_run")
    assert (why["decision"]["reason"], why["next"]) == ("act_restart_app", "Nothing is sent in a dry run.")
    assert why["attempts"] == []
    switch_on(site)
    await minutes_pass(site, 2)
    why = await ask(program, "GET", f"/api/clients/{U}/explain")
    assert (why["phase"], why["mode"]) == ("climbing", "active")
    assert why["decision"]["reason"] == "waiting_for_verification"
    assert why["next_at"] == why["decision"]["until"]
    assert [(rung["action"], rung["tried"], rung["allowed"], rung["current"]) for rung in why["ladder"]] == [
        ("restart_app", 1, 2, True),
        ("reboot_host", 0, 1, False),
        ("power_cycle", 0, 1, False),
        ("human", 0, 0, False),
    ]
    [attempt] = why["attempts"]
    assert (attempt["action"], attempt["outcome"], attempt["ended_at"]) == ("restart_app", None, None)
    assert attempt["accepted_at"] is not None
    command = await ask(program, "GET", f"/api/commands/{attempt['command_id']}")
    assert (command["action"], command["source"]) == ("restart_app", "recovery")


async def test_a_client_that_is_well_has_nothing_to_explain(program: ClientSession) -> None:
    why = await ask(program, "GET", f"/api/clients/{V}/explain")
    assert (why["decision"], why["phase"], why["next_at"]) == (None, "rest", None)
    await ask(program, "GET", f"/api/clients/{NOBODY}/explain", status=404)
    await ask(program, "GET", "/api/clients/x/explain", status=422)


async def test_only_who_waits_for_somebody_can_be_acknowledged(site: Site, program: ClientSession) -> None:
    path = f"/api/clients/{U}/recovery/acknowledge"
    assert (await ask(program, "POST", path, status=409))["type"] == "conflict"
    await ask(program, "POST", f"/api/clients/{NOBODY}/recovery/acknowledge", status=404)
    switch_on(site)
    await minutes_pass(site, 45)
    assert (await ask(program, "GET", f"/api/clients/{U}/explain"))["phase"] == "needs_human"
    why = await ask(program, "POST", path, json={"comment": "Netzteil"})
    assert (why["phase"], why["decision"]) == ("rest", None)
    async with site.spine.store.read() as connection:
        [act] = (await audit.page(connection, 1)).items
    assert (act.action, act.target) == ("recovery.acknowledge", f"client/{U}")


async def test_somebody_who_takes_care_of_a_client_holds_the_recovery_or_lets_it_go_on(
    site: Site, program: ClientSession
) -> None:
    path, now = f"/api/clients/{U}/acknowledge", site.spine.clock.now()
    await ask(program, "POST", path, json={}, status=422)
    await ask(program, "POST", path, json={"recovery": "sometimes"}, status=422)
    past = {"recovery": "hold", "until": zulu(now - timedelta(hours=1))}
    await ask(program, "POST", path, json=past, status=422)
    well, nobody = f"/api/clients/{V}/acknowledge", f"/api/clients/{NOBODY}/acknowledge"
    for act in ("POST", "DELETE"):
        body = {"json": {"recovery": "hold"}} if act == "POST" else {}
        await ask(await site.program(Role.VIEWER), act, path, **body, status=403)
        await ask(program, act, nobody, **body, status=404)
    assert (await ask(program, "POST", well, json={"recovery": "hold"}, status=409))["type"] == "conflict"
    assert (await ask(program, "DELETE", well))["acknowledgement"] is None
    switch_on(site)
    held = {"recovery": "hold", "comment": "Netzteil", "until": zulu(now + timedelta(minutes=30))}
    taken = (await ask(program, "POST", path, json=held))["acknowledgement"]
    assert taken == {"by": "operator/program", "at": zulu(now), **held}
    await minutes_pass(site, 10)
    why = await ask(program, "GET", f"/api/clients/{U}/explain")
    assert (why["decision"]["reason"], why["attempts"]) == ("taken_over", [])
    assert why["next_at"] == held["until"]
    assert (await ask(program, "DELETE", path))["acknowledgement"] is None
    await minutes_pass(site, 2)
    assert (await ask(program, "GET", f"/api/clients/{U}/explain"))["attempts"] != []
    await ask(program, "POST", path, json={"recovery": "go_on"})
    await minutes_pass(site, 45)
    why = await ask(program, "GET", f"/api/clients/{U}/explain")
    assert (why["phase"], why["acknowledgement"]["recovery"]) == ("needs_human", "go_on")
    again = await ask(program, "POST", path, json={"recovery": "go_on"})
    assert (again["phase"], again["decision"]) == ("rest", None)
    async with site.spine.store.read() as connection:
        page = await audit.page(connection, 20)
    acts = [one.action for one in page.items if one.action.startswith("recovery.")]
    assert acts == [*["recovery.acknowledge"] * 2, "recovery.give_back", "recovery.acknowledge"]


async def test_an_acknowledgement_ends_by_itself(site: Site, program: ClientSession) -> None:
    path, now = f"/api/clients/{U}/acknowledge", site.spine.clock.now()
    switch_on(site)
    await minutes_pass(site, 1)
    until = {"recovery": "hold", "until": zulu(now + timedelta(minutes=10))}
    await ask(program, "POST", path, json=until)
    await minutes_pass(site, 15)
    why = await ask(program, "GET", f"/api/clients/{U}/explain")
    assert (why["acknowledgement"], why["attempts"] != []) == (None, True)
    await ask(program, "POST", path, json={"recovery": "hold"})
    for _ in range(10):
        site.spine.clock.advance(30)
        await site.spine.beat(U, process_status="running")
        await site.spine.watch.look()
        await site.spine.recovering.poll()
    why = await ask(program, "GET", f"/api/clients/{U}/explain")
    assert (why["phase"], why["acknowledgement"]) == ("well", None)


async def test_incidents_are_listed_and_held_clients_found_by_them(
    site: Site, program: ClientSession
) -> None:
    site.spine.link.listening_since = None
    await site.spine.recovering.poll()
    for path in ("/api/incidents", "/api/recovery/incidents"):
        [incident] = (await ask(program, "GET", path))["items"]
        assert (incident["kind"], incident["ended_at"], incident["members"]) == ("observer", None, 0)
    answer = await ask(program, "GET", "/api/recovery?reason=broker_disconnected")
    assert [one["client_uuid"] for one in answer["decisions"]["items"]] == [U]
    assert [hold["reason"] for hold in answer["holds"]] == ["broker_disconnected"]


async def test_an_outage_is_listed_with_its_members_taken_care_of_and_dismissed(site: Site) -> None:
    dark = sorted([V, *OTHERS[:4]])
    for _ in range(20):
        site.spine.clock.advance(60)
        for uuid in OTHERS[4:]:
            await site.spine.beat(uuid)
        if site.spine.clock.now().minute < 10:
            for uuid in dark:
                await site.spine.beat(uuid)
        await site.spine.watch.look()
        await site.spine.recovering.poll()
    viewer, program = await site.program(Role.VIEWER), await site.program(Role.OPERATOR)
    [incident] = (await ask(viewer, "GET", "/api/incidents?open=true"))["items"]
    path = f"/api/incidents/{incident['id']}"
    assert (incident["kind"], incident["members"]) == ("fleet_outage", 5)
    assert (await ask(viewer, "GET", path))["client_uuids"] == dark
    held = (await ask(viewer, "GET", f"/api/recovery?incident_id={incident['id']}"))["decisions"]
    assert sorted(one["client_uuid"] for one in held["items"]) == dark
    for act in ("acknowledge", "dismiss"):
        await ask(viewer, "POST", f"{path}/{act}", status=403)
        await ask(program, "POST", f"/api/incidents/4711/{act}", status=404)
    taken = await ask(program, "POST", f"{path}/acknowledge", json={"comment": "Switch im Keller"})
    assert (taken["acknowledged_by"], taken["comment"]) == ("operator/program", "Switch im Keller")
    assert taken["ended_at"] is None
    over = await ask(program, "POST", f"{path}/dismiss")
    assert (over["closing"], over["ended_at"]) == ("dismissed", zulu(site.spine.clock.now()))
    assert (await ask(program, "POST", f"{path}/dismiss", status=409))["type"] == "conflict"
    assert (await ask(viewer, "GET", "/api/incidents?open=true"))["items"] == []
    async with site.spine.store.read() as connection:
        acts = (await audit.page(connection, 2)).items
    assert [(act.action, act.target) for act in acts] == [
        ("incident.dismiss", f"incident/{incident['id']}"),
        ("incident.acknowledge", f"incident/{incident['id']}"),
    ]


async def test_the_switch_of_a_client_is_heeded(site: Site, program: ClientSession) -> None:
    await ask(program, "PATCH", f"/api/clients/{U}", json={"auto_recovery": False})
    await site.spine.recovering.poll()
    why = await ask(program, "GET", f"/api/clients/{U}/explain")
    assert why["decision"]["reason"] == "auto_recovery_off"
    until = zulu(site.spine.clock.now() + timedelta(hours=1))
    await ask(program, "PATCH", f"/api/clients/{U}", json={"maintenance_until": until})
    await site.spine.recovering.poll()
    why = await ask(program, "GET", f"/api/clients/{U}/explain")
    assert (why["decision"]["reason"], why["next_at"]) == ("maintenance", until)


async def test_what_is_counted_is_in_the_metrics(site: Site) -> None:
    site.parts.metrics.recovery_decision("grace", 3)  # type: ignore[attr-defined]
    site.parts.metrics.recovery_attempt("restart_app", "recovered")  # type: ignore[attr-defined]
    site.parts.metrics.recovered(90)  # type: ignore[attr-defined]
    site.parts.metrics.incident("site_outage")  # type: ignore[attr-defined]
    site.parts.metrics.incidents_open({"site_outage": 1})  # type: ignore[attr-defined]
    async with (await site.visitor()).get("/metrics") as response:
        text = await response.text()
    assert 'infoscreen_recovery_decisions_total{reason="grace"} 3.0' in text
    assert 'infoscreen_recovery_attempts_total{outcome="recovered",rung="restart_app"} 1.0' in text
    assert 'infoscreen_recovery_seconds_bucket{le="120.0"} 1.0' in text
    assert 'infoscreen_recovery_incidents_total{kind="site_outage"} 1.0' in text
    assert 'infoscreen_recovery_incidents_open{kind="observer"} 0.0' in text
