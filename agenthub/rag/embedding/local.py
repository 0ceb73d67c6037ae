"""The embedded model: all-MiniLM-L6-v2 on this processor, with no key and no network.

Loaded on first use and once a process, so never before gunicorn forks. Each text goes through the model alone: int8 activations
are scaled over a batch, and a vector must depend on its text only.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.threads import give_way
from agenthub.rag.embedding.contract import ModelSignature, Vectors, check_texts
from agenthub.rag.embedding.weights import (
    DIMENSION,
    INSTALL_HINT,
    MAX_TOKENS,
    MODEL,
    WEIGHTS_SHA256,
    ModelDescription,
    find_weights,
    read_description,
)

DEFAULT_THREADS: Final = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model in memory, and the process it was loaded in. `encode` gives a text's vector."""

    process: int
    encode: Callable[[str], NDArray[np.float32]]
    pool: ThreadPoolExecutor
    background: ThreadPoolExecutor


class LocalEmbedder:
    """The model in `directory` by onnxruntime; where none was built, the installed weights by numpy, under another signature."""

    model = MODEL

    def __init__(self, directory: Path, *, threads: int | None = None, weights_folder: Path | None = None) -> None:
        """`threads` texts of one call are embedded at once: by default two, or one on a single processor."""
        self._directory = directory
        self._weights_folder = weights_folder
        self._threads = threads or min(DEFAULT_THREADS, os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._described: tuple[ModelDescription | None, ModelSignature] | None = None

    @property
    def signature(self) -> ModelSignature:
        """See `Embedder.signature`. Raises: ProviderFailure when neither model nor weights are installed."""
        with self._lock:
            return self._describe()[1]

    def embed(self, texts: Sequence[str], *, background: bool = False) -> Vectors:
        """See `Embedder.embed`. Text after the 256th token is not looked at."""
        check_texts(texts)
        loaded = self._load()
        if background:
            rows = list(loaded.background.map(loaded.encode, texts))
        elif len(texts) == 1:  # a question doesn't queue behind a document
            rows = [loaded.encode(texts[0])]
        else:
            rows = list(loaded.pool.map(loaded.encode, texts))
        return np.stack(rows) if rows else np.empty((0, DIMENSION), np.float32)

    def load(self) -> None:
        """Load the model unless it is loaded, and run it once. Raises: ProviderFailure."""
        self._load().encode("ready")

    def close(self) -> None:
        """See `Embedder.close`."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded and loaded.process == os.getpid():
            loaded.pool.shutdown(wait=True, cancel_futures=True)
            loaded.background.shutdown(wait=True, cancel_futures=True)

    def _describe(self) -> tuple[ModelDescription | None, ModelSignature]:
        if self._described is None:
            description = read_description(self._directory)
            if description is None:
                find_weights(self._weights_folder)
                _log.warning("no model in %s: embedding by numpy, slowly; run: %s", self._directory, INSTALL_HINT)
            self._described = (description, _signature(description))
        return self._described

    def _load(self) -> _Loaded:
        with self._lock:
            if self._loaded is None or self._loaded.process != os.getpid():
                description, _ = self._describe()
                encoders = import_module("agenthub.rag.embedding.encoders")  # 20 MB that a process without texts to embed doesn't need
                if description is None:
                    encode = encoders.open_numpy(find_weights(self._weights_folder))
                else:
                    encode = encoders.open_onnx(self._directory, description)
                pool = ThreadPoolExecutor(self._threads, thread_name_prefix="embed")
                background = ThreadPoolExecutor(self._threads, "embed-background", give_way)
                self._loaded = _Loaded(os.getpid(), encode, pool, background)
            return self._loaded


def _signature(description: ModelDescription | None) -> ModelSignature:
    if description is None:
        return ModelSignature(MODEL, f"sha256:{WEIGHTS_SHA256}", "float32", DIMENSION, MAX_TOKENS)
    return ModelSignature(MODEL, f"sha256:{description.onnx_sha256}", "int8", DIMENSION, MAX_TOKENS)
