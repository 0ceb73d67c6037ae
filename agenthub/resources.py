"""What a process has opened: storage at once, the rest on first use, and only what its services need."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from flask import Flask

from agenthub.core.clock import Clock, SystemClock
from agenthub.core.errors import CacheUnavailable, ProviderFailure, SettingsError
from agenthub.core.observe import Observer
from agenthub.rag.configuration import MilvusSettings
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.registry import Need
from agenthub.repositories.exported import EXPORTED_TABLES
from agenthub.repositories.platform.deployment_secrets import CACHE, deployment_secret
from agenthub.settings import Settings
from agenthub.storage.contract import Storage

if TYPE_CHECKING:
    from agenthub.cache.contract import Cache
    from agenthub.cache.keys import ScopedCache
    from agenthub.cache.limits import RateLimits
    from agenthub.cache.policy import CachePolicy
    from agenthub.fetching.fetch import Fetcher
    from agenthub.fetching.robots import Robots
    from agenthub.llm.contract import LanguageModel
    from agenthub.rag.embedding.catalog import EmbedderCatalog
    from agenthub.rag.engine import KnowledgeEngine
    from agenthub.rag.reranking import Reranker
    from agenthub.rag.volume import Volume
    from agenthub.repositories.analytics.figures import Analytics
    from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
    from agenthub.repositories.knowledge.upkeep import UpkeepThread
    from agenthub.repositories.knowledge.warming_thread import WarmingThread
    from agenthub.storage.warehouse.contract import Warehouse
    from agenthub.storage.warehouse.exporting import Exporter
    from agenthub.storage.warehouse.thread import WarehouseThread

_ALL: Final[frozenset[Need]] = frozenset({"storage", "cache", "knowledge", "embedders", "llm"})
_SCHEMA: Final = "agenthub.storage.schema"


class Resources:
    """The engines of one process. Safe to use from many threads; each engine is opened once, when first asked for."""

    def __init__(
        self, settings: Settings, storage: Storage, observer: Observer, *, needs: frozenset[Need] = _ALL, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self.storage = storage
        self.observer = observer
        self.needs = needs
        self.clock: Clock = clock or SystemClock()
        self._opened: dict[str, Any] = {}
        self._lock = threading.RLock()

    @property
    def parsing(self) -> ParsingLimits:
        """What reading one document may cost."""
        return self.settings.parsing

    @property
    def cache(self) -> Cache:
        """The cache. A failing one is a miss, never an error."""
        opened: Cache = self._open("cache", "cache", self._open_cache)
        return opened

    @property
    def cached(self) -> CachePolicy:
        """The cache by kind of entry."""
        opened: CachePolicy = self._open("cache", "cached", self._open_policy)
        return opened

    @property
    def hot(self) -> ScopedCache:
        """Answers about who calls, where the database takes a second for one and the cache is shared (repositories/hot_reads.py)."""
        opened: ScopedCache = self._open("storage", "hot", self._open_hot)
        return opened

    @property
    def embedders(self) -> EmbedderCatalog:
        """The embedding models, before the embedding cache."""
        opened: EmbedderCatalog = self._open("embedders", "embedders", self._open_embedders)
        return opened

    @property
    def llm(self) -> LanguageModel | None:
        """The language model; None where no endpoint is configured."""
        if self.settings.llm is None:
            return None
        opened: LanguageModel = self._open("llm", "llm", self._open_llm)
        return opened

    @property
    def reranker(self) -> Reranker | None:
        """The model that orders passages anew; None where no endpoint is configured."""
        if self.settings.rerank is None:
            return None
        opened: Reranker = self._open("knowledge", "reranker", self._open_reranker)
        return opened

    @property
    def volume(self) -> Volume:
        """The files of all knowledge bases."""
        opened: Volume = self._open("knowledge", "volume", self._open_volume)
        return opened

    @property
    def knowledge(self) -> KnowledgeEngine:
        """The engine of knowledge bases over the volume."""
        opened: KnowledgeEngine = self._open("knowledge", "knowledge", self._open_knowledge)
        return opened

    @property
    def upkeep(self) -> UpkeepThread:
        """Merging and erasing behind the requests of this process."""
        opened: UpkeepThread = self._open("knowledge", "upkeep", self._open_upkeep)
        return opened

    @property
    def warming(self) -> WarmingThread:
        """Warming behind the requests of this process, and the record of what it is asked for."""
        opened: WarmingThread = self._open("knowledge", "warming", self._open_warming)
        return opened

    @property
    def fetcher(self) -> Fetcher:
        """The one door for HTTP to addresses that users name."""
        opened: Fetcher = self._open("knowledge", "fetcher", lambda: _call("agenthub.fetching.fetch:Fetcher", self.settings.fetching))
        return opened

    @property
    def robots(self) -> Robots:
        """What sites ask robots not to fetch."""
        opened: Robots = self._open("knowledge", "robots", lambda: _call("agenthub.fetching.robots:Robots", self.fetcher))
        return opened

    @property
    def warehouse(self) -> Warehouse | None:
        """Where events flow to; None where no warehouse is configured. Nobody is asked before it is used."""
        if self.settings.warehouse is None:
            return None
        opened: Warehouse = self._open("storage", "warehouse", self._open_warehouse)
        return opened

    @property
    def exporter(self) -> Exporter | None:
        """What brings events there; None where no warehouse is configured."""
        if self.settings.warehouse is None:
            return None
        opened: Exporter = self._open("storage", "exporter", self._open_exporter)
        return opened

    @property
    def exporting(self) -> WarehouseThread | None:
        """The exporter's thread; None where no warehouse is configured."""
        if self.settings.warehouse is None:
            return None
        opened: WarehouseThread = self._open("storage", "exporting", self._open_exporting)
        return opened

    @property
    def analytics(self) -> Analytics:
        """Figures over events: from the warehouse, where there is one."""
        opened: Analytics = self._open("storage", "analytics", self._open_analytics)
        return opened

    @property
    def limits(self) -> RateLimits:
        """How many requests a minute."""
        opened: RateLimits = self._open("cache", "limits", self._open_limits)
        return opened

    def _open(self, need: Need, name: str, opener: Callable[[], Any]) -> Any:
        """The engine, opened by the first thread that asks.

        Raises: LookupError when no service of this process declared the need: a mistake in the registry.
        """
        if need not in self.needs:
            raise LookupError(f"no service of this process declared that it needs {need}")
        if name not in self._opened:
            with self._lock:
                if name not in self._opened:
                    self._opened[name] = opener()
        return self._opened[name]

    def _open_cache(self) -> Any:
        tally = _call("agenthub.cache.measured:KindTally", self.observer)
        cache = _call("agenthub.cache.open:open_cache", self.settings.cache, lambda: deployment_secret(self.storage, CACHE), tally)
        return _call("agenthub.cache.measured:MeasuredCache", cache, tally)

    def _open_hot_cache(self) -> Any:
        tally = _call("agenthub.cache.measured:KindTally", self.observer)
        opener: Callable[..., Any] = _found("agenthub.cache.open:open_cache")
        cache = opener(self.settings.cache, lambda: deployment_secret(self.storage, CACHE), tally, pinned=True)
        return _call("agenthub.cache.measured:MeasuredCache", cache, tally)

    def _open_hot(self) -> Any:
        cache = self._open("storage", "hot_cache", self._open_hot_cache)
        return _call("agenthub.cache.policy:hot_entries", cache, _call("agenthub.cache.keys:CacheKeys", self.settings.cache.deployment))

    def _open_policy(self) -> Any:
        keys = _call("agenthub.cache.keys:CacheKeys", self.settings.cache.deployment)
        return _call("agenthub.cache.policy:CachePolicy", self.cache, keys)

    def _open_limits(self) -> Any:
        return _call("agenthub.cache.limits:RateLimits", self.cache, self.cached.keys, self.clock)

    def _open_embedders(self) -> Any:
        cache = self.cached.embeddings() if "cache" in self.needs else None
        opener: Callable[..., Any] = _found("agenthub.rag.embedding.open:open_embedders")
        return opener(self.settings.embedding, cache=cache, observer=self.observer)

    def _open_reranker(self) -> Any:
        return _call("agenthub.rag.reranking_endpoint:EndpointReranker", self.settings.rerank)

    def _open_llm(self) -> Any:
        return _call("agenthub.llm.open:open_model", self.settings.llm, self.observer)

    def _open_volume(self) -> Any:
        rag = self.settings.rag
        make: Callable[..., Any] = _found("agenthub.rag.volume:Volume")
        return make(self.settings.volume_path, mapping=rag.mapping, free_space_floor_bytes=rag.free_space_floor_bytes)

    def _open_knowledge(self) -> Any:
        milvus = self.settings.milvus
        segments = None if milvus is None else _call("agenthub.rag.milvus.segments:MilvusSegments", self.volume, self.settings.rag, milvus)
        return _call("agenthub.rag.engine:KnowledgeEngine", self.volume, self.settings.rag, self.observer, segments)

    def _open_upkeep(self) -> Any:
        module = "agenthub.repositories.knowledge.upkeep"
        upkeep = _found(f"{module}:Upkeep")(self.storage, self.knowledge, self.forget_texts, observer=self.observer)
        return _found(f"{module}:UpkeepThread")(upkeep, enabled=self.settings.maintenance)

    def _open_warming(self) -> Any:
        module = "agenthub.repositories.knowledge.warming"
        share = _found(f"{module}:BYTES_SHARE")
        budget_bytes = int(self.settings.rag.segment_cache_bytes * share)
        warming = _call(f"{module}:Warming", self.storage, self.knowledge, self.embedders, budget_bytes)
        make: Callable[..., Any] = _found("agenthub.repositories.knowledge.warming_thread:WarmingThread")
        return make(warming, self.cached.asked_to_warm, enabled=self.settings.warming)

    def _open_warehouse(self) -> Any:
        configured = self.settings.warehouse
        return None if configured is None else _call("agenthub.storage.bigquery.warehouse:BigQueryWarehouse", configured.bigquery)

    def _open_exporter(self) -> Any:
        configured, module = self.settings.warehouse, "agenthub.storage.warehouse.exporting"
        if configured is None:
            return None
        limits = _call(
            f"{module}:Limits", configured.batch_rows, configured.batch_bytes, configured.interval_seconds, configured.lease_seconds
        )
        return _call(f"{module}:Exporter", self.storage, self.warehouse, EXPORTED_TABLES, limits, self.observer)

    def _open_exporting(self) -> Any:
        configured = self.settings.warehouse
        if configured is None:
            return None
        make: Callable[..., Any] = _found("agenthub.storage.warehouse.thread:WarehouseThread")
        return make(self.exporter, configured.interval_seconds, enabled=configured.enabled)

    def _open_analytics(self) -> Any:
        target = "agenthub.repositories.analytics.figures:Analytics"
        return _call(target, self.storage) if self.exporter is None else _call(target, self.storage, self.warehouse, self.exporter.lag)

    def begin(self) -> None:
        """Start what works behind the requests. For a process that serves, after its fork."""
        if self.exporting is not None:
            self.exporting.begin()
        if "knowledge" in self.needs:
            self.warming.begin()

    def end(self) -> None:
        """Stop what `begin` started, within 2 seconds."""
        with self._lock:
            running = [self._opened[name] for name in ("warming", "exporting") if name in self._opened]
        for thread in running:
            thread.close()

    def forget_texts(self, base: KnowledgeBase, texts: Sequence[str]) -> Sequence[str]:
        """Overwrite what the embedding cache keeps of a knowledge base's texts, and put all kept results out of use.

        Returns what remains, in words: a server that can't be told now may keep its entries until they expire.
        """
        remains: list[str] = []
        servers = self.cache.check() if "cache" in self.needs else ()
        if servers:
            minutes = round(_found("agenthub.cache.policy:RESULT").ttl_seconds / 60)
            remains.append(f"answers that were kept on cache servers, out of use from now on, until they expire: at most {minutes} minutes")
        if not all(server.ok for server in servers):
            days = round(_found("agenthub.cache.policy:EMBEDDING").ttl_seconds / 86_400)
            remains.append(f"entries on cache servers that did not answer, until they expire: vectors of the texts for at most {days} days")
        if "cache" in self.needs:
            self.cached.flush(_found("agenthub.cache.policy:RESULT"))
        if "embedders" in self.needs:
            remains += self._forget_vectors(base, texts)
        return remains

    def _forget_vectors(self, base: KnowledgeBase, texts: Sequence[str]) -> list[str]:
        """Overwrite the cached vectors of these texts by all models that the knowledge base was in; what remains, in words.

        Raises: ProviderFailure when the model that it is in can't say what its vectors depend on.
        """
        remains: list[str] = []
        models: Sequence[str] = _found("agenthub.repositories.knowledge.reembeddings:ReembeddingRepository")(self.storage).models_of(base)
        for model in models:
            try:
                self.embedders.forget(model, texts)
            except ProviderFailure:
                if model == base.embedding_model:
                    raise
                remains.append(f"cached vectors of the texts by {model}, which did not answer, until they expire: at most 7 days")
        return remains

    # --- what health asks: facts without secrets, or an exception of core.errors ---

    def check_storage(self) -> Mapping[str, Any]:
        """The storage answers, its rows did not move elsewhere, and its schema is one this release can serve."""
        self.storage.ping()
        writes = _call("agenthub.storage.gate:check_serving", self.storage)
        if self.storage.backend == "postgresql":
            _call(f"{_SCHEMA}:check_schema", self.storage)
        revision = None if self.storage.backend == "memory" else _call(f"{_SCHEMA}:schema_revision", self.storage)
        return {"backend": self.storage.backend, "schema_revision": revision, "writes": writes}

    def check_warehouse(self) -> Mapping[str, Any]:
        """Events reach the warehouse; how far it is behind. Raises: WarehouseStuck, saying why."""
        if self.exporter is None:
            return {}
        facts: Mapping[str, Any] = _call("agenthub.storage.warehouse.health:facts_of", self.exporter.standing())
        return facts

    def check_volume(self) -> Mapping[str, Any]:
        """A file can be made, closed, read back and removed."""
        report = self.volume.self_test()
        return {"kind": report.kind, "mapped": report.mapped, "free_bytes": report.free_bytes, "total_bytes": report.total_bytes}

    def check_vectors(self) -> Mapping[str, Any]:
        """The vector engine's server answers."""
        return self.knowledge.segments.self_test()

    def check_cache(self) -> Mapping[str, Any]:
        """Each cache server takes, keeps and gives; what it holds. Raises: CacheUnavailable, naming the servers that don't."""
        failing = [f"{server.address}: {server.reason}" for server in self.cache.check() if not server.ok]
        if failing:
            raise CacheUnavailable("; ".join(failing))
        return asdict(self.cache.statistics())

    def check_embedding(self) -> Mapping[str, Any]:
        """The default model is there and says what its vectors depend on."""
        signature = self.embedders.default.signature
        return {"model": signature.model, "dimension": signature.dimension, "signature": signature.text}

    def close(self) -> None:
        """Give threads and connections back; the object is of no use afterwards."""
        with self._lock:
            for engine in reversed(self._opened.values()):
                if hasattr(engine, "close"):
                    engine.close()
            self._opened.clear()
        self.storage.close()


def _found(target: str) -> Any:
    """What `module:name` names; the module is imported only now."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _call(target: str, *arguments: Any) -> Any:
    return _found(target)(*arguments)


def _require_client(milvus: MilvusSettings | None) -> None:
    """Return if what speaks to the vector engine is installed. Raises: SettingsError."""
    wanted = [] if milvus is None else ["pymilvus", "milvus_lite"] if milvus.lite else ["pymilvus"]
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        raise SettingsError(
            [f"VECTOR_STORE_URL needs {' and '.join(missing)}, not installed here: pip install --no-deps -r requirements-milvus.txt"]
        )


def open_resources(settings: Settings, app: Flask, observer: Observer, needs: frozenset[Need] = _ALL) -> Resources:
    """The resources of a process, its storage reached and its schema one this release can serve (SQLite is migrated).

    Raises: SettingsError or StorageUnavailable, saying what to do, when it can't start so.
    """
    if "knowledge" in needs:
        _require_client(settings.milvus)
    storage: Storage = _call("agenthub.storage.open:open_storage", settings.storage, app)
    resources = Resources(settings, storage, observer, needs=needs)
    if storage.backend == "bigquery" and settings.cache.shared:
        resources.storage = _call("agenthub.repositories.hot_reads:HotReads", storage, lambda: resources.hot)
    try:
        if storage.backend != "memory":
            _call(f"{_SCHEMA}:check_schema", storage)
        for need, name in (("cache", "cache"), ("embedders", "embedders")):
            if need in needs:
                getattr(resources, name)  # cheap to open, and their settings are wrong now or never
    except BaseException:
        resources.close()
        raise
    return resources
