"""What tests of knowledge bases may ask for."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["volume", "milvus"])
def milvus(request: pytest.FixtureRequest) -> bool:
    """Whether chunks and vectors are in Milvus: what is promised of one vector engine is promised of both."""
    return bool(request.param == "milvus")
