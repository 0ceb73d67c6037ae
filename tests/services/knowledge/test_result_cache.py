"""Results kept under what they depend on: repeated searches are cheap, and no schedule shows an old one after a commit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from agenthub.core.ids import new_id
from agenthub.rag.searcher import Searcher
from agenthub.resources import Resources
from agenthub.storage.configuration import parse_database_url
from agenthub.storage.migrating import migrate
from agenthub.storage.open import open_storage
from tests.api import Api, make_app
from tests.servers.memcached import MemcachedServer
from tests.servers.postgresql import PostgresqlServer, create_database


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(make_app(tmp_path_factory.mktemp("results"), AGENTHUB_SERVICES="knowledge.*,platform.authentication")).login()


def new_base(api: Api, **texts: str) -> str:
    created = api.post("/api/knowledge-bases", {"name": f"kb {new_id()}", "embedding_model": None, "dimension": 2}, 201)
    base = f"/api/knowledge-bases/{created['id']}"
    add(api, base, **texts)
    return base


def add(api: Api, base: str, **texts: str) -> None:
    api.post(f"{base}/chunks", {"items": [{"id": key, "text": text, "vector": [1.0, 0.5]} for key, text in texts.items()]})


def found(api: Api, base: str, query: str = "zebra") -> set[str]:
    return {hit["chunk_id"] for hit in api.post(f"{base}/search", {"query": query, "mode": "keyword"})["hits"]}


@contextmanager
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many requests reached the engine."""
    seen: list[int] = []
    real = Searcher.search

    def counting(self: Searcher, requests: Any) -> Any:
        seen.append(len(requests))
        return real(self, requests)

    with monkeypatch.context() as patch:
        patch.setattr(Searcher, "search", counting)
        yield seen


def test_a_repeated_search_is_kept_from_the_second_time_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    base = new_base(api, a="a zebra")
    with searches(monkeypatch) as computed:
        answers = [api.post(f"{base}/search", {"query": "zebra", "mode": "keyword"}) for _ in range(5)]
        assert len(computed) == 2
        api.post(f"{base}/search", {"query": "zebra", "mode": "keyword", "top_k": 5})
        assert len(computed) == 3
    assert all(answer == answers[0] for answer in answers)


def test_what_is_asked_once_is_not_kept(api: Api) -> None:
    base = new_base(api, a="a zebra")
    entries = api.get("/api/embeddings/cache")["entries"]
    for number in range(20):
        found(api, base, f"zebra {number}")
    assert api.get("/api/embeddings/cache")["entries"] == entries


def test_the_first_repeat_takes_what_another_process_kept(
    tmp_path: Path, memcached: MemcachedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "AGENTHUB_SERVICES": "knowledge.*,platform.authentication",
        "DATABASE_URL": f"sqlite:///{tmp_path}/shared.sqlite3",
        "MEMCACHED_SERVERS": memcached.address,
    }
    one, other = (Api(make_app(tmp_path, **environment)).login() for _ in range(2))
    base = new_base(one, a="a zebra")
    with searches(monkeypatch) as computed:
        assert [found(one, base) for _ in range(2)] == [{"a"}] * 2
        assert [found(other, base) for _ in range(3)] == [{"a"}] * 3
        assert len(computed) == 3, "twice by the first process, once by the second"


def test_a_commit_and_a_delete_count_at_the_next_search(api: Api) -> None:
    base = new_base(api, a="a zebra")
    assert found(api, base) == {"a"}
    add(api, base, b="another zebra")
    assert found(api, base) == {"a", "b"}
    api.post(f"{base}/chunks/delete", {"ids": ["a"]})
    assert found(api, base) == {"b"}
    api.call("DELETE", base, 204)
    api.call("POST", f"{base}/search", 404, json={"query": "zebra", "mode": "keyword"})


def test_refusals_are_not_kept(api: Api) -> None:
    base = new_base(api, a="a zebra")
    for _ in range(2):
        api.call("POST", f"{base}/search", 409, json={"query": "zebra", "mode": "keyword", "min_generation": 99})
        api.call("POST", f"{base}/search", 422, json={"query": "zebra", "mode": "keyword", "filter": {"op": "nonsense"}})
    assert found(api, base) == {"a"}
    api.call("POST", f"{base}/search", 409, json={"query": "zebra", "mode": "keyword", "min_generation": 99})


def test_it_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(tmp_path, AGENTHUB_SERVICES="knowledge.*,platform.authentication", AGENTHUB_RESULT_CACHE="off")
    api = Api(app).login()
    base = new_base(api, a="a zebra")
    with searches(monkeypatch) as computed:
        assert found(api, base) == found(api, base) == {"a"}
        assert len(computed) == 2


def looked_for(api: Api) -> int:
    """How many results were looked for in the cache."""
    resources: Resources = api.app.extensions["agenthub"]
    return sum(kind.misses for kind in resources.cache.statistics().kinds if kind.kind == "result")


def test_of_many_that_ask_at_once_one_computes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    base = new_base(api, a="a zebra")
    entered, go = threading.Event(), threading.Event()
    with searches(monkeypatch) as computed, monkeypatch.context() as patch:
        counted = Searcher.search

        def held(self: Searcher, requests: Any) -> Any:
            entered.set()
            assert go.wait(20)
            return counted(self, requests)

        patch.setattr(Searcher, "search", held)
        with ThreadPoolExecutor(6) as pool:
            first = pool.submit(found, api, base)
            assert entered.wait(20)
            before = looked_for(api)
            rest = [pool.submit(found, api, base) for _ in range(4)]
            while looked_for(api) < before + 4:
                time.sleep(0.01)
            time.sleep(0.2)  # from the look-up to the queue
            go.set()
            assert [answer.result(30) for answer in [first, *rest]] == [{"a"}] * 5
        assert len(computed) == 1


def test_t15_a_late_fill_never_shows_an_old_generation(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Miss at g, another commits g+1, the reader fills late: what it fills stands under g, which nobody asks for any more."""
    base = new_base(api, a="a zebra")
    assert found(api, base) == {"a"}, "so that the reader's is a repeat, which is kept"
    missed, committed = threading.Event(), threading.Event()
    real = Searcher.search

    def late(self: Searcher, requests: Any) -> Any:
        hits = real(self, requests)
        if not missed.is_set():
            missed.set()
            assert committed.wait(20)
        return hits

    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(Searcher, "search", late)
        reader = pool.submit(found, api, base)
        assert missed.wait(20)
        add(api, base, b="another zebra")
        assert found(api, base) == {"a", "b"}
        committed.set()
        assert reader.result(20) == {"a"}, "it began before the commit"
    for _ in range(3):
        assert found(api, base) == {"a", "b"}


def test_t15_a_server_that_returns_with_old_entries_shows_none_of_them(tmp_path: Path, memcached: MemcachedServer) -> None:
    """Two processes over one cache, one of them cut off from it while the other commits."""
    environment = {
        "AGENTHUB_SERVICES": "knowledge.*,platform.authentication",
        "DATABASE_URL": f"sqlite:///{tmp_path}/shared.sqlite3",
        "MEMCACHED_SERVERS": memcached.address,
    }
    one, other = (Api(make_app(tmp_path, **environment)).login() for _ in range(2))
    base = new_base(one, a="a zebra")
    for _ in range(2):  # kept at the first repeat
        assert found(one, base) == found(other, base) == {"a"}
    memcached.pause()
    add(one, base, b="another zebra")
    assert found(other, base) == {"a", "b"}
    memcached.resume()
    assert found(one, base) == found(other, base) == {"a", "b"}


def noting(asked: list[str], name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        asked.append(name)
        return real(*given)

    return call


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_warm_search_asks_the_database_once(
    backend: str, tmp_path: Path, migrated_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = migrated_postgresql if backend == "postgresql" else f"sqlite:///{tmp_path}/one.sqlite3"
    app = make_app(
        tmp_path,
        AGENTHUB_SERVICES="knowledge.*,platform.authentication",
        DATABASE_URL=url,
        AGENTHUB_MAINTENANCE="off",  # whose thread asks too, at its own time
    )
    api = Api(app).login()
    base = new_base(api, a="a zebra")
    for _ in range(2):
        assert found(api, base) == {"a"}
    resources: Resources = app.extensions["agenthub"]
    asked: list[str] = []
    storage: Any = resources.storage
    for name in ("read", "commit"):  # every question and every write passes one of these, or the quick reader
        monkeypatch.setattr(storage, name, noting(asked, name, getattr(storage, name)))
    monkeypatch.setattr(storage._reader, "rows", noting(asked, "read", storage._reader.rows))
    assert found(api, base) == {"a"}
    assert asked == ["read"]


def test_postgresql_runs_one_statement_for_a_warm_search(tmp_path: Path, postgresql_private: PostgresqlServer) -> None:
    """As the server itself counts: no BEGIN, no ROLLBACK, no ping beside it."""
    url = create_database(postgresql_private.url())
    storage = open_storage(parse_database_url(url), Flask("migrations"))
    migrate(storage)
    storage.close()
    app = make_app(tmp_path, AGENTHUB_SERVICES="knowledge.*,platform.authentication", DATABASE_URL=url)
    api = Api(app).login()
    base = new_base(api, a="a zebra")
    with postgresql_private.logging_statements() as told:
        for _ in range(3):
            found(api, base)
        before = len(told())
        for _ in range(10):
            assert found(api, base) == {"a"}
        assert len(told()) - before == 10, told()[before:]
    app.extensions["agenthub"].close()
