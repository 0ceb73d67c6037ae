"""Any sequence of writes, merges, restores and undos against a model that simply keeps every state."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.merging import Merges
from tests.api import Api, make_app

WORDS = st.sampled_from(["walrus", "zebra", "flamingo", "otter"])
NUMBERS = st.integers(min_value=0, max_value=10_000)
State = dict[tuple[str, str], str]


class TimeMachine(RuleBasedStateMachine):
    """`states[g]` is what generation g holds: (document or chunk, its id) to its text."""

    api: ClassVar[Api]

    @initialize()
    def begin(self) -> None:
        self.base = f"/api/knowledge-bases/{self.api.post('/api/knowledge-bases', {'name': new_id()}, 201)['id']}"
        self.states: list[State] = [{}, {}]
        self.changed = [1]

    @property
    def now(self) -> State:
        return self.states[-1]

    def key(self, kind: str, number: int) -> str:
        keys = sorted(key for found, key in self.now if found == kind)
        return keys[number % len(keys)]

    def committed(self, generation: int, state: State, *, change: bool = True) -> None:
        assert generation == len(self.states)
        self.states.append(state)
        if change:
            self.changed.append(generation)

    def written(self, word: str) -> dict[str, Any]:
        """A document of its own, whatever its text: the same content is not taken twice."""
        return {"title": word, "text": word, "metadata": {"written": len(self.states)}}

    @rule(word=WORDS)
    def add(self, word: str) -> None:
        document = self.api.post(f"{self.base}/documents", self.written(word), 201)
        self.committed(document["generation"], self.now | {("document", document["id"]): word})

    @precondition(lambda self: any(kind == "document" for kind, _ in self.now))
    @rule(number=NUMBERS, word=WORDS)
    def replace(self, number: int, word: str) -> None:
        key = self.key("document", number)
        replaced = self.api.call("PUT", f"{self.base}/documents/{key}", 200, json=self.written(word))
        self.committed(replaced["generation"], self.now | {("document", key): word})

    @precondition(lambda self: any(kind == "document" for kind, _ in self.now))
    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        key = self.key("document", number)
        deleted = self.api.call("DELETE", f"{self.base}/documents/{key}", 200)
        self.committed(deleted["generation"], without(self.now, ("document", key)))

    @rule(key=st.sampled_from("abc"), word=WORDS)
    def put_chunk(self, key: str, word: str) -> None:
        added = self.api.post(f"{self.base}/chunks", {"items": [{"id": key, "text": word}]})
        assert added["replaced"] == (("chunk", key) in self.now)
        self.committed(added["generation"], self.now | {("chunk", key): word})

    @precondition(lambda self: any(kind == "chunk" for kind, _ in self.now))
    @rule(number=NUMBERS)
    def delete_chunk(self, number: int) -> None:
        key = self.key("chunk", number)
        deleted = self.api.post(f"{self.base}/chunks/delete", {"ids": [key]})
        self.committed(deleted["generation"], without(self.now, ("chunk", key)))

    @precondition(lambda self: len(self.states) > 2)
    @rule(number=NUMBERS)
    def restore(self, number: int) -> None:
        generation = 1 + number % (len(self.states) - 2)
        restored = self.api.post(f"{self.base}/restore", {"generation": generation})
        self.committed(restored["generation"], self.states[generation])

    @precondition(lambda self: len(self.changed) > 1)
    @rule()
    def undo(self) -> None:
        generation = self.changed[-1] - 1
        undone = self.api.post(f"{self.base}/undo")
        assert undone["restored_generation"] == generation
        self.committed(undone["generation"], self.states[generation])

    @rule()
    def merge(self) -> None:
        """All segments into one, whatever the plan says."""
        resources = self.api.app.extensions["agenthub"]
        base = KnowledgeBaseRepository(resources.storage).get(EVERY_TENANT, self.base.rsplit("/", 1)[1])
        manifest = resources.knowledge.read_manifest(base.id, base.pointer)
        if manifest.segments:
            merged = Merges(resources.storage, resources.knowledge).rewrite(base, manifest, manifest.segments)
            assert merged is not None
            self.committed(merged.generation, self.now, change=False)

    @invariant()
    def the_present_is_right(self) -> None:
        self.check(len(self.states) - 1)
        row = self.api.get(self.base)
        documents = sum(kind == "document" for kind, _ in self.now)
        assert (row["generation"], row["chunk_count"], row["document_count"]) == (len(self.states) - 1, len(self.now), documents)

    @invariant()
    def some_past_is_right(self) -> None:
        self.check(1 + (7 * len(self.states)) % (len(self.states) - 1))

    def teardown(self) -> None:
        for generation in range(1, len(self.states)):
            self.check(generation)

    def check(self, generation: int) -> None:
        state = self.states[generation]
        asked = {"query": "animal", "mode": "semantic", "top_k": 100, "generation": generation}
        hits = self.api.post(f"{self.base}/search", asked)["hits"]
        seen = {(("document", hit["document_id"]) if hit["document_id"] else ("chunk", hit["chunk_id"])): hit["text"] for hit in hits}
        assert (seen, len(hits)) == (state, len(state)), generation
        listed: list[dict[str, Any]] = self.api.get(f"{self.base}/documents?limit=200&generation={generation}")["items"]
        assert {item["id"]: item["title"] for item in listed} == {key: text for (kind, key), text in state.items() if kind == "document"}


def without(state: State, gone: tuple[str, str]) -> State:
    return {key: text for key, text in state.items() if key != gone}


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_every_generation_stays_what_it_was(backend: str, tmp_path: Path) -> None:
    url = "memory://" if backend == "memory" else f"sqlite:///{tmp_path}/agenthub.sqlite3"
    app = make_app(tmp_path, url, AGENTHUB_SERVICES="knowledge.*,platform.authentication", AGENTHUB_MAINTENANCE="off")
    TimeMachine.api = Api(app).login()
    examples = 8 if backend == "memory" else 3
    run_state_machine_as_test(
        TimeMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=14,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
