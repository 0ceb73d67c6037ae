"""Moving a knowledge base from the embedded model to an endpoint's and back, over HTTP; the endpoint speaks OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agenthub.core.ids import new_id
from agenthub.jobs.runner import Runner
from agenthub.rag.embedding.weights import MODEL
from agenthub.repositories.knowledge.upkeep import Upkeep
from tests.api import Api, make_app
from tests.servers.openai_server import OpenAIServer, openai_server, vector_of

DIMENSION = 24
TEXTS = [f"Fact {number}: the {word} is kept in room {number}." for number, word in enumerate(("lamp", "chair", "atlas", "globe", "clock"))]


class Desk:
    """One application with the embedded model and an endpoint's; jobs are done when it is told to."""

    def __init__(self, folder: Path, server: OpenAIServer, **environment: str) -> None:
        self.server = server
        settings = {"EMBEDDING_BASE_URL": server.url, "EMBEDDING_MODEL": "remote", "EMBEDDING_API_KEY": "key", "AGENTHUB_JOBS": "off"}
        database = f"sqlite:///{folder}/{new_id()}.sqlite3"
        settings |= {"AGENTHUB_MAINTENANCE": "off", "AGENTHUB_SERVICES": "knowledge.*,platform.*"}
        self.api = Api(make_app(folder, database, **settings, **environment)).login()
        self.runner = Runner(self.api.app.extensions["agenthub"])

    def base(self, **more: Any) -> str:
        body = {"name": new_id(), "embedding_model": MODEL, **more}
        return f"/api/knowledge-bases/{self.api.post('/api/knowledge-bases', body, 201)['id']}"

    def filled(self) -> str:
        path = self.base()
        for number, text in enumerate(TEXTS):
            self.add(path, f"c{number}", text)
        return path

    def add(self, path: str, key: str, text: str) -> None:
        self.api.post(f"{path}/chunks", {"items": [{"id": key, "text": text}]})

    def work(self) -> None:
        while self.runner.run_once(30):
            pass

    def move(self, path: str, model: str = "remote") -> Any:
        self.api.post(f"{path}/reembedding", {"embedding_model": model, "auto_switch": True}, 202)
        self.work()
        return self.api.get(f"{path}/reembedding")

    def roll_back(self, path: str) -> Any:
        self.api.post(f"{path}/reembedding/rollback", None, 202)
        self.work()
        return self.api.get(f"{path}/reembedding")

    def nearest(self, path: str, text: str, **more: Any) -> tuple[str, float]:
        """The nearest chunk and its cosine, by meaning alone: 1 for the very text, in whichever model, if nothing is mixed."""
        hit = self.api.post(f"{path}/search", {"query": text, "mode": "semantic", "top_k": 1, **more})["hits"][0]
        return hit["chunk_id"], round(hit["score"], 3)

    def model(self, path: str) -> tuple[str, int]:
        found = self.api.get(path)
        return found["embedding_model"], found["dimension"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with openai_server(dimension=DIMENSION) as server:
        yield Desk(tmp_path_factory.mktemp("moves"), server)


def test_a_move_in_steps_with_a_look_before_it(desk: Desk) -> None:
    path = desk.filled()
    estimate = desk.api.post(f"{path}/reembedding/estimate", {"embedding_model": "remote"})
    assert (estimate["chunks"], estimate["dimension"], estimate["characters"]) == (5, DIMENSION, sum(map(len, TEXTS)))
    assert estimate["rate"] > 0
    assert estimate["seconds"] == pytest.approx(5 / estimate["rate"])
    assert 0 < estimate["disk_bytes"] < 1_000_000
    generation = desk.api.get(path)["generation"]

    made = desk.api.post(f"{path}/reembedding", {"embedding_model": "remote"}, 202)
    assert (made["state"], made["missing_chunks"], made["former_model"]) == ("building", 5, MODEL)
    desk.work()
    ready = desk.api.get(f"{path}/reembedding")
    assert (ready["state"], ready["embedded"], ready["missing_chunks"]) == ("ready", 5, 0)
    assert (desk.model(path), desk.api.get(path)["generation"]) == ((MODEL, 384), generation), "nothing is served of it yet"
    assert desk.api.get(f"/api/jobs/{ready['job_id']}")["status"] == "succeeded"

    desk.add(path, "late", "A chunk that came after the shadow was complete.")
    desk.api.post(f"{path}/chunks/delete", {"ids": ["c0"]})
    assert desk.api.get(f"{path}/reembedding")["missing_chunks"] == 1
    assert desk.api.post(f"{path}/reembedding/switch", None, 202)["state"] == "building"
    desk.work()
    switched = desk.api.get(f"{path}/reembedding")
    assert (switched["state"], switched["embedded"], switched["missing_chunks"]) == ("switched", 6, None)
    assert desk.model(path) == ("remote", DIMENSION)
    assert desk.nearest(path, "A chunk that came after the shadow was complete.") == ("late", 1.0)
    assert desk.nearest(path, TEXTS[3]) == ("c3", 1.0)
    assert desk.api.get(path)["chunk_count"] == 5
    assert desk.api.post(f"{path}/verify", {})["intact"]


def test_old_generations_are_searched_in_their_own_model(desk: Desk) -> None:
    path = desk.filled()
    before = desk.api.get(path)["generation"]
    switched = desk.move(path)["switched_generation"]
    desk.add(path, "after", "A chunk of the new model.")
    assert desk.nearest(path, TEXTS[2], generation=before) == ("c2", 1.0)
    assert desk.nearest(path, TEXTS[2], generation=switched) == ("c2", 1.0)
    assert desk.nearest(path, "A chunk of the new model.") == ("after", 1.0)
    vector = [float(x) for x in np.ones(384)]
    assert desk.api.post(f"{path}/search", {"vector": vector, "generation": before})["hits"]
    desk.api.refused("POST", f"{path}/search", 422, "invalid_input", "vector", json={"vector": vector})
    kinds = [item["kind"] for item in desk.api.get(f"{path}/generations")["items"]][:2]
    assert kinds == ["add", "reembed"]


def test_rolling_back_keeps_what_was_written_since(desk: Desk) -> None:
    path = desk.filled()
    desk.move(path)
    desk.add(path, "since", "Written in the new model.")
    desk.add(path, "c1", "The chair was sold.")
    desk.api.post(f"{path}/chunks/delete", {"ids": ["c4"]})
    rolled = desk.roll_back(path)
    assert (rolled["state"], rolled["embedding_model"], rolled["former_model"]) == ("switched", MODEL, "remote")
    assert (rolled["reused"], rolled["embedded"]) == (3, 2), "only what was written since is embedded"
    assert desk.model(path) == (MODEL, 384)
    assert desk.nearest(path, "Written in the new model.") == ("since", 1.0)
    assert desk.nearest(path, "The chair was sold.") == ("c1", 1.0)
    assert desk.nearest(path, TEXTS[0]) == ("c0", 1.0)
    assert desk.nearest(path, TEXTS[4])[1] < 1
    assert desk.api.get(path)["chunk_count"] == 5
    again = desk.roll_back(path)
    assert (again["embedding_model"], again["state"]) == ("remote", "switched"), "and to and fro"
    assert (again["embedded"], again["reused"]) == (0, 5)


def test_restoring_an_older_generation_brings_its_model_back(desk: Desk) -> None:
    path = desk.filled()
    before = desk.api.get(path)["generation"]
    desk.move(path)
    middle = desk.api.get(path)["generation"]
    desk.api.refused("POST", f"{path}/undo", 409, "conflict")
    desk.api.post(f"{path}/restore", {"generation": before})
    assert desk.model(path) == (MODEL, 384)
    assert desk.nearest(path, TEXTS[1]) == ("c1", 1.0)
    assert desk.nearest(path, TEXTS[1], generation=middle) == ("c1", 1.0)
    assert desk.nearest(path, TEXTS[1], generation=before) == ("c1", 1.0)
    desk.add(path, "new", "In the old model again.")
    assert desk.nearest(path, "In the old model again.") == ("new", 1.0)
    shown = desk.api.get(f"{path}/reembedding")
    assert (shown["state"], shown["job_id"], shown["embedding_model"]) == ("finished", None, MODEL)
    desk.api.post(f"{path}/undo", None)
    assert desk.nearest(path, TEXTS[1]) == ("c1", 1.0)


def test_one_at_a_time_and_only_what_makes_sense(desk: Desk) -> None:
    path = desk.filled()
    desk.api.refused("GET", f"{path}/reembedding", 404, "not_found")
    desk.api.refused("POST", f"{path}/reembedding", 409, "conflict", "embedding_model", json={"embedding_model": MODEL})
    desk.api.refused("POST", f"{path}/reembedding", 422, "invalid_input", "embedding_model", json={"embedding_model": "other"})
    desk.api.post(f"{path}/reembedding", {"embedding_model": "remote"}, 202)
    for verb in ("switch", "rollback", "finish", "compare"):
        desk.api.refused("POST", f"{path}/reembedding/{verb}", 409, "conflict", json={})
    desk.api.refused("POST", f"{path}/reembedding", 409, "conflict", json={"embedding_model": "remote"})
    own = desk.base(embedding_model=None, dimension=4)
    desk.api.refused("POST", f"{own}/reembedding", 409, "conflict", json={"embedding_model": "remote"})


def test_a_repeated_request_starts_one(desk: Desk) -> None:
    path, key = desk.filled(), {"Idempotency-Key": new_id()}
    first = desk.api.post(f"{path}/reembedding", {"embedding_model": "remote"}, 202, headers=key)
    assert desk.api.post(f"{path}/reembedding", {"embedding_model": "remote"}, 202, headers=key) == first


def test_cancelling_leaves_nothing(desk: Desk) -> None:
    path = desk.filled()
    files = segments(desk, path)
    desk.api.post(f"{path}/reembedding", {"embedding_model": "remote"}, 202)
    desk.work()
    assert len(segments(desk, path)) == len(files) + 5
    assert desk.api.post(f"{path}/reembedding/cancel", None)["state"] == "cancelled"
    assert segments(desk, path) == files
    desk.api.refused("POST", f"{path}/reembedding/switch", 409, "conflict")
    assert desk.model(path) == (MODEL, 384)

    waiting = desk.api.post(f"{path}/reembedding", {"embedding_model": "remote"}, 202)
    desk.api.post(f"{path}/reembedding/cancel", None)
    assert desk.api.get(f"/api/jobs/{waiting['job_id']}")["status"] == "cancelled"
    desk.work()
    assert segments(desk, path) == files
    assert desk.move(path)["state"] == "switched"


def segments(desk: Desk, path: str) -> set[str]:
    folder = desk.api.app.extensions["agenthub"].volume.root / path.rsplit("/", 1)[1] / "segments"
    return {one.name for one in folder.iterdir() if any(one.iterdir())}


def test_a_failing_endpoint_delays_and_a_cancelled_job_is_told(desk: Desk) -> None:
    path, text = desk.base(), f"A text that no cache knows: {new_id()}."
    desk.add(path, "new", text)
    made = desk.api.post(f"{path}/reembedding", {"embedding_model": "remote"}, 202)
    desk.server.faults.extend(["denied"] * 2)
    desk.work()
    job = desk.api.get(f"/api/jobs/{made['job_id']}")
    assert (job["status"], job["error"]["code"]) == ("running", "provider_failure")
    assert desk.nearest(path, text) == ("new", 1.0)
    desk.api.post(f"/api/jobs/{made['job_id']}/cancel", None)
    assert desk.api.get(f"{path}/reembedding")["stalled"]
    desk.server.faults.clear()
    desk.api.post(f"/api/jobs/{made['job_id']}/retry", None)
    desk.work()
    assert desk.api.get(f"{path}/reembedding")["state"] == "ready"


def test_saved_questions_are_answered_by_both(desk: Desk) -> None:
    path = desk.base()
    documents: list[str] = []
    for text in TEXTS:
        job = desk.api.post(f"{path}/documents?wait=0", {"title": text, "text": text}, 202)["job"]
        desk.work()
        documents.append(desk.api.get(f"/api/jobs/{job['id']}/items")["items"][0]["document_id"])
    desk.api.post(f"{path}/reembedding", {"embedding_model": "remote"}, 202)
    desk.work()
    desk.api.refused("POST", f"{path}/reembedding/compare", 409, "conflict", json={})
    for question, document in (("Which room is the atlas in?", documents[2]), ("Where does the clock stand?", documents[4])):
        desk.api.post(f"{path}/questions", {"question": question, "expected_document_ids": [document]}, 201)
    desk.server.requests.clear()
    told = desk.api.post(f"{path}/reembedding/compare", {"k": 2})
    assert (told["question_count"], told["judged_count"], told["missing_chunks"]) == (2, 2, 0)
    assert told["current"] == {"embedding_model": MODEL, "ndcg": 1.0, "recall": 1.0}
    assert (told["shadow"]["embedding_model"], told["shadow"]["recall"] <= 1, 0 <= told["overlap"] <= 1) == ("remote", True, True)
    assert len(desk.server.requests) == 1, "all questions are sent to the endpoint together"
    assert desk.model(path) == (MODEL, 384)


def test_documents_faqs_and_records_go_along(desk: Desk) -> None:
    path = desk.base()
    base_id = path.rsplit("/", 1)[1]
    desk.api.post(f"{path}/documents?wait=0", {"title": "Rooms", "text": TEXTS[2]}, 202)
    desk.api.post("/api/faqs", {"knowledge_base_id": base_id, "question": "Who has the key?", "answer": "The caretaker."}, 201)
    desk.api.call("POST", f"{path}/records", 202, data=b'{"id": "r", "text": "A record."}\n', content_type="application/jsonl")
    desk.work()
    desk.move(path)
    asked = {"query": "Who has the key?", "top_k": 1}
    assert desk.api.post(f"{path}/search", asked)["hits"][0]["text"] == "The caretaker."
    assert desk.nearest(path, "A record.") == ("r", 1.0)
    faq = {"knowledge_base_id": base_id, "question": "Who has the map?", "answer": "Nobody."}
    desk.api.post("/api/faqs", faq, 201)
    desk.api.call("POST", f"{path}/records", 202, data=b'{"id": "r2", "text": "Another record."}\n', content_type="application/jsonl")
    desk.work()
    assert desk.nearest(path, "Another record.") == ("r2", 1.0)
    resources = desk.api.app.extensions["agenthub"]
    for file in (resources.volume.root / base_id).rglob("vectors.f32"):
        assert np.fromfile(file, "<f4").size % DIMENSION == 0 or np.fromfile(file, "<f4").size % 384 == 0
    assert desk.roll_back(path)["state"] == "switched"
    assert desk.api.post(f"{path}/verify", {})["intact"]


def test_an_erasure_reaches_the_shadow_and_the_cached_vectors_of_both_models(desk: Desk) -> None:
    path = desk.base()
    secret = "The secret word is zanzibarquince."
    job = desk.api.post(f"{path}/documents?wait=0", {"title": "Secret", "text": secret}, 202)["job"]
    desk.work()
    document = desk.api.get(f"/api/jobs/{job['id']}/items")["items"][0]["document_id"]
    desk.add(path, "kept", "Something else.")
    desk.api.post(f"{path}/reembedding", {"embedding_model": "remote"}, 202)
    desk.work()
    resources = desk.api.app.extensions["agenthub"]
    folder = resources.volume.root / path.rsplit("/", 1)[1]
    assert holding(folder, b"zanzibarquince") > 2
    desk.api.post(f"{path}/documents/{document}/erase", None, 202)
    finish_erasures(resources, path)
    assert holding(folder, b"zanzibarquince") == 0
    [receipt] = desk.api.get(f"{path}/erasures")["items"]
    assert receipt["state"] == "done"
    desk.server.requests.clear()
    desk.api.post("/api/embeddings", {"texts": [f"Secret\n{secret}"], "model": "remote"})
    assert len(desk.server.requests) == 1, "its vector is not in the cache any more"
    desk.api.post(f"{path}/reembedding/switch", None, 202)
    desk.work()
    assert desk.model(path) == ("remote", DIMENSION)
    assert desk.nearest(path, "Something else.") == ("kept", 1.0)
    assert holding(folder, b"zanzibarquince") == 0


def holding(folder: Path, needle: bytes) -> int:
    return sum(needle in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def finish_erasures(resources: Any, path: str) -> None:
    Upkeep(resources.storage, resources.knowledge, resources.forget_texts).maintain(path.rsplit("/", 1)[1])


def test_finishing_gives_the_old_vectors_up(desk: Desk) -> None:
    path = desk.filled()
    desk.move(path)
    assert desk.api.post(f"{path}/reembedding/finish", None)["state"] == "finished"
    desk.api.refused("POST", f"{path}/reembedding/rollback", 409, "conflict")
    assert desk.move(path, MODEL)["state"] == "switched"


def test_it_is_in_the_audit_log(desk: Desk) -> None:
    path = desk.filled()
    desk.move(path)
    actions = {item["action"] for item in desk.api.get("/api/logs/audit?limit=200")["items"]}
    assert {"reembedding.create", "knowledge_base.reembed"} <= actions


def test_the_vectors_are_the_endpoints(desk: Desk) -> None:
    path = desk.filled()
    desk.move(path)
    wanted = vector_of(TEXTS[0], DIMENSION)
    hit = desk.api.post(f"{path}/search", {"vector": wanted, "top_k": 1})["hits"][0]
    assert (hit["chunk_id"], round(hit["score"], 4)) == ("c0", 1.0)
