"""What is cached, under which key, for how long. Nothing else in AgentHub makes a cache entry.

| kind | whose | key | holds | for |
|---|---|---|---|---|
| `embedding` | everyone's | SHA-256 of the model's signature and the text | little-endian float32 | 7 days |
| `result` | the tenant's | knowledge base, generation, manifest's hash, release, the whole request | the answer's JSON | 10 minutes |
| `warm` | everyone's | the same for all | a random word: the last request to warm | 1 hour |
| `hot` | everyone's | who calls, on BigQuery only | the answer's rows (repositories/hot_reads.py) | 10 seconds |
| `rate` | everyone's | whom it counts, and the minute | a counter (cache/limits.py) | 2 minutes |

Every key is the SHA-256 of what its value depends on, so an entry is never wrong, only unused: nothing relies on a delete. Who is signed
in and what they may do is read from the database in every request (docs/adr/0011-cache.md), but for BigQuery, where that takes a second:
a kept answer names the marks it was read under, and whoever changes rows puts new marks before it answers (docs/adr/0027-hot-reads.md).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agenthub.cache.contract import Cache
from agenthub.cache.keys import CacheKeys, ScopedCache
from agenthub.cache.repeats import Repeats
from agenthub.core.single_flight import SingleFlight
from agenthub.core.types import EVERY_TENANT, TenantId


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entry. `version` is raised when the form of its values changes, `ttl_seconds` bounds the life of every entry."""

    name: str
    version: int
    ttl_seconds: float


EMBEDDING: Final = Kind("embedding", 1, 7 * 86_400.0)
RESULT: Final = Kind("result", 1, 600.0)
"""Short because a text erased from a knowledge base may stand in it: flushed then, and gone from every server after this time."""

RATE: Final = Kind("rate", 1, 120.0)

HOT: Final = Kind("hot", 1, 10.0)
"""Also how long a writer waits that can't tell the others: what was kept has expired by then."""

MARK: Final = Kind("hot", 1, 86_400.0)
"""What changes when rows change that hot entries were made of. Of the same kind, so that one round trip gets both."""

WARM: Final = Kind("warm", 1, 3600.0)
"""The last request to warm all processes: a random word (repositories/knowledge/warming_thread.py)."""

KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in (EMBEDDING, RESULT, RATE)}
"""Every kind by its name: what can be flushed."""


def hot_entries(cache: Cache, keys: CacheKeys) -> ScopedCache:
    """Hot entries and marks by name, on a cache whose keys move to no other server. Only who has a token can make the name of its entry."""
    return ScopedCache(cache, keys, EVERY_TENANT, HOT.name, HOT.version)


class CachePolicy:
    """The cache as the rest of AgentHub sees it: by kind."""

    def __init__(self, cache: Cache, keys: CacheKeys) -> None:
        self.cache = cache
        self.keys = keys
        self._results: SingleFlight[tuple[bytes, bool]] = SingleFlight()
        self._repeats = Repeats(RESULT.ttl_seconds)

    def embeddings(self) -> ScopedCache:
        """Vectors by name, shared by all tenants: a vector says nothing about who had its text embedded."""
        return ScopedCache(self.cache, self.keys, EVERY_TENANT, EMBEDDING.name, EMBEDDING.version)

    def result(self, tenant_id: TenantId, name: Sequence[str], make: Callable[[], tuple[bytes, bool]]) -> bytes:
        """The result of that name: kept, or made by one of the threads that ask for it now. `make` says also whether to keep it.

        What this process is asked for the first time lately is neither looked for nor kept: most questions are asked once, and
        both would cost each of them a tenth of what it takes to answer (docs/adr/0017). Raises: what `make` raises.
        """
        key = self.keys.key(tenant_id, RESULT.name, RESULT.version, *name)
        if not self._repeats.note(key):
            return self._results.get(key, make)[0]
        found = self.cache.get_many([key]).get(key)
        return found if found is not None else self._results.get(key, lambda: self._kept(key, make))[0]

    def _kept(self, key: str, make: Callable[[], tuple[bytes, bool]]) -> tuple[bytes, bool]:
        value, keep = make()
        if keep:
            self.cache.set_many({key: value}, RESULT.ttl_seconds)
        return value, keep

    def ask_to_warm(self) -> bool:
        """Have every process that shares this cache warm itself, within seconds; False when the cache can't be told."""
        key, word = self._warm_key(), secrets.token_hex(8).encode()
        self.cache.set_many({key: word}, WARM.ttl_seconds)
        return self.cache.get_many([key]).get(key) == word

    def asked_to_warm(self) -> str | None:
        """The word of the last request to warm, if there is one."""
        word = self.cache.get_many([self._warm_key()]).get(self._warm_key())
        return word.hex() if word is not None else None

    def _warm_key(self) -> str:
        return self.keys.key(EVERY_TENANT, WARM.name, WARM.version, "request")

    def flush(self, kind: Kind) -> bool:
        """Forget all entries of a kind; False when the cache can't be told."""
        return self.cache.flush(self.keys.namespace(kind.name, kind.version))
