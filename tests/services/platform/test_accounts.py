"""Users, organizations and API keys over HTTP."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.operations import APPLIED_OPERATIONS, AUDIT_EVENTS
from agenthub.repositories.platform.api_keys import API_KEYS
from agenthub.repositories.platform.users import USERS
from agenthub.storage.contract import Query
from tests.accounts import PASSWORD, World


def fresh(role: str = "user", **more: Any) -> dict[str, Any]:
    return {"email": f"{new_id()}@example.org", "password": PASSWORD, "role": role, **more}


# --- users ---


def test_an_owner_creates_users_who_can_sign_in(world: World) -> None:
    owner = world.account()
    wanted = fresh("admin", name="Ada")
    made = owner.api.post("/api/users", wanted, 201)
    assert (made["email"], made["role"], made["status"], made["organization_id"]) == (wanted["email"], "admin", "active", owner.tenant_id)
    assert set(made) == {
        *("id", "organization_id", "email", "name", "role", "status"),
        *("password_changed_at", "created_at", "updated_at", "version"),
    }
    assert owner.api.get(f"/api/users/{made['id']}") == made
    assert world.anonymous.login(wanted["email"], PASSWORD).get("/api/auth/me")["role"] == "admin"
    owner.api.refused("POST", "/api/users", 409, "already_exists", "email", json={**wanted, "email": wanted["email"].upper()})


@pytest.mark.parametrize("role", ["admin", "devops", "user", "viewer"])
def test_only_owners_create_users_and_assign_roles(world: World, role: Any) -> None:
    owner = world.account()
    other = world.account(owner.tenant_id, role)
    other.api.refused("POST", "/api/users", 403, "permission_denied", json=fresh())
    other.api.refused("PATCH", f"/api/users/{other.user.id}", 403, "permission_denied", json={"role": "owner"})
    other.api.refused("DELETE", f"/api/users/{owner.user.id}", 403, "permission_denied")
    other.api.refused("POST", f"/api/users/{owner.user.id}/password", 403, "permission_denied", json={"new_password": PASSWORD + "!"})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "nonsense"}, "email"),
        ({"email": "a@b\r\nX: 1"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "password"}, "password"),
        ({"role": "root"}, "role"),
        ({"role": None}, "role"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "x\u0000"}, "name"),
        ({"tenant_id": "x"}, "tenant_id"),
        ({"status": "active"}, "status"),
        ({"id": "x"}, "id"),
    ],
)
def test_a_user_of_nonsense_is_refused_by_name(world: World, changes: dict[str, Any], field: str) -> None:
    world.account().api.refused("POST", "/api/users", 422, "invalid_input", field, json={**fresh(), **changes})


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "<img src=x onerror=alert(1)>", "{{7*7}}", "Robert'); DROP TABLE users;--", "👩‍🚀", "a%00b"]
)
def test_names_are_kept_as_they_are(world: World, name: str) -> None:
    made = world.account().api.post("/api/users", fresh(name=name), 201)
    assert made["name"] == name


def test_users_are_listed_in_pages_and_by_role(world: World) -> None:
    owner = world.account()
    made = [owner.api.post("/api/users", fresh("viewer"), 201)["id"] for _ in range(3)]
    seen, cursor = [], None
    while True:
        query = {"role": "viewer", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = owner.api.get("/api/users", query_string=query)
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(made)
    assert owner.api.get("/api/users", query_string={"status": "suspended"})["items"] == []
    owner.api.refused("GET", "/api/users?role=root", 422, "invalid_input", "role")
    owner.api.refused("GET", "/api/users?limit=201", 422, "invalid_input", "limit")
    owner.api.refused("GET", "/api/users?cursor=abc", 400, "malformed_input", "cursor")
    owner.api.refused("GET", "/api/users?sort=email;drop", 422, "invalid_input", "sort")


def test_another_organizations_cursor_opens_nothing(world: World) -> None:
    owner, other = world.account(), world.account()
    for _ in range(2):
        world.user(owner.tenant_id), world.user(other.tenant_id)
    cursor = other.api.get("/api/users?limit=1")["next_cursor"]
    items = owner.api.get("/api/users", query_string={"cursor": cursor})["items"]
    assert all(item["organization_id"] == owner.tenant_id for item in items)
    sessions_cursor = other.api.get("/api/users?limit=1")["next_cursor"]
    owner.api.refused("GET", f"/api/api-keys?cursor={sessions_cursor}", 400, "malformed_input", "cursor")


def test_a_suspended_user_is_out_at_the_next_request(world: World) -> None:
    owner = world.account()
    user = world.account(owner.tenant_id, "user")
    _, key = world.key(user.user, ["agents:read"])
    key.get("/api/auth/me")
    owner.api.call("PATCH", f"/api/users/{user.user.id}", 200, json={"status": "suspended"})
    for client in (user.api, key):
        client.refused("GET", "/api/auth/me", 401, "unauthenticated")
    owner.api.call("PATCH", f"/api/users/{user.user.id}", 200, json={"status": "active"})
    user.api.refused("GET", "/api/auth/me", 401, "unauthenticated")
    key.get("/api/auth/me")


def test_a_changed_role_counts_at_the_next_request(world: World) -> None:
    owner = world.account()
    user = world.account(owner.tenant_id, "admin")
    _, key = world.key(user.user, ["users:read", "agents:read"])
    user.api.get("/api/users")
    key.get("/api/users")
    owner.api.call("PATCH", f"/api/users/{user.user.id}", 200, json={"role": "viewer"})
    for client in (user.api, key):
        client.refused("GET", "/api/users", 403, "permission_denied")
    assert key.get("/api/auth/me")["permissions"] == ["agents:read"]


def test_the_last_active_owner_can_not_leave(world: World) -> None:
    owner = world.account()
    path = f"/api/users/{owner.user.id}"
    for changes in ({"role": "admin"}, {"status": "suspended"}):
        owner.api.refused("PATCH", path, 409, "conflict", json=changes)
    owner.api.refused("DELETE", path, 409, "conflict")
    world.user(owner.tenant_id)
    owner.api.call("DELETE", path, 204)
    owner.api.refused("GET", "/api/auth/me", 401, "unauthenticated")


def test_a_stale_version_is_refused_and_an_empty_change_is_harmless(world: World) -> None:
    owner = world.account()
    path = f"/api/users/{world.user(owner.tenant_id, 'user').id}"
    owner.api.call("PATCH", path, 200, json={"name": "Ada", "expected_version": 1})
    owner.api.refused("PATCH", path, 409, "version_conflict", json={"name": "Eve", "expected_version": 1})
    assert owner.api.call("PATCH", path, 200, json={})["name"] == "Ada"
    for field in ("name", "role", "status"):
        owner.api.refused("PATCH", path, 422, "invalid_input", field, json={field: None})


def test_an_owner_resets_a_password_and_the_sessions_end(world: World) -> None:
    owner = world.account()
    user = world.account(owner.tenant_id, "user")
    path = f"/api/users/{user.user.id}/password"
    owner.api.refused("POST", path, 422, "invalid_input", "new_password", json={"new_password": user.user.email})
    owner.api.call("POST", path, 204, json={"new_password": "an even longer phrase"})
    user.api.refused("GET", "/api/auth/me", 401, "unauthenticated")
    world.anonymous.login(user.user.email, "an even longer phrase")
    own = f"/api/users/{owner.user.id}/password"
    owner.api.refused("POST", own, 409, "conflict", json={"new_password": "an even longer phrase"})


def test_an_admin_sees_and_ends_a_users_sessions(world: World) -> None:
    owner = world.account()
    admin, user = world.account(owner.tenant_id, "admin"), world.account(owner.tenant_id, "user")
    path = f"/api/users/{user.user.id}/sessions"
    assert [item["id"] for item in admin.api.get(path)["items"]] == [user.session.session.id]
    user.api.refused("GET", f"/api/users/{admin.user.id}/sessions", 403, "permission_denied")
    admin.api.call("DELETE", path, 204)
    user.api.refused("GET", "/api/auth/me", 401, "unauthenticated")


def test_a_repeated_creation_makes_one_user(world: World) -> None:
    owner = world.account()
    wanted, headers = fresh(), {"Idempotency-Key": "once"}
    first = owner.api.post("/api/users", wanted, 201, headers=headers)
    assert owner.api.post("/api/users", wanted, 201, headers=headers) == first
    owner.api.refused(
        "POST", "/api/users", 409, "operation_reused", "Idempotency-Key", json={**wanted, "password": PASSWORD + "!"}, headers=headers
    )
    assert world.storage.count(USERS, owner.tenant_id) == 2
    path, headers = f"/api/users/{first['id']}", {"Idempotency-Key": "twice"}
    changed = owner.api.call("PATCH", path, 200, json={"role": "viewer"}, headers=headers)
    assert owner.api.call("PATCH", path, 200, json={"role": "viewer"}, headers=headers) == changed == owner.api.get(path)


def test_what_is_kept_for_repeats_holds_no_secret(world: World) -> None:
    owner = world.account()
    owner.api.post("/api/users", fresh(), 201, headers={"Idempotency-Key": "a"})
    change = {"current_password": PASSWORD, "new_password": "an even longer phrase"}
    owner.api.call("POST", "/api/auth/password", 204, json=change, headers={"Idempotency-Key": "b"})
    issued = owner.api.post("/api/api-keys", {"name": "ci", "scopes": []}, 201, headers={"Idempotency-Key": "c"})
    kept = str(world.storage.find(APPLIED_OPERATIONS, EVERY_TENANT, Query()))
    for secret in (PASSWORD, "an even longer phrase", "$argon2", issued["secret"], issued["secret"][12:], owner.session.token):
        assert secret not in kept


# --- organizations ---


def test_the_operator_creates_organizations_with_an_owner(world: World) -> None:
    operator = world.operator()
    email = f"{new_id()}@example.org"
    wanted = {"name": "Difference Engines", "owner": {"email": email, "password": PASSWORD}}
    made = operator.api.post("/api/organizations", wanted, 201)
    assert (made["name"], made["status"], made["is_operator"]) == ("Difference Engines", "active", False)
    owner = world.anonymous.login(email, PASSWORD)
    me = owner.get("/api/auth/me")
    assert (me["organization_id"], me["role"]) == (made["id"], "owner")
    assert "organizations:create" not in me["permissions"]
    owner.refused("POST", "/api/organizations", 403, "permission_denied", json=wanted)
    assert owner.get("/api/organizations")["items"] == [made]
    assert made in operator.api.get("/api/organizations")["items"]
    operator.api.refused("POST", "/api/organizations", 409, "already_exists", "email", json=wanted)


@pytest.mark.parametrize(
    ("owner", "field"),
    [
        ({"email": "x"}, "owner.email"),
        ({"email": "nonsense"}, "owner.email"),
        ({"password": "password"}, "owner.password"),
        ({"role": "user"}, "owner.role"),
    ],
)
def test_an_organization_needs_a_proper_owner(world: World, owner: dict[str, Any], field: str) -> None:
    sent = {"name": "X", "owner": {"email": f"{new_id()}@example.org", "password": PASSWORD, **owner}}
    world.operator().api.refused("POST", "/api/organizations", 422, "invalid_input", field, json=sent)


def test_only_the_operators_owners_create_organizations(world: World) -> None:
    operator = world.operator()
    admin = world.account(operator.tenant_id, "admin")
    wanted = {"name": "X", "owner": {"email": f"{new_id()}@example.org", "password": PASSWORD}}
    admin.api.refused("POST", "/api/organizations", 403, "permission_denied", json=wanted)
    assert [item["id"] for item in admin.api.get("/api/organizations")["items"]] == [operator.tenant_id]
    _, key = world.key(operator.user, ["organizations:read"])
    assert [item["id"] for item in key.get("/api/organizations")["items"]] == [operator.tenant_id]


def test_a_suspended_organization_is_out_at_the_next_request(world: World) -> None:
    operator, owner = world.operator(), world.account()
    _, key = world.key(owner.user, ["users:read"])
    path = f"/api/organizations/{owner.tenant_id}"
    owner.api.refused("PATCH", path, 403, "permission_denied", json={"status": "suspended"})
    assert operator.api.call("PATCH", path, 200, json={"status": "suspended"})["status"] == "suspended"
    for client in (owner.api, key):
        client.refused("GET", "/api/auth/me", 401, "unauthenticated")
    world.anonymous.refused("POST", "/api/auth/login", 401, "unauthenticated", json={"email": owner.user.email, "password": PASSWORD})
    operator.api.call("PATCH", path, 200, json={"status": "active"})
    owner.api.get("/api/auth/me")
    for tenant in (operator, owner):
        actions = [event["action"] for event in world.audit(tenant, resource_id=owner.tenant_id)]
        assert actions[:2] == ["organization.activate", "organization.suspend"]


def test_the_operator_can_not_suspend_itself(world: World) -> None:
    operator = world.operator()
    path = f"/api/organizations/{operator.tenant_id}"
    operator.api.refused("PATCH", path, 409, "conflict", "status", json={"status": "suspended"})


def test_an_owner_renames_the_own_organization_and_no_other(world: World) -> None:
    owner, other = world.account(), world.account()
    renamed = owner.api.call("PATCH", f"/api/organizations/{owner.tenant_id}", 200, json={"name": "New name"})
    assert renamed["name"] == owner.api.get("/api/auth/me")["organization"] == "New name"
    owner.api.refused("PATCH", f"/api/organizations/{other.tenant_id}", 404, "not_found", json={"name": "Mine"})
    owner.api.refused("PATCH", f"/api/organizations/{other.tenant_id}", 404, "not_found", json={"status": "suspended"})
    owner.api.refused("GET", f"/api/organizations/{other.tenant_id}", 404, "not_found")
    path = f"/api/organizations/{owner.tenant_id}"
    owner.api.refused("PATCH", path, 409, "version_conflict", json={"name": "Old", "expected_version": 1})


def test_repeats_of_the_operators_requests_apply_once(world: World) -> None:
    operator, headers = world.operator(), {"Idempotency-Key": "found"}
    wanted = {"name": "Once", "owner": {"email": f"{new_id()}@example.org", "password": PASSWORD}}
    first = operator.api.post("/api/organizations", wanted, 201, headers=headers)
    assert operator.api.post("/api/organizations", wanted, 201, headers=headers) == first
    path, headers = f"/api/organizations/{first['id']}", {"Idempotency-Key": "suspend"}
    suspended = operator.api.call("PATCH", path, 200, json={"status": "suspended"}, headers=headers)
    assert operator.api.call("PATCH", path, 200, json={"status": "suspended"}, headers=headers) == suspended
    assert suspended == operator.api.get(path)


# --- API keys ---


def test_a_key_is_shown_once_and_works_within_its_scopes(world: World) -> None:
    owner = world.account()
    made = owner.api.post("/api/api-keys", {"name": "ci", "scopes": ["users:read"]}, 201)
    assert made["secret"].startswith("ahk_") and made["secret"].startswith(made["prefix"])
    assert "secret" not in owner.api.get(f"/api/api-keys/{made['id']}")
    assert "secret_hash" not in json.dumps(owner.api.get("/api/api-keys"))
    headers = {"Authorization": f"Bearer {made['secret']}"}
    world.anonymous.get("/api/users", headers=headers)
    world.anonymous.refused("POST", "/api/users", 403, "permission_denied", json=fresh(), headers=headers)
    assert owner.api.get(f"/api/api-keys/{made['id']}")["last_used_at"]
    rows = str(world.storage.find(API_KEYS, EVERY_TENANT, Query()))
    assert made["secret"] not in rows and made["secret"][12:] not in rows


def test_the_end_of_a_key_is_kept_in_utc(world: World) -> None:
    sent = {"name": "ci", "scopes": [], "expires_at": "2999-12-31T23:30:00+02:00"}
    assert world.account().api.post("/api/api-keys", sent, 201)["expires_at"] == "2999-12-31T21:30:00Z"


def test_a_repeat_is_answered_without_the_secret(world: World) -> None:
    owner, headers = world.account(), {"Idempotency-Key": "once"}
    wanted = {"name": "ci", "scopes": ["users:read"]}
    first = owner.api.post("/api/api-keys", wanted, 201, headers=headers)
    again = owner.api.post("/api/api-keys", wanted, 201, headers=headers)
    assert first["secret"] and again["secret"] is None
    assert "shown once" in again["note"] and again["note"] != first["note"]
    assert {**again, "secret": 0, "note": 0} == {**first, "secret": 0, "note": 0}
    assert world.storage.count(API_KEYS, owner.tenant_id) == 1


def test_a_key_holds_no_more_than_its_creator(world: World) -> None:
    owner = world.account()
    user = world.account(owner.tenant_id, "user")
    user.api.refused("POST", "/api/api-keys", 403, "permission_denied", json={"name": "x", "scopes": ["users:write"]})
    owner.api.refused("POST", "/api/api-keys", 403, "permission_denied", json={"name": "x", "scopes": ["organizations:create"]})
    _, key = world.key(owner.user, ["api-keys:write", "agents:read"])
    key.refused("POST", "/api/api-keys", 403, "permission_denied", json={"name": "x", "scopes": ["agents:write"]})
    key.post("/api/api-keys", {"name": "x", "scopes": ["agents:read"]}, 201)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scopes": ["users:read", "everything"]}, "scopes[1]"),
        ({"scopes": ["users:read\r\nX: y"]}, "scopes[0]"),
        ({"scopes": "users:read"}, "scopes"),
        ({"scopes": [1]}, "scopes[0]"),
        ({"scopes": ["agents:read"] * 100}, "scopes"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": 4102444800}, "expires_at"),
        ({"name": " "}, "name"),
        ({"created_by": "x"}, "created_by"),
        ({"secret": "ahk_x"}, "secret"),
    ],
)
def test_a_key_of_nonsense_is_refused_by_name(world: World, changes: dict[str, Any], field: str) -> None:
    sent = {"name": "ci", "scopes": [], **changes}
    world.account().api.refused("POST", "/api/api-keys", 422, "invalid_input", field, json=sent)


def test_an_expired_and_a_revoked_key_are_dead(world: World) -> None:
    owner = world.account()
    _, key = world.key(owner.user, [], world.clock.now() + timedelta(hours=1))
    issued, other = world.key(owner.user)
    key.get("/api/auth/me")
    world.clock.move(hours=1)
    key.refused("GET", "/api/auth/me", 401, "unauthenticated")
    other.get("/api/auth/me")
    for _ in range(2):
        owner.api.call("DELETE", f"/api/api-keys/{issued.key.id}", 204)
    other.refused("GET", "/api/auth/me", 401, "unauthenticated")
    assert owner.api.get(f"/api/api-keys/{issued.key.id}")["status"] == "revoked"


def test_keys_are_their_creators_unless_one_manages_them(world: World) -> None:
    owner = world.account()
    user, colleague = world.account(owner.tenant_id, "user"), world.account(owner.tenant_id, "devops")
    issued, key = world.key(user.user)
    path = f"/api/api-keys/{issued.key.id}"
    assert [item["id"] for item in user.api.get("/api/api-keys")["items"]] == [issued.key.id]
    assert colleague.api.get("/api/api-keys")["items"] == []
    for method in ("GET", "DELETE"):
        colleague.api.refused(method, path, 404, "not_found")
    colleague.api.refused("PATCH", path, 404, "not_found", json={"name": "x"})
    assert user.api.call("PATCH", path, 200, json={"name": "renamed"})["name"] == "renamed"
    admin = world.account(owner.tenant_id, "admin")
    assert issued.key.id in [item["id"] for item in admin.api.get("/api/api-keys")["items"]]
    admin.api.call("DELETE", path, 204)
    key.refused("GET", "/api/auth/me", 401, "unauthenticated")


def test_a_deleted_creator_takes_the_keys_along(world: World) -> None:
    owner = world.account()
    user = world.account(owner.tenant_id, "user")
    _, key = world.key(user.user)
    owner.api.call("DELETE", f"/api/users/{user.user.id}", 204)
    key.refused("GET", "/api/auth/me", 401, "unauthenticated")
    user.api.refused("GET", "/api/auth/me", 401, "unauthenticated")
    assert world.storage.count(API_KEYS, owner.tenant_id) == 0


def test_account_changes_are_audited_without_secrets(world: World) -> None:
    owner = world.account()
    user = owner.api.post("/api/users", fresh(), 201)
    owner.api.call("PATCH", f"/api/users/{user['id']}", 200, json={"role": "viewer"})
    owner.api.call("POST", f"/api/users/{user['id']}/password", 204, json={"new_password": "an even longer phrase"})
    key = owner.api.post("/api/api-keys", {"name": "ci", "scopes": []}, 201)
    owner.api.call("DELETE", f"/api/api-keys/{key['id']}", 204)
    owner.api.call("DELETE", f"/api/users/{user['id']}", 204)
    events = world.audit(owner, actor_id=owner.user.id)
    assert [(event["action"], event["resource_id"]) for event in reversed(events)] == [
        ("user.create", user["id"]),
        ("user.assign_role", user["id"]),
        ("user.reset_password", user["id"]),
        ("api_key.create", key["id"]),
        ("api_key.revoke", key["id"]),
        ("user.delete", user["id"]),
    ]
    everything = str(world.storage.find(AUDIT_EVENTS, EVERY_TENANT, Query(limit=1000)))
    for secret in (PASSWORD, "an even longer phrase", key["secret"], key["secret"][12:], "$argon2"):
        assert secret not in everything
