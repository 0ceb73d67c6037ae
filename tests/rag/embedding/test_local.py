"""The embedded model: right vectors, a function of the text, from any number of threads and processes."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from agenthub.core.errors import InvalidInput, ProviderFailure
from agenthub.rag.embedding.encoders import OnnxEncoder
from agenthub.rag.embedding.graph import build_graph
from agenthub.rag.embedding.local import LocalEmbedder
from agenthub.rag.embedding.weights import find_weights


@pytest.fixture(scope="module")
def numpy_embedder(tmp_path_factory: pytest.TempPathFactory) -> LocalEmbedder:
    return LocalEmbedder(tmp_path_factory.mktemp("empty"))


def test_vectors_are_float32_of_length_one(embedded: LocalEmbedder, texts: Sequence[str]) -> None:
    vectors = embedded.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_meaning_is_near(embedded: LocalEmbedder) -> None:
    question, answer, other = embedded.embed(
        ["How do I reset my password?", "Changing a forgotten password", "The wing stalls at low speed"]
    )
    assert question @ answer > 0.5
    assert question @ other < 0.2


def test_a_vector_does_not_depend_on_its_neighbours(embedded: LocalEmbedder, texts: Sequence[str]) -> None:
    together = embedded.embed(texts)
    for text, vector in zip(texts, together, strict=True):
        assert embedded.embed([text])[0].tobytes() == vector.tobytes()


def test_threads_agree(embedded: LocalEmbedder, texts: Sequence[str]) -> None:
    expected = embedded.embed(texts).tobytes()
    with ThreadPoolExecutor(4) as pool:
        assert {vectors.tobytes() for vectors in pool.map(embedded.embed, [texts] * 8)} == {expected}


def test_numpy_agrees_with_full_precision_and_with_int8(
    embedded: LocalEmbedder, numpy_embedder: LocalEmbedder, texts: Sequence[str], tmp_path: Path
) -> None:
    weights = find_weights()
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(build_graph(load_file(weights.safetensors), quantized=False).SerializeToString())
    encoder = OnnxEncoder(plain)
    tokenizer = Tokenizer.from_file(str(weights.tokenizer))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    full = np.stack([encoder.encode(tokenizer.encode(text).ids) for text in texts])
    by_numpy = numpy_embedder.embed(texts)
    assert ((full * by_numpy).sum(axis=1) > 0.999).all()
    assert ((full * embedded.embed(texts)).sum(axis=1) > 0.97).all()


def test_signatures_name_the_encoder(embedded: LocalEmbedder, numpy_embedder: LocalEmbedder) -> None:
    int8, plain = embedded.signature, numpy_embedder.signature
    assert (int8.precision, plain.precision) == ("int8", "float32")
    assert int8.model == plain.model == "all-MiniLM-L6-v2"
    assert int8.text != plain.text
    assert int8.digest != plain.digest
    assert "dimension=384;max_tokens=256;metric=cosine;normalized=true" in int8.text


def test_text_after_the_last_token_is_not_looked_at(embedded: LocalEmbedder) -> None:
    long = "wing " * 300
    one, other = embedded.embed([long + "apple", long + "pear"])
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u2003"])
def test_a_blank_text_is_refused_by_name(embedded: LocalEmbedder, blank: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        embedded.embed(["good", blank])
    assert caught.value.field == "texts[1]"


@pytest.mark.parametrize("text", ["\x00", "\ud800 lone", "😀" * 2000, "a" * 100_000, "\u202eright to left", "\u200b"])
def test_odd_texts_have_vectors(embedded: LocalEmbedder, text: str) -> None:
    assert abs(float(np.linalg.norm(embedded.embed([text])[0])) - 1) < 1e-5


def test_a_text_over_the_limit_is_refused(embedded: LocalEmbedder) -> None:
    with pytest.raises(InvalidInput, match="over 1000000"):
        embedded.embed(["a" * 1_000_001])


def test_no_texts_are_no_vectors(embedded: LocalEmbedder) -> None:
    assert embedded.embed([]).shape == (0, 384)


def test_nothing_is_loaded_until_the_first_text(tmp_path: Path) -> None:
    embedder = LocalEmbedder(tmp_path / "absent", weights_folder=tmp_path)
    with pytest.raises(ProviderFailure):
        embedder.embed(["x"])


def test_a_damaged_model_is_not_used(model_directory: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(model_directory, directory)
    data = bytearray((directory / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (directory / "model.onnx").write_bytes(data)
    with pytest.raises(ProviderFailure, match="damaged"):
        LocalEmbedder(directory).embed(["x"])


def test_it_works_again_after_closing(embedded: LocalEmbedder, model_directory: Path) -> None:
    embedder = LocalEmbedder(model_directory, threads=1)
    before = embedder.embed(["one", "two"])
    embedder.close()
    embedder.close()
    assert embedder.embed(["one", "two"]).tobytes() == before.tobytes()
    embedder.close()


def _embed_in_child(embedder: LocalEmbedder, answer: Connection) -> None:
    answer.send(embedder.embed(["one", "two", "three"]).tobytes())


def test_a_forked_child_loads_its_own(model_directory: Path) -> None:
    embedder = LocalEmbedder(model_directory)
    expected = embedder.embed(["one", "two", "three"]).tobytes()
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=_embed_in_child, args=(embedder, sender))
    child.start()
    try:
        assert receiver.poll(60)
        assert receiver.recv() == expected
    finally:
        child.kill()
        child.join()
        embedder.close()
