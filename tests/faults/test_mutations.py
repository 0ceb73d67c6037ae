"""T8: files that were flipped, cut, swapped or replaced are detected; nothing foreign or empty is answered, nothing crashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api import Api, make_app
from tests.faults.figures import run_harness

SEED = 20261123


def test_300_mutated_files_are_all_detected(tmp_path: Path) -> None:
    figures = run_harness("tests.faults.mutations", 300, SEED, tmp_path)
    assert figures["injections"] == figures["detected"] == 300


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_2000_mutated_files_are_all_detected(tmp_path: Path) -> None:
    figures = run_harness("tests.faults.mutations", 2000, SEED + 1, tmp_path, timeout_seconds=1700)
    assert figures["injections"] == figures["detected"] == 2000


def test_a_damaged_file_of_each_kind_is_refused_clearly_or_made_up_for_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthub.repositories.knowledge.snapshots._NEGATIVE_CACHE_SECONDS", 0.0)
    api = Api(make_app(tmp_path)).login()
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'damaged'}, 201)['id']}"
    document = api.post(f"{base}/documents", {"title": "owls", "text": "Owls hunt at night."}, 201)
    question = {"query": "night birds", "mode": "hybrid"}
    right = api.post(f"{base}/search", question)["hits"]
    paths = [path for path in (tmp_path / "knowledge" / base.rsplit("/", 1)[1]).rglob("*") if path.is_file()]
    statuses = {}
    for number, path in enumerate(paths):  # each asks anew: an answer of the same generation may be kept
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2])
        api.app.extensions["agenthub"].knowledge.close()
        response = api.send("POST", f"{base}/search", json=question | {"top_k": 11 + number})
        statuses[path.parent.name if path.parent.name == "originals" else path.name] = response.status_code
        if response.status_code == 200:
            assert response.get_json()["hits"] == right
        else:
            assert response.status_code == 503 and response.get_json()["error"]["code"] == "volume_unavailable"
        path.write_bytes(good)
    assert {statuses["chunks.jsonl"], statuses["segment.json"]} == {503}
    assert {statuses[name] for name in ("index.faiss", "keywords.safetensors", "filters.safetensors", "originals")} == {200}
    original = next(path for path in paths if path.parent.name == "originals")
    original.write_bytes(b"foreign")
    api.refused("GET", f"{base}/documents/{document['id']}/original", 503, "volume_unavailable")
