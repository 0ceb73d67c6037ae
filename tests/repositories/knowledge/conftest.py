"""What tests of knowledge bases may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.repositories.knowledge.backends import Backend, Hands, backend_of


@pytest.fixture(scope="module", params=["memory", "memory-milvus", "sqlite", "postgresql", "bigquery"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Every storage; with one of them both vector engines, which know nothing of storages."""
    with backend_of(request, request.param, tmp_path_factory) as made:
        yield made


@pytest.fixture
def hands() -> Hands:
    """What moves the clock of a test's storage."""
    return Hands()
