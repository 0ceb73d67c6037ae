"""Records: JSON lines by the hundred thousand, bad ones named, good ones in."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.ids import new_id
from tests.api import Api, make_app


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder: Path = tmp_path_factory.mktemp("records")
    return Api(make_app(folder, f"sqlite:///{folder}/agenthub.sqlite3", AGENTHUB_SERVICES="knowledge.*,platform.authentication")).login()


def base_of(api: Api, **more: Any) -> str:
    return f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': f'records {new_id()}', **more}, 201)['id']}"


def put(api: Api, base: str, data: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The job in the end, and its items."""
    job = api.call("POST", f"{base}/records", 202, data=data, content_type="application/jsonl")["job"]
    limit = time.monotonic() + 120
    while (seen := api.get(f"/api/jobs/{job['id']}"))["finished_at"] is None:
        assert time.monotonic() < limit, seen
        time.sleep(0.05)
    return seen, list(api.get(f"/api/jobs/{job['id']}/items?limit=200")["items"])


def lines(*records: Any) -> bytes:
    return "\n".join(json.dumps(record) if isinstance(record, dict) else record for record in records).encode()


def told(items: list[dict[str, Any]]) -> dict[str, int]:
    names = ("read", "added", "replaced", "unchanged", "bad")
    return {name: sum(item["lines"][name] for item in items) for name in names}


def test_good_lines_go_in_and_bad_ones_are_named(api: Api) -> None:
    base = base_of(api)
    data = lines(
        {"id": "otters", "title": "Otters", "text": "Otters hold hands.", "metadata": {"kind": "fact"}},
        "",
        "{no json",
        {"text": "  "},
        {"text": "Walruses have tusks.", "colour": "grey"},
        "[1, 2]",
        {"text": "Bears sleep in winter.", "vector": [0.1]},
        {"text": "Seals eat fish."},
    )
    job, items = put(api, base, data)
    assert (job["status"], told(items)) == ("succeeded", {"read": 7, "added": 2, "replaced": 0, "unchanged": 0, "bad": 5})
    problems = items[0]["lines"]["problems"]
    assert [problem["line"] for problem in problems] == [3, 4, 5, 6, 7]
    assert problems[2]["message"] == "colour: is not a field of a record"
    hit = api.post(f"{base}/search", {"query": "which animals hold hands"})["hits"][0]
    assert (hit["chunk_id"], hit["metadata"]["title"], hit["metadata"]["kind"]) == ("otters", "Otters", "fact")
    assert api.get(base)["chunk_count"] == 2


def test_records_that_come_again_are_replaced_or_left_as_they_are(api: Api) -> None:
    base = base_of(api)
    put(api, base, lines({"id": "a", "text": "first text"}, {"text": "no id"}))
    again = lines({"id": "a", "text": "second text"}, {"text": "no id"}, {"id": "b", "text": "x"}, {"id": "b", "text": "the last counts"})
    assert told(put(api, base, again)[1]) == {"read": 3, "added": 2, "replaced": 1, "unchanged": 1, "bad": 0}
    generation = api.get(base)["generation"]
    assert told(put(api, base, again)[1])["unchanged"] == 3
    assert (api.get(base)["chunk_count"], api.get(base)["generation"]) == (3, generation)
    assert api.get(f"{base}/chunks/b")["text"] == "the last counts"


def test_vectors_of_the_client_by_the_thousand_also_gzipped(api: Api) -> None:
    base = base_of(api, embedding_model=None, dimension=4)
    records = [{"id": str(number), "text": f"text {number}", "vector": [1.0, number, 0.5, 0.25]} for number in range(2_500)]
    records[7]["vector"] = base64.b64encode(struct.pack("<4f", 1, 7, 0.5, 0.25)).decode()
    records[8]["vector"] = [1.0]
    del records[9]["vector"]
    job, items = put(api, base, gzip.compress(lines(*records)))
    assert (job["status"], len(items), told(items)["added"], told(items)["bad"]) == ("succeeded", 3, 2_498, 2)
    assert [item["name"] for item in items] == ["lines 1 to 1000", "lines 1001 to 2000", "lines 2001 to 2500"]
    assert api.get(base)["chunk_count"] == 2_498


def test_what_is_no_file_of_records_is_refused(api: Api) -> None:
    base = base_of(api)
    for data, code in (
        (b"", "invalid_input"),
        (b'{"text": "' + b"x" * 1_000_001 + b'"}', "invalid_input"),
        (gzip.compress(b'{"text": "x"}')[:-9], "unsupported_document"),
        (b"\x1f\x8bnonsense", "unsupported_document"),
    ):
        api.refused("POST", f"{base}/records", 422, code, data=data, content_type="application/jsonl")
    job, items = put(api, base, b"no json\nat all\n")
    assert (job["status"], items[0]["error"]["code"]) == ("failed", "unsupported_document")
    assert "line 1" in items[0]["error"]["message"]
    assert api.get(base)["chunk_count"] == 0
