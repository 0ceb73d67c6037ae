"""Who may call: denied by default, authentication before anything else is read."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Blueprint, Flask

from agenthub.web.guard import UndeclaredView, install_guard


def test_a_view_that_says_nothing_keeps_the_application_from_being_built() -> None:
    app = Flask("bare", static_folder=None)
    bp = Blueprint("bare", __name__)
    bp.get("/bare")(lambda: "x")
    app.register_blueprint(bp)
    with pytest.raises(UndeclaredView, match="/bare"):
        install_guard(app)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer " + "x" * 600, "Bearer ahs_" + "A" * 43, "Bearer \u00e9", "bearer\tx"],
)
def test_no_valid_credential_is_401_with_a_challenge(world: Any, header: Any) -> None:
    answer = world.client().get("/api/notes", headers={} if header is None else {"Authorization": header})
    assert answer.status_code == 401
    assert answer.json["error"]["code"] == "unauthenticated"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_authentication_comes_before_path_query_and_body(world: Any) -> None:
    for path in ("/api/notes?nonsense=1", "/api/notes/not-an-id"):
        assert world.client().get(path).status_code == 401
    assert world.client().post("/api/notes", data=b"{broken").status_code == 401


def test_the_permission_comes_before_the_body(world: Any) -> None:
    answer = world.client().post("/api/notes", data=b"{broken", headers=world.viewer)
    assert answer.status_code == 403
    assert answer.json["error"]["code"] == "permission_denied"
    assert "agents:write" in answer.json["error"]["message"]


def test_a_refused_write_is_in_the_audit_log_and_a_refused_read_is_not(world: Any) -> None:
    world.client().post("/api/notes", json={"title": "x"}, headers=world.viewer)
    world.client().get("/api/users", headers=world.viewer)
    events = world.client().get("/api/logs/audit?action=access.refuse", headers=world.owner).json["items"]
    assert events and all(event["result"] == "denied" for event in events)
    assert {event["details"]["route"] for event in events} == {"/api/notes"}


def test_the_scheme_is_read_in_any_case(world: Any) -> None:
    token = world.owner["Authorization"].removeprefix("Bearer ")
    assert world.client().get("/api/notes", headers={"Authorization": f"bEARER  {token}"}).status_code == 200


MISSING = "01m889de7vb8m7eqghehgrwdep"


@pytest.mark.parametrize("path", ["/api/notes/x", "/api/notes/..%2f..%2fetc", f"/api/notes/{MISSING.upper()}", f"/api/notes/{MISSING}"])
def test_ids_that_are_none_and_ids_that_are_missing_are_the_same_404(world: Any, path: str) -> None:
    answer = world.client().get(path, headers=world.owner)
    assert answer.status_code == 404
    assert answer.json["error"]["code"] == "not_found"


def test_a_clients_own_name_may_stand_in_a_path_where_the_view_says_so(world: Any) -> None:
    answer = world.client().get("/api/notes/free/chapter%201", headers=world.owner)
    assert answer.json["title"] == "chapter 1"
    assert world.client().get("/api/notes/free/a%00b", headers=world.owner).status_code == 404


def test_numbers_beyond_64_bits_are_nowhere(world: Any) -> None:
    assert world.client().get("/api/notes/number/7", headers=world.owner).status_code == 200
    assert world.client().get(f"/api/notes/number/{2**63}", headers=world.owner).status_code == 404
