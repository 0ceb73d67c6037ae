"""What leaves the process: declared fields, the contract's errors, the headers of every answer."""

from __future__ import annotations

from typing import Any

import pytest

EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def test_only_declared_fields_are_answered(world: Any) -> None:
    answer = world.client().get("/api/notes/free/x", headers=world.owner)
    assert set(answer.json) == {"id", "title", "secret"}


def test_a_list_is_a_page(world: Any) -> None:
    for number in range(3):
        world.client().post("/api/notes", json={"title": f"page {number}"}, headers=world.owner)
    first = world.client().get("/api/notes?limit=2", headers=world.owner).json
    assert len(first["items"]) == 2
    second = world.client().get(f"/api/notes?limit=2&cursor={first['next_cursor']}", headers=world.owner).json
    assert not {item["id"] for item in first["items"]} & {item["id"] for item in second["items"]}


def test_bytes_and_headers_of_a_view_pass(world: Any) -> None:
    answer = world.client().get("/api/notes/raw", headers=world.owner)
    assert answer.json["title"] == "raw"
    assert answer.headers["X-KB-Generation"] == "7"


def test_a_download_is_never_shown_as_a_page(world: Any) -> None:
    answer = world.client().get("/api/notes/file", headers=world.owner)
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert "\r" not in answer.headers["Content-Disposition"] and "\n" not in answer.headers["Content-Disposition"]
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/api//notes", 404, "not_found"),
        ("TRACE", "/api/notes", 405, "method_not_allowed"),
        ("OPTIONS", "/api/notes", 405, "method_not_allowed"),
        ("PUT", "/api/notes", 405, "method_not_allowed"),
        ("FOO", "/api/notes", 405, "method_not_allowed"),
        ("GET", "/api/notes/broken", 500, "internal"),
        ("GET", "/api/notes/down", 503, "storage_unavailable"),
        ("GET", "/api/notes", 401, "unauthenticated"),
        ("GET", "/api/health/live", 200, None),
        ("GET", "/", 200, None),
        ("GET", "/docs", 200, None),
    ],
)
def test_every_answer_has_the_headers_and_every_error_the_shape(world: Any, method: str, path: str, status: int, code: str | None) -> None:
    answer = world.client().open(path, method=method)
    assert answer.status_code == status
    for name, value in EVERYWHERE.items():
        assert answer.headers[name] == value
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "Server" not in answer.headers and "Access-Control-Allow-Origin" not in answer.headers
    assert "Strict-Transport-Security" not in answer.headers
    if code is not None:
        error = answer.json["error"]
        assert error["code"] == code and error["message"]
        assert error["request_id"] == answer.headers["X-Request-ID"]


def test_a_failure_of_ours_leaks_nothing_and_is_in_the_log(world: Any, caplog: Any) -> None:
    answer = world.client().get("/api/notes/broken")
    assert b"canary" not in answer.data and b"Traceback" not in answer.data


def test_outages_say_when_to_come_back(world: Any) -> None:
    assert world.client().get("/api/notes/down").headers["Retry-After"] == "3"


def test_a_full_volume_is_507(world: Any) -> None:
    assert world.client().post("/api/notes/full", json={"title": "x"}).status_code == 507


def test_authenticated_answers_are_kept_by_nobody(world: Any) -> None:
    assert world.client().get("/api/notes", headers=world.owner).headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("offered", ["abc-123", "a" * 128])
def test_a_sane_request_id_is_kept(world: Any, offered: str) -> None:
    assert world.client().get("/api/health/live", headers={"X-Request-ID": offered}).headers["X-Request-ID"] == offered


@pytest.mark.parametrize("offered", ["", "a" * 129, "a b", "<x>", "é"])
def test_a_strange_request_id_is_replaced(world: Any, offered: str) -> None:
    found = world.client().get("/api/health/live", headers={"X-Request-ID": offered}).headers["X-Request-ID"]
    assert found != offered and len(found) == 26


def test_https_is_insisted_on_only_when_a_trusted_proxy_says_so(world: Any, make_app: Any) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
    assert "Strict-Transport-Security" not in world.client().get("/api/health/live", headers=forwarded).headers
    app, _ = make_app(AGENTHUB_TRUSTED_PROXY_HOPS="1")
    assert "max-age" in app.test_client().get("/api/health/live", headers=forwarded).headers["Strict-Transport-Security"]
