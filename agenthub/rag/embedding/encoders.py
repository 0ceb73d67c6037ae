"""From a text to its vector in this process: the tokenizer, and the model by onnxruntime or by numpy. Imported when first needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

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
from agenthub.rag.embedding.numpy_encoder import NumpyEncoder
from agenthub.rag.embedding.weights import INSTALL_HINT, MAX_TOKENS, ONNX_FILE, TOKENIZER_FILE, ModelDescription, Weights, sha256_of

MAX_CHARACTERS: Final = 32_768  # 256 tokens are far fewer; saves tokenizing a book for its first page
# onnxruntime's errors have no base class of their own.
_FAILURES: Final = (EPFail, Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile, RuntimeException)
TextEncoder = Callable[[str], NDArray[np.float32]]


def open_onnx(directory: Path, description: ModelDescription) -> TextEncoder:
    """The built model, its files checked first. Raises: ProviderFailure."""
    model = _checked(directory / ONNX_FILE, description.onnx_sha256)
    tokenizer = _checked(directory / TOKENIZER_FILE, description.tokenizer_sha256)
    return _text_encoder(tokenizer, OnnxEncoder(model).encode)


def open_numpy(weights: Weights) -> TextEncoder:
    """The installed weights, at full precision."""
    return _text_encoder(weights.tokenizer, NumpyEncoder(load_file(weights.safetensors)).encode)


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


def _text_encoder(tokenizer_file: Path, encode: Callable[[Sequence[int]], NDArray[np.float32]]) -> TextEncoder:
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)

    def encoded(text: str) -> NDArray[np.float32]:
        # A lone surrogate is no character; the tokenizer takes UTF-8 only.
        clean = text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
        return encode(tokenizer.encode(clean).ids)

    return encoded


def _checked(path: Path, sha256: str) -> Path:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ProviderFailure(f"the embedding model can't be read: {error}; run: {INSTALL_HINT}") from error
    if found != sha256:
        raise ProviderFailure(f"{path} is damaged (SHA-256 differs); run: {INSTALL_HINT}")
    return path
