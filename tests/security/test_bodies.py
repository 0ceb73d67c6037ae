"""What clients may not say: server fields, unknown fields, broken and hostile input on every route (D2-3, D2-10, D2-21)."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel
from werkzeug.test import TestResponse

from agenthub.web.declare import declaration_of
from tests.security.matrix import OPERATOR_ONLY, PUBLIC, ROWS, Row
from tests.security.places import WRITES, House

WITH_BODY = [row for row in ROWS if row.json is not None]
READS = [row for row in ROWS if row.method == "GET" and row.route.startswith("/api/")]
SERVER_FIELDS: Final = (
    *("id", "tenant_id", "organization_id", "owner_id", "user_id", "created_by", "created_at", "updated_at", "version", "status"),
    *("role", "permissions", "is_operator", "operator_mark", "password_hash", "token_hash", "secret_hash", "secret", "prefix"),
    *("generation", "manifest_name", "manifest_sha256", "signature", "state", "quota", "revision", "published_version", "sha256"),
    *("__class__", "__proto__", "constructor", "$where", "lc", "unknown", "", "x" * 500),
)


def named(rows: list[Row]) -> dict[str, Any]:
    return {"argvalues": rows, "ids": [row.id for row in rows]}


def model_of(house: House, row: Row) -> type[BaseModel]:
    for rule in house.world.app.url_map.iter_rules():
        if rule.rule == row.route and row.method in (rule.methods or ()):
            body = declaration_of(house.world.app.view_functions[rule.endpoint]).body
            assert body is not None and body.json is not None
            return body.json
    raise AssertionError(row.id)


class Asking:
    """An owner who may send the row's request, and the path to send it to."""

    def __init__(self, house: House, row: Row) -> None:
        self.house, self.row = house, row
        account = house.operator if row.access in OPERATOR_ONLY else house.second_owner()
        self.api, self.place = account.api, house.place_of(account)
        self.path = row.path(self.place)
        self.body: dict[str, Any] = row.json(self.place) if row.json else {}

    def send(self, **arguments: Any) -> TestResponse:
        return self.house.send(self.api, self.row.method, self.path, of=self.place.canary, **arguments)

    def refused(self, status: set[int], **arguments: Any) -> dict[str, Any]:
        """The error, which must have one of these statuses."""
        response = self.send(**arguments)
        assert response.status_code in status, (self.row.id, response.status_code, response.get_data(as_text=True)[:500])
        error: dict[str, Any] = response.get_json()["error"]
        return error


@pytest.mark.parametrize("row", **named(WITH_BODY))
def test_no_server_field_and_no_unknown_field_is_taken(house: House, row: Row) -> None:
    asking = Asking(house, row)
    fields = set(model_of(house, row).model_fields)
    before = house.snapshot()
    for name in SERVER_FIELDS:
        if name not in fields:
            error = asking.refused({422}, json={**asking.body, name: "x"})
            assert error.get("field") == (name or None), (row.id, name, error)
    assert house.snapshot() == before


@pytest.mark.parametrize("row", **named(WITH_BODY))
def test_nested_objects_are_as_closed(house: House, row: Row) -> None:
    asking, model = Asking(house, row), model_of(house, row)
    for name, value in asking.body.items():
        if isinstance(value, dict) and _is_closed(model, name):
            error = asking.refused({422}, json={**asking.body, name: {**value, "tenant_id": "x"}})
            assert error["field"] == f"{name}.tenant_id"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            error = asking.refused({422}, json={**asking.body, name: [{**value[0], "tenant_id": "x"}]})
            assert error["field"] == f"{name}[0].tenant_id"


def _is_closed(model: type[BaseModel], name: str) -> bool:
    annotation = model.model_fields[name].annotation
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


BROKEN: Final[dict[str, tuple[bytes, set[int]]]] = {
    "nothing": (b"", {400, 422}),
    "half an object": (b'{"a":', {400}),
    "not JSON": (b"<xml/>", {400}),
    "not UTF-8": (b'{"name": "\xff\xfe"}', {400}),
    "half a surrogate pair": (b'{"name": "\\ud800"}', {400, 422}),
    "NaN": (b'{"name": NaN}', {400, 422}),
    "a list": (b"[]", {422}),
    "a text": (b'"x"', {422}),
    "null": (b"null", {422}),
    "a number": (b"1e999", {400, 422}),
    "a hundred thousand brackets": (b"[" * 100_000, {400, 422}),
    "deep": (b'{"a":' * 200 + b"1" + b"}" * 200, {400, 422}),
    "a huge integer": (b'{"limit": ' + b"9" * 5000 + b"}", {400, 422}),
    "NUL in a name": (b'{"a\\u0000b": 1}', {422}),
    "the same key twice, then nothing": (b'{"name": "x", "name": null, "email": 1}', {422}),
}


@pytest.mark.parametrize("row", **named(WITH_BODY))
def test_a_broken_body_is_refused(house: House, row: Row) -> None:
    asking = Asking(house, row)
    all_optional = all(not field.is_required() for field in model_of(house, row).model_fields.values())
    before = house.snapshot()
    for label, (data, statuses) in BROKEN.items():
        if data or not all_optional:
            error = asking.refused(statuses, data=data, content_type="application/json")
            assert error["message"], label
    assert house.snapshot() == before


WRONG: Final[tuple[Any, ...]] = (None, True, -1, 1e308, "", "\x00", "a\r\nX-Injected: 1", [], {}, [[[]]], {"$ne": None}, "x" * 30_000)


def _wrong_values(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in body:
        for value in WRONG:
            yield name, {**body, name: value}


@pytest.mark.parametrize("row", **named(WITH_BODY))
def test_wrong_values_never_break_anything(house: House, row: Row) -> None:
    """Either acceptable, or refused with a name; `send` fails on any 500 and on any injected header."""
    asking = Asking(house, row)
    for name, body in _wrong_values(asking.body):
        response = asking.send(json=body)
        assert "X-Injected" not in response.headers
        if response.status_code == 422:
            field = response.get_json()["error"].get("field")
            assert field is None or field.partition("[")[0].partition(".")[0] in body, (row.id, name, field)


PATHS: Final = (
    *("x", "0" * 26, "8zzzzzzzzzzzzzzzzzzzzzzzzz", "..", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5cx", "%00", "a%0d%0aX-Injected:%201"),
    *(
        "'%20OR%20'1'='1",
        "%27;DROP%20TABLE%20users;--",
        "*",
        "%25",
        "%c0%af",
        "👩‍🚀",
        "1" * 3000,
        "{{7*7}}",
        "${jndi:ldap://x}",
        "-1",
        "null",
    ),
)


@pytest.mark.parametrize("row", **named([row for row in ROWS if row.parameters and row.access != PUBLIC]))
def test_strange_ids_do_not_exist(house: House, row: Row) -> None:
    arguments = row.arguments(house.ours)
    for parameter in row.parameters:
        for strange in PATHS:
            given = {name: house.ours[name] for name in row.parameters} | {parameter: strange}
            response = house.send(house.our_owner.api, row.method, row.path(house.ours, **given), of=house.our_canary, **arguments)
            assert response.status_code in (404, 405, 414), (row.id, strange, response.status_code)
            assert "X-Injected" not in response.headers


@pytest.mark.parametrize("row", **named([row for row in READS if row.access != PUBLIC]))
def test_unknown_and_hostile_query_parameters_are_refused(house: House, row: Row) -> None:
    path = row.path(house.ours)
    queries = ("tenant_id=x", "organization_id=x", "order_by=id;DROP", "limit=0", "limit=201", "limit=1e9", "limit=", "limit=1&limit=2")
    for query in (*queries, "cursor=%00", "cursor=..%2f", "cursor=" + "A" * 3000, "cursor=WyJ4Il0", "__class__=x", "access_token=x"):
        response = house.send(house.our_owner.api, "GET", f"{path}{'&' if row.asks else '?'}{query}", of=house.our_canary)
        assert response.status_code in (400, 414, 422), (row.id, query, response.status_code)
        assert response.get_json()["error"]["field"], (row.id, query)


@pytest.mark.parametrize("row", **named(list(ROWS)))
def test_other_methods_are_not_allowed(house: House, row: Row) -> None:
    here = {other.method for other in ROWS if other.route == row.route}
    path = row.path(house.ours)
    before = house.snapshot()
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "X"):
        if method not in here:
            response = house.send(house.our_owner.api, method, path, of=house.our_canary)
            assert response.status_code in (404, 405), (row.id, method, response.status_code)
    for header in ("X-HTTP-Method-Override", "X-Method-Override"):
        response = house.send(house.world.anonymous, "GET", path, of=None, headers={header: "DELETE"})
        assert response.status_code in (200, 401, 404, 405, 422, 503)
    assert house.snapshot() == before


@pytest.mark.parametrize("row", **named([row for row in ROWS if row.method in WRITES and row.access != PUBLIC]))
def test_a_foreign_page_can_not_write(house: House, row: Row) -> None:
    """Only the Authorization header authenticates, and a browser adds none by itself: cookies and form posts are nothing."""
    token = house.our_owner.session.token
    headers = {"Origin": "https://evil.example", "Cookie": f"session={token}; token={token}", "Sec-Fetch-Site": "cross-site"}
    response = house.send(house.world.anonymous, row.method, row.path(house.ours), headers=headers, data="a=b")
    assert response.status_code == 401
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": row.method}
    assert house.send(house.world.anonymous, "OPTIONS", row.path(house.ours), headers=preflight).status_code in (404, 405)


NAMES: Final = (
    "../../../../tmp/agenthub-escaped",
    "..\\..\\agenthub-escaped",
    "/etc/agenthub-escaped",
    "%2e%2e%2fagenthub-escaped",
    "C:\\agenthub-escaped",
    "agenthub-escaped\u202etxt.exe.txt",
    "．．／agenthub-escaped",
    "CON",
    "{0.__class__.__mro__} {{7*7}} ${{7*7}} <%= 7*7 %>",
    "<script>alert(1)</script>",
    "'; DROP TABLE users; --",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_from_outside_are_text_and_never_paths(house: House, name: str) -> None:
    api = house.our_owner.api
    outside = set(_files(house.folder.parent)) - set(_files(house.folder))
    agent = api.post("/api/agents", {"name": name, "description": name, "system_prompt": name}, 201)
    assert api.get(f"/api/agents/{agent['id']}")["name"] == name
    base = api.post("/api/knowledge-bases", {"name": f"{name} {agent['id']}", "description": name}, 201)
    path = f"/api/knowledge-bases/{base['id']}"
    posted = api.post(f"{path}/documents", {"title": name, "text": f"text {name}", "metadata": {name: name}}, 201)
    assert posted["title"] == name
    uploaded = api.call(
        "POST", f"{path}/documents", 201, data={"files": (io.BytesIO(name.encode()), name)}, content_type="multipart/form-data"
    )
    response = house.send(api, "GET", f"{path}/documents/{uploaded['id']}/original", of=house.our_canary)
    assert response.headers["Content-Disposition"].startswith("attachment; filename=")
    assert not set("\r\n\u202e") & set(response.headers["Content-Disposition"])
    api.post(f"{path}/chunks", {"items": [{"id": name, "text": name}]})
    hits = api.post(f"{path}/search", {"query": "text", "mode": "keyword", "filter": {"field": name, "op": "eq", "value": name}})["hits"]
    assert [hit["document_id"] for hit in hits] == [posted["id"]]
    assert set(_files(house.folder.parent)) - set(_files(house.folder)) == outside
    assert all("escaped" not in str(file) for file in _files(house.folder))
    assert not list(Path("/tmp").glob("agenthub-escaped*"))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


FILTERS: Final[tuple[dict[str, Any], ...]] = (
    {"field": "x' OR '1'='1", "op": "eq", "value": "' OR 1=1 --"},
    {"field": "__class__", "op": "eq", "value": "x"},
    {"field": "tenant_id", "op": "ne", "value": "x"},
    {"field": "knowledge_base_id", "op": "ne", "value": "x"},
    {"not": {"field": "nothing", "op": "exists", "value": True}},
    {"or": []},
    {"and": []},
    {"field": "x", "op": "$where", "value": "1"},
    {"field": "x", "op": "eq"},
    {"field": "x", "op": "in", "value": "x"},
    {"field": "x", "op": "gt", "value": {"a": 1}},
    {"field": ["x"], "op": "eq", "value": 1},
    {"raw": "1=1"},
    {},
)


@pytest.mark.parametrize("tree", FILTERS, ids=json.dumps)
def test_no_filter_reaches_beyond_its_knowledge_base(house: House, tree: dict[str, Any]) -> None:
    house.theirs["document_id"]
    house.ours["document_id"]
    path = f"/api/knowledge-bases/{house.ours['knowledge_base_id']}/search"
    body = {"query": "text about canary", "mode": "keyword", "filter": tree, "top_k": 100}
    response = house.send(house.our_owner.api, "POST", path, of=house.our_canary, json=body)
    assert response.status_code in (200, 422)


KEYS: Final[tuple[tuple[str, Callable[[int], bool]], ...]] = (
    ("../../x", lambda status: status == 201),
    ("'; DROP TABLE applied_operations; --", lambda status: status == 201),
    ("x" * 256, lambda status: status == 422),
    ("\xff", lambda status: status == 422),
    ("", lambda status: status == 422),
)


@pytest.mark.parametrize(("key", "holds"), KEYS, ids=[repr(key[:10]) for key, _ in KEYS])
def test_an_idempotency_key_is_text(house: House, key: str, holds: Callable[[int], bool]) -> None:
    response = house.send(
        house.our_owner.api, "POST", "/api/agents", of=house.our_canary, json={"name": "x"}, headers={"Idempotency-Key": key}
    )
    assert holds(response.status_code), response.status_code


def test_an_idempotency_key_of_others_replays_nothing(house: House) -> None:
    headers = {"Idempotency-Key": "shared-key"}
    first = house.our_owner.api.post("/api/agents", {"name": house.our_canary}, 201, headers=headers)
    colleague = house.member("admin").api.post("/api/agents", {"name": house.our_canary}, 201, headers=headers)
    stranger = house.send(
        house.their_owner.api, "POST", "/api/agents", of=house.their_canary, json={"name": house.their_canary}, headers=headers
    )
    assert stranger.status_code == 201 and "Idempotent-Replayed" not in stranger.headers
    assert len({first["id"], colleague["id"], stranger.get_json()["id"]}) == 3


def test_a_replay_is_not_for_those_who_may_no_longer(house: House) -> None:
    member = house.member("admin")
    headers = {"Idempotency-Key": "before-demotion"}
    member.api.post("/api/agents", {"name": "x"}, 201, headers=headers)
    house.our_owner.api.call("PATCH", f"/api/users/{member.user.id}", 200, json={"role": "viewer"})
    member.api.refused("POST", "/api/agents", 403, "permission_denied", json={"name": "x"}, headers=headers)


@pytest.mark.parametrize("value", ["x", "a b", "../x", "x" * 10_000, "{{7*7}}"])
def test_a_request_id_from_outside_is_a_plain_word(house: House, value: str) -> None:
    response = house.world.anonymous.send("GET", "/api/auth/me", headers={"X-Request-ID": value})
    answered = response.headers["X-Request-ID"]
    assert len(answered) <= 128 and " " not in answered and "{" not in answered
    assert response.get_json()["error"]["request_id"] == answered
