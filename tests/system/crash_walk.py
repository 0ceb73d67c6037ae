"""Kills a process at every step of a write and checks what is left.

Usage: `python -m tests.system.crash_walk OPERATION DATABASE_URL FOLDER STRIDE [ENGINE]`; ENGINE is `volume` (the default) or `milvus`.

A first process prepares a knowledge base. Process N, which stands for another replica, checks what process N-1 left: nothing
acknowledged is lost, nothing half-written is seen, the knowledge base takes writes, a retry with the same Idempotency-Key is
applied once. Then it performs the operation itself and kills itself with SIGKILL at the N-th failpoint it passes. Ends when
one got through alive; prints one JSON line with the figures.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agenthub.core import failpoints
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.merging import Merges
from tests.api import Api, make_app

OLD = "The old text speaks of walruses."
NEW = "The new text speaks of flamingos."
BUNDLE = "bundle.tar"
KILLED = -9
MOST_STEPS = 1000


@dataclass
class Walk:
    """One walk through all steps of one operation."""

    operation: str
    folder: Path
    database_url: str
    engine: str = "volume"
    steps: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def app(self) -> Api:
        settings = {"AGENTHUB_SERVICES": "knowledge.*,platform.authentication", "AGENTHUB_JOB_LEASE_SECONDS": "1"}
        milvus = {"VECTOR_STORE_URL": f"{self.folder}/vectors.db", "WEB_CONCURRENCY": "1"} if self.engine == "milvus" else {}
        return Api(make_app(self.folder, self.database_url, **settings, **milvus))

    def expect(self, condition: bool, step: int, what: str) -> None:
        if not condition:
            self.problems.append(f"step {step}: {what}")


def prepare_state(walk: Walk, state: Path) -> None:
    """Sign in, make a knowledge base with one acknowledged document, and write down the token and both ids."""
    api = walk.app().login()
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': f'walk {walk.operation}'}, 201)['id']}"
    document = api.post(f"{base}/documents", {"title": "kept", "text": OLD}, 201)
    (walk.folder / BUNDLE).write_bytes(api.get(f"{base}/export"))
    state.write_text(json.dumps((api.token, base, document["id"])))


def act(walk: Walk, api: Api, base: str, document: str, key: str) -> Any:
    """The write under test; returns its response."""
    bases, text = "/api/knowledge-bases", {"title": "kept", "text": NEW}
    requests: dict[str, tuple[str, str, dict[str, Any]]] = {
        "create": ("POST", bases, {"json": {"name": f"made {key}"}}),
        "import": ("POST", f"{bases}/import?name=made {key}", {"data": (walk.folder / BUNDLE).read_bytes()}),
        "restore": ("POST", f"{base}/restore", {"json": {"generation": 1}}),
        "upload": ("POST", f"{base}/documents", {"json": text}),
        "chunks": ("POST", f"{base}/chunks", {"json": {"items": [{"id": f"c{key}", "text": NEW}]}}),
        "replace": ("PUT", f"{base}/documents/{document}", {"json": text}),
        "delete": ("DELETE", f"{base}/documents/{document}", {}),
    }
    method, path, body = requests[walk.operation]
    return api.send(method, path, headers={"Idempotency-Key": key}, **body)


def in_child(run: Callable[[], None]) -> int:
    """Run in a forked process; returns how it ended: 0, or minus the signal."""
    child = os.fork()
    if child == 0:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - the child must end here, whatever happened
            sys.stderr.write(f"{error!r}\n")
            os._exit(70)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def attempt(walk: Walk, api: Api, base: str, document: str, step: int) -> None:
    failpoints.arm(f"all=kill@{step}")
    response = act(walk, api, base, document, f"{walk.operation}-{step}")
    failpoints.arm("")
    assert response.status_code < 300, response.get_data(as_text=True)


def texts(api: Api, base: str) -> list[str]:
    hits = api.post(f"{base}/search", {"query": "which animals does the text speak of", "top_k": 100, "mode": "semantic"})["hits"]
    return sorted(hit["text"] for hit in hits)


def check(walk: Walk, api: Api, base: str, document: str, step: int, finished: bool) -> str:
    """Another process looks, retries with the same key, and writes on; returns the id of the document to go on with."""
    before = texts(api, base)
    allowed = {
        "create": [[OLD]],
        "upload": [[OLD], sorted([OLD, NEW])],
        "chunks": [[OLD], sorted([OLD, NEW])],
        "replace": [[OLD], [NEW]],
        "delete": [[OLD], []],
        "restore": [[OLD], []],
        "import": [[OLD]],
    }[walk.operation]
    walk.expect(before in allowed, step, f"half a write is visible: {before}")
    if finished:
        walk.expect(before == allowed[-1], step, f"an acknowledged write is lost: {before}")
    retry = act(walk, api, base, document, f"{walk.operation}-{step}")
    walk.expect(retry.status_code < 300, step, f"the retry was refused: {retry.status_code} {retry.get_data(as_text=True)[:300]}")
    walk.expect(texts(api, base) == allowed[-1], step, f"the retry was not applied exactly once: {texts(api, base)}")
    counted = api.get(base)["chunk_count"]
    walk.expect(counted == len(allowed[-1]), step, f"the row counts {counted} chunks, searches see {len(allowed[-1])}")
    if walk.operation in ("create", "import"):
        names = [item["name"] for item in api.get("/api/knowledge-bases?limit=200")["items"]]
        walk.expect(names.count(f"made {walk.operation}-{step}") == 1, step, "the knowledge base is missing or doubled")
        answer = retry.get_json()
        made = f"/api/knowledge-bases/{answer.get('knowledge_base', answer)['id']}"
        walk.expect(texts(api, made) == ([OLD] if walk.operation == "import" else []), step, "it has other contents")
        walk.expect(api.send("POST", f"{made}/documents", json={"title": "a", "text": "b"}).status_code == 201, step, "it takes no writes")
    problems = api.app.extensions["agenthub"].knowledge.verify(base.rsplit("/", 1)[1], pointer_of(api, base))
    walk.expect(not problems, step, f"verify found {problems}")
    resources = api.app.extensions["agenthub"]  # these processes die too young for their own upkeep: merge here
    Merges(resources.storage, resources.knowledge).merge(
        KnowledgeBaseRepository(resources.storage).get(EVERY_TENANT, base.rsplit("/", 1)[1])
    )
    return reset(api, walk.operation, base, document)


def pointer_of(api: Api, base: str) -> Any:
    resources = api.app.extensions["agenthub"]
    return KnowledgeBaseRepository(resources.storage).get(EVERY_TENANT, base.rsplit("/", 1)[1]).pointer


def reset(api: Api, operation: str, base: str, document: str) -> str:
    """Back to one document with the old text: also shows that the knowledge base is not wedged."""
    listed = [item["id"] for item in api.get(f"{base}/documents")["items"]]
    if operation == "delete":
        return str(api.post(f"{base}/documents", {"title": "kept", "text": OLD}, 201)["id"])
    if operation == "restore":
        undone = api.post(f"{base}/undo")
        assert (undone["documents_changed"], texts(api, base)) == (1, [OLD]), undone
    if operation == "upload":
        for key in listed:
            if key != document:
                api.call("DELETE", f"{base}/documents/{key}", 200)
    if operation == "chunks":
        hits = api.post(f"{base}/search", {"query": "flamingos", "top_k": 100})["hits"]
        api.post(f"{base}/chunks/delete", {"ids": [hit["chunk_id"] for hit in hits if hit["text"] == NEW]})
    if operation == "replace":
        api.call("PUT", f"{base}/documents/{document}", 200, json={"title": "kept", "text": OLD})
    return document


def main(operation: str, database_url: str, folder: Path, stride: int, engine: str = "volume") -> int:
    walk = Walk(operation, folder, database_url, engine)
    # Imported here, used only in children: a fork must not inherit an engine at work, but may save itself the imports.
    for module in (
        "agenthub.rag.engine",
        "agenthub.rag.embedding.encoders",
        "agenthub.rag.milvus.segments",
        "agenthub.services.knowledge.document_processing.routes",
    ):
        importlib.import_module(module)
    state = folder / "state.json"
    in_child(lambda: prepare_state(walk, state))
    step, previous = 0, 0
    ended = KILLED
    while ended == KILLED and step < MOST_STEPS:
        previous, step = step, step + (stride if step else 1)
        ended = turn(walk, state, previous, step)
    if ended != 0:
        walk.problems.append(f"step {step}: the child ended with {ended}")
    turn(walk, state, step, None, finished=ended == 0)
    sys.stdout.write(json.dumps({"operation": operation, "steps": step, "stride": stride, "problems": walk.problems[:20]}) + "\n")
    return 1 if walk.problems else 0


def turn(walk: Walk, state: Path, checked: int, step: int | None, *, finished: bool = False) -> int:
    """One process: check what step `checked` left, tidy up, then die at `step`. Returns how it ended."""
    outcome = walk.folder / "outcome.json"
    outcome.unlink(missing_ok=True)

    def run() -> None:
        token, base, document = json.loads(state.read_text())
        api = Api(walk.app().app, token)
        if checked:
            document = check(walk, api, base, document, checked, finished)
            state.write_text(json.dumps((token, base, document)))
        outcome.write_text(json.dumps(walk.problems))
        if step is not None:
            attempt(walk, api, base, document, step)

    walk.problems, before = [], walk.problems
    ended = in_child(run)
    found = json.loads(outcome.read_text()) if outcome.exists() else [f"step {checked}: the check did not end ({ended})"]
    walk.problems = before + found
    return ended


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:]))
