"""The embedding cache answers what was seen, embeds the rest once, and distrusts what it finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from agenthub.core.errors import InvalidInput, ProviderFailure
from agenthub.rag.embedding.cached import CachedEmbedder, CacheTally, CacheTotals
from agenthub.rag.embedding.contract import ModelSignature, Vectors, check_texts


class CountingEmbedder:
    """An embedder whose vectors are made from the text's characters; it notes what it was asked."""

    model = "counting"

    def __init__(self, revision: str = "1") -> None:
        self.signature = ModelSignature("counting", revision, "float32", 4, 16)
        self.asked: list[list[str]] = []
        self.failing = False

    def embed(self, texts: Sequence[str], *, background: bool = False) -> Vectors:
        check_texts(texts)
        if self.failing:
            raise ProviderFailure("down")
        self.asked.append(list(texts))
        rows = np.array([[len(text), ord(text[0]), ord(text[-1]), 1] for text in texts], np.float32)
        vectors: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return vectors

    def close(self) -> None:
        return None


class DictCache:
    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.ttl_seconds: set[float] = set()
        self.lookups = 0

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        self.lookups += 1
        return {key: self.entries[key] for key in keys if key in self.entries}

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        self.entries.update(items)
        self.ttl_seconds.add(ttl_seconds)


class Counters:
    def __init__(self) -> None:
        self.counted: dict[str, float] = {}

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        key = f"{name}:{labels['result']}"
        self.counted[key] = self.counted.get(key, 0) + amount

    def time(self, name: str, seconds: float, /, **labels: str) -> None:
        raise AssertionError("nothing is timed here")


def test_only_what_is_new_is_embedded_and_once() -> None:
    inner, counters = CountingEmbedder(), Counters()
    tally = CacheTally(counters)
    cached = CachedEmbedder(inner, DictCache(), tally)
    first = cached.embed(["a", "b", "a", "c"])
    second = cached.embed(["c", "d", "a"])
    assert inner.asked == [["a", "b", "c"], ["d"]]
    assert first[0].tobytes() == first[2].tobytes() == second[2].tobytes()
    assert second.tobytes() == inner.embed(["c", "d", "a"]).tobytes()
    assert tally.totals() == CacheTotals(hits=2, misses=4)
    assert counters.counted == {"embedding_cache:hit": 2, "embedding_cache:miss": 4}


def test_entries_are_bare_little_endian_floats_for_a_week() -> None:
    inner, cache = CountingEmbedder(), DictCache()
    vectors = CachedEmbedder(inner, cache, CacheTally()).embed(["text"])
    (key,), (entry,) = cache.entries.keys(), cache.entries.values()
    assert entry == vectors.astype("<f4").tobytes()
    assert len(key) == 64
    assert cache.ttl_seconds == {7 * 86400}


def test_models_share_nothing() -> None:
    cache, one, other = DictCache(), CountingEmbedder("1"), CountingEmbedder("2")
    CachedEmbedder(one, cache, CacheTally()).embed(["x"])
    CachedEmbedder(other, cache, CacheTally()).embed(["x"])
    assert (one.asked, other.asked) == ([["x"]], [["x"]])
    assert len(cache.entries) == 2


@pytest.mark.parametrize(
    "poison",
    [
        b"",
        b"short",
        b"\x80\x04." * 5 + b"x",
        np.full(4, np.nan, "<f4").tobytes(),
        np.zeros(4, "<f4").tobytes(),
        np.full(4, 7, "<f4").tobytes(),
        np.array([1, 0, 0, 0, 0], "<f4").tobytes(),
    ],
)
def test_a_foreign_value_is_a_miss(poison: bytes) -> None:
    inner, cache = CountingEmbedder(), DictCache()
    cached = CachedEmbedder(inner, cache, CacheTally())
    good = cached.embed(["x"])
    cache.entries = dict.fromkeys(cache.entries, poison)
    assert cached.embed(["x"]).tobytes() == good.tobytes()
    assert inner.asked == [["x"], ["x"]]
    assert cached.embed(["x"]).tobytes() == good.tobytes()
    assert len(inner.asked) == 2


def test_what_is_returned_may_be_changed() -> None:
    cached = CachedEmbedder(CountingEmbedder(), DictCache(), CacheTally())
    before = cached.embed(["x"]).copy()
    cached.embed(["x"])[0] = 0
    assert cached.embed(["x"]).tobytes() == before.tobytes()


def test_a_failing_model_leaves_nothing_behind() -> None:
    inner, cache = CountingEmbedder(), DictCache()
    inner.failing = True
    with pytest.raises(ProviderFailure):
        CachedEmbedder(inner, cache, CacheTally()).embed(["x"])
    assert cache.entries == {}


def test_what_was_seen_is_answered_while_the_model_fails() -> None:
    inner = CountingEmbedder()
    cached = CachedEmbedder(inner, DictCache(), CacheTally())
    before = cached.embed(["x"])
    inner.failing = True
    assert cached.embed(["x"]).tobytes() == before.tobytes()


def test_blank_texts_are_refused_by_their_place_in_the_call() -> None:
    cached = CachedEmbedder(CountingEmbedder(), DictCache(), CacheTally())
    cached.embed(["a"])
    with pytest.raises(InvalidInput) as caught:
        cached.embed(["a", "b", " "])
    assert caught.value.field == "texts[2]"


def test_no_texts_are_no_vectors() -> None:
    assert CachedEmbedder(CountingEmbedder(), DictCache(), CacheTally()).embed([]).shape == (0, 4)


def test_of_many_that_miss_a_text_at_once_one_has_it_embedded() -> None:
    inner, cache = CountingEmbedder(), DictCache()
    cached = CachedEmbedder(inner, cache, CacheTally())
    entered, go = threading.Event(), threading.Event()
    real = inner.embed

    def held(texts: Sequence[str], **_: bool) -> Vectors:
        entered.set()
        assert go.wait(20)
        return real(texts)

    inner.embed = held  # type: ignore[method-assign]
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(cached.embed, ["hot", "a"])
        assert entered.wait(20)
        rest = [pool.submit(cached.embed, ["hot"]) for _ in range(5)]
        while cache.lookups < 6:
            time.sleep(0.01)
        time.sleep(0.2)  # from the look-up to the queue
        go.set()
        vectors = [answer.result(30)[0].tobytes() for answer in [first, *rest]]
    assert len(set(vectors)) == 1
    assert inner.asked == [["hot", "a"]]


def test_a_failure_is_not_shared() -> None:
    inner = CountingEmbedder()
    cached = CachedEmbedder(inner, DictCache(), CacheTally())
    inner.failing = True
    with pytest.raises(ProviderFailure):
        cached.embed(["x"])
    inner.failing = False
    assert cached.embed(["x"]).shape == (1, 4)
