"""Signing in and out, sessions and passwords over HTTP."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from argon2 import PasswordHasher

from agenthub.core.errors import StorageUnavailable
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.operations import APPLIED_OPERATIONS, AUDIT_EVENTS
from agenthub.repositories.platform.organizations import OrganizationRepository
from agenthub.repositories.platform.sessions import SESSIONS
from agenthub.repositories.platform.users import USERS, UserRepository
from agenthub.storage.contract import Query, Update
from tests.accounts import ABSOLUTE, IDLE, PASSWORD, World
from tests.api import OWNER

LOGIN = "/api/auth/login"


def body(email: str, password: str = PASSWORD) -> dict[str, str]:
    return {"email": email, "password": password}


def test_the_first_owner_signs_in_and_is_known(world: World) -> None:
    answer = world.anonymous.post(LOGIN, OWNER)
    assert set(answer) == {"session_token", "expires_at", "user"}
    assert answer["session_token"].startswith("ahs_") and len(answer["session_token"]) == 47
    me = world.anonymous.login().get("/api/auth/me")
    assert me["email"] == answer["user"]["email"] == OWNER["email"]
    assert me["role"] == "owner"
    assert me["permissions"] == answer["user"]["permissions"]
    assert "organizations:create" in me["permissions"]
    assert me["organization_id"] and me["organization"] == "AgentHub"
    assert not {"password", "password_hash", "token_hash"} & set(json.dumps(answer).replace('"', " ").split())


@pytest.mark.parametrize(
    "content_type", [None, "application/x-www-form-urlencoded", "text/plain", "application/json", "x/y; charset=latin1"]
)
def test_the_body_is_read_whatever_its_content_type(world: World, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    world.anonymous.call("POST", LOGIN, 200, data=json.dumps(OWNER), headers=headers)


def test_the_address_counts_in_any_case(world: World) -> None:
    user = world.user()
    world.anonymous.post(LOGIN, body(f" {user.email.upper()} "))


def test_unknown_wrong_and_suspended_are_answered_alike(world: World) -> None:
    known, suspended, orphan = world.user(), world.user(), world.user()
    world.user(suspended.tenant_id)
    UserRepository(world.storage).change(suspended.tenant_id, suspended.id, {"status": "suspended"})
    OrganizationRepository(world.storage).change(orphan.tenant_id, orphan.tenant_id, {"status": "suspended"})
    attempts = [
        body("nobody@example.org"),
        body("not an address"),
        body(known.email, "another long phrase"),
        body(suspended.email),
        body(suspended.email, "another long phrase"),
        body(orphan.email),
    ]
    answers = []
    for attempt in attempts:
        response = world.anonymous.send("POST", LOGIN, json=attempt)
        error = response.get_json()["error"]
        error.pop("request_id")
        answers.append((response.status_code, error, sorted(name for name, _ in response.headers)))
    assert answers[0][0] == 401
    assert all(answer == answers[0] for answer in answers)


def test_every_refusal_cost_one_hash(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    verify = PasswordHasher.verify

    def note(self: PasswordHasher, hashed: str, password: str) -> Any:
        verified.append(hashed.rpartition("$")[0].rpartition("$")[0])
        return verify(self, hashed, password)

    user = world.user()
    monkeypatch.setattr(PasswordHasher, "verify", note)
    for attempt in (body("nobody@example.org"), body(user.email, "wrong password"), body("ünknown", "x")):
        world.anonymous.refused("POST", LOGIN, 401, "unauthenticated", json=attempt)
    assert len(verified) == 3
    assert len(set(verified)) == 1, "with the same parameters"


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        ("", 400, None),
        ("{", 400, None),
        ("[]", 422, None),
        ('{"email": "a@b.c"}', 422, "password"),
        ('{"email": 1, "password": "x"}', 422, "email"),
        ('{"email": "a@b.c", "password": null}', 422, "password"),
        ('{"email": "a@b.c", "password": ""}', 422, "password"),
        ('{"email": "a@b.c", "password": "x\\u0000"}', 422, "password"),
        ('{"email": "a@b.c\\u0000", "password": "x"}', 422, "email"),
        ('{"email": "a@b.c", "password": "x", "tenant_id": "y"}', 422, "tenant_id"),
        (json.dumps({"email": "a" * 300, "password": "x"}), 422, "email"),
        (json.dumps({"email": "a@b.c", "password": "x" * 257}), 422, "password"),
        (json.dumps({"email": "a@b.c", "password": {"$ne": ""}}), 422, "password"),
    ],
)
def test_what_can_not_be_a_login_is_refused_by_name(world: World, sent: str, status: int, field: str | None) -> None:
    error = world.anonymous.call("POST", LOGIN, status, data=sent)["error"]
    assert error.get("field") == field
    assert "x" * 200 not in json.dumps(error)


def test_a_huge_body_is_refused(world: World) -> None:
    world.anonymous.refused("POST", LOGIN, 413, "payload_too_large", data=b"x" * (2 * 1024 * 1024))


@pytest.mark.parametrize(
    "email", ["a@b.c\r\nX-Injected: 1", "a@b.c\nX: 1", "'; DROP TABLE users; --@x.y", "${jndi:ldap://x}@y.z", "{{7*7}}@x.y"]
)
def test_hostile_addresses_are_just_unknown(world: World, email: str) -> None:
    response = world.anonymous.send("POST", LOGIN, json=body(email))
    assert response.status_code == 401
    assert "X-Injected" not in response.headers


def test_a_token_is_new_at_every_sign_in_and_kept_as_a_hash(world: World) -> None:
    tokens = {world.anonymous.post(LOGIN, OWNER)["session_token"] for _ in range(3)}
    assert len(tokens) == 3
    rows = str(world.storage.find(SESSIONS, EVERY_TENANT, Query()))
    assert not any(token in rows or token[4:] in rows for token in tokens)


def test_signing_in_with_an_idempotency_key_keeps_no_token(world: World) -> None:
    user = world.account()
    for client in (world.anonymous, user.api):
        headers = {"Idempotency-Key": "same"}
        first = client.post(LOGIN, OWNER, headers=headers)["session_token"]
        second = client.post(LOGIN, OWNER, headers=headers)["session_token"]
        assert first != second
    assert world.storage.find(APPLIED_OPERATIONS, EVERY_TENANT, Query()) == []


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer {}x", "bearer  x", "Bearer {} extra", "Bearer \xff"])
def test_what_is_no_bearer_token_is_unauthenticated(world: World, header: str) -> None:
    token = world.account().session.token
    response = world.anonymous.send("GET", "/api/auth/me", headers={"Authorization": header.format(token)})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    world.anonymous.refused("GET", f"/api/auth/me?token={token}", 401, "unauthenticated")


def test_a_token_in_a_cookie_or_another_header_is_nothing(world: World) -> None:
    token = world.account().session.token
    for headers in ({"Cookie": f"session={token}"}, {"X-API-Key": token}, {"X-Auth-Token": token}):
        world.anonymous.refused("GET", "/api/auth/me", 401, "unauthenticated", headers=headers)


def test_a_signed_out_session_is_dead_and_the_others_live(world: World) -> None:
    user = world.user()
    first, second = world.signed_in(user), world.signed_in(user)
    first.api.call("POST", "/api/auth/logout", 204)
    first.api.refused("GET", "/api/auth/me", 401, "unauthenticated")
    first.api.refused("POST", "/api/auth/logout", 401, "unauthenticated")
    second.api.get("/api/auth/me")


def test_idle_and_absolute_ends_are_kept(world: World) -> None:
    idle, used = world.account(), world.account()
    for _ in range(int(ABSOLUTE / IDLE * 2) - 1):
        world.clock.move(seconds=IDLE.total_seconds() / 2)
        used.api.get("/api/auth/me")
    world.clock.move(seconds=IDLE.total_seconds() / 2)
    used.api.refused("GET", "/api/auth/me", 401, "unauthenticated")
    idle.api.refused("GET", "/api/auth/me", 401, "unauthenticated")


def test_sessions_last_as_long_as_the_settings_say(world: World) -> None:
    user = world.user()
    token = world.anonymous.post(LOGIN, body(user.email))
    session = world.storage.find(SESSIONS, user.tenant_id, Query())[0]
    assert session["idle_expires_at"] == world.clock.now() + IDLE
    assert session["absolute_expires_at"] == world.clock.now() + ABSOLUTE
    assert token["expires_at"] == session["absolute_expires_at"].isoformat().replace("+00:00", "Z")


def test_own_sessions_are_listed_and_ended(world: World) -> None:
    user = world.user()
    accounts = [world.signed_in(user) for _ in range(3)]
    stranger = world.account(user.tenant_id)
    listed = accounts[0].api.get("/api/auth/sessions", query_string={"limit": 2})
    rest = accounts[0].api.get("/api/auth/sessions", query_string={"limit": 2, "cursor": listed["next_cursor"]})
    items = listed["items"] + rest["items"]
    assert {item["id"] for item in items} == {account.session.session.id for account in accounts}
    assert [item["id"] for item in items if item["current"]] == [accounts[0].session.session.id]
    assert "token_hash" not in items[0]
    accounts[0].api.call("DELETE", f"/api/auth/sessions/{accounts[1].session.session.id}", 204)
    accounts[1].api.refused("GET", "/api/auth/me", 401, "unauthenticated")
    accounts[0].api.refused("DELETE", f"/api/auth/sessions/{stranger.session.session.id}", 404, "not_found")
    accounts[0].api.call("DELETE", "/api/auth/sessions", 204)
    accounts[2].api.refused("GET", "/api/auth/me", 401, "unauthenticated")
    accounts[0].api.get("/api/auth/me")
    stranger.api.get("/api/auth/me")


def test_a_hostile_user_agent_is_shown_as_plain_text(world: World) -> None:
    user = world.user()
    agent = "<script>\t\x7f" + "x" * 5000
    token = world.anonymous.post(LOGIN, body(user.email), headers={"User-Agent": agent})["session_token"]
    shown = world.anonymous.get("/api/auth/sessions", headers={"Authorization": f"Bearer {token}"})["items"][0]["user_agent"]
    assert len(shown) == 200 and shown.startswith("<script>x")


def test_a_changed_password_ends_the_other_sessions_and_the_old_password(world: World) -> None:
    user = world.user()
    mine, other = world.signed_in(user), world.signed_in(user)
    change = {"current_password": PASSWORD, "new_password": "an even longer phrase"}
    mine.api.call("POST", "/api/auth/password", 204, json=change)
    mine.api.get("/api/auth/me")
    other.api.refused("GET", "/api/auth/me", 401, "unauthenticated")
    world.anonymous.refused("POST", LOGIN, 401, "unauthenticated", json=body(user.email))
    world.anonymous.post(LOGIN, body(user.email, "an even longer phrase"))


@pytest.mark.parametrize(
    ("current", "fresh", "field"),
    [
        ("not my password", "an even longer phrase", "current_password"),
        (PASSWORD, "short", "new_password"),
        (PASSWORD, "x" * 257, "new_password"),
        (PASSWORD, "Password", "new_password"),
        (PASSWORD, "{email}", "new_password"),
    ],
)
def test_a_password_is_not_changed_to_anything_or_by_anyone(world: World, current: str, fresh: str, field: str) -> None:
    account = world.account()
    change = {"current_password": current, "new_password": fresh.format(email=account.user.email)}
    account.api.refused("POST", "/api/auth/password", 422, "invalid_input", field, json=change)
    assert world.reload(account.user).password_hash == account.user.password_hash


def test_guessing_the_current_password_is_throttled_too(world: World) -> None:
    account = world.account()
    change = {"current_password": "not my password", "new_password": "an even longer phrase"}
    for _ in range(5):
        account.api.refused("POST", "/api/auth/password", 422, "invalid_input", "current_password", json=change)
    account.api.refused("POST", "/api/auth/password", 429, "rate_limited", json=change)


def test_a_password_changed_meanwhile_refuses_the_session(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    user = world.user()
    find = UserRepository.find_by_email

    def change_after(self: UserRepository, email: str) -> Any:
        found = find(self, email)
        monkeypatch.setattr(UserRepository, "find_by_email", find)
        UserRepository(world.storage).set_password(user, "$other", world.clock.now(), keep_session=None, verb="reset_password")
        return found

    monkeypatch.setattr(UserRepository, "find_by_email", change_after)
    world.anonymous.refused("POST", LOGIN, 401, "unauthenticated", json=body(user.email))
    assert world.storage.count(SESSIONS, user.tenant_id) == 0


def test_an_old_hash_is_renewed_at_sign_in(world: World) -> None:
    user = world.user()
    old = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    world.storage.commit([Update(USERS, user.tenant_id, user.id, {"password_hash": old})])
    world.anonymous.post(LOGIN, body(user.email))
    renewed = world.reload(user).password_hash
    assert renewed != old and "m=47104,t=1,p=1" in renewed
    world.anonymous.post(LOGIN, body(user.email))
    assert world.reload(user).password_hash == renewed


def guess(world: World, email: str, address: str, password: str = "not the password") -> Any:
    environ = {"REMOTE_ADDR": address}
    return world.anonymous.send("POST", LOGIN, json=body(email, password), environ_overrides=environ)


def test_guessing_is_slowed_down_and_the_right_password_waits_as_well(world: World) -> None:
    user = world.user()
    assert [guess(world, user.email, "203.0.113.1").status_code for _ in range(7)] == [401] * 5 + [429] * 2
    refused = guess(world, user.email, "203.0.113.1", PASSWORD)
    assert refused.status_code == 429 and refused.headers["Retry-After"] == "1"
    assert refused.get_json()["error"]["code"] == "rate_limited"
    world.clock.move(seconds=1)
    assert guess(world, user.email, "203.0.113.1", PASSWORD).status_code == 200
    assert guess(world, user.email, "203.0.113.1").status_code == 401


def test_unknown_accounts_are_throttled_like_known_ones(world: World) -> None:
    user = world.user()
    for email in (user.email, "nobody@example.org"):
        assert [guess(world, email, "203.0.113.2").status_code for _ in range(6)] == [401] * 5 + [429]


def test_the_victim_signs_in_while_a_crowd_guesses(world: World) -> None:
    user = world.user()
    statuses = {guess(world, user.email, f"203.0.113.{number % 9}").status_code for number in range(45)}
    assert statuses == {401, 429}
    assert guess(world, user.email, "198.51.100.1", PASSWORD).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP"])
def test_a_claimed_address_does_not_reset_the_counter(world: World, header: str) -> None:
    user = world.user()
    statuses = []
    for number in range(7):
        claimed = {header: f"for=198.51.100.{number}" if header == "Forwarded" else f"198.51.100.{number}"}
        statuses.append(world.anonymous.send("POST", LOGIN, json=body(user.email, "wrong password"), headers=claimed).status_code)
    assert statuses == [401] * 5 + [429] * 2


def test_nothing_is_verified_that_could_not_be_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    user = world.user()
    verified: list[str] = []
    monkeypatch.setattr(PasswordHasher, "verify", lambda _self, hashed, _password: verified.append(hashed))

    def gone(_: Any) -> Any:
        raise StorageUnavailable("the database is away", retry_after_seconds=2)

    monkeypatch.setattr(world.storage, "commit", gone)
    response = world.anonymous.send("POST", LOGIN, json=body(user.email))
    assert response.status_code == 503 and response.headers["Retry-After"] == "2"
    assert verified == []


def test_fifty_sign_ins_at_once_hash_two_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [world.user() for _ in range(5)]
    running, most, lock = 0, 0, threading.Lock()
    verify = PasswordHasher.verify

    def watch(self: PasswordHasher, hashed: str, password: str) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return verify(self, hashed, password)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(PasswordHasher, "verify", watch)
    statuses: list[int] = []

    def sign_in(number: int) -> None:
        statuses.append(guess(world, users[number % 5].email, f"198.51.100.{number}", PASSWORD).status_code)

    threads = [threading.Thread(target=sign_in, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert most <= 2
    assert len(statuses) == 50 and set(statuses) <= {200, 429}
    assert statuses.count(200) >= 18


def test_sign_ins_are_audited_without_secrets(world: World) -> None:
    account = world.account()
    email = account.user.email
    token = guess(world, email, "203.0.113.9", PASSWORD).get_json()["session_token"]
    guess(world, email, "203.0.113.9", "a secret guess")
    guess(world, "a secret guess", "203.0.113.9")
    events = world.audit(account, action="session.start")
    assert {(event["result"], event["actor_kind"], event["address"]) for event in events} >= {
        ("ok", "user", "203.0.113.9"),
        ("failed", "anonymous", "203.0.113.9"),
    }
    failed = next(event for event in events if event["result"] == "failed")
    assert failed["resource_id"] == account.user.id and failed["request_id"]
    everything = str(world.storage.find(AUDIT_EVENTS, EVERY_TENANT, Query(limit=1000)))
    for secret in (token, token[4:], "a secret guess", PASSWORD, "$argon2"):
        assert secret not in everything


def test_an_api_key_has_no_sessions_and_no_password(world: World) -> None:
    owner = world.account()
    _, key = world.key(owner.user, ["users:write"])
    me = key.get("/api/auth/me")
    assert (me["kind"], me["permissions"], me["session_id"]) == ("api_key", ["users:write"], None)
    session = owner.session.session.id
    for method, path in [
        ("POST", "/api/auth/logout"),
        ("GET", "/api/auth/sessions"),
        ("DELETE", "/api/auth/sessions"),
        ("DELETE", f"/api/auth/sessions/{session}"),
    ]:
        key.refused(method, path, 403, "permission_denied")
    change = {"current_password": PASSWORD, "new_password": "an even longer phrase"}
    key.refused("POST", "/api/auth/password", 403, "permission_denied", json=change)
    owner.api.get("/api/auth/me")


def test_roles_and_permissions_are_listed(world: World) -> None:
    viewer = world.account(role="viewer").api
    roles = {role["name"]: role["permissions"] for role in viewer.get("/api/auth/roles")["items"]}
    assert set(roles) == {"owner", "admin", "devops", "user", "viewer"}
    names = {permission["name"] for permission in viewer.get("/api/auth/permissions")["items"]}
    assert all(set(held) <= names for held in roles.values())
