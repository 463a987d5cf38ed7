"""Users, API tokens and the audit trail over HTTP."""

from typing import Any

from infoscreen.domain.accounts import Role
from tests.web import PASSWORD, Site


async def json_of(request: Any, status: int = 200) -> Any:
    async with request as response:
        assert response.status == status, await response.text()
        return await response.json(content_type=None)


async def test_an_admin_adds_lists_and_removes_users(site: Site) -> None:
    admin = await site.program(Role.ADMIN, manages_accounts=True)
    new = {"username": "olga", "password": PASSWORD, "role": "operator"}
    added = await json_of(admin.post("/api/users", json=new), 201)
    assert added == {
        "id": 2,
        "username": "olga",
        "role": "operator",
        "disabled": False,
        "created_at": "2026-03-02T07:00:00Z",
        "last_login_at": None,
        "second_factor": False,
    }
    listed = await json_of(admin.get("/api/users?limit=1"))
    assert (listed["total"], [user["username"] for user in listed["items"]]) == (2, ["admin"])
    following = await json_of(admin.get("/api/users", params={"cursor": listed["next_cursor"]}))
    assert (following["items"], following["next_cursor"]) == ([added], None)
    assert (await json_of(admin.post("/api/users", json=new), 409))["type"] == "conflict"
    async with admin.delete("/api/users/2") as response:
        assert response.status == 204
    assert (await json_of(admin.delete("/api/users/2"), 404))["type"] == "not-found"


async def test_the_last_admin_stays(site: Site) -> None:
    admin = await site.program(Role.ADMIN, manages_accounts=True)
    assert (await json_of(admin.delete("/api/users/1"), 409))["type"] == "conflict"


async def test_a_password_or_its_hash_never_comes_back(site: Site) -> None:
    admin = await site.program(Role.ADMIN, manages_accounts=True)
    new = {"username": "olga", "password": PASSWORD, "role": "operator"}
    async with admin.post("/api/users", json=new) as added, admin.get("/api/users") as listed:
        for text in (await added.text(), await listed.text()):
            assert PASSWORD not in text
            assert "argon2" not in text


async def test_everybody_has_tokens_of_their_own_and_sees_the_secret_once(site: Site) -> None:
    viewer, admin = await site.browser(Role.VIEWER), await site.browser(Role.ADMIN)
    wanted = {"name": "board", "role": "viewer", "expires_at": "2026-04-01T00:00:00+02:00"}
    made = await json_of(viewer.post("/api/tokens", json=wanted), 201)
    secret = made.pop("secret")
    assert secret.startswith("isc_")
    assert made["expires_at"] == "2026-03-31T22:00:00Z"
    assert (await json_of(viewer.get("/api/tokens")))["items"] == [made]
    assert (await json_of(admin.get("/api/tokens")))["items"] == [made]
    program = await site.visitor({"Authorization": f"Bearer {secret}"})
    assert (await json_of(program.get("/api/auth/me")))["role"] == "viewer"
    async with viewer.delete(f"/api/tokens/{made['id']}") as response:
        assert response.status == 204
    assert (await json_of(program.get("/api/auth/me"), 401))["type"] == "unauthenticated"


async def test_a_token_is_not_for_others_and_not_above_oneself(site: Site) -> None:
    operator, admin = (
        await site.program(Role.OPERATOR, manages_accounts=True),
        await site.program(Role.ADMIN, manages_accounts=True),
    )
    admin_id = (await site.user(Role.ADMIN)).id
    above = {"name": "t", "role": "admin"}
    assert (await json_of(operator.post("/api/tokens", json=above), 403))["type"] == "forbidden"
    others = {"name": "t", "role": "viewer", "user_id": admin_id}
    assert (await json_of(operator.post("/api/tokens", json=others), 403))["type"] == "forbidden"
    annas = await json_of(admin.post("/api/tokens", json=others), 201)
    assert (await json_of(operator.delete(f"/api/tokens/{annas['id']}"), 404))["type"] == "not-found"


async def test_a_time_without_a_zone_is_refused(site: Site) -> None:
    viewer = await site.program(Role.VIEWER, manages_accounts=True)
    wanted = {"name": "t", "role": "viewer", "expires_at": "2026-04-01T00:00:00"}
    document = await json_of(viewer.post("/api/tokens", json=wanted), 422)
    assert document["errors"][0]["field"] == "expires_at"
    assert "time zone" in document["errors"][0]["message"]


async def test_the_audit_trail_is_newest_first_filtered_and_paged(site: Site) -> None:
    admin = await site.browser(Role.ADMIN)
    for number in range(3):
        new = {"username": f"user{number}", "password": PASSWORD, "role": "viewer"}
        await json_of(admin.post("/api/users", json=new), 201)
    first = await json_of(admin.get("/api/audit?action=user.add&actor=admin&limit=2"))
    assert (first["total"], [act["target"] for act in first["items"]]) == (None, ["user/user2", "user/user1"])
    rest = await json_of(
        admin.get("/api/audit?action=user.add&actor=admin", params={"cursor": first["next_cursor"]})
    )
    assert [act["target"] for act in rest["items"]] == ["user/user0"]
    (act,) = (await json_of(admin.get("/api/audit?target=user/user0")))["items"]
    assert act == {
        "id": 3,
        "at": "2026-03-02T07:00:00Z",
        "actor_id": 1,
        "actor": "admin",
        "via": "session",
        "action": "user.add",
        "target": "user/user0",
        "detail": {"role": "viewer"},
        "address": "127.0.0.1",
    }


async def test_users_are_changed_locked_out_and_let_in_again(site: Site) -> None:
    admin = await site.browser(Role.ADMIN)
    olga = await json_of(
        admin.post("/api/users", json={"username": "olga", "password": PASSWORD, "role": "viewer"}), 201
    )
    path = f"/api/users/{olga['id']}"
    assert (await json_of(admin.patch(path, json={"role": "operator"})))["role"] == "operator"
    locked = await json_of(admin.patch(path, json={"disabled": True}))
    assert (locked["role"], locked["disabled"]) == ("operator", True)
    for change in (
        {"role": "viewer"},
        {"password": PASSWORD + "2", "revoke_tokens": True},
        {"disabled": False},
    ):
        changed = await json_of(admin.patch(path, json=change))
    assert (changed["role"], changed["disabled"]) == ("viewer", False)
    await json_of(admin.patch(path, json={"password": "short"}), 422)
    await json_of(admin.patch("/api/users/1", json={"disabled": True}), 409)
    await json_of(admin.patch("/api/users/1", json={"role": "viewer"}), 409)
    async with admin.delete(path) as response:
        assert response.status == 204


async def test_ones_own_password_is_changed_and_tokens_are_revoked_on_request(site: Site) -> None:
    browser, program = await site.browser(Role.VIEWER), await site.program(Role.VIEWER)
    change = {"current": PASSWORD, "new": PASSWORD + "2"}
    await json_of(program.post("/api/auth/password", json=change), 403)
    async with browser.post("/api/auth/password", json=change) as response:
        assert response.status == 204
    await json_of(program.get("/api/auth/me"))
    change = {"current": PASSWORD + "2", "new": PASSWORD, "revoke_tokens": True}
    async with browser.post("/api/auth/password", json=change) as response:
        assert response.status == 204
    await json_of(program.get("/api/auth/me"), 401)
    await json_of(browser.get("/api/auth/me"))
