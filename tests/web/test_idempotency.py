"""Idempotency-Key: applied once, answered alike."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.operations import APPLIED_OPERATIONS
from agenthub.storage.contract import Query
from agenthub.web.access import EXTENSION


def post(world: Any, key: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    return world.client().post("/api/notes", json=body, headers={**(headers or world.owner), "Idempotency-Key": key})


def test_a_repeat_gets_the_first_answer_and_is_not_applied(world: Any) -> None:
    first = post(world, "once", {"title": "once"})
    calls = len(world.calls)
    again = post(world, "once", {"title": "once"})
    assert first.status_code == again.status_code == 201
    assert again.headers["Idempotent-Replayed"] == "true" and "Idempotent-Replayed" not in first.headers
    assert again.json["id"] == first.json["id"]
    assert len(world.calls) == calls


def test_a_secret_shown_once_is_not_in_the_repeat_nor_kept(world: Any) -> None:
    first = post(world, "secret", {"title": "secret"})
    assert first.json["secret"] == "shown-once-canary"
    assert post(world, "secret", {"title": "secret"}).json["secret"] is None
    rows = world.app.extensions[EXTENSION].storage.find(APPLIED_OPERATIONS, EVERY_TENANT, Query(limit=1000))
    assert rows and not any(b"shown-once-canary" in row["body"] for row in rows)


def test_the_key_with_another_request_is_a_conflict(world: Any) -> None:
    post(world, "reused", {"title": "one"})
    other = post(world, "reused", {"title": "two"})
    assert (other.status_code, other.json["error"]["code"], other.json["error"]["field"]) == (409, "operation_reused", "Idempotency-Key")
    missing = world.client().delete(f"/api/notes/{'0' * 26}", headers={**world.owner, "Idempotency-Key": "reused"})
    assert missing.status_code == 409


def test_a_failed_request_frees_its_key(world: Any) -> None:
    assert post(world, "failed", {"title": ""}).status_code == 422
    assert post(world, "failed", {"title": "now right"}).status_code == 201


def test_without_a_body_the_repeat_is_the_same_too(world: Any) -> None:
    note = post(world, "to-delete", {"title": "x"}).json["id"]
    answers = [world.client().delete(f"/api/notes/{note}", headers={**world.owner, "Idempotency-Key": "gone"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 204]
    assert answers[1].data == b"" and answers[1].headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb"])
def test_unusable_keys_are_named(world: Any, key: str) -> None:
    answer = post(world, key, {"title": "x"})
    assert (answer.status_code, answer.json["error"]["field"]) == (422, "Idempotency-Key")


def test_racing_twins_make_one_note(world: Any) -> None:
    barrier = threading.Barrier(6)

    def race(_: int) -> tuple[int, str]:
        barrier.wait()
        answer = post(world, "race", {"title": "race"})
        return answer.status_code, answer.json["id"]

    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(race, range(6)))
    assert len(answers) == 1
    titles = [note["title"] for note in world.client().get("/api/notes?limit=200", headers=world.owner).json["items"]]
    assert titles.count("race") == 1


def test_multipart_repeats_are_recognised_by_their_parts(world: Any) -> None:
    def send(content: bytes) -> Any:
        data = {"label": "l", "files": [(io.BytesIO(content), "a.txt")]}
        return world.client().post(
            "/api/notes/files", data=data, headers={**world.owner, "Idempotency-Key": "files"}, content_type="multipart/form-data"
        )

    assert send(b"same").status_code == 200
    assert send(b"same").status_code == 200
