"""What tests of the engine may ask for."""

from __future__ import annotations

import pytest

from tests.rag.samples import MakeEngine, milvus_engine, new_engine


@pytest.fixture(params=["volume", "milvus"])
def make_engine(request: pytest.FixtureRequest) -> MakeEngine:
    """Makes engines of either kind."""
    return milvus_engine if request.param == "milvus" else new_engine
