"""Kills a process at every step of a write and checks what is left: `python -m tests.system.crash_walk OPERATION DATABASE_URL FOLDER`.

The parent prepares a knowledge base, then forks one child per step. Child N performs the operation with every failpoint counted
and kills itself with SIGKILL at the N-th. After each the parent, which stands for another replica, checks that nothing
acknowledged is lost, nothing half-written is seen, the knowledge base takes writes, and that a retry with the same
Idempotency-Key is applied once. Ends when a child got through alive; prints one JSON line with the figures.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agenthub.core import failpoints
from tests.api import Api, make_app

OLD = "The old text speaks of walruses."
NEW = "The new text speaks of flamingos."


@dataclass
class Walk:
    """One walk through all steps of one operation."""

    operation: str
    folder: Path
    database_url: str
    steps: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def app(self) -> Api:
        return Api(make_app(self.folder, self.database_url, AGENTHUB_SERVICES="knowledge.*,platform.authentication"))

    def expect(self, condition: bool, step: int, what: str) -> None:
        if not condition:
            self.problems.append(f"step {step}: {what}")


def prepare(walk: Walk) -> tuple[str, str, str]:
    """A signed-in token, a knowledge base with one acknowledged document, and that document's id."""
    api = walk.app().login()
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'walk'}, 201)['id']}"
    document = api.post(f"{base}/documents", {"title": "kept", "text": OLD}, 201)
    close(api)
    assert api.token
    return api.token, base, document["id"]


def close(api: Api) -> None:
    api.app.extensions["agenthub"].close()


def act(api: Api, operation: str, base: str, document: str, key: str) -> Any:
    """The write under test; returns its response."""
    headers = {"Idempotency-Key": key}
    text = {"title": "kept", "text": NEW}
    if operation == "create":
        return api.send("POST", "/api/knowledge-bases", json={"name": f"made {key}"}, headers=headers)
    if operation == "upload":
        return api.send("POST", f"{base}/documents", json=text, headers=headers)
    if operation == "chunks":
        return api.send("POST", f"{base}/chunks", json={"items": [{"id": f"c{key}", "text": NEW}]}, headers=headers)
    if operation == "replace":
        return api.send("PUT", f"{base}/documents/{document}", json=text, headers=headers)
    return api.send("DELETE", f"{base}/documents/{document}", headers=headers)


def in_child(run: Callable[[], None]) -> int:
    """Run in a forked process; returns how it ended: 0, or minus the signal."""
    child = os.fork()
    if child == 0:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - the child must end here, whatever happened
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(70)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def attempt(walk: Walk, token: str, base: str, document: str, step: int) -> int:
    def run() -> None:
        api = Api(walk.app().app, token)
        failpoints.arm(f"all=kill@{step}")
        response = act(api, walk.operation, base, document, f"key-{step}")
        failpoints.arm("")
        assert response.status_code < 300, response.get_data(as_text=True)

    return in_child(run)


def texts(api: Api, base: str) -> list[str]:
    hits = api.post(f"{base}/search", {"query": "which animals does the text speak of", "top_k": 100, "mode": "semantic"})["hits"]
    return sorted(hit["text"] for hit in hits)


def check(walk: Walk, token: str, base: str, document: str, step: int, finished: bool) -> None:
    """Another replica looks, retries with the same key, and writes on."""
    api = Api(walk.app().app, token)
    before = texts(api, base)
    allowed = {
        "create": [[OLD]],
        "upload": [[OLD], sorted([OLD, NEW])],
        "chunks": [[OLD], sorted([OLD, NEW])],
        "replace": [[OLD], [NEW]],
        "delete": [[OLD], []],
    }[walk.operation]
    walk.expect(before in allowed, step, f"half a write is visible: {before}")
    if finished:
        walk.expect(before == allowed[-1], step, f"an acknowledged write is lost: {before}")
    retry = act(api, walk.operation, base, document, f"key-{step}")
    walk.expect(retry.status_code < 300, step, f"the retry was refused: {retry.status_code} {retry.get_data(as_text=True)[:300]}")
    walk.expect(texts(api, base) == allowed[-1], step, f"the retry was not applied exactly once: {texts(api, base)}")
    counted = api.get(base)["chunk_count"]
    walk.expect(counted == len(allowed[-1]), step, f"the row counts {counted} chunks, searches see {len(allowed[-1])}")
    if walk.operation == "create":
        names = [item["name"] for item in api.get("/api/knowledge-bases?limit=200")["items"]]
        walk.expect(names.count(f"made key-{step}") == 1, step, "the knowledge base is missing or doubled")
        made = f"/api/knowledge-bases/{retry.get_json()['id']}"
        walk.expect(api.send("POST", f"{made}/documents", json={"title": "a", "text": "b"}).status_code == 201, step, "it takes no writes")
    problems = api.app.extensions["agenthub"].knowledge.verify(base.rsplit("/", 1)[1], pointer_of(api, base))
    walk.expect(not problems, step, f"verify found {problems}")
    reset(api, walk.operation, base, document, token)
    close(api)


def pointer_of(api: Api, base: str) -> Any:
    from agenthub.core.types import EVERY_TENANT
    from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository

    resources = api.app.extensions["agenthub"]
    return KnowledgeBaseRepository(resources.storage).get(EVERY_TENANT, base.rsplit("/", 1)[1]).pointer


def reset(api: Api, operation: str, base: str, document: str, token: str) -> None:
    """Back to one document with the old text: also shows that the knowledge base is not wedged."""
    listed = [item["id"] for item in api.get(f"{base}/documents")["items"]]
    if operation in ("upload", "delete"):
        for key in listed:
            if key != document:
                api.call("DELETE", f"{base}/documents/{key}", 200)
    if operation == "chunks":
        hits = api.post(f"{base}/search", {"query": "flamingos", "top_k": 100})["hits"]
        api.post(f"{base}/chunks/delete", {"ids": [hit["chunk_id"] for hit in hits if hit["text"] == NEW]})
    if operation == "replace":
        api.call("PUT", f"{base}/documents/{document}", 200, json={"title": "kept", "text": OLD})


def main(operation: str, database_url: str, folder: Path) -> int:
    walk = Walk(operation, folder, database_url)
    prepared: list[tuple[str, str, str]] = []
    # The parent never opens an engine itself before it forks: children do all the work.
    place = folder / "prepared.json"
    in_child(lambda: place.write_text(json.dumps(prepare(walk))) and None)
    prepared.append(tuple(json.loads(place.read_text())))
    token, base, document = prepared[0]
    for step in range(1, 400):
        ended = attempt(walk, token, base, document, step)
        outcome = folder / "outcome.json"

        def verify(step: int = step, ended: int = ended, document: str = document) -> None:
            walk.problems.clear()
            check(walk, token, base, document, step, finished=ended == 0)
            outcome.write_text(json.dumps(walk.problems))

        outcome.unlink(missing_ok=True)
        code = in_child(verify)
        walk.problems += json.loads(outcome.read_text()) if outcome.exists() else [f"step {step}: the check ended with {code}"]
        if ended not in (0, -9):
            walk.problems.append(f"step {step}: the child ended with {ended}")
        if operation == "delete":
            document = recreate(walk, token, base)
        if ended == 0:
            break
    print(json.dumps({"operation": operation, "kills": step - 1, "problems": walk.problems[:20]}))
    return 1 if walk.problems else 0


def recreate(walk: Walk, token: str, base: str) -> str:
    place = walk.folder / "document.txt"

    def run() -> None:
        api = Api(walk.app().app, token)
        place.write_text(api.post(f"{base}/documents", {"title": "kept", "text": OLD}, 201)["id"])
        close(api)

    in_child(run)
    return place.read_text()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
