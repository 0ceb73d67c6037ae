"""What clients send: read whatever the Content-Type, refused with the field at fault."""

from __future__ import annotations

import io
from typing import Any

import pytest

from agenthub.core.errors import InvalidInput
from agenthub.web.reading import read_json
from agenthub.web.schema import PageQuery, Schema


class Inner(Schema):
    a: int


class Outer(Schema):
    part: Inner | list[Inner]


def send(world: Any, body: Any, **more: Any) -> Any:
    data = body if isinstance(body, bytes) else body.encode()
    return world.client().post("/api/notes", data=data, headers=world.owner, **more)


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "nonsense"]
)
def test_a_json_body_is_read_whatever_the_content_type_says(world: Any, content_type: Any) -> None:
    answer = send(world, '{"title": "x"}', content_type=content_type)
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "body", ["", "  ", "{", "nonsense", b"\xff\xfe", b'{"title": "\xff"}', '{"title": "\\ud800"}', '{"title": NaN}', "{'title': 1}"]
)
def test_what_is_no_json_is_400(world: Any, body: Any) -> None:
    answer = send(world, body)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "malformed_input")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "title"),
        ('{"title": 1}', "title"),
        ('{"title": ""}', "title"),
        ('{"title": "   "}', "title"),
        ('{"title": "a\\nb"}', "title"),
        ('{"title": "a\\u0000b"}', "title"),
        ('{"title": null}', "title"),
        ('{"title": "x", "tenant_id": "y"}', "tenant_id"),
        ('{"title": "x", "version": 3}', "version"),
        ('{"title": "x", "count": "1"}', "count"),
        ('{"title": "x", "count": 1.5}', "count"),
        ('{"title": "x", "count": true}', "count"),
        ('{"title": "x", "count": 11}', "count"),
        ('{"title": "x", "count": 123456789012345678901234567890}', "count"),
        ('{"title": "x", "mixed": 123456789012345678901234567890}', "mixed"),
        ('{"title": "x", "items": [[1], [1, 2, 3, 4]]}', "items[1]"),
        ('{"title": "x", "items": [[1], [1, "2"]]}', "items[1][1]"),
        ('{"title": "x", "items": {}}', "items"),
        ('{"title": "x", "due": "2026-01-31"}', "due"),
        ('{"title": "x", "due": "2026-01-31T12:00:00"}', "due"),
        ('{"title": "x", "due": 1700000000}', "due"),
        ('{"title": "x", "mixed": []}', "mixed"),
        ("[]", None),
        ("null", None),
        ('"text"', None),
    ],
)
def test_wrong_fields_are_422_and_named(world: Any, body: str, field: str | None) -> None:
    answer = send(world, body)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_input")
    assert answer.json["error"].get("field") == field


def test_deep_nesting_is_refused(world: Any) -> None:
    answer = send(world, '{"title": ' + "[" * 5000 + "]" * 5000 + "}")
    assert answer.status_code in (400, 422)


def test_input_is_not_echoed(world: Any) -> None:
    answer = send(world, '{"title": {"password": "canary"}}')
    assert b"canary" not in answer.data


def test_a_body_over_the_routes_limit_is_413_before_it_is_read(world: Any) -> None:
    answer = send(world, b'{"title": "' + b"x" * (1024 * 1024) + b'"}')
    assert (answer.status_code, answer.json["error"]["code"]) == (413, "payload_too_large")


def test_a_stream_without_a_length_is_cut_at_the_limit(world: Any) -> None:
    stream = io.BytesIO(b'{"title": "' + b"x" * 3_000_000)
    answer = world.client().post("/api/notes", input_stream=stream, headers=world.owner, environ_overrides={"wsgi.input_terminated": True})
    assert answer.status_code == 413
    assert stream.tell() < 2_000_000


def test_no_body_stands_for_an_empty_object_where_nothing_is_required() -> None:
    assert read_json(PageQuery, b"") == PageQuery()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("nonsense=1", "nonsense"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=1.0", "limit"),
        ("limit=+5", "limit"),
        ("limit=0x5", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("done=yes", "done"),
        ("weight=nan", "weight"),
        ("weight=1e999", "weight"),
        ("tag=a&tag=", "tag[1]"),
        ("cursor=%00", "cursor"),
        ("cursor=a%20b", "cursor"),
    ],
)
def test_wrong_query_parameters_are_422_and_named(world: Any, query: str, field: str) -> None:
    answer = world.client().get(f"/api/notes?{query}", headers=world.owner)
    assert (answer.status_code, answer.json["error"]["code"], answer.json["error"]["field"]) == (422, "invalid_input", field)


def test_query_parameters_arrive_typed(world: Any) -> None:
    world.client().get("/api/notes?done=true&tag=a&tag=b&weight=1.5", headers=world.owner)
    assert world.calls[-1] == "list True ('a', 'b') 1.5"


def test_a_cursor_of_nowhere_is_400_and_named(world: Any) -> None:
    answer = world.client().get("/api/notes?cursor=bm9wZQ", headers=world.owner)
    assert (answer.status_code, answer.json["error"]["field"]) == (400, "cursor")


def test_a_view_without_query_refuses_one(world: Any) -> None:
    assert world.client().get("/api/health/live?x=1").status_code == 422


def post_files(world: Any, names: Any, **fields: Any) -> Any:
    data = {**fields, "files": [(io.BytesIO(b"x" * (index + 1)), name) for index, name in enumerate(names)]}
    return world.client().post("/api/notes/files", data=data, headers=world.owner, content_type="multipart/form-data")


def test_files_and_fields_of_a_form_arrive(world: Any) -> None:
    answer = post_files(world, ["a.txt", "../b.txt"], label="L")
    assert answer.json == {"names": ["a.txt", "../b.txt"], "sizes": [1, 2], "label": "L"}


def test_the_same_route_takes_json(world: Any) -> None:
    answer = world.client().post("/api/notes/files", json={"title": "t"}, headers=world.owner)
    assert answer.json == {"names": [], "sizes": [], "label": "t"}


def test_forms_are_checked_too(world: Any) -> None:
    assert post_files(world, ["a", "b", "c"]).json["error"]["field"] == "files"
    assert post_files(world, ["a"], nonsense="1").json["error"]["field"] == "nonsense"
    assert post_files(world, ["a"], label="").json["error"]["field"] == "label"


def test_a_damaged_form_is_a_400_not_a_500(world: Any) -> None:
    answer = world.client().post(
        "/api/notes/files", data=b"--b\r\nnonsense", headers=world.owner, content_type="multipart/form-data; boundary=b"
    )
    assert answer.status_code in (200, 400)
    answer = world.client().post("/api/notes/files", data=b"x", headers=world.owner, content_type="multipart/form-data")
    assert answer.status_code in (200, 400)


def test_an_error_names_the_path_through_unions() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_json(Outer, b'{"part": [{"a": 1}, {"a": "x"}]}')
    assert caught.value.field == "part[1].a"
