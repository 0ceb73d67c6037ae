"""What was busy is opened before it is asked for; what is off, bounded, erased or broken is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT
from agenthub.rag.embedding.local import LocalEmbedder
from agenthub.repositories.knowledge.heat import HeatRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.search_notes import MAX_BASES, SearchNotes
from agenthub.repositories.knowledge.warming import Warmed, Warming
from agenthub.repositories.knowledge.warming_thread import WarmingThread
from agenthub.resources import Resources
from tests.api import Api, make_app
from tests.servers.memcached import MemcachedServer

SERVICES = "knowledge.*,platform.*"
QUESTION = "When is the meeting?"


def resources_of(api: Api) -> Resources:
    found: Resources = api.app.extensions["agenthub"]
    return found


class Deployment:
    """Processes over one database and volume, started one after the other."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = environment
        self.started: list[Api] = []

    def start(self, **environment: str) -> Api:
        url = f"sqlite:///{self.folder}/warm.sqlite3"
        app = make_app(self.folder, AGENTHUB_SERVICES=SERVICES, DATABASE_URL=url, **{**self.environment, **environment})
        self.started.append(Api(app).login())
        return self.started[-1]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    yield made
    for api in made.started:
        resources_of(api).close()


def new_base(api: Api, *texts: str) -> str:
    key = str(api.post("/api/knowledge-bases", {"name": f"kb {new_id()}"}, 201)["id"])
    for text in texts:
        api.post(f"/api/knowledge-bases/{key}/documents", {"title": "note", "text": text}, 201)
    return key


def search(api: Api, key: str, question: str = QUESTION) -> Any:
    return api.post(f"/api/knowledge-bases/{key}/search", {"query": question})


def warming_of(api: Api) -> Warming:
    return resources_of(api).warming._warming


def record(api: Api) -> None:
    """What the thread does every few minutes."""
    warming = warming_of(api)
    since = HeatRepository(resources_of(api).storage).now()
    warming.record(since)


def eventually(condition: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


def opened_segments(api: Api) -> int:
    return len(resources_of(api).knowledge._opened.present())


def test_a_new_process_has_ready_what_another_was_asked_for(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    one = deployment.start()
    busy, idle = new_base(one, "The meeting is on Tuesday."), new_base(one, "Nobody reads this.")
    since = HeatRepository(resources_of(one).storage).now()
    answer = search(one, busy)
    warming_of(one).record(since)
    other = deployment.start()
    resources_of(other).begin()
    eventually(lambda: resources_of(other).warming.last, "warming does not end")
    warmed = other.get("/api/embeddings/cache")["warmed"]
    assert (warmed["knowledge_bases"], warmed["embeddings"], warmed["failures"], warmed["ended"]) == (1, 1, 0, "done")
    assert warmed["opened_bytes"] > 0
    assert opened_segments(other) == 1, f"of {busy} and not of {idle}"
    with monkeypatch.context() as patch:
        patch.setattr(LocalEmbedder, "embed", lambda *_: pytest.fail("the question's vector was not warm"))
        assert search(other, busy) == answer


def test_it_can_be_switched_off(deployment: Deployment) -> None:
    api = deployment.start(AGENTHUB_WARMING="off")
    key = new_base(api, "text")
    search(api, key)
    resources_of(api).begin()
    record(api)
    assert HeatRepository(resources_of(api).storage).busiest(10) == []
    api.refused("POST", "/api/embeddings/cache/warm", 409, "conflict")
    assert api.get("/api/embeddings/cache")["warmed"] is None


def test_operators_ask_for_it_and_that_is_audited(deployment: Deployment) -> None:
    api = deployment.start()
    assert api.post("/api/embeddings/cache/warm", status=202) == {"reach": "this_process"}
    eventually(lambda: resources_of(api).warming.last, "asking does not warm")
    first = resources_of(api).warming.last
    api.post("/api/embeddings/cache/warm", status=202)
    eventually(lambda: resources_of(api).warming.last is not first, "asking again does not warm again")
    actions = [event["action"] for event in api.get("/api/logs/audit")["items"]]
    assert actions.count("cache.warm") == 2


def test_one_request_reaches_every_process_of_a_shared_cache(tmp_path: Path, memcached: MemcachedServer) -> None:
    deployment = Deployment(tmp_path, MEMCACHED_SERVERS=memcached.address)
    one, other = deployment.start(), deployment.start()
    for api in (one, other):
        resources_of(api).begin()
        eventually(lambda api=api: resources_of(api).warming.last, "warming does not end")  # type: ignore[misc]
    before = resources_of(other).warming.last
    assert one.post("/api/embeddings/cache/warm", status=202) == {"reach": "all_processes"}
    eventually(lambda: resources_of(other).warming.last is not before, "the other process was not reached")
    memcached.kill()
    one.refused("POST", "/api/embeddings/cache/warm", 503, "cache_unavailable")
    for api in (one, other):
        resources_of(api).close()


def test_an_erase_takes_the_questions_too(deployment: Deployment) -> None:
    api = deployment.start()
    key = new_base(api, "The meeting is on Tuesday.")
    since = HeatRepository(resources_of(api).storage).now()
    search(api, key, "The meeting is on Tuesday.")
    warming_of(api).record(since)
    heats = HeatRepository(resources_of(api).storage)
    assert heats.get(EVERY_TENANT, key).questions
    base = KnowledgeBaseRepository(resources_of(api).storage).get(EVERY_TENANT, key)
    document = api.get(f"/api/knowledge-bases/{key}/documents")["items"][0]["id"]
    receipt = api.post(f"/api/knowledge-bases/{key}/documents/{document}/erase", status=202)
    eventually(lambda: api.get(f"/api/knowledge-bases/{key}/erasures/{receipt['id']}")["state"] == "done", "the erasure does not complete")
    done = api.get(f"/api/knowledge-bases/{key}/erasures/{receipt['id']}")
    place = next(place for place in done["report"]["places"] if place["place"] == "vectors kept of frequent questions")
    assert (place["removed"], place["found"]) == (1, 0)
    assert not heats.get(EVERY_TENANT, base.id).questions


def test_an_erase_says_what_a_dead_cache_server_may_keep(tmp_path: Path, memcached: MemcachedServer) -> None:
    api = Deployment(tmp_path, MEMCACHED_SERVERS=memcached.address).start()
    key = new_base(api, "The meeting is on Tuesday.")
    memcached.kill()
    document = api.get(f"/api/knowledge-bases/{key}/documents")["items"][0]["id"]
    receipt = api.post(f"/api/knowledge-bases/{key}/documents/{document}/erase", status=202)
    path = f"/api/knowledge-bases/{key}/erasures/{receipt['id']}"
    eventually(lambda: api.get(path)["state"] == "done", "the erasure does not complete")
    assert [line for line in api.get(path)["report"]["remains"] if "cache servers" in line]
    resources_of(api).close()


def test_a_deleted_knowledge_base_is_not_recorded_any_more(deployment: Deployment) -> None:
    api = deployment.start()
    key = new_base(api, "text")
    search(api, key)
    record(api)
    api.call("DELETE", f"/api/knowledge-bases/{key}", 204)
    assert HeatRepository(resources_of(api).storage).find(EVERY_TENANT, key) is None


def test_what_has_no_room_is_left_and_a_broken_one_does_not_stop_the_rest(deployment: Deployment) -> None:
    one = deployment.start()
    keys = [new_base(one, f"text {number}") for number in range(3)]
    for count, key in enumerate(keys, 1):
        for _ in range(count):
            search(one, key)
    record(one)
    other = deployment.start()
    engine, storage = resources_of(other).knowledge, resources_of(other).storage
    broken = KnowledgeBaseRepository(storage).get(EVERY_TENANT, keys[2])
    for path in (deployment.folder / "knowledge" / broken.id).rglob("chunks.jsonl"):
        path.write_bytes(b"damaged")
    whole = Warming(storage, engine, resources_of(other).embedders, 1 << 30).warm(lambda: False)
    assert (whole.knowledge_bases, whole.failures, whole.ended) == (2, 1, "done")
    assert opened_segments(other) == 2
    engine.close()
    cramped = Warming(storage, engine, resources_of(other).embedders, 10).warm(lambda: False)
    assert (cramped.opened_bytes, opened_segments(other)) == (0, 0)


def test_it_stops_between_knowledge_bases(deployment: Deployment) -> None:
    api = deployment.start()
    for key in [new_base(api, "one"), new_base(api, "two")]:
        search(api, key)
    record(api)
    asked = iter([False, True])
    assert (warmed := warming_of(api).warm(lambda: next(asked))).ended == "stopped"
    assert warmed.knowledge_bases == 1


def test_time_bounds_it(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    api = deployment.start()
    search(api, new_base(api, "one"))
    record(api)
    monkeypatch.setattr("agenthub.repositories.knowledge.warming.MAX_SECONDS", -1.0)
    assert warming_of(api).warm(lambda: False).ended == "time"


def test_the_thread_ends_at_once_when_it_waits(deployment: Deployment) -> None:
    api = deployment.start()
    thread = resources_of(api).warming
    thread.begin()
    eventually(lambda: thread.last, "warming does not end")
    thread.close()
    assert not [each for each in threading.enumerate() if each is thread._thread]
    assert not thread.begin()


def test_trouble_does_not_end_the_thread(deployment: Deployment) -> None:
    warming = warming_of(deployment.start())
    turns: list[int] = []

    def trouble(stopped: Callable[[], bool]) -> Warmed:
        assert not stopped()
        turns.append(1)
        if len(turns) == 1:
            raise RuntimeError("boom")
        return Warmed()

    warming.warm = trouble  # type: ignore[method-assign]
    thread = WarmingThread(warming, lambda: None)
    thread.begin()
    eventually(lambda: turns, "it did not begin")
    thread.ask()
    eventually(lambda: thread.last, "it ended at the first trouble")
    thread.close()


def test_notes_are_bounded(deployment: Deployment) -> None:
    api = deployment.start()
    base = KnowledgeBaseRepository(resources_of(api).storage).get(EVERY_TENANT, new_base(api))
    notes = SearchNotes()
    for number in range(20_000):
        notes.note(base, [f"question {number}"])
    (noted,) = notes.take()
    assert noted.count == 20_000
    assert len(noted.questions.most(10_000)) <= 32
    notes.note(base, ["x" * 501])
    assert notes.take()[0].questions.most(1) == []
    assert notes.take() == []
    assert MAX_BASES <= 64
