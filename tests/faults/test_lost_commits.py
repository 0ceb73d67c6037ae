"""T11: the answer to COMMIT is lost over and over; every write over HTTP is applied exactly once, whatever the client repeats."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.api import Api, make_app
from tests.faults.figures import Figures
from tests.servers.proxy import Proxy

SEED = 11


def is_commit(data: bytes) -> bool:
    return data.startswith(b"Q") and data[5:].rstrip(b"\x00") == b"COMMIT"


@pytest.fixture
def proxy(migrated_postgresql: str) -> Iterator[Proxy]:
    """A proxy in front of the database's server."""
    parts = urlsplit(migrated_postgresql)
    host = unquote(parts.netloc.rpartition("@")[2])
    upstream: Path | tuple[str, int] = Path(host) / ".s.PGSQL.5432"
    if not host.startswith("/"):
        upstream = (parts.hostname or "localhost", parts.port or 5432)
    proxy = Proxy(upstream)
    yield proxy
    proxy.close()


def lose(proxy: Proxy, api: Api, base: str, times: int, figures: Figures) -> set[str]:
    """Write until so many answers were lost, each write repeated with its key until it succeeds; the chunks there must be."""
    chooser, expected, number = random.Random(SEED), set[str](), 0
    while figures.injections < times:
        number += 1
        gone = chooser.choice(sorted(expected)) if expected and chooser.random() < 0.3 else None
        body: dict[str, Any] = {"ids": [gone]} if gone else {"items": [{"id": f"c{number}", "text": "x", "vector": [1, number, 2, 3]}]}
        path = f"{base}/chunks/delete" if gone else f"{base}/chunks"
        proxy.mode, proxy.matching, proxy.budget, proxy.spoiled = "lose_reply", is_commit, chooser.randint(1, 4), 0
        for _ in range(10):
            response = api.send("POST", path, json=body, headers={"Idempotency-Key": f"write {number} of {times}"})
            figures.counts[str(response.status_code)] += 1
            if response.status_code != 503:
                break
        proxy.mode = "pass"
        figures.injections += proxy.spoiled
        figures.operations += 1
        figures.expect(response.status_code < 300, f"write {number}: {response.get_data(as_text=True)[:200]}")
        replayed = api.send("POST", path, json=body, headers={"Idempotency-Key": f"write {number} of {times}"})
        figures.expect(replayed.get_data() == response.get_data(), f"write {number}: its repeat is answered otherwise")
        expected = expected - {gone} if gone else expected | {f"c{number}"}
    return expected


def run(migrated_postgresql: str, proxy: Proxy, folder: Path, times: int) -> None:
    parts = urlsplit(migrated_postgresql)
    url = f"postgresql://{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable"
    api = Api(make_app(folder, url)).login()
    created = api.post("/api/knowledge-bases", {"name": f"lost {times}", "embedding_model": None, "dimension": 4}, 201)
    base = f"/api/knowledge-bases/{created['id']}"
    figures = Figures("T11 lost acknowledgements", SEED)
    expected = lose(proxy, api, base, times, figures)
    counted = api.get(base)["chunk_count"]
    figures.expect(counted == len(expected), f"the row counts {counted} chunks, {len(expected)} were acknowledged")
    missing = [key for key in sorted(expected) if api.send("GET", f"{base}/chunks/{key}").status_code != 200]
    figures.expect(missing == [], f"lost: {missing}")
    report = api.post(f"{base}/verify", {})
    figures.expect(report["intact"], f"{report['problems']}")
    sys.stdout.write(figures.line() + "\n")
    assert figures.violations == []
    api.app.extensions["agenthub"].close()


def test_20_lost_acknowledgements(migrated_postgresql: str, proxy: Proxy, tmp_path: Path) -> None:
    run(migrated_postgresql, proxy, tmp_path, 20)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_500_lost_acknowledgements(migrated_postgresql: str, proxy: Proxy, tmp_path: Path) -> None:
    run(migrated_postgresql, proxy, tmp_path, 500)
