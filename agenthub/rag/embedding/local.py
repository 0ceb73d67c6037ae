"""The embedded model: all-MiniLM-L6-v2 on this processor, with no key and no network.

Loaded on first use and once a process, so never before gunicorn forks. Each text goes through the model alone: int8 activations
are scaled over a batch, and a vector must depend on its text only.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import (
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    RuntimeException,
)
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from agenthub.core.errors import ProviderFailure
from agenthub.core.threads import give_way
from agenthub.rag.embedding.contract import ModelSignature, Vectors, check_texts
from agenthub.rag.embedding.numpy_encoder import NumpyEncoder
from agenthub.rag.embedding.weights import (
    DIMENSION,
    INSTALL_HINT,
    MAX_TOKENS,
    MODEL,
    ONNX_FILE,
    TOKENIZER_FILE,
    WEIGHTS_SHA256,
    ModelDescription,
    find_weights,
    read_description,
    sha256_of,
)

DEFAULT_THREADS: Final = 2
MAX_CHARACTERS: Final = 32_768  # 256 tokens are far fewer; saves tokenizing a book for its first page
# onnxruntime's errors have no base class of their own.
_FAILURES: Final = (EPFail, Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile, RuntimeException)
_log = logging.getLogger(__name__)


class _Encoder(Protocol):
    def encode(self, ids: Sequence[int]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model in memory, and the process it was loaded in."""

    process: int
    tokenizer: Tokenizer
    encoder: _Encoder
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
            rows = list(loaded.background.map(lambda text: _encode(loaded, text), texts))
        elif len(texts) == 1:  # a question doesn't queue behind a document
            rows = [_encode(loaded, texts[0])]
        else:
            rows = list(loaded.pool.map(lambda text: _encode(loaded, text), texts))
        return np.stack(rows) if rows else np.empty((0, DIMENSION), np.float32)

    def load(self) -> None:
        """Load the model unless it is loaded, and run it once. Raises: ProviderFailure."""
        _encode(self._load(), "ready")

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
                tokenizer, encoder = self._numpy() if description is None else self._onnx(description)
                tokenizer.no_padding()
                tokenizer.enable_truncation(MAX_TOKENS)
                pool = ThreadPoolExecutor(self._threads, thread_name_prefix="embed")
                background = ThreadPoolExecutor(self._threads, "embed-background", give_way)
                self._loaded = _Loaded(os.getpid(), tokenizer, encoder, pool, background)
            return self._loaded

    def _onnx(self, description: ModelDescription) -> tuple[Tokenizer, _Encoder]:
        model = _checked(self._directory / ONNX_FILE, description.onnx_sha256)
        tokenizer = _checked(self._directory / TOKENIZER_FILE, description.tokenizer_sha256)
        return Tokenizer.from_file(str(tokenizer)), OnnxEncoder(model)

    def _numpy(self) -> tuple[Tokenizer, _Encoder]:
        weights = find_weights(self._weights_folder)
        return Tokenizer.from_file(str(weights.tokenizer)), NumpyEncoder(load_file(weights.safetensors))


class OnnxEncoder:
    """Token ids of one text to its normalized vector, by a graph of `build_graph`. Safe to share between threads."""

    def __init__(self, model: Path) -> None:
        """Raises: ProviderFailure when onnxruntime can't run the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except _FAILURES as error:
            raise ProviderFailure(f"onnxruntime can't run the embedding model: {error}") from error

    def encode(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The vector, float32 of length one. `ids` are at most 256."""
        try:
            (vector,) = self._session.run(["vector"], {"input_ids": np.array([ids], np.int64)})
        except _FAILURES as error:
            raise ProviderFailure(f"the embedding model failed: {error}") from error
        row: NDArray[np.float32] = np.asarray(vector, np.float32)[0]
        return row


def _encode(loaded: _Loaded, text: str) -> NDArray[np.float32]:
    # A lone surrogate is no character; the tokenizer takes UTF-8 only.
    clean = text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    return loaded.encoder.encode(loaded.tokenizer.encode(clean).ids)


def _signature(description: ModelDescription | None) -> ModelSignature:
    if description is None:
        return ModelSignature(MODEL, f"sha256:{WEIGHTS_SHA256}", "float32", DIMENSION, MAX_TOKENS)
    return ModelSignature(MODEL, f"sha256:{description.onnx_sha256}", "int8", DIMENSION, MAX_TOKENS)


def _checked(path: Path, sha256: str) -> Path:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ProviderFailure(f"the embedding model can't be read: {error}; run: {INSTALL_HINT}") from error
    if found != sha256:
        raise ProviderFailure(f"{path} is damaged (SHA-256 differs); run: {INSTALL_HINT}")
    return path
