"""What a process has opened: storage at once, the rest on first use, and only what its services need."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from flask import Flask

from agenthub.core.clock import Clock, SystemClock
from agenthub.core.observe import Observer
from agenthub.registry import Need
from agenthub.settings import Settings
from agenthub.storage.contract import Storage

if TYPE_CHECKING:
    from agenthub.cache.contract import Cache
    from agenthub.rag.embedding.catalog import EmbedderCatalog
    from agenthub.rag.engine import KnowledgeEngine

_ALL: Final[frozenset[Need]] = frozenset({"storage", "cache", "knowledge", "embedders"})


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
        self._opened: dict[Need, Any] = {}
        self._lock = threading.RLock()

    @property
    def cache(self) -> Cache:
        """The cache. A failing one is a miss, never an error."""
        opened: Cache = self._open("cache", partial(_call, "agenthub.cache.open:open_cache", self.settings.cache))
        return opened

    @property
    def embedders(self) -> EmbedderCatalog:
        """The embedding models."""
        opened: EmbedderCatalog = self._open("embedders", self._open_embedders)
        return opened

    @property
    def knowledge(self) -> KnowledgeEngine:
        """The engine of knowledge bases over the volume."""
        opened: KnowledgeEngine = self._open("knowledge", self._open_knowledge)
        return opened

    def _open(self, need: Need, opener: Callable[[], Any]) -> Any:
        """The engine, opened by the first thread that asks.

        Raises: LookupError when no service of this process declared the need: a mistake in the registry.
        """
        if need not in self.needs:
            raise LookupError(f"no service of this process declared that it needs {need}")
        if need not in self._opened:
            with self._lock:
                if need not in self._opened:
                    self._opened[need] = opener()
        return self._opened[need]

    def _open_embedders(self) -> Any:
        raise NotImplementedError

    def _open_knowledge(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        """Give threads and connections back; the object is of no use afterwards."""
        with self._lock:
            for engine in self._opened.values():
                engine.close()
            self._opened.clear()
        self.storage.close()


def _call(target: str, *arguments: Any) -> Any:
    """Call `module:function`, importing it only now."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)(*arguments)


def open_resources(settings: Settings, app: Flask, observer: Observer, needs: frozenset[Need] = _ALL) -> Resources:
    """The resources of a process.

    Raises: SettingsError or StorageUnavailable, saying what to do, when the storage can't be opened.
    """
    storage: Storage = _call("agenthub.storage.open:open_storage", settings.storage, app)
    return Resources(settings, storage, observer, needs=needs)
