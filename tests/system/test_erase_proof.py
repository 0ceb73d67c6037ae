"""Erase, then grep every byte of the database file, the volume and the logs (RELIABILITY.md T30)."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from agenthub.cache.contract import Cache
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.knowledge.commits import KnowledgeCommits
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import INTENTS
from agenthub.repositories.knowledge.upkeep import Upkeep
from agenthub.storage.contract import Compare, DeleteWhere
from tests.api import Api, make_app
from tests.servers.memcached import Daemon
from tests.servers.postgresql import find_binaries, libpq_url

CANARY = "quokkafandango"
TITLE = "zanzibarquince"
BACKGROUND = "off"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(
        make_app(tmp_path, f"sqlite:///{tmp_path}/agenthub.sqlite3", AGENTHUB_SERVICES="knowledge.*,platform.authentication")
    ).login()


SEARCH = """
import pathlib, sys
needles = [bytes.fromhex(text) for text in sys.argv[2:]]
for path in pathlib.Path(sys.argv[1]).rglob("*"):
    if path.is_file() and any(needle in path.read_bytes() for needle in needles):
        print(path.name)
"""


def occurrences(folder: Path, *needles: bytes) -> list[str]:
    """The files that have any of these bytes.

    Read by another process: closing a SQLite file here would give up the locks that this process's connections hold on it.
    """
    command = [sys.executable, "-c", SEARCH, str(folder), *(needle.hex() for needle in needles)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()


def wait_until_done(api: Api, base: str, erasure_id: str) -> Any:
    for _ in range(600):
        receipt = api.get(f"{base}/erasures/{erasure_id}")
        if receipt["state"] == "done":
            return receipt
        time.sleep(0.05)
    raise AssertionError(f"not done: {receipt}")


def vector_of(api: Api, text: str) -> bytes:
    resources = api.app.extensions["agenthub"]
    vector: bytes = resources.embedders.default.embed([text])[0].astype("<f4").tobytes()
    return vector


def test_nothing_is_left_of_an_erased_document(api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'erase'}, 201)['id']}"
    for number in range(9):
        api.post(f"{base}/documents", {"title": f"t{number}", "text": f"Harmless text number {number}."}, 201)
    secret = {"title": TITLE, "text": f"The {CANARY} lives here.", "metadata": {"name": TITLE}}
    document = api.post(f"{base}/documents", secret, 201, headers={"Idempotency-Key": "first"})
    path = f"{base}/documents/{document['id']}"
    api.call("PUT", path, 200, json={**secret, "text": f"Another {CANARY} text."})
    hit = api.post(f"{base}/search", {"query": CANARY, "mode": "keyword"})["hits"][0]
    assert CANARY in hit["text"]
    vector = vector_of(api, f"Another {CANARY} text.")
    needles = (CANARY.encode(), TITLE.encode(), vector)
    assert occurrences(tmp_path, *needles)

    erasure = api.post(f"{path}/erase", None, 202)
    assert api.post(f"{base}/search", {"query": CANARY, "mode": "keyword"})["hits"] == []
    api.refused("GET", path, 404, "not_found")
    receipt = wait_until_done(api, base, erasure["id"])

    assert occurrences(tmp_path, *needles) == []
    assert CANARY not in caplog.text
    assert TITLE not in caplog.text
    assert {place["found"] for place in receipt["report"]["places"]} == {0}
    assert any("backups" in text for text in receipt["report"]["remains"])
    assert [one["id"] for one in api.get(f"{base}/erasures")["items"]] == [erasure["id"]]
    assert api.get(base)["document_count"] == 9
    resources = api.app.extensions["agenthub"]
    cache: Cache = resources.cache
    assert cache is not None
    repeated = api.send("POST", f"{base}/documents", json=secret, headers={"Idempotency-Key": "first"})
    assert repeated.status_code == 404  # a late repeat doesn't bring it back
    assert occurrences(tmp_path, *needles) == []


def test_in_postgresql_and_redis_what_is_left_is_named_and_out_of_use(
    tmp_path: Path, migrated_postgresql: str, cache_servers: dict[str, Daemon]
) -> None:
    """Every row, every entry: only answers that nobody is given any more, for the minutes that the receipt says."""
    url = f"redis://{cache_servers['redis'].address}/0"
    settings = {"AGENTHUB_SERVICES": "knowledge.*,platform.authentication", "REDIS_URL": url}
    api = Api(make_app(tmp_path, migrated_postgresql, **settings)).login()
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'erase'}, 201)['id']}"
    document = api.post(f"{base}/documents", {"title": TITLE, "text": f"The {CANARY} lives here."}, 201)
    question = {"query": "who lives here", "mode": "hybrid"}
    for _ in range(2):
        assert CANARY in api.post(f"{base}/search", question)["hits"][0]["text"]
    assert CANARY in dumped(migrated_postgresql) or TITLE in dumped(migrated_postgresql)
    with redis.from_url(url) as server:
        vector = vector_of(api, f"The {CANARY} lives here.")
        assert holding(server, CANARY.encode()) and holding(server, vector)
        erasure = api.post(f"{base}/documents/{document['id']}/erase", None, 202)
        assert api.post(f"{base}/search", question)["hits"] == []
        receipt = wait_until_done(api, base, erasure["id"])
        rows = dumped(migrated_postgresql)
        assert CANARY not in rows and TITLE not in rows
        assert occurrences(tmp_path, CANARY.encode(), TITLE.encode()) == []
        assert holding(server, vector) == []
        assert all(0 < seconds <= 600 for seconds in holding(server, CANARY.encode()))
    assert any("cache servers" in text and "10 minutes" in text for text in receipt["report"]["remains"])
    assert api.post(f"{base}/search", question)["hits"] == []


def dumped(url: str) -> str:
    """All rows of a database."""
    command = [str(find_binaries() / "pg_dump"), "--inserts", libpq_url(url)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def holding(server: redis.Redis, needle: bytes) -> list[int]:
    """The seconds left of each entry that has these bytes."""
    held = {key: server.get(key) for key in server.scan_iter(count=1000) if server.type(key) == b"string"}
    return [int(server.ttl(key)) for key, value in held.items() if isinstance(value, bytes) and needle in value]


def test_erasing_twice_or_nothing_is_refused_and_a_repeat_answers_the_same(api: Api) -> None:
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'erase'}, 201)['id']}"
    document = api.post(f"{base}/documents", {"title": "a", "text": "b"}, 201)
    path = f"{base}/documents/{document['id']}/erase"
    first = api.post(path, None, 202, headers={"Idempotency-Key": "k"})
    assert api.post(path, None, 202, headers={"Idempotency-Key": "k"}) == first
    api.refused("POST", path, 404, "not_found")
    wait_until_done(api, base, first["id"])
    assert api.post(path, None, 202, headers={"Idempotency-Key": "k"}) == first


def test_a_process_without_maintenance_leaves_it_to_the_scheduler(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/agenthub.sqlite3"
    services = "knowledge.*,platform.authentication"
    api = Api(make_app(tmp_path, url, AGENTHUB_SERVICES=services, AGENTHUB_MAINTENANCE=BACKGROUND)).login()
    base_id = api.post("/api/knowledge-bases", {"name": "erase"}, 201)["id"]
    base = f"/api/knowledge-bases/{base_id}"
    document = api.post(f"{base}/documents", {"title": "a", "text": CANARY}, 201)
    erasure = api.post(f"{base}/documents/{document['id']}/erase", None, 202)
    assert erasure["state"] == "hidden"
    assert occurrences(tmp_path, CANARY.encode())
    maintained = maintain(tmp_path, url, base_id)
    assert "1 erasures done" in maintained
    assert api.get(f"{base}/erasures/{erasure['id']}")["state"] == "done"
    assert occurrences(tmp_path, CANARY.encode()) == []


KILLED = """
import pathlib, sys
from agenthub.core import failpoints
from agenthub.core.types import EVERY_TENANT
from agenthub.rag.segment import Chunk
from agenthub.repositories.knowledge.commits import KnowledgeCommits
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from tests.api import make_app
folder, url, base_id, text = sys.argv[1:]
app = make_app(pathlib.Path(folder), url, AGENTHUB_SERVICES="knowledge.*,platform.authentication", AGENTHUB_MAINTENANCE="off")
resources = app.extensions["agenthub"]
base = KnowledgeBaseRepository(resources.storage).get(EVERY_TENANT, base_id)
failpoints.arm("volume.written=kill@1")
with KnowledgeCommits(resources.storage, resources.knowledge).staging(base) as staging:
    staging.write_segment([Chunk("c", "d", text, {})], resources.embedders.default.embed([text]))
"""


def test_what_a_killed_writer_left_is_waited_for_and_gone_when_it_is_done(tmp_path: Path) -> None:
    """It died when its vectors were written and its chunks not yet: nothing says whose they are. Another writer lives on."""
    url, services = f"sqlite:///{tmp_path}/agenthub.sqlite3", "knowledge.*,platform.authentication"
    api = Api(make_app(tmp_path, url, AGENTHUB_SERVICES=services, AGENTHUB_MAINTENANCE=BACKGROUND)).login()
    base_id = api.post("/api/knowledge-bases", {"name": "erase"}, 201)["id"]
    base, text = f"/api/knowledge-bases/{base_id}", f"The {CANARY} lives here."
    document = api.post(f"{base}/documents", {"title": "a", "text": text}, 201)
    command = [sys.executable, "-c", KILLED, str(tmp_path), url, base_id, text]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    needles = (CANARY.encode(), vector_of(api, text))
    assert occurrences(tmp_path / "knowledge", *needles).count("vectors.f32") == 2

    erasure = api.post(f"{base}/documents/{document['id']}/erase", None, 202)
    resources = api.app.extensions["agenthub"]
    assert state_after(api, base, base_id, erasure) == ("hidden", 1)
    own = Compare("knowledge_base_id", "eq", base_id)
    resources.storage.commit([DeleteWhere(INTENTS, EVERY_TENANT, own)])  # as an hour later
    living = KnowledgeCommits(resources.storage, resources.knowledge)
    row = KnowledgeBaseRepository(resources.storage).get(EVERY_TENANT, base_id)
    with living.staging(row):
        assert state_after(api, base, base_id, erasure) == ("hidden", 1)
        assert "vectors.f32" in occurrences(tmp_path / "knowledge", *needles)
    resources.storage.commit([DeleteWhere(INTENTS, EVERY_TENANT, own)])
    with living.staging(row):
        assert state_after(api, base, base_id, erasure) == ("done", 0)
        assert occurrences(tmp_path, *needles) == []


def state_after(api: Api, base: str, base_id: str, erasure: Any) -> tuple[str, int]:
    """The state of a receipt after upkeep went over the knowledge base, and how many things it says that it waits for."""
    resources = api.app.extensions["agenthub"]
    upkeep = Upkeep(resources.storage, resources.knowledge, resources.forget_texts)
    upkeep.erase(KnowledgeBaseRepository(resources.storage).get(EVERY_TENANT, base_id))
    receipt = api.get(f"{base}/erasures/{erasure['id']}")
    return receipt["state"], len(receipt["report"]["waits_for"])


def maintain(folder: Path, url: str, base_id: str) -> str:
    """Run the operator's command in a process of its own, and return what it said."""

    environment = os.environ | {"DATABASE_URL": url, "VECTOR_STORE_BASE_PATH": str(folder / "knowledge")}
    command = [sys.executable, "-m", "agenthub.cli", "kb", "maintain", base_id]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
