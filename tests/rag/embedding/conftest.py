"""The embedded model, built once a test session from the installed weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agenthub.rag.embedding.build import build_model
from agenthub.rag.embedding.local import LocalEmbedder

TEXTS = (
    "The Panthers defense gave up just 308 points, ranking sixth in the league.",
    "What similarity laws must be obeyed when constructing aeroelastic models of heated high speed aircraft?",
    "Ein kurzer deutscher Satz über Käse.",
    "東京タワーは高い",
    "x",
    "def build(source, target):\n    return None  # code",
    "A much longer passage. " * 60,
)


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "all-MiniLM-L6-v2-int8"
    build_model(directory)
    return directory


@pytest.fixture(scope="session")
def embedded(model_directory: Path) -> Iterator[LocalEmbedder]:
    embedder = LocalEmbedder(model_directory)
    yield embedder
    embedder.close()


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    return TEXTS
