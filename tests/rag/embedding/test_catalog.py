"""The catalog holds the server's models and no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agenthub.core.errors import InvalidInput, SettingsError
from agenthub.rag.embedding.configuration import EmbeddingSettings, EndpointSettings
from agenthub.rag.embedding.contract import ModelCard
from agenthub.rag.embedding.open import open_embedders
from tests.servers.openai_server import openai_server

EMBEDDED = "all-MiniLM-L6-v2"
ENDPOINT = EndpointSettings("http://127.0.0.1:9/v1", "other-model", "key")


def test_the_embedded_model_is_the_default(model_directory: Path) -> None:
    catalog = open_embedders(EmbeddingSettings(model_directory))
    assert catalog.default is catalog.get(EMBEDDED)
    assert catalog.models() == (ModelCard(EMBEDDED, "embedded", True, 384, 256),)
    assert catalog.default.embed(["x"]).shape == (1, 384)
    catalog.close()


def test_an_endpoint_becomes_the_default_beside_it() -> None:
    catalog = open_embedders(EmbeddingSettings(endpoint=ENDPOINT))
    assert catalog.default.model == "other-model"
    assert [(card.model, card.default) for card in catalog.models()] == [("other-model", True), (EMBEDDED, False)]
    assert catalog.get(EMBEDDED).model == EMBEDDED


def test_the_embedded_model_can_stay_the_default() -> None:
    catalog = open_embedders(EmbeddingSettings(endpoint=ENDPOINT, default_model=EMBEDDED))
    assert catalog.default.model == EMBEDDED


def test_other_models_are_refused_by_field() -> None:
    catalog = open_embedders(EmbeddingSettings())
    for model in ("gpt", "../../etc/passwd", "", "sentence-transformers/all-MiniLM-L6-v2"):
        with pytest.raises(InvalidInput) as caught:
            catalog.get(model)
        assert caught.value.field == "embedding_model"


def test_a_cache_before_the_models_counts(model_directory: Path) -> None:
    class Nothing:
        def get_many(self, keys: object) -> dict[str, bytes]:
            return {}

        def set_many(self, items: object, ttl_seconds: float) -> None:
            return None

    catalog = open_embedders(EmbeddingSettings(model_directory), cache=Nothing())
    catalog.default.embed(["x", "y", "x"])
    assert (catalog.cache_totals().hits, catalog.cache_totals().misses) == (0, 2)
    catalog.close()


def test_an_endpoint_takes_the_place_of_the_embedded_model_of_its_name() -> None:
    with openai_server(dimension=6) as server:
        catalog = open_embedders(EmbeddingSettings(endpoint=EndpointSettings(server.url, EMBEDDED)))
        assert catalog.default.embed(["x"]).shape == (1, 6)
        assert np.isclose(np.linalg.norm(catalog.get(EMBEDDED).embed(["y"])), 1)
    assert len(catalog.models()) == 1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (EmbeddingSettings(default_model="unknown"), "EMBEDDING_MODEL"),
        (EmbeddingSettings(threads=0), "threads"),
        (EmbeddingSettings(endpoint=EndpointSettings("ftp://host", "m")), "EMBEDDING_BASE_URL"),
        (EmbeddingSettings(endpoint=EndpointSettings("http://user:pw@host", "m")), "EMBEDDING_BASE_URL"),
        (EmbeddingSettings(endpoint=EndpointSettings("http://host:port", "m")), "EMBEDDING_BASE_URL"),
        (EmbeddingSettings(endpoint=EndpointSettings("http://host/v1", " ")), "EMBEDDING_MODEL"),
        (EmbeddingSettings(endpoint=EndpointSettings("http://host/v1", "m", dimension=0)), "EMBEDDING_DIMENSION"),
        (EmbeddingSettings(endpoint=EndpointSettings("http://host/v1", "m", attempts=0)), "attempts"),
    ],
)
def test_wrong_settings_are_refused_by_variable(settings: EmbeddingSettings, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_embedders(settings)
    assert [problem in line for line in caught.value.problems] == [True]


def test_opening_the_embedded_model_imports_no_client() -> None:
    program = (
        "import sys; from agenthub.rag.embedding.configuration import EmbeddingSettings;"
        "from agenthub.rag.embedding.open import open_embedders;"
        "assert not {'openai', 'onnxruntime', 'onnx'} & set(sys.modules);"
        "open_embedders(EmbeddingSettings()); assert not {'openai', 'onnx'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


def test_an_endpoint_may_have_further_models_each_of_its_own_dimension() -> None:
    with openai_server(dimension=5) as server:
        settings = EmbeddingSettings(endpoint=EndpointSettings(server.url, "small", dimension=5), more_models=("large", "small"))
        assert settings.problems() == []
        catalog = open_embedders(settings)
        assert [(card.model, card.default) for card in catalog.models()] == [("small", True), (EMBEDDED, False), ("large", False)]
        server.dimension = 7
        assert catalog.get("large").embed(["a text"]).shape == (1, 7)
        assert server.requests[-1]["model"] == "large"
        assert catalog.get("large").signature.text != catalog.get("small").signature.text
