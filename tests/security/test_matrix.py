"""Every route, every kind of caller, every position of an id (RELIABILITY.md D2-1, D2-2; D1 rows 1 to 4)."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from flask import Flask

from agenthub.core.ids import new_id
from agenthub.repositories.platform.roles import PERMISSIONS, ROLES, Role, permissions_of
from agenthub.web.declare import Access, declaration_of
from agenthub.web.guard import UndeclaredView, install_guard
from tests.accounts import Account
from tests.security.matrix import OPERATOR_ONLY, PUBLIC, ROWS, SIGNED_IN, Row
from tests.security.places import WRITES, House, Place

GUARDED = [row for row in ROWS if row.access != PUBLIC]
PERMITTED = [row for row in GUARDED if row.access != SIGNED_IN]


def named(rows: list[Row] | tuple[Row, ...]) -> dict[str, Any]:
    return {"argvalues": rows, "ids": [row.id for row in rows]}


def routes_of(house: House) -> dict[tuple[str, str], str]:
    return {
        (method, rule.rule): rule.endpoint
        for rule in house.world.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_the_canaries_can_be_seen_by_those_they_belong_to(house: House) -> None:
    """Else the matrix would prove nothing. First, because its owners' requests delete documents as well."""
    for name in ("agent_id", "document_id", "chunk_id", "user_id"):
        house.ours[name]
    base = f"/api/knowledge-bases/{house.ours['knowledge_base_id']}"
    lists = ("/api/agents", "/api/users", "/api/organizations", "/api/knowledge-bases", f"{base}/documents")
    for path in lists:
        text = str(house.our_owner.api.get(path, query_string={"limit": 200}))
        assert house.our_canary in text, path
        assert house.their_canary not in text, path
    hits = house.our_owner.api.post(f"{base}/search", {"query": house.our_canary, "mode": "keyword"})["hits"]
    assert any(house.our_canary in hit["text"] for hit in hits)


def test_every_route_has_a_row_and_every_row_a_route(house: House) -> None:
    rows = [(row.method, row.route) for row in ROWS]
    assert len(rows) == len(set(rows))
    routes = set(routes_of(house))
    assert routes - set(rows) == set(), "add these routes to tests/security/matrix.py"
    assert set(rows) - routes == set(), "these routes are gone: take them out of tests/security/matrix.py"


@pytest.mark.parametrize("row", **named(ROWS))
def test_the_code_demands_what_the_table_says(house: House, row: Row) -> None:
    view = house.world.app.view_functions[routes_of(house)[row.method, row.route]]
    access = declaration_of(view).access
    assert access is not None
    kinds = {PUBLIC: Access("public", reason=access.reason), SIGNED_IN: Access("signed_in")}
    assert access == kinds.get(row.access, Access("permission", permission=row.access))
    assert row.access in PERMISSIONS or row.access in kinds


def test_every_permission_guards_something(house: House) -> None:
    widens_what_is_seen = {"api-keys:manage"}
    assert set(PERMISSIONS) - {row.access for row in ROWS} - {row.presented for row in ROWS} == widens_what_is_seen


def expected(row: Row, account: Account, house: House) -> int:
    demanded = row.presented or row.access
    if demanded in (PUBLIC, SIGNED_IN):
        return row.status
    held = permissions_of(account.user.role, in_operator_organization=account.tenant_id == house.operator.tenant_id)
    return row.status if demanded in held else 403


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("row", **named(ROWS))
def test_each_role_may_do_what_the_table_says(house: House, row: Row, role: Role) -> None:
    caller = house.member(role)
    place = house.place_of(caller)
    path, arguments = row.path(place), row.arguments(place)
    status = expected(row, caller, house)
    before = house.snapshot() if status == 403 else None
    response = house.send(caller.api, row.method, path, of=house.our_canary, **arguments)
    assert response.status_code == status, (path, response.get_data(as_text=True)[:1000])
    if before is not None:
        assert house.snapshot() == before, "a refused request changed something"


@pytest.mark.parametrize("row", **named([row for row in ROWS if row.route.startswith("/api/organizations")]))
def test_the_operators_owner_reaches_every_organization(house: House, row: Row) -> None:
    place = Place(house, house.world.account(), "canary-third")
    response = house.operator.api.send(row.method, row.path(place), **row.arguments(place))
    assert response.status_code == row.status
    if row.method == "GET":
        assert place.owner.tenant_id in response.get_data(as_text=True)


def test_a_view_that_says_nothing_keeps_the_application_from_being_built() -> None:
    app = Flask("bare")
    app.add_url_rule("/open", view_func=lambda: "everything")
    with pytest.raises(UndeclaredView, match="/open"):
        install_guard(app)


@pytest.mark.parametrize("row", **named(GUARDED))
def test_nobody_is_nobody_everywhere(house: House, row: Row) -> None:
    path, arguments = row.path(house.ours), row.arguments(house.ours)
    before = house.snapshot()
    for label, client in house.rejected.items():
        response = house.send(client, row.method, path, **arguments)
        assert response.status_code == 401, label
        response = house.send(client, row.method, path)
        assert response.status_code == 401, f"{label}: who may call comes before what is sent"
    assert house.snapshot() == before


@pytest.mark.parametrize("row", **named([row for row in GUARDED if row.method == "GET"]))
def test_head_is_guarded_like_get(house: House, row: Row) -> None:
    path = row.path(house.ours)
    assert house.world.anonymous.send("HEAD", path).status_code == 401
    if row.access != SIGNED_IN:
        _, key = house.world.key(house.our_owner.user)
        assert key.send("HEAD", path).status_code == 403


@pytest.mark.parametrize("row", **named(PERMITTED))
def test_a_key_needs_the_scope_and_no_other(house: House, row: Row) -> None:
    owner = house.operator if row.access in OPERATOR_ONLY else house.our_owner
    canary = house.our_canary if owner is house.our_owner else None
    place = house.place_of(owner)
    path, arguments = row.path(place), row.arguments(place)
    before = house.snapshot()
    for scopes in ([], sorted(set(PERMISSIONS) - {row.access})):
        _, key = house.world.key(owner.user, scopes)
        response = house.send(key, row.method, path, of=canary, **arguments)
        assert response.status_code == 403, scopes
    _drop_keys(before)
    assert _drop_keys(house.snapshot()) == before
    _, key = house.world.key(owner.user, [row.access])
    response = house.send(key, row.method, path, of=canary, **arguments)
    assert response.status_code == row.status, response.get_data(as_text=True)[:1000]


def _drop_keys(tables: dict[str, Any]) -> dict[str, Any]:
    tables.pop("api_keys", None)
    return tables


@pytest.mark.parametrize("row", **named([row for row in GUARDED if row.access == SIGNED_IN]))
def test_a_key_without_scopes_sees_itself_only(house: House, row: Row) -> None:
    place = house.place_of(house.our_owner)
    _, key = house.world.key(house.our_owner.user)
    response = house.send(key, row.method, row.path(place), of=house.our_canary, **row.arguments(place))
    assert response.status_code == (403 if row.users_only else row.status)


@pytest.mark.parametrize("role", ["admin", "devops", "user", "viewer"])
@pytest.mark.parametrize("row", **named([row for row in PERMITTED if row.method in WRITES]))
def test_a_key_of_a_demoted_creator_is_demoted(house: House, row: Row, role: Role) -> None:
    creator = house.member(role)
    _, key = house.world.key(creator.user, [row.access])
    place = house.place_of(creator)
    response = house.send(key, row.method, row.path(place), of=house.our_canary, **row.arguments(place))
    assert response.status_code == expected(row, creator, house)


WITH_IDS = [row for row in GUARDED if row.named_ids and row.access not in OPERATOR_ONLY]


def bare(response: Any, *ids: str) -> str:
    """The answer without what differs between two requests."""
    text: str = response.get_data(as_text=True).replace(response.headers["X-Request-ID"], "")
    for one in ids:
        text = text.replace(one, "ID")
    return text


@pytest.mark.parametrize("row", **named(WITH_IDS))
def test_foreign_ids_in_the_path_do_not_exist(house: House, row: Row) -> None:
    """The stranger holds every permission in the other organization; each mix of own and foreign ids is tried."""
    stranger = house.their_owner
    own = house.place_of(stranger)
    arguments = row.arguments(house.theirs)
    ids = [name for name in row.named_ids if name.endswith("_id")]
    for count in range(1, len(ids) + 1):
        for foreign in combinations(ids, count):
            given = {name: house.ours[name] for name in foreign}
            given |= {name: house.ours[name] for name in row.parameters if not name.endswith("_id") and name != "name"}
            if row.method in WRITES or count < len(ids):
                given |= {name: own[name] for name in ids if name not in given}
            path = row.path(house.ours, **given)
            before = house.snapshot()
            response = house.send(stranger.api, row.method, path, of=house.their_canary, **arguments)
            assert response.status_code == 404, (path, response.get_data(as_text=True)[:500])
            assert house.snapshot() == before
            missing = {name: f"chunk-{new_id()}" if name == "chunk_id" else new_id() for name in foreign}
            unknown = house.send(stranger.api, row.method, row.path(house.ours, **{**given, **missing}), of=house.their_canary, **arguments)
            assert unknown.status_code == 404
            assert bare(response, *(given[name] for name in foreign)) == bare(unknown, *missing.values()), (
                "foreign and missing must look the same"
            )


@pytest.mark.parametrize("row", **named([row for row in WITH_IDS if set(row.parameters) & {"session_id"}]))
def test_a_colleagues_session_does_not_exist(house: House, row: Row) -> None:
    caller, colleague = house.member("admin"), house.member("user")
    path = row.path(house.place_of(caller), session_id=colleague.session.session.id)
    assert house.send(caller.api, row.method, path).status_code == 404
    colleague.api.get("/api/auth/me")


@pytest.mark.parametrize("row", **named([row for row in GUARDED if not row.named_ids and row.access not in OPERATOR_ONLY]))
def test_a_stranger_sees_and_changes_the_own_organization_only(house: House, row: Row) -> None:
    stranger = house.world.account(house.their_owner.tenant_id)
    place = house.place_of(stranger)
    house.ours["agent_id"], house.ours["document_id"], house.ours["user_id"], house.ours["api_key_id"]
    response = house.send(stranger.api, row.method, row.path(place), of=house.their_canary, **row.arguments(place))
    assert response.status_code == row.status
    for our_id in (house.our_owner.tenant_id, house.our_owner.user.id, house.ours["agent_id"], house.ours["knowledge_base_id"]):
        assert our_id not in response.get_data(as_text=True)


BODY_IDS = [(row, position) for row in ROWS for position in row.named]


@pytest.mark.parametrize(("row", "position"), BODY_IDS, ids=[f"{row.id} {position}" for row, position in BODY_IDS])
def test_foreign_ids_in_the_body_do_not_exist(house: House, row: Row, position: str) -> None:
    stranger = house.their_owner
    own = house.place_of(stranger)
    foreign = house.ours[position]
    missing = f"chunk-{new_id()}" if position == "chunk_id" else new_id()
    path = row.path(own)
    before = house.snapshot()["agents" if "agent" in row.route else "documents"]
    builder = row.named[position]
    answers = []
    for key in (foreign, missing):
        body = {**builder(own, key), **({"name": "x"} if row.route == "/api/agents" else {})}
        response = house.send(stranger.api, row.method, path, of=house.their_canary, json=body)
        text = bare(response, key)
        answers.append((response.status_code, _without_generation(text)))
    assert answers[0] == answers[1], "foreign and missing must look the same"
    assert house.snapshot()["agents" if "agent" in row.route else "documents"] == before
    house.our_owner.api.get(f"/api/agents/{house.ours['agent_id']}")


def _without_generation(text: str) -> str:
    start, mark, rest = text.partition('"generation":')
    return start + mark + rest.lstrip("0123456789")


def test_a_refused_write_is_in_the_audit_log(house: House) -> None:
    viewer = house.member("viewer")
    viewer.api.send("POST", "/api/users", json={})
    events = house.our_owner.api.get("/api/logs/audit", query_string={"actor_id": viewer.user.id})["items"]
    assert [(event["result"], event["details"]["permission"]) for event in events] == [("denied", "users:write")]
