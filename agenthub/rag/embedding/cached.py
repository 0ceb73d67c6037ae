"""An embedder that remembers: a text seen before costs a look-up, and one that occurs twice in a call is embedded once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.observe import Observer, Unobserved
from agenthub.core.single_flight import SingleFlight
from agenthub.rag.embedding.contract import Embedder, ModelSignature, VectorCache, Vectors, check_texts

TTL_SECONDS: Final = 7 * 86_400.0
COUNTER: Final = "embedding_cache"
_FORGOTTEN_SECONDS: Final = 1.0
_LENGTH_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class CacheTotals:
    """Texts answered from the cache, and texts that had to be embedded, since this process opened it."""

    hits: int
    misses: int


class CacheTally:
    """Counts hits and misses of all models of a process, for the observer and for `GET /api/embeddings/cache`."""

    def __init__(self, observer: Observer | None = None) -> None:
        self._observer: Observer = observer or Unobserved()
        self._lock = threading.Lock()
        self._totals = CacheTotals(0, 0)

    def count(self, hits: int, misses: int) -> None:
        """Add to the totals."""
        with self._lock:
            self._totals = CacheTotals(self._totals.hits + hits, self._totals.misses + misses)
        if hits:
            self._observer.count(COUNTER, hits, result="hit")
        if misses:
            self._observer.count(COUNTER, misses, result="miss")

    def totals(self) -> CacheTotals:
        """The totals now."""
        with self._lock:
            return self._totals


class CachedEmbedder:
    """Implements `Embedder` before another one. An entry that is not a vector of this model is a miss.

    Of the threads of a process that miss the same text at once one has it embedded (docs/adr/0017 says why not across processes).
    """

    def __init__(self, embedder: Embedder, cache: VectorCache, tally: CacheTally) -> None:
        self._embedder = embedder
        self._cache = cache
        self._tally = tally
        self._making: SingleFlight[NDArray[np.float32]] = SingleFlight()

    @property
    def model(self) -> str:
        """See `Embedder.model`."""
        return self._embedder.model

    @property
    def signature(self) -> ModelSignature:
        """See `Embedder.signature`."""
        return self._embedder.signature

    def embed(self, texts: Sequence[str], *, background: bool = False) -> Vectors:
        """See `Embedder.embed`. A repeated text counts as one look-up."""
        check_texts(texts)
        signature = self.signature
        names = {text: _name(signature, text) for text in texts}
        rows = self._cached(names, signature.dimension)
        missing = [text for text in names if text not in rows]
        self._tally.count(len(rows), len(missing))
        if missing:
            rows.update(self._making.get_many(missing, partial(self._embedded, names, background)))
        return np.stack([rows[text] for text in texts]) if rows else np.empty((0, signature.dimension), np.float32)

    def forget(self, texts: Sequence[str]) -> None:
        """Overwrite what is kept of these texts: an entry that is not a vector is a miss."""
        signature = self.signature
        if texts:
            self.withdraw([_name(signature, text) for text in texts])

    def recall(self, texts: Sequence[str]) -> dict[str, bytes]:
        """What the cache has of these texts, by the names it has them under; nothing is embedded."""
        return self._cache.get_many([_name(self.signature, text) for text in texts]) if texts else {}

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Put what `recall` gave back into the cache, for as long as a new vector stays; what is no vector of this model is left out."""
        dimension = self.signature.dimension
        self._cache.set_many({name: entry for name, entry in entries.items() if _read(entry, dimension) is not None}, TTL_SECONDS)

    def withdraw(self, names: Sequence[str]) -> None:
        """Overwrite what is kept under these names."""
        self._cache.set_many(dict.fromkeys(names, b""), _FORGOTTEN_SECONDS)

    def load(self) -> None:
        """Have the model ready, if it is one of this machine: an endpoint is asked for nothing."""
        load = getattr(self._embedder, "load", None)
        if load is not None:
            load()

    def close(self) -> None:
        """See `Embedder.close`."""
        self._embedder.close()

    def _embedded(self, names: Mapping[str, str], background: bool, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Embed texts that are not in the cache, and put them there."""
        rows = dict(zip(texts, self._embedder.embed(texts, background=background), strict=True))
        self._cache.set_many({names[text]: row.astype("<f4").tobytes() for text, row in rows.items()}, TTL_SECONDS)
        return rows

    def _cached(self, names: dict[str, str], dimension: int) -> dict[str, NDArray[np.float32]]:
        entries = self._cache.get_many(list(names.values()))
        found = ((text, _read(entries[name], dimension)) for text, name in names.items() if name in entries)
        return {text: vector for text, vector in found if vector is not None}


def _name(signature: ModelSignature, text: str) -> str:
    """Hex SHA-256 over everything the vector depends on."""
    return hashlib.sha256(bytes.fromhex(signature.digest) + text.encode("utf-8", "surrogatepass")).hexdigest()


def _read(entry: bytes, dimension: int) -> NDArray[np.float32] | None:
    if len(entry) != 4 * dimension:
        return None
    vector = np.frombuffer(entry, "<f4").astype(np.float32)
    length = float(np.linalg.norm(vector.astype(np.float64)))  # of NaN: compares false
    return vector if abs(length - 1.0) < _LENGTH_TOLERANCE else None
